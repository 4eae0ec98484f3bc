//! One connection: moves bytes between its socket and its session, and does what the client wants.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::chunk::{Message, kind};
use super::flv;
use super::play::{Reader, ReaderClock, ReaderEnded, Tag, TagKind, Wants};
use super::publish::{PublishError, Publisher};
use super::server::{Reservation, Shared};
use super::session::{Event, ServerSession, SessionError, Wish};
use super::status::{State, Status};
use crate::access::{Asked, Held, Refused, Right};
use crate::broadcast::BroadcastError;
use crate::ingest::{IngestError, IngestSpec};
use crate::media::audio::HAS_AAC_ENCODER;
use crate::model::CloseReason;

/// For connections that have no such limit.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// Tags written to a player in one go.
const TAGS_AT_ONCE: usize = 256;

/// Read at once.
const READ_BYTES: usize = 16 << 10;

/// How long a publisher that holds units back is left before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the client left")]
    Left,
    #[error("the client did nothing for {}", seconds(*.0))]
    TimedOut(Duration),
    #[error("the client takes nothing")]
    Stalled,
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    #[error("{0}")]
    Protocol(#[from] SessionError),
    #[error("refused: {0}")]
    Refused(String),
    #[error("the stream was ended: {0}")]
    Stopped(CloseReason),
    #[error("the publisher left")]
    Over,
    #[error("the connection was ended by the server")]
    Cancelled,
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs())
}

impl Ended {
    /// What it is counted as.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::TimedOut(_) => "timed_out",
            Self::Stalled => "stalled",
            Self::Socket(_) => "socket_error",
            Self::Protocol(_) => "protocol_error",
            Self::Refused(_) => "refused",
            Self::Stopped(_) => "stopped",
            Self::Over => "publisher_left",
            Self::Cancelled => "cancelled",
        }
    }
}

/// See the module.
pub(super) struct Connection<S> {
    socket: S,
    session: ServerSession,
    shared: Arc<Shared>,
    status: Arc<Status>,
    publishing: Option<Publishing>,
    playing: Option<Playing>,
    /// That the token of what it does is not revoked.
    held: Option<Held>,
}

/// What a client plays.
struct Playing {
    reader: Reader,
    wish: Wish,
    clock: ReaderClock,
    /// Whether the client said that it hears Opus.
    hears_opus: bool,
}

/// What a client publishes.
struct Publishing {
    publisher: Publisher,
    wish: Wish,
    /// Until the stream has begun.
    reservation: Option<Reservation>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    pub(super) fn new(socket: S, shared: Arc<Shared>, status: Arc<Status>) -> Self {
        Self {
            socket,
            session: ServerSession::new(),
            shared,
            status,
            publishing: None,
            playing: None,
            held: None,
        }
    }

    /// Serves the client until it or the server has had enough.
    pub(super) async fn run(mut self) -> Ended {
        let stop = self.status.stop.clone();
        let ended = tokio::select! {
            ended = self.serve() => ended,
            () = stop.cancelled() => Ended::Cancelled,
        };
        // What was said last, such as why it ends, for those who listen.
        if !matches!(ended, Ended::Stalled) {
            let limit = self.shared.limits.write_timeout;
            let _ = timeout(limit, self.flush()).await;
            let _ = timeout(limit, self.socket.shutdown()).await;
        }
        ended
    }

    async fn serve(&mut self) -> Ended {
        match self.attend().await {
            Ok(()) => Ended::Left,
            Err(ended) => {
                self.say_why(&ended);
                ended
            }
        }
    }

    /// Tells the client why it is ended, where it has asked for something.
    fn say_why(&mut self, ended: &Ended) {
        let why = ended.to_string();
        if let (Ended::Refused(_) | Ended::Stopped(_), Some(publishing)) = (ended, &self.publishing)
        {
            let code = "NetStream.Publish.Denied";
            self.session.refuse(publishing.wish.stream_id, code, &why);
        }
        let Some(playing) = &self.playing else {
            return;
        };
        let id = playing.wish.stream_id;
        match ended {
            Ended::Refused(_) => self.session.refuse(id, "NetStream.Play.Failed", &why),
            Ended::Over => {
                self.session
                    .status(id, "status", "NetStream.Play.UnpublishNotify", &why);
                self.session
                    .status(id, "status", "NetStream.Play.Stop", &why);
            }
            _ => {}
        }
    }

    async fn attend(&mut self) -> Result<(), Ended> {
        let mut buffer = vec![0; READ_BYTES];
        let limits = self.shared.limits;
        let (mut limit, mut since) = (limits.connect_timeout, Instant::now());
        loop {
            while let Some(event) = self.session.next_event()? {
                self.handle(event).await?;
            }
            self.flush().await?;
            let now_limit = match (&self.publishing, &self.playing) {
                // Players say nothing; those that have gone take nothing.
                (_, Some(_)) => NEVER,
                (Some(_), None) => limits.silence_timeout,
                (None, None) => limits.connect_timeout,
            };
            // What does not publish is not saved by sending something.
            if limit != now_limit || self.publishing.is_some() {
                (limit, since) = (now_limit, Instant::now());
            }
            let mut read = None;
            while read.is_none() {
                read = self.read(&mut buffer, since + limit).await?;
                if self.playing.is_some() {
                    self.send_all()?;
                    self.flush().await?;
                }
                if read.is_none() && Instant::now() >= since + limit {
                    return Err(Ended::TimedOut(limit));
                }
                // A publisher that holds something back is looked at now and then.
                if let Some(publishing) = &mut self.publishing {
                    publishing.begin_if_due(&self.status).await?;
                }
            }
            let read = read.unwrap_or_default();
            if read == 0 {
                return Ok(());
            }
            self.status.received.fetch_add(read as u64, Relaxed);
            self.session.link().receive(&buffer[..read]);
        }
    }

    /// Reads; `None`: nothing came before the deadline, or before it is time to look again.
    async fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<Option<usize>, Ended> {
        let socket = &mut self.socket;
        let read = async {
            match socket.read(buffer).await {
                // It ends as ffmpeg does.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(0),
                read => read,
            }
        };
        if let Some(playing) = &mut self.playing {
            tokio::select! {
                read = read => return Ok(Some(read?)),
                tag = playing.reader.next() => {
                    let tag = tag.map_err(|ended| match ended {
                        ReaderEnded::Slow => Ended::Stalled,
                        ReaderEnded::Over => Ended::Over,
                    })?;
                    self.send(&tag)?;
                    return Ok(None);
                }
            }
        }
        let read = match &self.publishing {
            None => timeout_at(deadline, read).await,
            Some(publishing) => match publishing.publisher.ingest() {
                None => timeout(LOOK_AGAIN, read).await,
                Some(ingest) => tokio::select! {
                    read = timeout_at(deadline, read) => read,
                    reason = ingest.closed() => return Err(Ended::Stopped(reason)),
                },
            },
        };
        Ok(read.ok().transpose()?)
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        let output = self.session.link().take_output();
        if output.is_empty() {
            return Ok(());
        }
        self.status.sent.fetch_add(output.len() as u64, Relaxed);
        let write = async {
            self.socket.write_all(&output).await?;
            self.socket.flush().await
        };
        let written = timeout(self.shared.limits.write_timeout, write).await;
        Ok(written.map_err(|_| Ended::Stalled)??)
    }

    async fn handle(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Publish(wish) => self.publish(wish),
            Event::Play(wish) => self.play(wish),
            Event::End => {
                self.held = None;
                self.end_publishing();
                if let Some(Playing { wish, .. }) = self.playing.take() {
                    let client = self.session.client();
                    self.status
                        .set(State::Connecting, &wish.app, &wish.name, client);
                }
                Ok(())
            }
            Event::Media(message) => {
                let Some(publishing) = &mut self.publishing else {
                    return Ok(());
                };
                publishing.publisher.take(message).map_err(refused)?;
                publishing.begin_if_due(&self.status).await
            }
            Event::Metadata(about) => {
                if let Some(publishing) = &mut self.publishing {
                    publishing.publisher.metadata(&about);
                }
                Ok(())
            }
        }
    }

    /// Whether the client may; if so, what it does ends with its token.
    fn check(&mut self, right: Right, wish: &Wish) -> Result<(), Refused> {
        let access = self.shared.ingests.broadcast().access();
        let grant = access.check(&Asked {
            right,
            stream: Some(&wish.name),
            token: wish.token.as_deref(),
            door: "rtmp",
            remote: Some(self.status.remote.ip()),
        })?;
        let stop = self.status.stop.clone();
        self.held = Some(grant.hold(move || stop.cancel()));
        Ok(())
    }

    fn publish(&mut self, wish: Wish) -> Result<(), Ended> {
        let client = self.session.client();
        self.status
            .set(State::Connecting, &wish.app, &wish.name, client);
        if let Err(why) = self.check(Right::Publish, &wish) {
            let code = "NetStream.Publish.Denied";
            self.session.refuse(wish.stream_id, code, &why.to_string());
            return Err(Ended::Refused(why.to_string()));
        }
        let reserved = match &self.publishing {
            Some(publishing) => Err(BroadcastError::Occupied(publishing.wish.name.clone())),
            None => self.shared.reserve(&wish.name),
        };
        let reservation = match reserved {
            Ok(reservation) => reservation,
            Err(error) => {
                let code = match error {
                    BroadcastError::Occupied(_) | BroadcastError::Name => {
                        "NetStream.Publish.BadName"
                    }
                    _ => "NetStream.Publish.Denied",
                };
                let why = error.to_string();
                self.session.refuse(wish.stream_id, code, &why);
                return Err(Ended::Refused(why));
            }
        };
        let client = self.session.client();
        self.status
            .set(State::Publishing, &wish.app, &wish.name, client);
        let spec = IngestSpec {
            stream: wish.name.clone(),
            source: "rtmp",
            remote: self.status.remote.to_string(),
        };
        self.session.published(&wish);
        let publisher = Publisher::new(self.shared.ingests.clone(), spec);
        self.publishing = Some(Publishing {
            publisher,
            wish,
            reservation: Some(reservation),
        });
        Ok(())
    }

    fn play(&mut self, wish: Wish) -> Result<(), Ended> {
        let client = self.session.client();
        self.status
            .set(State::Connecting, &wish.app, &wish.name, client);
        if let Err(why) = self.check(Right::Watch, &wish) {
            let code = "NetStream.Play.Failed";
            self.session.refuse(wish.stream_id, code, &why.to_string());
            return Err(Ended::Refused(why.to_string()));
        }
        let client = self.session.client();
        let broadcast = self.shared.ingests.broadcast();
        let hears_opus = self.session.understands("Opus");
        let wants = Wants {
            opus: hears_opus,
            keyframes: false,
        };
        match self.shared.hubs.read(broadcast, &wish.name, wants) {
            Ok(reader) => {
                self.status
                    .set(State::Playing, &wish.app, &wish.name, client);
                self.session.played(&wish);
                let hears = hears_opus || HAS_AAC_ENCODER;
                self.session.describe(wish.stream_id, hears);
                self.playing = Some(Playing {
                    reader,
                    wish,
                    clock: ReaderClock::default(),
                    hears_opus,
                });
                Ok(())
            }
            Err(error) => {
                let why = error.to_string();
                self.session
                    .refuse(wish.stream_id, "NetStream.Play.StreamNotFound", &why);
                Err(Ended::Refused(why))
            }
        }
    }

    /// Sends what is there for a client that plays.
    fn send_all(&mut self) -> Result<(), Ended> {
        for _ in 0..TAGS_AT_ONCE {
            let tag = self.playing.as_mut().and_then(|one| one.reader.ready());
            let Some(tag) = tag else {
                break;
            };
            self.send(&tag)?;
        }
        Ok(())
    }

    fn send(&mut self, tag: &Tag) -> Result<(), Ended> {
        let Some(playing) = &mut self.playing else {
            return Ok(());
        };
        let kind = match tag.kind {
            TagKind::Opus if !playing.hears_opus => return Ok(()),
            TagKind::Opus | TagKind::Aac => kind::AUDIO,
            TagKind::Video(codec) => {
                if let Some(four) = flv::four_letters_of(codec)
                    && !self.session.understands(four)
                {
                    return Err(Ended::Refused(format!(
                        "the stream's video is {four}, which the player does not say it understands \
                         (ffmpeg 8: -rtmp_enhanced_codecs {four},Opus); play an H.264 stream, or \
                         watch in a browser"
                    )));
                }
                kind::VIDEO
            }
        };
        let Some(timestamp) = playing.clock.timestamp(tag) else {
            return Ok(());
        };
        let message = Message {
            kind,
            stream_id: playing.wish.stream_id,
            timestamp,
            payload: tag.payload.clone(),
        };
        self.session.link().media(&message);
        Ok(())
    }

    fn end_publishing(&mut self) {
        if let Some(Publishing { wish, .. }) = self.publishing.take() {
            let client = self.session.client();
            self.status
                .set(State::Connecting, &wish.app, &wish.name, client);
            let code = "NetStream.Unpublish.Success";
            let text = format!("{} is no longer published.", wish.name);
            self.session.status(wish.stream_id, "status", code, &text);
        }
    }
}

impl Publishing {
    async fn begin_if_due(&mut self, status: &Status) -> Result<(), Ended> {
        self.publisher.begin_if_due().await.map_err(refused)?;
        if let Some(ingest) = self.publisher.ingest()
            && self.reservation.take().is_some()
        {
            status.set_ingest(ingest.id());
        }
        Ok(())
    }
}

fn refused(error: PublishError) -> Ended {
    match error {
        PublishError::Closed(_) | PublishError::Ingest(IngestError::Closed(_)) => {
            Ended::Stopped(CloseReason::Requested)
        }
        error => Ended::Refused(error.to_string()),
    }
}
