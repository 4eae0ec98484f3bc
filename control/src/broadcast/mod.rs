//! Named streams: who publishes what, and who watches it.
//!
//! The doors (WHIP, WHEP, the admin socket) call [`Broadcast`]; it uses the object model and keeps
//! the rules the model does not know: a stream has a name, a publisher and perhaps a backup of it, and
//! any number of viewers, who may come before them and stay when they go. It never sees HTTP.

mod events;
mod follow;
mod info;
mod layers;
mod playout;
mod produce;
mod publisher;
mod publishers;
mod session;
mod tables;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanmill_engine::EngineError;
use fanmill_engine::ids::TransportId;

use crate::access::Access;
use crate::events::Events;
use crate::model::{
    AttachError, CloseReason, Endpoint, IncomingStream, MediaServer, OfferError, TransportKind,
};
use crate::rooms::{RoomStream, Rooms};
use crate::sdp::Offer;

pub use events::{EventKind, EventReader, MAX_SUBSCRIPTIONS, StreamEvent, Subscription};
pub use follow::{Follower, Live};
pub use info::{
    DeliveryInfo, EncodingInfo, MAX_VIEWERS_LISTED, PublisherInfo, StreamDetails, StreamInfo,
    TrackInfo, TransitInfo, ViewerInfo,
};
pub use playout::{DelayBounds, NoDelay, PlayoutRule};
pub use publisher::{PublisherDetails, StandsOn};
pub use publishers::{RETURN_AFTER, Role, TakeoverBack};
pub use session::{IceRestart, Session};

use publisher::Publisher;
use tables::{Stream, Tables, show};

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
    /// It is the name of a room, which is watched but not published.
    #[error("{0} is a room; publish as one of its members, {0}NAME, or leave out the ~")]
    Room(String),
    /// Somebody else publishes it.
    #[error("stream {0} already has a publisher; stop it first or choose another name")]
    Occupied(String),
    /// Somebody else publishes its backup.
    #[error("stream {0} already has a backup publisher; stop it first")]
    BackupOccupied(String),
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
    /// The session subscribed to events as often as it may.
    #[error("the session has {MAX_SUBSCRIPTIONS} event streams; DELETE one before asking for more")]
    TooManySubscriptions,
    /// No such subscription to events, or not any more.
    #[error("there is no such event stream; it may have ended")]
    UnknownSubscription,
    /// The viewer has no video track, or none of that media section.
    #[error("the viewer has no video there to choose an encoding of")]
    NoVideo,
    /// The stream that is shown has no such encoding.
    #[error("the stream has no encoding {0}; it has {1}")]
    UnknownEncoding(String, String),
    /// No such stream.
    #[error("there is no stream {0}")]
    UnknownStream(String),
    /// The stream has no publisher now.
    #[error("stream {0} has no publisher now")]
    NotLive(String),
    /// What was to be published is over already.
    #[error("what was to be published has ended already")]
    SourceEnded,
    /// The stream has no publisher of this kind now.
    #[error("stream {0} has no {1} publisher now")]
    NoPublisher(String, Role),
    /// The publisher cannot be shown, for nothing comes from it.
    #[error("nothing comes from the {1} publisher of stream {0}; choose it when it is heard again")]
    Silent(String, Role),
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

struct Shared {
    server: MediaServer,
    endpoint: Endpoint,
    limits: BroadcastLimits,
    access: Access,
    events: Events,
    rooms: Rooms,
    tables: Mutex<Tables>,
}

/// All streams of a server; clones share them.
#[derive(Clone)]
pub struct Broadcast(Arc<Shared>);

impl Broadcast {
    /// No streams yet.
    pub fn new(server: MediaServer, limits: BroadcastLimits) -> Self {
        let endpoint = server.create_endpoint();
        let events = Events::new();
        let rooms = Rooms::new(events.clone());
        let tables = Tables::new(events.clone(), rooms.clone());
        Self(Arc::new(Shared {
            server,
            endpoint,
            limits,
            access: Access::new(),
            events,
            rooms,
            tables: Mutex::new(tables),
        }))
    }

    /// The media server underneath.
    pub fn server(&self) -> &MediaServer {
        &self.0.server
    }

    /// Who may publish and watch by the doors. What calls this broadcast itself is not asked.
    pub fn access(&self) -> &Access {
        &self.0.access
    }

    /// What happens in the server, to be read and to be told: streams that are published and end, and
    /// whatever else belongs to them.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The rooms that streams make by their names.
    pub fn rooms(&self) -> &Rooms {
        &self.0.rooms
    }

    /// Sets the bounds on the delay before playing that streams published from now on have.
    pub fn set_playout_rules(&self, rules: Vec<PlayoutRule>) {
        self.tables().playout_rules = rules;
    }

    /// Sets the bounds of one stream, from now on until it has neither publisher nor viewer; `None`:
    /// those of the rules.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownStream`], or that its publisher has just gone.
    pub fn set_playout_delay(
        &self,
        stream: &str,
        bounds: Option<DelayBounds>,
    ) -> Result<(), BroadcastError> {
        let mut tables = self.tables();
        let entry = tables.streams.get_mut(stream);
        let entry = entry.ok_or_else(|| BroadcastError::UnknownStream(stream.to_owned()))?;
        entry.delay = bounds;
        for publisher in entry.publishers.all() {
            self.tell_playout_delay(&tables, stream, publisher.incoming())?;
        }
        Ok(())
    }

    /// Lets the data plane know the bounds of a stream that `incoming` is, or is about to be.
    fn tell_playout_delay(
        &self,
        tables: &Tables,
        stream: &str,
        incoming: &IncomingStream,
    ) -> Result<(), EngineError> {
        let bounds = tables.playout_delay(stream).map(DelayBounds::to_engine);
        let engine = self.0.server.engine();
        for encoding in incoming.tracks().iter().flat_map(|track| track.encodings()) {
            engine.set_playout_delay(encoding.rendition(), bounds)?;
        }
        Ok(())
    }

    /// Sets how viewers of every stream come back from a backup publisher to the primary one.
    pub fn set_takeover_back(&self, takeover_back: TakeoverBack) {
        self.tables().takeover_back = takeover_back;
    }

    /// Publishes a stream, as [`publish_as`](Self::publish_as) does, as its primary publisher.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn publish(&self, stream: &str, offer: &Offer) -> Result<Created, BroadcastError> {
        self.publish_as(stream, Role::Primary, offer)
    }

    /// Publishes a stream, or its backup; whoever waits for it sees it. A publisher that is there
    /// already in this role is replaced if it is evidently dead. Call it inside the runtime; it waits
    /// for the data plane.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn publish_as(
        &self,
        stream: &str,
        role: Role,
        offer: &Offer,
    ) -> Result<Created, BroadcastError> {
        check_publishing_name(stream)?;
        let mut tables = self.tables();
        tables.check_room(stream, self.0.limits)?;
        let dead = tables.check_free(stream, role)?;
        let (transport, answer) = self.0.endpoint.publish(offer)?;
        if let Err(error) = self.tell_playout_delay(&tables, stream, transport.incoming()) {
            transport.close();
            return Err(error.into());
        }
        if let Some(dead) = dead {
            tables.replace(&dead);
        }
        let session = tables.enter(TransportKind::Publish, role, stream, transport, None);
        tables.put(stream, role, Publisher::from(&session));
        drop(tables);
        tracing::info!(stream, %role, transport = session.transport.id().0, "published");
        self.watch_over(&session);
        Ok(Created { session, answer })
    }

    /// Shows the viewers of a stream this one of its publishers, whatever the rule is: the backup until
    /// it is lost or the primary is chosen, the primary until it is lost. It waits for the data plane.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownStream`], [`BroadcastError::NoPublisher`], or
    /// [`BroadcastError::Silent`].
    pub fn use_publisher(&self, stream: &str, role: Role) -> Result<(), BroadcastError> {
        let mut tables = self.tables();
        let entry = tables.streams.get_mut(stream);
        let entry = entry.ok_or_else(|| BroadcastError::UnknownStream(stream.to_owned()))?;
        let publisher = entry.publishers.get(role);
        let publisher =
            publisher.ok_or_else(|| BroadcastError::NoPublisher(stream.to_owned(), role))?;
        if !publisher.is_heard() {
            return Err(BroadcastError::Silent(stream.to_owned(), role));
        }
        if entry.publishers.hold(role) {
            tables.show_on_air(stream);
        }
        Ok(())
    }

    /// Watches a stream, from when it begins if it has not yet, or a [room](crate::rooms) as somebody
    /// who is not in it. Call it inside the runtime; it waits for the data plane.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn watch(&self, stream: &str, offer: &Offer) -> Result<Created, BroadcastError> {
        self.watch_as(stream, None, offer)
    }

    /// Watches as [`watch`](Self::watch) does; `member` is which member of the room the viewer is, who
    /// is shown all but itself. It says nothing where the stream is no room.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn watch_as(
        &self,
        stream: &str,
        member: Option<&str>,
        offer: &Offer,
    ) -> Result<Created, BroadcastError> {
        check_name(stream)?;
        member.map_or(Ok(()), check_name)?;
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
        let endpoint = &self.0.endpoint;
        let (transport, answer, seat) = match RoomStream::parse(stream) {
            Some(RoomStream::Room(room)) => {
                let (transport, answer) = endpoint.view_slots(offer)?;
                let (id, outgoing) = (transport.id().0, transport.outgoing());
                let seat = self.0.rooms.watch(room, member, id, outgoing);
                (transport, answer, Some(seat))
            }
            _ => {
                let (transport, answer) = endpoint.view(offer)?;
                (transport, answer, None)
            }
        };
        let session = tables.enter(
            TransportKind::View,
            Role::default(),
            stream,
            transport,
            seat,
        );
        let entry = tables.streams.entry(stream.to_owned()).or_default();
        entry
            .viewers
            .insert(session.id.clone(), Arc::clone(&session));
        if session.seat.is_none() {
            show(&session, entry.publishers.on_air());
        }
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

    /// Shows a viewer another stream from now on, without its doing anything; a room only to one whose
    /// session was made for it.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownStream`], [`BroadcastError::NotLive`], or that the tracks do not
    /// fit; the viewer then sees what it saw before.
    pub fn attach(&self, viewer: &Arc<Session>, stream: &str) -> Result<(), BroadcastError> {
        let mut tables = self.tables();
        tables.check_present(viewer)?;
        if viewer.take_seat(stream) {
            tables.move_viewer(viewer, Some(stream));
            return Ok(());
        }
        let entry = tables.streams.get(stream);
        let entry = entry.ok_or_else(|| BroadcastError::UnknownStream(stream.to_owned()))?;
        let publisher = entry.publishers.on_air();
        let publisher = publisher.ok_or_else(|| BroadcastError::NotLive(stream.to_owned()))?;
        let outgoing = viewer.transport.outgoing();
        viewer.leave_seat();
        if let Err(error) = outgoing.attach_to(publisher.incoming()) {
            // Some of its tracks may have changed over.
            let before = viewer.shown().clone();
            if before
                .as_ref()
                .is_none_or(|before| !viewer.take_seat(before))
            {
                let before = before.and_then(|name| tables.streams.get(&name));
                show(viewer, before.and_then(|stream| stream.publishers.on_air()));
            }
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
        viewer.leave_seat();
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
        let delay = tables.playout_delay(name);
        Ok(info::details(name, stream, delay))
    }

    /// Clears up after a session whenever it ends.
    fn watch_over(&self, session: &Arc<Session>) {
        let broadcast = self.clone();
        let session = Arc::clone(session);
        tokio::spawn(async move {
            let reason = match session.kind {
                TransportKind::View => session.transport.closed().await,
                TransportKind::Publish => broadcast.listen_to(&session).await,
            };
            let transport = session.transport.id().0;
            tracing::info!(stream = session.stream, transport, %reason, "session ended");
            // All viewers of a publisher are detached, which may wait for the data plane.
            in_background(transport, move || broadcast.tables().leave(&session)).await;
        });
    }

    /// Follows what a publisher does until it ends, and shows viewers another one when that is to be.
    async fn listen_to(&self, session: &Arc<Session>) -> CloseReason {
        let mut hearing = session.transport.hearing();
        loop {
            if let Some(reason) = session.listen_until_news(&mut hearing).await {
                return reason;
            }
            let stream = session.stream.clone();
            let two = self.tables().streams.get(&stream).is_some_and(|stream| {
                // Only then is there anything to choose.
                stream.publishers.are_two()
            });
            if two {
                let broadcast = self.clone();
                let settle = move || broadcast.tables().settle(&stream);
                in_background(session.transport.id().0, settle).await;
            }
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        lock(&self.0.tables)
    }
}

/// Does what may wait for the data plane; `id` is whose affair it is, as the engine names it.
async fn in_background(id: u64, work: impl FnOnce() + Send + 'static) {
    let done = tokio::task::spawn_blocking(work).await;
    // It may also be cut off, by the end of the program.
    if done.is_err_and(|error| error.is_panic()) {
        tracing::error!(id, "following a session or stream panicked");
    }
}

/// Checks a name from outside.
pub(crate) fn check_name(name: &str) -> Result<(), BroadcastError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    let fits = (1..=MAX_STREAM_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed);
    // "." and ".." would mean something else in a path.
    if fits && name.bytes().any(|byte| byte != b'.') {
        Ok(())
    } else {
        Err(BroadcastError::Name)
    }
}

/// Checks the name of what is to be published.
fn check_publishing_name(name: &str) -> Result<(), BroadcastError> {
    check_name(name)?;
    match RoomStream::parse(name) {
        Some(RoomStream::Room(_)) => Err(BroadcastError::Room(name.to_owned())),
        _ => Ok(()),
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

    #[test]
    fn a_room_itself_is_not_published() {
        for good in ["kitchen~ann", "kitchen", "~kitchen", "a~b~"] {
            assert!(check_publishing_name(good).is_ok(), "{good}");
        }
        let room = check_publishing_name("kitchen~");
        assert!(matches!(room, Err(BroadcastError::Room(_))), "{room:?}");
    }
}
