//! The `fanmill-bench` program: reads the command line and hands over to the library.

use clap::Parser;
use fanmill_tools::args::BenchArgs;

fn main() -> anyhow::Result<()> {
    fanmill_tools::run::run(BenchArgs::parse())
}
