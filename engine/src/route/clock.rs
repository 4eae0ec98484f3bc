//! A publisher's clock as its sender reports tell it: which RTP timestamp was which moment. Passed
//! on to viewers, it keeps audio and video of one publisher in step (RFC 3550 6.4.1).

/// One sender report, with the moment it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SenderClock {
    /// NTP time of the report, in units of 2^-32 s.
    pub(crate) ntp: u64,
    /// RTP timestamp of that moment.
    pub(crate) rtp: u32,
    /// When it arrived, in the shard's microseconds.
    pub(crate) at_us: u64,
}

impl SenderClock {
    /// The publisher's NTP time and RTP timestamp at `now_us`.
    pub(crate) fn at(&self, now_us: u64, clock_rate: u32) -> (u64, u32) {
        let elapsed_us = now_us.saturating_sub(self.at_us);
        let ntp = self.ntp.wrapping_add(ntp_from_us(elapsed_us));
        (ntp, self.rtp.wrapping_add(ticks(elapsed_us, clock_rate)))
    }

    /// The publisher's NTP time of a timestamp near that of the report, before or after it.
    pub(crate) fn ntp_of(&self, timestamp: u32, clock_rate: u32) -> u64 {
        let ticks = i128::from(timestamp.wrapping_sub(self.rtp).cast_signed());
        let units = (ticks << 32).div_euclid(i128::from(clock_rate.max(1)));
        self.ntp.wrapping_add_signed(units as i64)
    }
}

/// Microseconds as NTP units of 2^-32 s.
pub(crate) fn ntp_from_us(us: u64) -> u64 {
    ((u128::from(us) << 32) / 1_000_000) as u64
}

/// Microseconds as ticks of an RTP clock, wrapping as timestamps do.
pub(crate) fn ticks(us: u64, clock_rate: u32) -> u32 {
    (u128::from(us) * u128::from(clock_rate) / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_runs_on_between_reports() {
        let clock = SenderClock {
            ntp: 5 << 32,
            rtp: u32::MAX - 44_999,
            at_us: 1_000_000,
        };
        assert_eq!(clock.at(1_500_000, 90_000), ((5 << 32) + (1 << 31), 0));
    }

    #[test]
    fn the_time_of_a_timestamp_is_reckoned_forward_and_back_and_across_the_wrap() {
        let clock = SenderClock {
            ntp: 100 << 32,
            rtp: 45_000,
            at_us: 0,
        };
        assert_eq!(clock.ntp_of(45_000, 90_000), 100 << 32);
        assert_eq!(clock.ntp_of(90_000, 90_000), (100 << 32) + (1 << 31));
        let before = 45_000u32.wrapping_sub(180_000);
        assert_eq!(clock.ntp_of(before, 90_000), 98 << 32);
    }
}
