//! What a session that sends tells its receivers: an SDP (RFC 8866) for VLC, ffplay and GStreamer.

use std::fmt::Write as _;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::sdp::{Codec, CodecParameters, CodecProfile};
use crate::streamer::SendSpec;

/// A track as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) port: u16,
    pub(super) codec: CodecParameters,
    /// SPS and PPS of H.264, as far as they have gone by.
    pub(super) parameter_sets: Vec<Vec<u8>>,
}

/// The payload type that a codec is sent with: one for each, so that a receiver is not misled when a
/// stream goes on in another codec.
pub(super) const fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Vp8 => 96,
        Codec::Opus => 97,
        Codec::Vp9 => 98,
        Codec::Av1 => 99,
        Codec::H264 => 100,
        Codec::H265 => 101,
    }
}

/// The description of these tracks.
pub(super) fn describe(spec: &SendSpec, session: u64, tracks: &[Described]) -> String {
    let (stream, to) = (&spec.stream, spec.to.ip());
    let family = match to {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    };
    // RFC 8866 5.7: hops are said of IPv4 groups only.
    let hops = match to {
        IpAddr::V4(group) if group.is_multicast() => format!("/{}", spec.ttl),
        _ => String::new(),
    };
    let mut sdp = format!(
        "v=0\r\no=- {session} 1 IN {family} {to}\r\ns={stream}\r\nc=IN {family} {to}{hops}\r\n\
         t=0 0\r\n"
    );
    let transport = match spec.key {
        Some(_) => "RTP/SAVP",
        None => "RTP/AVP",
    };
    for track in tracks {
        let codec = &track.codec;
        let number = payload_type(codec.codec);
        let (kind, channels) = match codec.codec {
            Codec::Opus => ("audio", "/2"),
            _ => ("video", ""),
        };
        let name = codec.codec.encoding_name();
        let rate = codec.clock_rate;
        // A String takes whatever is written.
        let _ = write!(
            sdp,
            "m={kind} {} {transport} {number}\r\na=rtpmap:{number} {name}/{rate}{channels}\r\n",
            track.port
        );
        if let Some(parameters) = parameters(track) {
            let _ = write!(sdp, "a=fmtp:{number} {parameters}\r\n");
        }
        if let Some(key) = &spec.key {
            let _ = write!(sdp, "a=crypto:1 {}\r\n", key.attribute());
        }
        if spec.rtcp_mux {
            sdp.push_str("a=rtcp-mux\r\n");
        }
    }
    sdp
}

fn parameters(track: &Described) -> Option<String> {
    match track.codec.profile {
        CodecProfile::H264 {
            profile_level_id, ..
        } => {
            let mut text = "packetization-mode=1".to_owned();
            let [profile, constraints, level] =
                match track.parameter_sets.first().map(Vec::as_slice) {
                    Some(&[_, profile, constraints, level, ..]) => [profile, constraints, level],
                    Some(_) | None => profile_level_id.0,
                };
            let _ = write!(
                text,
                ";profile-level-id={profile:02x}{constraints:02x}{level:02x}"
            );
            if !track.parameter_sets.is_empty() {
                let sets: Vec<_> = track
                    .parameter_sets
                    .iter()
                    .map(|set| STANDARD.encode(set))
                    .collect();
                let _ = write!(text, ";sprop-parameter-sets={}", sets.join(","));
            }
            Some(text)
        }
        CodecProfile::Vp9 { profile_id } => Some(format!("profile-id={profile_id}")),
        CodecProfile::Av1 { profile } => Some(format!("profile={profile}")),
        _ if track.codec.codec == Codec::Opus => Some("sprop-stereo=1".to_owned()),
        _ => None,
    }
}

/// Keeps the parameter sets in a payload of H.264 (RFC 6184): SPS first, then PPS.
pub(super) fn keep_parameter_sets(payload: &[u8], sets: &mut Vec<Vec<u8>>) {
    let kind = |nal: &[u8]| nal.first().map_or(0, |header| header & 0x1f);
    let mut keep = |nal: &[u8]| {
        let place = match kind(nal) {
            7 => 0,
            8 => 1,
            _ => return,
        };
        // A PPS before the SPS it refers to says nothing yet.
        if place <= sets.len() {
            sets.truncate(place);
            sets.push(nal.to_vec());
        }
    };
    if kind(payload) != 24 {
        keep(payload);
        return;
    }
    let mut rest = payload.get(1..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((nal, after)) = after.split_at_checked(u16::from_be_bytes(*length).into()) else {
            return;
        };
        keep(nal);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProducedTrack;
    use crate::sdp::ProfileLevelId;
    use crate::streamer::{RtpFormat, SdesKey, parse};

    #[test]
    fn what_is_described_is_read_again() {
        let mut parameter_sets = Vec::new();
        let sets = [24, 0, 4, 0x67, 0x64, 0, 0x1f, 0, 2, 0x68, 0xce];
        keep_parameter_sets(&sets, &mut parameter_sets);
        keep_parameter_sets(&[0x65, 0x88], &mut parameter_sets);
        let video = ProducedTrack::h264(102, ProfileLevelId([0x42, 0xe0, 0x1f]), 1);
        let tracks = [
            Described {
                port: 5004,
                codec: video.codec().clone(),
                parameter_sets: parameter_sets.clone(),
            },
            Described {
                port: 5006,
                codec: ProducedTrack::opus(111).codec().clone(),
                parameter_sets: Vec::new(),
            },
        ];
        let spec = SendSpec {
            stream: "cam".to_owned(),
            to: ([239, 1, 2, 3], 5004).into(),
            ttl: 4,
            interface: None,
            rtcp_mux: true,
            key: Some(SdesKey::random()),
        };
        let sdp = describe(&spec, 7, &tracks);
        assert!(sdp.contains("c=IN IP4 239.1.2.3/4\r\n"), "{sdp}");
        assert!(sdp.contains("profile-level-id=64001f"), "{sdp}");
        let media = parse(&sdp).unwrap_or_else(|error| panic!("{error}"));
        let RtpFormat::Video {
            parameter_sets: read,
            ..
        } = &media[0].formats[0].1
        else {
            panic!("{media:?}");
        };
        assert_eq!(*read, parameter_sets);
        let suite = media[0].key.as_ref().map(SdesKey::suite);
        assert_eq!(suite, Some("AES_CM_128_HMAC_SHA1_80"));
        assert_eq!(
            (media[1].port, media[1].address),
            (5006, Some(spec.to.ip()))
        );
    }
}
