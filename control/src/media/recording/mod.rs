//! One recording, without files and clocks: packets of a stream's tracks in, heads and fragments
//! of files out.
//!
//! A thread of the recorder, or of an output, pushes what its taps give and polls. A part is a file: it ends, and the next one
//! begins, when the tracks it has no longer fit what comes. A fragment holds at most
//! [`Settings::fragment_us`] and begins at a keyframe when one comes. It must never hold more than a
//! fragment and what the reorder buffers wait for.

mod track;

use std::collections::VecDeque;
use std::num::NonZeroU32;

use fanmill_engine::packet::codec::MediaKind;

pub use track::TrackCounts;

use track::{Ready, Track, ticks};

use crate::media::clock::StreamClock;
use crate::media::mux::{Sample, TrackHead};
use crate::media::reorder::Packet;

/// A part begins without a track that nothing came of for this long.
const START_WAIT_US: u64 = 2_000_000;

/// A fragment with so many bytes ends early.
const MAX_FRAGMENT_BYTES: usize = 16 << 20;

/// How a stream is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The most a fragment holds, in microseconds.
    pub fragment_us: u64,
    /// How long a missing packet is waited for, in microseconds.
    pub wait_us: u64,
}

/// What a part is made of.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its tracks, in the order of the file.
    pub tracks: Vec<TrackHead>,
    /// Its time 0, on the server's monotonic clock.
    pub base_us: i64,
}

/// A fragment of a part.
#[derive(Debug, Clone, Default)]
pub struct Fragment {
    /// Samples by track of the part; only tracks that have some.
    pub runs: Vec<(usize, Vec<Sample>)>,
    /// When the first sample begins, on the server's monotonic clock.
    pub start_us: i64,
    /// When the last sample ends.
    pub end_us: i64,
    /// Whether decoding can begin with it.
    pub keyframe: bool,
    /// Bytes of all samples.
    pub bytes: usize,
}

/// What a recording comes to, in order.
#[derive(Debug)]
pub enum Output {
    /// A part begins; the one before has ended.
    Part(Head),
    /// A fragment of the part.
    Fragment(Fragment),
}

/// See the module.
#[derive(Debug)]
pub struct Recording {
    settings: Settings,
    tracks: Vec<Track>,
    /// How many of the tracks the present publisher has.
    attached: Vec<bool>,
    clock: StreamClock,
    /// Complete samples that no fragment has yet, by track.
    pending: Vec<Vec<Sample>>,
    pending_bytes: usize,
    /// When the first of them became pending.
    pending_since_us: Option<u64>,
    pending_start_us: Option<i64>,
    /// Where each track stands in the present part.
    part: Option<Vec<Option<usize>>>,
    /// It has no fragment yet.
    is_fresh: bool,
    out: VecDeque<Output>,
}

impl Recording {
    /// Nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            tracks: Vec::new(),
            attached: Vec::new(),
            clock: StreamClock::default(),
            pending: Vec::new(),
            pending_bytes: 0,
            pending_since_us: None,
            pending_start_us: None,
            part: None,
            is_fresh: false,
            out: VecDeque::new(),
        }
    }

    /// A publisher came, with tracks of these kinds. Returns by which numbers they go from now on:
    /// the first video track of one publisher goes on where that of the last one was.
    pub fn attach(&mut self, kinds: &[MediaKind], now_us: u64) -> Vec<usize> {
        self.detach(now_us);
        let mut numbers = Vec::with_capacity(kinds.len());
        for &kind in kinds {
            let free = (0..self.tracks.len())
                .find(|&track| self.tracks[track].kind == kind && !self.attached[track]);
            let number = free.unwrap_or_else(|| {
                self.tracks.push(Track::new(kind, self.settings.wait_us));
                self.attached.push(false);
                self.pending.push(Vec::new());
                self.tracks.len() - 1
            });
            self.attached[number] = true;
            numbers.push(number);
        }
        numbers
    }

    /// The publisher left: what it sent is complete.
    pub fn detach(&mut self, now_us: u64) {
        for track in 0..self.tracks.len() {
            self.restart(track, now_us);
        }
        self.attached.fill(false);
        self.clock = StreamClock::default();
        if self.pending_since_us.is_some() {
            self.begin_part(now_us, true);
            self.cut();
        }
    }

    /// A packet of a track.
    pub fn push(&mut self, track: usize, packet: Packet, clock_rate_hz: u32) {
        self.tracks[track].push(&mut self.clock, packet, clock_rate_hz);
    }

    /// A sender report for a track.
    pub fn reported(&mut self, track: usize, ntp: u64, timestamp: u32) {
        self.tracks[track].reported(&mut self.clock, ntp, timestamp);
    }

    /// When a track's packet was captured: it came before.
    pub fn captured(&mut self, track: usize, ntp: u64, timestamp: u32) {
        self.tracks[track].captured(&mut self.clock, ntp, timestamp);
    }

    /// A track's source began anew: its timestamps have nothing to do with those before.
    pub fn restart(&mut self, track: usize, now_us: u64) {
        let mut ready = Vec::new();
        self.tracks[track].finish(&mut ready);
        self.take(track, ready, now_us);
    }

    /// Samples were lost on the way to the file: video goes on with keyframes.
    pub fn await_keyframes(&mut self) {
        self.tracks.iter_mut().for_each(Track::await_keyframe);
    }

    /// A new part begins with this track: the others' video begins again in it.
    fn await_keyframes_but(&mut self, begun: usize) {
        for (_, track) in self
            .tracks
            .iter_mut()
            .enumerate()
            .filter(|(n, _)| *n != begun)
        {
            track.await_keyframe();
        }
    }

    /// Whether a track can do nothing before a keyframe comes.
    #[must_use]
    pub fn wants_keyframe(&self, track: usize) -> bool {
        self.tracks.get(track).is_some_and(Track::wants_keyframe)
    }

    /// What was counted, by track.
    #[must_use]
    pub fn counts(&self) -> Vec<(MediaKind, TrackCounts)> {
        let counts = self.tracks.iter().map(|track| (track.kind, track.counts()));
        counts.collect()
    }

    /// What is ready at `now_us`: call until `None`.
    pub fn poll(&mut self, now_us: u64) -> Option<Output> {
        if self.out.is_empty() {
            for track in 0..self.tracks.len() {
                let mut ready = Vec::new();
                self.tracks[track].poll(now_us, &mut ready);
                self.take(track, ready, now_us);
            }
            let waited_us = self
                .pending_since_us
                .map_or(0, |since| now_us.saturating_sub(since));
            if self.part.is_none() && waited_us > 0 {
                self.begin_part(now_us, false);
            }
            if self.part.is_some()
                && waited_us >= self.settings.fragment_us
                && !self.lacks_a_beginning()
            {
                self.cut();
            }
        }
        self.out.pop_front()
    }

    /// All there is; nothing follows.
    pub fn finish(&mut self, now_us: u64) -> VecDeque<Output> {
        self.detach(now_us);
        std::mem::take(&mut self.out)
    }

    fn take(&mut self, track: usize, ready: Vec<Ready>, now_us: u64) {
        for one in ready {
            match one {
                Ready::Sample(sample) => self.add(track, sample, now_us),
                Ready::Described => {
                    // A file's tracks are said in its head: with this one it is another file.
                    if self.part.is_some() {
                        self.cut();
                        self.part = None;
                        self.await_keyframes_but(track);
                    } else {
                        // Begun neither: what was pending of this track is of the former codec.
                        self.discard(track);
                    }
                }
            }
        }
    }

    fn discard(&mut self, track: usize) {
        for sample in self.pending[track].drain(..) {
            self.pending_bytes -= sample.data.len();
        }
    }

    fn add(&mut self, track: usize, sample: Sample, now_us: u64) {
        let timescale = self.tracks[track].timescale();
        let start_us = in_us(sample.dts, timescale);
        let end_us = in_us(sample.dts + i64::from(sample.duration), timescale);
        let leads = self.tracks.iter().position(|t| t.kind == MediaKind::Video) == Some(track);
        if self.part.is_none() {
            self.begin_part(now_us, false);
        }
        if let Some(first_us) = self.pending_start_us
            && self.part.is_some()
        {
            // A sample that lasts long by itself, before a gap, is no reason: it is there already.
            let until_us = end_us.min(start_us + 100_000);
            let full = until_us - first_us > self.settings.fragment_us.cast_signed()
                || self.pending_bytes + sample.data.len() > MAX_FRAGMENT_BYTES;
            if (full || (leads && sample.keyframe)) && !self.lacks_a_beginning() {
                self.cut();
            }
        }
        self.pending_since_us.get_or_insert(now_us);
        let first_us = self.pending_start_us.get_or_insert(start_us);
        *first_us = start_us.min(*first_us);
        self.pending_bytes += sample.data.len();
        self.pending[track].push(sample);
    }

    /// Begins a part if every track has come, or is not to be waited for any longer.
    fn begin_part(&mut self, now_us: u64, at_once: bool) {
        let described = |track: usize| self.tracks[track].description.is_some();
        let complete = (0..self.tracks.len()).all(|t| described(t) || !self.attached[t]);
        let waited_us = self
            .pending_since_us
            .map_or(0, |since| now_us.saturating_sub(since));
        let late = at_once || waited_us >= START_WAIT_US || self.pending_bytes > MAX_FRAGMENT_BYTES;
        let has_samples = self.pending.iter().any(|pending| !pending.is_empty());
        if self.part.is_some() || !has_samples || !(complete || late) {
            return;
        }
        let present = |track: usize| {
            let expected = self.attached[track] || !self.pending[track].is_empty();
            expected && described(track)
        };
        let mut places = vec![None; self.tracks.len()];
        let mut heads = Vec::new();
        for track in (0..self.tracks.len()).filter(|&track| present(track)) {
            let Some(description) = self.tracks[track].description.clone() else {
                continue;
            };
            places[track] = Some(heads.len());
            heads.push(TrackHead {
                description,
                timescale: self.tracks[track].timescale(),
                duration: 0,
            });
        }
        // A sample whose duration is not known yet may be the first of all.
        let firsts = self
            .pending
            .iter()
            .zip(&self.tracks)
            .filter_map(|(pending, track)| {
                let held = track.held_dts().filter(|_| track.description.is_some());
                let first = pending.first().map(|sample| sample.dts).or(held)?;
                Some(in_us(first, track.timescale()))
            });
        let base_us = firsts.min().unwrap_or(0);
        self.part = Some(places);
        self.is_fresh = true;
        self.out.push_back(Output::Part(Head {
            tracks: heads,
            base_us,
        }));
    }

    /// Whether the first fragment lacks a track whose first sample is there, but for its duration: a file
    /// that ended with this fragment would show or sound nothing.
    fn lacks_a_beginning(&self) -> bool {
        let places = self.part.iter().flatten().enumerate();
        let lacks = |(track, place): (usize, &Option<usize>)| {
            let is_held = self.tracks[track].held_dts().is_some();
            place.is_some() && self.pending[track].is_empty() && is_held
        };
        self.is_fresh && places.into_iter().any(lacks)
    }

    /// Makes a fragment of what is pending.
    fn cut(&mut self) {
        let Some(places) = &self.part else {
            return;
        };
        let mut fragment = Fragment {
            start_us: i64::MAX,
            end_us: i64::MIN,
            keyframe: true,
            ..Fragment::default()
        };
        let mut runs = Vec::new();
        let has_video = self
            .tracks
            .iter()
            .zip(places)
            .any(|(track, place)| track.kind == MediaKind::Video && place.is_some());
        let mut video_begins = !has_video;
        for (track, pending) in self.pending.iter_mut().enumerate() {
            let samples = std::mem::take(pending);
            let (Some(place), Some(first), Some(last)) =
                (places[track], samples.first(), samples.last())
            else {
                continue;
            };
            let timescale = self.tracks[track].timescale();
            let end = last.dts + i64::from(last.duration);
            fragment.start_us = fragment.start_us.min(in_us(first.dts, timescale));
            fragment.end_us = fragment.end_us.max(in_us(end, timescale));
            fragment.bytes += samples
                .iter()
                .map(|sample| sample.data.len())
                .sum::<usize>();
            if self.tracks[track].kind == MediaKind::Video {
                video_begins |= first.keyframe;
            }
            runs.push((place, samples));
        }
        self.pending_bytes = 0;
        self.pending_since_us = None;
        self.pending_start_us = None;
        if !runs.is_empty() {
            self.is_fresh = false;
            fragment.keyframe = video_begins;
            fragment.runs = runs;
            self.out.push_back(Output::Fragment(fragment));
        }
    }
}

/// Ticks in microseconds.
fn in_us(ticks: i64, timescale: NonZeroU32) -> i64 {
    let us = i128::from(ticks) * 1_000_000 / i128::from(timescale.get());
    i64::try_from(us).unwrap_or(i64::MAX)
}

impl Head {
    /// Its time 0 in the ticks of a track.
    #[must_use]
    pub fn base(&self, track: usize) -> i64 {
        let timescale = self
            .tracks
            .get(track)
            .map_or(NonZeroU32::MIN, |head| head.timescale);
        ticks(self.base_us, timescale)
    }
}
