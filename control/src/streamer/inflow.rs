//! What the senders of a session come to: a live stream, from when it is known what its tracks are.
//!
//! Whoever receives (a session of plain RTP, an RTSP publisher or pull) hands over what its
//! [`Source`](super::source::Source)s read, one for each media section. The stream stays while senders
//! pause; it is made anew only when other tracks come. It knows no socket.

use bytes::Bytes;

use super::reader::{Lane, Read, ReadUnit};
use crate::clock::now_us;
use crate::ingest::{Ingest, IngestError, IngestSpec, Ingests, TrackFormat, Unit};
use crate::model::CloseReason;

/// The stream begins without a track of which nothing came for this long.
const START_WAIT_US: u64 = 2_000_000;

/// And without one whose packets come, but not yet what can be decoded: pictures whose keyframes are
/// far apart.
const KEYFRAME_WAIT_US: u64 = 12_000_000;

/// What is kept until the stream begins: from a keyframe on, since the next one may be far.
const MAX_HELD_US: u64 = 3_000_000;
const MAX_HELD_BYTES: usize = 8 << 20;

/// Before a stream that could not be begun is tried again.
const RETRY_US: u64 = 2_000_000;

/// A track of the stream.
#[derive(Debug)]
struct Track {
    media: usize,
    lane: Lane,
    is_video: bool,
    format: Option<TrackFormat>,
}

/// A unit that waits for the stream to begin.
struct Held {
    media: usize,
    lane: Lane,
    unit: ReadUnit,
    at_us: u64,
}

/// The stream as it is published.
struct Running {
    ingest: Ingest,
    /// Which tracks it has, in its order.
    tracks: Vec<(usize, Lane)>,
}

/// See the module.
pub(crate) struct Inflow {
    ingests: Ingests,
    spec: IngestSpec,
    tracks: Vec<Track>,
    /// Of each media section: its tracks are known.
    settled: Vec<bool>,
    running: Option<Running>,
    held: Vec<Held>,
    /// When the first packet came since there is no stream.
    began_us: Option<u64>,
    retry_us: u64,
    error: Option<String>,
}

impl Inflow {
    /// Of so many media sections, nothing of which has come.
    pub(crate) fn new(ingests: Ingests, spec: IngestSpec, media: usize) -> Self {
        Self {
            ingests,
            spec,
            tracks: Vec::new(),
            settled: vec![false; media],
            running: None,
            held: Vec::new(),
            began_us: None,
            retry_us: 0,
            error: None,
        }
    }

    /// Whether the stream is there.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Why it is not.
    pub(crate) fn error(&self) -> Option<&String> {
        self.error.as_ref()
    }

    /// Says who sends it, in lists.
    pub(crate) fn set_remote(&mut self, remote: String) {
        self.spec.remote = remote;
    }

    /// Whether a viewer waits for a keyframe since the last call.
    pub(crate) fn take_keyframe_request(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.ingest.take_keyframe_request())
    }

    /// Waits until the stream ends by somebody else; for ever while there is none.
    pub(crate) async fn closed(&self) -> CloseReason {
        match &self.running {
            Some(running) => running.ingest.closed().await,
            None => std::future::pending().await,
        }
    }

    /// It was closed for this reason. Whether it was meant to be: otherwise it begins again.
    pub(crate) fn ended(&mut self, reason: &CloseReason) -> bool {
        self.running = None;
        match reason {
            CloseReason::Requested | CloseReason::Shutdown => true,
            // Somebody else has the name now, or a shard failed: it is tried again.
            reason => {
                self.error = Some(reason.to_string());
                self.retry_us = clock_us() + RETRY_US;
                false
            }
        }
    }

    /// Ends the stream; its name is free when this returns.
    pub(crate) async fn stop(self) {
        drop(self.running);
        self.ingests.settled(&self.spec.stream).await;
    }

    /// Carries out what the source of a media section came to.
    pub(crate) fn take(&mut self, media: usize, reads: impl IntoIterator<Item = Read>) {
        for read in reads {
            match read {
                Read::Lanes(lanes) => self.lanes(media, &lanes),
                Read::Format(lane, format) => self.format(media, lane, format),
                Read::Unit(lane, unit) => self.unit(media, lane, unit),
                Read::Lost(packets) => self.lost(media, packets),
            }
        }
    }

    fn lanes(&mut self, media: usize, lanes: &[(Lane, bool)]) {
        self.began_us.get_or_insert_with(clock_us);
        self.settled[media] = true;
        let known = |lane: Lane| lanes.iter().any(|&(known, _)| known == lane);
        self.tracks
            .retain(|track| track.media != media || known(track.lane));
        for &(lane, is_video) in lanes {
            let is_new = |track: &Track| (track.media, track.lane) != (media, lane);
            if self.tracks.iter().all(is_new) {
                self.tracks.push(Track {
                    media,
                    lane,
                    is_video,
                    format: None,
                });
            }
        }
        self.tracks.sort_by_key(|track| (track.media, track.lane));
    }

    fn format(&mut self, media: usize, lane: Lane, format: TrackFormat) {
        let of = |track: &&mut Track| (track.media, track.lane) == (media, lane);
        let Some(track) = self.tracks.iter_mut().find(of) else {
            return;
        };
        track.format = Some(format.clone());
        let Some(running) = &self.running else {
            return;
        };
        let place = running.tracks.iter().position(|&of| of == (media, lane));
        let changed = place.map(|place| running.ingest.set_format(place, format));
        // Another codec, or a track that the stream has not yet: it begins anew, viewers stay.
        if !matches!(changed, Some(Ok(()))) {
            self.restart();
        }
    }

    fn unit(&mut self, media: usize, lane: Lane, unit: ReadUnit) {
        let Some(running) = &self.running else {
            self.hold(media, lane, unit);
            return;
        };
        let Some(track) = running.tracks.iter().position(|&of| of == (media, lane)) else {
            return;
        };
        // Closed: the task hears of it.
        let _ = running.ingest.push(Unit {
            track,
            pts_us: unit.pts_us,
            dts_us: unit.dts_us,
            is_keyframe: unit.keyframe,
            data: Bytes::from(unit.data),
        });
    }

    /// Tells the ingest of packets that did not come.
    fn lost(&self, media: usize, packets: u64) {
        if let Some(running) = &self.running
            && let Some(track) = running.tracks.iter().position(|of| of.0 == media)
        {
            running.ingest.lost(track, packets);
        }
    }

    /// Keeps a unit for when the stream begins.
    fn hold(&mut self, media: usize, lane: Lane, unit: ReadUnit) {
        let now_us = clock_us();
        let of = |track: &&Track| (track.media, track.lane) == (media, lane);
        let is_video = self
            .tracks
            .iter()
            .find(of)
            .is_some_and(|track| track.is_video);
        let is_of_track = |held: &Held| (held.media, held.lane) == (media, lane);
        if is_video && unit.keyframe {
            self.held.retain(|held| !is_of_track(held));
        } else if is_video && !self.held.iter().any(is_of_track) {
            return;
        }
        self.held.push(Held {
            media,
            lane,
            unit,
            at_us: now_us,
        });
        let bytes: usize = self.held.iter().map(|held| held.unit.data.len()).sum();
        let oldest_us = self.held.first().map_or(now_us, |held| held.at_us);
        if bytes > MAX_HELD_BYTES || now_us.saturating_sub(oldest_us) > MAX_HELD_US {
            self.held.clear();
        }
    }

    /// Ends the stream to begin it with other tracks.
    fn restart(&mut self) {
        if let Some(running) = self.running.take() {
            tokio::task::spawn_blocking(move || drop(running));
        }
        self.retry_us = 0;
        self.began_us = Some(clock_us());
    }

    /// Begins the stream if it is time to; whether it was tried.
    pub(crate) async fn poll(&mut self, now_us: u64) -> bool {
        let is_due = self.is_due(now_us);
        if is_due {
            self.start(now_us).await;
        }
        is_due
    }

    fn is_due(&self, now_us: u64) -> bool {
        let (None, Some(began_us)) = (&self.running, self.began_us) else {
            return false;
        };
        if now_us < self.retry_us || self.tracks.iter().all(|track| track.format.is_none()) {
            return false;
        }
        let waited_us = now_us.saturating_sub(began_us);
        let is_missing = |track: &Track| track.format.is_none();
        let unsettled = self.settled.iter().any(|settled| !settled);
        match (self.tracks.iter().any(is_missing), unsettled) {
            (true, _) => waited_us >= KEYFRAME_WAIT_US,
            (false, true) => waited_us >= START_WAIT_US,
            (false, false) => true,
        }
    }

    async fn start(&mut self, now_us: u64) {
        let known = self.tracks.iter().filter_map(|track| {
            let format = track.format.clone()?;
            Some(((track.media, track.lane), format))
        });
        let (tracks, formats): (Vec<_>, Vec<_>) = known.unzip();
        let (ingests, spec) = (self.ingests.clone(), self.spec.clone());
        let started = tokio::task::spawn_blocking(move || ingests.start(spec, formats)).await;
        match started {
            Ok(Ok(ingest)) => {
                self.error = None;
                self.running = Some(Running { ingest, tracks });
                for held in std::mem::take(&mut self.held) {
                    self.unit(held.media, held.lane, held.unit);
                }
            }
            Ok(Err(error)) => self.refused(&error, now_us),
            Err(_) => self.retry_us = now_us + RETRY_US,
        }
    }

    fn refused(&mut self, error: &IngestError, now_us: u64) {
        let text = error.to_string();
        if self.error.as_ref() != Some(&text) {
            let IngestSpec { stream, source, .. } = &self.spec;
            tracing::warn!(stream, source, error = text, "what comes in is not shown");
        }
        self.error = Some(text);
        self.retry_us = now_us + RETRY_US;
    }
}

fn clock_us() -> u64 {
    now_us().unsigned_abs()
}
