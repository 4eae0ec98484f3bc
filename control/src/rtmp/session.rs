//! What a client says to the server, without its socket: `connect`, `createStream`, then `publish` or
//! `play`. Messages in, [`Event`]s out; who is connected to decides what becomes of them and answers.

use bytes::Bytes;

use super::amf0::{self, NotAmf0, Value};
use super::chunk::{Message, kind};
use super::link::{Link, LinkError, STREAM_BEGIN};
use crate::access::credentials;

/// Message streams of a connection; all that is seen are one.
const MAX_STREAMS: u32 = 8;

/// Longest command and metadata.
const MAX_COMMAND_BYTES: usize = 64 << 10;

/// Codecs beyond Adobe's that are understood (Enhanced RTMP, `fourCcList`).
pub(super) const FOUR_LETTERS: [&str; 7] = ["avc1", "hvc1", "av01", "vp09", "vp08", "Opus", "mp4a"];

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// Its bytes.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A command that cannot be read.
    #[error(transparent)]
    Command(#[from] NotAmf0),
    /// A command too long to be one.
    #[error("a command of {0} bytes")]
    TooLong(usize),
    /// A command out of turn.
    #[error("`{0}` before `connect`")]
    NotConnected(String),
    /// More message streams than anybody needs.
    #[error("over {MAX_STREAMS} message streams")]
    TooManyStreams,
}

/// What a client wants to publish or play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The message stream, to answer on.
    pub stream_id: u32,
    /// The application, without a query.
    pub app: String,
    /// The stream's name, without a query.
    pub name: String,
    /// What followed a `?` in the name, or else in the application.
    pub query: String,
    /// The token in the query of the name, the application or the server's address.
    pub token: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client wants to publish: answer with [`ServerSession::published`] or
    /// [`ServerSession::refuse`].
    Publish(Wish),
    /// A client wants to play: answer likewise.
    Play(Wish),
    /// It has ended what it did.
    End,
    /// Pictures or sound.
    Media(Message),
    /// Metadata of what is published.
    Metadata(Value),
}

/// See the module.
#[derive(Debug)]
pub struct ServerSession {
    link: Link,
    app: Option<(String, String)>,
    /// The query of the server's address.
    address_query: String,
    client: String,
    understands: Vec<String>,
    streams: u32,
}

impl Default for ServerSession {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerSession {
    /// A connection that was just made.
    #[must_use]
    pub fn new() -> Self {
        Self {
            link: Link::server(),
            app: None,
            address_query: String::new(),
            client: String::new(),
            understands: Vec::new(),
            streams: 0,
        }
    }

    /// Bytes, in and out.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// What the client calls itself.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Whether the client said it understands a codec by its four letters.
    #[must_use]
    pub fn understands(&self, four_letters: &str) -> bool {
        let mut all = self.understands.iter();
        all.any(|one| one == four_letters || one == "*")
    }

    /// What happened next; `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`SessionError`]: the connection is of no more use.
    pub fn next_event(&mut self) -> Result<Option<Event>, SessionError> {
        while let Some(message) = self.link.next_message()? {
            let event = match message.kind {
                kind::AUDIO | kind::VIDEO => Some(Event::Media(message)),
                kind::COMMAND | kind::COMMAND_AMF3 => self.command(&message)?,
                kind::DATA | kind::DATA_AMF3 => metadata(&message),
                _ => None,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn command(&mut self, message: &Message) -> Result<Option<Event>, SessionError> {
        let values = amf0::decode(&content(message)?)?;
        let name = values.first().and_then(Value::as_str).unwrap_or_default();
        let id = values.get(1).and_then(Value::as_number).unwrap_or(0.0);
        if name == "connect" {
            self.connect(id, values.get(2));
            return Ok(None);
        }
        if self.app.is_none() {
            let name: String = name.chars().take(40).collect();
            return Err(SessionError::NotConnected(name));
        }
        match name {
            "createStream" => {
                self.streams += 1;
                if self.streams > MAX_STREAMS {
                    return Err(SessionError::TooManyStreams);
                }
                let stream_id = Value::Number(f64::from(self.streams));
                let result = [
                    Value::text("_result"),
                    Value::Number(id),
                    Value::Null,
                    stream_id,
                ];
                self.link.command(0, &result);
                Ok(None)
            }
            "publish" => Ok(Some(Event::Publish(self.wish(message, &values)))),
            "play" => Ok(Some(Event::Play(self.wish(message, &values)))),
            "deleteStream" | "closeStream" | "FCUnpublish" => Ok(Some(Event::End)),
            // releaseStream, FCPublish, _checkbw, getStreamLength: some wait for an answer, to none
            // does it say anything.
            _ if id > 0.0 => {
                let result = [Value::text("_result"), Value::Number(id), Value::Null];
                self.link
                    .command(0, &[&result[..], &[Value::Null]].concat());
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn connect(&mut self, id: f64, about: Option<&Value>) {
        let text = |name: &str| {
            let value = about.and_then(|about| about.get(name));
            value.and_then(Value::as_str).unwrap_or_default()
        };
        let (app, query) = split_query(text("app"));
        self.app = Some((app.trim_matches('/').to_owned(), query.to_owned()));
        split_query(text("tcUrl"))
            .1
            .clone_into(&mut self.address_query);
        self.client = text("flashVer").chars().take(100).collect();
        if let Some(Value::Array(codecs)) = about.and_then(|about| about.get("fourCcList")) {
            let codecs = codecs.iter().filter_map(Value::as_str).take(32);
            self.understands = codecs.map(str::to_owned).collect();
        }
        self.link.ask_for_acknowledgements();
        self.link.user_control(STREAM_BEGIN, 0);
        let server = Value::object([
            ("fmsVer", Value::text("FMS/3,0,1,123")),
            ("capabilities", Value::Number(31.0)),
            (
                "fourCcList",
                Value::Array(FOUR_LETTERS.map(Value::text).into()),
            ),
        ]);
        let status = Value::object([
            ("level", Value::text("status")),
            ("code", Value::text("NetConnection.Connect.Success")),
            ("description", Value::text("Connected.")),
            ("objectEncoding", Value::Number(0.0)),
        ]);
        let result = [Value::text("_result"), Value::Number(id), server, status];
        self.link.command(0, &result);
    }

    fn wish(&self, message: &Message, values: &[Value]) -> Wish {
        let name = values.get(3).and_then(Value::as_str).unwrap_or_default();
        let (name, query) = split_query(name);
        let (app, app_query) = self.app.clone().unwrap_or_default();
        let queries = [query, &app_query, &self.address_query];
        let token = queries.into_iter().find_map(credentials::of_query);
        Wish {
            stream_id: message.stream_id,
            app,
            name: name.to_owned(),
            query: match query {
                "" => app_query,
                query => query.to_owned(),
            },
            token,
        }
    }

    /// Says that a stream is published.
    pub fn published(&mut self, wish: &Wish) {
        self.link.user_control(STREAM_BEGIN, wish.stream_id);
        let text = format!("{} is published.", wish.name);
        self.status(wish.stream_id, "status", "NetStream.Publish.Start", &text);
    }

    /// Says that a stream is played.
    pub fn played(&mut self, wish: &Wish) {
        self.link.user_control(STREAM_BEGIN, wish.stream_id);
        for (code, what) in [
            ("NetStream.Play.Reset", "Playing and resetting"),
            ("NetStream.Play.Start", "Started playing"),
        ] {
            let text = format!("{what} {}.", wish.name);
            self.status(wish.stream_id, "status", code, &text);
        }
        let access = [
            Value::text("|RtmpSampleAccess"),
            Value::Boolean(true),
            Value::Boolean(true),
        ];
        self.link.data(wish.stream_id, &access);
    }

    /// Says of what kinds the messages of a played stream are.
    pub fn describe(&mut self, stream_id: u32, hears: bool) {
        let mut about = vec![("server".to_owned(), Value::text("fanmill"))];
        if hears {
            about.push(("audiosamplerate".to_owned(), Value::Number(48_000.0)));
            about.push(("stereo".to_owned(), Value::Boolean(true)));
        }
        let values = [Value::text("onMetaData"), Value::Object(about)];
        self.link.data(stream_id, &values);
    }

    /// Says why a wish is not granted, or ends, by one of the codes of `NetStream`.
    pub fn refuse(&mut self, stream_id: u32, code: &str, why: &str) {
        self.status(stream_id, "error", code, why);
    }

    /// Says how a message stream is doing.
    pub fn status(&mut self, stream_id: u32, level: &str, code: &str, description: &str) {
        let info = Value::object([
            ("level", Value::text(level)),
            ("code", Value::text(code)),
            ("description", Value::text(description)),
        ]);
        let values = [
            Value::text("onStatus"),
            Value::Number(0.0),
            Value::Null,
            info,
        ];
        self.link.command(stream_id, &values);
    }
}

/// AMF0 of a command or of metadata.
pub(super) fn content(message: &Message) -> Result<Bytes, SessionError> {
    if message.payload.len() > MAX_COMMAND_BYTES {
        return Err(SessionError::TooLong(message.payload.len()));
    }
    let skipped = match message.kind {
        kind::COMMAND_AMF3 | kind::DATA_AMF3 => 1,
        _ => 0,
    };
    Ok(message.payload.slice(skipped.min(message.payload.len())..))
}

/// `@setDataFrame`, `onMetaData`, and what it says. Cue points and the like are nothing to us, nor
/// is what cannot be read.
fn metadata(message: &Message) -> Option<Event> {
    let values = amf0::decode(&content(message).ok()?).ok()?;
    let mut values = values.into_iter();
    let mut name = values.next()?;
    if name.as_str() == Some("@setDataFrame") {
        name = values.next()?;
    }
    match name.as_str() {
        Some("onMetaData") => values.next().map(Event::Metadata),
        _ => None,
    }
}

fn split_query(name: &str) -> (&str, &str) {
    name.split_once('?').unwrap_or((name, ""))
}
