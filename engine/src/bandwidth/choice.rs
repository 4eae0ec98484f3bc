//! Which of a track's encodings suits an estimate: down at once when what is sent does not fit any
//! more, up when the next fits with room to spare and for some time, and less readily after a rise
//! that had to be taken back.
//!
//! The control plane asks for each viewer that is left the choice; it is here, beside the estimate,
//! because the two are only worth anything together, and are simulated together (`links` of the benchmarks).

/// What else a viewer is sent: sound, and packets sent again.
const SOUND_BPS: u64 = 70_000;
/// What headers add to a bitrate of payload, in per cent.
const HEADERS_PERCENT: u64 = 4;

/// To rise, so much must fit, in per cent of what the encoding takes.
pub(super) const RISE_PERCENT: u64 = 115;

/// It must fit for so long.
const RISE_AFTER_US: u64 = 900_000;

/// A fall so soon after a rise means that the rise failed.
const PROVEN_AFTER_US: u64 = 10_000_000;

/// Pause before the next rise after one that failed; doubled by each.
const PAUSE_US: u64 = 5_000_000;
const MAX_PAUSE_US: u64 = 80_000_000;

/// What one viewer's choice remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Since when a better one has fitted.
    fits_since_us: Option<u64>,
    risen_us: Option<u64>,
    pause_us: u64,
    not_before_us: u64,
}

impl Choice {
    /// The place of the encoding to show, of these that come in, the least first, by the bitrates
    /// of their payload (0: not known yet). `None` if there is none.
    ///
    /// `current` is the one shown now; `estimate_bps` 0 stands for no estimate: then it is the best.
    pub fn choose(
        &mut self,
        bitrates_bps: &[u64],
        current: Option<usize>,
        estimate_bps: u64,
        now_us: u64,
    ) -> Option<usize> {
        let best = bitrates_bps.len().checked_sub(1)?;
        if estimate_bps == 0 || best == 0 {
            self.fits_since_us = None;
            return Some(best);
        }
        let fits = |place: usize, percent: u64| {
            let bps = bitrates_bps[place];
            (bps > 0 || place == 0) && needed_bps(bps) * percent / 100 <= estimate_bps
        };
        let highest = |percent| {
            let fitting = (0..=best).rev().find(|place| fits(*place, percent));
            fitting.unwrap_or(0)
        };
        let Some(current) = current.filter(|current| *current <= best) else {
            // What was shown has gone.
            self.fits_since_us = None;
            return Some(highest(100));
        };
        if current > 0 && needed_bps(bitrates_bps[current]) > estimate_bps {
            self.fall(now_us);
            return Some(highest(100).min(current - 1));
        }
        let wanted = highest(RISE_PERCENT);
        if wanted <= current {
            self.fits_since_us = None;
            return Some(current);
        }
        let since_us = *self.fits_since_us.get_or_insert(now_us);
        if now_us < since_us + RISE_AFTER_US || now_us < self.not_before_us {
            return Some(current);
        }
        self.fits_since_us = None;
        self.risen_us = Some(now_us);
        Some(wanted)
    }

    fn fall(&mut self, now_us: u64) {
        self.fits_since_us = None;
        let Some(risen_us) = self.risen_us.take() else {
            return;
        };
        self.pause_us = match now_us < risen_us + PROVEN_AFTER_US {
            true => (self.pause_us * 2).clamp(PAUSE_US, MAX_PAUSE_US),
            false => 0,
        };
        self.not_before_us = now_us + self.pause_us;
    }
}

/// What an encoding of this bitrate takes on the way to a viewer, with all that goes with it.
pub(super) fn needed_bps(bitrate_bps: u64) -> u64 {
    payload_bps(bitrate_bps) + SOUND_BPS
}

/// What its packets alone take there.
pub(super) fn payload_bps(bitrate_bps: u64) -> u64 {
    bitrate_bps + bitrate_bps * HEADERS_PERCENT / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const LADDER: [u64; 3] = [150_000, 500_000, 2_000_000];
    const SECOND: u64 = 1_000_000;

    #[test]
    fn without_an_estimate_the_best_is_shown_and_with_a_poor_one_the_least() {
        let mut choice = Choice::default();
        assert_eq!(choice.choose(&[], None, 0, 0), None);
        assert_eq!(choice.choose(&LADDER, None, 0, 0), Some(2));
        assert_eq!(choice.choose(&LADDER, None, 10_000, 0), Some(0));
        assert_eq!(choice.choose(&LADDER, None, 700_000, 0), Some(1));
        assert_eq!(choice.choose(&LADDER[..1], Some(0), 10_000, 0), Some(0));
    }

    #[test]
    fn it_falls_at_once_and_as_far_as_needed() {
        let mut choice = Choice::default();
        assert_eq!(choice.choose(&LADDER, Some(2), 2_200_000, 0), Some(2));
        assert_eq!(choice.choose(&LADDER, Some(2), 1_900_000, 1), Some(1));
        assert_eq!(choice.choose(&LADDER, Some(2), 300_000, 2), Some(0));
    }

    #[test]
    fn it_rises_with_room_to_spare_and_after_a_while() {
        let mut choice = Choice::default();
        let tight = 2_200_000;
        let ample = 2_600_000;
        for second in 0..10 {
            let shown = choice.choose(&LADDER, Some(1), tight, second * SECOND);
            assert_eq!(shown, Some(1), "it would fit, but barely");
        }
        let mut at = |second| choice.choose(&LADDER, Some(1), ample, second * SECOND);
        assert_eq!(at(10), Some(1));
        assert_eq!(at(11), Some(2));
    }

    #[test]
    fn after_a_rise_that_failed_the_next_waits_longer_each_time() {
        let mut choice = Choice::default();
        let mut rises = Vec::new();
        let mut shown = 1;
        for second in 0..300 {
            // The estimate says much while little is sent, and little while much is.
            let estimate_bps = if shown == 1 { 3_000_000 } else { 800_000 };
            let now_us = second * SECOND;
            let next = choice.choose(&LADDER, Some(shown), estimate_bps, now_us);
            let next = next.unwrap_or_default();
            if next > shown {
                rises.push(second);
            }
            shown = next;
        }
        let pauses: Vec<_> = rises.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!((4..=7).contains(&rises.len()), "{rises:?}");
    }

    #[test]
    fn an_encoding_whose_bitrate_is_not_known_is_not_risen_to() {
        let mut choice = Choice::default();
        let unknown = [150_000, 500_000, 0];
        for second in 0..10 {
            let shown = choice.choose(&unknown, Some(1), 9_000_000, second * SECOND);
            assert_eq!(shown, Some(1));
        }
    }
}
