//! The checks a configuration passes before anything is started with it.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;

use fanmill_engine::limits::{MAX_AUDIO_TRAIN_WAIT_US, MAX_TRAIN_WAIT_US};

use super::{Config, Listen};
use crate::access::Access;
use crate::media::audio::AudioOptions;
use crate::recorder::Rule;
use crate::rtsp::PullSpec;
use crate::streamer::{Inlet, PortRange};

/// More shards than this would need more rings between them (n²) than they could ever earn back.
pub const MAX_SHARDS: usize = 64;

/// Each address adds a candidate to every answer; a machine has a few networks, not dozens.
pub const MAX_PUBLIC_IPS: usize = 8;

/// `sun_path` holds 108 bytes, the last one a NUL (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// RFC 7675 5.1: consent expires after 30 seconds. Below 5, checks sent every 4 to 6 s cannot keep
/// it; above an hour, closed laptops would hold their transports all day.
const CONSENT_TIMEOUT_S: RangeInclusive<u64> = 5..=3600;

/// What one process could hold at all: ids are 32 bit and a transport costs kilobytes.
const TABLE_SIZE: RangeInclusive<usize> = 1..=10_000_000;

/// Less than a frame is no lag, and with more than some seconds nothing is live.
const PAUSE_UNWATCHED_S: RangeInclusive<u64> = 0..=3_600;
const FRAME_CACHE_MS: RangeInclusive<u64> = 0..=60_000;
const MAX_LAG_MS: RangeInclusive<u64> = 40..=5000;

/// Sound comes every 20 ms, and pictures of few frames a second every 100; after ten seconds no viewer
/// is left to be shown a backup.
const TAKEOVER_AFTER_MS: RangeInclusive<u64> = 100..=10_000;

/// Less than 100 kb/s is no video, more than 1 Gb/s no single publisher.
const PUBLISH_BITRATE_BPS: RangeInclusive<u64> = 100_000..=1_000_000_000;

/// Shorter than some pictures is no fragment; longer, and a crash costs more than anybody expects.
const RECORDING_FRAGMENT_MS: RangeInclusive<u64> = 100..=10_000;

/// Beyond a minute it is no use to force anything.
const RECORDING_SYNC_MS: RangeInclusive<u64> = 0..=60_000;

/// The engine asks for a packet again for a second; nothing comes after some.
const RECORDING_WAIT_MS: RangeInclusive<u64> = 0..=5000;

/// A key whose value cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The key's name, as in the file.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Config {
    /// Checks every value, alone and against the others.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn validate(&self) -> Result<(), Invalid> {
        within("shards", self.shards, &(1..=MAX_SHARDS))?;
        within(
            "consent-timeout-s",
            self.consent_timeout_s,
            &CONSENT_TIMEOUT_S,
        )?;
        within("max-transports", self.max_transports, &TABLE_SIZE)?;
        within("max-streams", self.max_streams, &TABLE_SIZE)?;
        within(
            "max-viewers-per-stream",
            self.max_viewers_per_stream,
            &TABLE_SIZE,
        )?;
        within(
            "publish-bitrate-max-bps",
            self.publish_bitrate_max_bps,
            &PUBLISH_BITRATE_BPS,
        )?;
        within(
            "pause-unwatched-s",
            self.pause_unwatched_s,
            &PAUSE_UNWATCHED_S,
        )?;
        within(
            "train-wait-us",
            self.train_wait_us,
            &(0..=MAX_TRAIN_WAIT_US),
        )?;
        within(
            "audio-train-wait-us",
            self.audio_train_wait_us,
            &(0..=MAX_AUDIO_TRAIN_WAIT_US),
        )?;
        within("max-lag-ms", self.max_lag_ms, &MAX_LAG_MS)?;
        within("frame-cache-ms", self.frame_cache_ms, &FRAME_CACHE_MS)?;
        self.playout_rules()
            .map_err(|error| invalid("playout-delay", error.to_string()))?;
        within(
            "takeover-after-ms",
            self.takeover_after_ms,
            &TAKEOVER_AFTER_MS,
        )?;
        self.check_recordings()?;
        for pull in &self.rtsp_pull {
            // The text holds a password.
            PullSpec::parse(pull).map_err(|error| invalid("rtsp-pull", error.to_string()))?;
        }
        self.check_plain_rtp()?;
        within(
            "opus-bitrate-bps",
            self.opus_bitrate_bps,
            &AudioOptions::BITRATES_BPS,
        )?;
        self.check_tls()?;
        self.check_ports()?;
        self.check_addresses()?;
        self.check_tokens()?;
        self.check_ice_servers()?;
        self.check_admin()?;
        crate::log::parse(&self.log)
            .map(|_| ())
            .map_err(|e| invalid("log", e.to_string()))
    }

    fn check_tokens(&self) -> Result<(), Invalid> {
        for (key, tokens) in [
            ("publish-token", &self.publish_token),
            ("watch-token", &self.watch_token),
            ("operate-token", &self.operate_token),
        ] {
            for token in tokens {
                // The text holds the token.
                let read = token.read();
                let (pattern, _) = read.map_err(|error| invalid(key, error.to_string()))?;
                if key == "operate-token" && pattern != "*" {
                    let problem = "a right to the whole server: give the token alone";
                    return Err(invalid(key, problem));
                }
            }
        }
        for (key, keys) in [
            ("publish-key", &self.publish_key),
            ("watch-key", &self.watch_key),
        ] {
            for rule in keys {
                let read = rule.read_key();
                read.map_err(|error| invalid(key, error.to_string()))?;
            }
        }
        self.configure_access(&Access::new())
            .map_err(|error| invalid("watch-token", error.to_string()))
    }

    fn check_plain_rtp(&self) -> Result<(), Invalid> {
        for inlet in &self.rtp_in {
            let read = Inlet::parse(inlet);
            read.map_err(|error| invalid("rtp-in", format!("`{inlet}`: {error}")))?;
        }
        let range = &self.rtp_ports;
        PortRange::parse(range)
            .map(|_| ())
            .map_err(|error| invalid("rtp-ports", format!("`{range}`: {error}")))
    }

    fn check_recordings(&self) -> Result<(), Invalid> {
        within(
            "recording-fragment-ms",
            self.recording_fragment_ms,
            &RECORDING_FRAGMENT_MS,
        )?;
        within(
            "recording-sync-ms",
            self.recording_sync_ms,
            &RECORDING_SYNC_MS,
        )?;
        within(
            "recording-wait-ms",
            self.recording_wait_ms,
            &RECORDING_WAIT_MS,
        )?;
        if self.recordings.as_os_str().is_empty() {
            return Err(invalid("recordings", "not a path: name a directory"));
        }
        for rule in &self.record {
            Rule::parse(rule).map_err(|error| invalid("record", format!("`{rule}`: {error}")))?;
        }
        Ok(())
    }

    fn check_tls(&self) -> Result<(), Invalid> {
        if self.rtmps != Listen::Off {
            for (key, file) in [("tls-cert", &self.tls_cert), ("tls-key", &self.tls_key)] {
                if file.is_none() {
                    return Err(invalid(key, "needed for rtmps: name a PEM file"));
                }
            }
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), Invalid> {
        if self.udp_port == 0 {
            return Err(invalid(
                "udp-port",
                "0 is no port: name the first shard's UDP port",
            ));
        }
        let last = usize::from(self.udp_port) + self.shards - 1;
        if last > usize::from(u16::MAX) {
            return Err(invalid(
                "udp-port",
                format!(
                    "{} shards from port {} would end at port {last}, past 65535: use a lower port",
                    self.shards, self.udp_port
                ),
            ));
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), Invalid> {
        if self.udp_ip.is_multicast() {
            return Err(invalid(
                "udp-ip",
                format!("{} is a multicast address", self.udp_ip),
            ));
        }
        if self.udp_ip.is_unspecified() && self.public_ip.is_empty() {
            return Err(invalid(
                "udp-ip",
                format!(
                    "{} is every interface, which no peer can be told to send to: name the \
                     address peers reach with public-ip",
                    self.udp_ip
                ),
            ));
        }
        if self.public_ip.len() > MAX_PUBLIC_IPS {
            let problem = format!(
                "{} addresses given, at most {MAX_PUBLIC_IPS} allowed",
                self.public_ip.len()
            );
            return Err(invalid("public-ip", problem));
        }
        for (index, ip) in self.public_ip.iter().enumerate() {
            self.check_public_ip(*ip)?;
            if self.public_ip[..index].contains(ip) {
                return Err(invalid("public-ip", format!("{ip} is given twice")));
            }
        }
        Ok(())
    }

    // RFC 9725 4.6: the target of the link is a STUN or TURN URI (RFC 7064, RFC 7065).
    fn check_ice_servers(&self) -> Result<(), Invalid> {
        let schemes = ["stun:", "stuns:", "turn:", "turns:"];
        for uri in &self.ice_server {
            let known = schemes.iter().any(|scheme| uri.starts_with(scheme));
            if !known || uri.contains(|c: char| c.is_control() || "<>\" ".contains(c)) {
                return Err(invalid(
                    "ice-server",
                    format!("`{uri}` is no STUN or TURN URI, such as stun:stun.example.org:3478"),
                ));
            }
        }
        Ok(())
    }

    fn check_public_ip(&self, ip: IpAddr) -> Result<(), Invalid> {
        if ip.is_unspecified() || ip.is_multicast() {
            let problem = format!("{ip} is no address a peer can send to: name this host's own");
            return Err(invalid("public-ip", problem));
        }
        // A socket bound to `::` receives both families; any other only its own.
        let dual_stack = self.udp_ip.is_ipv6() && self.udp_ip.is_unspecified();
        if !dual_stack && ip.is_ipv4() != self.udp_ip.is_ipv4() {
            let problem = format!(
                "{ip} is of another family than udp-ip {}, whose sockets could not receive what \
                 is sent there: use udp-ip ::",
                self.udp_ip
            );
            return Err(invalid("public-ip", problem));
        }
        Ok(())
    }

    fn check_admin(&self) -> Result<(), Invalid> {
        let bytes = self.admin.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(invalid(
                "admin",
                "not a path: name a file, for example /run/fanmill.sock",
            ));
        }
        if bytes.len() > MAX_SOCKET_PATH_BYTES {
            let problem = format!(
                "the path has {} bytes, a Unix socket's at most {MAX_SOCKET_PATH_BYTES}: use a \
                 shorter one",
                bytes.len()
            );
            return Err(invalid("admin", problem));
        }
        Ok(())
    }
}

fn invalid(key: &'static str, problem: impl Into<String>) -> Invalid {
    Invalid {
        key,
        problem: problem.into(),
    }
}

fn within<T>(key: &'static str, value: T, range: &RangeInclusive<T>) -> Result<(), Invalid>
where
    T: PartialOrd + std::fmt::Display,
{
    if range.contains(&value) {
        return Ok(());
    }
    Err(invalid(
        key,
        format!(
            "{value} is out of range: use {} to {}",
            range.start(),
            range.end()
        ),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;

    fn refused(change: impl FnOnce(&mut Config)) -> Invalid {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        let error = refused(|c| c.shards = 65);
        assert_eq!(
            (error.key, error.problem.as_str()),
            ("shards", "65 is out of range: use 1 to 64")
        );
        assert_eq!(refused(|c| c.shards = 0).key, "shards");
        assert_eq!(
            refused(|c| c.consent_timeout_s = 4).key,
            "consent-timeout-s"
        );
        assert_eq!(refused(|c| c.max_transports = 0).key, "max-transports");
        assert_eq!(refused(|c| c.max_streams = 0).key, "max-streams");
        assert_eq!(
            refused(|c| c.max_viewers_per_stream = 0).key,
            "max-viewers-per-stream"
        );
        assert_eq!(refused(|c| c.max_lag_ms = 39).key, "max-lag-ms");
        assert_eq!(refused(|c| c.frame_cache_ms = 60_001).key, "frame-cache-ms");
        assert_eq!(
            refused(|c| c.pause_unwatched_s = 3_601).key,
            "pause-unwatched-s"
        );
        assert_eq!(
            refused(|c| c.takeover_after_ms = 99).key,
            "takeover-after-ms"
        );
        assert_eq!(refused(|c| c.train_wait_us = 2_001).key, "train-wait-us");
        assert_eq!(
            refused(|c| c.audio_train_wait_us = 20_001).key,
            "audio-train-wait-us"
        );
        assert_eq!(
            refused(|c| c.publish_bitrate_max_bps = 1).key,
            "publish-bitrate-max-bps"
        );
    }

    #[test]
    fn the_last_shards_port_must_exist() {
        let mut config = Config {
            udp_port: 65_532,
            shards: 4,
            ..Config::default()
        };
        assert_eq!(config.validate(), Ok(()));
        config.udp_port += 1;
        assert_eq!(config.validate().unwrap_err().key, "udp-port");
        assert_eq!(refused(|c| c.udp_port = 0).key, "udp-port");
    }

    #[test]
    fn every_interface_needs_a_public_address() {
        assert_eq!(
            refused(|c| c.udp_ip = "0.0.0.0".parse().unwrap()).key,
            "udp-ip"
        );
        let config = Config {
            udp_ip: "0.0.0.0".parse().unwrap(),
            public_ip: vec!["203.0.113.7".parse().unwrap()],
            ..Config::default()
        };
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn a_public_address_must_be_reachable_through_the_socket() {
        for ip in ["0.0.0.0", "224.0.0.1", "2001:db8::1"] {
            assert_eq!(
                refused(|c| c.public_ip = vec![ip.parse().unwrap()]).key,
                "public-ip"
            );
        }
        let dual = Config {
            udp_ip: "::".parse().unwrap(),
            public_ip: vec![
                "2001:db8::1".parse().unwrap(),
                "203.0.113.7".parse().unwrap(),
            ],
            ..Config::default()
        };
        assert_eq!(dual.validate(), Ok(()));
        let twice = vec!["203.0.113.7".parse().unwrap(); 2];
        assert_eq!(refused(|c| c.public_ip = twice).key, "public-ip");
    }

    #[test]
    fn a_socket_path_must_fit_its_address() {
        assert_eq!(refused(|c| c.admin = "".into()).key, "admin");
        assert_eq!(refused(|c| c.admin = "/".repeat(108).into()).key, "admin");
    }

    #[test]
    fn a_playout_delay_that_does_not_parse_is_refused() {
        let error = refused(|c| c.playout_delay = vec!["0-0".into(), "a=200-100".into()]);
        assert_eq!(error.key, "playout-delay");
        assert!(error.problem.starts_with("`a=200-100` is no playout delay"));
    }

    #[test]
    fn rtmps_needs_a_certificate_and_its_key() {
        let address = "127.0.0.1:1936".parse().unwrap();
        assert_eq!(refused(|c| c.rtmps = address).key, "tls-cert");
        let error = refused(|c| {
            c.rtmps = address;
            c.tls_cert = Some("cert.pem".into());
        });
        assert_eq!(error.key, "tls-key");
        let error = "1935".parse::<Listen>().unwrap_err().to_string();
        assert!(error.contains("0.0.0.0:1935"), "{error}");
    }

    #[test]
    fn a_token_that_is_none_is_refused_and_not_shown() {
        for (key, text) in [
            ("publish-token", "geheim"),
            ("publish-token", "a/b:geheim-1"),
            ("watch-token", "cam:geheim"),
            ("operate-token", "cam:geheim-1"),
            ("watch-key", "cam:geheim-and-too-short"),
        ] {
            let error = refused(|c| {
                let tokens = match key {
                    "publish-token" => &mut c.publish_token,
                    "watch-token" => &mut c.watch_token,
                    "watch-key" => &mut c.watch_key,
                    _ => &mut c.operate_token,
                };
                tokens.push(text.to_owned().into());
            });
            assert_eq!(error.key, key);
            assert!(!error.problem.contains("geheim"), "{}", error.problem);
        }
    }

    #[test]
    fn a_log_filter_that_does_not_parse_is_refused() {
        assert_eq!(refused(|c| c.log = "info,fanmill=loud".into()).key, "log");
    }
}
