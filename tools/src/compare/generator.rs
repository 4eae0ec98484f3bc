//! Runs `fanmill-bench`, a process of its own, and reads what it reports.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::args::{CompareArgs, Load};
use super::server::Server;
use crate::report::Report;
use crate::server::OwnServer;

/// The cost of bare sending in one mode, as `fanmill-bench --floor` reports it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Floor {
    /// How packets left.
    pub mode: String,
    /// Share of them that did not arrive.
    pub loss: f64,
    /// CPU of the sending thread per packet, in nanoseconds.
    pub ns_per_packet: f64,
}

/// The load generator with the settings of a comparison.
pub struct Generator<'a> {
    program: PathBuf,
    args: &'a CompareArgs,
}

impl<'a> Generator<'a> {
    /// The generator beside this program.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(args: &'a CompareArgs) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("fanmill-bench");
        ensure!(
            program.is_file(),
            "no {}: build it (cargo build --release -p fanmill-tools)",
            program.display()
        );
        Ok(Self { program, args })
    }

    /// Loads `server`, which runs, with `load`, or searches its limit at that bit rate.
    ///
    /// # Errors
    /// With what the generator said, when it could not measure.
    pub async fn drive(
        &self,
        kind: Server,
        server: &OwnServer,
        load: Load,
    ) -> anyhow::Result<Report> {
        let args = self.args;
        let mut command = self.command(load);
        for protocol in ["whip", "whep"] {
            command.arg(format!("--{protocol}"));
            command.arg(server.endpoint(protocol, "bench%n"));
        }
        command.args(["--srtp", args.srtp.name()]);
        // The fronts of the peers tell at /pid which process it is.
        if kind == Server::Fanmill {
            command.args(["--pid", &server.pid().to_string()]);
        }
        if args.find_max {
            command.arg("--find-max");
            command.args(["--max-viewers", &args.max_viewers.to_string()]);
        } else {
            command.args(["--viewers", &load.viewers.to_string()]);
        }
        report_of(command).await
    }

    /// Measures bare sending of the same packets to as many receivers, in each mode.
    ///
    /// # Errors
    /// With what the generator said, when it could not measure.
    pub async fn floor(&self, load: Load) -> anyhow::Result<Vec<Floor>> {
        let mut command = self.command(load);
        command.args(["--floor", "--viewers", &load.viewers.to_string()]);
        report_of(command).await
    }

    fn command(&self, load: Load) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--quiet", "--bitrate", &load.bitrate_bps.to_string()])
            .args(["--duration", &self.args.duration.to_string()])
            .args(&self.args.bench)
            .kill_on_drop(true);
        command
    }
}

async fn report_of<T: DeserializeOwned>(mut command: Command) -> anyhow::Result<T> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let json = directory.path().join("report.json");
    command.arg("--json").arg(&json);
    // Why it failed is asked of it; where in the code is of no use here.
    command.env("RUST_BACKTRACE", "0");
    let output = command
        .output()
        .await
        .context("cannot start the generator")?;
    if !output.status.success() {
        let flags: Vec<OsString> = command.as_std().get_args().map(Into::into).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "fanmill-bench {flags:?}: {}\n{}",
            output.status,
            said.trim()
        );
    }
    let report = std::fs::read(json).context("the generator wrote no report")?;
    serde_json::from_slice(&report).context("the generator's report is not understood")
}
