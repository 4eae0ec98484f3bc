//! The RTP header fields of one outgoing track: numbers that go on and timestamps that never step
//! back, whatever is sought, paused or repeated at the source.
//!
//! Sound is numbered by its samples: where it drifts against the times it comes with, the mapping of
//! times to timestamps follows ([`Headers::timestamp`]), which is what receivers are told by sender
//! reports, and no sample is skipped.

/// Timestamps of sound that are this close to following the last packet do: receivers take every
/// missing sample for a loss.
const SNAP_TICKS: i32 = 240;

/// Opus counts in units of 2.5 ms.
const OPUS_UNIT_TICKS: i64 = 120;

/// The state of a track's headers.
#[derive(Debug, Clone)]
pub(crate) struct Headers {
    clock_rate: u32,
    sequence_number: u16,
    /// Timestamp of time 0, as it is now.
    base: u32,
    /// Timestamp of the latest unit, and that which would follow without a gap.
    last: Option<(u32, u32)>,
}

impl Headers {
    /// Begins with random numbers (RFC 3550 5.1).
    pub(crate) fn new(clock_rate: u32, sequence_number: u16, base: u32) -> Self {
        Self {
            clock_rate,
            sequence_number,
            base,
            last: None,
        }
    }

    /// The timestamp of a frame of video due at `due_us`.
    pub(crate) fn video_timestamp(&mut self, due_us: i64) -> u32 {
        let mut timestamp = self.timestamp(due_us);
        if let Some((last, _)) = self.last
            && timestamp.wrapping_sub(last).cast_signed() <= 0
        {
            timestamp = last.wrapping_add(1);
        }
        self.last = Some((timestamp, timestamp));
        timestamp
    }

    /// The timestamp of a packet of sound due at `due_us` that lasts `duration_us`.
    pub(crate) fn audio_timestamp(&mut self, due_us: i64, duration_us: i64) -> u32 {
        let ticks = duration_us * i64::from(self.clock_rate) / 1_000_000;
        let units = (ticks + OPUS_UNIT_TICKS / 2) / OPUS_UNIT_TICKS;
        let ticks = (units.max(1) * OPUS_UNIT_TICKS) as u32;
        let mut timestamp = self.timestamp(due_us);
        if let Some((_, follows)) = self.last {
            let gap = timestamp.wrapping_sub(follows).cast_signed();
            if gap <= SNAP_TICKS {
                self.base = self.base.wrapping_sub(gap.cast_unsigned());
                timestamp = follows;
            }
        }
        self.last = Some((timestamp, timestamp.wrapping_add(ticks)));
        timestamp
    }

    /// Whether any unit has had its timestamp.
    pub(crate) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// The number of the next packet.
    pub(crate) fn next_sequence_number(&mut self) -> u16 {
        let number = self.sequence_number;
        self.sequence_number = number.wrapping_add(1);
        number
    }

    /// The timestamp of what is sampled at a time.
    pub(crate) fn timestamp(&self, due_us: i64) -> u32 {
        let ticks = i128::from(due_us) * i128::from(self.clock_rate) / 1_000_000;
        self.base.wrapping_add(ticks as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_follows_without_a_gap_whatever_microseconds_round_to() {
        let mut headers = Headers::new(48_000, 0, 7);
        let first = headers.audio_timestamp(20_833, 20_000);
        let second = headers.audio_timestamp(40_834, 19_999);
        let third = headers.audio_timestamp(60_832, 20_000);
        assert_eq!(second.wrapping_sub(first), 960);
        assert_eq!(third.wrapping_sub(second), 960);
    }

    #[test]
    fn a_pause_in_sound_is_a_gap() {
        let mut headers = Headers::new(48_000, 0, 0);
        let before = headers.audio_timestamp(0, 20_000);
        let after = headers.audio_timestamp(1_000_000, 20_000);
        assert_eq!(after.wrapping_sub(before), 48_000);
    }

    #[test]
    fn sound_that_drifts_is_whole_and_the_mapping_follows() {
        let mut headers = Headers::new(48_000, 0, 99);
        let mut before = headers.audio_timestamp(0, 20_000);
        // An hour of packets that come 0.02 % late or early.
        for packet in 1..180_000_i64 {
            let drift_us = if packet < 90_000 { 4 } else { -4 };
            let due_us = packet * 20_000 + drift_us * packet;
            let timestamp = headers.audio_timestamp(due_us, 20_000);
            assert_eq!(timestamp.wrapping_sub(before), 960);
            assert_eq!(headers.timestamp(due_us), timestamp);
            before = timestamp;
        }
    }

    #[test]
    fn timestamps_of_video_never_step_back() {
        let mut headers = Headers::new(90_000, 0, u32::MAX - 10);
        let first = headers.video_timestamp(1_000_000);
        let second = headers.video_timestamp(900_000);
        assert_eq!(second.wrapping_sub(first), 1);
    }
}
