//! The `compare-peers` program: reads the command line and hands over to the library.
//! `tools/compare-peers` builds and starts it.

use clap::Parser;
use fanmill_tools::compare::args::CompareArgs;

fn main() -> anyhow::Result<()> {
    fanmill_tools::compare::run(&CompareArgs::parse())
}
