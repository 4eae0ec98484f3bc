//! How much to ask a publisher for by REMB (draft-alvestrand-rmcat-remb): all that is allowed, less
//! when much is lost on the way in.
//!
//! A publisher with transport-wide feedback estimates by itself and takes this as a ceiling; for
//! one without it this is the whole of its congestion control, so loss must bring it down.

/// Loss above which the estimate falls, and below which it rises, in 1/256 (RFC 3550 fractions).
const HIGH_LOSS: u8 = 26;
const LOW_LOSS: u8 = 5;

/// Never ask for less: below this no video codec shows anything.
const FLOOR_BPS: u64 = 100_000;

/// The bitrate one publisher is asked for.
#[derive(Debug)]
pub(crate) struct RembEstimate {
    bitrate_bps: u64,
}

impl RembEstimate {
    pub(crate) fn new(max_bps: u64) -> Self {
        Self {
            bitrate_bps: max_bps,
        }
    }

    /// What to ask for.
    pub(crate) fn bitrate_bps(&self) -> u64 {
        self.bitrate_bps
    }

    /// Takes in one report interval (about a second) and returns what to ask for.
    pub(crate) fn update(&mut self, fraction_lost: u8, received_bps: u64, max_bps: u64) -> u64 {
        if fraction_lost > HIGH_LOSS {
            let keep = 512 - u64::from(fraction_lost);
            self.bitrate_bps = self.bitrate_bps.min(received_bps) * keep / 512;
        } else if fraction_lost < LOW_LOSS {
            self.bitrate_bps = self.bitrate_bps.saturating_add(self.bitrate_bps / 12);
        }
        self.bitrate_bps = self.bitrate_bps.clamp(FLOOR_BPS.min(max_bps), max_bps);
        self.bitrate_bps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_loss_all_is_asked_for() {
        let mut estimate = RembEstimate::new(4_000_000);
        assert_eq!(estimate.update(0, 100_000, 4_000_000), 4_000_000);
    }

    #[test]
    fn heavy_loss_halves_what_arrives_until_it_stops_then_the_estimate_recovers() {
        let mut estimate = RembEstimate::new(4_000_000);
        let low = estimate.update(128, 1_000_000, 4_000_000);
        assert_eq!(low, 750_000);
        assert_eq!(
            estimate.update(15, 750_000, 4_000_000),
            low,
            "moderate loss changes nothing"
        );
        let mut last = low;
        for _ in 0..40 {
            last = estimate.update(0, last, 4_000_000);
        }
        assert_eq!(last, 4_000_000);
    }

    #[test]
    fn the_estimate_has_a_floor() {
        let mut estimate = RembEstimate::new(4_000_000);
        assert_eq!(estimate.update(255, 0, 4_000_000), FLOOR_BPS);
    }
}
