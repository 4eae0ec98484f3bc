//! Many viewers, each behind a link of its own: what an audience is made of.

use super::bottleneck::Chance;
use super::{Outcome, Scenario, jain, run};

/// How long each of them watches.
const SECONDS: u64 = 30;

/// What came of an audience.
#[derive(Debug, Clone)]
pub struct Audience {
    /// Of each: what was shown of what would have fitted.
    pub utilisation: Vec<f64>,
    /// Of each: the median and the 95th percentile of its queue.
    pub queue_ms: Vec<[f64; 2]>,
    /// Of each: how many interruptions, and how long.
    pub freezes: Vec<u64>,
    /// See `freezes`.
    pub frozen_ms: Vec<u64>,
    /// Of each: changes of encoding.
    pub switches: Vec<u64>,
    /// Jain's index of the utilisations: whether some are served worse than others.
    pub fairness: f64,
}

/// The link of one of many: four of ten on lines that carry anything, the others on wireless ones from
/// 0.4 to 10 Mbit/s, some long, some lossy, some that become slow for a while.
#[must_use]
pub fn link(seed: u64) -> Scenario {
    let mut chance = Chance::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5851_f42d);
    let mut between = |from: f64, to: f64| from + (to - from) * chance.next_share();
    let wired = between(0.0, 1.0) < 0.4;
    let bps = match wired {
        true => between(10e6, 50e6),
        // As many between 0.4 and 2 Mbit/s as between 2 and 10.
        false => 0.4e6 * 25f64.powf(between(0.0, 1.0)),
    };
    let one_way_ms = between(5.0, if wired { 30.0 } else { 100.0 }) as u64;
    let lossy = !wired && between(0.0, 1.0) < 0.3;
    let loss_percent = if lossy { between(0.5, 5.0) } else { 0.0 };
    let loss_run = if lossy { between(1.0, 5.0) } else { 1.0 };
    let mut capacity = vec![(0, bps as u64)];
    if !wired && between(0.0, 1.0) < 0.3 {
        capacity.push((12, (bps * between(0.3, 0.8)) as u64));
        capacity.push((20, bps as u64));
    }
    Scenario {
        name: "one of many",
        capacity,
        one_way_ms,
        queue_bytes: between(30e3, 150e3) as u64,
        loss_percent,
        loss_run,
        seconds: SECONDS,
        seed,
        ..Scenario::default()
    }
}

/// Plays so many of them, on all cores.
///
/// # Panics
/// If one of them does.
#[must_use]
pub fn play(viewers: u64) -> Audience {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let part = |core: u64| (viewers * core / cores)..(viewers * (core + 1) / cores);
        let threads: Vec<_> = (0..cores)
            .map(|core| scope.spawn(move || part(core).map(|seed| run(&link(seed))).collect()))
            .collect();
        let each = threads.into_iter().map(|thread| thread.join());
        each.flat_map(|part: std::thread::Result<Vec<Outcome>>| part.expect("a thread panicked"))
            .collect()
    });
    let utilisation: Vec<f64> = outcomes.iter().map(|one| one.utilisation).collect();
    Audience {
        fairness: jain(&utilisation),
        utilisation,
        queue_ms: outcomes
            .iter()
            .map(|one| [one.queue_ms[0], one.queue_ms[1]])
            .collect(),
        freezes: outcomes.iter().map(|one| one.freezes).collect(),
        frozen_ms: outcomes.iter().map(|one| one.frozen_ms).collect(),
        switches: outcomes.iter().map(|one| one.switches).collect(),
    }
}

/// The value below which such a share of them is.
#[must_use]
pub fn quantile<T: Copy + PartialOrd>(values: &[T], share: f64) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let last = sorted.len().checked_sub(1)?;
    sorted.get((share * last as f64).round() as usize).copied()
}
