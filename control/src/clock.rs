//! The clock of this process: microseconds that only go forward, what they are in NTP's time, and
//! the random numbers that RTP begins with. Whoever sends media by it asks here, so that the times
//! of all compare.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;

/// From 1900, where NTP begins, to 1970.
const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);

/// Microseconds since something of this process first asked.
pub(crate) fn now_us() -> i64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let elapsed = EPOCH.get_or_init(Instant::now).elapsed();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

/// What [`now_us`] is in NTP's time, from one look at the system's clock: later changes of that one
/// move nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NtpClock {
    epoch: Duration,
}

impl NtpClock {
    /// Looks at the system's clock.
    pub(crate) fn new() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = unix.unwrap_or_default() + NTP_TO_UNIX;
        Self {
            epoch: now.saturating_sub(Duration::from_micros(now_us().unsigned_abs())),
        }
    }

    /// A moment in units of 2^-32 s since 1900 (RFC 3550 4).
    pub(crate) fn ntp(&self, at_us: i64) -> u64 {
        let at = self.epoch + Duration::from_micros(at_us.max(0).unsigned_abs());
        let fraction = (u64::from(at.subsec_nanos()) << 32) / 1_000_000_000;
        at.as_secs() << 32 | fraction
    }
}

/// A number nobody can guess (RFC 3550 5.1).
pub(crate) fn random_u32() -> u32 {
    let mut bytes = [0; 4];
    rand::fill(&mut bytes).expect("the system has random numbers");
    u32::from_ne_bytes(bytes)
}
