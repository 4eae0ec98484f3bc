//! What is known of a player outside the pacing thread: its state, where it is, what happened.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use super::timeline::NORMAL_RATE;
use crate::clock::now_us;

/// Events kept for a listener that is slow: some minutes of positions.
const EVENTS_KEPT: usize = 64;

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlayerState {
    /// Made, not played yet.
    Ready,
    /// Plays.
    Playing,
    /// Shows one frame.
    Paused,
    /// Has played everything, and shows the last frame.
    Ended,
    /// Is gone.
    Stopped,
}

/// What happened to a player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "event")]
#[non_exhaustive]
pub enum PlayerEvent {
    /// It plays.
    Playing,
    /// It was paused.
    Paused,
    /// About once a second while it plays.
    Position {
        /// The file's place in the playlist.
        item: usize,
        /// Where in that file, in microseconds.
        position_us: i64,
    },
    /// Everything was played; it can be sought and played again.
    Ended,
    /// It is gone.
    Stopped {
        /// Why the file could not be played on; `None` if somebody stopped it.
        error: Option<String>,
    },
}

/// Where a player is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayerStatus {
    /// What it does.
    pub state: PlayerState,
    /// The file's place in the playlist.
    pub item: usize,
    /// Where in that file, in microseconds.
    pub position_us: i64,
    /// Thousandths of normal speed.
    pub rate: u32,
    /// Why the file could not be played on.
    pub error: Option<String>,
}

struct Inner {
    status: PlayerStatus,
    /// When the position was that.
    at_us: i64,
}

/// Written by the pacing thread, read by anybody.
pub(super) struct Shared {
    inner: Mutex<Inner>,
    events: broadcast::Sender<PlayerEvent>,
}

impl Shared {
    pub(super) fn new(rate: u32) -> Self {
        let status = PlayerStatus {
            state: PlayerState::Ready,
            item: 0,
            position_us: 0,
            rate,
            error: None,
        };
        Self {
            inner: Mutex::new(Inner { status, at_us: 0 }),
            events: broadcast::Sender::new(EVENTS_KEPT),
        }
    }

    /// Where it is now: it moves on from the latest frame.
    pub(super) fn status(&self) -> PlayerStatus {
        let inner = self.inner();
        let mut status = inner.status.clone();
        if status.state == PlayerState::Playing {
            let elapsed = (now_us() - inner.at_us).clamp(0, 1_000_000);
            status.position_us += elapsed * i64::from(status.rate) / i64::from(NORMAL_RATE);
        }
        status
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<PlayerEvent> {
        self.events.subscribe()
    }

    pub(super) fn tell(&self, event: PlayerEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    pub(super) fn reached(&self, item: usize, position_us: i64, at_us: i64) {
        let mut inner = self.inner();
        inner.status.item = item;
        inner.status.position_us = position_us.max(0);
        inner.at_us = at_us;
    }

    pub(super) fn moved(&self, item: usize, position_us: i64, at_us: i64) {
        self.reached(item, position_us, at_us);
        self.tell(PlayerEvent::Position { item, position_us });
    }

    pub(super) fn set_rate(&self, rate: u32, at_us: i64) {
        let mut inner = self.inner();
        inner.status.rate = rate;
        inner.at_us = at_us;
    }

    pub(super) fn set_state(&self, state: PlayerState, at_us: i64) {
        let mut inner = self.inner();
        inner.status.state = state;
        inner.at_us = at_us;
        drop(inner);
        match state {
            PlayerState::Playing => self.tell(PlayerEvent::Playing),
            PlayerState::Paused => self.tell(PlayerEvent::Paused),
            PlayerState::Ended => self.tell(PlayerEvent::Ended),
            PlayerState::Ready | PlayerState::Stopped => {}
        }
    }

    pub(super) fn stopped(&self, error: Option<String>) {
        let mut inner = self.inner();
        if inner.status.state == PlayerState::Stopped {
            return;
        }
        inner.status.state = PlayerState::Stopped;
        inner.status.error.clone_from(&error);
        drop(inner);
        self.tell(PlayerEvent::Stopped { error });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
