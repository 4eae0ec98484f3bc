//! A session that receives: datagrams from its sockets through its sources into an ingest.
//!
//! One task, which the registry starts and stops. The ingest begins once it is known what all tracks
//! are, and stays while senders pause; it is made anew only when other tracks come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fanmill_engine::packet::Kind;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::medium::{Datagram, Medium, ReceiverInfo, SharedInfo};
use super::reader::{Lane, Read, ReadUnit};
use crate::clock::now_us;
use crate::ingest::{Ingest, IngestError, IngestSpec, Ingests, TrackFormat, Unit};
use crate::media::clock::StreamClock;
use crate::model::CloseReason;

/// What lists show as the source of the stream.
const SOURCE: &str = "rtp";

/// Datagrams that may wait for the task: half a second at 50 Mbit/s.
const MAX_WAITING: usize = 2048;

/// How often missing packets, reports and keyframes are looked after.
const TICK: Duration = Duration::from_millis(10);

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

/// How often the numbers in lists are renewed.
const INFO_US: u64 = 250_000;

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
pub(super) struct Session {
    stream: String,
    ingests: Ingests,
    media: Vec<Medium>,
    clock: StreamClock,
    tracks: Vec<Track>,
    /// Of each media section: its tracks are known.
    settled: Vec<bool>,
    running: Option<Running>,
    held: Vec<Held>,
    /// When the first packet came since there is no stream.
    began_us: Option<u64>,
    retry_us: u64,
    error: Option<String>,
    overrun: u64,
    shared: SharedInfo,
    info_us: u64,
    out: Vec<Read>,
}

/// Why a session ends by itself.
enum End {
    Stopped,
    Requested,
}

impl Session {
    pub(super) fn new(
        stream: String,
        ingests: Ingests,
        media: Vec<Medium>,
        shared: SharedInfo,
    ) -> Self {
        let mut session = Self {
            stream,
            ingests,
            settled: vec![false; media.len()],
            media,
            clock: StreamClock::default(),
            tracks: Vec::new(),
            running: None,
            held: Vec::new(),
            began_us: None,
            retry_us: 0,
            error: None,
            overrun: 0,
            shared,
            info_us: 0,
            out: Vec::new(),
        };
        session.tell(0);
        session
    }

    /// Runs until it is told to stop, or somebody stops its stream.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (sender, mut datagrams) = mpsc::channel(MAX_WAITING);
        let overrun = Arc::new(AtomicU64::new(0));
        let media = self.media.iter().enumerate();
        let readers = media.map(|(media, medium)| medium.listen(media, &sender, &overrun));
        let _readers: Vec<_> = readers.collect();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = tokio::select! {
                Some(datagram) = datagrams.recv() => {
                    self.take(&datagram);
                    for _ in 0..datagrams.len() {
                        if let Ok(datagram) = datagrams.try_recv() {
                            self.take(&datagram);
                        }
                    }
                    None
                }
                _ = tick.tick() => {
                    self.overrun = overrun.load(Ordering::Relaxed);
                    None
                }
                reason = closed(self.running.as_ref()) => self.ended(&reason),
                () = stop.cancelled() => Some(End::Stopped),
            };
            if let Some(end) = end {
                if matches!(end, End::Requested) {
                    tracing::info!(
                        stream = self.stream,
                        "plain RTP ends: its stream was stopped"
                    );
                }
                break;
            }
            self.poll().await;
        }
        // The end of a stream waits for the data plane.
        let running = self.running.take();
        let _ = tokio::task::spawn_blocking(move || drop(running)).await;
    }

    /// The stream has ended, and not by us.
    fn ended(&mut self, reason: &CloseReason) -> Option<End> {
        self.running = None;
        match reason {
            CloseReason::Requested | CloseReason::Shutdown => Some(End::Requested),
            // Somebody else has the name now, or a shard failed: it is tried again.
            reason => {
                self.error = Some(reason.to_string());
                self.retry_us = clock_us() + RETRY_US;
                None
            }
        }
    }

    fn take(&mut self, datagram: &Datagram) {
        let Some(medium) = self.media.get_mut(datagram.media) else {
            return;
        };
        let (from, bytes, at_us) = (datagram.from, &datagram.bytes, datagram.arrival_us);
        let is_rtcp = match Kind::of(bytes) {
            Kind::Rtcp => datagram.on_rtcp || medium.is_muxed(),
            Kind::Rtp => false,
            _ => return,
        };
        match is_rtcp {
            true => medium.source.rtcp(from, bytes, &mut self.clock, at_us),
            false => medium.source.rtp(from, bytes, at_us, &mut self.out),
        }
        self.read_all(datagram.media);
        self.media[datagram.media]
            .source
            .poll(&mut self.clock, at_us, &mut self.out);
        self.read_all(datagram.media);
    }

    /// What is due with time.
    async fn poll(&mut self) {
        let now_us = clock_us();
        if self.out_of_time(now_us) {
            self.start(now_us).await;
        }
        let wanted = self
            .running
            .as_ref()
            .is_some_and(|running| running.ingest.take_keyframe_request());
        for media in 0..self.media.len() {
            let medium = &mut self.media[media];
            medium.source.poll(&mut self.clock, now_us, &mut self.out);
            if wanted {
                medium.source.want_keyframe();
            }
            let muxed = medium.is_muxed();
            if let Some((packet, to)) = medium.source.feedback(now_us, muxed) {
                medium.answer(&packet, to);
            }
            self.read_all(media);
        }
        if now_us.saturating_sub(self.info_us) >= INFO_US {
            self.tell(now_us);
        }
    }

    /// Carries out what a source came to.
    fn read_all(&mut self, media: usize) {
        for read in std::mem::take(&mut self.out) {
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

    /// Whether the stream is to begin.
    fn out_of_time(&self, now_us: u64) -> bool {
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
        let remote = self.media.iter().find_map(|medium| medium.source.sender());
        let spec = IngestSpec {
            stream: self.stream.clone(),
            source: SOURCE,
            remote: remote.map(|(from, _)| from.to_string()).unwrap_or_default(),
        };
        let ingests = self.ingests.clone();
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
        self.tell(now_us);
    }

    fn refused(&mut self, error: &IngestError, now_us: u64) {
        let text = error.to_string();
        if self.error.as_ref() != Some(&text) {
            tracing::warn!(stream = self.stream, error = text, "plain RTP is not shown");
        }
        self.error = Some(text);
        self.retry_us = now_us + RETRY_US;
    }

    /// Renews what lists say.
    fn tell(&mut self, now_us: u64) {
        self.info_us = now_us;
        let is_alive = self.media.iter().any(|m| m.source.is_alive(now_us));
        let state = match (&self.running, &self.error) {
            (Some(_), _) if is_alive => "live",
            (Some(_), _) => "silent",
            (None, Some(_)) => "refused",
            (None, None) => "waiting",
        };
        let info = ReceiverInfo {
            state,
            error: self.error.clone(),
            media: self.media.iter().map(Medium::info).collect(),
            overrun: self.overrun,
        };
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = info;
    }
}

fn clock_us() -> u64 {
    now_us().unsigned_abs()
}

async fn closed(running: Option<&Running>) -> CloseReason {
    match running {
        Some(running) => running.ingest.closed().await,
        None => std::future::pending().await,
    }
}
