//! The codecs this server carries, as both sides of one m-section agreed on them. The negotiation
//! makes [`CodecParameters`] of offered codecs; the subscription tables choose between a
//! publisher's and a viewer's with [`best_match`].

mod h264;
mod h265;
mod matching;

use std::fmt;

pub use h264::{H264Profile, ProfileLevelId};
pub use h265::ProfileTierLevel;
pub use matching::{best_match, compatible};

use super::payload::OfferedCodec;

/// A codec whose packets the engine understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus (RFC 7587).
    Opus,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// AV1 (AV1 RTP specification).
    Av1,
    /// H.264 (RFC 6184).
    H264,
    /// H.265 (RFC 7798).
    H265,
}

impl Codec {
    /// The encoding name in `a=rtpmap`, with the case that every client reads.
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::H264 => "H264",
            Self::H265 => "H265",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encoding_name())
    }
}

/// Feedback messages (RFC 4585, RFC 5104) that are understood for a codec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RtcpFeedback {
    /// `nack`: generic negative acknowledgements.
    pub nack: bool,
    /// `nack pli`: picture loss indications.
    pub nack_pli: bool,
    /// `ccm fir`: full intra requests.
    pub ccm_fir: bool,
    /// `transport-cc`: transport-wide congestion control.
    pub transport_cc: bool,
    /// `goog-remb`: receiver's estimate of the bitrate.
    pub goog_remb: bool,
}

impl RtcpFeedback {
    /// Adds what an `a=rtcp-fb` line says after the payload type.
    pub(crate) fn add(&mut self, value: &str) {
        let mut fields = value.split_ascii_whitespace();
        match (fields.next(), fields.next()) {
            (Some("nack"), None) => self.nack = true,
            (Some("nack"), Some("pli")) => self.nack_pli = true,
            (Some("ccm"), Some("fir")) => self.ccm_fir = true,
            (Some("transport-cc"), _) => self.transport_cc = true,
            (Some("goog-remb"), _) => self.goog_remb = true,
            _ => {}
        }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            nack: self.nack || other.nack,
            nack_pli: self.nack_pli || other.nack_pli,
            ccm_fir: self.ccm_fir || other.ccm_fir,
            transport_cc: self.transport_cc || other.transport_cc,
            goog_remb: self.goog_remb || other.goog_remb,
        }
    }

    /// What `a=rtcp-fb` lines say after the payload type, one item a line.
    pub(crate) fn values(self) -> impl Iterator<Item = &'static str> {
        [
            (self.goog_remb, "goog-remb"),
            (self.transport_cc, "transport-cc"),
            (self.ccm_fir, "ccm fir"),
            (self.nack, "nack"),
            (self.nack_pli, "nack pli"),
        ]
        .into_iter()
        .filter_map(|(understood, value)| understood.then_some(value))
    }
}

/// The redundant form of an audio codec (RFC 2198), under a payload type of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Redundancy {
    /// Its RTP payload type.
    pub payload_type: u8,
    /// It stands before the codec itself, which tells libwebrtc to send it.
    pub is_preferred: bool,
}

/// What distinguishes two configurations of the same codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodecProfile {
    /// The codec has one only (Opus, VP8).
    None,
    /// VP9's bitstream profile (RFC 9628 6.1): 0 or 2.
    Vp9 {
        /// `profile-id`.
        profile_id: u8,
    },
    /// AV1's `seq_profile`: 0, 1 or 2.
    Av1 {
        /// `profile`.
        profile: u8,
    },
    /// H.264's profile and way of packing (RFC 6184 8.1).
    H264 {
        /// `profile-level-id`.
        profile_level_id: ProfileLevelId,
        /// `packetization-mode`: 0 or 1.
        packetization_mode: u8,
    },
    /// H.265's profile, tier and level (RFC 7798 7.1).
    H265(ProfileTierLevel),
}

/// A codec that both sides of an m-section use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecParameters {
    /// RTP payload type, 0 to 127 without 64 to 95.
    pub payload_type: u8,
    /// The codec.
    pub codec: Codec,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Audio channels; 1 for video.
    pub channels: u8,
    /// Its configuration.
    pub profile: CodecProfile,
    /// Payload type of its retransmissions (RFC 4588).
    pub rtx_payload_type: Option<u8>,
    /// Its redundant form; for Opus only.
    pub redundancy: Option<Redundancy>,
    /// Feedback messages that both sides understand.
    pub feedback: RtcpFeedback,
    /// What `a=fmtp` says of it in the answer; `None` for no such line.
    pub fmtp: Option<String>,
}

impl CodecParameters {
    /// Recognises an offered codec. `None` when this server does not carry it.
    ///
    /// All feedback offered is taken over, and no `fmtp` made: both depend on the m-section.
    pub(crate) fn recognise(offered: &OfferedCodec) -> Option<Self> {
        if !is_usable_payload_type(offered.payload_type) {
            return None;
        }
        let (codec, profile) = recognise_profile(offered)?;
        let expected = if codec == Codec::Opus {
            (48_000, 2)
        } else {
            (90_000, 1)
        };
        if (offered.clock_rate, offered.channels) != expected {
            return None;
        }
        Some(Self {
            payload_type: offered.payload_type,
            codec,
            clock_rate: offered.clock_rate,
            channels: offered.channels,
            profile,
            rtx_payload_type: offered
                .rtx_payload_type
                .filter(|&pt| is_usable_payload_type(pt)),
            redundancy: offered.redundancy.filter(|redundancy| {
                codec == Codec::Opus && is_usable_payload_type(redundancy.payload_type)
            }),
            feedback: offered.feedback,
            fmtp: None,
        })
    }
}

// RFC 5761 4: with RTCP on the same port, 64 to 95 would be read as RTCP packet types.
fn is_usable_payload_type(payload_type: u8) -> bool {
    payload_type < 128 && !(64..96).contains(&payload_type)
}

fn recognise_profile(offered: &OfferedCodec) -> Option<(Codec, CodecProfile)> {
    let number = |name| {
        offered
            .parameter(name)
            .map_or(Some(0), |value| value.parse::<u8>().ok())
    };
    let is = |codec: Codec| {
        offered
            .encoding_name
            .eq_ignore_ascii_case(codec.encoding_name())
    };
    if is(Codec::Opus) {
        Some((Codec::Opus, CodecProfile::None))
    } else if is(Codec::Vp8) {
        Some((Codec::Vp8, CodecProfile::None))
    } else if is(Codec::Vp9) {
        let profile_id = number("profile-id")?;
        matches!(profile_id, 0 | 2).then_some((Codec::Vp9, CodecProfile::Vp9 { profile_id }))
    } else if is(Codec::Av1) {
        let profile = number("profile")?;
        (profile <= 2).then_some((Codec::Av1, CodecProfile::Av1 { profile }))
    } else if is(Codec::H264) {
        let packetization_mode = number("packetization-mode")?;
        let profile_level_id = match offered.parameter("profile-level-id") {
            Some(value) => ProfileLevelId::parse(value)?,
            None => ProfileLevelId::DEFAULT,
        };
        (packetization_mode <= 1).then_some((
            Codec::H264,
            CodecProfile::H264 {
                profile_level_id,
                packetization_mode,
            },
        ))
    } else if is(Codec::H265) {
        let profile = ProfileTierLevel::of(offered)?;
        Some((Codec::H265, CodecProfile::H265(profile)))
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use super::super::payload::FormatTable;
    use super::*;

    fn recognise(rtpmap: &str, fmtp: &str) -> Option<CodecParameters> {
        let payload_type = rtpmap.split(' ').next().unwrap();
        let mut table = FormatTable::new(payload_type).unwrap();
        table.push_rtpmap(rtpmap);
        table.push_fmtp(&format!("{payload_type} {fmtp}")).unwrap();
        CodecParameters::recognise(&table.into_codecs()[0])
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(recognise("96 OPUS/48000/2", "").unwrap().codec, Codec::Opus);
        assert_eq!(recognise("97 h264/90000", "").unwrap().codec, Codec::H264);
    }

    #[test]
    fn profiles_that_are_not_carried_are_not_recognised() {
        assert!(recognise("96 VP9/90000", "profile-id=2").is_some());
        assert!(recognise("96 VP9/90000", "profile-id=1").is_none());
        assert!(recognise("96 AV1/90000", "profile=3").is_none());
        assert!(recognise("96 H264/90000", "packetization-mode=2").is_none());
        assert!(recognise("96 H264/90000", "profile-level-id=42e0").is_none());
        assert!(recognise("96 opus/48000", "").is_none());
        assert!(recognise("96 H261/90000", "").is_none());
    }

    #[test]
    fn payload_types_that_look_like_rtcp_are_not_used() {
        assert!(recognise("72 VP8/90000", "").is_none());
        assert!(recognise("35 VP8/90000", "").is_some());
        assert!(recognise("63 VP8/90000", "").is_some());
    }

    #[test]
    fn an_h264_without_parameters_is_baseline_in_single_nal_unit_mode() {
        let CodecProfile::H264 {
            profile_level_id,
            packetization_mode,
        } = recognise("97 H264/90000", "").unwrap().profile
        else {
            panic!("not H264");
        };
        assert_eq!(packetization_mode, 0);
        assert_eq!(profile_level_id.profile(), H264Profile::Baseline);
    }

    #[test]
    fn an_h265_without_parameters_is_main_at_level_3_1() {
        let profile = |fmtp| recognise("98 H265/90000", fmtp).map(|codec| codec.profile);
        let default = CodecProfile::H265(ProfileTierLevel::DEFAULT);
        assert_eq!(profile(""), Some(default));
        let written = "level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST";
        assert_eq!(profile(written), Some(default));
        let ten_bits = ProfileTierLevel {
            profile_id: 2,
            is_high_tier: true,
            level_id: 180,
        };
        let written = "level-id=180;profile-id=2;tier-flag=1;sprop-max-don-diff=0";
        assert_eq!(profile(written), Some(CodecProfile::H265(ten_bits)));
    }

    #[test]
    fn an_h265_whose_packets_are_of_another_kind_is_not_recognised() {
        for fmtp in [
            "tx-mode=MRST",
            "tx-mode=MRMT",
            "sprop-max-don-diff=2",
            "profile-space=1",
            "profile-id=0",
            "profile-id=32",
            "tier-flag=2",
            "level-id=256",
        ] {
            assert!(recognise("98 H265/90000", fmtp).is_none(), "{fmtp}");
        }
    }
}
