//! A bitrate over the last half second, by whoever's clock the times are of.

const BUCKETS: usize = 10;
const BUCKET_US: i64 = 50_000;

/// Bytes by time.
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    buckets: [u32; BUCKETS],
    first_us: Option<i64>,
    latest_us: i64,
}

impl RateMeter {
    /// Adds bytes. What comes late counts as of the latest time.
    pub(super) fn add(&mut self, at_us: i64, bytes: u32) {
        let first_us = *self.first_us.get_or_insert_with(|| {
            self.latest_us = at_us;
            at_us
        });
        let steps = at_us.div_euclid(BUCKET_US) - self.latest_us.div_euclid(BUCKET_US);
        if steps.unsigned_abs() > (1 << 20) {
            // The clock jumped.
            *self = Self::default();
            return;
        }
        let steps = usize::try_from(steps).unwrap_or(0).min(BUCKETS);
        if steps > 0 {
            self.buckets.copy_within(..BUCKETS - steps, steps);
            self.buckets[..steps].fill(0);
        }
        self.latest_us = self.latest_us.max(at_us).max(first_us);
        self.buckets[0] = self.buckets[0].saturating_add(bytes);
    }

    pub(super) fn latest_us(&self) -> Option<i64> {
        self.first_us.map(|_| self.latest_us)
    }

    /// Bits per second.
    pub(super) fn bps(&self) -> f64 {
        let Some(first_us) = self.first_us else {
            return 0.0;
        };
        let into_bucket = self.latest_us.rem_euclid(BUCKET_US);
        let window_us = (BUCKETS as i64 - 1) * BUCKET_US + into_bucket;
        let window_us = window_us.min(self.latest_us.saturating_sub(first_us));
        let bytes: f64 = self.buckets.iter().map(|bytes| f64::from(*bytes)).sum();
        bytes * 8e6 / window_us.max(BUCKET_US) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_told_and_an_old_one_forgotten() {
        let mut meter = RateMeter::default();
        assert_eq!(meter.bps(), 0.0);
        for step in 0..200 {
            meter.add(step * 10_000 - 1_000_000, 1_250);
        }
        assert!((meter.bps() - 1e6).abs() < 5e4, "{}", meter.bps());
        for step in 200..300 {
            meter.add(step * 10_000 - 1_000_000, 125);
        }
        assert!((meter.bps() - 1e5).abs() < 1e4, "{}", meter.bps());
    }

    #[test]
    fn a_clock_that_jumps_is_borne() {
        let mut meter = RateMeter::default();
        for at_us in [0, i64::MAX, i64::MIN, 5, i64::MIN + 1, i64::MAX - 1] {
            meter.add(at_us, u32::MAX);
            meter.add(at_us, u32::MAX);
            assert!(meter.bps() >= 0.0);
        }
    }
}
