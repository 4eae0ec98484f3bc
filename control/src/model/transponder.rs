//! Chooses which encoding of a track a viewer gets, and which of its layers.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use fanmill_engine::bandwidth::share::Ladder;
use fanmill_engine::ids::RenditionId;
use fanmill_engine::packet::layer::Layers;

use crate::model::fitting::{self, Fitting, Viewing};
use crate::model::incoming::{Encoding, IncomingTrack};
use crate::model::layers::{Candidate, Chosen};
use crate::model::traversal::Traversal;
use crate::sdp::MediaKind;

#[cfg(test)]
mod tests;

/// How the encoding and its layers are chosen. By default it is the best that comes in and that the
/// viewer's bandwidth, if it is known, has room for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// The encoding of this name while it comes in, whatever the viewer's bandwidth.
    pub encoding: Option<String>,
    /// Up to this spatial layer, likewise.
    pub spatial_layer: Option<u8>,
    /// Up to this temporal layer, likewise.
    pub temporal_layer: Option<u8>,
    /// Keyframes alone, whatever the viewer's bandwidth: as many as the publisher makes.
    pub keyframes_only: bool,
    /// Nothing beyond these bounds; if all is, the least there is.
    pub within: Bounds,
    /// What fits this bitrate, in place of the viewer's bandwidth.
    pub target: Option<Target>,
}

impl Selection {
    /// An encoding by hand.
    pub fn encoding(name: impl Into<String>) -> Self {
        Self {
            encoding: Some(name.into()),
            ..Self::default()
        }
    }

    /// Layers by hand, of the best encoding.
    pub fn layers(spatial: Option<u8>, temporal: Option<u8>) -> Self {
        Self {
            spatial_layer: spatial,
            temporal_layer: temporal,
            ..Self::default()
        }
    }

    /// The best within bounds.
    pub fn within(bounds: Bounds) -> Self {
        Self {
            within: bounds,
            ..Self::default()
        }
    }

    /// The best for a bitrate.
    pub fn target(target: Target) -> Self {
        Self {
            target: Some(target),
            ..Self::default()
        }
    }

    /// Whether anything is chosen by hand: then bandwidth is not asked.
    fn by_hand(&self) -> bool {
        self.keyframes_only
            || self.encoding.is_some()
            || self.spatial_layer.is_some()
            || self.temporal_layer.is_some()
    }
}

/// Bounds on what a viewer gets; `None`: unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Largest width in pixels.
    pub max_width: Option<u64>,
    /// Largest height in pixels.
    pub max_height: Option<u64>,
    /// Highest spatial layer.
    pub max_spatial_layer: Option<u8>,
    /// Highest temporal layer.
    pub max_temporal_layer: Option<u8>,
}

impl Bounds {
    fn hold(&self, candidate: &Candidate<'_>) -> bool {
        let layer = &candidate.layer;
        layer.width <= self.max_width.unwrap_or(u64::MAX)
            && layer.height <= self.max_height.unwrap_or(u64::MAX)
            && layer.spatial_layer <= self.max_spatial_layer.unwrap_or(u8::MAX)
            && layer.temporal_layer <= self.max_temporal_layer.unwrap_or(u8::MAX)
    }
}

/// A bitrate that what a viewer gets is to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// In bits per second of the payload.
    pub bitrate_bps: u64,
    /// In which order to look for what fits.
    pub traversal: Traversal,
    /// If nothing fits the viewer gets nothing, instead of the least there is.
    pub strict: bool,
    /// Going to a lesser encoding, it keeps the one it has until the other begins.
    pub smooth: bool,
}

impl Target {
    /// A bitrate to keep to as well as it goes.
    pub fn new(bitrate_bps: u64) -> Self {
        Self {
            bitrate_bps,
            traversal: Traversal::default(),
            strict: false,
            smooth: true,
        }
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

    /// What it may choose from by bandwidth.
    pub(super) fn ladder(
        &self,
        track: &IncomingTrack,
        shown: Option<(RenditionId, Layers)>,
    ) -> Ladder {
        let selection = self.guard();
        let candidates = track.candidates();
        let within = candidates.iter().filter(|one| selection.within.hold(one));
        let within: Vec<_> = within.copied().collect();
        // What is chosen by hand is all there is for it.
        let (bitrates_bps, place) = fitting::bitrates(&fitting::ladder(within), shown);
        match (selection.by_hand() || selection.target.is_some(), place) {
            (false, shown) => Ladder {
                bitrates_bps,
                shown,
            },
            (true, Some(place)) => Ladder {
                bitrates_bps: vec![bitrates_bps[place]],
                shown: Some(0),
            },
            (true, None) => Ladder::default(),
        }
    }

    /// What the viewer shall get; `None`: nothing, for nothing fits what must. Of what is paused, the
    /// publisher is asked for it, and until it comes the viewer gets the best that is no better.
    pub fn choose<'a>(&self, track: &'a IncomingTrack, viewing: Viewing) -> Option<Chosen<'a>> {
        let wanted = self.wanted(track, viewing)?;
        let chosen = match wanted.encoding.is_paused() {
            true => instead_of(&wanted, track),
            false => wanted,
        };
        let keyframes_only = self.guard().keyframes_only && track.kind() == MediaKind::Video;
        Some(match keyframes_only {
            true => Chosen {
                layers: chosen.layers.keyframes(),
                ..chosen
            },
            false => chosen,
        })
    }

    fn wanted<'a>(&self, track: &'a IncomingTrack, viewing: Viewing) -> Option<Chosen<'a>> {
        let best = Chosen {
            encoding: track.best_encoding(),
            layers: Default::default(),
        };
        let selection = self.guard();
        // What is the same for all needs no choice, but for a bitrate that must be kept to.
        if !track.has_choice() && selection.target.is_none_or(|target| !target.strict) {
            return Some(best);
        }
        let candidates = track.candidates();
        let Some(least) = candidates
            .iter()
            .min_by_key(|one| (one.level, one.layer.temporal_layer))
            .copied()
        else {
            return Some(best);
        };
        let within = candidates.iter().filter(|one| selection.within.hold(one));
        let within: Vec<_> = within.copied().collect();
        if let Some(target) = &selection.target {
            return target.choose(within, least).map(|one| one.chosen());
        }
        if within.is_empty() {
            return Some(least.chosen());
        }
        Some(match selection.by_hand() {
            true => by_hand(&selection, within),
            false => self.fitting.choose(within, viewing).chosen(),
        })
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, Selection> {
        self.selection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Target {
    fn choose<'a>(
        &self,
        mut candidates: Vec<Candidate<'a>>,
        least: Candidate<'a>,
    ) -> Option<Candidate<'a>> {
        self.traversal.sort(&mut candidates);
        let fits = |one: &&Candidate<'_>| (1..=self.bitrate_bps).contains(&one.layer.bitrate_bps);
        let fitting = candidates.iter().find(fits).copied();
        let known = candidates.iter().filter(|one| one.layer.bitrate_bps > 0);
        let cheapest = || known.min_by_key(|one| one.layer.bitrate_bps).copied();
        match self.strict {
            true => fitting,
            false => fitting.or_else(cheapest).or(Some(least)),
        }
    }
}

/// Asks the publisher for an encoding that is paused; the best that comes and is no better, meanwhile.
fn instead_of<'a>(paused: &Chosen<'_>, track: &'a IncomingTrack) -> Chosen<'a> {
    paused.encoding.ask();
    let active = track.encodings().iter().filter(|one| one.is_active());
    let no_better = active.filter(|one| one.quality() <= paused.encoding.quality());
    let instead = no_better.max_by_key(|one| one.quality());
    Chosen {
        encoding: instead.unwrap_or_else(|| track.best_encoding()),
        layers: Default::default(),
    }
}

/// The encoding of a name, or else the best; and the layers that are asked for or bounded, or else all.
fn by_hand<'a>(selection: &Selection, within: Vec<Candidate<'a>>) -> Chosen<'a> {
    let named = |one: &&Candidate<'_>| match &selection.encoding {
        Some(name) => one.encoding.name() == name,
        None => true,
    };
    let best = |one: &&Candidate<'_>| (one.level, one.layer.temporal_layer);
    let of_name = within.iter().filter(named).max_by_key(best);
    // There is one, or there was nothing to choose from.
    let found = of_name.or_else(|| within.iter().max_by_key(best));
    let found = found.expect("there is something within the bounds");
    let encoding: &Encoding = found.encoding;
    let asked = |layer: Option<u8>, highest: u8| layer.map_or(highest, |layer| layer.min(highest));
    let spatial = asked(selection.spatial_layer, found.layer.spatial_layer);
    let temporal = asked(selection.temporal_layer, found.layer.temporal_layer);
    Chosen {
        encoding,
        layers: encoding.up_to(Some(spatial), Some(temporal)),
    }
}
