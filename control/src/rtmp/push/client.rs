//! One connection of a push: `connect`, `createStream`, `publish`, then tags until something ends it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::amf0::{self, Value};
use super::super::chunk::{Message, kind};
use super::super::flv;
use super::super::link::{Link, LinkError};
use super::super::play::{Hubs, Reader, ReaderClock, ReaderEnded, Tag, TagKind, Wants};
use super::super::session::{FOUR_LETTERS, content};
use super::{Push, PushState};
use crate::broadcast::{Broadcast, BroadcastError};

/// Until the other server has let us publish.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Tags written in one go.
const TAGS_AT_ONCE: usize = 256;

const NO_SOUND: &str = "the other server does not say that it takes Opus, and this server was built \
    without an AAC encoder (cargo build --release --features fdk-aac): the stream is pushed without sound";

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushEnded {
    /// The stream is over: no failure.
    #[error("the publisher left")]
    Over,
    #[error("the other server did not let us publish within {} s", CONNECT_LIMIT.as_secs())]
    TimedOut,
    #[error("the other server is too slow")]
    Slow,
    #[error("the other server closed the connection")]
    Closed,
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    #[error(
        "no TLS with the other server: {0} (certificates that the system does not trust are named by \
         push.create's ca_file)"
    )]
    Tls(std::io::Error),
    #[error(transparent)]
    Protocol(#[from] LinkError),
    #[error("the other server refused: {0}")]
    Refused(String),
    #[error(
        "the stream's video is {0}, which the other server does not say it takes; publish H.264"
    )]
    Video(&'static str),
    #[error(transparent)]
    Stream(#[from] BroadcastError),
}

/// Connects and pushes until something ends it.
pub(super) async fn push(
    push: &Push,
    broadcast: &Broadcast,
    hubs: &Hubs,
    write_timeout: Duration,
) -> PushEnded {
    let target = &push.target;
    let connected = async {
        let socket = TcpStream::connect((&target.host[..], target.port)).await?;
        socket.set_nodelay(true)?;
        Ok::<_, PushEnded>(socket)
    };
    let socket = match timeout(CONNECT_LIMIT, connected).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(ended)) => return ended,
        Err(_) => return PushEnded::TimedOut,
    };
    if !target.tls {
        return Client::new(socket, push, write_timeout)
            .run(broadcast, hubs)
            .await;
    }
    let (connector, name) = match target.connector() {
        Ok(tls) => tls,
        Err(error) => return PushEnded::Tls(error),
    };
    match timeout(CONNECT_LIMIT, connector.connect(name, socket)).await {
        Ok(Ok(socket)) => {
            let client = Client::new(socket, push, write_timeout);
            Box::pin(client.run(broadcast, hubs)).await
        }
        Ok(Err(error)) => PushEnded::Tls(error),
        Err(_) => PushEnded::TimedOut,
    }
}

struct Client<'a, S> {
    socket: S,
    link: Link,
    push: &'a Push,
    write_timeout: Duration,
    /// Codecs beyond Adobe's that the server takes.
    takes: Vec<String>,
    stream_id: u32,
    clock: ReaderClock,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Client<'a, S> {
    fn new(socket: S, push: &'a Push, write_timeout: Duration) -> Self {
        Self {
            socket,
            link: Link::client(),
            push,
            write_timeout,
            takes: Vec::new(),
            stream_id: 0,
            clock: ReaderClock::default(),
        }
    }

    async fn run(mut self, broadcast: &Broadcast, hubs: &Hubs) -> PushEnded {
        match timeout(CONNECT_LIMIT, self.begin()).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => return ended,
            Err(_) => return PushEnded::TimedOut,
        }
        self.push.connected();
        let wants = Wants {
            opus: self.takes("Opus"),
            keyframes: true,
        };
        let ended = match hubs.read(broadcast, &self.push.stream, wants) {
            Ok(reader) => self.send_all(reader).await.err(),
            Err(BroadcastError::NotLive(_)) => Some(PushEnded::Over),
            Err(error) => Some(error.into()),
        };
        self.push.set(PushState::Connecting);
        let end = [
            Value::text("deleteStream"),
            Value::Number(5.0),
            Value::Null,
            Value::Number(f64::from(self.stream_id)),
        ];
        self.link.command(0, &end);
        // One that takes nothing is told nothing.
        if !matches!(ended, Some(PushEnded::Slow)) {
            let limit = self.write_timeout;
            let _ = timeout(limit, self.flush()).await;
            let _ = timeout(limit, self.socket.shutdown()).await;
        }
        ended.unwrap_or(PushEnded::Over)
    }

    /// Up to the server's word that we publish.
    async fn begin(&mut self) -> Result<(), PushEnded> {
        let target = self.push.target.clone();
        while !self.link.is_open() {
            self.turn().await?;
        }
        let about = Value::object([
            ("app", Value::text(target.app.clone())),
            ("type", Value::text("nonprivate")),
            ("flashVer", Value::text("FMLE/3.0 (compatible; Fanmill)")),
            ("tcUrl", Value::text(target.tc_url())),
            (
                "fourCcList",
                Value::Array(FOUR_LETTERS.map(Value::text).into()),
            ),
        ]);
        let connect = [Value::text("connect"), Value::Number(1.0), about];
        self.link.command(0, &connect);
        let answer = self.answer(1.0).await?;
        if let Some(Value::Array(codecs)) = answer.get(2).and_then(|one| one.get("fourCcList")) {
            let codecs = codecs.iter().filter_map(Value::as_str);
            self.takes = codecs.map(str::to_owned).collect();
        }
        let key = || Value::text(target.key.clone());
        for (id, command) in [(2.0, "releaseStream"), (3.0, "FCPublish")] {
            let values = [Value::text(command), Value::Number(id), Value::Null, key()];
            self.link.command(0, &values);
        }
        let create = [Value::text("createStream"), Value::Number(4.0), Value::Null];
        self.link.command(0, &create);
        let answer = self.answer(4.0).await?;
        let id = answer.get(3).and_then(Value::as_number).unwrap_or(1.0);
        self.stream_id = id as u32;
        let publish = [
            Value::text("publish"),
            Value::Number(5.0),
            Value::Null,
            key(),
            Value::text("live"),
        ];
        self.link.command(self.stream_id, &publish);
        loop {
            for values in self.turn().await? {
                if status(&values)? == Some("NetStream.Publish.Start") {
                    return Ok(());
                }
            }
        }
    }

    /// The answer to a command.
    async fn answer(&mut self, id: f64) -> Result<Vec<Value>, PushEnded> {
        loop {
            for values in self.turn().await? {
                status(&values)?;
                if values.get(1).and_then(Value::as_number) != Some(id) {
                    continue;
                }
                match values.first().and_then(Value::as_str) {
                    Some("_result") => return Ok(values),
                    Some("_error") => {
                        return Err(PushEnded::Refused(description(values.get(3))));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Writes what is to be written, reads, and gives the commands that came.
    async fn turn(&mut self) -> Result<Vec<Vec<Value>>, PushEnded> {
        self.flush().await?;
        let mut buffer = [0; 4096];
        let read = self.socket.read(&mut buffer).await?;
        self.received(&buffer[..read])
    }

    fn received(&mut self, bytes: &[u8]) -> Result<Vec<Vec<Value>>, PushEnded> {
        if bytes.is_empty() {
            return Err(PushEnded::Closed);
        }
        self.link.receive(bytes);
        let mut commands = Vec::new();
        while let Some(message) = self.link.next_message()? {
            if matches!(message.kind, kind::COMMAND | kind::COMMAND_AMF3)
                && let Ok(bytes) = content(&message)
                && let Ok(values) = amf0::decode(&bytes)
            {
                commands.push(values);
            }
        }
        Ok(commands)
    }

    async fn flush(&mut self) -> Result<(), PushEnded> {
        let output = self.link.take_output();
        if output.is_empty() {
            return Ok(());
        }
        self.push.sent.fetch_add(output.len() as u64, Relaxed);
        let written = async {
            self.socket.write_all(&output).await?;
            self.socket.flush().await
        };
        let written = timeout(self.write_timeout, written).await;
        Ok(written.map_err(|_| PushEnded::Slow)??)
    }

    async fn send_all(&mut self, mut reader: Reader) -> Result<(), PushEnded> {
        let about = Value::object([("encoder", Value::text("fanmill"))]);
        let metadata = [
            Value::text("@setDataFrame"),
            Value::text("onMetaData"),
            about,
        ];
        self.link.data(self.stream_id, &metadata);
        let mut buffer = [0; 4096];
        loop {
            let tag = tokio::select! {
                tag = reader.next() => tag,
                read = self.socket.read(&mut buffer) => {
                    let read = read?;
                    for values in self.received(&buffer[..read])? {
                        status(&values)?;
                    }
                    self.flush().await?;
                    continue;
                }
            };
            match tag {
                Ok(tag) => self.send(&tag)?,
                Err(ReaderEnded::Slow) => return Err(PushEnded::Slow),
                Err(ReaderEnded::Over) => return Err(PushEnded::Over),
            }
            for _ in 0..TAGS_AT_ONCE {
                let Some(tag) = reader.ready() else {
                    break;
                };
                self.send(&tag)?;
            }
            self.flush().await?;
        }
    }

    /// Whether the server says that it takes a codec, by its four letters.
    fn takes(&self, four: &str) -> bool {
        self.takes.iter().any(|one| one == four || one == "*")
    }

    fn send(&mut self, tag: &Tag) -> Result<(), PushEnded> {
        let kind = match tag.kind {
            TagKind::Opus if !self.takes("Opus") => {
                self.push.leave_out(NO_SOUND);
                return Ok(());
            }
            TagKind::Opus | TagKind::Aac => kind::AUDIO,
            TagKind::Video(codec) => match flv::four_letters_of(codec) {
                Some(four) if !self.takes(four) => return Err(PushEnded::Video(four)),
                _ => kind::VIDEO,
            },
        };
        let Some(timestamp) = self.clock.timestamp(tag) else {
            return Ok(());
        };
        let message = Message {
            kind,
            stream_id: self.stream_id,
            timestamp,
            payload: tag.payload.clone(),
        };
        self.link.media(&message);
        Ok(())
    }
}

/// The code of an `onStatus`, unless it is an error.
fn status(values: &[Value]) -> Result<Option<&str>, PushEnded> {
    if values.first().and_then(Value::as_str) != Some("onStatus") {
        return Ok(None);
    }
    let info = values.get(3);
    let field = |name| info.and_then(|info| info.get(name)).and_then(Value::as_str);
    match field("level") {
        Some("error") => Err(PushEnded::Refused(description(info))),
        _ => Ok(field("code")),
    }
}

/// What a server says of an error, short enough for a list.
fn description(info: Option<&Value>) -> String {
    let field = |name| info.and_then(|info| info.get(name)).and_then(Value::as_str);
    let text = [field("code"), field("description")];
    let text: Vec<&str> = text.into_iter().flatten().collect();
    text.join(": ").chars().take(300).collect()
}
