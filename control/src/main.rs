//! The `fanmill` program: reads the command line and hands over to the library.

use std::process::ExitCode;

use clap::Parser;
use fanmill_control::cli::{Cli, Command, bench, ctl, doctor, serve};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fanmill: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command() {
        Command::Bench(args) => match bench::run(args)? {},
        Command::Serve(args) => serve::run(args)?,
        Command::Ctl(args) => ctl::run(args)?,
        Command::Doctor(args) => return Ok(doctor::run(args)?),
    }
    Ok(ExitCode::SUCCESS)
}
