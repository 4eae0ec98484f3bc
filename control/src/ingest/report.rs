//! What is known of an ingest outside its thread: counts, warnings, drift.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::json;

use super::{IngestSpec, TrackFormat};
use crate::events::Events;

/// Warnings kept: there are a few kinds.
const MAX_WARNINGS: usize = 16;

/// Time that a bit rate is taken over.
const RATE_OVER_US: i64 = 1_000_000;

/// Drift that is not known yet.
const NO_DRIFT: i64 = i64::MIN;

/// An ingest in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IngestInfo {
    /// Its name in lists.
    pub id: u64,
    /// The stream it is published as.
    pub stream: String,
    /// The protocol it came by.
    pub source: &'static str,
    /// The other end.
    pub remote: String,
    /// Its tracks.
    pub tracks: Vec<IngestTrackInfo>,
    /// By how much the source's clock is faster than ours, in millionths, once that can be told.
    pub drift_ppm: Option<f64>,
    /// How often the source's times leapt.
    pub leaps: u64,
    /// What is wrong with what comes, with its cure.
    pub warnings: Vec<String>,
    /// Seconds since it began.
    pub age_s: u64,
}

/// A track of an ingest in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IngestTrackInfo {
    /// `video` or `audio`.
    pub kind: &'static str,
    /// What comes in; sound leaves as Opus.
    pub codec: &'static str,
    /// Bits per second that come in.
    pub bitrate_bps: u64,
    /// Pictures or packets of sound that came in.
    pub units: u64,
    /// Of these, not sent on: damaged, waiting for a keyframe, or too many at once.
    pub dropped: u64,
    /// Packets that were lost on the way, where the protocol can tell.
    pub lost: u64,
    /// Pictures that came out of the order they are shown in.
    pub b_frames: u64,
}

/// The counts of a track.
#[derive(Debug, Default)]
pub(super) struct TrackReport {
    pub(super) units: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) b_frames: AtomicU64,
    bitrate_bps: AtomicU64,
    rate_from_us: AtomicI64,
    bytes: AtomicU64,
}

impl TrackReport {
    /// Counts a unit that came. Called by one thread at a time.
    pub(super) fn came(&self, bytes: usize, now_us: i64) {
        self.units.fetch_add(1, Relaxed);
        let bytes = self.bytes.fetch_add(bytes as u64, Relaxed) + bytes as u64;
        let passed_us = now_us.saturating_sub(self.rate_from_us.load(Relaxed));
        if passed_us >= RATE_OVER_US {
            let bps = bytes.saturating_mul(8_000_000) / passed_us.unsigned_abs();
            self.bitrate_bps.store(bps, Relaxed);
            self.bytes.store(0, Relaxed);
            self.rate_from_us.store(now_us, Relaxed);
        }
    }

    fn bitrate_bps(&self, now_us: i64) -> u64 {
        let since_us = now_us.saturating_sub(self.rate_from_us.load(Relaxed));
        match since_us > 3 * RATE_OVER_US {
            true => 0,
            false => self.bitrate_bps.load(Relaxed),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) tracks: Vec<TrackReport>,
    pub(super) leaps: AtomicU64,
    pub(super) keyframe_wanted: AtomicBool,
    /// In thousandths of a millionth.
    drift: AtomicI64,
    warnings: Mutex<Vec<String>>,
    stream: String,
    source: &'static str,
    events: Events,
}

impl Report {
    pub(super) fn new(spec: &IngestSpec, tracks: usize, now_us: i64, events: Events) -> Self {
        let track = |_| TrackReport {
            rate_from_us: AtomicI64::new(now_us),
            ..TrackReport::default()
        };
        Self {
            tracks: (0..tracks).map(track).collect(),
            leaps: AtomicU64::new(0),
            keyframe_wanted: AtomicBool::new(false),
            drift: AtomicI64::new(NO_DRIFT),
            warnings: Mutex::default(),
            stream: spec.stream.clone(),
            source: spec.source,
            events,
        }
    }

    /// Says what is wrong and how to cure it, in log, events and lists: once.
    pub(super) fn warn(&self, warning: &str) {
        let mut warnings = self.warnings();
        if warnings.len() < MAX_WARNINGS && warnings.iter().all(|known| known != warning) {
            warnings.push(warning.to_owned());
            drop(warnings);
            tracing::warn!(stream = self.stream, source = self.source, "{warning}");
            let details = json!({ "source": self.source, "warning": warning });
            self.events
                .emit("ingest.warning", Some(&self.stream), details);
        }
    }

    pub(super) fn set_drift(&self, ppm: Option<f64>) {
        let drift = ppm.map_or(NO_DRIFT, |ppm| (ppm * 1000.0) as i64);
        self.drift.store(drift, Relaxed);
    }

    fn warnings(&self) -> MutexGuard<'_, Vec<String>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn info(
        &self,
        id: u64,
        spec: &IngestSpec,
        formats: &[TrackFormat],
        now_us: i64,
        age_s: u64,
    ) -> IngestInfo {
        let track = |(format, report): (&TrackFormat, &TrackReport)| IngestTrackInfo {
            kind: if format.is_video() { "video" } else { "audio" },
            codec: format.name(),
            bitrate_bps: report.bitrate_bps(now_us),
            units: report.units.load(Relaxed),
            dropped: report.dropped.load(Relaxed),
            lost: report.lost.load(Relaxed),
            b_frames: report.b_frames.load(Relaxed),
        };
        let drift = self.drift.load(Relaxed);
        IngestInfo {
            id,
            stream: spec.stream.clone(),
            source: spec.source,
            remote: spec.remote.clone(),
            tracks: formats.iter().zip(&self.tracks).map(track).collect(),
            drift_ppm: (drift != NO_DRIFT).then(|| drift as f64 / 1000.0),
            leaps: self.leaps.load(Relaxed),
            warnings: self.warnings().clone(),
            age_s,
        }
    }
}
