//! The time of a viewer who begins with a keyframe of the past: it passes faster until it has
//! caught up with the present.
//!
//! Packets are due, and timestamps advance, by the same factor faster than the publisher made them,
//! so the viewer sees one steady stream. Where both reach the present there is a knee: from there on
//! timestamps are the publisher's plus a constant, and packets leave when they come.

use crate::limits::{CATCH_UP_BITRATE_BPS, MAX_CATCH_UP_SPEED};
use crate::pool::PacketInfo;
use crate::route::clock::ticks;

/// Speeds are in sixteenths of the publisher's.
const NORMAL_SPEED: u64 = 16;

/// From a keyframe of the past to the present.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Squeeze {
    first_timestamp: u32,
    first_arrival_us: u64,
    began_us: u64,
    speed: u64,
    /// From the keyframe to the knee, in the publisher's time.
    length_us: u64,
    length_ticks: u32,
}

impl Squeeze {
    /// Begins at `now_us` with the keyframe `first`, at a speed that suits what has come since:
    /// `bytes` of payload.
    pub(crate) fn new(first: &PacketInfo, clock_rate: u32, now_us: u64, bytes: u64) -> Self {
        let gap_us = now_us.saturating_sub(first.arrival_us);
        let bitrate_bps = bytes.saturating_mul(8_000_000) / gap_us.max(1);
        let speed = NORMAL_SPEED * CATCH_UP_BITRATE_BPS / bitrate_bps.max(1);
        let speed = speed.clamp(2 * NORMAL_SPEED, MAX_CATCH_UP_SPEED * NORMAL_SPEED);
        let length_us = gap_us * speed / (speed - NORMAL_SPEED);
        Self {
            first_timestamp: first.timestamp,
            first_arrival_us: first.arrival_us,
            began_us: now_us,
            speed,
            length_us,
            length_ticks: ticks(length_us, clock_rate),
        }
    }

    fn squeezed(&self, ticks: i64) -> i64 {
        (ticks * NORMAL_SPEED as i64).div_euclid(self.speed as i64)
    }

    /// How far, in ticks, the whole way to the knee is shortened.
    pub(crate) fn shortened_ticks(&self) -> u32 {
        let length = i64::from(self.length_ticks);
        (length - self.squeezed(length)) as u32
    }

    /// How far later a timestamp lies than it would if all from the knee on were merely shifted:
    /// nothing from there on, [`shortened_ticks`](Self::shortened_ticks) at the keyframe.
    pub(crate) fn shift(&self, timestamp: u32) -> u32 {
        let ticks = i64::from(timestamp.wrapping_sub(self.first_timestamp).cast_signed());
        if ticks >= i64::from(self.length_ticks) {
            return 0;
        }
        let shortened = ticks - self.squeezed(ticks);
        self.shortened_ticks().wrapping_sub(shortened as u32)
    }

    /// When a packet that came at this time is due.
    pub(crate) fn due_us(&self, arrival_us: u64) -> u64 {
        let since_us = arrival_us.saturating_sub(self.first_arrival_us);
        if since_us >= self.length_us {
            return arrival_us;
        }
        self.began_us + since_us * NORMAL_SPEED / self.speed
    }

    /// When the present is reached.
    pub(crate) fn knee_us(&self) -> u64 {
        self.first_arrival_us + self.length_us
    }

    /// How long the way to the present takes.
    pub(crate) fn takes_us(&self) -> u64 {
        self.knee_us().saturating_sub(self.began_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 90_000;

    fn first() -> PacketInfo {
        PacketInfo {
            arrival_us: 1_000_000,
            timestamp: 0xffff_ff00,
            ..PacketInfo::default()
        }
    }

    #[test]
    fn time_passes_faster_up_to_the_present_and_then_as_ever() {
        let first = first();
        // Seven seconds at eight times the speed take one, in which another comes in.
        let squeeze = Squeeze::new(&first, RATE, 8_000_000, 1_000_000);
        assert_eq!(squeeze.takes_us(), 1_000_000);
        assert_eq!(squeeze.knee_us(), 9_000_000);
        assert_eq!(squeeze.due_us(first.arrival_us), 8_000_000);
        assert_eq!(squeeze.due_us(5_000_000), 8_500_000);
        assert_eq!(squeeze.due_us(9_000_000), 9_000_000);
        assert_eq!(squeeze.due_us(9_500_000), 9_500_000);
        let at = |s: u32| first.timestamp.wrapping_add(s * RATE);
        let seen = |s: u32| at(s).wrapping_add(squeeze.shift(at(s)));
        assert_eq!(seen(4).wrapping_sub(seen(0)), RATE / 2);
        assert_eq!(seen(8).wrapping_sub(seen(0)), RATE);
        assert_eq!(seen(9).wrapping_sub(seen(8)), RATE);
        assert_eq!(squeeze.shift(at(8)), 0);
        assert_eq!(squeeze.shift(at(0)), squeeze.shortened_ticks());
    }

    #[test]
    fn timestamps_never_run_backwards_and_pictures_may_be_shown_before_the_keyframe() {
        let first = first();
        let squeeze = Squeeze::new(&first, RATE, 4_300_000, 700_000);
        let mut last = None;
        for step in 0..2_000u32 {
            let timestamp = first.timestamp.wrapping_sub(3_000).wrapping_add(step * 371);
            let seen = timestamp.wrapping_add(squeeze.shift(timestamp));
            if let Some(last) = last.replace(seen) {
                let advance = seen.wrapping_sub(last);
                assert!((40..=371).contains(&advance), "{advance} at step {step}");
            }
        }
    }

    #[test]
    fn the_speed_suits_the_bitrate() {
        let first = first();
        let takes = |mbps: u64| {
            let bytes = mbps * 1_000_000 / 8 * 6;
            Squeeze::new(&first, RATE, 7_000_000, bytes).takes_us()
        };
        assert_eq!(takes(2), 857_142, "eight times as fast");
        assert_eq!(takes(6), 1_500_000, "five times");
        assert_eq!(takes(60), 6_000_000, "twice");
    }

    #[test]
    fn a_keyframe_of_this_very_moment_needs_no_catching_up() {
        let first = first();
        let squeeze = Squeeze::new(&first, RATE, first.arrival_us, 5_000);
        assert_eq!(squeeze.takes_us(), 0);
        assert_eq!(squeeze.shift(first.timestamp), 0);
        assert_eq!(squeeze.due_us(first.arrival_us + 1), first.arrival_us + 1);
    }
}
