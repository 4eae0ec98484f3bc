//! `links`: plays viewers behind simulated links and prints how well they are served, as tables in
//! Markdown; with a folder, draws them there too.
//!
//! ```text
//! cargo run --release -p fanmill-benches --bin links -- [--viewers N] [--plots FOLDER]
//! ```

use std::error::Error;
use std::path::PathBuf;

use fanmill_benches::links::{Scenario, plots, population, run, scenarios, tables};

/// Viewers of the audience unless told otherwise.
const VIEWERS: u64 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut viewers = VIEWERS;
    let mut folder: Option<PathBuf> = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--viewers" => viewers = value()?.parse()?,
            "--plots" => folder = Some(value()?.into()),
            _ => {
                return Err(format!("unknown: {argument}; there are --viewers and --plots").into());
            }
        }
    }
    if let Some(folder) = &folder {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let played = |scenarios: Vec<Scenario>| {
        let outcomes: Vec<_> = scenarios.iter().map(run).collect();
        println!("{}", tables::table(&scenarios, &outcomes));
        scenarios.into_iter().zip(outcomes).collect::<Vec<_>>()
    };
    let mut drawn = Vec::new();
    for (scenario, outcome) in played(scenarios::all()) {
        let file = match scenario.name {
            "3, 0.6, 2 Mbit/s" => "link-steps.svg",
            name if name.contains("download") => "link-download.svg",
            _ => continue,
        };
        drawn.push((file, plots::over_time(scenario.name, &outcome)?));
    }
    println!("Keyframes into short queues, 2 Mbit/s:\n");
    let _ = played(scenarios::pacing());
    if viewers > 0 {
        let audience = population::play(viewers);
        println!("{viewers} viewers:\n\n{}", tables::audience(&audience));
        drawn.push(("link-audience.svg", plots::audience(&audience)?));
    }
    if let Some(folder) = folder {
        for (file, svg) in drawn {
            std::fs::write(folder.join(file), svg)?;
        }
    }
    Ok(())
}
