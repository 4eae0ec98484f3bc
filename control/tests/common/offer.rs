//! The offers our client makes, and what it reads from the answers.

use std::net::SocketAddr;
use std::sync::OnceLock;

use aws_lc_rs::digest;
use webrtc_dtls::crypto::Certificate;

use super::peer::random;

/// What a client offers to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Publish,
    View,
}

pub const AUDIO_SSRC: u32 = 0x0A0A_0A0A;
pub const VIDEO_SSRC: u32 = 0x0B0B_0B0B;
pub const AUDIO_PT: u8 = 111;
pub const VIDEO_PT: u8 = 96;

/// An offer of one Opus and one VP8 track.
#[derive(Debug, Clone)]
pub struct Offer {
    pub kind: Kind,
    pub ufrag: String,
    pub pwd: String,
    pub text: String,
}

impl Offer {
    /// `setup` is `actpass`, `active` or `passive`.
    pub fn new(kind: Kind, setup: &str) -> Self {
        Self::with_fingerprint(kind, setup, &fingerprint(certificate()))
    }

    pub fn with_fingerprint(kind: Kind, setup: &str, fingerprint: &str) -> Self {
        let (ufrag, pwd) = (random(4), random(16));
        let direction = match kind {
            Kind::Publish => "sendonly",
            Kind::View => "recvonly",
        };
        let section = |media: &str, mid: u8, payload: u8, codec: &str, ssrc: u32| {
            let mut lines = format!(
                "m={media} 9 UDP/TLS/RTP/SAVPF {payload}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n\
                 a={direction}\r\na=rtcp-mux\r\na=rtpmap:{payload} {codec}\r\n\
                 a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=setup:{setup}\r\n\
                 a=fingerprint:sha-256 {fingerprint}\r\n"
            );
            if kind == Kind::Publish {
                lines += &format!("a=ssrc:{ssrc} cname:foreign\r\n");
            }
            lines
        };
        let text = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n{}{}",
            section("audio", 0, AUDIO_PT, "opus/48000/2", AUDIO_SSRC),
            section("video", 1, VIDEO_PT, "VP8/90000", VIDEO_SSRC),
        );
        Self {
            kind,
            ufrag,
            pwd,
            text,
        }
    }
}

/// The certificate of every client here: making one takes longer than a handshake.
pub fn certificate() -> &'static Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Certificate::generate_self_signed(vec!["client.invalid".to_owned()]).unwrap()
    })
}

pub fn fingerprint(certificate: &Certificate) -> String {
    fingerprint_of(&certificate.certificate[0])
}

pub fn fingerprint_of(der: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, der);
    let bytes: Vec<_> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    bytes.join(":")
}

/// What a client needs to know of an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub ufrag: String,
    pub pwd: String,
    pub fingerprint: String,
    pub setup: String,
    pub candidate: SocketAddr,
    /// By m-section, in order: the SSRCs announced there.
    pub ssrcs: Vec<Vec<u32>>,
}

impl Answer {
    pub fn parse(text: &str) -> Self {
        let value = |name: &str| -> String {
            let prefix = format!("a={name}:");
            let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
            line.unwrap_or_else(|| panic!("no {name} in:\n{text}"))
                .to_owned()
        };
        let fingerprint = value("fingerprint");
        let ssrcs = text.split("\r\nm=").skip(1).map(|section| {
            let lines = section
                .lines()
                .filter_map(|line| line.strip_prefix("a=ssrc:"));
            let mut ssrcs: Vec<u32> = lines
                .map(|line| line.split(' ').next().unwrap().parse().unwrap())
                .collect();
            ssrcs.dedup();
            ssrcs
        });
        Self {
            ufrag: value("ice-ufrag"),
            pwd: value("ice-pwd"),
            fingerprint: fingerprint.strip_prefix("sha-256 ").unwrap().to_owned(),
            setup: value("setup"),
            candidate: candidate(&value("candidate")),
            ssrcs: ssrcs.collect(),
        }
    }

    /// With the credentials of the fragment that answers an ICE restart.
    pub fn restarted(&self, fragment: &str) -> Self {
        let restarted = Self::parse(&format!(
            "{fragment}a=fingerprint:sha-256 {}\r\na=setup:{}\r\n",
            self.fingerprint, self.setup
        ));
        Self {
            ssrcs: self.ssrcs.clone(),
            ..restarted
        }
    }
}

fn candidate(value: &str) -> SocketAddr {
    let words: Vec<_> = value.split(' ').collect();
    let (ip, port) = (words[4].parse().unwrap(), words[5].parse().unwrap());
    SocketAddr::new(ip, port)
}
