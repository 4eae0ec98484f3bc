//! What the server itself says in the headers of a stream's packets: when they were captured, where
//! the publisher does not, and how long they shall be held before they are played, where the
//! operator wants other bounds than the publisher.
//!
//! Decided once for each packet, at its home, and kept beside it: every shard then writes the same
//! header for a viewer, however often it sends the packet. Both are said now and then only, as
//! receivers keep what they were told.

use std::num::NonZeroU64;

use crate::packet::extension::{Extension, PlayoutDelay};
use crate::pool::{PacketInfo, Slot};
use crate::route::clock::{SenderClock, ntp_from_us};
use crate::route::rendition::REPORT_PATIENCE_US;

/// Pause between two capture times of a track: receivers reckon those between by the timestamps.
const CAPTURE_INTERVAL_US: u64 = 1_000_000;

/// Pause before the one that goes with a keyframe, for viewers who begin there.
const CAPTURE_KEYFRAME_INTERVAL_US: u64 = 250_000;

/// A publisher that has given a capture time is left to give the next for so long.
const CAPTURE_PATIENCE_US: u64 = 5_000_000;

/// Pause between two frames that bear the playout delay, besides keyframes: a viewer that lost one
/// does not wait long for another.
const DELAY_INTERVAL_US: u64 = 500_000;

/// What a source stamps its packets with.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    video: bool,
    playout_delay: Option<PlayoutDelay>,
    /// The frame that last bore it, by timestamp and time of arrival.
    delayed: Option<(u32, u64)>,
    last_timestamp: Option<u32>,
    first_packet_us: Option<u64>,
    /// When the publisher last gave a capture time itself.
    given_us: Option<u64>,
    /// When we last did.
    made_us: Option<u64>,
}

impl Stamps {
    /// Stamps for a track of video or audio.
    pub(crate) fn new(video: bool) -> Self {
        Self {
            video,
            ..Self::default()
        }
    }

    /// Sets bounds on the delay before playing, said with the next frame; `None`: the publisher's
    /// are passed on. Only the picture has any: the sound follows it.
    pub(crate) fn set_playout_delay(&mut self, playout_delay: Option<PlayoutDelay>) {
        self.playout_delay = playout_delay.filter(|_| self.video);
        self.delayed = None;
    }

    /// Decides what a packet bears, whose other information is complete. `clock` is the publisher's;
    /// a packet that was `restored` has an arrival that tells nothing.
    pub(crate) fn stamp(
        &mut self,
        slot: &mut Slot,
        clock: Option<&SenderClock>,
        clock_rate: u32,
        restored: bool,
    ) {
        let own = slot.info.extensions.value_len(Extension::AbsCaptureTime);
        if matches!(own, 8 | 16) {
            self.given_us = Some(slot.info.arrival_us);
        }
        self.first_packet_us.get_or_insert(slot.info.arrival_us);
        slot.info.capture_time = match restored {
            true => None,
            false => self.capture_time(&slot.info, clock, clock_rate),
        };
        slot.info.playout_delay = self.delay(&slot.info);
        if self.playout_delay.is_some() {
            slot.info.extensions.remove(Extension::PlayoutDelay);
        }
        self.last_timestamp = Some(slot.info.timestamp);
    }

    /// The time to give as that of capture, in the clock of the sender reports that viewers get.
    fn capture_time(
        &mut self,
        info: &PacketInfo,
        clock: Option<&SenderClock>,
        clock_rate: u32,
    ) -> Option<NonZeroU64> {
        let now_us = info.arrival_us;
        let within = |since: Option<u64>, us| since.is_some_and(|since| now_us < since + us);
        if within(self.given_us, CAPTURE_PATIENCE_US) {
            return None;
        }
        let interval_us = match self.video && info.keyframe_start {
            true => CAPTURE_KEYFRAME_INTERVAL_US,
            false => CAPTURE_INTERVAL_US,
        };
        if within(self.made_us, interval_us) {
            return None;
        }
        let ntp = match clock {
            Some(clock) => clock.ntp_of(info.timestamp, clock_rate),
            // As the reports themselves: the publisher is given time to tell its clock.
            None if within(self.first_packet_us, REPORT_PATIENCE_US) => return None,
            None => ntp_from_us(now_us),
        };
        self.made_us = Some(now_us);
        NonZeroU64::new(ntp)
    }

    /// The bounds to write, in every packet of a frame that says them.
    fn delay(&mut self, info: &PacketInfo) -> Option<PlayoutDelay> {
        let delay = self.playout_delay?;
        if let Some((timestamp, at_us)) = self.delayed {
            let same = timestamp == info.timestamp;
            let due = info.arrival_us >= at_us + DELAY_INTERVAL_US;
            let begins = self.last_timestamp != Some(info.timestamp);
            if !same && !(begins && (due || info.keyframe_start)) {
                return None;
            }
            if same {
                return Some(delay);
            }
        }
        self.delayed = Some((info.timestamp, info.arrival_us));
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_bears_the_delay_in_all_its_packets_or_in_none() {
        let delay = PlayoutDelay {
            min_ms: 100,
            max_ms: 200,
        };
        let mut stamps = Stamps::new(true);
        stamps.set_playout_delay(Some(delay));
        let mut says = |frame: u32, keyframe_start| {
            let info = PacketInfo {
                timestamp: frame * 3_000,
                arrival_us: u64::from(frame) * 33_000,
                keyframe_start,
                ..PacketInfo::default()
            };
            let says = stamps.delay(&info).is_some();
            stamps.last_timestamp = Some(info.timestamp);
            says
        };
        let frames: Vec<_> = (0..40)
            .map(|frame| {
                let packets = [
                    says(frame, frame == 20),
                    says(frame, false),
                    says(frame, false),
                ];
                assert!(packets.iter().all(|says| *says == packets[0]));
                packets[0]
            })
            .collect();
        let bearing: Vec<_> = (0..40).filter(|frame| frames[*frame]).collect();
        assert_eq!(bearing, [0, 16, 20, 36]);
    }
}
