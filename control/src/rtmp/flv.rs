//! What the audio and video messages of RTMP hold: FLV tags (Adobe FLV 10.1, E.4), and those of
//! Enhanced RTMP (version 2), with other codecs by a code of four letters.

use bytes::{Bytes, BytesMut};

/// What a message of pictures is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoTag {
    /// The decoder's configuration.
    Configuration(VideoCodec, Bytes),
    /// A picture.
    Frame {
        /// Its codec.
        codec: VideoCodec,
        /// Decoding can begin here.
        is_keyframe: bool,
        /// Milliseconds from decoding to showing.
        composition_ms: i32,
        /// The picture.
        data: Bytes,
    },
    /// Nothing to be shown: the end of a sequence, a seek, metadata.
    Nothing,
    /// A codec that is not known here.
    Unknown(String),
}

/// What a message of sound is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioTag {
    /// The decoder's configuration.
    Configuration(AudioCodec, Bytes),
    /// A packet.
    Frame(AudioCodec, Bytes),
    /// Nothing to be heard.
    Nothing,
    /// A codec that is not known here.
    Unknown(String),
}

/// Codecs of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// AV1.
    Av1,
    /// VP9.
    Vp9,
    /// VP8.
    Vp8,
}

/// Codecs of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioCodec {
    /// AAC.
    Aac,
    /// Opus.
    Opus,
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

/// The tag is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of pictures or sound is cut")]
pub struct CutTag;

const FRAME_KEY: u8 = 1;
const FRAME_COMMAND: u8 = 5;

const CODEC_AVC: u8 = 7;
/// Not in Adobe's text: what encoders agreed on before Enhanced RTMP.
const CODEC_HEVC: u8 = 12;

const PACKET_CONFIGURATION: u8 = 0;
const PACKET_FRAME: u8 = 1;

/// Enhanced RTMP: a picture that is shown when it is decoded.
const PACKET_FRAME_X: u8 = 3;
/// Enhanced RTMP: something to skip, before the real type.
const PACKET_MOD_EX: u8 = 7;

const SOUND_ALAW: u8 = 7;
const SOUND_MULAW: u8 = 8;
const SOUND_EXTENDED: u8 = 9;
const SOUND_AAC: u8 = 10;

/// Reads a message of pictures.
///
/// # Errors
/// [`CutTag`].
pub fn video(mut tag: Bytes) -> Result<VideoTag, CutTag> {
    let Some(&first) = tag.first() else {
        // Some encoders send empty ones.
        return Ok(VideoTag::Nothing);
    };
    if first & 0x80 != 0 {
        return extended_video(tag);
    }
    let (frame_type, codec_id) = (first >> 4, first & 0x0f);
    if frame_type == FRAME_COMMAND {
        return Ok(VideoTag::Nothing);
    }
    let codec = match codec_id {
        CODEC_AVC => VideoCodec::H264,
        CODEC_HEVC => VideoCodec::H265,
        2 => return Ok(VideoTag::Unknown("Sorenson H.263 (flv1)".to_owned())),
        4 | 5 => return Ok(VideoTag::Unknown("VP6".to_owned())),
        other => return Ok(VideoTag::Unknown(format!("the codec with FLV id {other}"))),
    };
    let head = take(&mut tag, 5)?;
    Ok(match head[1] {
        PACKET_CONFIGURATION => VideoTag::Configuration(codec, tag),
        PACKET_FRAME => VideoTag::Frame {
            codec,
            is_keyframe: frame_type == FRAME_KEY,
            composition_ms: i24(&head[2..]),
            data: tag,
        },
        _ => VideoTag::Nothing,
    })
}

fn extended_video(mut tag: Bytes) -> Result<VideoTag, CutTag> {
    let first = take(&mut tag, 1)?[0];
    let (frame_type, mut packet) = (first >> 4 & 7, first & 0x0f);
    while packet == PACKET_MOD_EX {
        packet = skip_mod_ex(&mut tag)?;
    }
    if frame_type == FRAME_COMMAND {
        return Ok(VideoTag::Nothing);
    }
    let four = take(&mut tag, 4)?;
    let codec = match &four[..] {
        b"avc1" => VideoCodec::H264,
        b"hvc1" => VideoCodec::H265,
        b"av01" => VideoCodec::Av1,
        b"vp09" => VideoCodec::Vp9,
        b"vp08" => VideoCodec::Vp8,
        other => return Ok(VideoTag::Unknown(other.escape_ascii().to_string())),
    };
    let is_keyframe = frame_type == FRAME_KEY;
    let has_composition = matches!(codec, VideoCodec::H264 | VideoCodec::H265);
    Ok(match packet {
        PACKET_CONFIGURATION => VideoTag::Configuration(codec, tag),
        PACKET_FRAME if has_composition => VideoTag::Frame {
            codec,
            is_keyframe,
            composition_ms: i24(&take(&mut tag, 3)?),
            data: tag,
        },
        PACKET_FRAME | PACKET_FRAME_X => VideoTag::Frame {
            codec,
            is_keyframe,
            composition_ms: 0,
            data: tag,
        },
        // The end of a sequence, metadata, several tracks in one message.
        _ => VideoTag::Nothing,
    })
}

/// Reads a message of sound.
///
/// # Errors
/// [`CutTag`].
pub fn audio(mut tag: Bytes) -> Result<AudioTag, CutTag> {
    if tag.is_empty() {
        return Ok(AudioTag::Nothing);
    }
    let first = take(&mut tag, 1)?[0];
    Ok(match first >> 4 {
        SOUND_AAC => match take(&mut tag, 1)?[0] {
            PACKET_CONFIGURATION => AudioTag::Configuration(AudioCodec::Aac, tag),
            _ => AudioTag::Frame(AudioCodec::Aac, tag),
        },
        SOUND_ALAW => AudioTag::Frame(AudioCodec::Pcma, tag),
        SOUND_MULAW => AudioTag::Frame(AudioCodec::Pcmu, tag),
        SOUND_EXTENDED => return extended_audio(first & 0x0f, tag),
        0 | 3 => AudioTag::Unknown("PCM".to_owned()),
        2 | 14 => AudioTag::Unknown("MP3".to_owned()),
        11 => AudioTag::Unknown("Speex".to_owned()),
        other => AudioTag::Unknown(format!("the codec with FLV id {other}")),
    })
}

fn extended_audio(mut packet: u8, mut tag: Bytes) -> Result<AudioTag, CutTag> {
    while packet == PACKET_MOD_EX {
        packet = skip_mod_ex(&mut tag)?;
    }
    let four = take(&mut tag, 4)?;
    let codec = match &four[..] {
        b"Opus" => AudioCodec::Opus,
        b"mp4a" => AudioCodec::Aac,
        other => return Ok(AudioTag::Unknown(other.escape_ascii().to_string())),
    };
    Ok(match packet {
        PACKET_CONFIGURATION => AudioTag::Configuration(codec, tag),
        PACKET_FRAME => AudioTag::Frame(codec, tag),
        _ => AudioTag::Nothing,
    })
}

/// Skips what modifies a tag (a time in nanoseconds, so far); the type that follows.
fn skip_mod_ex(tag: &mut Bytes) -> Result<u8, CutTag> {
    let mut len = usize::from(take(tag, 1)?[0]) + 1;
    if len == 256 {
        let two = take(tag, 2)?;
        len = usize::from(u16::from_be_bytes([two[0], two[1]])) + 1;
    }
    take(tag, len)?;
    Ok(take(tag, 1)?[0] & 0x0f)
}

fn take(from: &mut Bytes, len: usize) -> Result<Bytes, CutTag> {
    if from.len() < len {
        return Err(CutTag);
    }
    Ok(from.split_to(len))
}

fn i24(three: &[u8]) -> i32 {
    i32::from_be_bytes([three[0], three[1], three[2], 0]) >> 8
}

/// The tag of a decoder's configuration. H.264 is written as Adobe has it, which everybody reads.
#[must_use]
pub fn write_video_configuration(codec: VideoCodec, configuration: &[u8]) -> Bytes {
    let mut tag = BytesMut::with_capacity(configuration.len() + 8);
    match four_letters(codec) {
        None => tag.extend_from_slice(&[FRAME_KEY << 4 | CODEC_AVC, PACKET_CONFIGURATION, 0, 0, 0]),
        Some(four) => {
            tag.extend_from_slice(&[0x80 | FRAME_KEY << 4 | PACKET_CONFIGURATION]);
            tag.extend_from_slice(four);
        }
    }
    tag.extend_from_slice(configuration);
    tag.freeze()
}

/// The tag of a picture that is shown when it is decoded.
#[must_use]
pub fn write_video(codec: VideoCodec, is_keyframe: bool, data: &[u8]) -> Bytes {
    let frame_type = if is_keyframe { FRAME_KEY } else { 2 };
    let mut tag = BytesMut::with_capacity(data.len() + 8);
    match (four_letters(codec), codec) {
        (None, _) => tag.extend_from_slice(&[frame_type << 4 | CODEC_AVC, PACKET_FRAME, 0, 0, 0]),
        (Some(four), codec) => {
            let packet = match codec {
                VideoCodec::H265 => PACKET_FRAME_X,
                _ => PACKET_FRAME,
            };
            tag.extend_from_slice(&[0x80 | frame_type << 4 | packet]);
            tag.extend_from_slice(four);
        }
    }
    tag.extend_from_slice(data);
    tag.freeze()
}

/// The name that Enhanced RTMP has for a codec beyond Adobe's.
#[must_use]
pub fn four_letters_of(codec: VideoCodec) -> Option<&'static str> {
    four_letters(codec).and_then(|four| std::str::from_utf8(four).ok())
}

fn four_letters(codec: VideoCodec) -> Option<&'static [u8; 4]> {
    match codec {
        VideoCodec::H264 => None,
        VideoCodec::H265 => Some(b"hvc1"),
        VideoCodec::Av1 => Some(b"av01"),
        VideoCodec::Vp9 => Some(b"vp09"),
        VideoCodec::Vp8 => Some(b"vp08"),
    }
}

/// The first byte of a message of AAC: rate, size and channels are always said to be these (E.4.2.1).
const HEAD_AAC: u8 = SOUND_AAC << 4 | 0x0f;

/// The tag of the configuration of AAC (AudioSpecificConfig).
#[must_use]
pub fn write_aac_configuration(config: &[u8]) -> Bytes {
    [&[HEAD_AAC, PACKET_CONFIGURATION], config].concat().into()
}

/// The tag of a packet of AAC.
#[must_use]
pub fn write_aac(packet: &[u8]) -> Bytes {
    [&[HEAD_AAC, PACKET_FRAME], packet].concat().into()
}

/// The tag of Opus' configuration, in stereo (RFC 7845 5.1).
#[must_use]
pub fn write_opus_configuration() -> Bytes {
    let mut tag = BytesMut::from(&[SOUND_EXTENDED << 4 | PACKET_CONFIGURATION][..]);
    tag.extend_from_slice(b"OpusOpusHead");
    // Version, channels, pre-skip, rate, gain, mapping family.
    tag.extend_from_slice(&[1, 2, 0x38, 0x01, 0x80, 0xbb, 0, 0, 0, 0, 0]);
    tag.freeze()
}

/// The tag of a packet of Opus.
#[must_use]
pub fn write_opus(packet: &[u8]) -> Bytes {
    let mut tag = BytesMut::with_capacity(packet.len() + 5);
    tag.extend_from_slice(&[SOUND_EXTENDED << 4 | PACKET_FRAME]);
    tag.extend_from_slice(b"Opus");
    tag.extend_from_slice(packet);
    tag.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn adobes_tags_are_read() {
        let avc = Bytes::from_static(&[0x17, 1, 0xff, 0xff, 0xd8, 9, 8]);
        let read = video(avc).unwrap();
        let expected = VideoTag::Frame {
            codec: VideoCodec::H264,
            is_keyframe: true,
            composition_ms: -40,
            data: Bytes::from_static(&[9, 8]),
        };
        assert_eq!(read, expected);
        let aac = audio(Bytes::from_static(&[0xaf, 0, 0x12, 0x10])).unwrap();
        let expected = AudioTag::Configuration(AudioCodec::Aac, Bytes::from_static(&[0x12, 0x10]));
        assert_eq!(aac, expected);
        let old = video(Bytes::from_static(&[0x22, 1, 2])).unwrap();
        assert!(matches!(old, VideoTag::Unknown(name) if name.contains("flv1")));
    }

    #[test]
    fn enhanced_tags_are_read() {
        // A modifier of three bytes, then a picture of HEVC 40 ms later.
        let hevc: &[u8] = b"\x97\x02\x01\x02\x03\x01hvc1\x00\x00\x28data";
        let expected = VideoTag::Frame {
            codec: VideoCodec::H265,
            is_keyframe: true,
            composition_ms: 40,
            data: Bytes::from_static(b"data"),
        };
        assert_eq!(video(Bytes::from_static(hevc)).unwrap(), expected);
        let opus = audio(Bytes::from_static(b"\x91Opusdata")).unwrap();
        let expected = AudioTag::Frame(AudioCodec::Opus, Bytes::from_static(b"data"));
        assert_eq!(opus, expected);
        let other = audio(Bytes::from_static(b"\x91fLaCdata")).unwrap();
        assert_eq!(other, AudioTag::Unknown("fLaC".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(data in proptest::collection::vec(any::<u8>(), 1..64), key: bool) {
            for codec in [
                VideoCodec::H264,
                VideoCodec::H265,
                VideoCodec::Av1,
                VideoCodec::Vp9,
                VideoCodec::Vp8,
            ] {
                let expected = VideoTag::Frame {
                    codec,
                    is_keyframe: key,
                    composition_ms: 0,
                    data: data.clone().into(),
                };
                prop_assert_eq!(video(write_video(codec, key, &data)).unwrap(), expected);
                let expected = VideoTag::Configuration(codec, data.clone().into());
                prop_assert_eq!(video(write_video_configuration(codec, &data)).unwrap(), expected);
            }
            let expected = AudioTag::Frame(AudioCodec::Opus, data.clone().into());
            prop_assert_eq!(audio(write_opus(&data)).unwrap(), expected);
            let expected = AudioTag::Frame(AudioCodec::Aac, data.clone().into());
            prop_assert_eq!(audio(write_aac(&data)).unwrap(), expected);
            let expected = AudioTag::Configuration(AudioCodec::Aac, data.clone().into());
            prop_assert_eq!(audio(write_aac_configuration(&data)).unwrap(), expected);
        }

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = (video(bytes.clone()), audio(bytes));
        }
    }
}
