//! Which of a track's encodings fits a viewer's bandwidth: the engine's estimate and its
//! [`Choice`], put together with what comes in.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use fanmill_engine::bandwidth::choice::Choice;
use fanmill_engine::ids::RenditionId;

use crate::model::incoming::Encoding;

/// What one viewer's choice by bandwidth remembers.
#[derive(Debug)]
pub(super) struct Fitting {
    since: Instant,
    choice: Mutex<Choice>,
}

/// What a viewer's bandwidth is and what it is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Viewing {
    /// The encoding it is shown now.
    pub shown: Option<RenditionId>,
    /// What its way is estimated to carry, in bits per second; 0: not known.
    pub estimate_bps: u64,
}

impl Default for Fitting {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            choice: Mutex::default(),
        }
    }
}

impl Fitting {
    /// Of encodings that come in or are paused, the one to show; `None` if there are none.
    pub(super) fn choose<'a>(
        &self,
        encodings: impl Iterator<Item = &'a Encoding>,
        viewing: Viewing,
    ) -> Option<&'a Encoding> {
        let mut encodings: Vec<_> = encodings.collect();
        encodings.sort_by_key(|encoding| encoding.quality());
        let bitrates: Vec<_> = encodings
            .iter()
            .map(|encoding| encoding.needs_bps(Some(encoding.rendition()) == viewing.shown))
            .collect();
        let shown = encodings
            .iter()
            .position(|encoding| Some(encoding.rendition()) == viewing.shown);
        let now_us = self.since.elapsed().as_micros() as u64;
        let mut choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
        let before = choice.clone();
        let place = choice.choose(&bitrates, shown, viewing.estimate_bps, now_us)?;
        let chosen = *encodings.get(place)?;
        if chosen.is_paused() {
            // It is not shown yet: the same is chosen again, without a new wait, when it comes.
            *choice = before;
        }
        Some(chosen)
    }
}
