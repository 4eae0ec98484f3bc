//! How many instructions the packet path takes, held against what was recorded.
//!
//! Wall time moves with the machine and with what else runs on it; instruction counts do not.
//! Each scenario runs in a process of its own under `valgrind --tool=callgrind`, and only the
//! engine's own instructions are counted: those of the cryptographic library and of libc depend on
//! the processor. `tools/instruction-counts` runs this.

mod callgrind;
mod counts;
mod scenarios;

use std::env;
use std::process::ExitCode;

use counts::Counts;
use scenarios::Scenario;

/// How much more than recorded is an error, in percent.
const TOLERANCE_PERCENT: f64 = 5.0;

const USAGE: &str = "usage: tools/instruction-counts [--write]

  Counts the instructions of the packet path and compares them with
  benches/instructions/counts.txt; fails if a count rose by more than 5 %.
  --write  records the counts instead";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] => compare(),
        ["--write"] => write(),
        // What is started under valgrind.
        ["--scenario", name] => run(name),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> Result<(), String> {
    let mut scenarios = scenarios::ALL.iter();
    let scenario = scenarios.find(|scenario| scenario.name == name);
    let scenario = scenario.ok_or_else(|| format!("there is no scenario {name:?}"))?;
    (scenario.run)();
    Ok(())
}

fn measure() -> Result<Counts, String> {
    let mut counts = Counts::default();
    println!(
        "{:<44} {:>10} {:>10} {:>10}",
        "instructions per unit", "engine", "crypto", "elsewhere"
    );
    for Scenario { name, units, .. } in scenarios::ALL {
        let share = callgrind::count(name)?;
        let per_unit = |count: u64| count as f64 / *units as f64;
        println!(
            "{name:<44} {:>10.1} {:>10.1} {:>10.1}",
            per_unit(share.engine),
            per_unit(share.crypto),
            per_unit(share.elsewhere)
        );
        counts.add(name, per_unit(share.engine));
    }
    println!();
    Ok(counts)
}

fn compare() -> Result<(), String> {
    let recorded = Counts::read()?;
    let found = measure()?;
    println!(
        "{:<44} {:>10} {:>10} {:>9}",
        "the engine's own", "recorded", "now", "change"
    );
    let changes = recorded.compare(&found);
    changes.iter().for_each(|change| println!("{change}"));
    let wrong = changes.iter().any(|change| match change.percent() {
        Some(percent) => percent > TOLERANCE_PERCENT,
        None => true,
    });
    recorded.note_other_compiler();
    if wrong {
        let cure = "if that is meant, record it with tools/instruction-counts --write";
        return Err(format!(
            "a count rose by more than {TOLERANCE_PERCENT} %, or is not recorded; {cure}"
        ));
    }
    Ok(())
}

fn write() -> Result<(), String> {
    measure()?.write()
}
