//! The viewer's side: reports what arrives, asks for what does not, and shows frames in their order.

use std::collections::VecDeque;

use fanmill_engine::packet::twcc::{MIN_FEEDBACK_BYTES, TwccRecorder};

use super::bottleneck::Packet;
use super::sender::What;
use super::{FEEDBACK_MS, FRAME_MS};

/// A gap is asked for after so long.
const REQUEST_AFTER_MS: u64 = 10;
/// A frame that is not complete so long after it was due is given up for a keyframe.
const GIVES_UP_MS: u64 = 1_000;
/// Between two requests for a keyframe.
const KEYFRAME_REQUEST_MS: u64 = 500;
/// WebRTC counts a freeze when a frame takes three times as long as usual, or 150 ms longer, whichever is
/// more.
const FREEZE_MS: u64 = FRAME_MS + 150;
/// The viewer's clock is not ours.
const CLOCK_US: u64 = 777_000_000;

/// What the viewer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// The packet of this number.
    Again(u64),
    /// A keyframe of a track.
    Keyframe(usize),
}

/// A frame of which something has come.
#[derive(Debug, Clone, Copy)]
struct Frame {
    number: u64,
    missing: u32,
    key: bool,
}

/// A track as it is shown.
#[derive(Debug, Default)]
struct Screen {
    frames: VecDeque<Frame>,
    next: u64,
    shown_ms: Option<u64>,
    asked_ms: u64,
}

pub(super) struct Player {
    recorder: TwccRecorder,
    screens: Vec<Screen>,
    expected: Option<u64>,
    /// On their way to the server: when they are there.
    requests: VecDeque<(u64, Request)>,
    feedback: VecDeque<(u64, Vec<u8>)>,
    /// Numbers that did not come, and when that was noticed.
    gaps: VecDeque<(u64, u64)>,
    arrived: u64,
    bytes: u64,
    freezes: u64,
    frozen_ms: u64,
}

impl Player {
    pub(super) fn new(tracks: usize) -> Self {
        Self {
            recorder: TwccRecorder::new(),
            screens: (0..tracks).map(|_| Screen::default()).collect(),
            expected: None,
            requests: VecDeque::new(),
            feedback: VecDeque::new(),
            gaps: VecDeque::new(),
            arrived: 0,
            bytes: 0,
            freezes: 0,
            frozen_ms: 0,
        }
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    pub(super) fn freezes(&self) -> u64 {
        self.freezes
    }

    pub(super) fn frozen_ms(&self) -> u64 {
        self.frozen_ms
    }

    /// Bytes that came since this was last asked.
    pub(super) fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn receive(&mut self, packet: &Packet, at_us: u64) {
        self.arrived += 1;
        self.bytes += u64::from(packet.bytes);
        self.recorder.record(packet.number as u16, at_us + CLOCK_US);
        let expected = self.expected.unwrap_or(packet.number);
        for missing in expected..packet.number {
            self.gaps.push_back((at_us / 1_000, missing));
        }
        self.expected = Some(packet.number.max(expected) + u64::from(packet.number >= expected));
        if let What::Frame {
            track,
            frame,
            packets,
            key,
        } = packet.what
        {
            self.screens[track].receive(frame, packets, key);
        }
    }

    /// One millisecond.
    pub(super) fn tick(&mut self, ms: u64, one_way_ms: u64) {
        while let Some((noticed_ms, number)) = self.gaps.front().copied()
            && ms >= noticed_ms + REQUEST_AFTER_MS
        {
            self.gaps.pop_front();
            let request = Request::Again(number);
            self.requests.push_back((ms + one_way_ms, request));
        }
        for (track, screen) in self.screens.iter_mut().enumerate() {
            while let Some(gap_ms) = screen.show(ms) {
                if gap_ms > FREEZE_MS {
                    self.freezes += 1;
                    self.frozen_ms += gap_ms;
                }
            }
            if screen.wants_keyframe(ms) {
                let request = Request::Keyframe(track);
                self.requests.push_back((ms + one_way_ms, request));
            }
        }
        if ms.is_multiple_of(FEEDBACK_MS) && self.recorder.has_pending() {
            let mut buffer = [0; MIN_FEEDBACK_BYTES * 2];
            if let Some(len) = self.recorder.build(&mut buffer, 1, 2) {
                let told = (ms + one_way_ms, buffer[..len].to_vec());
                self.feedback.push_back(told);
            }
        }
    }

    /// The end: a picture that stands still does not move again.
    pub(super) fn end(&mut self, ms: u64) {
        for shown_ms in self
            .screens
            .iter()
            .map(|screen| screen.shown_ms.unwrap_or(0))
        {
            if ms > shown_ms + FREEZE_MS {
                self.freezes += 1;
                self.frozen_ms += ms - shown_ms;
            }
        }
    }

    /// What has reached the server of what the viewer asks for.
    pub(super) fn requests_due(&mut self, ms: u64, mut take: impl FnMut(Request)) {
        while let Some((at_ms, request)) = self.requests.front().copied()
            && at_ms <= ms
        {
            self.requests.pop_front();
            take(request);
        }
    }

    /// What has reached the server of what the viewer reports.
    pub(super) fn feedback_due(&mut self, ms: u64, mut take: impl FnMut(&[u8])) {
        while self.feedback.front().is_some_and(|(at_ms, _)| *at_ms <= ms) {
            if let Some((_, bytes)) = self.feedback.pop_front() {
                take(&bytes);
            }
        }
    }
}

impl Screen {
    fn receive(&mut self, number: u64, packets: u32, key: bool) {
        if number < self.next {
            return;
        }
        let place = self.frames.partition_point(|frame| frame.number < number);
        if self
            .frames
            .get(place)
            .is_none_or(|frame| frame.number != number)
        {
            let frame = Frame {
                number,
                missing: packets,
                key,
            };
            self.frames.insert(place, frame);
        }
        let missing = &mut self.frames[place].missing;
        *missing = missing.saturating_sub(1);
    }

    /// Shows the next frame, if it is there; how long after the one before.
    fn show(&mut self, ms: u64) -> Option<u64> {
        let late = self.is_late(ms);
        let can_show =
            |frame: &Frame| frame.missing == 0 && (frame.number == self.next || frame.key && late);
        let place = self.frames.iter().position(can_show)?;
        self.next = self.frames[place].number + 1;
        self.frames.drain(..=place);
        let before = self.shown_ms.replace(ms);
        Some(before.map_or(0, |before| ms - before))
    }

    fn is_late(&self, ms: u64) -> bool {
        let stalled = ms > self.shown_ms.unwrap_or(0) + GIVES_UP_MS;
        stalled && !self.frames.is_empty()
    }

    fn wants_keyframe(&mut self, ms: u64) -> bool {
        let wants = self.is_late(ms) && ms >= self.asked_ms + KEYFRAME_REQUEST_MS;
        if wants {
            self.asked_ms = ms;
        }
        wants
    }
}
