//! What is to be received, from an SDP (RFC 8866) as ffmpeg, VLC, GStreamer and cameras write it.
//!
//! Read leniently: lines that are missing or unknown do not matter, only what is needed to receive
//! does. A media section of which nothing can be received is an error, since its author expects it to
//! be seen.

use std::net::IpAddr;

use super::format::{FormatError, RtpFormat};
use super::security::{SdesError, SdesKey};

/// The longest description.
pub const MAX_DESCRIPTION_BYTES: usize = 64 << 10;

/// Media sections of a description.
pub const MAX_MEDIA: usize = 8;

/// Formats of a media section.
const MAX_FORMATS: usize = 32;

/// Where RTCP goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RtcpPort {
    /// To the port after that of RTP.
    #[default]
    Next,
    /// To that of RTP (RFC 5761).
    Muxed,
    /// To another one (RFC 3605).
    Other(u16),
}

/// A media section.
#[derive(Debug, Clone)]
pub struct MediaDescription {
    /// Where it is sent to, if it says so.
    pub address: Option<IpAddr>,
    /// To which port; 0: not said.
    pub port: u16,
    /// Where RTCP goes.
    pub rtcp: RtcpPort,
    /// What each payload type is.
    pub formats: Vec<(u8, RtpFormat)>,
    /// Its keys, if it is encrypted.
    pub key: Option<SdesKey>,
}

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// Too long.
    #[error("an SDP of more than {MAX_DESCRIPTION_BYTES} bytes is not read")]
    TooLong,
    /// No media section that could be received.
    #[error(
        "the SDP has no m=video or m=audio line; give the text of the file that the sender writes (ffmpeg: -sdp_file)"
    )]
    NoMedia,
    /// Too many of them.
    #[error("an SDP with more than {MAX_MEDIA} media sections is not read")]
    TooMany,
    /// An `m=` line that is none.
    #[error("the SDP's line {0:?} cannot be read")]
    Line(String),
    /// Another transport than RTP.
    #[error("media over {0} is not received; RTP/AVP and RTP/SAVP are")]
    Transport(String),
    /// Encrypted, and the keys are negotiated elsewhere.
    #[error("an encrypted media section needs an a=crypto line")]
    NoKey,
    /// Nothing in it can be received.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Its keys cannot be used.
    #[error(transparent)]
    Key(#[from] SdesError),
}

/// A media section as it stands.
struct Section<'a> {
    media: &'a str,
    attributes: Vec<&'a str>,
    connection: Option<&'a str>,
}

/// Reads a description.
///
/// # Errors
/// [`DescriptionError`].
pub fn parse(sdp: &str) -> Result<Vec<MediaDescription>, DescriptionError> {
    if sdp.len() > MAX_DESCRIPTION_BYTES {
        return Err(DescriptionError::TooLong);
    }
    let (mut connection, mut session) = (None, Vec::new());
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in sdp.lines() {
        let Some((kind, value)) = line.trim().split_once('=') else {
            continue;
        };
        match (kind, sections.last_mut()) {
            ("m", _) => sections.push(Section {
                media: value,
                attributes: Vec::new(),
                connection: None,
            }),
            ("c", None) => connection = Some(value),
            ("c", Some(section)) => section.connection = section.connection.or(Some(value)),
            ("a", None) => session.push(value),
            ("a", Some(section)) => section.attributes.push(value),
            _ => {}
        }
    }
    let media: Result<Vec<_>, _> = sections
        .into_iter()
        .filter(|section| section.media.starts_with("video") || section.media.starts_with("audio"))
        .map(|mut section| {
            section.connection = section.connection.or(connection);
            section.attributes.extend(&session);
            section.read()
        })
        .collect();
    let media = media?;
    match media.len() {
        0 => Err(DescriptionError::NoMedia),
        1..=MAX_MEDIA => Ok(media),
        _ => Err(DescriptionError::TooMany),
    }
}

impl Section<'_> {
    fn read(&self) -> Result<MediaDescription, DescriptionError> {
        let wrong = || DescriptionError::Line(format!("m={}", self.media));
        let mut fields = self.media.split_ascii_whitespace().skip(1);
        // "5004/2": hierarchical encodings, which nobody sends.
        let port = fields.next().and_then(|port| port.split('/').next());
        let port: u16 = port.and_then(|port| port.parse().ok()).ok_or_else(wrong)?;
        let transport = fields.next().ok_or_else(wrong)?.to_ascii_uppercase();
        let is_secure = match transport.as_str() {
            "RTP/AVP" | "RTP/AVPF" => false,
            "RTP/SAVP" | "RTP/SAVPF" => true,
            _ => return Err(DescriptionError::Transport(transport)),
        };
        let payload_types: Vec<u8> = fields
            .filter_map(|field| field.parse().ok())
            .filter(|payload_type| *payload_type < 128)
            .take(MAX_FORMATS)
            .collect();
        Ok(MediaDescription {
            address: self.connection.and_then(connection_address),
            port,
            rtcp: self.rtcp(),
            formats: self.formats(&payload_types)?,
            key: self.key(is_secure)?,
        })
    }

    /// Values of the attributes of a name.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter_map(move |attribute| {
            let (key, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    fn rtcp(&self) -> RtcpPort {
        if self.all("rtcp-mux").next().is_some() {
            return RtcpPort::Muxed;
        }
        let port = self
            .all("rtcp")
            .find_map(|value| value.split_ascii_whitespace().next());
        let port = port
            .and_then(|port| port.parse().ok())
            .filter(|&port| port != 0);
        port.map_or(RtcpPort::Next, RtcpPort::Other)
    }

    fn key(&self, is_secure: bool) -> Result<Option<SdesKey>, DescriptionError> {
        let mut refused = None;
        for attribute in self.all("crypto") {
            match SdesKey::parse(attribute) {
                Ok(key) => return Ok(Some(key)),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) => Err(error.into()),
            None if is_secure => Err(DescriptionError::NoKey),
            None => Ok(None),
        }
    }

    /// What can be received; an error if nothing can.
    fn formats(&self, payload_types: &[u8]) -> Result<Vec<(u8, RtpFormat)>, DescriptionError> {
        let mut refused = None;
        let mut formats = Vec::new();
        for &payload_type in payload_types {
            match self.format(payload_type) {
                Ok(format) => formats.push((payload_type, format)),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match (formats.is_empty(), refused) {
            (false, _) => Ok(formats),
            (true, Some(error)) => Err(error.into()),
            (true, None) => Err(DescriptionError::Line(format!("m={}", self.media))),
        }
    }

    fn format(&self, payload_type: u8) -> Result<RtpFormat, FormatError> {
        let of = |value: &'_ str| -> Option<String> {
            let (number, rest) = value.split_once(' ')?;
            (number.parse() == Ok(payload_type)).then(|| rest.trim().to_owned())
        };
        let Some(map) = self.all("rtpmap").find_map(of) else {
            let unknown = || FormatError::Unknown(format!("payload type {payload_type}"));
            return RtpFormat::of_static_type(payload_type).ok_or_else(unknown);
        };
        let fmtp = self.all("fmtp").find_map(of).unwrap_or_default();
        let mut parts = map.split('/');
        let name = parts.next().unwrap_or_default();
        let rate = parts.next().and_then(|rate| rate.trim().parse().ok());
        let channels = parts.next().and_then(|count| count.trim().parse().ok());
        RtpFormat::new(name.trim(), rate.unwrap_or(0), channels.unwrap_or(1), &fmtp)
    }
}

/// "IN IP4 224.2.1.1/127/3": only the address matters.
fn connection_address(value: &str) -> Option<IpAddr> {
    let field = value.split_ascii_whitespace().nth(2)?;
    field.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use fanmill_engine::packet::codec::Codec;
    use proptest::prelude::*;

    use super::*;
    use crate::ingest::TrackFormat;

    const FFMPEG: &str = "SDP:\n\
        v=0\n\
        o=- 0 0 IN IP4 127.0.0.1\n\
        s=No Name\n\
        t=0 0\n\
        a=tool:libavformat 59.27.100\n\
        m=video 5004 RTP/AVP 96\n\
        c=IN IP4 127.0.0.1\n\
        a=rtpmap:96 H264/90000\n\
        a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LAH9kAUAW6EAAAAwAQAAADAyDxgyRg,aMuDyyA=; profile-level-id=42C01F\n\
        m=audio 5006 RTP/AVP 97\n\
        c=IN IP4 127.0.0.1\n\
        b=AS:128\n\
        a=rtpmap:97 MPEG4-GENERIC/44100/2\n\
        a=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=121056E500\n";

    const VLC: &str = "v=0\r\n\
        o=- 17201 17201 IN IP4 host\r\n\
        s=Unnamed\r\n\
        i=N/A\r\n\
        c=IN IP4 239.255.12.42/1\r\n\
        t=0 0\r\n\
        a=tool:vlc 3.0.24\r\n\
        a=recvonly\r\n\
        a=type:broadcast\r\n\
        a=charset:UTF-8\r\n\
        m=audio 5004 RTP/AVP 33 101\r\n\
        b=RR:0\r\n\
        a=rtpmap:33 MP2T/90000\r\n\
        a=rtpmap:101 telephone-event/8000\r\n\
        m=video 5008 RTP/SAVP 98\r\n\
        a=rtpmap:98 VP9/90000\r\n\
        a=rtcp-mux\r\n\
        a=crypto:1 AEAD_AES_128_GCM inline:YUJDZGVmZ2hpSktMbW9QUXJzVHVWd3l6MTIzNA==\r\n";

    #[test]
    fn what_ffmpeg_writes_is_read() {
        let media = parse(FFMPEG).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(media.len(), 2);
        let ports: Vec<u16> = media.iter().map(|media| media.port).collect();
        assert_eq!(ports, [5004, 5006]);
        assert_eq!(media[0].address, Some([127, 0, 0, 1].into()));
        let (
            payload_type,
            RtpFormat::Video {
                codec,
                parameter_sets,
            },
        ) = &media[0].formats[0]
        else {
            panic!("{media:?}");
        };
        assert_eq!((*payload_type, *codec), (96, Codec::H264));
        let kinds: Vec<u8> = parameter_sets.iter().map(|set| set[0] & 0x1f).collect();
        assert_eq!(kinds, [7, 8]);
        let sound = &media[1].formats[0].1;
        let config = vec![0x12, 0x10, 0x56, 0xe5, 0x00];
        assert_eq!(sound.known_track(), Some(TrackFormat::Aac { config }));
        assert_eq!(sound.clock_rate_hz(), 44_100);
    }

    #[test]
    fn what_vlc_writes_is_read() {
        let media = parse(VLC).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(media[0].formats, [(33, RtpFormat::TransportStream)]);
        assert_eq!(media[0].address, Some([239, 255, 12, 42].into()));
        assert_eq!(media[1].rtcp, RtcpPort::Muxed);
        assert_eq!(
            media[1].key.as_ref().map(SdesKey::suite),
            Some("AEAD_AES_128_GCM")
        );
    }

    #[test]
    fn latm_is_read_in_all_forms() {
        let told = RtpFormat::new("mp4a-latm", 44_100, 2, "cpresent=0;config=400024203fc0");
        let config = vec![0x12, 0x10];
        let track = told.map(|format| format.known_track());
        assert_eq!(track, Ok(Some(TrackFormat::Aac { config })));
        // GStreamer's, which says that there is no SBR and ends.
        let of_gstreamer = "cpresent=0;config=40002410adca00";
        let told = RtpFormat::new("MP4A-LATM", 44_100, 1, of_gstreamer);
        let config = vec![0x12, 0x08];
        let track = told.map(|format| format.known_track());
        assert_eq!(track, Ok(Some(TrackFormat::Aac { config })));
        let in_band = RtpFormat::new("MP4A-LATM", 90_000, 1, "profile-level-id=15; object=2");
        assert_eq!(in_band.map(|format| format.known_track()), Ok(None));
    }

    #[test]
    fn what_cannot_be_received_is_refused_with_the_reason() {
        let of = |from: &str, to: &str| {
            let error = parse(&FFMPEG.replace(from, to)).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(of("H264/90000", "MP4V-ES/90000").contains("MP4V-ES is not received"));
        assert!(of("packetization-mode=1", "packetization-mode=2").contains("use 1"));
        assert!(of("mode=AAC-hbr", "mode=CELP-vbr").contains("AAC-hbr"));
        assert!(of("m=video 5004 RTP/AVP", "m=video 5004 RTP/SAVP").contains("a=crypto"));
        assert!(of("m=video 5004 RTP/AVP", "m=video 5004 UDP/TLS/RTP/SAVPF").contains("UDP/TLS"));
        assert!(of("m=video 5004", "m=video many").contains("cannot be read"));
        assert_eq!(parse("no SDP").err(), Some(DescriptionError::NoMedia));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\PC|\n|m=video 1 RTP/AVP 96\n|a=rtpmap:96 |a=fmtp:96 |H264/90000\n){0,40}") {
            let _ = parse(&text);
        }
    }
}
