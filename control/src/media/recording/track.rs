//! One track on its way into a file: packets in order, units, their place in time.
//!
//! A [`Recording`](super::Recording) pushes what a tap gives and takes samples. It must never put a sample
//! before the last one: whatever a publisher's timestamps do, a file's time runs forward.

use std::num::NonZeroU32;

use fanmill_engine::packet::codec::{Codec, MediaKind};

use crate::media::audio::opus_samples;
use crate::media::clock::{StreamClock, TrackClock};
use crate::media::depacketize::{Depacketizer, Unit};
use crate::media::mux::{Description, Sample};
use crate::media::reorder::{Ordered, Packet, Reorder};

/// A sample is given up to the file after this long even if no other has followed it.
const LONGEST_HOLD_US: u64 = 900_000;

/// What a sample of video is taken to last if none followed it: a picture at 30 a second.
const PICTURE_US: i64 = 33_333;

/// What one of sound is: the usual packet.
const SOUND_US: i64 = 20_000;

/// Ticks between pictures at least: a millisecond. Players take closer ones for an error.
const LEAST_APART: i64 = 90;

/// What a track's samples come with.
#[derive(Debug)]
pub(super) enum Ready {
    /// The codec is known, for the first time or another than before.
    Described,
    /// The next sample.
    Sample(Sample),
}

/// Counts of a track.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TrackCounts {
    /// Packets that came.
    pub packets: u64,
    /// Packets that did not come in time.
    pub packets_missing: u64,
    /// Packets that came after they were given up.
    pub packets_late: u64,
    /// How often video was left out until a keyframe.
    pub interruptions: u64,
    /// Samples recorded.
    pub samples: u64,
}

/// One track.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) kind: MediaKind,
    reorder: Reorder,
    wait_us: u64,
    depacketizer: Depacketizer,
    clock: Option<TrackClock>,
    pub(super) description: Option<Description>,
    /// Complete but for its duration.
    held: Option<(Sample, u64)>,
    last_dts: Option<i64>,
    last_duration: i64,
    order: DecodeOrder,
    /// A report that came before the first packet.
    early_report: Option<(u64, u32)>,
    counts: TrackCounts,
    /// Counted by reorder buffers and depacketizers that were replaced.
    earlier: (u64, u64),
}

impl Track {
    pub(super) fn new(kind: MediaKind, wait_us: u64) -> Self {
        Self {
            kind,
            reorder: Reorder::new(wait_us),
            wait_us,
            depacketizer: Depacketizer::new(),
            clock: None,
            description: None,
            held: None,
            last_dts: None,
            last_duration: 0,
            order: DecodeOrder::default(),
            early_report: None,
            counts: TrackCounts::default(),
            earlier: (0, 0),
        }
    }

    /// Ticks per second of its samples: those of RTP, so that no time is rounded.
    pub(super) fn timescale(&self) -> NonZeroU32 {
        let rate_hz = match self.kind {
            MediaKind::Video => 90_000,
            MediaKind::Audio => self
                .description
                .as_ref()
                .map_or(48_000, |description| description.codec.clock_rate_hz()),
        };
        NonZeroU32::new(rate_hz).unwrap_or(NonZeroU32::MIN)
    }

    pub(super) fn counts(&self) -> TrackCounts {
        TrackCounts {
            packets_late: self.earlier.0 + self.reorder.late(),
            interruptions: self.earlier.1 + self.depacketizer.interruptions(),
            ..self.counts
        }
    }

    /// When the sample is decoded that waits for its duration.
    pub(super) fn held_dts(&self) -> Option<i64> {
        self.held.as_ref().map(|(sample, _)| sample.dts)
    }

    pub(super) fn wants_keyframe(&self) -> bool {
        self.kind == MediaKind::Video && self.depacketizer.is_awaiting_keyframe()
    }

    /// Samples were lost behind it: it begins again with a keyframe.
    pub(super) fn await_keyframe(&mut self) {
        if self.kind == MediaKind::Video {
            self.depacketizer.await_keyframe();
        }
    }

    pub(super) fn push(&mut self, stream: &mut StreamClock, packet: Packet, clock_rate_hz: u32) {
        self.counts.packets += 1;
        let clock = self
            .clock
            .get_or_insert_with(|| TrackClock::new(clock_rate_hz));
        clock.arrived(packet.timestamp, packet.arrival_us);
        if let Some((ntp, timestamp)) = self.early_report.take() {
            clock.reported(stream, ntp, timestamp);
        }
        self.reorder.push(packet);
    }

    pub(super) fn reported(&mut self, stream: &mut StreamClock, ntp: u64, timestamp: u32) {
        match &mut self.clock {
            Some(clock) => clock.reported(stream, ntp, timestamp),
            None => self.early_report = Some((ntp, timestamp)),
        }
    }

    pub(super) fn captured(&mut self, stream: &mut StreamClock, ntp: u64, timestamp: u32) {
        if let Some(clock) = &mut self.clock {
            clock.captured(stream, ntp, timestamp);
        }
    }

    /// What is ready at `now_us`.
    pub(super) fn poll(&mut self, now_us: u64, ready: &mut Vec<Ready>) {
        while let Some(ordered) = self.reorder.pop(now_us) {
            self.take(ordered, ready);
        }
        let waited = |&(_, since_us): &(Sample, u64)| now_us.saturating_sub(since_us);
        if self
            .held
            .as_ref()
            .is_some_and(|held| waited(held) > LONGEST_HOLD_US)
        {
            self.release(None, ready);
        }
    }

    /// All there is, without waiting: its source ends or begins anew.
    pub(super) fn finish(&mut self, ready: &mut Vec<Ready>) {
        for ordered in self.reorder.drain() {
            self.take(ordered, ready);
        }
        self.release(None, ready);
        self.earlier = (self.counts().packets_late, self.counts().interruptions);
        self.reorder = Reorder::new(self.wait_us);
        self.depacketizer = Depacketizer::new();
        self.clock = None;
        self.early_report = None;
        self.order = DecodeOrder::default();
    }

    fn take(&mut self, ordered: Ordered, ready: &mut Vec<Ready>) {
        match ordered {
            Ordered::Gap(missing) => {
                self.counts.packets_missing += missing;
                self.depacketizer.gap();
            }
            Ordered::Packet(packet) => {
                for unit in self.depacketizer.push(&packet) {
                    self.unit(unit, ready);
                }
            }
        }
    }

    fn unit(&mut self, unit: Unit, ready: &mut Vec<Ready>) {
        let changed = self
            .description
            .as_ref()
            .is_none_or(|d| d.codec != unit.codec);
        if changed {
            let Some(description) = Description::of(&unit) else {
                // A keyframe whose headers say too little: the next one may say more.
                self.await_keyframe();
                return;
            };
            self.release(None, ready);
            // Another codec may count other ticks.
            self.last_dts = None;
            self.order = DecodeOrder::default();
            self.description = Some(description);
            ready.push(Ready::Described);
        }
        let Some(clock) = &mut self.clock else {
            return;
        };
        let time_us = clock.time_us(unit.timestamp);
        let pts = ticks(time_us, self.timescale());
        let apart = match self.kind {
            MediaKind::Video => LEAST_APART,
            MediaKind::Audio => 1,
        };
        let earliest = self.last_dts.map_or(i64::MIN, |last| last + apart);
        let reorders = matches!(unit.codec, Codec::H264 | Codec::H265);
        let dts = if reorders { self.order.dts(pts) } else { pts };
        let dts = dts.max(earliest);
        self.release(Some(dts), ready);
        self.last_dts = Some(dts);
        let pts = if reorders { pts } else { dts };
        let sample = Sample {
            dts,
            composition_offset: i32::try_from(pts - dts).unwrap_or(0),
            duration: 0,
            keyframe: unit.keyframe,
            data: unit.data,
        };
        self.held = Some((sample, unit.arrival_us));
    }

    /// Lets the held sample go: it lasts until the next one.
    fn release(&mut self, next_dts: Option<i64>, ready: &mut Vec<Ready>) {
        if let Some((mut sample, _)) = self.held.take() {
            let until = next_dts.unwrap_or_else(|| {
                let until = sample.dts + self.usual_duration(&sample);
                // One that follows after all must not begin before this one has ended.
                self.last_dts = Some(until - 1);
                until
            });
            self.last_duration = until - sample.dts;
            sample.duration = u32::try_from(until - sample.dts).unwrap_or(u32::MAX);
            self.counts.samples += 1;
            ready.push(Ready::Sample(sample));
        }
    }

    /// How long a sample lasts that no other follows.
    fn usual_duration(&self, sample: &Sample) -> i64 {
        let codec = self
            .description
            .as_ref()
            .map(|description| description.codec);
        match codec {
            Some(Codec::Pcmu | Codec::Pcma) => i64::try_from(sample.data.len()).unwrap_or(i64::MAX),
            Some(Codec::Opus) => opus_samples(&sample.data).unwrap_or(960).into(),
            _ if self.kind == MediaKind::Video => {
                let usual = ticks(PICTURE_US, self.timescale());
                if (1..usual).contains(&self.last_duration) {
                    self.last_duration
                } else {
                    usual
                }
            }
            _ => ticks(SOUND_US, self.timescale()),
        }
    }
}

/// Gives pictures that are decoded in another order than they are shown times of decoding that rise:
/// those of presentation in rising order, as many pictures late as one is out of order.
#[derive(Debug, Default)]
struct DecodeOrder {
    /// The latest times of presentation, highest first; one more than pictures are late.
    highest: Vec<i64>,
    late: usize,
}

impl DecodeOrder {
    /// H.264 and H.265 reorder no more (A.4.2: MaxDpbFrames).
    const MAX_LATE: usize = 16;

    fn dts(&mut self, pts: i64) -> i64 {
        let place = self.highest.partition_point(|&time| time > pts);
        self.late = self.late.max(place).min(Self::MAX_LATE);
        self.highest.insert(place, pts);
        self.highest.truncate(Self::MAX_LATE + 1);
        // Until there are as many, they are decoded at the first one's time.
        let at = self.late.min(self.highest.len() - 1);
        self.highest[at]
    }
}

/// Microseconds in ticks, rounded the same way everywhere.
pub(super) fn ticks(us: i64, timescale: NonZeroU32) -> i64 {
    let ticks = (i128::from(us) * i128::from(timescale.get()) + 500_000).div_euclid(1_000_000);
    i64::try_from(ticks).unwrap_or(i64::MAX)
}
