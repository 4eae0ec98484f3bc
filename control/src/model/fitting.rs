//! Which of a track's encodings and layers fits a viewer's bandwidth: the engine's estimate and its
//! [`Choice`], put together with what comes in.
//!
//! The ladder it goes up and down has every size at its full frame rate; only below the least of them
//! frames are left out, for a picture that is small is better than one that stutters.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use fanmill_engine::bandwidth::choice::Choice;
use fanmill_engine::ids::RenditionId;
use fanmill_engine::packet::layer::Layers;

use crate::model::layers::Candidate;

/// What one viewer's choice by bandwidth remembers.
#[derive(Debug)]
pub(super) struct Fitting {
    since: Instant,
    choice: Mutex<Choice>,
}

/// What a viewer's bandwidth is and what it is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Viewing {
    /// The encoding it is shown now, and which of its layers.
    pub shown: Option<(RenditionId, Layers)>,
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
    /// Of what comes in or is paused, the one to show.
    ///
    /// # Panics
    /// When there is nothing.
    pub(super) fn choose<'a>(
        &self,
        candidates: Vec<Candidate<'a>>,
        viewing: Viewing,
    ) -> Candidate<'a> {
        let ladder = ladder(candidates);
        let (bitrates, shown) = bitrates(&ladder, viewing.shown);
        let now_us = self.since.elapsed().as_micros() as u64;
        let mut choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
        let before = choice.clone();
        let place = choice.choose(&bitrates, shown, viewing.estimate_bps, now_us);
        let chosen = ladder[place.expect("there is something to choose from")];
        if chosen.encoding.is_paused() {
            // It is not shown yet: the same is chosen again, without a new wait, when it comes.
            *choice = before;
        }
        chosen
    }
}

/// What each of a ladder needs, and the place of what is shown.
pub(super) fn bitrates(
    ladder: &[Candidate<'_>],
    shown: Option<(RenditionId, Layers)>,
) -> (Vec<u64>, Option<usize>) {
    let is_shown = |one: &Candidate<'_>| {
        let chosen = one.chosen();
        Some((chosen.encoding.rendition(), chosen.layers)) == shown
    };
    let needs = |one: &Candidate<'_>| match one.chosen().layers == Layers::default() {
        true => one.encoding.needs_bps(is_shown(one)),
        false => one.layer.bitrate_bps,
    };
    (
        ladder.iter().map(needs).collect(),
        ladder.iter().position(is_shown),
    )
}

pub(super) fn ladder(mut candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    candidates.sort_by_key(|one| (one.level, one.layer.temporal_layer));
    let least = candidates.first().map(|one| one.level);
    // Within bounds, the most fluent of a size may not be all there is.
    let most_fluent = |level: usize| {
        let of_level = candidates.iter().filter(|one| one.level == level);
        of_level.map(|one| one.layer.temporal_layer).max()
    };
    let in_ladder = |one: &&Candidate<'_>| {
        let fluent = one.fluent || most_fluent(one.level) == Some(one.layer.temporal_layer);
        fluent || Some(one.level) == least
    };
    candidates.iter().filter(in_ladder).copied().collect()
}
