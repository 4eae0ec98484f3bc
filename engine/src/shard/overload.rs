//! What a shard does when it cannot keep up: it withholds video from some viewers, so that the
//! others, and everybody's audio, stay in time.
//!
//! The measure is the lag: how long packets have waited for the shard when it comes to send them.
//! A keyframe or a pause of the machine makes it jump, and it goes down again by itself; only a lag
//! that stands, or grows, from one whole window to the next means that there is more to do than can
//! be done. How fast it grows tells how much more, and that share of the viewers is given up at once. They are
//! let back in step by step once the lag is gone, ever more slowly if that brings it back.
//!
//! This module decides when and how many; which viewers, and what that means for them, is the
//! renditions' part.

use crate::limits::{
    ADMISSION_INTERVAL_US, ADMISSION_SHARE, MAX_ADMISSION_INTERVAL_US, OVERLOAD_WINDOW_US,
};

/// Beyond what is too much, so that the backlog is worked off as well.
const EXTRA_SHARE: f64 = 0.1;

/// Some are always served.
const MAX_SHARE: f64 = 0.95;

/// A lag that goes down is left to do so, unless it is this many times what is allowed.
const INTOLERABLE: u64 = 3;

/// What to do with the viewers of video.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Decision {
    /// Nothing.
    Keep,
    /// Withhold video from this share of those who receive it.
    Shed(f64),
    /// Let this share of all have it again.
    Admit(f64),
}

/// The lag of one shard over time.
#[derive(Debug)]
pub(crate) struct Overload {
    max_lag_us: u64,
    window_ends_us: u64,
    /// Least lag of the window at hand, if anything was sent in it.
    lowest_us: Option<u64>,
    /// Greatest lag of the window at hand.
    highest_us: u64,
    /// Least lag of the last window.
    last_lowest_us: u64,
    /// Until then nothing should be done that can be put off.
    behind_until_us: u64,
    /// Since when viewers have been let back in or given up, if any still go without.
    shedding: Option<Shedding>,
}

#[derive(Debug, Clone, Copy)]
struct Shedding {
    /// What had come in before viewers were last given up is sent by then: the lag tells nothing
    /// before.
    settled_us: u64,
    admit_at_us: u64,
    interval_us: u64,
    /// Some were let back in since the last time some were given up.
    admitted: bool,
}

impl Overload {
    /// A shard whose packets may wait for `max_lag_us`.
    pub(crate) fn new(max_lag_us: u64) -> Self {
        Self {
            max_lag_us,
            window_ends_us: 0,
            lowest_us: None,
            highest_us: 0,
            last_lowest_us: 0,
            behind_until_us: 0,
            shedding: None,
        }
    }

    /// Video that had waited so long was sent at `now_us`.
    pub(crate) fn note(&mut self, lag_us: u64, now_us: u64) {
        if lag_us > self.max_lag_us / 4 {
            self.behind_until_us = now_us.saturating_add(lag_us);
        }
        self.lowest_us = Some(self.lowest_us.map_or(lag_us, |lowest| lowest.min(lag_us)));
        self.highest_us = self.highest_us.max(lag_us);
    }

    /// Whether what came lately had to wait, though not yet for too long.
    pub(crate) fn is_behind(&self, now_us: u64) -> bool {
        now_us < self.behind_until_us
    }

    /// Whether viewers go without video.
    pub(crate) fn is_shedding(&self) -> bool {
        self.shedding.is_some()
    }

    /// None goes without any more.
    pub(crate) fn all_admitted(&mut self) {
        self.shedding = None;
    }

    /// Judges the window at hand if it is over: the decision, and the greatest lag.
    pub(crate) fn judge(&mut self, now_us: u64) -> Option<(Decision, u64)> {
        if now_us < self.window_ends_us {
            return None;
        }
        let late_us = now_us - self.window_ends_us;
        let lowest_us = self.lowest_us.take().unwrap_or(0);
        let highest_us = std::mem::take(&mut self.highest_us);
        let last_us = std::mem::replace(&mut self.last_lowest_us, lowest_us);
        self.window_ends_us = now_us + OVERLOAD_WINDOW_US;
        let growth_us = lowest_us.saturating_sub(last_us);
        let stands = lowest_us >= last_us || lowest_us > INTOLERABLE * self.max_lag_us;
        let settling = self.shedding.is_some_and(|last| now_us < last.settled_us);
        let decision = if lowest_us.min(last_us) > self.max_lag_us && stands && !settling {
            let growth = growth_us as f64 / (OVERLOAD_WINDOW_US + late_us) as f64;
            self.shed(now_us, lowest_us, growth)
        } else {
            self.admit(now_us, lowest_us)
        };
        Some((decision, highest_us))
    }

    fn shed(&mut self, now_us: u64, lag_us: u64, growth: f64) -> Decision {
        let interval_us = match self.shedding {
            // Letting some back in was too much.
            Some(before) if before.admitted => 2 * before.interval_us,
            Some(before) => before.interval_us,
            None => ADMISSION_INTERVAL_US,
        };
        let interval_us = interval_us.min(MAX_ADMISSION_INTERVAL_US);
        self.shedding = Some(Shedding {
            settled_us: now_us + lag_us + OVERLOAD_WINDOW_US,
            admit_at_us: now_us + interval_us,
            interval_us,
            admitted: false,
        });
        Decision::Shed((growth + EXTRA_SHARE).min(MAX_SHARE))
    }

    fn admit(&mut self, now_us: u64, lowest_us: u64) -> Decision {
        let Some(shedding) = &mut self.shedding else {
            return Decision::Keep;
        };
        if lowest_us > self.max_lag_us / 4 {
            shedding.admit_at_us = now_us + shedding.interval_us;
            return Decision::Keep;
        }
        if now_us < shedding.admit_at_us {
            return Decision::Keep;
        }
        shedding.admit_at_us = now_us + shedding.interval_us;
        shedding.admitted = true;
        Decision::Admit(ADMISSION_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_LAG_US: u64 = 100_000;

    /// Judges one window after another in which the lag was never below and never above these.
    fn decisions(overload: &mut Overload, start_us: u64, lags_us: &[u64]) -> Vec<Decision> {
        let mut now_us = start_us;
        let mut decisions = Vec::new();
        for lag_us in lags_us {
            overload.note(*lag_us, 0);
            overload.note(lag_us + 50_000, 0);
            now_us += OVERLOAD_WINDOW_US;
            decisions.push(overload.judge(now_us).map(|(decision, _)| decision));
        }
        decisions.into_iter().flatten().collect()
    }

    fn started() -> Overload {
        let mut overload = Overload::new(MAX_LAG_US);
        assert_eq!(overload.judge(0), Some((Decision::Keep, 0)));
        overload
    }

    #[test]
    fn a_lag_that_comes_and_goes_is_left_alone() {
        let mut overload = started();
        let lags = [0, 0, 250_000, 90_000, 10_000, 0, 99_000, 99_000];
        for decision in decisions(&mut overload, 0, &lags) {
            assert_eq!(decision, Decision::Keep);
        }
        assert!(!overload.is_shedding());
    }

    #[test]
    fn a_lag_that_goes_down_by_itself_is_left_to_do_so() {
        let mut overload = started();
        let falling = [290_000, 250_000, 200_000, 150_000, 110_000, 60_000];
        for decision in decisions(&mut overload, 0, &falling) {
            assert_eq!(decision, Decision::Keep);
        }
    }

    #[test]
    fn how_fast_the_lag_grows_tells_how_many_are_too_many() {
        let mut overload = started();
        // Twice as much comes as can be sent: the lag grows by half of the time that passes.
        let growing = [60_000, 110_000, 160_000];
        let decided = decisions(&mut overload, 0, &growing);
        assert_eq!(decided[..2], [Decision::Keep; 2]);
        let Decision::Shed(share) = decided[2] else {
            panic!("{decided:?}")
        };
        assert!((share - 0.6).abs() < 1e-9, "{share}");
        assert!(overload.is_shedding());
    }

    #[test]
    fn viewers_are_let_back_in_once_the_lag_is_gone_and_more_slowly_if_it_returns() {
        let mut overload = started();
        decisions(&mut overload, 0, &[150_000; 2]);
        let windows = |us: u64| (us / OVERLOAD_WINDOW_US) as usize;
        let calm = vec![10_000; windows(ADMISSION_INTERVAL_US)];
        let decided = decisions(&mut overload, 2 * OVERLOAD_WINDOW_US, &calm);
        assert_eq!(decided.last(), Some(&Decision::Admit(ADMISSION_SHARE)));
        assert_eq!(decided.iter().filter(|d| **d != Decision::Keep).count(), 1);
        // It returns: the next time it takes twice as long.
        let now_us = overload.window_ends_us - OVERLOAD_WINDOW_US;
        decisions(&mut overload, now_us, &[150_000; 2]);
        let now_us = overload.window_ends_us - OVERLOAD_WINDOW_US;
        let decided = decisions(&mut overload, now_us, &calm);
        assert!(decided.iter().all(|decision| *decision == Decision::Keep));
        let now_us = overload.window_ends_us - OVERLOAD_WINDOW_US;
        let decided = decisions(&mut overload, now_us, &calm);
        assert_eq!(decided.last(), Some(&Decision::Admit(ADMISSION_SHARE)));
        overload.all_admitted();
        assert!(!overload.is_shedding());
    }

    #[test]
    fn nobody_is_let_in_while_there_is_still_some_lag() {
        let mut overload = started();
        decisions(&mut overload, 0, &[150_000; 2]);
        let decided = decisions(&mut overload, 2 * OVERLOAD_WINDOW_US, &[60_000; 40]);
        assert!(decided.iter().all(|decision| *decision == Decision::Keep));
    }
}
