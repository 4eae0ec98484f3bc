//! From the reports of several rounds to one row for each server: medians, ratios, and what makes
//! them doubtful.

use serde::Serialize;

use super::generator::Floor;
use super::server::Server;
use crate::args::SrtpArg;
use crate::find_max::is_good;
use crate::report::{Report, Step};
use crate::settle::SETTLED_SHARE;

/// A receiving thread of the generator above this share of a CPU may have been the limit.
const BUSY_GENERATOR: f64 = 0.9;
/// A machine above this share of its CPUs has none to spare.
const BUSY_MACHINE: f64 = 0.95;
/// Other processes above this many CPUs disturb.
pub const DISTURBING_CPUS: f64 = 0.2;

/// What the rounds of one server gave.
#[derive(Debug, Serialize)]
pub struct Runs {
    /// The server.
    pub server: Server,
    /// Of the rounds that succeeded, in order.
    pub reports: Vec<Report>,
    /// Of those that did not: why.
    pub failures: Vec<String>,
}

/// The middle of some figures, and their bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub lowest: f64,
    /// The most.
    pub highest: f64,
}

impl Spread {
    /// Of at least one figure, none of which is NaN.
    fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&lowest, &highest) = (sorted.first()?, sorted.last()?);
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self {
            median: (below + above) / 2.0,
            lowest,
            highest,
        })
    }
}

/// One server: medians of all rounds.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The server.
    pub server: Server,
    /// Viewers: those asked for, or in a search the most that were served well.
    pub viewers: Spread,
    /// CPU of the server per packet delivered, in nanoseconds.
    pub ns_per_packet: Spread,
    /// This server's figure as a multiple of Fanmill's: of the cost per packet, or in a search of
    /// the number of viewers.
    pub ratio: Option<f64>,
    /// Share of the packets that never came.
    pub loss: f64,
    /// Publisher to viewer, median.
    pub latency_p50_us: f64,
    /// Publisher to viewer, 99th percentile.
    pub latency_p99_us: f64,
    /// POST to first packet, median.
    pub join_p50_us: f64,
    /// POST to first packet, 99th percentile.
    pub join_p99_us: f64,
    /// Growth of the server's resident memory per viewer.
    pub bytes_per_viewer: f64,
    /// SRTP profiles the server chose.
    pub srtp: Vec<SrtpArg>,
    /// CPUs that processes took which are neither server nor generator.
    pub others_cpus: f64,
    /// What makes the figures doubtful.
    pub notes: Vec<String>,
}

/// One mode of bare sending: medians of all rounds.
#[derive(Debug, Serialize)]
pub struct FloorRow {
    /// How packets left.
    pub mode: String,
    /// CPU of the sender per packet, in nanoseconds.
    pub ns_per_packet: Spread,
    /// The same as a multiple of Fanmill's.
    pub ratio: Option<f64>,
    /// Share of the packets that did not arrive.
    pub loss: f64,
}

/// The step that counts: the only one, or the largest that was good.
fn telling(report: &Report) -> Option<&Step> {
    match report.largest_good {
        Some(largest) => {
            let mut steps = report.steps.iter();
            steps.rfind(|step| step.viewers == largest && is_good(step))
        }
        None => report.steps.last(),
    }
}

/// The step at which a search ended: the smallest that failed above those that did not.
fn limiting(report: &Report) -> Option<&Step> {
    let largest = report.largest_good?;
    let failed = report.steps.iter().filter(|step| !is_good(step));
    failed
        .filter(|step| step.viewers > largest)
        .min_by_key(|step| step.viewers)
}

/// Checks that a report has what a row is made of.
///
/// # Errors
/// What it lacks.
pub fn check(report: &Report) -> anyhow::Result<()> {
    let step = telling(report);
    let step = step.ok_or_else(|| anyhow::anyhow!("no number of viewers was served well"))?;
    anyhow::ensure!(step.server.is_some(), "the server's process is not known");
    anyhow::ensure!(step.counts.packets > 0, "no packet was delivered");
    Ok(())
}

/// The rows of the servers that have reports, and the rows of the floor.
#[must_use]
pub fn summarize(all: &[Runs], floors: &[Vec<Floor>]) -> (Vec<Row>, Vec<FloorRow>) {
    let mut rows: Vec<Row> = all.iter().filter_map(row).collect();
    let search = all
        .iter()
        .flat_map(|runs| &runs.reports)
        .any(|report| report.largest_good.is_some());
    let figure = |row: &Row| {
        if search {
            row.viewers.median
        } else {
            row.ns_per_packet.median
        }
    };
    let fanmill = rows
        .iter()
        .find(|row| row.server == Server::Fanmill)
        .map(figure);
    for row in &mut rows {
        row.ratio = ratio(figure(row), fanmill);
    }
    let modes = floors
        .first()
        .into_iter()
        .flatten()
        .map(|floor| floor.mode.as_str());
    let floor = modes
        .filter_map(|mode| floor_row(mode, floors, fanmill))
        .collect();
    (rows, floor)
}

fn ratio(figure: f64, fanmill: Option<f64>) -> Option<f64> {
    fanmill
        .filter(|fanmill| *fanmill > 0.0)
        .map(|fanmill| figure / fanmill)
}

fn row(runs: &Runs) -> Option<Row> {
    let steps: Vec<&Step> = runs.reports.iter().filter_map(telling).collect();
    let spread = |figure: fn(&Step) -> f64| Spread::of(steps.iter().map(|step| figure(step)));
    let median = |figure| spread(figure).map(|spread| spread.median);
    let costs = steps.iter().filter_map(|step| step.server.as_ref());
    let grown = steps.iter().filter_map(|step| step.server_bytes_per_viewer);
    let mut srtp = Vec::new();
    for profile in runs.reports.iter().flat_map(|report| &report.srtp_chosen) {
        if !srtp.contains(profile) {
            srtp.push(*profile);
        }
    }
    Some(Row {
        server: runs.server,
        viewers: spread(|step| step.viewers as f64)?,
        ns_per_packet: Spread::of(costs.map(|server| server.ns_per_packet))?,
        ratio: None,
        loss: median(|step| step.loss)?,
        latency_p50_us: median(|step| step.latency.p50_us as f64)?,
        latency_p99_us: median(|step| step.latency.p99_us as f64)?,
        join_p50_us: median(|step| step.join.p50_us as f64)?,
        join_p99_us: median(|step| step.join.p99_us as f64)?,
        bytes_per_viewer: Spread::of(grown).map_or(0.0, |spread| spread.median),
        srtp,
        others_cpus: others_cpus(runs),
        notes: notes(runs),
    })
}

fn floor_row(mode: &str, floors: &[Vec<Floor>], fanmill: Option<f64>) -> Option<FloorRow> {
    let of_mode = || floors.iter().flatten().filter(|floor| floor.mode == mode);
    let ns_per_packet = Spread::of(of_mode().map(|floor| floor.ns_per_packet))?;
    Some(FloorRow {
        mode: mode.to_owned(),
        ns_per_packet,
        ratio: ratio(ns_per_packet.median, fanmill),
        loss: Spread::of(of_mode().map(|floor| floor.loss))?.median,
    })
}

/// The share of the machine's CPUs that was in use.
fn busy_share(step: &Step) -> f64 {
    let server = step.server.as_ref().map_or(0.0, |server| server.cpus);
    let all = server + step.generator.cpus + step.others_cpus + step.stolen_cpus;
    all / f64::from(step.machine_cpus.max(1))
}

/// The median of what others took, in a search also while the step failed that ended it.
fn others_cpus(runs: &Runs) -> f64 {
    let others = |step: &Step| step.others_cpus + step.stolen_cpus;
    let of_report = |report: &Report| {
        let steps = [telling(report), limiting(report)].into_iter().flatten();
        steps.map(others).fold(0.0, f64::max)
    };
    Spread::of(runs.reports.iter().map(of_report)).map_or(0.0, |others| others.median)
}

/// What makes a row doubtful, in few words, the worst round's of each.
fn notes(runs: &Runs) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |holds: bool, text: String| notes.extend(holds.then_some(text));
    let steps = || runs.reports.iter().filter_map(telling);
    let worst = |figure: fn(&Step) -> f64| steps().map(figure).fold(0.0, f64::max);

    let rounds = runs.reports.len() + runs.failures.len();
    note(
        !runs.failures.is_empty(),
        format!("{} of {rounds} rounds", runs.reports.len()),
    );
    // In a search the step that failed tells who was the limit.
    let limits = runs
        .reports
        .iter()
        .filter_map(|report| limiting(report).or(telling(report)));
    let busiest = limits.clone().map(|step| step.busiest_receiver);
    let busiest = busiest.fold(0.0, f64::max);
    note(
        busiest > BUSY_GENERATOR,
        format!("generator {:.0} % busy, its limit", 100.0 * busiest),
    );
    note(
        limits.map(busy_share).fold(0.0, f64::max) > BUSY_MACHINE,
        "machine full".to_owned(),
    );
    let load = steps()
        .filter_map(|step| step.load_share)
        .fold(1.0, f64::min);
    note(
        load < SETTLED_SHARE,
        format!("load only {:.0} %", 100.0 * load),
    );
    let missing = worst(|step| step.viewers.saturating_sub(step.joined) as f64);
    note(missing > 0.0, format!("{missing} viewers without media"));
    let silent = worst(|step| step.silent as f64);
    note(silent > 0.0, format!("{silent} viewers fell silent"));
    let refused = runs.reports.iter().map(|report| report.join_failures).max();
    let refused = refused.unwrap_or(0);
    note(refused > 0, format!("{refused} joins failed"));
    let broken = worst(|step| (step.counts.auth_failures + step.counts.corrupt) as f64);
    note(broken > 0.0, format!("{broken} packets broken"));
    let disagreed = worst(|step| step.counts.oracle_disagreed as f64);
    note(
        disagreed > 0.0,
        format!("webrtc-srtp reads {disagreed} packets otherwise"),
    );
    let others = others_cpus(runs);
    note(
        others > DISTURBING_CPUS,
        format!("others took {others:.1} CPUs"),
    );
    notes
}

#[cfg(test)]
mod tests;
