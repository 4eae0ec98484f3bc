//! The bitrate that goes with the use of the link (draft-ietf-rmcat-gcc-02 5.5): down below what
//! arrives when the queue grows, up by steps while it does not.

use super::gradient::Usage;

/// What is left of what arrives when the link is overused.
const DECREASE: f64 = 0.85;

/// Pause between two decreases: over so long what arrives is measured.
const FALL_PAUSE_US: u64 = 500_000;

/// Growth a second far from the last known limit, and near it, in bits per second.
const GROWTH: f64 = 1.08;
const STEP_BPS: f64 = 40_000.0;
/// What counts as near.
const NEAR: (f64, f64) = (0.8, 1.2);

/// Of what trains say that the link carries, so much is believed.
const CAPACITY_SHARE: f64 = 0.95;

/// Without trains to tell, the estimate may grow to so many times what is sent: the rest is tried by
/// sending it.
const UNPROVEN: f64 = 4.0;
const UNPROVEN_BPS: f64 = 100_000.0;

/// After an overuse, trains are not believed for so long; if they had promised much more, for longer
/// each time.
const DISTRUST_US: u64 = 1_500_000;
const MAX_DISTRUST_US: u64 = 60_000_000;
const PROMISED_MUCH: f64 = 1.3;

/// After so long without overuse the link's last limit is forgotten.
const LIMIT_HOLDS_US: u64 = 20_000_000;

/// The part of the estimate that the delay is for.
#[derive(Debug, Default)]
pub(super) struct DelayBased {
    bps: Option<f64>,
    updated_us: u64,
    /// When it last fell.
    fallen_us: u64,
    /// What arrived when the link was last overused.
    limit_bps: Option<f64>,
    distrust_us: u64,
    distrusts_until_us: u64,
}

impl DelayBased {
    /// The estimate after a feedback, in bits per second.
    pub(super) fn update(
        &mut self,
        usage: Usage,
        acknowledged_bps: f64,
        capacity_bps: Option<f64>,
        now_us: u64,
    ) -> f64 {
        let elapsed_s = (now_us.saturating_sub(self.updated_us) as f64 / 1e6).min(1.0);
        self.updated_us = now_us;
        let trusted_bps = capacity_bps
            .map(|bps| bps * CAPACITY_SHARE)
            .filter(|_| now_us >= self.distrusts_until_us);
        let before = *self
            .bps
            .get_or_insert_with(|| trusted_bps.map_or(acknowledged_bps, |bps| bps.max(1.0)));
        let quiet_us = self.fallen_us.max(self.distrusts_until_us);
        if self.limit_bps.is_some() && now_us > quiet_us + LIMIT_HOLDS_US {
            self.limit_bps = None;
            self.distrust_us = 0;
        }
        let mut bps = match usage {
            // What arrives is known anew only some time after a fall.
            Usage::Over if self.fallen_us > 0 && now_us < self.fallen_us + FALL_PAUSE_US => before,
            Usage::Over => {
                self.overused(acknowledged_bps, capacity_bps, now_us);
                before.min(DECREASE * acknowledged_bps)
            }
            Usage::Under => before,
            Usage::Normal => {
                let most = match trusted_bps {
                    Some(bps) => bps,
                    None => UNPROVEN * acknowledged_bps + UNPROVEN_BPS,
                };
                let near = self
                    .limit_bps
                    .is_some_and(|limit| (NEAR.0 * limit..NEAR.1 * limit).contains(&before));
                let grown = match near {
                    true => before + STEP_BPS * elapsed_s,
                    false => before * GROWTH.powf(elapsed_s),
                };
                // Above what trains say there is no reason to grow, nor to fall.
                let grown = grown.min(most.max(before));
                trusted_bps.map_or(grown, |bps| bps.max(grown.min(bps)))
            }
        };
        if let Some(capacity_bps) = capacity_bps {
            bps = bps.min(capacity_bps);
        }
        self.bps = Some(bps);
        bps
    }

    /// Nothing gets through at all.
    pub(super) fn fall_to(&mut self, bps: f64, now_us: u64) {
        self.bps = Some(bps);
        self.fallen_us = now_us;
        self.distrusts_until_us = self.distrusts_until_us.max(now_us + DISTRUST_US);
    }

    fn overused(&mut self, acknowledged_bps: f64, capacity_bps: Option<f64>, now_us: u64) {
        let misled = capacity_bps.is_some_and(|bps| bps > PROMISED_MUCH * acknowledged_bps);
        // Once for each time that the link is overused.
        if now_us >= self.distrusts_until_us {
            self.distrust_us = match misled {
                true => (self.distrust_us * 2).clamp(DISTRUST_US, MAX_DISTRUST_US),
                false => DISTRUST_US,
            };
        }
        self.distrusts_until_us = now_us + self.distrust_us;
        self.limit_bps = Some(acknowledged_bps);
        self.fallen_us = now_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP_US: u64 = 100_000;

    #[test]
    fn trains_lift_it_at_once_and_overuse_brings_it_below_what_arrives() {
        let mut rate = DelayBased::default();
        let mut now_us = STEP_US;
        let mut update = |usage, acknowledged, capacity| {
            now_us += STEP_US;
            rate.update(usage, acknowledged, capacity, now_us)
        };
        let first = update(Usage::Normal, 5e5, Some(3e6));
        assert!((first - 2.85e6).abs() < 1.0, "{first}");
        let low = update(Usage::Over, 6e5, Some(3e6));
        assert!((low - 5.1e5).abs() < 1.0, "{low}");
        let soon = update(Usage::Normal, 3e5, Some(3e6));
        assert!(soon < 5.5e5, "trains had promised too much: {soon}");
        let mut last = soon;
        for _ in 0..30 {
            last = update(Usage::Normal, 3e5, Some(2e6));
        }
        assert!((last - 1.9e6).abs() < 1.0, "{last}");
    }

    #[test]
    fn without_trains_it_grows_slowly_and_not_far_beyond_what_is_sent() {
        let mut rate = DelayBased::default();
        let first = rate.update(Usage::Normal, 2e5, None, 0);
        assert!(first <= 2e5);
        let mut last = first;
        for turn in 1..100 {
            last = rate.update(Usage::Normal, 2e5, None, turn * STEP_US);
        }
        assert!((1.8..2.5).contains(&(last / first)), "after 10 s: {last}");
        for turn in 100..2_000 {
            last = rate.update(Usage::Normal, 2e5, None, turn * STEP_US);
        }
        assert!(last <= UNPROVEN * 2e5 + UNPROVEN_BPS);
    }
}
