//! Named streams: who publishes what, and who watches it.
//!
//! The doors (WHIP, WHEP, the admin socket) call [`Broadcast`]; it uses the object model and keeps
//! the one rule the model does not know: a stream has a name, at most one publisher, and any
//! number of viewers, who may come before it and stay when it goes. It never sees HTTP.

mod follow;
mod info;
mod produce;
mod publisher;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fanmill_engine::EngineError;
use fanmill_engine::ids::TransportId;

use crate::model::{
    AttachError, CloseReason, Endpoint, MediaServer, OfferError, Transport, TransportKind,
};
use crate::sdp::Offer;

pub use follow::{Follower, Live};
pub use info::{
    EncodingInfo, MAX_VIEWERS_LISTED, StreamDetails, StreamInfo, TrackInfo, ViewerInfo,
};
pub use publisher::{PublisherDetails, StandsOn};
pub use session::{IceRestart, Session};

use follow::Followed;
use publisher::Publisher;

/// Longest stream name in bytes: it stands in URLs and file names.
pub const MAX_STREAM_NAME_BYTES: usize = 128;

/// How many streams and viewers are allowed.
#[derive(Debug, Clone, Copy)]
pub struct BroadcastLimits {
    /// Streams at once.
    pub max_streams: usize,
    /// Viewers of one stream.
    pub max_viewers_per_stream: usize,
}

/// Why somebody cannot publish or watch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// A name that cannot be one.
    #[error("a stream name has 1 to {MAX_STREAM_NAME_BYTES} of the characters A-Z a-z 0-9 . _ ~ -")]
    Name,
    /// Somebody else publishes it.
    #[error("stream {0} already has a publisher; stop it first or choose another name")]
    Occupied(String),
    /// The server has as many streams as it was allowed.
    #[error("the server carries {0} streams and is set to carry no more; try again later")]
    TooManyStreams(usize),
    /// The stream has as many viewers as it was allowed.
    #[error("the stream has {0} viewers and is set to have no more; try again later")]
    TooManyViewers(usize),
    /// The offer made no transport.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// An update names another ICE session (RFC 9725 4.3.1) than the present one.
    #[error("that is another ICE session than the present one; use the latest ETag, or *")]
    OtherIceSession,
    /// No such session, or not any more.
    #[error("there is no such session; it may have ended")]
    UnknownSession,
    /// No such stream.
    #[error("there is no stream {0}")]
    UnknownStream(String),
    /// The stream has no publisher now.
    #[error("stream {0} has no publisher now")]
    NotLive(String),
    /// What was to be published is over already.
    #[error("what was to be published has ended already")]
    SourceEnded,
    /// The tracks do not fit.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The data plane did not take it.
    #[error(transparent)]
    Engine(#[from] fanmill_engine::EngineError),
}

/// What became of an offer.
pub struct Created {
    /// The new session.
    pub session: Arc<Session>,
    /// The answer to send back.
    pub answer: String,
}

#[derive(Default)]
struct Stream {
    publisher: Option<Publisher>,
    since: Option<Instant>,
    /// Sessions that are shown this stream.
    viewers: HashMap<String, Arc<Session>>,
}

#[derive(Default)]
struct Tables {
    streams: HashMap<String, Stream>,
    sessions: HashMap<String, Arc<Session>>,
    by_transport: HashMap<TransportId, Arc<Session>>,
    followed: Followed,
}

struct Shared {
    server: MediaServer,
    endpoint: Endpoint,
    limits: BroadcastLimits,
    tables: Mutex<Tables>,
}

/// All streams of a server; clones share them.
#[derive(Clone)]
pub struct Broadcast(Arc<Shared>);

impl Broadcast {
    /// No streams yet.
    pub fn new(server: MediaServer, limits: BroadcastLimits) -> Self {
        let endpoint = server.create_endpoint();
        Self(Arc::new(Shared {
            server,
            endpoint,
            limits,
            tables: Mutex::default(),
        }))
    }

    /// The media server underneath.
    pub fn server(&self) -> &MediaServer {
        &self.0.server
    }

    /// Publishes a stream; whoever waits for it sees it. A publisher that is there already is
    /// replaced if it is evidently dead. Call it inside the runtime; it waits for the data plane.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn publish(&self, stream: &str, offer: &Offer) -> Result<Created, BroadcastError> {
        check_name(stream)?;
        let mut tables = self.tables();
        tables.check_room(stream, self.0.limits)?;
        let dead = tables.check_free(stream)?;
        let (transport, answer) = self.0.endpoint.publish(offer)?;
        if let Some(dead) = dead {
            tables.replace(stream, &dead);
        }
        let session = tables.enter(TransportKind::Publish, stream, transport);
        tables.put_on_air(stream, Publisher::from(&session));
        drop(tables);
        tracing::info!(stream, transport = session.transport.id().0, "published");
        self.watch_over(&session);
        Ok(Created { session, answer })
    }

    /// Watches a stream, from when it begins if it has not yet. Call it inside the runtime; it
    /// waits for the data plane.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn watch(&self, stream: &str, offer: &Offer) -> Result<Created, BroadcastError> {
        check_name(stream)?;
        let limits = self.0.limits;
        let mut tables = self.tables();
        tables.check_room(stream, limits)?;
        let viewers = tables
            .streams
            .get(stream)
            .map_or(0, |stream| stream.viewers.len());
        if viewers >= limits.max_viewers_per_stream {
            return Err(BroadcastError::TooManyViewers(
                limits.max_viewers_per_stream,
            ));
        }
        let (transport, answer) = self.0.endpoint.view(offer)?;
        let session = tables.enter(TransportKind::View, stream, transport);
        let entry = tables.streams.entry(stream.to_owned()).or_default();
        entry
            .viewers
            .insert(session.id.clone(), Arc::clone(&session));
        show(&session, entry.publisher.as_ref());
        drop(tables);
        tracing::debug!(stream, transport = session.transport.id().0, "watched");
        self.watch_over(&session);
        Ok(Created { session, answer })
    }

    /// Ends a session. Its name and, if it published, its stream are free when this returns; the
    /// peer is told soon after.
    pub fn end(&self, session: &Arc<Session>) {
        self.tables().leave(session);
        session.transport.close();
    }

    /// A session of a stream by its name in URLs.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownSession`].
    pub fn session(
        &self,
        kind: TransportKind,
        stream: &str,
        id: &str,
    ) -> Result<Arc<Session>, BroadcastError> {
        let tables = self.tables();
        let session = tables.sessions.get(id);
        let session = session.filter(|session| session.kind == kind && session.stream == stream);
        session.cloned().ok_or(BroadcastError::UnknownSession)
    }

    /// The viewer session on a transport.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownSession`].
    pub fn viewer_on(&self, transport: u64) -> Result<Arc<Session>, BroadcastError> {
        let tables = self.tables();
        let session = tables.by_transport.get(&TransportId(transport));
        let session = session.filter(|session| session.kind == TransportKind::View);
        session.cloned().ok_or(BroadcastError::UnknownSession)
    }

    /// The stream that a transport publishes or is shown.
    pub fn stream_of(&self, transport: TransportId) -> Option<String> {
        let tables = self.tables();
        let session = tables.by_transport.get(&transport)?;
        match session.kind {
            TransportKind::Publish => Some(session.stream.clone()),
            TransportKind::View => session.shown().clone(),
        }
    }

    /// Shows a viewer another stream from now on, without its doing anything.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownStream`], [`BroadcastError::NotLive`], or that the tracks do not
    /// fit; the viewer then sees what it saw before.
    pub fn attach(&self, viewer: &Arc<Session>, stream: &str) -> Result<(), BroadcastError> {
        let mut tables = self.tables();
        tables.check_present(viewer)?;
        let entry = tables.streams.get(stream);
        let entry = entry.ok_or_else(|| BroadcastError::UnknownStream(stream.to_owned()))?;
        let publisher = entry.publisher.as_ref();
        let publisher = publisher.ok_or_else(|| BroadcastError::NotLive(stream.to_owned()))?;
        let outgoing = viewer.transport.outgoing();
        if let Err(error) = outgoing.attach_to(publisher.incoming()) {
            // Some of its tracks may have changed over.
            let before = viewer.shown().clone();
            let before = before.and_then(|name| tables.streams.get(&name));
            show(viewer, before.and_then(|stream| stream.publisher.as_ref()));
            return Err(error.into());
        }
        tables.move_viewer(viewer, Some(stream));
        Ok(())
    }

    /// Shows a viewer nothing any more; it stays connected.
    ///
    /// # Errors
    /// When it has gone.
    pub fn detach(&self, viewer: &Arc<Session>) -> Result<(), BroadcastError> {
        let mut tables = self.tables();
        tables.check_present(viewer)?;
        viewer.transport.outgoing().detach()?;
        tables.move_viewer(viewer, None);
        Ok(())
    }

    /// Every stream that is live or waited for, by name.
    pub fn streams(&self) -> Vec<StreamInfo> {
        let tables = self.tables();
        let mut all: Vec<_> = tables
            .streams
            .iter()
            .map(|(name, stream)| info::stream(name, stream))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// How many streams are live or waited for.
    pub fn stream_count(&self) -> usize {
        self.tables().streams.len()
    }

    /// Everything about one stream.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownStream`].
    pub fn stream(&self, name: &str) -> Result<StreamDetails, BroadcastError> {
        let tables = self.tables();
        let stream = tables.streams.get(name);
        let stream = stream.ok_or_else(|| BroadcastError::UnknownStream(name.to_owned()))?;
        Ok(info::details(name, stream))
    }

    /// Clears up after a session whenever it ends.
    fn watch_over(&self, session: &Arc<Session>) {
        let broadcast = self.clone();
        let session = Arc::clone(session);
        tokio::spawn(async move {
            let reason = session.listen_until_closed().await;
            let transport = session.transport.id().0;
            tracing::info!(stream = session.stream, transport, %reason, "session ended");
            // All viewers of a publisher are detached, which may wait for the data plane.
            let leave = move || broadcast.tables().leave(&session);
            let left = tokio::task::spawn_blocking(leave).await;
            // It may also be cut off, by the end of the program.
            if left.is_err_and(|error| error.is_panic()) {
                tracing::error!(transport, "clearing up after a session panicked");
            }
        });
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        lock(&self.0.tables)
    }
}

impl Tables {
    fn check_room(&self, stream: &str, limits: BroadcastLimits) -> Result<(), BroadcastError> {
        if !self.streams.contains_key(stream) && self.streams.len() >= limits.max_streams {
            return Err(BroadcastError::TooManyStreams(limits.max_streams));
        }
        Ok(())
    }

    fn check_present(&self, session: &Session) -> Result<(), BroadcastError> {
        let present = self.sessions.contains_key(&session.id);
        present.then_some(()).ok_or(BroadcastError::UnknownSession)
    }

    fn enter(&mut self, kind: TransportKind, stream: &str, transport: Transport) -> Arc<Session> {
        let session = Arc::new(Session::new(kind, stream, transport));
        self.sessions
            .insert(session.id.clone(), Arc::clone(&session));
        self.by_transport
            .insert(session.transport.id(), Arc::clone(&session));
        session
    }

    /// Notes that a viewer is shown another stream, or none.
    fn move_viewer(&mut self, viewer: &Arc<Session>, stream: Option<&str>) {
        let before = std::mem::replace(&mut *viewer.shown(), stream.map(str::to_owned));
        if let Some(before) = before {
            if let Some(entry) = self.streams.get_mut(&before) {
                entry.viewers.remove(&viewer.id);
            }
            self.drop_if_unused(&before);
        }
        if let Some(stream) = stream {
            let entry = self.streams.entry(stream.to_owned()).or_default();
            entry.viewers.insert(viewer.id.clone(), Arc::clone(viewer));
        }
    }

    fn leave(&mut self, session: &Arc<Session>) {
        if self.sessions.remove(&session.id).is_none() {
            return;
        }
        self.by_transport.remove(&session.transport.id());
        match session.kind {
            TransportKind::View => self.move_viewer(session, None),
            TransportKind::Publish => {
                self.take_off_air(&session.stream, &Publisher::from(session));
            }
        }
    }

    /// The publisher that may be replaced, if there is one at all.
    ///
    /// # Errors
    /// [`BroadcastError::Occupied`] by one that is alive.
    fn check_free(&self, stream: &str) -> Result<Option<Publisher>, BroadcastError> {
        let present = self.streams.get(stream);
        match present.and_then(|stream| stream.publisher.clone()) {
            Some(publisher) if !publisher.is_dead() => {
                Err(BroadcastError::Occupied(stream.to_owned()))
            }
            dead => Ok(dead),
        }
    }

    /// Ends a publisher to make room for another.
    fn replace(&mut self, stream: &str, dead: &Publisher) {
        match dead.session() {
            Some(session) => self.leave(session),
            None => self.take_off_air(stream, dead),
        }
        dead.close_for(CloseReason::Replaced);
    }

    /// Shows a publisher to all who watch or follow the stream.
    fn put_on_air(&mut self, stream: &str, publisher: Publisher) {
        self.followed.tell(stream, Some(&publisher));
        let entry = self.streams.entry(stream.to_owned()).or_default();
        for viewer in entry.viewers.values() {
            show(viewer, Some(&publisher));
        }
        entry.publisher = Some(publisher);
        entry.since = Some(Instant::now());
    }

    /// Shows nothing in the place of a publisher, unless another one is there already.
    fn take_off_air(&mut self, stream: &str, publisher: &Publisher) {
        if let Some(entry) = self.streams.get_mut(stream) {
            let current = entry.publisher.as_ref();
            if current.is_some_and(|current| current.id() == publisher.id()) {
                entry.publisher = None;
                entry.since = None;
                entry.viewers.values().for_each(|viewer| show(viewer, None));
                self.followed.tell(stream, None);
            }
        }
        self.drop_if_unused(stream);
    }

    fn drop_if_unused(&mut self, name: &str) {
        let unused = |entry: &Stream| entry.publisher.is_none() && entry.viewers.is_empty();
        if self.streams.get(name).is_some_and(unused) {
            self.streams.remove(name);
        }
    }
}

/// Shows a viewer what a publisher shares, or nothing.
fn show(viewer: &Session, publisher: Option<&Publisher>) {
    let outgoing = viewer.transport.outgoing();
    let done = match publisher {
        Some(publisher) => outgoing.attach_to(publisher.incoming()),
        None => outgoing.detach().map_err(AttachError::from),
    };
    let transport = viewer.transport.id().0;
    match done {
        Ok(()) => {}
        // One side has just gone, and its session is about to follow.
        Err(AttachError::Engine(
            EngineError::UnknownOutgoingTrack(_) | EngineError::UnknownRendition(_),
        )) => tracing::debug!(transport, "nothing to show, or nobody to show it to"),
        // It sees what could be attached; an operator finds the rest in the log.
        Err(error) => tracing::warn!(transport, %error, "cannot show a stream fully"),
    }
}

/// Checks a name from outside.
fn check_name(name: &str) -> Result<(), BroadcastError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    let fits = (1..=MAX_STREAM_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed);
    // "." and ".." would mean something else in a path.
    if fits && name.bytes().any(|byte| byte != b'.') {
        Ok(())
    } else {
        Err(BroadcastError::Name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_fits_a_url_and_a_file_name() {
        for good in [
            "a",
            "Stage-1",
            "a.b_c~d",
            &"x".repeat(MAX_STREAM_NAME_BYTES),
        ] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a/b",
            "..",
            ".",
            "a b",
            "ä",
            &"x".repeat(MAX_STREAM_NAME_BYTES + 1),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
