//! Sample descriptions (`stsd`): what the samples of a track are, and the configuration of their
//! decoder.

use super::boxes::{InMemory, read_u16, read_u32};
use crate::media::configuration::{av1, h264, h265};
use crate::media::packetize::Format;

/// What a track's samples are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coding {
    /// Goes into packets as it is.
    Direct {
        /// Its format.
        format: Format,
        /// H.264: profile, compatibility and level, as `profile-level-id` has them. H.265: profile,
        /// tier and level. VP9 and AV1: the profile, twice nothing.
        profile: [u8; 3],
    },
    /// AAC, to be decoded and encoded anew.
    Aac {
        /// AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1).
        config: Vec<u8>,
    },
}

impl Coding {
    /// The name for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Direct { format, .. } => format.codec().name(),
            Self::Aac { .. } => "AAC",
        }
    }
}

/// Pictures or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handler {
    Video,
    Audio,
}

/// Reads the content of an `stsd` box. The error is a phrase that says what is in the way.
pub(super) fn read(stsd: &[u8], handler: Handler) -> Result<Coding, String> {
    let cut = || "its description is cut".to_owned();
    let entries = stsd.get(8..).ok_or_else(cut)?;
    let (name, entry) = InMemory(entries).next().ok_or_else(cut)?;
    match handler {
        Handler::Video => video(name, entry),
        Handler::Audio => audio(name, entry),
    }
}

/// Bytes of a visual sample entry before its boxes (ISO/IEC 14496-12 12.1.3).
const VISUAL_BYTES: usize = 78;

fn video(name: [u8; 4], entry: &[u8]) -> Result<Coding, String> {
    let inside = entry.get(VISUAL_BYTES..).unwrap_or_default();
    let find = |wanted: &[u8; 4]| {
        InMemory(inside)
            .find(|(name, _)| name == wanted)
            .map(|(_, content)| content)
            .ok_or_else(|| format!("its {} box is missing", wanted.escape_ascii()))
    };
    let damaged = |what: &str| format!("its {what} box is damaged");
    match &name {
        b"avc1" | b"avc3" => {
            let (format, profile) = h264(find(b"avcC")?).ok_or_else(|| damaged("avcC"))?;
            Ok(direct(format, profile))
        }
        b"hvc1" | b"hev1" => {
            let (format, profile) = h265(find(b"hvcC")?).ok_or_else(|| damaged("hvcC"))?;
            Ok(direct(format, profile))
        }
        b"vp08" => Ok(direct(Format::Vp8, [0; 3])),
        b"vp09" => {
            let profile = find(b"vpcC").ok().and_then(|vpcc| vpcc.get(4).copied());
            Ok(direct(Format::Vp9, [profile.unwrap_or(0), 0, 0]))
        }
        b"av01" => {
            let av1c = find(b"av1C")?;
            let (format, profile) = av1(av1c).ok_or_else(|| damaged("av1C"))?;
            Ok(direct(format, [profile, 0, 0]))
        }
        b"encv" => Err("it is encrypted".to_owned()),
        other => Err(format!(
            "its codec {} is not one of H.264, H.265, VP8, VP9, AV1",
            other.escape_ascii()
        )),
    }
}

fn direct(format: Format, profile: [u8; 3]) -> Coding {
    Coding::Direct { format, profile }
}

fn audio(name: [u8; 4], entry: &[u8]) -> Result<Coding, String> {
    let cut = || "its description is cut".to_owned();
    // QuickTime's sound descriptions of version 1 and 2 have more fields.
    let fields = match read_u16(entry, 8).ok_or_else(cut)? {
        1 => 28 + 16,
        2 => 28 + 36,
        _ => 28,
    };
    let inside = entry.get(fields..).ok_or_else(cut)?;
    match &name {
        b"Opus" => opus(inside),
        b"mp4a" => aac(inside),
        b"enca" => Err("it is encrypted".to_owned()),
        other => Err(format!(
            "its codec {} is neither Opus nor AAC",
            other.escape_ascii()
        )),
    }
}

fn opus(inside: &[u8]) -> Result<Coding, String> {
    let dops = InMemory(inside).find(|(name, _)| name == b"dOps");
    let (_, dops) = dops.ok_or("its dOps box is missing")?;
    match (dops.get(1), dops.get(10)) {
        // RFC 7587 carries mono and stereo, which is mapping family 0.
        (Some(1 | 2), Some(0)) => Ok(direct(Format::Opus, [0; 3])),
        (Some(channels), Some(_)) => Err(format!(
            "its Opus has {channels} channels, WebRTC's has two at most (ffmpeg: -ac 2)"
        )),
        _ => Err("its dOps box is damaged".to_owned()),
    }
}

fn aac(inside: &[u8]) -> Result<Coding, String> {
    let esds = InMemory(inside).find_map(|(name, content)| match &name {
        b"esds" => Some(content),
        b"wave" => InMemory(content)
            .find(|(name, _)| name == b"esds")
            .map(|(_, content)| content),
        _ => None,
    });
    let esds = esds.ok_or("its esds box is missing")?;
    let (object_type, config) = decoder_config(esds).ok_or("its esds box is damaged")?;
    // ISO/IEC 14496-1 table 5; 0x66 to 0x68 are the profiles of MPEG-2 AAC.
    match object_type {
        0x40 | 0x66..=0x68 => Ok(Coding::Aac {
            config: config.to_vec(),
        }),
        0x69 | 0x6b => Err("it is MP3, neither Opus nor AAC".to_owned()),
        other => Err(format!("its codec (object type {other:#x}) is not AAC")),
    }
}

/// Object type and decoder specific information out of an ES descriptor (ISO/IEC 14496-1 7.2.6.5).
fn decoder_config(esds: &[u8]) -> Option<(u8, &[u8])> {
    let (3, es) = descriptor(esds.get(4..)?)?.0 else {
        return None;
    };
    let flags = *es.get(2)?;
    let mut at = 3;
    if flags & 0x80 != 0 {
        at += 2;
    }
    if flags & 0x40 != 0 {
        at += 1 + usize::from(*es.get(at)?);
    }
    if flags & 0x20 != 0 {
        at += 2;
    }
    let (4, config) = descriptor(es.get(at..)?)?.0 else {
        return None;
    };
    let object_type = *config.first()?;
    let mut rest = config.get(13..)?;
    while let Some(((tag, content), after)) = descriptor(rest) {
        if tag == 5 {
            return Some((object_type, content));
        }
        rest = after;
    }
    Some((object_type, &[]))
}

/// The tag and content of a descriptor, and what follows it.
#[expect(clippy::type_complexity, reason = "two slices and a tag")]
fn descriptor(bytes: &[u8]) -> Option<((u8, &[u8]), &[u8])> {
    let (&tag, mut rest) = bytes.split_first()?;
    let mut len = 0_usize;
    // 8.3.3: at most four bytes of seven bits.
    for _ in 0..4 {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    // Some writers count trailing bytes that are not there.
    let len = len.min(rest.len());
    let (content, after) = rest.split_at(len);
    Some(((tag, content), after))
}

/// Width and height of a visual sample entry in an `stsd` box.
pub(super) fn picture_size(stsd: &[u8]) -> Option<(u16, u16)> {
    let (_, entry) = InMemory(stsd.get(8..)?).next()?;
    Some((read_u16(entry, 24)?, read_u16(entry, 26)?))
}

/// How many descriptions an `stsd` box has.
pub(super) fn count(stsd: &[u8]) -> u32 {
    read_u32(stsd, 4).unwrap_or(0)
}
