//! `fanmill bench`: the load generator, a program of its own beside this one.
//!
//! It has its own command line, which is passed on unseen, and takes this process over: nothing of
//! the server is running in what measures it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

const PROGRAM: &str = "fanmill-bench";

/// What the load generator is told.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Arguments of the load generator; `fanmill bench --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Why the load generator was not started.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// This program does not know where it lies itself.
    #[error("cannot find out where this program is: {0}; start {PROGRAM} by itself")]
    OwnPath(#[source] std::io::Error),
    /// It is not there, or cannot be started.
    #[error(
        "cannot start {}: {source}; it is built by `cargo build --release --workspace --bins` and \
         lies beside `fanmill`", path.display()
    )]
    Start {
        /// Where it was looked for.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Becomes the load generator; returns only if that fails.
///
/// # Errors
/// [`BenchError`].
pub fn run(args: BenchArgs) -> Result<std::convert::Infallible, BenchError> {
    let own = std::env::current_exe().map_err(BenchError::OwnPath)?;
    let path = own.with_file_name(PROGRAM);
    let source = Command::new(&path).args(args.arguments).exec();
    Err(BenchError::Start { path, source })
}
