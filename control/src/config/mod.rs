//! What the server is told at start: flags, a TOML file with the same names, and defaults.
//!
//! `fanmill serve` and `fanmill doctor` call [`Config::load`]; everything else takes the finished
//! [`Config`]. Flags win over the file, the file over the defaults. Nothing here opens a socket or
//! is read again after start.

mod file;
mod listen;
mod nearest;
pub(crate) mod pattern;
mod settings;
mod validate;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use fanmill_engine::limits::{
    DEFAULT_MAX_CACHE_US, DEFAULT_MAX_LAG_US, DEFAULT_PAUSE_UNWATCHED_US,
    DEFAULT_PUBLISHER_SILENCE_US, DEFAULT_TRAIN_WAIT_US,
};
use serde::Serialize;

use crate::access::{Access, AccessError, Rights, TokenRule};
use crate::broadcast::{NoDelay, PlayoutRule, TakeoverBack};
use crate::media::audio::AudioOptions;

pub use listen::{Listen, NoListen};
pub use nearest::nearest;
pub use settings::Settings;
pub use validate::{Invalid, MAX_PUBLIC_IPS, MAX_SHARDS};

/// The complete, validated configuration of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Address of the HTTP server: WHIP, WHEP and the pages. Default `127.0.0.1:8080`.
    pub http: SocketAddr,
    /// Local address of the media sockets. Default `127.0.0.1`.
    pub udp_ip: IpAddr,
    /// UDP port of the first shard; shard *n* listens on `udp_port + n`. Default 7900.
    pub udp_port: u16,
    /// Number of shards (media threads, one core each), 1 to [`MAX_SHARDS`]. Default: the number
    /// of cores this process may use, at most [`MAX_SHARDS`].
    pub shards: usize,
    /// Addresses written into ICE candidates instead of `udp_ip`. Default: none (use `udp_ip`).
    pub public_ip: Vec<IpAddr>,
    /// STUN and TURN servers that clients are told of in `Link` headers (RFC 9725 4.6). Default:
    /// none.
    pub ice_server: Vec<String>,
    /// Tokens that let publish. Default: none, and everybody may as long as there is none of any kind.
    pub publish_token: Vec<TokenRule>,
    /// Tokens that let watch. Default: none, and everybody may.
    pub watch_token: Vec<TokenRule>,
    /// Tokens that let do everything. Default: none.
    pub operate_token: Vec<TokenRule>,
    /// Keys that tokens to publish are signed with. Default: none.
    pub publish_key: Vec<TokenRule>,
    /// Keys that tokens to watch are signed with. Default: none.
    pub watch_key: Vec<TokenRule>,
    /// Path of the admin socket. Default [`default_admin_path`].
    pub admin: PathBuf,
    /// Seconds without a fresh consent (RFC 7675) after which a transport is closed. Default 30.
    pub consent_timeout_s: u64,
    /// Largest number of transports (publishers and viewers) at once. Default 100,000.
    pub max_transports: usize,
    /// Largest number of streams at once. Default 10,000.
    pub max_streams: usize,
    /// Largest number of viewers of one stream. Default 100,000.
    pub max_viewers_per_stream: usize,
    /// Bit rate a publisher is asked not to exceed, bits per second. Default 20,000,000.
    pub publish_bitrate_max_bps: u64,
    /// After how long publishers of simulcast are not asked for what nobody watches, in seconds; 0: they
    /// are always asked for all. Default 8.
    pub pause_unwatched_s: u64,
    /// How long a packet of video may wait for the rest of its frame, in microseconds, so that both
    /// leave in one send; 0: none waits. Default 1000.
    pub train_wait_us: u64,
    /// How long a packet of audio may wait for others to its viewers, in microseconds. Default 0.
    pub audio_train_wait_us: u64,
    /// How long packets may wait for a shard with too much to do before it withholds video from some
    /// viewers, in milliseconds. Default 100.
    pub max_lag_ms: u64,
    /// How old a keyframe may be that viewers who join are shown first, in milliseconds; 0: they
    /// wait for the next one. Default 20,000.
    pub frame_cache_ms: u64,
    /// Rules for how long viewers hold a picture before they show it, `[PATTERN=]MIN-MAX` in
    /// milliseconds. Default: none.
    pub playout_delay: Vec<String>,
    /// For how long nothing may come from a publisher before viewers are shown its backup, in
    /// milliseconds. Default 300.
    pub takeover_after_ms: u64,
    /// How viewers come back from a backup. Default: by themselves.
    pub takeover_back: TakeoverBack,
    /// Directory of the recordings. Default `./recordings`.
    pub recordings: PathBuf,
    /// Which streams are recorded by themselves ([`Rule`](crate::recorder::Rule)). Default: none.
    pub record: Vec<String>,
    /// The most media a fragment of a recording holds, in milliseconds. Default 1000.
    pub recording_fragment_ms: u64,
    /// After how long what was recorded is forced to the disk, in milliseconds; 0: the system
    /// decides. Default 1000.
    pub recording_sync_ms: u64,
    /// How long a recorder waits for a missing packet, in milliseconds. Default 500.
    pub recording_wait_ms: u64,
    /// Address of the RTSP server. Default `127.0.0.1:8554`.
    pub rtsp: Listen,
    /// Streams that are pulled from other RTSP servers, `STREAM=URL`
    /// ([`PullSpec`](crate::rtsp::PullSpec)). Default: none.
    pub rtsp_pull: Vec<String>,
    /// Plain RTP that is received ([`Inlet`](crate::streamer::Inlet)). Default: none.
    pub rtp_in: Vec<String>,
    /// Ports for plain RTP that leaves the choice to the server
    /// ([`PortRange`](crate::streamer::PortRange)). Default: any.
    pub rtp_ports: String,
    /// Where RTMP is served. Default `127.0.0.1:1935`, if that can be had.
    pub rtmp: Listen,
    /// Where RTMPS is served. Default: nowhere.
    pub rtmps: Listen,
    /// The server's certificate for TLS. Default: none.
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key. Default: none.
    pub tls_key: Option<PathBuf>,
    /// Bit rate of Opus that sound of other codecs becomes when it comes in, in bits per second, for
    /// stereo. Default 96,000.
    pub opus_bitrate_bps: u32,
    /// Log filter, in `tracing` directives. Default `info`.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            udp_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            udp_port: 7900,
            shards: std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_SHARDS)),
            public_ip: Vec::new(),
            ice_server: Vec::new(),
            publish_token: Vec::new(),
            watch_token: Vec::new(),
            operate_token: Vec::new(),
            publish_key: Vec::new(),
            watch_key: Vec::new(),
            admin: default_admin_path(),
            consent_timeout_s: 30,
            max_transports: 100_000,
            max_streams: 10_000,
            max_viewers_per_stream: 100_000,
            publish_bitrate_max_bps: 20_000_000,
            pause_unwatched_s: DEFAULT_PAUSE_UNWATCHED_US / 1_000_000,
            train_wait_us: DEFAULT_TRAIN_WAIT_US,
            audio_train_wait_us: 0,
            max_lag_ms: DEFAULT_MAX_LAG_US / 1000,
            frame_cache_ms: DEFAULT_MAX_CACHE_US / 1000,
            playout_delay: Vec::new(),
            takeover_after_ms: DEFAULT_PUBLISHER_SILENCE_US / 1000,
            takeover_back: TakeoverBack::Auto,
            recordings: PathBuf::from("./recordings"),
            record: Vec::new(),
            recording_fragment_ms: 1000,
            recording_sync_ms: 1000,
            recording_wait_ms: 500,
            rtsp: Listen::Usually(SocketAddr::from((Ipv4Addr::LOCALHOST, 8554))),
            rtsp_pull: Vec::new(),
            rtp_in: Vec::new(),
            rtp_ports: "any".to_owned(),
            rtmp: Listen::Usually(SocketAddr::from((Ipv4Addr::LOCALHOST, 1935))),
            rtmps: Listen::Off,
            tls_cert: None,
            tls_key: None,
            opus_bitrate_bps: AudioOptions::default().opus_bitrate_bps,
            log: "info".to_owned(),
        }
    }
}

impl Config {
    /// Merges `flags`, the TOML file at `file` (if any) and the defaults, and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read or parsed, names an unknown key, or a value cannot
    /// be used; the message names the flag, or the file and line, that gave the value.
    pub fn load(flags: Settings, file: Option<&Path>) -> Result<Self, ConfigError> {
        let from_file = file.map(file::read).transpose()?;
        let origin = |key: &str| match &from_file {
            _ if flags.gives(key) => format!("--{key}"),
            Some(document) => match document.line_of(key) {
                Some(line) => format!("{}:{line}: {key}", document.path.display()),
                None => format!("{key} (by default)"),
            },
            None => format!("{key} (by default)"),
        };
        let settings = match &from_file {
            Some(document) => flags.clone().over(document.settings.clone()),
            None => flags.clone(),
        };
        let config = settings.over_defaults(Self::default());
        config
            .validate()
            .map_err(|Invalid { key, problem }| ConfigError::Value {
                origin: origin(key),
                problem,
            })?;
        Ok(config)
    }
}

impl Config {
    /// Has the doors ask for the tokens that are configured.
    ///
    /// # Errors
    /// [`AccessError::TooMany`].
    pub fn configure_access(&self, access: &Access) -> Result<(), AccessError> {
        let none = Rights::default();
        let publish = Rights {
            publish: true,
            ..none
        };
        let watch = Rights {
            watch: true,
            ..none
        };
        let operate = Rights {
            operate: true,
            ..none
        };
        for (tokens, rights) in [
            (&self.publish_token, publish),
            (&self.watch_token, watch),
            (&self.operate_token, operate),
        ] {
            for token in tokens {
                access.configure(token, rights)?;
            }
        }
        for (keys, rights) in [(&self.publish_key, publish), (&self.watch_key, watch)] {
            for key in keys {
                access.configure_key(key, rights)?;
            }
        }
        Ok(())
    }

    /// The rules for how long viewers hold a picture.
    ///
    /// # Errors
    /// The rule that is none; never after [`Config::validate`].
    pub fn playout_rules(&self) -> Result<Vec<PlayoutRule>, NoDelay> {
        self.playout_delay.iter().map(|rule| rule.parse()).collect()
    }
}

/// Where the admin socket is when nothing says otherwise: `$XDG_RUNTIME_DIR/fanmill.sock`, a
/// directory only its user can enter; without that variable `/tmp/fanmill-UID.sock`.
#[must_use]
pub fn default_admin_path() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => PathBuf::from(dir).join("fanmill.sock"),
        None => {
            let uid = rustix::process::geteuid().as_raw();
            PathBuf::from(format!("/tmp/fanmill-{uid}.sock"))
        }
    }
}

/// Why a configuration was refused. All are fatal at start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file named by `--config` could not be read.
    #[error("cannot read {}: {source}; check the path given to --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or a value in it has the wrong shape.
    #[error("{}:{line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The file has a key that does not exist.
    #[error("{}:{line}: unknown key `{key}`{}", path.display(), suggestion(*.nearest))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The key as written.
        key: String,
        /// The known key most like it.
        nearest: Option<&'static str>,
    },
    /// A value is well-formed but cannot be used.
    #[error("{origin}: {problem}")]
    Value {
        /// The flag, or file, line and key, that gave the value.
        origin: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

fn suggestion(nearest: Option<&'static str>) -> String {
    match nearest {
        Some(key) => format!("; did you mean `{key}`?"),
        None => "; `fanmill serve --help` lists the keys (they are the flags' names)".to_owned(),
    }
}
