//! `fanmill doctor`: what this machine grants a server, and what to change.
//!
//! Takes the flags of `serve` and checks for exactly that server. It changes nothing: what it
//! opens (sockets, a ring) it closes at once. Exits with 1 if anything would stop the server.

mod checks;
mod machine;
mod uring;

use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use serde::Serialize;

use super::ServeArgs;
use super::print;
use super::table::printable;
use crate::config::{Config, ConfigError};

/// Arguments of `fanmill doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Print JSON on one line
    #[arg(long)]
    json: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Standard output could not be written.
    #[error("cannot write the report: {0}")]
    Output(#[from] io::Error),
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    /// As it should be.
    Ok,
    /// The server runs, but slower, or with less room, or out of reach of some.
    Warn,
    /// The server will not run.
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    found: String,
    /// What to do; present unless all is well.
    cure: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            found: found.into(),
            cure: None,
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Warn,
            found: found.into(),
            cure: Some(cure.into()),
        }
    }

    fn fail(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Fail,
            found: found.into(),
            cure: Some(cure.into()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    /// Nothing failed.
    ok: bool,
    checks: Vec<Check>,
}

/// Examines the machine and prints the report.
///
/// # Errors
/// [`DoctorError`].
pub fn run(args: DoctorArgs) -> Result<ExitCode, DoctorError> {
    let config = args.serve.load()?;
    let report = examine(&config);
    let text = if args.json {
        json_line(&report)
    } else {
        table(&report)
    };
    print(&text)?;
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn examine(config: &Config) -> Report {
    let probed = fanmill_engine::io::uring::probe();
    let mut checks = vec![
        checks::kernel(&machine::kernel_release()),
        uring::check(&probed),
    ];
    let grants = probed.as_ref().ok();
    checks.extend(grants.map(|grants| uring::sending(grants.send_costs.as_ref())));
    checks.extend(checks::machine(config, grants));
    checks.extend(checks::addresses(config));
    let ok = checks.iter().all(|check| check.status != Status::Fail);
    Report { ok, checks }
}

fn json_line(report: &Report) -> String {
    let value = serde_json::to_value(report).expect("a report is made of strings");
    format!("{value}\n")
}

fn table(report: &Report) -> String {
    let width = report
        .checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in &report.checks {
        let status = match check.status {
            Status::Ok => "OK",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        };
        let found = printable(&check.found);
        let _ = writeln!(text, "{status:<4}  {:<width$}  {found}", check.name);
        for cure in check.cure.iter().flat_map(|cure| cure.lines()) {
            let _ = writeln!(text, "{:4}  {:<width$}  -> {}", "", "", printable(cure));
        }
    }
    let worst = report.checks.iter().map(|check| check.status).max();
    text.push_str(match worst {
        Some(Status::Fail) => "\nThe server will not run here as configured.\n",
        Some(Status::Warn) => "\nThe server runs here; the warnings say what it would gain.\n",
        _ => "\nNothing to change.\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up_and_puts_each_cure_below_its_finding() {
        let report = Report {
            ok: false,
            checks: vec![
                Check::ok("kernel", "6.18"),
                Check::fail("udp ports", "7900 in use", "stop it\nor move"),
            ],
        };
        let expected = "\
OK    kernel     6.18
FAIL  udp ports  7900 in use
                 -> stop it
                 -> or move

The server will not run here as configured.
";
        assert_eq!(table(&report), expected);
    }

    #[test]
    fn every_finding_that_is_not_ok_has_a_cure() {
        for check in examine(&Config::default()).checks {
            assert_eq!(
                check.status == Status::Ok,
                check.cure.is_none(),
                "{check:?}"
            );
        }
    }
}
