//! The command line of the load generator.

use std::path::PathBuf;

use fanmill_engine::srtp::Profile;
use reqwest::Url;

use crate::client::sdp::{Slots, VideoCodec};
use crate::viewer::Verify;

const EXAMPLES: &str = "\
Examples:
  fanmill-bench                                 what can this machine do (about a minute)
  fanmill-bench --viewers 500 --bitrate 2.5M    500 viewers of a server of its own
  fanmill-bench --whip http://host:8080/whip/load --whep http://host:8080/whep/load --viewers 200
                                                any WHIP and WHEP server
  fanmill-bench --whip http://host/whip/%n --whep http://host/whep/%n --publishers 4
                                                several streams, viewers spread over them
  fanmill-bench --room load --publishers 50 --viewers 50 --bitrate 150k --fps 15
                                                a room of 50, each of whom sees and hears the others
  fanmill-bench --whep http://host/whep/live --viewers 50
                                                watch a stream that somebody else publishes
  fanmill-bench --floor --viewers 500           what sending alone costs on this machine";

/// Load generator: publishes and watches through WHIP, WHEP, ICE, DTLS and SRTP, and says what it
/// cost.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "fanmill-bench", version, after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Endpoint to publish to; %n becomes the publisher's number
    #[arg(long, value_name = "URL", requires = "whep")]
    pub whip: Option<String>,
    /// Endpoint to watch; %n becomes the stream's number
    #[arg(long, value_name = "URL")]
    pub whep: Option<String>,
    /// Bearer token for both endpoints
    #[arg(long)]
    pub token: Option<String>,
    /// Number of viewers [default: 100, in a room as many as publish; without it, --whep and --room:
    /// search the largest]
    #[arg(long, short = 'n', value_name = "N")]
    pub viewers: Option<u64>,
    /// Number of publishers, each of one stream
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub publishers: u16,
    /// Let the publishers be members of a room, who speak in turn, and the viewers watch it in slots
    #[arg(long, value_name = "NAME", conflicts_with_all = ["whip", "whep", "no_audio", "find_max", "floor"])]
    pub room: Option<String>,
    /// Tracks of sound and of pictures that each viewer asks for [default: 1,1; in a room 3,6]
    #[arg(long, value_name = "AUDIO,VIDEO", value_parser = parse_slots)]
    pub slots: Option<Slots>,
    /// Video bit rate of each stream, in bits per second; k and M are understood
    #[arg(long, value_name = "BPS", default_value = "2.5M", value_parser = parse_bitrate)]
    pub bitrate: u64,
    /// Video frames per second
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub fps: u32,
    /// Video codec to imitate
    #[arg(long, value_enum, default_value_t = VideoCodec::Vp8)]
    pub codec: VideoCodec,
    /// Video only
    #[arg(long)]
    pub no_audio: bool,
    /// Seconds between keyframes that nobody asked for; 0: none
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub keyframe_interval: f64,
    /// Offer header extensions (mid, abs-send-time, transport-cc)
    #[arg(long)]
    pub extensions: bool,
    /// SRTP profiles to offer, in order
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [SrtpArg::Gcm128, SrtpArg::Gcm256, SrtpArg::Sha1])]
    pub srtp: Vec<SrtpArg>,
    /// Joins per second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub ramp: u32,
    /// Seconds of steady state to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub duration: f64,
    /// Packets to decrypt and check
    #[arg(long, value_enum, default_value_t = Verify::Sample)]
    pub verify: Verify,
    /// Search the largest number of viewers with loss < 0.1 % and p99 latency < 50 ms
    #[arg(long)]
    pub find_max: bool,
    /// Where the search stops at the latest
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub max_viewers: u64,
    /// Measure bare sending, without any protocol, to as many receivers
    #[arg(long, conflicts_with_all = ["whip", "whep", "find_max"])]
    pub floor: bool,
    /// Process whose CPU and memory are measured, if this run does not start it
    #[arg(long)]
    pub pid: Option<u32>,
    /// Server to start when no URL is given [default: `fanmill` beside this program]
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,
    /// Shards of the server that is started [default: half the CPUs]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Receiving threads [default: the CPUs that the server's shards leave, at least 1]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Take datagrams one by one, as receivers without UDP_GRO do: the kernel then splits each
    /// train on the sender's account
    #[arg(long)]
    pub no_gro: bool,
    /// Receive buffer of each viewer's socket, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    pub receive_buffer: usize,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a plot of cost and latency over the number of viewers
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// No progress bar
    #[arg(long, short = 'q')]
    pub quiet: bool,
}

/// An SRTP protection profile on the command line.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum SrtpArg {
    /// AEAD_AES_128_GCM.
    Gcm128,
    /// AEAD_AES_256_GCM.
    Gcm256,
    /// AES128_CM_HMAC_SHA1_80.
    Sha1,
}

impl SrtpArg {
    /// What stands for `profile`.
    #[must_use]
    pub const fn of(profile: Profile) -> Self {
        match profile {
            Profile::AeadAes128Gcm => Self::Gcm128,
            Profile::AeadAes256Gcm => Self::Gcm256,
            Profile::Aes128CmSha1_80 => Self::Sha1,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gcm128 => "gcm128",
            Self::Gcm256 => "gcm256",
            Self::Sha1 => "sha1",
        }
    }

    /// The profile meant.
    #[must_use]
    pub const fn profile(self) -> Profile {
        match self {
            Self::Gcm128 => Profile::AeadAes128Gcm,
            Self::Gcm256 => Profile::AeadAes256Gcm,
            Self::Sha1 => Profile::Aes128CmSha1_80,
        }
    }
}

impl BenchArgs {
    /// The endpoint of stream `number`.
    ///
    /// # Errors
    /// When the template is not an HTTP URL, or names one stream where there are several.
    pub fn endpoint(&self, template: &str, number: u16) -> anyhow::Result<Url> {
        anyhow::ensure!(
            self.publishers == 1 || template.contains("%n"),
            "{template}: with several publishers the URL needs %n where the number goes"
        );
        let url = Url::parse(&template.replace("%n", &number.to_string()))
            .map_err(|error| anyhow::anyhow!("{template}: {error}; give an http:// URL"))?;
        anyhow::ensure!(
            url.scheme() == "http",
            "{template}: give an http:// URL; signalling by HTTPS is not supported, as it has no \
             part in what is measured"
        );
        Ok(url)
    }

    /// The tracks each viewer asks for.
    #[must_use]
    pub fn viewer_slots(&self) -> Slots {
        let usual = match self.room {
            Some(_) => Slots { audio: 3, video: 6 },
            None => Slots { audio: 1, video: 1 },
        };
        let slots = self.slots.unwrap_or(usual);
        Slots {
            audio: if self.no_audio { 0 } else { slots.audio },
            ..slots
        }
    }

    /// Whether the run is a search.
    #[must_use]
    pub fn searches(&self) -> bool {
        let nothing_asked = self.whep.is_none() && self.room.is_none() && self.viewers.is_none();
        self.find_max || (nothing_asked && !self.floor)
    }
}

/// Reads numbers of slots such as `3,6`.
///
/// # Errors
/// What to give instead.
pub fn parse_slots(text: &str) -> Result<Slots, String> {
    let slots = text.split_once(',').and_then(|(audio, video)| {
        let slots = Slots {
            audio: audio.parse().ok()?,
            video: video.parse().ok()?,
        };
        (slots.audio <= 8 && (1..=16).contains(&slots.video)).then_some(slots)
    });
    slots.ok_or_else(|| "give at most 8 of sound and 1 to 16 of pictures, such as 3,6".to_owned())
}

/// Reads a bit rate such as `2.5M`.
///
/// # Errors
/// What to give instead.
pub fn parse_bitrate(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let bps = number.parse::<f64>().map(|number| number * factor);
    match bps {
        Ok(bps) if (10_000.0..=1e9).contains(&bps) => Ok(bps as u64),
        _ => Err("give 10k to 1000M, such as 2.5M".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        BenchArgs::command().debug_assert();
    }

    #[test]
    fn bit_rates_are_read_with_their_suffixes() {
        assert_eq!(parse_bitrate("2.5M"), Ok(2_500_000));
        assert_eq!(parse_bitrate("800k"), Ok(800_000));
        assert_eq!(parse_bitrate("64000"), Ok(64_000));
        for wrong in ["", "M", "-1M", "1", "nan", "2.5G", "é"] {
            assert!(parse_bitrate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_profiles_are_those_of_the_command_line() {
        for profile in Profile::ALL {
            let named = SrtpArg::of(profile);
            assert_eq!(named.profile(), profile);
            let parsed = <SrtpArg as clap::ValueEnum>::from_str(named.name(), false);
            assert_eq!(parsed, Ok(named));
        }
    }

    #[test]
    fn viewers_of_a_room_have_slots_and_others_a_track_of_each_kind() {
        let slots = |args: &[&str]| {
            let args = BenchArgs::parse_from(["fanmill-bench"].iter().chain(args));
            let Slots { audio, video } = args.viewer_slots();
            (audio, video)
        };
        assert_eq!(slots(&[]), (1, 1));
        assert_eq!(slots(&["--no-audio"]), (0, 1));
        assert_eq!(slots(&["--room", "r"]), (3, 6));
        assert_eq!(slots(&["--room", "r", "--slots", "2,9"]), (2, 9));
        for wrong in ["3", "3,0", "9,1", "1,17", "a,b"] {
            assert!(parse_slots(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn several_publishers_need_a_place_for_their_number() {
        let args =
            |publishers: &str| BenchArgs::parse_from(["fanmill-bench", "--publishers", publishers]);
        assert!(args("2").endpoint("http://h/whip/a", 0).is_err());
        assert!(args("1").endpoint("ftp://h/whip/a", 0).is_err());
        let url = args("2").endpoint("http://h/whip/a%n", 7).unwrap();
        assert_eq!(url.as_str(), "http://h/whip/a7");
    }

    #[test]
    fn without_anything_the_largest_number_is_searched() {
        assert!(BenchArgs::parse_from(["fanmill-bench"]).searches());
        assert!(!BenchArgs::parse_from(["fanmill-bench", "-n", "5"]).searches());
    }
}
