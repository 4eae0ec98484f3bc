//! The command line: `fanmill serve`, `fanmill ctl`, `fanmill doctor`, `fanmill bench`.
//!
//! Called by `main` alone. Each command is a module with a `run`; what they print for people goes
//! through the module `table`, what they print for programs is JSON.

pub mod bench;
pub mod ctl;
pub mod doctor;
mod listen;
pub mod serve;
pub mod shutdown;
mod table;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use crate::config::{Config, ConfigError, Settings};

const EXAMPLES: &str = "\
Examples:
  fanmill                                       serve on this machine alone, port 8080
  fanmill serve --http 0.0.0.0:8080 --udp-ip 192.0.2.10
                                                serve a network
  fanmill serve --http 0.0.0.0:8080 --udp-ip 0.0.0.0 --public-ip 203.0.113.7
                                                serve from behind NAT or in a container
  fanmill doctor                                what this machine grants, and what to change
  fanmill bench                                 what this machine can carry, in a minute
  fanmill ctl streams                           what the running server is doing
  fanmill ctl log.set '{\"filter\": \"debug\"}'     call any admin method";

/// Fanmill: a WebRTC broadcast engine. Publish once (WHIP), watched by many (WHEP).
#[derive(Debug, clap::Parser)]
#[command(name = "fanmill", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// The command given; `serve` with defaults if there is none.
    #[must_use]
    pub fn command(self) -> Command {
        self.command
            .unwrap_or_else(|| Command::Serve(ServeArgs::default()))
    }
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run the server (also what `fanmill` alone does)
    #[command(after_help = serve::EXAMPLES)]
    Serve(ServeArgs),
    /// Talk to a running server through its admin socket
    #[command(after_help = ctl::EXAMPLES)]
    Ctl(ctl::CtlArgs),
    /// Check this machine: OK, WARN or FAIL for each thing the server needs, with the cure
    Doctor(doctor::DoctorArgs),
    /// Measure: what this machine can carry, or what any WHIP and WHEP server does
    #[command(disable_help_flag = true)]
    Bench(bench::BenchArgs),
}

/// The configuration's flags and the file below them.
#[derive(Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// TOML file with the same names as the flags, which win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl ServeArgs {
    fn load(self) -> Result<Config, ConfigError> {
        Config::load(self.settings, self.config.as_deref())
    }
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> std::io::Result<()> {
    print_or_end(text).map(|_| ())
}

/// Prints to standard output; `false` if nobody reads any more.
fn print_or_end(text: &str) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_arguments_mean_serve_with_the_defaults() {
        let Command::Serve(args) = Cli::parse_from(["fanmill"]).command() else {
            panic!("another command");
        };
        assert_eq!(args.settings, Settings::default());
        assert_eq!(args.config, None);
    }
}
