//! What loss says about the bandwidth (draft-ietf-rmcat-gcc-02 6): much of it brings the estimate
//! down, to what arrives at least; little lets it rise.
//!
//! A link that always loses some, however little is sent, is told from one that is overfull: loss is
//! held against the least that there was lately.

/// Loss is looked at when so many packets were reported on in so much time.
const LEAST_PACKETS: u32 = 40;
const LEAST_US: u64 = 200_000;

/// Time over which it is smoothed, in seconds, for losses come in runs.
const SMOOTHING_S: f64 = 2.0;

/// Of the share lost beyond what the link always loses: above, the estimate falls; below, it rises.
const HIGH: f64 = 0.10;
const LOW: f64 = 0.02;

/// When so much is lost twice running, what arrives is all there is.
const DROWNING: f64 = 0.25;

/// What the link always loses may be thought to grow so much a second, and to be so much.
const INHERENT_GROWS: f64 = 0.05;
const MAX_INHERENT: f64 = 0.15;

/// The other part of the estimate has come down by itself: to so many times what it was, lately, or to
/// so many times what arrives.
const DELAY_FELL: f64 = 0.8;
const TOLD_FOR_US: u64 = 2_000_000;
const DELAY_TOLD: f64 = 1.2;

/// Growth a second while little is lost.
const GROWTH: f64 = 1.15;

/// The part of the estimate that loss is for.
#[derive(Debug, Default)]
pub(super) struct LossBased {
    reported: u32,
    lost: u32,
    since_us: Option<u64>,
    smoothed: f64,
    /// Share that is lost whatever is sent.
    inherent: f64,
    drowning: bool,
    /// The other part as it was last, and until when its fall stands for this one's.
    delay_bps: f64,
    told_us: u64,
    /// `None`: nothing was lost yet that would bring it down.
    bps: Option<f64>,
}

impl LossBased {
    /// So many packets were reported on, of which so many lost.
    pub(super) fn reported(&mut self, packets: u32, lost: u32) {
        self.reported = self.reported.saturating_add(packets);
        self.lost = self.lost.saturating_add(lost);
    }

    /// What is left for packets that are sent for the first time, as a share: what the link always loses
    /// is sent again.
    pub(super) fn first_share(&self) -> f64 {
        1.0 - self.inherent
    }

    /// The estimate, in bits per second; infinite while there is no cause for any.
    pub(super) fn update(
        &mut self,
        sent_bps: f64,
        acknowledged_bps: f64,
        delay_bps: f64,
        now_us: u64,
    ) -> f64 {
        let since_us = *self.since_us.get_or_insert(now_us);
        let elapsed_us = now_us.saturating_sub(since_us);
        if self.reported >= LEAST_PACKETS && elapsed_us >= LEAST_US {
            let share = f64::from(self.lost) / f64::from(self.reported);
            (self.reported, self.lost, self.since_us) = (0, 0, Some(now_us));
            let elapsed_s = (elapsed_us as f64 / 1e6).min(1.0);
            // A queue that overflows: the delay has told already, and tells when it is over.
            if delay_bps < DELAY_FELL * self.delay_bps {
                self.told_us = now_us + TOLD_FOR_US;
            }
            self.delay_bps = delay_bps;
            let is_told = now_us < self.told_us || delay_bps <= DELAY_TOLD * acknowledged_bps;
            self.judge(share, is_told, (sent_bps, acknowledged_bps), elapsed_s);
            // Far above the other part's estimate there is nothing to be learned.
            if self.bps.is_some_and(|bps| bps > 1.5 * delay_bps) {
                self.bps = None;
            }
        }
        self.bps.unwrap_or(f64::INFINITY)
    }

    fn judge(
        &mut self,
        share: f64,
        is_told: bool,
        (sent_bps, acknowledged_bps): (f64, f64),
        elapsed_s: f64,
    ) {
        self.smoothed += (share - self.smoothed) * (1.0 - (-elapsed_s / SMOOTHING_S).exp());
        let grown = self.inherent + INHERENT_GROWS * elapsed_s;
        self.inherent = self.smoothed.min(grown).min(MAX_INHERENT);
        let excess = self.smoothed - self.inherent;
        let drowned = std::mem::replace(&mut self.drowning, share > DROWNING) && self.drowning;
        let from = self.bps.unwrap_or(f64::INFINITY).min(sent_bps);
        if is_told && excess > LOW {
            return;
        }
        if drowned {
            self.bps = Some(acknowledged_bps);
        } else if excess > HIGH && share > HIGH {
            let fallen = from * (1.0 - 0.5 * share);
            self.bps = Some(fallen.max(acknowledged_bps));
        } else if excess < LOW
            && let Some(bps) = &mut self.bps
        {
            *bps *= GROWTH.powf(elapsed_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds windows of 250 ms, each with this share lost of what is sent.
    fn run(loss: &mut LossBased, from_us: u64, seconds: u64, share: f64, sent_bps: f64) -> f64 {
        let mut bps = 0.0;
        for turn in 1..=seconds * 4 {
            loss.reported(1_000, (share * 1_000.0) as u32);
            let acknowledged = sent_bps * (1.0 - share);
            bps = loss.update(sent_bps, acknowledged, 1e7, from_us + turn * 250_000);
        }
        bps
    }

    #[test]
    fn heavy_loss_brings_it_down_to_what_arrives_and_little_lets_it_rise() {
        let mut loss = LossBased::default();
        assert_eq!(run(&mut loss, 0, 2, 0.0, 2e6), f64::INFINITY);
        let low = run(&mut loss, 2_000_000, 1, 0.6, 2e6);
        assert!((7e5..9e5).contains(&low), "{low}");
        let risen = run(&mut loss, 3_000_000, 10, 0.0, 5e5);
        assert!(risen > 1.8 * low, "{risen}");
    }

    #[test]
    fn loss_that_is_always_there_does_not_hold_it_down() {
        let mut loss = LossBased::default();
        run(&mut loss, 0, 20, 0.1, 1e6);
        assert!(run(&mut loss, 20_000_000, 20, 0.1, 1e6) > 2e6);
    }
}
