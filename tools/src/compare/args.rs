//! The command line of the comparison.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::server::Server;
use crate::args::{SrtpArg, parse_bitrate};

const EXAMPLES: &str = "\
Examples:
  tools/compare-peers                            both loads, three rounds: about a quarter of an hour
  tools/compare-peers --load 200x1M --rounds 5   another load, with more certainty
  tools/compare-peers --only fanmill,janus       without Medooze, which takes long to install
  tools/compare-peers --find-max                 the largest number of viewers of each
  tools/compare-peers --srtp sha1 -- --no-audio  flags after -- are fanmill-bench's
  tools/compare-peers install                    install the peers, and no more

The peers are installed under target/peers if they are not there: Medooze takes ten minutes of
compiling, Janus is the distribution's.";

/// Measures Fanmill beside Medooze and Janus: the same load on each, in turn, and one table.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "compare-peers", version, after_help = EXAMPLES)]
pub struct CompareArgs {
    /// Servers to measure; ratios are to fanmill
    #[arg(long, value_name = "SERVERS", value_enum, value_delimiter = ',', default_values_t = Server::ALL)]
    pub only: Vec<Server>,
    /// Viewers and the video's bits per second; may be repeated
    #[arg(long = "load", value_name = "VIEWERSxBPS", default_values = ["100x2.5M", "500x600k"])]
    pub loads: Vec<Load>,
    /// Times that each server is measured, one after the other
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Seconds of steady state to measure each time
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub duration: f64,
    /// SRTP profile that is offered, and no other
    #[arg(long, value_enum, default_value_t = SrtpArg::Gcm128)]
    pub srtp: SrtpArg,
    /// Search the largest number of viewers served well; of the loads only the bit rate counts
    #[arg(long)]
    pub find_max: bool,
    /// Where the search stops at the latest
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub max_viewers: u64,
    /// The fanmill to measure [default: `fanmill` beside this program]
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,
    /// Write everything as JSON, the report of each run included
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// More flags for fanmill-bench
    #[arg(last = true, value_name = "FLAGS")]
    pub bench: Vec<String>,
}

/// What the servers have to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Viewers of one stream.
    pub viewers: u64,
    /// Bit rate of its video.
    pub bitrate_bps: u64,
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: give viewers and bit rate, such as 100x2.5M");
        let (viewers, bitrate) = text.split_once('x').ok_or_else(wrong)?;
        let viewers = viewers.parse().map_err(|_| wrong())?;
        let bitrate_bps = parse_bitrate(bitrate)?;
        if viewers == 0 {
            return Err(wrong());
        }
        Ok(Self {
            viewers,
            bitrate_bps,
        })
    }
}

impl Load {
    /// What is measured with it: its cost, or in a search the viewers there can be.
    #[must_use]
    pub fn title(self, search: bool) -> String {
        match search {
            true => format!("the most viewers of {}", self.bitrate()),
            false => self.to_string(),
        }
    }

    fn bitrate(self) -> String {
        format!("{} Mbit/s", self.bitrate_bps as f64 / 1e6)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} viewers of {}", self.viewers, self.bitrate())
    }
}

impl Serialize for Load {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        CompareArgs::command().debug_assert();
    }

    #[test]
    fn without_flags_every_server_carries_both_loads() {
        let args = CompareArgs::parse_from(["compare-peers"]);
        assert_eq!(args.only, Server::ALL);
        let loads: Vec<_> = args.loads.iter().map(ToString::to_string).collect();
        assert_eq!(
            loads,
            ["100 viewers of 2.5 Mbit/s", "500 viewers of 0.6 Mbit/s"]
        );
    }

    #[test]
    fn what_follows_two_dashes_is_for_the_generator() {
        let args = CompareArgs::parse_from(["compare-peers", "--only", "janus", "--", "--fps=60"]);
        assert_eq!(
            (args.only, args.bench),
            (vec![Server::Janus], vec!["--fps=60".to_owned()])
        );
    }

    #[test]
    fn loads_that_are_none_are_refused() {
        for wrong in [
            "", "100", "x1M", "0x1M", "-5x1M", "100x", "100x1G", "1Mx100",
        ] {
            assert!(wrong.parse::<Load>().is_err(), "{wrong}");
        }
    }
}
