use super::*;
use crate::args::BenchArgs;
use crate::measure::joining::Joining;
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
    let report = Report::new(
        &args,
        None,
        steps,
        Failures::default(),
        &phases,
        &Joining::default(),
        srtp,
    );
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
fn a_search_is_disturbed_by_what_others_took_when_it_ended() {
    let failed = Step {
        loss: 0.5,
        others_cpus: 1.5,
        ..step(100, 1.0)
    };
    let search = report(&["--find-max"], vec![step(50, 1.0), failed]);
    let (rows, _) = summarize(&[runs(Server::Fanmill, vec![search])], &[]);
    assert_eq!(rows[0].viewers.median, 50.0);
    assert_eq!(rows[0].others_cpus, 1.5);
    assert_eq!(rows[0].notes, ["others took 1.5 CPUs"]);
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
        wrong(|step| step.counts.oracle_disagreed = 2),
        ["webrtc-srtp reads 2 packets otherwise"]
    );
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
