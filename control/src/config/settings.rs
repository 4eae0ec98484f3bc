//! The keys as a user may give them: each one optional, the same names as flags and in the file.
//!
//! One struct serves `clap` and `serde`, so a flag without its file key (or the reverse) cannot
//! exist. Only [`super::Config::load`] turns it into a usable configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{Config, Listen};
use crate::access::TokenRule;
use crate::broadcast::TakeoverBack;

/// Configuration keys; `None` where nothing was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Address of the HTTP server (WHIP, WHEP, pages) [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
    /// Local address of the media sockets [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub udp_ip: Option<IpAddr>,
    /// UDP port of the first shard; shard N uses this port + N [default: 7900]
    #[arg(long, value_name = "PORT")]
    pub udp_port: Option<u16>,
    /// Number of media threads, one core and one UDP port each [default: number of cores, at most
    /// 64]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Address that peers reach this server at, written into ICE candidates; for NAT and
    /// containers; repeatable [default: the value of udp-ip]
    #[arg(long, value_name = "IP")]
    pub public_ip: Option<Vec<IpAddr>>,
    /// STUN or TURN server that clients are told of, such as stun:stun.example.org:3478;
    /// repeatable [default: none]
    #[arg(long, value_name = "URI")]
    pub ice_server: Option<Vec<String>>,
    /// Token that lets publish streams whose name fits a pattern, such as cam*:TOKEN, or all; from the
    /// first token on, publishing and operating need one; repeatable, or by commas [default: none]
    #[arg(long, value_name = "[PATTERN:]TOKEN", value_delimiter = ',')]
    #[arg(env = "FANMILL_PUBLISH_TOKEN", hide_env_values = true)]
    pub publish_token: Option<Vec<TokenRule>>,
    /// Token that lets watch streams whose name fits a pattern, or all; nobody watches these without;
    /// repeatable, or by commas [default: none]
    #[arg(long, value_name = "[PATTERN:]TOKEN", value_delimiter = ',')]
    #[arg(env = "FANMILL_WATCH_TOKEN", hide_env_values = true)]
    pub watch_token: Option<Vec<TokenRule>>,
    /// Token that lets do everything over HTTP, also record and play files; repeatable, or by commas
    /// [default: none]
    #[arg(long, value_name = "TOKEN", value_delimiter = ',')]
    #[arg(env = "FANMILL_OPERATE_TOKEN", hide_env_values = true)]
    pub operate_token: Option<Vec<TokenRule>>,
    /// Key that another program signs tokens to publish with (JWT, HS256), for streams whose name fits a
    /// pattern, or all; repeatable, or by commas [default: none]
    #[arg(long, value_name = "[PATTERN:]KEY", value_delimiter = ',')]
    #[arg(env = "FANMILL_PUBLISH_KEY", hide_env_values = true)]
    pub publish_key: Option<Vec<TokenRule>>,
    /// The same for tokens to watch; nobody watches these streams without one [default: none]
    #[arg(long, value_name = "[PATTERN:]KEY", value_delimiter = ',')]
    #[arg(env = "FANMILL_WATCH_KEY", hide_env_values = true)]
    pub watch_key: Option<Vec<TokenRule>>,
    /// Path of the admin socket [default: $XDG_RUNTIME_DIR/fanmill.sock, else
    /// /tmp/fanmill-UID.sock]
    #[arg(long, value_name = "PATH")]
    pub admin: Option<PathBuf>,
    /// Seconds without consent from a peer (RFC 7675) until its transport is closed [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub consent_timeout_s: Option<u64>,
    /// Largest number of transports (publishers and viewers) at once [default: 100000]
    #[arg(long, value_name = "N")]
    pub max_transports: Option<usize>,
    /// Largest number of streams at once [default: 10000]
    #[arg(long, value_name = "N")]
    pub max_streams: Option<usize>,
    /// Largest number of viewers of one stream [default: 100000]
    #[arg(long, value_name = "N")]
    pub max_viewers_per_stream: Option<usize>,
    /// Bit rate a publisher is asked not to exceed, in bits per second [default: 20000000]
    #[arg(long, value_name = "BPS")]
    pub publish_bitrate_max_bps: Option<u64>,
    /// Seconds after which publishers of simulcast are not asked for encodings that nobody watches; 0:
    /// they are always asked for all [default: 8]
    #[arg(long, value_name = "SECONDS")]
    pub pause_unwatched_s: Option<u64>,
    /// Microseconds that a packet of video may wait for the rest of its frame, so that both leave in
    /// one send; 0: none waits [default: 1000]
    #[arg(long, value_name = "US")]
    pub train_wait_us: Option<u64>,
    /// Microseconds that a packet of audio may wait for others to its viewers; they hear it
    /// [default: 0]
    #[arg(long, value_name = "US")]
    pub audio_train_wait_us: Option<u64>,
    /// Milliseconds that packets may wait for a shard with too much to do before it withholds video
    /// from some viewers to keep up [default: 100]
    #[arg(long, value_name = "MS")]
    pub max_lag_ms: Option<u64>,
    /// Age of the keyframe, in milliseconds, up to which viewers who join are sent what came since;
    /// 0: they wait for the next one [default: 20000]
    #[arg(long, value_name = "MS")]
    pub frame_cache_ms: Option<u64>,
    /// How long viewers hold a picture before they show it, in place of what the publisher says: least
    /// and most in milliseconds, for streams whose name fits a pattern, such as stage-*=100-400, or
    /// 0-0 for all; the first that fits counts; repeatable [default: none]
    #[arg(long, value_name = "[PATTERN=]MIN-MAX")]
    pub playout_delay: Option<Vec<String>>,
    /// Milliseconds without a packet from a publisher after which viewers are shown its backup
    /// [default: 300]
    #[arg(long, value_name = "MS")]
    pub takeover_after_ms: Option<u64>,
    /// How viewers come back from a backup when the primary publisher does: auto, or manual (by
    /// stream.use on the admin socket) [default: auto]
    #[arg(long, value_name = "RULE", hide_possible_values = true)]
    pub takeover_back: Option<TakeoverBack>,
    /// Directory of the recordings, made when the first one begins; nothing outside of it is opened
    /// [default: ./recordings]
    #[arg(long, value_name = "DIR")]
    pub recordings: Option<PathBuf>,
    /// Record streams by themselves: PATTERN or PATTERN=TEMPLATE, such as
    /// cam*={stream}/{date}-{time}.mp4; repeatable [default: none]
    #[arg(long, value_name = "RULE")]
    pub record: Option<Vec<String>>,
    /// Milliseconds of media in a fragment of a recording at most: what a crash can cost
    /// [default: 1000]
    #[arg(long, value_name = "MS")]
    pub recording_fragment_ms: Option<u64>,
    /// Milliseconds after which what was recorded is forced to the disk; 0: when the system likes
    /// [default: 1000]
    #[arg(long, value_name = "MS")]
    pub recording_sync_ms: Option<u64>,
    /// Milliseconds that a recorder waits for a missing packet [default: 500]
    #[arg(long, value_name = "MS")]
    pub recording_wait_ms: Option<u64>,
    /// Address of the RTSP server, which streams are read from and published to; or off
    /// [default: 127.0.0.1:8554]
    #[arg(long, value_name = "IP:PORT|off")]
    pub rtsp: Option<Listen>,
    /// Make a stream of what a camera or another RTSP server has: STREAM=URL, such as
    /// cam1=rtsp://user:password@192.0.2.9/stream1; repeatable [default: none]
    #[arg(long, value_name = "STREAM=URL")]
    pub rtsp_pull: Option<Vec<String>>,
    /// Receive plain RTP as a stream: STREAM=FILE, such as cam1=/etc/fanmill/cam1.sdp; the file is the
    /// sender's SDP; repeatable [default: none]
    #[arg(long, value_name = "STREAM=FILE")]
    pub rtp_in: Option<Vec<String>>,
    /// UDP ports for plain RTP where a session leaves the choice to the server, such as 5000-5999
    /// [default: any]
    #[arg(long, value_name = "FIRST-LAST")]
    pub rtp_ports: Option<String>,
    /// Address of the RTMP server, or off [default: 127.0.0.1:1935]
    #[arg(long, value_name = "IP:PORT|off")]
    pub rtmp: Option<Listen>,
    /// Address of the RTMPS server (RTMP in TLS), or off; it needs tls-cert and tls-key
    /// [default: off]
    #[arg(long, value_name = "IP:PORT|off")]
    pub rtmps: Option<Listen>,
    /// The server's certificate for TLS, and those that vouch for it, as a PEM file [default: none]
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, as a PEM file [default: none]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Bit rate of Opus that sound of other codecs becomes when it comes in, in bits per second, for
    /// stereo; mono has half of it [default: 96000]
    #[arg(long, value_name = "BPS")]
    pub opus_bitrate_bps: Option<u32>,
    /// Log filter: error, warn, info, debug, trace, or directives such as
    /// info,fanmill_control=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

impl Settings {
    /// Every key with its help text, in the order of the help. The help is one line of text
    /// ending in `[default: …]`.
    #[must_use]
    pub fn keys() -> &'static [(String, String)] {
        static KEYS: OnceLock<Vec<(String, String)>> = OnceLock::new();
        KEYS.get_or_init(|| {
            <Self as clap::Args>::augment_args(clap::Command::new("keys"))
                .get_arguments()
                .filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.get_help()?.to_string())))
                .collect()
        })
    }

    /// Whether `key` was given a value here.
    #[must_use]
    pub fn gives(&self, key: &str) -> bool {
        serde_json::to_value(self)
            .ok()
            .and_then(|all| all.get(key).map(|value| !value.is_null()))
            .unwrap_or(false)
    }

    /// These settings, and those of `lower` where these say nothing.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            http: self.http.or(lower.http),
            udp_ip: self.udp_ip.or(lower.udp_ip),
            udp_port: self.udp_port.or(lower.udp_port),
            shards: self.shards.or(lower.shards),
            public_ip: self.public_ip.or(lower.public_ip),
            ice_server: self.ice_server.or(lower.ice_server),
            publish_token: self.publish_token.or(lower.publish_token),
            watch_token: self.watch_token.or(lower.watch_token),
            operate_token: self.operate_token.or(lower.operate_token),
            publish_key: self.publish_key.or(lower.publish_key),
            watch_key: self.watch_key.or(lower.watch_key),
            admin: self.admin.or(lower.admin),
            consent_timeout_s: self.consent_timeout_s.or(lower.consent_timeout_s),
            max_transports: self.max_transports.or(lower.max_transports),
            max_streams: self.max_streams.or(lower.max_streams),
            max_viewers_per_stream: self.max_viewers_per_stream.or(lower.max_viewers_per_stream),
            publish_bitrate_max_bps: self
                .publish_bitrate_max_bps
                .or(lower.publish_bitrate_max_bps),
            pause_unwatched_s: self.pause_unwatched_s.or(lower.pause_unwatched_s),
            train_wait_us: self.train_wait_us.or(lower.train_wait_us),
            audio_train_wait_us: self.audio_train_wait_us.or(lower.audio_train_wait_us),
            max_lag_ms: self.max_lag_ms.or(lower.max_lag_ms),
            frame_cache_ms: self.frame_cache_ms.or(lower.frame_cache_ms),
            playout_delay: self.playout_delay.or(lower.playout_delay),
            takeover_after_ms: self.takeover_after_ms.or(lower.takeover_after_ms),
            takeover_back: self.takeover_back.or(lower.takeover_back),
            recordings: self.recordings.or(lower.recordings),
            record: self.record.or(lower.record),
            recording_fragment_ms: self.recording_fragment_ms.or(lower.recording_fragment_ms),
            recording_sync_ms: self.recording_sync_ms.or(lower.recording_sync_ms),
            recording_wait_ms: self.recording_wait_ms.or(lower.recording_wait_ms),
            rtsp: self.rtsp.or(lower.rtsp),
            rtsp_pull: self.rtsp_pull.or(lower.rtsp_pull),
            rtp_in: self.rtp_in.or(lower.rtp_in),
            rtp_ports: self.rtp_ports.or(lower.rtp_ports),
            rtmp: self.rtmp.or(lower.rtmp),
            rtmps: self.rtmps.or(lower.rtmps),
            tls_cert: self.tls_cert.or(lower.tls_cert),
            tls_key: self.tls_key.or(lower.tls_key),
            opus_bitrate_bps: self.opus_bitrate_bps.or(lower.opus_bitrate_bps),
            log: self.log.or(lower.log),
        }
    }

    pub(super) fn over_defaults(self, defaults: Config) -> Config {
        Config {
            http: self.http.unwrap_or(defaults.http),
            udp_ip: self.udp_ip.unwrap_or(defaults.udp_ip),
            udp_port: self.udp_port.unwrap_or(defaults.udp_port),
            shards: self.shards.unwrap_or(defaults.shards),
            public_ip: self.public_ip.unwrap_or(defaults.public_ip),
            ice_server: self.ice_server.unwrap_or(defaults.ice_server),
            publish_token: self.publish_token.unwrap_or(defaults.publish_token),
            watch_token: self.watch_token.unwrap_or(defaults.watch_token),
            operate_token: self.operate_token.unwrap_or(defaults.operate_token),
            publish_key: self.publish_key.unwrap_or(defaults.publish_key),
            watch_key: self.watch_key.unwrap_or(defaults.watch_key),
            admin: self.admin.unwrap_or(defaults.admin),
            consent_timeout_s: self.consent_timeout_s.unwrap_or(defaults.consent_timeout_s),
            max_transports: self.max_transports.unwrap_or(defaults.max_transports),
            max_streams: self.max_streams.unwrap_or(defaults.max_streams),
            max_viewers_per_stream: self
                .max_viewers_per_stream
                .unwrap_or(defaults.max_viewers_per_stream),
            publish_bitrate_max_bps: self
                .publish_bitrate_max_bps
                .unwrap_or(defaults.publish_bitrate_max_bps),
            pause_unwatched_s: self.pause_unwatched_s.unwrap_or(defaults.pause_unwatched_s),
            train_wait_us: self.train_wait_us.unwrap_or(defaults.train_wait_us),
            audio_train_wait_us: self
                .audio_train_wait_us
                .unwrap_or(defaults.audio_train_wait_us),
            max_lag_ms: self.max_lag_ms.unwrap_or(defaults.max_lag_ms),
            frame_cache_ms: self.frame_cache_ms.unwrap_or(defaults.frame_cache_ms),
            playout_delay: self.playout_delay.unwrap_or(defaults.playout_delay),
            takeover_after_ms: self.takeover_after_ms.unwrap_or(defaults.takeover_after_ms),
            takeover_back: self.takeover_back.unwrap_or(defaults.takeover_back),
            recordings: self.recordings.unwrap_or(defaults.recordings),
            record: self.record.unwrap_or(defaults.record),
            recording_fragment_ms: self
                .recording_fragment_ms
                .unwrap_or(defaults.recording_fragment_ms),
            recording_sync_ms: self.recording_sync_ms.unwrap_or(defaults.recording_sync_ms),
            recording_wait_ms: self.recording_wait_ms.unwrap_or(defaults.recording_wait_ms),
            rtsp: self.rtsp.unwrap_or(defaults.rtsp),
            rtsp_pull: self.rtsp_pull.unwrap_or(defaults.rtsp_pull),
            rtp_in: self.rtp_in.unwrap_or(defaults.rtp_in),
            rtp_ports: self.rtp_ports.unwrap_or(defaults.rtp_ports),
            rtmp: self.rtmp.unwrap_or(defaults.rtmp),
            rtmps: self.rtmps.unwrap_or(defaults.rtmps),
            tls_cert: self.tls_cert.or(defaults.tls_cert),
            tls_key: self.tls_key.or(defaults.tls_key),
            opus_bitrate_bps: self.opus_bitrate_bps.unwrap_or(defaults.opus_bitrate_bps),
            log: self.log.unwrap_or(defaults.log),
        }
    }
}
