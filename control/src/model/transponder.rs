//! Chooses which encoding of a track a viewer gets.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::model::fitting::{Fitting, Viewing};
use crate::model::incoming::{Encoding, IncomingTrack};

/// How the encoding is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    /// The best that comes in and that the viewer's bandwidth, if it is known, has room for.
    #[default]
    Automatic,
    /// The one of this name while it comes in, else the best.
    Encoding(String),
    /// The same of those within bounds; if none is, the least.
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
pub struct Transponder {
    selection: Mutex<Selection>,
    fitting: Fitting,
}

impl Transponder {
    /// How it chooses now.
    pub fn selection(&self) -> Selection {
        self.guard().clone()
    }

    /// Changes how it chooses.
    pub fn select(&self, selection: Selection) {
        *self.guard() = selection;
    }

    /// The encodings it may choose, the least first.
    pub(super) fn among<'a>(&self, track: &'a IncomingTrack) -> Vec<&'a Encoding> {
        let selection = self.guard();
        let may = |one: &&Encoding| match &*selection {
            Selection::Automatic => true,
            Selection::Encoding(name) => one.name() == name,
            Selection::Within(bounds) => bounds.hold(one),
        };
        let offered = track.encodings().iter();
        let offered = offered.filter(|one| one.is_active() || one.is_paused());
        let mut among: Vec<_> = offered.filter(may).collect();
        among.sort_by_key(|one| one.quality());
        among
    }

    /// The encoding the viewer shall get.
    pub fn choose<'a>(&self, track: &'a IncomingTrack, viewing: Viewing) -> &'a Encoding {
        let to_be_had = |one: &&Encoding| one.is_active() || one.is_paused();
        let mut offered = track.encodings().iter().filter(to_be_had);
        let wanted = match &*self.guard() {
            // What is the same for all needs no choice.
            _ if track.encodings().len() == 1 => None,
            Selection::Automatic => self.fitting.choose(offered, viewing),
            Selection::Encoding(name) => offered.find(|encoding| encoding.name() == name),
            Selection::Within(bounds) => {
                let within = offered.clone().filter(|one| bounds.hold(one));
                let fitting = self.fitting.choose(within, viewing);
                fitting.or_else(|| offered.min_by_key(|one| one.quality()))
            }
        };
        let wanted = wanted.unwrap_or_else(|| track.best_encoding());
        if !wanted.is_paused() {
            return wanted;
        }
        // Until it comes, the best of those that come and are no better, or else what there is.
        wanted.ask();
        let active = track.encodings().iter().filter(|one| one.is_active());
        let no_better = active.filter(|one| one.quality() <= wanted.quality());
        let instead = no_better.max_by_key(|one| one.quality());
        instead.unwrap_or_else(|| track.best_encoding())
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, Selection> {
        self.selection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
