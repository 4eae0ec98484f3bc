//! Fanmill beside other media servers: the same load on each, in turn, and one table with ratios.
//!
//! [`run`] is the only entry; the program `compare-peers` calls it. Everything measured comes from
//! `fanmill-bench`, which runs as a process of its own; nothing here looks at a packet or a clock.
//! Each run has a fresh server, and the servers take turns, so that whatever else the machine does
//! meanwhile hits all of them alike.

pub mod args;
pub mod generator;
pub mod server;
pub mod summary;
pub mod table;

use std::path::Path;

use anyhow::{Context, bail, ensure};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use args::{CompareArgs, Load};
use generator::{Floor, Generator};
use server::Server;
use summary::{FloorRow, Row, Runs};

use crate::report::{Report, kernel, processor};
use crate::run::raise_open_files;

/// What Janus needs beside two for each viewer, rounded up.
const MIN_OPEN_FILES: u64 = 4096;

/// The whole comparison, as JSON has it.
#[derive(Debug, Serialize)]
struct Comparison {
    machine: Machine,
    /// The version of each server.
    versions: Vec<String>,
    rounds: u32,
    /// Length of each measurement; a search has its own.
    seconds: Option<f64>,
    srtp: crate::args::SrtpArg,
    /// More flags that the generator was given.
    generator_flags: Vec<String>,
    loads: Vec<Compared>,
}

/// Where it was measured, and when.
#[derive(Debug, Serialize)]
struct Machine {
    date: String,
    processor: String,
    cpus: usize,
    kernel: String,
}

/// One load: the rows of the table, and what they were made from.
#[derive(Debug, Serialize)]
struct Compared {
    load: Load,
    rows: Vec<Row>,
    floor: Vec<FloorRow>,
    runs: Vec<Runs>,
    /// Bare sending, of each round.
    floors: Vec<Vec<Floor>>,
    floor_failures: Vec<String>,
}

/// Runs what the command line asks for and prints the tables.
///
/// # Errors
/// When a server could not be measured in any round; the tables of the others are printed.
pub fn run(args: &CompareArgs) -> anyhow::Result<()> {
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        // Dropped halfway, it takes the server and the generator with it.
        tokio::select! {
            result = compare(args) => result,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    let fanmill = crate::server::program(args.server.as_deref())?;
    let generator = Generator::new(args)?;
    server::install(&args.only).await?;
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let janus = args.only.contains(&Server::Janus);
    ensure!(
        open_files >= MIN_OPEN_FILES || !janus,
        "janus needs {MIN_OPEN_FILES} open files, {open_files} are allowed: raise `ulimit -n`"
    );
    let mut comparison = Comparison {
        machine: Machine::look().await?,
        versions: Vec::new(),
        rounds: args.rounds,
        seconds: (!args.find_max).then_some(args.duration),
        srtp: args.srtp,
        generator_flags: args.bench.clone(),
        loads: Vec::new(),
    };
    for server in &args.only {
        let version = server.version(&fanmill).await;
        comparison
            .versions
            .push(version.with_context(|| format!("no {}", server.name()))?);
    }
    println!("{}", comparison.heading());
    for &load in &args.loads {
        let compared = compare_at(args, &generator, &fanmill, load).await?;
        println!("\n{}", compared.render(args.find_max));
        comparison.loads.push(compared);
    }
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&comparison)?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let runs = comparison.loads.iter().flat_map(|compared| &compared.runs);
    let mut without = runs.filter(|runs| runs.reports.is_empty());
    let unmeasured = without.next().map(|runs| runs.server.name());
    ensure!(
        unmeasured.is_none(),
        "{} could not be measured; why stands under its table",
        unmeasured.unwrap_or_default()
    );
    Ok(())
}

async fn compare_at(
    args: &CompareArgs,
    generator: &Generator<'_>,
    fanmill: &Path,
    load: Load,
) -> anyhow::Result<Compared> {
    let empty = |&server: &Server| Runs {
        server,
        reports: Vec::new(),
        failures: Vec::new(),
    };
    let title = load.title(args.find_max);
    let mut runs: Vec<Runs> = args.only.iter().map(empty).collect();
    let (mut floors, mut floor_failures) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        for of_server in &mut runs {
            let name = of_server.server.name();
            eprintln!("{title}: round {round} of {}, {name}", args.rounds);
            match measure(args, generator, fanmill, of_server.server, load).await {
                Ok(report) => of_server.reports.push(report),
                Err(error) => of_server.failures.push(format!("{error:#}")),
            }
        }
        if !args.find_max {
            eprintln!("{title}: round {round} of {}, floor", args.rounds);
            match generator.floor(load).await {
                Ok(floor) => floors.push(floor),
                Err(error) => floor_failures.push(format!("{error:#}")),
            }
        }
    }
    let (rows, floor) = summary::summarize(&runs, &floors);
    Ok(Compared {
        load,
        rows,
        floor,
        runs,
        floors,
        floor_failures,
    })
}

async fn measure(
    args: &CompareArgs,
    generator: &Generator<'_>,
    fanmill: &Path,
    kind: Server,
    load: Load,
) -> anyhow::Result<Report> {
    let server = kind.start(fanmill, args.srtp).await?;
    let report = generator.drive(kind, &server, load).await;
    let log = server.stop().await;
    let report = report.with_context(|| format!("{} said: {}", kind.name(), log.trim()))?;
    if !log.trim().is_empty() {
        eprintln!("{} said:\n{}", kind.name(), log.trim());
    }
    summary::check(&report)?;
    Ok(report)
}

impl Comparison {
    fn heading(&self) -> String {
        let Machine {
            date,
            processor,
            cpus,
            kernel,
        } = &self.machine;
        let flags = match &self.generator_flags[..] {
            [] => String::new(),
            flags => format!(", fanmill-bench {}", flags.join(" ")),
        };
        let seconds = self.seconds.map(|seconds| format!(" of {seconds} s"));
        format!(
            "{date}, {processor}, {cpus} CPUs, Linux {kernel}\n{}\none media thread each; medians \
             of {} round(s){}; SRTP {} offered{flags}; latency and join in ms",
            self.versions.join("; "),
            self.rounds,
            seconds.unwrap_or_default(),
            self.srtp.name(),
        )
    }
}

impl Compared {
    fn render(&self, search: bool) -> String {
        let table = if search {
            table::search(self.load, &self.rows)
        } else {
            table::cost(self.load, &self.rows, &self.floor)
        };
        let mut failures = table::failures("floor", &self.floor_failures);
        for runs in &self.runs {
            failures += &table::failures(runs.server.name(), &runs.failures);
        }
        table + table::warning(&self.rows) + &failures
    }
}

impl Machine {
    async fn look() -> anyhow::Result<Self> {
        let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
        let date = date.await.context("cannot run `date`")?;
        Ok(Self {
            date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
            processor: processor(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: kernel(),
        })
    }
}
