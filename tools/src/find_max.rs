//! The search for the largest number of viewers that is served well: doubling, then bisecting.

use std::time::Duration;

use crate::report::Step;
use crate::run::Bench;

/// A step is good below this share of packets lost.
pub const MAX_LOSS: f64 = 0.001;
/// A step is good below this 99th percentile of latency, in microseconds.
pub const MAX_P99_US: u64 = 50_000;
const FIRST_VIEWERS: u64 = 50;
const STEP_DURATION: Duration = Duration::from_secs(3);
/// The search ends when the bounds are this close, as a share of the lower one.
const PRECISION: f64 = 0.1;

/// Whether a step's viewers were all served well.
#[must_use]
pub fn is_good(step: &Step) -> bool {
    step.silent == 0
        && step.joined >= step.viewers
        && step.loss < MAX_LOSS
        && step.latency.p99_us < MAX_P99_US
}

/// The next number to try: above every good one, below every bad one.
fn next(good: u64, bad: Option<u64>, limit: u64) -> Option<u64> {
    let next = match bad {
        None if good == 0 => FIRST_VIEWERS.min(limit),
        None => (2 * good).min(limit),
        Some(bad) if (bad - good.min(bad)) as f64 <= good.max(1) as f64 * PRECISION => return None,
        Some(bad) => good + (bad - good) / 2,
    };
    (next > good && bad.is_none_or(|bad| next < bad)).then_some(next)
}

/// Searches, and returns every step taken, in order.
///
/// # Errors
/// When nothing could be measured.
pub async fn search(bench: &mut Bench) -> anyhow::Result<Vec<Step>> {
    let limit = bench.args.max_viewers.max(1);
    let (mut good, mut bad) = (0, None);
    let mut steps: Vec<Step> = Vec::new();
    while let Some(viewers) = next(good, bad, limit) {
        bench.adjust(viewers).await;
        if bench.viewers() < viewers {
            // Not all could join: what there is counts, and there is no more to be had.
            bad = Some(viewers);
            if bench.viewers() <= good {
                break;
            }
        }
        let mut step = bench.measure(STEP_DURATION).await?;
        if !is_good(&step) {
            // Something else on the machine may have been in the way: it must fail twice.
            steps.push(step);
            step = bench.measure(STEP_DURATION).await?;
        }
        if is_good(&step) {
            good = step.viewers;
        } else {
            bad = Some(step.viewers);
        }
        steps.push(step);
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where up to `capacity` viewers are served well.
    fn found(capacity: u64, limit: u64) -> (u64, usize) {
        let (mut good, mut bad, mut steps) = (0, None, 0);
        while let Some(viewers) = next(good, bad, limit) {
            steps += 1;
            assert!(steps < 40, "the search ends");
            if viewers <= capacity {
                good = viewers;
            } else {
                bad = Some(viewers);
            }
        }
        (good, steps)
    }

    #[test]
    fn the_search_comes_close_from_below() {
        for capacity in [1, 7, 49, 50, 51, 333, 1000, 4321, 19_999] {
            let (good, steps) = found(capacity, 20_000);
            assert!(good <= capacity);
            assert!(
                good as f64 >= capacity as f64 / 1.12 - 1.0,
                "{good} of {capacity}"
            );
            assert!(steps <= 16, "{steps} steps for {capacity}");
        }
    }

    #[test]
    fn the_search_stops_at_its_limit_and_at_nothing() {
        assert_eq!(found(u64::MAX, 500).0, 500);
        assert_eq!(found(0, 500).0, 0);
    }
}
