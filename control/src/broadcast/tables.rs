//! The tables of [`Broadcast`](super::Broadcast): the streams, who publishes and who watches each, and
//! the sessions of both.
//!
//! Whatever changes who is on air goes through here, and is shown to those who watch and told to those
//! who follow. It is behind one lock, and never waits for anything but the data plane.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use fanmill_engine::EngineError;
use fanmill_engine::ids::TransportId;
use serde_json::json;
use tokio::sync::watch;

use super::events;
use super::follow::Followed;
use super::playout::{self, DelayBounds, PlayoutRule};
use super::publisher::Publisher;
use super::publishers::{Publishers, Role, TakeoverBack};
use super::{BroadcastError, BroadcastLimits, Session};
use crate::events::Events;
use crate::model::{AttachError, CloseReason, Transport, TransportKind, Unshown, attach_all};
use crate::rooms::{Publishing, Rooms, Seat};

#[derive(Default)]
pub(super) struct Stream {
    pub(super) publishers: Publishers,
    /// Sessions that are shown this stream.
    pub(super) viewers: HashMap<String, Arc<Session>>,
    /// What is told of it; `None` as long as nobody reads about it.
    pub(super) facts: Option<watch::Sender<events::Facts>>,
    /// Who was last told to be on air.
    pub(super) announced: Option<Publisher>,
    /// Bounds on the delay before playing, if an operator has set any for it.
    pub(super) delay: Option<DelayBounds>,
}

pub(super) struct Tables {
    pub(super) streams: HashMap<String, Stream>,
    pub(super) sessions: HashMap<String, Arc<Session>>,
    pub(super) by_transport: HashMap<TransportId, Arc<Session>>,
    pub(super) followed: Followed,
    /// Somebody looks regularly at the streams that are read about.
    pub(super) looked_at: bool,
    pub(super) playout_rules: Vec<PlayoutRule>,
    pub(super) takeover_back: TakeoverBack,
    pub(super) events: Events,
    rooms: Rooms,
}

impl Tables {
    pub(super) fn new(events: Events, rooms: Rooms) -> Self {
        Self {
            streams: HashMap::new(),
            sessions: HashMap::new(),
            by_transport: HashMap::new(),
            followed: Followed::default(),
            looked_at: false,
            playout_rules: Vec::new(),
            takeover_back: TakeoverBack::default(),
            events,
            rooms,
        }
    }

    pub(super) fn check_room(
        &self,
        stream: &str,
        limits: BroadcastLimits,
    ) -> Result<(), BroadcastError> {
        if !self.streams.contains_key(stream) && self.streams.len() >= limits.max_streams {
            return Err(BroadcastError::TooManyStreams(limits.max_streams));
        }
        Ok(())
    }

    /// The bounds on the delay before playing that a stream has.
    pub(super) fn playout_delay(&self, stream: &str) -> Option<DelayBounds> {
        let set = self.streams.get(stream).and_then(|stream| stream.delay);
        set.or_else(|| playout::by_rule(&self.playout_rules, stream))
    }

    pub(super) fn check_present(&self, session: &Session) -> Result<(), BroadcastError> {
        let present = self.sessions.contains_key(&session.id);
        present.then_some(()).ok_or(BroadcastError::UnknownSession)
    }

    pub(super) fn enter(
        &mut self,
        kind: TransportKind,
        role: Role,
        stream: &str,
        transport: Transport,
        seat: Option<Seat>,
    ) -> Arc<Session> {
        let session = Arc::new(Session::new(kind, role, stream, transport, seat));
        self.sessions
            .insert(session.id.clone(), Arc::clone(&session));
        self.by_transport
            .insert(session.transport.id(), Arc::clone(&session));
        session
    }

    /// Notes that a viewer is shown another stream, or none.
    pub(super) fn move_viewer(&mut self, viewer: &Arc<Session>, stream: Option<&str>) {
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
        viewer
            .subscriptions()
            .iter()
            .for_each(|one| one.viewer_moved());
    }

    /// Takes a session off the lists of all sessions; `false` if it was taken off before.
    pub(super) fn forget(&mut self, session: &Session) -> bool {
        self.by_transport.remove(&session.transport.id());
        self.sessions.remove(&session.id).is_some()
    }

    pub(super) fn leave(&mut self, session: &Arc<Session>) {
        if !self.forget(session) {
            return;
        }
        match session.kind {
            TransportKind::View => {
                session.leave_seat();
                self.move_viewer(session, None);
            }
            TransportKind::Publish => {
                self.take_away(&session.stream, &Publisher::from(session));
            }
        }
    }

    /// The publisher in this place that may be replaced, if there is one at all.
    ///
    /// # Errors
    /// [`BroadcastError::Occupied`], [`BroadcastError::BackupOccupied`] by one that is alive.
    pub(super) fn check_free(
        &self,
        stream: &str,
        role: Role,
    ) -> Result<Option<Publisher>, BroadcastError> {
        let present = self.streams.get(stream);
        match present.and_then(|stream| stream.publishers.get(role).cloned()) {
            Some(publisher) if !publisher.is_dead() => Err(match role {
                Role::Primary => BroadcastError::Occupied(stream.to_owned()),
                Role::Backup => BroadcastError::BackupOccupied(stream.to_owned()),
            }),
            dead => Ok(dead),
        }
    }

    /// Ends a publisher whose place another one is about to take.
    pub(super) fn replace(&mut self, dead: &Publisher) {
        if let Some(session) = dead.session() {
            self.forget(session);
        }
        dead.close_for(CloseReason::Replaced);
    }

    /// Puts a publisher in its place, and on air if it is to be.
    pub(super) fn put(&mut self, stream: &str, role: Role, publisher: Publisher) {
        let entry = self.streams.entry(stream.to_owned()).or_default();
        entry.publishers.set(role, publisher);
        self.settle(stream);
    }

    /// Takes a publisher from its place, unless another one is there already.
    pub(super) fn take_away(&mut self, stream: &str, publisher: &Publisher) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.publishers.remove(publisher);
        }
        self.settle(stream);
        self.drop_if_unused(stream);
    }

    /// Shows the viewers of a stream the publisher they are to see now, if that is another one.
    pub(super) fn settle(&mut self, name: &str) {
        let takeover_back = self.takeover_back;
        if let Some(entry) = self.streams.get_mut(name)
            && entry.publishers.settle(takeover_back)
        {
            self.show_on_air(name);
        }
    }

    /// Shows who is on air now to all who watch or follow a stream.
    pub(super) fn show_on_air(&mut self, name: &str) {
        if let Some(entry) = self.streams.get_mut(name) {
            entry.announce(name, &self.events);
            self.followed.tell(name, entry.publishers.on_air());
            let publishing = entry.publishers.on_air().map(|publisher| Publishing {
                id: publisher.id(),
                source: publisher.source(),
                incoming: publisher.incoming(),
            });
            self.rooms.published(name, publishing);
            entry.tell_publisher();
            entry.show_on_air(name);
        }
    }

    pub(super) fn drop_if_unused(&mut self, name: &str) {
        let unused = |entry: &Stream| entry.publishers.is_empty() && entry.viewers.is_empty();
        if self.streams.get(name).is_some_and(unused) {
            self.streams.remove(name);
        }
    }
}

impl Stream {
    /// Tells the operator who is on air now, if that is another one than was told last.
    fn announce(&mut self, name: &str, events: &Events) {
        let now = self.publishers.on_air();
        let role = self.publishers.iter().find_map(|(role, publisher)| {
            let is_it = self.publishers.is_on_air(publisher);
            is_it.then_some(role)
        });
        let before = std::mem::replace(&mut self.announced, now.cloned());
        let (kind, publisher, reason) = match (&self.announced, &before) {
            (Some(now), None) => ("stream.published", now, None),
            (Some(now), Some(_)) => ("stream.switched", now, None),
            (None, Some(before)) => {
                let reason = before.close_reason().unwrap_or(CloseReason::Requested);
                ("stream.ended", before, Some(reason.to_string()))
            }
            (None, None) => return,
        };
        let mut details = json!({ "source": publisher.source(), "publisher": publisher.id() });
        if let Some(role) = role {
            details["role"] = json!(role);
        }
        if let Some(reason) = reason {
            details["reason"] = reason.into();
        }
        events.emit(kind, Some(name), details);
    }

    /// Shows all viewers the publisher that is on air, or nothing.
    pub(super) fn show_on_air(&self, name: &str) {
        let Some(publisher) = self.publishers.on_air() else {
            self.viewers.values().for_each(|viewer| show(viewer, None));
            return;
        };
        let began = Instant::now();
        let viewers = self.viewers.values();
        let viewers = viewers.map(|viewer| viewer.transport.outgoing());
        let Unshown { tracks, reason } = attach_all(viewers, publisher.incoming());
        tracing::info!(
            stream = name,
            source = publisher.source(),
            id = publisher.id(),
            viewers = self.viewers.len(),
            took_us = began.elapsed().as_micros() as u64,
            "publisher on air"
        );
        if let Some(reason) = reason {
            // They see what could be attached; an operator finds the rest here.
            tracing::warn!(stream = name, tracks, %reason, "cannot show all viewers the stream fully");
        }
    }
}

/// Shows a viewer what a publisher shares, or nothing.
pub(super) fn show(viewer: &Session, publisher: Option<&Publisher>) {
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
