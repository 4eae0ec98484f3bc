//! The offers this client makes and the little it needs of an answer.
//!
//! Offers are text: one audio and one video section, the payload types that the peers in
//! comparison share, and no header extensions unless asked for. Answers come from the network:
//! every line is optional until it is needed, and every list is bounded.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use fanmill_engine::packet::codec::Codec;

use super::ice::Credentials;

/// Payload type of Opus.
pub const OPUS: u8 = 111;
/// Bytes of an answer that are read.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
const MAX_CANDIDATES: usize = 32;
const MAX_FORMATS: usize = 64;
const MAX_SECTIONS: usize = 32;

/// The video codecs the publisher can imitate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    /// VP8 (RFC 7741).
    Vp8,
    /// H.264, packetization mode 1 (RFC 6184).
    H264,
}

impl VideoCodec {
    /// Its payload type in every offer.
    #[must_use]
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Vp8 => 96,
            Self::H264 => 107,
        }
    }

    /// The payload type of its retransmissions (RFC 4588).
    #[must_use]
    pub const fn rtx_payload_type(self) -> u8 {
        self.payload_type() + 1
    }

    /// The engine's name for it.
    #[must_use]
    pub const fn codec(self) -> Codec {
        match self {
            Self::Vp8 => Codec::Vp8,
            Self::H264 => Codec::H264,
        }
    }
}

/// The sources a publisher announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ssrcs {
    /// Opus, unless there is no audio.
    pub audio: Option<u32>,
    /// Video.
    pub video: u32,
    /// Retransmitted video.
    pub rtx: u32,
}

/// How many sections of each kind an offer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Slots {
    /// Of sound.
    pub audio: u8,
    /// Of pictures.
    pub video: u8,
}

/// What an offer says.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// The sources, of a publisher; a viewer has none.
    pub ssrcs: Option<Ssrcs>,
    /// Its sections; of a publisher at most one of each kind.
    pub slots: Slots,
    /// Whether packets of sound say how loud it is (RFC 6464), of a publisher.
    pub levels: bool,
    /// The codec of the video section.
    pub video: VideoCodec,
    /// Whether header extensions are offered as browsers do.
    pub extensions: bool,
    /// This client's ICE credentials.
    pub ice: &'a Credentials,
    /// The sha-256 of this client's certificate, as `a=fingerprint` writes it.
    pub fingerprint: &'a str,
    /// This client's host candidate.
    pub candidate: SocketAddr,
}

const EXTENSIONS: [(u8, &str); 3] = [
    (
        2,
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    ),
    (
        3,
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    ),
    (4, "urn:ietf:params:rtp-hdrext:sdes:mid"),
];

/// The identifier of the audio level among header extensions.
pub const AUDIO_LEVEL_ID: u8 = 5;
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

impl Offer<'_> {
    /// The session description.
    #[must_use]
    pub fn to_sdp(&self) -> String {
        let Slots { audio, video } = self.slots;
        // The first of video is 1 whether there is audio or not.
        let first_video = audio.max(1);
        let audio = (0..audio).map(|mid| mid.to_string());
        let video = (first_video..first_video + video).map(|mid| mid.to_string());
        let mids: Vec<_> = audio.clone().chain(video.clone()).collect();
        let mids = mids.join(" ");
        let mut sdp = format!(
            "v=0\r\no=- {} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
             a=group:BUNDLE {mids}\r\na=msid-semantic: WMS *\r\n",
            u64::from(self.candidate.port()) + 1_000_000,
        );
        for mid in audio {
            self.audio(&mut sdp, &mid);
        }
        for mid in video {
            self.video(&mut sdp, &mid);
        }
        sdp
    }

    fn audio(&self, sdp: &mut String, mid: &str) {
        self.section(sdp, "audio", mid, &OPUS.to_string());
        if self.levels {
            line(sdp, format_args!("a=extmap:{AUDIO_LEVEL_ID} {AUDIO_LEVEL}"));
        }
        sdp.push_str("a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n");
        if let Some(ssrc) = self.ssrcs.and_then(|ssrcs| ssrcs.audio) {
            source(sdp, ssrc, "a");
        }
    }

    fn video(&self, sdp: &mut String, mid: &str) {
        let (pt, rtx) = (self.video.payload_type(), self.video.rtx_payload_type());
        self.section(sdp, "video", mid, &format!("{pt} {rtx}"));
        match self.video {
            VideoCodec::Vp8 => line(sdp, format_args!("a=rtpmap:{pt} VP8/90000")),
            VideoCodec::H264 => {
                line(sdp, format_args!("a=rtpmap:{pt} H264/90000"));
                line(
                    sdp,
                    format_args!(
                        "a=fmtp:{pt} level-asymmetry-allowed=1;packetization-mode=1;\
                         profile-level-id=42e01f"
                    ),
                );
            }
        }
        for feedback in ["ccm fir", "nack", "nack pli"] {
            line(sdp, format_args!("a=rtcp-fb:{pt} {feedback}"));
        }
        line(sdp, format_args!("a=rtpmap:{rtx} rtx/90000"));
        line(sdp, format_args!("a=fmtp:{rtx} apt={pt}"));
        if let Some(ssrcs) = self.ssrcs {
            let (video, rtx) = (ssrcs.video, ssrcs.rtx);
            line(sdp, format_args!("a=ssrc-group:FID {video} {rtx}"));
            source(sdp, video, "v");
            source(sdp, rtx, "v");
        }
    }

    fn section(&self, sdp: &mut String, kind: &str, mid: &str, formats: &str) {
        let ip = self.candidate.ip();
        let port = self.candidate.port();
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let direction = match self.ssrcs {
            Some(_) => "sendonly",
            None => "recvonly",
        };
        let Credentials { ufrag, pwd } = self.ice;
        let fingerprint = self.fingerprint;
        line(
            sdp,
            format_args!("m={kind} {port} UDP/TLS/RTP/SAVPF {formats}"),
        );
        line(sdp, format_args!("c=IN {family} {ip}"));
        line(sdp, format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
        line(
            sdp,
            format_args!("a=candidate:1 1 udp 2130706431 {ip} {port} typ host"),
        );
        line(sdp, format_args!("a=end-of-candidates"));
        line(sdp, format_args!("a=ice-ufrag:{ufrag}"));
        line(sdp, format_args!("a=ice-pwd:{pwd}"));
        line(sdp, format_args!("a=fingerprint:sha-256 {fingerprint}"));
        // The server has to take the passive role: this client is the DTLS client everywhere.
        line(sdp, format_args!("a=setup:actpass"));
        line(sdp, format_args!("a=mid:{mid}"));
        if self.extensions {
            for (id, uri) in EXTENSIONS {
                line(sdp, format_args!("a=extmap:{id} {uri}"));
            }
        }
        line(sdp, format_args!("a={direction}"));
        line(sdp, format_args!("a=rtcp-mux"));
        line(sdp, format_args!("a=rtcp-rsize"));
    }
}

fn line(sdp: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = write!(sdp, "{text}\r\n");
}

fn source(sdp: &mut String, ssrc: u32, track: &str) {
    line(sdp, format_args!("a=ssrc:{ssrc} cname:bench"));
    line(sdp, format_args!("a=ssrc:{ssrc} msid:bench {track}"));
}

/// What an RTP payload type of the answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Opus.
    Audio,
    /// Video of a codec this client offers.
    Video(VideoCodec),
    /// Retransmissions of the payload type named (RFC 4588).
    Rtx(u8),
}

/// What this client needs of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The server's ICE credentials.
    pub ice: Credentials,
    /// The sha-256 of the server's certificate.
    pub fingerprint: [u8; 32],
    /// The server's UDP candidates, best first.
    pub candidates: Vec<SocketAddr>,
    /// The accepted payload types.
    pub formats: Vec<(u8, Format)>,
    /// Sources of retransmissions, each with the source whose packets it repeats.
    pub repairs: Vec<(u32, u32)>,
}

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// A line that every answer must have is missing.
    #[error("it has no usable {0}")]
    Missing(&'static str),
    /// The server wants to be the DTLS client.
    #[error("its setup is {0}, but this client is the DTLS client; it must be passive")]
    Setup(String),
    /// No video section was accepted.
    #[error("it accepts no video of the codec offered")]
    NoVideo,
}

#[derive(Default)]
struct Section<'a> {
    rejected: bool,
    /// Payload type and encoding name, of each rtpmap line.
    maps: Vec<(u8, &'a str)>,
    apts: Vec<(u8, u8)>,
}

impl Answer {
    /// Reads an answer. Unknown lines are ignored.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn parse(sdp: &str) -> Result<Self, AnswerError> {
        let (mut ufrag, mut pwd, mut fingerprint, mut setup) = (None, None, None, None);
        let mut candidates: Vec<(u32, SocketAddr)> = Vec::new();
        let mut sections: Vec<Section<'_>> = Vec::new();
        let mut repairs = Vec::new();
        for line in sdp.lines() {
            let line = line.trim_end();
            if let Some(media) = line.strip_prefix("m=") {
                if sections.len() >= MAX_SECTIONS {
                    break;
                }
                let rejected = media.split(' ').nth(1) == Some("0") && !sdp.contains("bundle-only");
                sections.push(Section {
                    rejected,
                    ..Section::default()
                });
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else {
                continue;
            };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                // Bundled sections repeat these; the first one counts.
                "ice-ufrag" => drop(ufrag.get_or_insert(value)),
                "ice-pwd" => drop(pwd.get_or_insert(value)),
                "setup" => drop(setup.get_or_insert(value)),
                "fingerprint" => fingerprint = fingerprint.or_else(|| sha256(value)),
                "candidate" if candidates.len() < MAX_CANDIDATES => {
                    candidates.extend(candidate(value));
                }
                "ssrc-group" if repairs.len() < MAX_SECTIONS => repairs.extend(repair(value)),
                "rtpmap" | "fmtp" => {
                    if let Some(section) = sections.last_mut() {
                        section.format(name, value);
                    }
                }
                _ => {}
            }
        }
        if let Some(setup) = setup.filter(|setup| *setup == "active") {
            return Err(AnswerError::Setup(setup.to_owned()));
        }
        candidates.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        candidates.dedup_by_key(|(_, address)| *address);
        if candidates.is_empty() {
            return Err(AnswerError::Missing("a=candidate of UDP"));
        }
        let mut formats: Vec<_> = Vec::new();
        for format in sections.iter().flat_map(Section::formats) {
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        if !formats.iter().any(|(_, f)| matches!(f, Format::Video(_))) {
            return Err(AnswerError::NoVideo);
        }
        Ok(Self {
            ice: Credentials {
                ufrag: ufrag.ok_or(AnswerError::Missing("a=ice-ufrag"))?.to_owned(),
                pwd: pwd.ok_or(AnswerError::Missing("a=ice-pwd"))?.to_owned(),
            },
            fingerprint: fingerprint.ok_or(AnswerError::Missing("a=fingerprint:sha-256"))?,
            candidates: candidates.into_iter().map(|(_, address)| address).collect(),
            formats,
            repairs,
        })
    }

    /// What a payload type carries.
    #[must_use]
    pub fn format(&self, payload_type: u8) -> Option<Format> {
        self.formats
            .iter()
            .find(|(known, _)| *known == payload_type)
            .map(|(_, format)| *format)
    }
}

impl<'a> Section<'a> {
    fn format(&mut self, name: &str, value: &'a str) {
        let Some((payload_type, rest)) = value.split_once(' ') else {
            return;
        };
        let Ok(payload_type) = payload_type.parse() else {
            return;
        };
        if name == "rtpmap" && self.maps.len() < MAX_FORMATS {
            let encoding = rest.split('/').next().unwrap_or_default();
            self.maps.push((payload_type, encoding));
        } else if let Some(apt) = rest.strip_prefix("apt=")
            && let Ok(apt) = apt.trim().parse()
            && self.apts.len() < MAX_FORMATS
        {
            self.apts.push((payload_type, apt));
        }
    }

    fn formats(&self) -> impl Iterator<Item = (u8, Format)> + '_ {
        let accepted = self.maps.iter().filter(|_| !self.rejected);
        accepted.filter_map(|&(payload_type, encoding)| {
            let format = match encoding.to_ascii_lowercase().as_str() {
                "opus" => Format::Audio,
                "vp8" => Format::Video(VideoCodec::Vp8),
                "h264" => Format::Video(VideoCodec::H264),
                "rtx" => {
                    let (_, apt) = self.apts.iter().find(|(rtx, _)| *rtx == payload_type)?;
                    Format::Rtx(*apt)
                }
                _ => return None,
            };
            Some((payload_type, format))
        })
    }
}

/// RFC 4588 8.6: `FID`, the source of the media, and that of its retransmissions.
fn repair(value: &str) -> Option<(u32, u32)> {
    let mut parts = value.strip_prefix("FID ")?.split_ascii_whitespace();
    let media = parts.next()?.parse().ok()?;
    Some((parts.next()?.parse().ok()?, media))
}

/// RFC 8122 5: `sha-256` and 32 hexadecimal bytes with colons.
fn sha256(value: &str) -> Option<[u8; 32]> {
    let (hash, hex) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut bytes = [0; 32];
    let mut parts = hex.trim().split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// RFC 8839 5.1: foundation, component, transport, priority, address, port, "typ", type.
fn candidate(value: &str) -> Option<(u32, SocketAddr)> {
    let mut parts = value.split_ascii_whitespace().skip(1);
    let component = parts.next()?;
    let transport = parts.next()?;
    let priority = parts.next()?.parse().ok()?;
    let ip: IpAddr = parts.next()?.parse().ok()?;
    let port = parts.next()?.parse().ok()?;
    (component == "1" && transport.eq_ignore_ascii_case("udp") && port != 0)
        .then(|| (priority, SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests;
