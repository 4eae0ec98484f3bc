//! Decoder configuration records, as MP4 files and RTMP have them, into formats. Every length is
//! checked; `None` is a damaged record.

use super::packetize::Format;

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

/// Takes `count` units with 16-bit lengths off the front.
fn sized(count: usize, rest: &mut &[u8], sets: &mut Vec<Vec<u8>>) -> Option<()> {
    for _ in 0..count {
        let len = usize::from(read_u16(rest, 0)?);
        let set = rest.get(2..2 + len)?;
        if !set.is_empty() {
            sets.push(set.to_vec());
        }
        *rest = &rest[2 + len..];
    }
    Some(())
}

/// AVCDecoderConfigurationRecord (ISO/IEC 14496-15 5.3.3.1): the format, and what
/// `profile-level-id` says.
#[must_use]
pub fn h264(avcc: &[u8]) -> Option<(Format, [u8; 3])> {
    let [
        1,
        profile,
        compatibility,
        level,
        lengths,
        sps_count,
        rest @ ..,
    ] = avcc
    else {
        return None;
    };
    let mut rest = rest;
    let mut parameter_sets = Vec::new();
    sized(
        usize::from(sps_count & 0x1f),
        &mut rest,
        &mut parameter_sets,
    )?;
    let (&pps_count, mut rest) = rest.split_first()?;
    sized(usize::from(pps_count), &mut rest, &mut parameter_sets)?;
    let format = Format::H264 {
        length_bytes: (lengths & 3) + 1,
        parameter_sets,
    };
    Some((format, [*profile, *compatibility, *level]))
}

/// HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 8.3.3.1): the format, its profile, its tier, its
/// level.
#[must_use]
pub fn h265(hvcc: &[u8]) -> Option<(Format, [u8; 3])> {
    let lengths = *hvcc.get(21)?;
    let arrays = *hvcc.get(22)?;
    let mut rest = hvcc.get(23..)?;
    let mut parameter_sets = Vec::new();
    for _ in 0..arrays {
        let kind = *rest.first()? & 0x3f;
        let count = usize::from(read_u16(rest, 1)?);
        rest = rest.get(3..)?;
        let mut sets = Vec::new();
        sized(count, &mut rest, &mut sets)?;
        // Parameter sets (32 to 34); what else is there decoders can do without.
        if (32..=34).contains(&kind) {
            parameter_sets.append(&mut sets);
        }
    }
    let format = Format::H265 {
        length_bytes: (lengths & 3) + 1,
        parameter_sets,
    };
    Some((format, [hvcc[1] & 0x1f, hvcc[1] >> 5 & 1, hvcc[12]]))
}

/// AV1CodecConfigurationRecord (AV1-ISOBMFF 2.3): the format and its profile.
#[must_use]
pub fn av1(av1c: &[u8]) -> Option<(Format, u8)> {
    let (second, obus) = match av1c {
        [_, second, _, _, obus @ ..] => (*second, obus),
        // ffmpeg 5 writes so when it writes the header before the first picture; the sequence
        // header comes with that.
        [] => (0, &[][..]),
        _ => return None,
    };
    let configuration = obus.to_vec();
    Some((Format::Av1 { configuration }, second >> 5))
}

/// VPCodecConfigurationRecord (VP Codec ISO Media File Format Binding), with or without the four
/// bytes that a box has before it: the profile.
#[must_use]
pub fn vp9(vpcc: &[u8]) -> u8 {
    match vpcc {
        [1, 0, 0, 0, profile, ..] if vpcc.len() >= 12 => *profile,
        [profile, ..] => *profile,
        [] => 0,
    }
}
