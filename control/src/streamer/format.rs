//! Payload formats: what an SDP's `a=rtpmap` and `a=fmtp` say of a payload type, and what the pictures
//! themselves say of their profile.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanmill_engine::packet::codec::{BitReader, Codec};

use crate::ingest::TrackFormat;
use crate::media::aac::AacConfig;
use crate::media::depacketize::{LatmConfig, Mpeg4Layout, Unit, nals, sequence_header};
use crate::media::packetize::Format;
use crate::sdp::{CodecProfile, ProfileLevelId, ProfileTierLevel};

/// The longest configuration that is read, in bytes.
const MAX_CONFIG_BYTES: usize = 4096;

/// Parameter sets that are kept.
const MAX_PARAMETER_SETS: usize = 8;

/// How the payloads of a payload type are read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RtpFormat {
    /// Pictures.
    Video {
        /// Their codec.
        codec: Codec,
        /// Parameter sets of H.264 and H.265 that were told beforehand.
        parameter_sets: Vec<Vec<u8>>,
    },
    /// Opus (RFC 7587).
    Opus {
        /// 1 or 2.
        channels: u8,
    },
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722.
    G722,
    /// AAC by RFC 3640.
    Mpeg4 {
        /// AudioSpecificConfig.
        config: Vec<u8>,
        /// How its payloads are made up.
        layout: Mpeg4Layout,
        /// Ticks of its timestamps in a second.
        clock_rate_hz: u32,
    },
    /// AAC by RFC 6416.
    Latm {
        /// The configuration, if it is not in the payloads.
        config: Option<LatmConfig>,
        /// Ticks of its timestamps in a second.
        clock_rate_hz: u32,
    },
    /// An MPEG transport stream (RFC 2250).
    TransportStream,
}

/// Why a payload type cannot be received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Nobody here reads it.
    #[error(
        "{0} is not received; send H264, H265, VP8, VP9, AV1, opus, PCMU, PCMA, G722, \
         MPEG4-GENERIC, MP4A-LATM or MP2T"
    )]
    Unknown(String),
    /// The clock rate or the channels are not those of the codec.
    #[error("{0} with a clock rate of {1} and {2} channel(s) is not received")]
    Rate(String, u32, u8),
    /// The `a=fmtp` line is missing something, or asks for what is not done.
    #[error("{codec}: {what}")]
    Parameters {
        /// The codec.
        codec: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}

/// `a=fmtp`: parameters by name, in any case.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let pairs = self
            .0
            .split(';')
            .filter_map(|one| one.trim().split_once('='));
        let named = |&(key, _): &(&str, &str)| key.trim().eq_ignore_ascii_case(name);
        pairs.into_iter().find(named).map(|(_, value)| value.trim())
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }

    /// Parameter sets in base64, separated by commas.
    fn sets(&self, name: &str) -> Vec<Vec<u8>> {
        let texts = self.get(name).unwrap_or_default().split(',');
        let decoded = texts.filter_map(|text| STANDARD.decode(text.trim()).ok());
        let sound = decoded.filter(|set| !set.is_empty() && set.len() <= MAX_CONFIG_BYTES);
        sound.take(MAX_PARAMETER_SETS).collect()
    }

    fn hex(&self, name: &str) -> Option<Vec<u8>> {
        let text = self.get(name)?.as_bytes();
        if text.len() > 2 * MAX_CONFIG_BYTES {
            return None;
        }
        let byte = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok()
        };
        text.chunks(2).map(byte).collect()
    }
}

impl RtpFormat {
    /// The format of a payload type that needs no `a=rtpmap` (RFC 3551 6).
    #[must_use]
    pub fn of_static_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            9 => Some(Self::G722),
            33 => Some(Self::TransportStream),
            _ => None,
        }
    }

    /// The format with this encoding name, clock rate, channels and `a=fmtp` parameters.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn new(name: &str, rate_hz: u32, channels: u8, fmtp: &str) -> Result<Self, FormatError> {
        let parameters = Parameters(fmtp);
        let wrong = || FormatError::Rate(name.to_owned(), rate_hz, channels);
        let upper = name.to_ascii_uppercase();
        match upper.as_str() {
            "MPEG4-GENERIC" => mpeg4(rate_hz, &parameters),
            "MP4A-LATM" => latm(rate_hz, &parameters),
            "MP2T" => match rate_hz {
                90_000 => Ok(Self::TransportStream),
                _ => Err(wrong()),
            },
            _ => {
                let unknown = || FormatError::Unknown(name.to_owned());
                let codec = Codec::from_name(name).ok_or_else(unknown)?;
                if rate_hz != codec.clock_rate_hz() {
                    return Err(wrong());
                }
                match (codec, channels) {
                    (Codec::Opus, 1 | 2) => {
                        let is_mono = parameters.number("sprop-stereo") == Some(0);
                        let channels = if is_mono { 1 } else { 2 };
                        Ok(Self::Opus { channels })
                    }
                    (Codec::Pcmu, 1) => Ok(Self::Pcmu),
                    (Codec::Pcma, 1) => Ok(Self::Pcma),
                    (Codec::G722, 1) => Ok(Self::G722),
                    (Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722, _) => Err(wrong()),
                    _ => video(codec, &parameters),
                }
            }
        }
    }

    /// Ticks of its timestamps in a second.
    #[must_use]
    pub fn clock_rate_hz(&self) -> u32 {
        match self {
            Self::Video { .. } | Self::TransportStream => 90_000,
            Self::Opus { .. } => 48_000,
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
            Self::Mpeg4 { clock_rate_hz, .. } | Self::Latm { clock_rate_hz, .. } => *clock_rate_hz,
        }
    }

    /// Its encoding name in SDP.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Video { codec, .. } => codec.name(),
            Self::Opus { .. } => "opus",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Mpeg4 { .. } => "MPEG4-GENERIC",
            Self::Latm { .. } => "MP4A-LATM",
            Self::TransportStream => "MP2T",
        }
    }

    /// What an ingest is told of it, if the description says enough.
    pub(crate) fn known_track(&self) -> Option<TrackFormat> {
        match self {
            Self::Opus { channels } => Some(TrackFormat::Opus {
                channels: *channels,
            }),
            Self::Pcmu => Some(TrackFormat::Pcmu),
            Self::Pcma => Some(TrackFormat::Pcma),
            Self::G722 => Some(TrackFormat::G722),
            Self::Mpeg4 { config, .. } => Some(TrackFormat::Aac {
                config: config.clone(),
            }),
            Self::Latm { config, .. } => config.as_ref().map(|known| TrackFormat::Aac {
                config: known.config.clone(),
            }),
            Self::Video { .. } | Self::TransportStream => None,
        }
    }
}

fn video(codec: Codec, parameters: &Parameters<'_>) -> Result<RtpFormat, FormatError> {
    let refused = |what| FormatError::Parameters {
        codec: codec.name(),
        what,
    };
    let parameter_sets = match codec {
        Codec::H264 if parameters.number("packetization-mode") == Some(2) => {
            return Err(refused("packetization-mode 2 is not received; use 1"));
        }
        Codec::H264 => parameters.sets("sprop-parameter-sets"),
        Codec::H265 if parameters.number("sprop-max-don-diff").unwrap_or(0) > 0 => {
            return Err(refused("interleaving (sprop-max-don-diff) is not received"));
        }
        Codec::H265 => ["sprop-vps", "sprop-sps", "sprop-pps"]
            .into_iter()
            .flat_map(|name| parameters.sets(name))
            .collect(),
        _ => Vec::new(),
    };
    Ok(RtpFormat::Video {
        codec,
        parameter_sets,
    })
}

fn mpeg4(rate_hz: u32, parameters: &Parameters<'_>) -> Result<RtpFormat, FormatError> {
    let refused = |what| FormatError::Parameters {
        codec: "MPEG4-GENERIC",
        what,
    };
    let mode = parameters.get("mode").unwrap_or_default();
    let (size_bits, index_bits) = match mode.to_ascii_lowercase().as_str() {
        "aac-hbr" => (13, 3),
        "aac-lbr" => (6, 2),
        _ => return Err(refused("only the modes AAC-hbr and AAC-lbr are received")),
    };
    // RFC 3640 3.2: fields that these modes have not, and that would stand among the others.
    let others = [
        "ctsdeltalength",
        "dtsdeltalength",
        "randomaccessindication",
        "streamstateindication",
        "auxiliarydatasizelength",
    ];
    let has = |name: &&str| parameters.number(name).unwrap_or(0) > 0;
    if others.iter().any(has) || parameters.number("maxdisplacement").unwrap_or(0) > 0 {
        return Err(refused("interleaving and extra fields are not received"));
    }
    let config = parameters.hex("config").filter(|config| !config.is_empty());
    let config = config.ok_or(refused("a=fmtp has no config"))?;
    let audio = AacConfig::parse(&config).ok_or(refused("config is of no AAC that is received"))?;
    let rate_hz = rate_hz.max(1);
    let constant = parameters
        .number("constantduration")
        .filter(|&ticks| ticks > 0);
    Ok(RtpFormat::Mpeg4 {
        layout: Mpeg4Layout {
            size_bits: parameters.number("sizelength").unwrap_or(size_bits),
            index_bits: parameters.number("indexlength").unwrap_or(index_bits),
            index_delta_bits: parameters.number("indexdeltalength").unwrap_or(index_bits),
            frame_ticks: constant.unwrap_or_else(|| audio.frame_ticks(rate_hz)),
        },
        config,
        clock_rate_hz: rate_hz,
    })
}

fn latm(rate_hz: u32, parameters: &Parameters<'_>) -> Result<RtpFormat, FormatError> {
    let refused = |what| FormatError::Parameters {
        codec: "MP4A-LATM",
        what,
    };
    let config = match parameters.number("cpresent") {
        Some(0) => {
            let config = parameters.hex("config").and_then(|c| LatmConfig::parse(&c));
            Some(config.ok_or(refused("config is missing, or of no AAC that is received"))?)
        }
        _ => None,
    };
    Ok(RtpFormat::Latm {
        config,
        clock_rate_hz: rate_hz.max(1),
    })
}

/// What an ingest is told of pictures that begin with this keyframe.
pub(super) fn track_of_keyframe(unit: &Unit) -> Option<TrackFormat> {
    video_track(unit.codec, &unit.data)
}

/// The same, of a keyframe's coded bytes.
pub(crate) fn video_track(codec: Codec, data: &[u8]) -> Option<TrackFormat> {
    let (format, profile) = match codec {
        Codec::H264 => h264_track(data)?,
        Codec::H265 => {
            let is_set = |nal: &&[u8]| matches!(nal.first().map(|h| h >> 1 & 0x3f), Some(32..=34));
            let parameter_sets = nals(data).filter(is_set).map(<[u8]>::to_vec).collect();
            let profile = CodecProfile::H265(h265_profile(data)?);
            let format = Format::H265 {
                length_bytes: 4,
                parameter_sets,
            };
            (format, profile)
        }
        Codec::Vp8 => (Format::Vp8, CodecProfile::None),
        Codec::Vp9 => {
            // VP9 6.2: frame marker, then the profile, low bit first.
            let mut bits = BitReader::new(data);
            let (marker, low, high) = (bits.bits(2)?, bits.bits(1)?, bits.bits(1)?);
            let profile_id = u8::try_from(high << 1 | low).ok()?;
            (marker == 2).then_some((Format::Vp9, CodecProfile::Vp9 { profile_id }))?
        }
        Codec::Av1 => {
            let configuration = sequence_header(data)?.to_vec();
            let profile = av1_profile(&configuration)?;
            (Format::Av1 { configuration }, CodecProfile::Av1 { profile })
        }
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722 => return None,
    };
    Some(TrackFormat::Video { format, profile })
}

fn h264_track(data: &[u8]) -> Option<(Format, CodecProfile)> {
    let is_set = |nal: &&[u8]| matches!(nal.first().map(|h| h & 0x1f), Some(7 | 8));
    let parameter_sets: Vec<_> = nals(data).filter(is_set).map(<[u8]>::to_vec).collect();
    let sequence = parameter_sets.iter().find(|set| set[0] & 0x1f == 7)?;
    let &[_, profile, constraints, level] = sequence.first_chunk()?;
    let format = Format::H264 {
        length_bytes: 4,
        parameter_sets,
    };
    let profile = CodecProfile::H264 {
        profile_level_id: ProfileLevelId([profile, constraints, level]),
        packetization_mode: 1,
    };
    Some((format, profile))
}

/// What the sequence parameter set says (H.265 7.3.2.2, 7.3.3).
fn h265_profile(data: &[u8]) -> Option<ProfileTierLevel> {
    let is_sequence = |nal: &&[u8]| nal.first().map(|header| header >> 1 & 0x3f) == Some(33);
    let sequence = nals(data).find(is_sequence)?;
    let mut bits = BitReader::nal(sequence.get(2..)?);
    // Identifiers, then the profile's space.
    bits.skip(8 + 2)?;
    let is_high_tier = bits.flag()?;
    let profile_id = u8::try_from(bits.bits(5)?).ok()?;
    // Compatibility and constraints.
    bits.skip(32 + 48)?;
    let level_id = u8::try_from(bits.bits(8)?).ok()?;
    Some(ProfileTierLevel {
        profile_id,
        is_high_tier,
        level_id,
    })
}

/// `seq_profile`, the first three bits of a sequence header with its OBU header and size (AV1 5.5).
fn av1_profile(obu: &[u8]) -> Option<u8> {
    let (&header, mut rest) = obu.split_first()?;
    if header & 4 != 0 {
        rest = rest.get(1..)?;
    }
    if header & 2 != 0 {
        (_, rest) = crate::media::depacketize::leb128(rest)?;
    }
    rest.first().map(|first| first >> 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_of_h265_is_in_its_sequence_parameter_set() {
        // Main, level 3.1, as x265 writes it: emulation prevention stands amid the constraints.
        let sequence = [
            0x42, 0x01, 0x01, 0x01, 0x60, 0, 0, 0x03, 0, 0x90, 0, 0, 0x03, 0, 0, 0x03, 0, 0x5d,
        ];
        let mut unit = vec![0, 0, 0, sequence.len() as u8];
        unit.extend_from_slice(&sequence);
        let Some(TrackFormat::Video { profile, .. }) = video_track(Codec::H265, &unit) else {
            panic!("no track");
        };
        let expected = ProfileTierLevel {
            profile_id: 1,
            is_high_tier: false,
            level_id: 93,
        };
        assert_eq!(profile, CodecProfile::H265(expected));
    }
}
