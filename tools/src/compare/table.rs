//! A comparison as text for people.

use std::fmt::Write;

use super::args::Load;
use super::summary::{DISTURBING_CPUS, FloorRow, Row, Spread};

const COST: [&str; 12] = [
    "server",
    "ns/packet",
    "range",
    "ratio",
    "loss %",
    "lat. p50",
    "lat. p99",
    "join p50",
    "join p99",
    "KiB/viewer",
    "SRTP",
    "notes",
];

const SEARCH: [&str; 9] = [
    "server",
    "viewers",
    "range",
    "ratio",
    "ns/packet",
    "lat. p50",
    "lat. p99",
    "SRTP",
    "notes",
];

/// The table of what a load cost each server, and of what sending it costs at least.
#[must_use]
pub fn cost(load: Load, rows: &[Row], floor: &[FloorRow]) -> String {
    let servers = rows.iter().map(|row| {
        [
            row.server.name().to_owned(),
            format!("{:.0}", row.ns_per_packet.median),
            range(&row.ns_per_packet),
            ratio(row.ratio),
            format!("{:.4}", 100.0 * row.loss),
            ms(row.latency_p50_us),
            ms(row.latency_p99_us),
            ms(row.join_p50_us),
            ms(row.join_p99_us),
            format!("{:.0}", row.bytes_per_viewer / 1024.0),
            profiles(row),
            row.notes.join("; "),
        ]
    });
    let floors = floor.iter().map(|row| {
        let mut cells = [const { String::new() }; COST.len()];
        cells[0] = format!("floor, {}", row.mode);
        cells[1] = format!("{:.0}", row.ns_per_packet.median);
        cells[2] = range(&row.ns_per_packet);
        cells[3] = ratio(row.ratio);
        cells[4] = format!("{:.4}", 100.0 * row.loss);
        cells
    });
    let lines: Vec<_> = servers.chain(floors).collect();
    format!("{}\n\n{}", load.title(false), align(COST, &lines))
}

/// The table of how many viewers each server served well.
#[must_use]
pub fn search(load: Load, rows: &[Row]) -> String {
    let lines: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                row.server.name().to_owned(),
                format!("{:.0}", row.viewers.median),
                range(&row.viewers),
                ratio(row.ratio),
                format!("{:.0}", row.ns_per_packet.median),
                ms(row.latency_p50_us),
                ms(row.latency_p99_us),
                profiles(row),
                row.notes.join("; "),
            ]
        })
        .collect();
    format!("{}\n\n{}", load.title(true), align(SEARCH, &lines))
}

/// A warning, if others used the machine while the rows were measured.
#[must_use]
pub fn warning(rows: &[Row]) -> &'static str {
    let disturbed = rows.iter().any(|row| row.others_cpus > DISTURBING_CPUS);
    if disturbed {
        "! other processes used the machine meanwhile: measure again when it is quiet, and trust \
         no ratio until then\n"
    } else {
        ""
    }
}

/// Why rounds of `what` failed.
#[must_use]
pub fn failures(what: &str, failures: &[String]) -> String {
    let lines = failures.iter().map(|why| format!("! {what}: {why}\n"));
    lines.collect()
}

/// The first and the last column are text and stand left, numbers stand right.
fn align<const N: usize>(heading: [&str; N], lines: &[[String; N]]) -> String {
    let heading = heading.map(str::to_owned);
    let all = || std::iter::once(&heading).chain(lines);
    let widths: [usize; N] = std::array::from_fn(|at| {
        all()
            .map(|line| line[at].chars().count())
            .max()
            .unwrap_or(0)
    });
    let mut out = String::new();
    for line in all() {
        let mut text = format!("{:<width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(widths).take(N - 1).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        // Writing to a String cannot fail, here and above.
        let _ = write!(text, "  {}", line[N - 1]);
        let _ = writeln!(out, "{}", text.trim_end());
    }
    out
}

fn range(spread: &Spread) -> String {
    format!("{:.0}-{:.0}", spread.lowest, spread.highest)
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn ms(us: f64) -> String {
    format!("{:.2}", us / 1000.0)
}

fn profiles(row: &Row) -> String {
    let names: Vec<_> = row.srtp.iter().map(|profile| profile.name()).collect();
    names.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::SrtpArg;
    use crate::compare::server::Server;

    const LOAD: Load = Load {
        viewers: 100,
        bitrate_bps: 2_500_000,
    };

    fn spread(lowest: f64, median: f64, highest: f64) -> Spread {
        Spread {
            median,
            lowest,
            highest,
        }
    }

    fn row(server: Server, ns: f64, ratio: Option<f64>, notes: &[&str]) -> Row {
        Row {
            server,
            viewers: spread(100.0, 110.0, 120.0),
            ns_per_packet: spread(ns - 5.0, ns, ns + 10.0),
            ratio,
            loss: 0.00012,
            latency_p50_us: 1234.0,
            latency_p99_us: 20_000.0,
            join_p50_us: 8500.0,
            join_p99_us: 253_400.0,
            bytes_per_viewer: 90.0 * 1024.0,
            srtp: vec![SrtpArg::Gcm128],
            others_cpus: 0.1,
            notes: notes.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn the_cost_table_has_servers_and_floor_under_one_heading() {
        let rows = [
            row(Server::Fanmill, 900.0, Some(1.0), &[]),
            row(
                Server::Janus,
                9000.0,
                Some(10.0),
                &["machine full", "2 of 3 rounds"],
            ),
        ];
        let floor = FloorRow {
            mode: "single".to_owned(),
            ns_per_packet: spread(2000.0, 2250.0, 2500.0),
            ratio: Some(2.5),
            loss: 0.0,
        };
        let expected = "\
100 viewers of 2.5 Mbit/s

server         ns/packet      range  ratio  loss %  lat. p50  lat. p99  join p50  join p99  KiB/viewer    SRTP  notes
fanmill              900    895-910   1.00  0.0120      1.23     20.00      8.50    253.40          90  gcm128
janus               9000  8995-9010  10.00  0.0120      1.23     20.00      8.50    253.40          90  gcm128  machine full; 2 of 3 rounds
floor, single       2250  2000-2500   2.50  0.0000
";
        assert_eq!(cost(LOAD, &rows, &[floor]), expected);
    }

    #[test]
    fn the_search_table_has_viewers_instead_of_cost() {
        let rows = [row(Server::Medooze, 4000.0, None, &[])];
        let expected = "\
the most viewers of 2.5 Mbit/s

server   viewers    range  ratio  ns/packet  lat. p50  lat. p99    SRTP  notes
medooze      110  100-120      -       4000      1.23     20.00  gcm128
";
        assert_eq!(search(LOAD, &rows), expected);
    }

    #[test]
    fn one_disturbed_row_is_enough_for_a_warning() {
        let mut rows = [
            row(Server::Fanmill, 900.0, None, &[]),
            row(Server::Janus, 9000.0, None, &[]),
        ];
        assert_eq!(warning(&rows), "");
        rows[1].others_cpus = 0.3;
        assert!(warning(&rows).starts_with("! other processes"));
    }

    #[test]
    fn failures_are_told_by_server() {
        let why = ["it does not listen".to_owned()];
        assert_eq!(failures("janus", &why), "! janus: it does not listen\n");
    }
}
