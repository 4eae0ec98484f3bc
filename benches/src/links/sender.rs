//! The server's side of one viewer: frames of the encodings it chose, sound, what is sent again, probes;
//! and the engine's estimator and choice, told as the shard tells them.

use std::collections::VecDeque;

use fanmill_engine::bandwidth::choice::Choice;
use fanmill_engine::bandwidth::share::{self, Ladder};
use fanmill_engine::bandwidth::{Estimator, Send};
use fanmill_engine::limits;
use fanmill_engine::packet::rtcp::{Compound, RtcpPacket};

use super::player::Request;
use super::{FRAME_MS, LADDER, Scenario};

const PACKET_BYTES: u32 = 1_150;
const SOUND_BYTES: u32 = 110;
const SOUND_MS: u64 = 20;
/// A keyframe is so many times an ordinary frame.
const KEYFRAME: u32 = 6;
/// From the choice to the keyframe of the encoding chosen.
const KEYFRAME_AFTER_MS: u64 = 150;
/// Packets that may be sent again, by number.
const REMEMBERED: usize = 4_096;
/// What headers and tags add to a packet of media.
const OVERHEAD_BYTES: u32 = 40;
/// Between two words of the shard that an estimate fell.
const FALL_INTERVAL_MS: u64 = 300;
/// What is sent again is bounded as the engine bounds it: by a part of what is sent, and in bytes at once.
const AGAIN_FLOOR_BYTES: f64 = limits::RESEND_FLOOR_BYTES_PER_SECOND as f64;
/// What is older is of no use.
const AGAIN_WITHIN_MS: u64 = 1_000;
/// Frames that take the link longer than this are large for it.
const LARGE_MS: u64 = 2 * FRAME_MS;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Sound,
    Probe,
    /// One of so many packets of a track's frame.
    Frame {
        track: usize,
        frame: u64,
        packets: u32,
        key: bool,
    },
}

/// A track of pictures.
#[derive(Default)]
struct Track {
    choice: Choice,
    /// Place of the encoding in the ladder.
    shown: usize,
    /// When another begins.
    next: Option<(u64, usize)>,
    /// Nothing is sent until then.
    left: bool,
    key: bool,
    frames: u64,
    /// What is left of a frame that is paced.
    paced: VecDeque<(u32, What)>,
    credit_bits: f64,
}

pub(super) struct Sender {
    estimator: Estimator,
    tracks: Vec<Track>,
    pacing: Option<f64>,
    keyframe_every_ms: Option<u64>,
    next: u64,
    before: u16,
    before_bytes: u32,
    /// What the last packets were, and when they were sent.
    remembered: VecDeque<(u64, u32, What)>,
    again: Vec<(u64, u32, What)>,
    again_bytes: f64,
    told_ms: u64,
    switches: u64,
}

/// Where packets go: number, bytes and purpose of each.
type Out<'a> = &'a mut dyn FnMut(u64, u32, What);

impl Sender {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let track = || Track {
            shown: LADDER.len() - 1,
            key: true,
            ..Track::default()
        };
        Self {
            estimator: Estimator::new(),
            tracks: (0..scenario.tracks).map(|_| track()).collect(),
            pacing: scenario.pacing,
            keyframe_every_ms: scenario.keyframe_every_ms,
            next: 65_000,
            before: 0,
            before_bytes: 0,
            remembered: VecDeque::with_capacity(REMEMBERED),
            again: Vec::new(),
            again_bytes: 0.0,
            told_ms: 0,
            switches: 0,
        }
    }

    pub(super) fn estimate_bps(&self) -> u64 {
        self.estimator.estimate_bps()
    }

    /// Bitrates of what is shown.
    pub(super) fn shown_bps(&self) -> u64 {
        self.tracks.iter().map(|track| LADDER[track.shown]).sum()
    }

    pub(super) fn is_changing(&self) -> bool {
        self.tracks.iter().any(|track| track.next.is_some())
    }

    pub(super) fn switches(&self) -> u64 {
        self.switches
    }

    /// Packets sent.
    pub(super) fn sent(&self) -> u64 {
        self.next - 65_000
    }

    /// The viewer asks for a packet, or for a keyframe.
    pub(super) fn requested(&mut self, request: Request) {
        match request {
            Request::Again(number) => {
                let back = (self.next - 1).checked_sub(number);
                let place =
                    back.and_then(|back| self.remembered.len().checked_sub(1 + back as usize));
                if let Some((sent_ms, bytes, what)) = place.map(|place| self.remembered[place])
                    && matches!(what, What::Frame { .. })
                {
                    self.again.push((sent_ms, bytes, what));
                }
            }
            Request::Keyframe(track) => self.tracks[track].key = true,
        }
    }

    pub(super) fn feedback(&mut self, bytes: &[u8], ms: u64) {
        for packet in Compound::new(bytes).flatten() {
            if let RtcpPacket::TransportCc(feedback) = packet {
                self.estimator.feedback(&feedback, ms * 1_000);
            }
        }
    }

    /// One millisecond.
    pub(super) fn send(&mut self, ms: u64, mut out: impl FnMut(u64, u32, What)) {
        let out: Out<'_> = &mut out;
        if ms % SOUND_MS == 7 {
            self.single(SOUND_BYTES, What::Sound, ms, out);
        }
        let share = self.estimator.sent_bps() as f64 / 8e3 / limits::RESEND_SHARE as f64;
        self.again_bytes += share.max(AGAIN_FLOOR_BYTES / 1e3);
        self.again_bytes = self.again_bytes.min(limits::RESEND_BURST_BYTES as f64);
        // What is refused is asked for again.
        for (asked_ms, bytes, what) in std::mem::take(&mut self.again) {
            if self.again_bytes >= f64::from(bytes) {
                self.again_bytes -= f64::from(bytes);
                self.single(bytes, what, ms, out);
            } else if ms < asked_ms + AGAIN_WITHIN_MS {
                self.again.push((asked_ms, bytes, what));
            }
        }
        for track in 0..self.tracks.len() {
            if ms % FRAME_MS == 5 * track as u64 {
                self.frame(track, ms, out);
            }
            self.pace(track, ms, out);
        }
        if ms % 1_000 == 500 {
            self.estimator.tick(ms * 1_000);
            let packets = self.estimator.probe_packets(PACKET_BYTES, ms * 1_000);
            let frame = LADDER[self.tracks[0].shown] * FRAME_MS / 8_000;
            let bytes = frame.min(u64::from(PACKET_BYTES)) as u32 + OVERHEAD_BYTES;
            self.train(&vec![(bytes, What::Probe); packets], ms, out);
        }
        self.choose(ms);
    }

    fn packet(&mut self, bytes: u32, what: What, ms: u64, out: Out<'_>) {
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((ms, bytes, what));
        out(self.next, bytes, what);
        self.next += 1;
    }

    /// Sends one packet by itself.
    fn single(&mut self, bytes: u32, what: What, ms: u64, out: Out<'_>) {
        self.packet(bytes, what, ms, out);
        self.before += 1;
        self.before_bytes += bytes;
    }

    /// Sends packets in one go.
    fn train(&mut self, packets: &[(u32, What)], ms: u64, out: Out<'_>) {
        if packets.is_empty() {
            return;
        }
        let first = self.next as u16;
        for (bytes, what) in packets {
            self.packet(*bytes, *what, ms, out);
        }
        let send = Send {
            first,
            count: packets.len() as u16,
            bytes: packets.iter().map(|(bytes, _)| bytes).sum(),
            before: std::mem::take(&mut self.before),
            before_bytes: std::mem::take(&mut self.before_bytes),
        };
        self.estimator.sent(&send, ms * 1_000);
    }

    fn frame(&mut self, place: usize, ms: u64, out: Out<'_>) {
        let estimate_bps = self.estimator.estimate_bps();
        let periodic = self
            .keyframe_every_ms
            .is_some_and(|every| ms % every < FRAME_MS);
        let track = &mut self.tracks[place];
        if let Some((at_ms, shown)) = track.next
            && ms >= at_ms
        {
            track.next = None;
            track.left = false;
            track.shown = shown;
            track.key = true;
        }
        if track.left {
            return;
        }
        let key = std::mem::take(&mut track.key) || periodic;
        let ordinary = (LADDER[track.shown] * FRAME_MS / 8_000) as u32;
        let bytes = if key { ordinary * KEYFRAME } else { ordinary };
        let packets = bytes.div_ceil(PACKET_BYTES);
        let what = What::Frame {
            track: place,
            frame: track.frames,
            packets,
            key,
        };
        track.frames += 1;
        let frame = vec![(bytes / packets + OVERHEAD_BYTES, what); packets as usize];
        let takes_ms = u64::from(bytes) * 8_000 / estimate_bps.max(1);
        let large = estimate_bps > 0 && takes_ms > LARGE_MS;
        if self.pacing.is_some() && (large || !track.paced.is_empty()) {
            track.paced.extend(frame);
        } else {
            self.train(&frame, ms, out);
        }
    }

    /// Sends what is due of frames that are paced.
    fn pace(&mut self, place: usize, ms: u64, out: Out<'_>) {
        let bps = self.estimator.estimate_bps() as f64 * self.pacing.unwrap_or(0.0);
        let track = &mut self.tracks[place];
        if track.paced.is_empty() {
            track.credit_bits = 0.0;
            return;
        }
        track.credit_bits += bps / 1_000.0;
        // In slices of two milliseconds, as those are sent who catch up.
        if !ms.is_multiple_of(2) {
            return;
        }
        let mut slice = Vec::new();
        while let Some((bytes, what)) = track.paced.front().copied()
            && track.credit_bits > 0.0
        {
            track.credit_bits -= f64::from(bytes) * 8.0;
            track.paced.pop_front();
            slice.push((bytes, what));
        }
        self.train(&slice, ms, out);
    }

    fn choose(&mut self, ms: u64) {
        let estimate_bps = self.estimator.estimate_bps();
        let overused = estimate_bps > 0 && estimate_bps < self.estimator.sent_bps();
        let told = overused && ms >= self.told_ms + FALL_INTERVAL_MS;
        if ms % 1_000 != 300 && !told {
            return;
        }
        if told {
            self.told_ms = ms;
        }
        let ladders: Vec<_> = self
            .tracks
            .iter()
            .map(|track| Ladder {
                bitrates_bps: LADDER.to_vec(),
                shown: Some(track.next.map_or(track.shown, |(_, next)| next)),
            })
            .collect();
        let others = match estimate_bps > 0 {
            true => share::others_bps(estimate_bps, &ladders),
            false => vec![0; ladders.len()],
        };
        for ((track, ladder), others_bps) in self.tracks.iter_mut().zip(&ladders).zip(others) {
            let bps = match estimate_bps {
                0 => 0,
                bps => bps.saturating_sub(others_bps).max(1),
            };
            let chosen = track.choice.choose(&LADDER, ladder.shown, bps, ms * 1_000);
            let chosen = chosen.unwrap_or(0);
            if Some(chosen) == ladder.shown {
                continue;
            }
            self.switches += 1;
            // Who is sent too much leaves at once; others go on until the keyframe.
            track.left |= overused;
            if track.left {
                track.shown = chosen;
            }
            track.next = Some((ms + KEYFRAME_AFTER_MS, chosen));
        }
    }
}

/// Bitrate of what so many tracks can be shown together.
pub(super) fn payload_fitting(bps: u64, tracks: usize) -> u64 {
    let needs = |places: &[usize]| -> u64 {
        let each = places.iter().map(|place| LADDER[*place] * 26 / 25 + 60_000);
        each.sum()
    };
    let mut places = vec![0; tracks];
    loop {
        let least = places.iter().copied().min().unwrap_or(LADDER.len());
        let Some(track) = places.iter().position(|place| *place == least) else {
            break;
        };
        if least + 1 >= LADDER.len() {
            break;
        }
        places[track] += 1;
        if needs(&places) > bps / 10 * 9 {
            places[track] -= 1;
            break;
        }
    }
    places.iter().map(|place| LADDER[*place]).sum()
}
