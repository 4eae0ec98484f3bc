//! One admin connection: lines in, concurrent requests, lines out.
//!
//! The reader (this task), the requests (one task each) and the writer (one task) meet in a
//! bounded queue of lines, so answers and notifications interleave whole. Memory is bounded by the
//! limits: a client that does not read its answers stops being read, then is disconnected.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::codec::{Decoder, FramedRead, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::methods::{Methods, Outcome};
use super::peer::PeerCredentials;
use super::rpc::{self, Message, Reason, Request, RpcError};
use super::server::Limits;

/// Who called a method, and how to reach them later.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The process at the other end.
    pub peer: PeerCredentials,
    /// Sends notifications on the connection that the call came from.
    pub notifier: Notifier,
}

/// Sends notifications to one connection, between its answers.
#[derive(Debug, Clone)]
pub struct Notifier {
    lines: mpsc::Sender<String>,
    abort: CancellationToken,
}

/// Why a notification was not queued; in every case, drop the subscription.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotifyError {
    /// The connection has ended.
    #[error("the admin connection has ended: drop its subscription")]
    Gone,
    /// The client reads too slowly, and has been disconnected for it.
    #[error("the admin client reads too slowly and was disconnected: drop its subscription")]
    TooSlow,
    /// The parameters have no JSON form.
    #[error("the notification has no JSON form: {0}")]
    NotJson(String),
}

impl Notifier {
    /// Queues a notification, without waiting. A full queue ends the connection: a client must
    /// not take what it received for all there was.
    ///
    /// # Errors
    /// [`NotifyError`].
    pub fn notify(&self, method: &str, params: &impl Serialize) -> Result<(), NotifyError> {
        let params =
            serde_json::to_value(params).map_err(|e| NotifyError::NotJson(e.to_string()))?;
        match self.lines.try_send(rpc::notification(method, params)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NotifyError::Gone),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.abort.cancel();
                Err(NotifyError::TooSlow)
            }
        }
    }

    /// Queues a notification when there is room for it: for those who may wait for the client.
    ///
    /// # Errors
    /// [`NotifyError::Gone`].
    pub(super) async fn notify_in_turn(
        &self,
        method: &str,
        params: Value,
    ) -> Result<(), NotifyError> {
        let line = rpc::notification(method, params);
        self.lines.send(line).await.map_err(|_| NotifyError::Gone)
    }

    /// Waits for the end of the connection.
    pub(super) async fn gone(&self) {
        self.lines.closed().await;
    }

    /// Whether both are of one connection.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.lines.same_channel(&other.lines)
    }
}

/// Serves a connection until its end of input, its failure, or `stop`; then answers what is still
/// running.
pub(super) async fn serve(
    stream: UnixStream,
    peer: PeerCredentials,
    methods: Arc<Methods>,
    limits: Limits,
    stop: CancellationToken,
) {
    let (input, output) = stream.into_split();
    let (lines, queue) = mpsc::channel(limits.requests);
    let abort = CancellationToken::new();
    let finish = CancellationToken::new();
    let writer = tokio::spawn(write_lines(
        output,
        queue,
        limits.write_timeout,
        finish.clone(),
        abort.clone(),
    ));
    let session = Session {
        caller: Caller {
            peer,
            notifier: Notifier {
                lines,
                abort: abort.clone(),
            },
        },
        methods,
        request_timeout: limits.request_timeout,
    };

    let decoder = LineDecoder(LinesCodec::new_with_max_length(limits.line_bytes));
    let mut input = FramedRead::new(input, decoder);
    let slots = Arc::new(Semaphore::new(limits.requests));
    let tasks = TaskTracker::new();
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await.ok()?;
            Some((slot, input.next().await?))
        };
        let (slot, line) = tokio::select! {
            biased;
            () = abort.cancelled() => break,
            () = stop.cancelled() => break,
            next = next => match next {
                Some((slot, Ok(line))) => (slot, line),
                Some((_, Err(error))) => {
                    tracing::debug!(?peer, %error, "admin connection failed");
                    abort.cancel();
                    break;
                }
                None => break,
            },
        };
        let session = session.clone();
        tasks.spawn(async move {
            if let Some(answer) = session.answer(line).await {
                // An error means that the connection has ended: nobody is left to answer.
                let _ = session.caller.notifier.lines.send(answer).await;
            }
            drop(slot);
        });
    }
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = abort.cancelled() => {}
    }
    finish.cancel();
    if let Err(error) = writer.await {
        tracing::error!(?peer, %error, "admin writer failed");
    }
}

#[derive(Clone)]
struct Session {
    caller: Caller,
    methods: Arc<Methods>,
    request_timeout: Duration,
}

impl Session {
    /// The line that answers `line`, if anything does.
    async fn answer(&self, line: Line) -> Option<String> {
        let message = match line {
            Line::Text(text) if text.trim().is_empty() => return None,
            Line::Text(text) => rpc::parse(&text),
            Line::NotUtf8 => Message::Single(Err(RpcError::parse("not UTF-8"))),
            Line::TooLong(max) => Message::Single(Err(RpcError::new(
                Reason::LineTooLong,
                format!("the line is longer than {max} bytes: send less at once"),
            ))),
        };
        match message {
            Message::Single(request) => Some(self.respond(request).await?.to_string()),
            Message::Batch(requests) => {
                let mut answers = Vec::new();
                for request in requests {
                    answers.extend(self.respond(request).await);
                }
                // Specification, 6: only notifications are answered by nothing, not by `[]`.
                (!answers.is_empty()).then(|| Value::Array(answers).to_string())
            }
        }
    }

    async fn respond(&self, request: Result<Request, RpcError>) -> Option<Value> {
        match request {
            Err(error) => Some(rpc::error_response(error)),
            Ok(Request { id, method, params }) => {
                let outcome = self.run(method, params).await;
                id.map(|id| rpc::response(id, outcome))
            }
        }
    }

    /// Runs a method in a task of its own, so that neither a panic nor a hang of a handler
    /// reaches the connection.
    async fn run(&self, method: String, params: Value) -> Outcome {
        let (methods, caller) = (self.methods.clone(), self.caller.clone());
        let peer = caller.peer;
        tracing::debug!(?peer, %method, "admin request");
        let mut task = tokio::spawn({
            let method = method.clone();
            async move { methods.call(caller, &method, params).await }
        });
        match tokio::time::timeout(self.request_timeout, &mut task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                tracing::error!(%method, %error, "an admin method failed");
                Err(RpcError::internal("the method failed"))
            }
            Err(_) => {
                task.abort();
                tracing::warn!(%method, "an admin method took too long and was abandoned");
                let seconds = self.request_timeout.as_secs_f64();
                let message = format!("no result after {seconds} s: abandoned; try again");
                Err(RpcError::new(Reason::TimedOut, message))
            }
        }
    }
}

/// Writes queued lines until `finish` and an empty queue, or until `abort`. A write that makes no
/// end within `timeout` aborts the connection.
async fn write_lines(
    mut output: OwnedWriteHalf,
    mut queue: mpsc::Receiver<String>,
    timeout: Duration,
    finish: CancellationToken,
    abort: CancellationToken,
) {
    loop {
        let line = tokio::select! {
            biased;
            () = abort.cancelled() => return,
            line = queue.recv() => line,
            () = finish.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        };
        let Some(mut line) = line else { return };
        line.push('\n');
        let written = tokio::select! {
            biased;
            () = abort.cancelled() => return,
            written = tokio::time::timeout(timeout, output.write_all(line.as_bytes())) => written,
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "admin client went away");
                abort.cancel();
            }
            Err(_) => {
                tracing::warn!("admin client does not read its answers: disconnected");
                abort.cancel();
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Text(String),
    NotUtf8,
    /// Longer than this many bytes; the rest will be skipped.
    TooLong(usize),
}

/// Lines as items, bad ones included: an error from a decoder would make `FramedRead` wait for
/// more input before it looks at the lines it already has.
struct LineDecoder(LinesCodec);

impl LineDecoder {
    fn item(
        &self,
        decoded: Result<Option<String>, LinesCodecError>,
    ) -> Result<Option<Line>, io::Error> {
        match decoded {
            Ok(line) => Ok(line.map(Line::Text)),
            Err(LinesCodecError::MaxLineLengthExceeded) => {
                Ok(Some(Line::TooLong(self.0.max_length())))
            }
            Err(LinesCodecError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                Ok(Some(Line::NotUtf8))
            }
            Err(LinesCodecError::Io(e)) => Err(e),
        }
    }
}

impl Decoder for LineDecoder {
    type Item = Line;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Line>, io::Error> {
        let decoded = self.0.decode(buffer);
        self.item(decoded)
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Line>, io::Error> {
        let decoded = self.0.decode_eof(buffer);
        self.item(decoded)
    }
}
