//! Somebody who watches a room: its slots, and what it is told. A room decides who is wanted; to show
//! them is done for all watchers of the room at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::slots::assign;
use super::view::{MembersView, RoomView, SlotView, SlotsView};
use crate::model::{OutgoingStream, OutgoingTrack};
use crate::sdp::MediaKind;

/// A publisher's name in the engine: what a slot is given to.
pub(super) type PublisherId = u64;

/// A viewer of a room.
pub(super) struct Watcher {
    /// Its transport.
    pub(super) transport: u64,
    /// Which of the members it is.
    pub(super) own: Option<String>,
    outgoing: OutgoingStream,
    slots: Mutex<Slots>,
    view: watch::Sender<RoomView>,
}

/// Who is in the slots of a watcher.
#[derive(Debug, Default)]
pub(super) struct Slots {
    audio: Vec<Option<PublisherId>>,
    video: Vec<Option<PublisherId>>,
}

impl Slots {
    pub(super) fn of(&self, kind: MediaKind) -> &[Option<PublisherId>] {
        match kind {
            MediaKind::Audio => &self.audio,
            _ => &self.video,
        }
    }

    fn of_mut(&mut self, kind: MediaKind) -> &mut [Option<PublisherId>] {
        match kind {
            MediaKind::Audio => &mut self.audio,
            _ => &mut self.video,
        }
    }
}

impl Watcher {
    pub(super) fn new(transport: u64, own: Option<&str>, outgoing: OutgoingStream) -> Self {
        let watcher = Self {
            transport,
            own: own.map(str::to_owned),
            outgoing,
            slots: Mutex::default(),
            view: watch::Sender::default(),
        };
        watcher.clear();
        watcher
    }

    pub(super) fn view(&self) -> watch::Receiver<RoomView> {
        self.view.subscribe()
    }

    /// Its tracks of a kind: the slots.
    pub(super) fn tracks(&self, kind: MediaKind) -> impl Iterator<Item = &OutgoingTrack> {
        let tracks = self.outgoing.tracks().iter();
        tracks
            .map(|track| &**track)
            .filter(move |track| track.kind() == kind)
    }

    /// Who is in its slots.
    pub(super) fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets who is in its slots: its tracks may show something else meanwhile.
    pub(super) fn clear(&self) {
        let empty = |kind| vec![None; self.tracks(kind).count()];
        *self.slots() = Slots {
            audio: empty(MediaKind::Audio),
            video: empty(MediaKind::Video),
        };
    }

    /// Gives the slots of a kind to those who are wanted first. Gives the tracks that are to show
    /// something else from now on, with whom.
    pub(super) fn assign(
        &self,
        kind: MediaKind,
        wanted: impl Iterator<Item = PublisherId>,
    ) -> Vec<(&OutgoingTrack, Option<PublisherId>)> {
        let mut slots = self.slots();
        let slots = slots.of_mut(kind);
        let before = slots.to_vec();
        let wanted: Vec<_> = wanted.take(slots.len()).collect();
        if !assign(slots, &wanted) {
            return Vec::new();
        }
        let changed = slots.iter().zip(before).zip(self.tracks(kind));
        changed
            .filter(|((now, before), _)| *now != before)
            .map(|((now, _), track)| (track, *now))
            .collect()
    }

    /// Tells the viewer what is so now.
    pub(super) fn tell<'a>(
        &self,
        members: &Arc<MembersView>,
        speaker: Option<&Arc<str>>,
        name_of: impl Fn(PublisherId) -> Option<&'a str>,
    ) {
        let named = |kind| -> Vec<SlotView> {
            let slots = self.slots();
            let each = self.tracks(kind).zip(slots.of(kind));
            each.map(|(track, publisher)| SlotView {
                mid: track.mid().to_owned(),
                member: publisher.and_then(&name_of).map(str::to_owned),
            })
            .collect()
        };
        let slots = SlotsView {
            audio: named(MediaKind::Audio),
            video: named(MediaKind::Video),
        };
        self.view.send_if_modified(|view| {
            let mut news = !Arc::ptr_eq(&view.members, members);
            view.members = Arc::clone(members);
            if *view.slots != slots {
                view.slots = Arc::new(slots);
                news = true;
            }
            if view.speaker.as_ref() != speaker {
                view.speaker = speaker.cloned();
                news = true;
            }
            news
        });
    }
}
