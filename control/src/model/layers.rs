//! What a viewer of a track can be given: its encodings, each whole or only the lower of its layers.
//!
//! The engine measures every layer; here they are put together to what includes the layers below, which
//! the [`Transponder`](super::Transponder) chooses from and reports list.

use fanmill_engine::counters::Gauge;
use fanmill_engine::packet::layer::{Layers, MAX_LAYERS};
use serde::Serialize;

use crate::model::incoming::{Encoding, IncomingTrack};

/// Some layers of an encoding: one spatial and one temporal layer with all that they are predicted
/// from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerInfo {
    /// The highest spatial layer.
    pub spatial_layer: u8,
    /// The highest temporal layer.
    pub temporal_layer: u8,
    /// Bitrate of the last second, with the layers below.
    pub bitrate_bps: u64,
    /// Picture width in pixels; 0 when unknown.
    pub width: u64,
    /// Picture height in pixels; 0 when unknown.
    pub height: u64,
    /// Pictures a second.
    pub frames_per_second: f64,
}

/// What is chosen for a viewer: an encoding, and which of its layers.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    /// The encoding.
    pub encoding: &'a Encoding,
    /// Its layers.
    pub layers: Layers,
}

/// Something a viewer can be given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) encoding: &'a Encoding,
    pub(super) layer: LayerInfo,
    /// It has all temporal layers.
    pub(super) fluent: bool,
    /// Place of its picture among all sizes of the track, the least first.
    pub(super) level: usize,
}

impl<'a> Candidate<'a> {
    pub(super) fn chosen(&self) -> Chosen<'a> {
        let encoding = self.encoding;
        let layer = &self.layer;
        Chosen {
            encoding,
            layers: encoding.up_to(Some(layer.spatial_layer), Some(layer.temporal_layer)),
        }
    }
}

impl Encoding {
    /// What there is of it to choose from, the least first; nothing if it has no layers, or none comes.
    pub fn layers(&self) -> Vec<LayerInfo> {
        let counters = &self.counters().layers;
        let (spatial, temporal) = self.highest_layers();
        if (spatial, temporal) == (0, 0) {
            return Vec::new();
        }
        let independent = counters.independent.get();
        let whole = self.counters();
        let info = |s: u8, t: u8| {
            let from = if independent >> s & 1 == 1 { s } else { 0 };
            let sum = |gauges: &[[Gauge; MAX_LAYERS]; MAX_LAYERS], from: u8| {
                let rows = &gauges[usize::from(from)..=usize::from(s)];
                let cells = rows.iter().flat_map(|row| &row[..=usize::from(t)]);
                cells.map(Gauge::get).sum::<u64>()
            };
            let size = |told: &Gauge, of_whole: &Gauge| match (told.get(), s == spatial) {
                (0, true) => of_whole.get(),
                (told, _) => told,
            };
            LayerInfo {
                spatial_layer: s,
                temporal_layer: t,
                bitrate_bps: sum(&counters.bitrate_bps, from),
                width: size(&counters.width[usize::from(s)], &whole.width),
                height: size(&counters.height[usize::from(s)], &whole.height),
                frames_per_second: sum(&counters.frames_per_1000_s, s) as f64 / 1000.0,
            }
        };
        let spatial = 0..=spatial;
        let all = spatial.flat_map(|s| (0..=temporal).map(move |t| (s, t)));
        all.map(|(s, t)| info(s, t)).collect()
    }

    /// The highest spatial and temporal layer that come in.
    fn highest_layers(&self) -> (u8, u8) {
        let bitrates = &self.counters().layers.bitrate_bps;
        let mut highest = (0, 0);
        for (spatial, of_spatial) in bitrates.iter().enumerate() {
            for (temporal, bitrate) in of_spatial.iter().enumerate() {
                if bitrate.get() > 0 {
                    highest.0 = highest.0.max(spatial as u8);
                    highest.1 = highest.1.max(temporal as u8);
                }
            }
        }
        highest
    }

    /// Its layers up to these, as the engine knows them: those that are the highest bound nothing.
    pub(super) fn up_to(&self, spatial: Option<u8>, temporal: Option<u8>) -> Layers {
        let highest = self.highest_layers();
        let bound = |wanted: Option<u8>, highest| {
            let wanted = wanted.filter(|wanted| *wanted < highest);
            wanted.unwrap_or(Layers::UNBOUNDED)
        };
        Layers {
            spatial: bound(spatial, highest.0),
            temporal: bound(temporal, highest.1),
            keyframes_only: false,
        }
    }
}

impl IncomingTrack {
    /// Whether viewers can be given one thing or another.
    pub(super) fn has_choice(&self) -> bool {
        self.encodings().len() > 1 || self.is_layered()
    }

    /// Whether any of its encodings comes in layers.
    pub fn is_layered(&self) -> bool {
        let mut encodings = self.encodings().iter();
        encodings.any(|one| one.is_active() && one.highest_layers() != (0, 0))
    }

    /// All that viewers can be given of what comes in or is paused, by encoding, and the least layers first.
    pub(super) fn candidates(&self) -> Vec<Candidate<'_>> {
        let to_be_had = |one: &&Encoding| one.is_active() || one.is_paused();
        let offered = self.encodings().iter().filter(to_be_had);
        let mut candidates: Vec<_> = offered.flat_map(candidates_of).collect();
        let area = |one: &Candidate<'_>| {
            let pixels = one.layer.width * one.layer.height;
            (pixels, one.encoding.quality(), one.layer.spatial_layer)
        };
        let mut areas: Vec<_> = candidates.iter().map(area).collect();
        areas.sort_unstable();
        areas.dedup();
        for one in &mut candidates {
            one.level = areas.binary_search(&area(one)).unwrap_or(0);
        }
        candidates
    }
}

fn candidates_of(encoding: &Encoding) -> Vec<Candidate<'_>> {
    let counters = encoding.counters();
    let mut layers = encoding.layers();
    if layers.is_empty() {
        layers.push(LayerInfo {
            spatial_layer: 0,
            temporal_layer: 0,
            bitrate_bps: encoding.bitrate_bps(),
            width: counters.width.get(),
            height: counters.height.get(),
            frames_per_second: 0.0,
        });
    }
    let highest = layers.iter().map(|layer| layer.temporal_layer).max();
    let candidate = |layer: LayerInfo| Candidate {
        encoding,
        layer,
        fluent: Some(layer.temporal_layer) == highest,
        level: 0,
    };
    layers.into_iter().map(candidate).collect()
}
