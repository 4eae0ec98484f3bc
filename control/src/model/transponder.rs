//! Chooses which encoding of a track a viewer gets.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::model::incoming::{Encoding, IncomingTrack};

/// How the encoding is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    /// The best that comes in.
    #[default]
    Automatic,
    /// The one of this name while it comes in, else the best.
    Encoding(String),
    /// The best of those within bounds; if none is, the least.
    Within(Bounds),
}

/// Bounds on the picture of the encoding a viewer gets; `None`: unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Largest width in pixels.
    pub max_width: Option<u64>,
    /// Largest height in pixels.
    pub max_height: Option<u64>,
}

impl Bounds {
    fn hold(&self, encoding: &Encoding) -> bool {
        let counters = encoding.counters();
        let within = |value: u64, bound: Option<u64>| bound.is_none_or(|bound| value <= bound);
        within(counters.width.get(), self.max_width)
            && within(counters.height.get(), self.max_height)
    }
}

/// One viewer's choice for one track.
#[derive(Debug, Default)]
pub struct Transponder(Mutex<Selection>);

impl Transponder {
    /// How it chooses now.
    pub fn selection(&self) -> Selection {
        self.guard().clone()
    }

    /// Changes how it chooses.
    pub fn select(&self, selection: Selection) {
        *self.guard() = selection;
    }

    /// The encoding the viewer shall get.
    pub fn choose<'a>(&self, track: &'a IncomingTrack) -> &'a Encoding {
        let mut active = track.encodings().iter().filter(|one| one.is_active());
        let wanted = match &*self.guard() {
            Selection::Automatic => None,
            Selection::Encoding(name) => active.find(|encoding| encoding.name() == name),
            Selection::Within(bounds) => {
                let active: Vec<_> = active.collect();
                let fitting = active.iter().copied().filter(|one| bounds.hold(one));
                let best = fitting.max_by_key(|encoding| encoding.quality());
                best.or_else(|| active.into_iter().min_by_key(|one| one.quality()))
            }
        };
        wanted.unwrap_or_else(|| track.best_encoding())
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, Selection> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
