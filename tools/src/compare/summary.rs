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
const DISTURBING_CPUS: f64 = 0.2;

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
    let broken = worst(|step| step.counts.integrity_failures() as f64);
    note(broken > 0.0, format!("{broken} packets broken"));
    let others = Spread::of(steps().map(|step| step.others_cpus + step.stolen_cpus));
    let others = others.map_or(0.0, |others| others.median);
    note(
        others > DISTURBING_CPUS,
        format!("others took {others:.1} CPUs"),
    );
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::BenchArgs;
    use crate::measure::totals::{Counts, histogram_us};
    use crate::report::Usage;
    use crate::run::{Failures, JoinPhases};
    use clap::Parser;

    /// A step in which nothing went wrong.
    fn step(viewers: u64, ns_per_packet: f64) -> Step {
        Step {
            viewers,
            joined: viewers,
            counts: Counts {
                packets: 1000,
                expected: 1000,
                ..Counts::default()
            },
            server: Some(Usage {
                ns_per_packet,
                ..Usage::default()
            }),
            server_bytes_per_viewer: Some(2048.0),
            machine_cpus: 2,
            ..Step::default()
        }
    }

    /// What the generator would have reported, and this program read.
    fn report(flags: &[&str], steps: Vec<Step>) -> Report {
        let args = BenchArgs::parse_from([&["fanmill-bench"], flags].concat());
        let phases = JoinPhases {
            answer_us: histogram_us(),
            check_us: histogram_us(),
            handshake_us: histogram_us(),
        };
        let srtp = vec![SrtpArg::Gcm128];
        let report = Report::new(&args, None, steps, Failures::default(), &phases, srtp);
        let json = serde_json::to_string(&report).expect("a report is data");
        serde_json::from_str(&json).expect("what is written can be read")
    }

    fn load(step: Step) -> Report {
        report(&["--viewers", "10"], vec![step])
    }

    fn runs(server: Server, reports: Vec<Report>) -> Runs {
        Runs {
            server,
            reports,
            failures: Vec::new(),
        }
    }

    fn cost(server: Server, ns: &[f64]) -> Runs {
        runs(server, ns.iter().map(|&ns| load(step(10, ns))).collect())
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let median = |figures: &[f64]| Spread::of(figures.iter().copied()).map(|s| s.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 100.0, 2.0]), Some(3.0));
        let spread = Spread::of([3.0, 1.0, 2.0]).map(|s| (s.lowest, s.highest));
        assert_eq!(spread, Some((1.0, 3.0)));
    }

    #[test]
    fn ratios_are_of_medians_and_to_fanmill_wherever_it_stands() {
        let all = [
            cost(Server::Janus, &[9000.0, 8000.0, 20_000.0]),
            cost(Server::Fanmill, &[5000.0, 1000.0, 900.0]),
        ];
        let (rows, _) = summarize(&all, &[]);
        assert_eq!(rows[0].ns_per_packet.median, 9000.0);
        assert_eq!((rows[0].ratio, rows[1].ratio), (Some(9.0), Some(1.0)));
        assert_eq!(rows[0].srtp, [SrtpArg::Gcm128]);
        assert_eq!(rows[0].bytes_per_viewer, 2048.0);
        assert!(rows[0].notes.is_empty(), "{:?}", rows[0].notes);
    }

    #[test]
    fn without_fanmill_there_is_no_ratio() {
        let (rows, _) = summarize(&[cost(Server::Janus, &[9000.0])], &[]);
        assert_eq!(rows[0].ratio, None);
        let (rows, _) = summarize(&[runs(Server::Fanmill, Vec::new())], &[]);
        assert!(rows.is_empty(), "nothing was measured");
    }

    #[test]
    fn each_mode_of_the_floor_has_its_median_and_ratio() {
        let floors = |single, padded| {
            let floor = |mode: &str, ns_per_packet| Floor {
                mode: mode.to_owned(),
                loss: 0.0,
                ns_per_packet,
            };
            vec![floor("single", single), floor("padded", padded)]
        };
        let all = [cost(Server::Fanmill, &[1000.0])];
        let floors = [
            floors(3000.0, 500.0),
            floors(2000.0, 700.0),
            floors(2500.0, 600.0),
        ];
        let (_, floor) = summarize(&all, &floors);
        let figures = floor
            .iter()
            .map(|row| (&row.mode[..], row.ns_per_packet.median, row.ratio));
        let expected = [("single", 2500.0, Some(2.5)), ("padded", 600.0, Some(0.6))];
        assert_eq!(Vec::from_iter(figures), expected);
    }

    #[test]
    fn a_search_compares_the_most_viewers_served_well() {
        let bad = |viewers, busiest_receiver| Step {
            loss: 0.5,
            busiest_receiver,
            ..step(viewers, 1.0)
        };
        let search = |largest, busiest| {
            let steps = vec![
                step(50, 4000.0),
                bad(2 * largest, busiest),
                step(largest, 3000.0),
            ];
            report(&["--find-max"], steps)
        };
        let all = [
            runs(Server::Fanmill, vec![search(800, 0.97)]),
            runs(Server::Medooze, vec![search(100, 0.4), search(300, 0.5)]),
        ];
        let (rows, _) = summarize(&all, &[]);
        assert_eq!((rows[1].viewers.median, rows[1].ratio), (200.0, Some(0.25)));
        assert_eq!(
            rows[1].ns_per_packet.median, 3000.0,
            "of the largest good step"
        );
        assert_eq!(rows[0].notes, ["generator 97 % busy, its limit"]);
        assert!(rows[1].notes.is_empty(), "its generator had CPU to spare");
    }

    #[test]
    fn a_row_says_what_was_wrong_in_any_round() {
        let wrong = |change: fn(&mut Step)| {
            let mut step = step(10, 1000.0);
            change(&mut step);
            notes(&runs(Server::Janus, vec![cost_of_one(), load(step)]))
        };
        assert_eq!(
            wrong(|step| step.busiest_receiver = 0.95),
            ["generator 95 % busy, its limit"]
        );
        assert_eq!(wrong(|step| step.generator.cpus = 1.95), ["machine full"]);
        assert_eq!(
            wrong(|step| step.load_share = Some(0.8)),
            ["load only 80 %"]
        );
        assert_eq!(wrong(|step| step.joined = 7), ["3 viewers without media"]);
        assert_eq!(wrong(|step| step.silent = 2), ["2 viewers fell silent"]);
        assert_eq!(wrong(|step| step.counts.corrupt = 1), ["1 packets broken"]);
        assert_eq!(
            wrong(|step| step.others_cpus = 0.8),
            ["others took 0.4 CPUs"]
        );
        assert!(wrong(|_| ()).is_empty());
    }

    fn cost_of_one() -> Report {
        load(step(10, 1000.0))
    }

    #[test]
    fn failed_rounds_are_told_and_do_not_count() {
        let mut all = cost(Server::Medooze, &[1000.0, 2000.0]);
        all.failures.push("it ended".to_owned());
        let (rows, _) = summarize(&[all], &[]);
        assert_eq!(rows[0].ns_per_packet.median, 1500.0);
        assert_eq!(rows[0].notes, ["2 of 3 rounds"]);
    }

    #[test]
    fn a_report_without_the_figure_is_refused() {
        assert!(check(&cost_of_one()).is_ok());
        let unknown = Step {
            server: None,
            ..step(10, 1.0)
        };
        assert!(check(&load(unknown)).is_err());
        let nothing = Step {
            counts: Counts::default(),
            ..step(10, 1.0)
        };
        assert!(check(&load(nothing)).is_err());
        let never_good = Step {
            loss: 0.9,
            ..step(50, 1.0)
        };
        assert!(check(&report(&["--find-max"], vec![never_good])).is_err());
    }
}
