//! The machine's monotonic clock, the same for every process on it: several generators on one
//! machine can subtract each other's time stamps.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}

/// Microseconds of the monotonic clock.
#[must_use]
pub fn now_us() -> u64 {
    now_ns() / 1000
}

/// The wall clock as an NTP timestamp (RFC 3550 4): 32.32 bits, seconds since 1900.
#[must_use]
pub fn now_ntp() -> u64 {
    const FROM_1900_TO_1970_S: u64 = 2_208_988_800;
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let seconds = (since_1970.as_secs() + FROM_1900_TO_1970_S) << 32;
    seconds | ((u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_run_backwards() {
        let first = now_ns();
        assert!(now_ns() >= first);
    }

    #[test]
    fn ntp_time_is_in_this_era() {
        // 2020-01-01 in seconds since 1900; the 32-bit era ends in 2036.
        assert!(now_ntp() >> 32 > 3_786_825_600);
    }
}
