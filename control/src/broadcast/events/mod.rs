//! What viewers are told of the stream they watch: that it is published or not any more, how many
//! watch it, and the encodings there are to choose from; of a room, who is there and shown where.
//!
//! A [`Subscription`] belongs to a viewer's session and says what it wants to be told; an
//! [`EventReader`] is one reading of it, by a door that knows a form to tell it in. There are no
//! queues: a reader compares what it told last with what is so now. One who reads slowly misses
//! what has passed meanwhile, and delays nobody. What changes with every viewer who comes or goes
//! is looked at once a second, whatever the number of readers. This must never wait for a reader.

mod told;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::session::random_id;
use super::{
    Broadcast, BroadcastError, EncodingInfo, Publisher, Session, Shared, Stream, Tables, lock,
};
use crate::rooms::{MembersView, RoomView, Seat, SlotsView};

pub(super) use told::Facts;
use told::{Told, ToldRoom};

/// Subscriptions of one session.
pub const MAX_SUBSCRIPTIONS: usize = 4;

/// How often viewers are counted and encodings looked at for those who want to be told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Viewer counts told in a second to all readers of a stream together: with more readers than this
/// each is told less often.
const COUNTS_PER_LOOK: usize = 2000;

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The stream is published.
    Active,
    /// It is not published any more.
    Inactive,
    /// Its publisher shows one picture on purpose, or goes on.
    Paused,
    /// It has other encodings than before.
    Layers,
    /// Another number of viewers watches it than before.
    ViewerCount,
    /// Others are in the room than before.
    Room,
    /// Others are in the viewer's slots than before.
    Slots,
    /// Somebody else in the room speaks than before.
    Speaker,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Active,
        Self::Inactive,
        Self::Paused,
        Self::Layers,
        Self::ViewerCount,
        Self::Room,
        Self::Slots,
        Self::Speaker,
    ];

    /// Those of a stream that is no room.
    pub const OF_STREAMS: [Self; 5] = [
        Self::Active,
        Self::Inactive,
        Self::Paused,
        Self::Layers,
        Self::ViewerCount,
    ];

    /// Those of a room.
    pub const OF_ROOMS: [Self; 4] = [Self::ViewerCount, Self::Room, Self::Slots, Self::Speaker];
}

/// Something that happened to the stream a viewer is shown.
#[derive(Debug, Clone)]
pub enum StreamEvent {
    /// It is published.
    Active,
    /// It is not published any more.
    Inactive,
    /// Whether its publisher shows one picture on purpose.
    Paused(bool),
    /// The encodings of its video: more than one, or in layers.
    Layers(Arc<[EncodingInfo]>),
    /// How many watch it.
    ViewerCount(usize),
    /// Who is in the room.
    Room(Arc<MembersView>),
    /// Who is in the viewer's slots.
    Slots(Arc<SlotsView>),
    /// Who speaks in the room, or spoke last.
    Speaker(Option<Arc<str>>),
}

/// What a viewer's session wants to be told. It lasts until it is ended, or the session is.
pub struct Subscription {
    id: String,
    wanted: Vec<EventKind>,
    signals: watch::Sender<Signals>,
    /// Whether it was ever told that the stream is published.
    was_active: AtomicBool,
}

/// What concerns the readers of a subscription beside the stream itself.
#[derive(Default)]
struct Signals {
    /// Counts readers: only the latest goes on.
    readers: u64,
    /// Counts how often the viewer was shown another stream.
    moves: u64,
}

impl Subscription {
    fn new(wanted: &[EventKind]) -> Self {
        Self {
            id: random_id(),
            wanted: wanted.to_vec(),
            signals: watch::Sender::default(),
            was_active: AtomicBool::new(false),
        }
    }

    /// Its name in URLs: 128 random bits, so that it cannot be guessed.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn viewer_moved(&self) {
        self.signals.send_modify(|signals| signals.moves += 1);
    }

    fn end_reader(&self) {
        self.signals.send_modify(|signals| signals.readers += 1);
    }
}

impl Session {
    /// Notes what a viewer wants to be told.
    ///
    /// # Errors
    /// [`BroadcastError::TooManySubscriptions`].
    pub fn subscribe(&self, wanted: &[EventKind]) -> Result<Arc<Subscription>, BroadcastError> {
        let mut subscriptions = self.subscriptions();
        if subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(BroadcastError::TooManySubscriptions);
        }
        let subscription = Arc::new(Subscription::new(wanted));
        subscriptions.push(Arc::clone(&subscription));
        Ok(subscription)
    }

    /// Forgets a subscription; its reader ends.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownSubscription`].
    pub fn unsubscribe(&self, id: &str) -> Result<(), BroadcastError> {
        let mut subscriptions = self.subscriptions();
        let position = subscriptions.iter().position(|one| one.id == id);
        let position = position.ok_or(BroadcastError::UnknownSubscription)?;
        subscriptions.swap_remove(position).end_reader();
        Ok(())
    }
}

impl Broadcast {
    /// Reads a subscription from now on, in place of whoever read it before. What is so now is told
    /// first. Call it inside the runtime.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownSubscription`].
    pub fn read_events(
        &self,
        session: &Arc<Session>,
        id: &str,
    ) -> Result<EventReader, BroadcastError> {
        let subscription = session
            .subscriptions()
            .iter()
            .find(|one| one.id == id)
            .cloned();
        let subscription = subscription.ok_or(BroadcastError::UnknownSubscription)?;
        subscription.end_reader();
        let mut signals = subscription.signals.subscribe();
        let (reader, moves) = {
            let signals = signals.borrow_and_update();
            (signals.readers, signals.moves)
        };
        Ok(EventReader {
            broadcast: self.clone(),
            session: Arc::clone(session),
            facts: self.facts_of(session)?,
            subscription,
            signals,
            reader,
            moves,
            room: session.seat.as_ref().map(Seat::view),
            told_room: ToldRoom::default(),
            told: Told::default(),
        })
    }

    /// The facts of the stream a viewer is shown, if it is shown one; they are looked at regularly
    /// from now on.
    fn facts_of(&self, viewer: &Session) -> Result<Option<watch::Receiver<Facts>>, BroadcastError> {
        let mut tables = self.tables();
        tables.check_present(viewer)?;
        let shown = viewer.shown().clone();
        let stream = shown.and_then(|shown| tables.streams.get_mut(&shown));
        let Some(stream) = stream else {
            return Ok(None);
        };
        let now = Facts::of(stream);
        let facts = stream.facts.get_or_insert_with(|| watch::Sender::new(now));
        let facts = facts.subscribe();
        if !tables.looked_at {
            tables.looked_at = true;
            tokio::spawn(look_regularly(Arc::downgrade(&self.0)));
        }
        Ok(Some(facts))
    }
}

/// Looks at the streams that anybody reads about, until there are none.
async fn look_regularly(shared: Weak<Shared>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for look in 0.. {
        looks.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // Whoever changes the tables may be waiting for the data plane.
        let look = tokio::task::spawn_blocking(move || lock(&shared.tables).look(look));
        if !look.await.is_ok_and(|goes_on| goes_on) {
            return;
        }
    }
}

impl Tables {
    /// Updates what is known of the streams that are read about; `false` when there are none.
    fn look(&mut self, look: usize) -> bool {
        let mut any = false;
        for stream in self.streams.values_mut() {
            let Some(facts) = &stream.facts else {
                continue;
            };
            let readers = facts.receiver_count();
            if readers == 0 {
                stream.facts = None;
                continue;
            }
            any = true;
            let now = Facts::of(stream);
            let count_now = look.is_multiple_of(readers.div_ceil(COUNTS_PER_LOOK));
            facts.send_if_modified(|before| before.update(now, count_now));
        }
        self.looked_at = any;
        any
    }
}

impl Stream {
    /// Tells at once that it is published, or not any more, or paused.
    pub(super) fn tell_publisher(&self) {
        let Some(facts) = &self.facts else { return };
        let on_air = self.publishers.on_air();
        let now = (on_air.is_some(), on_air.is_some_and(Publisher::is_paused));
        facts.send_if_modified(|before| {
            let was = (before.live, before.paused);
            (before.live, before.paused) = now;
            was != now
        });
    }
}

impl StreamEvent {
    fn kind(&self) -> EventKind {
        match self {
            Self::Active => EventKind::Active,
            Self::Inactive => EventKind::Inactive,
            Self::Paused(_) => EventKind::Paused,
            Self::Layers(_) => EventKind::Layers,
            Self::ViewerCount(_) => EventKind::ViewerCount,
            Self::Room(_) => EventKind::Room,
            Self::Slots(_) => EventKind::Slots,
            Self::Speaker(_) => EventKind::Speaker,
        }
    }
}

/// Reads a subscription.
pub struct EventReader {
    broadcast: Broadcast,
    session: Arc<Session>,
    subscription: Arc<Subscription>,
    signals: watch::Receiver<Signals>,
    reader: u64,
    moves: u64,
    /// `None` while the viewer is shown nothing.
    facts: Option<watch::Receiver<Facts>>,
    /// Of a viewer of a room.
    room: Option<watch::Receiver<RoomView>>,
    told_room: ToldRoom,
    told: Told,
}

impl EventReader {
    /// Waits for the next event; `None` when the subscription or its session has ended, or another
    /// reads it.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            while let Some(event) = self.news() {
                if self.subscription.wanted.contains(&event.kind()) {
                    return Some(event);
                }
            }
            self.change().await?;
        }
    }

    fn news(&mut self) -> Option<StreamEvent> {
        if let Some(room) = &mut self.room
            && let Some(event) = self.told_room.next(&room.borrow_and_update())
        {
            return Some(event);
        }
        let was_active = &self.subscription.was_active;
        match &mut self.facts {
            Some(facts) => self.told.next(&facts.borrow_and_update(), was_active),
            // To one who is shown nothing, nothing is published.
            None => self.told.live(false, was_active),
        }
    }

    /// Waits until something may be different; `None` at the end.
    async fn change(&mut self) -> Option<()> {
        let facts = async {
            match &mut self.facts {
                Some(facts) => facts.changed().await,
                None => std::future::pending().await,
            }
        };
        let room = async {
            match &mut self.room {
                // The other end lives in the session.
                Some(room) => drop(room.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.session.transport.closed() => return None,
            () = room => return Some(()),
            changed = facts => {
                if changed.is_ok() {
                    return Some(());
                }
                // The stream was forgotten, for nobody is shown it any more: the viewer was shown
                // another, or is leaving.
                self.facts = None;
                self.signals.changed().await.ok()?;
            }
            // The sender lives in `self`.
            _ = self.signals.changed() => {}
        }
        let (reader, moves) = {
            let signals = self.signals.borrow_and_update();
            (signals.readers, signals.moves)
        };
        if reader != self.reader {
            return None;
        }
        if moves != self.moves {
            self.moves = moves;
            self.told = Told::default();
            self.facts = self.broadcast.facts_of(&self.session).ok()?;
        }
        Some(())
    }
}
