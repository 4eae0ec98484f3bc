//! What came of it, in words.

use std::fmt::Write as _;

use super::population::{Audience, quantile};
use super::{Outcome, Scenario};

/// One line for each scenario.
#[must_use]
pub fn table(scenarios: &[Scenario], outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| link | of what fits, % | queue p50, p95, ms | longest | lost, % | freezes | frozen, s | switches | \
         until it fits, s | fairness |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (scenario, outcome) in scenarios.iter().zip(outcomes) {
        let [p50, p95, longest] = outcome.queue_ms;
        let settled: Vec<_> = outcome
            .settled_ms
            .iter()
            .map(|ms| ms.map_or("never".to_owned(), |ms| format!("{:.1}", ms as f64 / 1e3)))
            .collect();
        let fairness = match outcome.shares_bps.len() {
            1 => String::new(),
            _ => format!("{:.2}", outcome.fairness),
        };
        let _ = writeln!(
            text,
            "| {} | {:.0} | {p50:.0}, {p95:.0} | {longest:.0} | {:.1} | {} | {:.1} | {} | {} | {fairness} |",
            scenario.name,
            outcome.utilisation * 100.0,
            outcome.lost_percent,
            outcome.freezes,
            outcome.frozen_ms as f64 / 1e3,
            outcome.switches,
            settled.join(", "),
        );
    }
    text
}

/// Percentiles of an audience.
#[must_use]
pub fn audience(audience: &Audience) -> String {
    let mut text = String::from(
        "| of the viewers | 5 % | 25 % | half | 75 % | 95 % | 99 % |\n|---|---|---|---|---|---|---|\n",
    );
    let mut line = |name: &str, values: Vec<f64>, digits: usize| {
        let each = [0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
            .map(|share| format!("{:.digits$}", quantile(&values, share).unwrap_or(0.0)));
        let _ = writeln!(text, "| {name} | {} |", each.join(" | "));
    };
    let whole = |values: &[u64]| values.iter().map(|value| *value as f64).collect();
    let percent = audience.utilisation.iter().map(|share| share * 100.0);
    line("of what fits, %", percent.collect(), 0);
    line(
        "queue p50, ms",
        audience.queue_ms.iter().map(|q| q[0]).collect(),
        0,
    );
    line(
        "queue p95, ms",
        audience.queue_ms.iter().map(|q| q[1]).collect(),
        0,
    );
    line("freezes", whole(&audience.freezes), 0);
    let frozen = audience.frozen_ms.iter().map(|ms| *ms as f64 / 1e3);
    line("frozen, s", frozen.collect(), 1);
    line("switches", whole(&audience.switches), 0);
    let _ = writeln!(text, "\nfairness of what fits: {:.3}", audience.fairness);
    text
}
