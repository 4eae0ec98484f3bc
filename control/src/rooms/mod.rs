//! Rooms, in which everybody may hear and see everybody: any number of voices in few slots.
//!
//! A room is what streams share whose names begin alike: `kitchen~ann` and `kitchen~bob`, by whatever
//! door they are published, are the members `ann` and `bob` of the room `kitchen`. Who watches
//! `kitchen~` watches the room. Each track of such a viewer is a slot, in which the server shows one
//! member or another: those who talk, then those who talked last ([`speaker`]); never the viewer itself.
//!
//! [`Broadcast`](crate::broadcast::Broadcast) tells who publishes and who watches. One task, which is
//! there as long as any room is, looks at all voices every 100 ms, and at once at a room in which
//! somebody came or left. Nothing here touches media or HTTP, or waits for anything but the data plane.
//! Rooms take no configuration: each member counts as a stream, and each room that is watched as one
//! more, so that the bounds on streams and viewers bound them too.

mod info;
mod name;
mod room;
mod slots;
pub mod speaker;
mod view;
mod watcher;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::events::Events;
use crate::model::OutgoingStream;

pub use info::{MAX_WATCHERS_LISTED, MemberInfo, RoomDetails, RoomInfo, SlotInfo, WatcherInfo};
pub use name::RoomStream;
pub use view::{MAX_MEMBERS_TOLD, MemberView, MembersView, RoomView, SlotView, SlotsView};

pub(crate) use room::Publishing;

use room::Room;
use speaker::STEP;
use watcher::Watcher;

/// All rooms of a server; clones share them.
#[derive(Clone)]
pub struct Rooms(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    /// Somebody came or left.
    changed: Arc<Notify>,
    events: Events,
}

#[derive(Default)]
struct Table {
    rooms: HashMap<String, Room>,
    /// Rooms in which somebody came or left.
    changed: HashSet<String>,
    /// The task runs.
    running: bool,
}

impl Rooms {
    /// No rooms yet; what happens in them is told to `events`.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self(Arc::new(Shared {
            table: Mutex::default(),
            changed: Arc::default(),
            events,
        }))
    }

    /// Takes note of who publishes a stream now, if it is a member's. Call it inside the runtime, each
    /// time it is another one.
    pub(crate) fn published(&self, stream: &str, now: Option<Publishing<'_>>) {
        let Some(RoomStream::Member { room, member }) = RoomStream::parse(stream) else {
            return;
        };
        let mut table = self.0.table();
        if now.is_none() && !table.rooms.contains_key(room) {
            return;
        }
        let entry = table.rooms.entry(room.to_owned());
        let entry = entry.or_insert_with(|| Room::new(room));
        entry.published(member, now, &self.0.events);
        self.settle_soon(table, room);
    }

    /// Lets a viewer watch a room on all of its tracks. `member` is which of the members it is itself,
    /// if any. Call it inside the runtime.
    pub(crate) fn watch(
        &self,
        room: &str,
        member: Option<&str>,
        transport: u64,
        outgoing: &OutgoingStream,
    ) -> Seat {
        let watcher = Watcher::new(transport, member, outgoing.clone());
        let seat = Seat {
            rooms: self.clone(),
            room: room.to_owned(),
            watcher: Arc::new(watcher),
        };
        seat.take();
        seat
    }

    /// Every room, by name.
    pub fn list(&self) -> Vec<RoomInfo> {
        let table = self.0.table();
        let mut all: Vec<_> = table.rooms.values().map(Room::info).collect();
        all.sort_by(|a, b| a.room.cmp(&b.room));
        all
    }

    /// Everything about one room, if there is one of that name.
    pub fn get(&self, room: &str) -> Option<RoomDetails> {
        self.0.table().rooms.get(room).map(Room::details)
    }

    /// Has the task look at a room at once; it is started if there is none.
    fn settle_soon(&self, mut table: MutexGuard<'_, Table>, room: &str) {
        table.changed.insert(room.to_owned());
        if !std::mem::replace(&mut table.running, true) {
            tokio::spawn(run(Arc::downgrade(&self.0)));
        }
        drop(table);
        self.0.changed.notify_one();
    }
}

/// A viewer's place in a room.
pub(crate) struct Seat {
    rooms: Rooms,
    room: String,
    watcher: Arc<Watcher>,
}

impl Seat {
    /// What the viewer is shown, now and later.
    pub(crate) fn view(&self) -> watch::Receiver<RoomView> {
        self.watcher.view()
    }

    /// Has the viewer watch the room, from now on.
    pub(crate) fn take(&self) {
        let mut table = self.rooms.0.table();
        let room = table.rooms.entry(self.room.clone());
        let room = room.or_insert_with(|| Room::new(&self.room));
        room.seat(&self.watcher);
        self.rooms.settle_soon(table, &self.room);
    }

    /// Leaves the viewer's tracks to others, from now on.
    pub(crate) fn leave(&self) {
        let mut table = self.rooms.0.table();
        if let Some(room) = table.rooms.get_mut(&self.room) {
            room.unseat(&self.watcher);
            table.drop_if_empty(&self.room);
        }
    }
}

impl Table {
    fn drop_if_empty(&mut self, name: &str) {
        if self.rooms.get(name).is_some_and(Room::is_empty) {
            self.rooms.remove(name);
            self.changed.remove(name);
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all rooms, with a step of their voices, or at those in which somebody came or left;
    /// `false` when there is none.
    fn look(&self, step: bool) -> bool {
        let mut table = self.table();
        let mut changed = std::mem::take(&mut table.changed);
        if step {
            let rooms = table.rooms.iter_mut();
            let stirred = rooms.filter_map(|(name, room)| room.step(&self.events).then_some(name));
            changed.extend(stirred.cloned());
        }
        for name in changed {
            if let Some(room) = table.rooms.get_mut(&name) {
                room.settle();
            }
            table.drop_if_empty(&name);
        }
        table.running = !table.rooms.is_empty();
        table.running
    }
}

/// Looks after the rooms until there are none.
async fn run(shared: Weak<Shared>) {
    let mut steps = tokio::time::interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Some(changed) = shared.upgrade().map(|shared| Arc::clone(&shared.changed)) else {
        return;
    };
    loop {
        let step = tokio::select! {
            _ = steps.tick() => true,
            () = changed.notified() => false,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // To show somebody else may wait for the data plane.
        let look = tokio::task::spawn_blocking(move || shared.look(step));
        match look.await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) if error.is_panic() => tracing::error!("looking after the rooms panicked"),
            // The runtime ends.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
