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

/// AVCDecoderConfigurationRecord of the parameter sets among NAL units, with lengths of four bytes.
/// `None`: they are not all there.
#[must_use]
pub fn write_h264<'a>(nals: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let (mut sequence, mut picture) = (None, None);
    for nal in nals {
        match nal.first()? & 0x1f {
            7 => sequence = sequence.or(Some(nal)),
            8 => picture = picture.or(Some(nal)),
            _ => {}
        }
    }
    let (sequence, picture) = (sequence?, picture?);
    let profile = sequence.get(1..4)?;
    let mut record = vec![1];
    record.extend_from_slice(profile);
    record.extend_from_slice(&[0xff, 0xe1]);
    write_sized(sequence, &mut record)?;
    record.push(1);
    write_sized(picture, &mut record)?;
    Some(record)
}

/// HEVCDecoderConfigurationRecord likewise. Pictures are taken to be 4:2:0, of ten bits in the
/// profile that has them; decoders look at the parameter sets.
#[must_use]
pub fn write_h265<'a>(nals: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut sets: [Option<&[u8]>; 3] = [None; 3];
    for nal in nals {
        let kind = usize::from(nal.first()? >> 1 & 0x3f);
        if let Some(set) = kind.checked_sub(32).and_then(|kind| sets.get_mut(kind)) {
            *set = set.or(Some(nal));
        }
    }
    let sequence = sets[1]?;
    // H.265 7.3.2.2: after the header a byte, then profile, tier and level of twelve, in which every
    // third byte after two zeros is none (7.3.1.1).
    let mut zeros = 0;
    let plain: Vec<u8> = sequence
        .iter()
        .copied()
        .filter(|&byte| {
            let is_none = zeros >= 2 && byte == 3;
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            !is_none
        })
        .collect();
    let general = plain.get(3..15)?;
    let depth = if general[0] & 0x1f == 2 { 2 } else { 0 };
    let mut record = vec![1];
    record.extend_from_slice(general);
    record.extend_from_slice(&[
        0xf0,
        0,
        0xfc,
        0xfd,
        0xf8 | depth,
        0xf8 | depth,
        0,
        0,
        0x0f,
        3,
    ]);
    for (kind, set) in (32..).zip(sets) {
        record.extend_from_slice(&[0x80 | kind, 0, 1]);
        write_sized(set?, &mut record)?;
    }
    Some(record)
}

/// AV1CodecConfigurationRecord of a sequence header OBU with its size. Pictures are taken to be 4:2:0
/// of eight bits; decoders look at the header.
#[must_use]
pub fn write_av1(sequence_header: &[u8]) -> Vec<u8> {
    // AV1 5.5.1: the first three bits after header and size. Level 31 is any.
    let profile = sequence_header.get(2).map_or(0, |byte| byte >> 5);
    [&[0x81, profile << 5 | 31, 0x0c, 0][..], sequence_header].concat()
}

/// VPCodecConfigurationRecord of a keyframe of VP9, at any level, of eight bits in 4:2:0. `None`: of
/// another profile, which browsers do not make.
#[must_use]
pub fn write_vp9(keyframe: &[u8]) -> Option<Vec<u8>> {
    // VP9 6.2: the marker's two bits, then the profile's low and high bit.
    let first = keyframe.first()?;
    let profile = (first >> 5 & 1) | (first >> 3 & 2);
    (profile == 0).then(|| vec![0, 10, 0x82, 2, 2, 2, 0, 0])
}

fn write_sized(set: &[u8], to: &mut Vec<u8>) -> Option<()> {
    to.extend_from_slice(&u16::try_from(set.len()).ok()?.to_be_bytes());
    to.extend_from_slice(set);
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let sets: [&[u8]; 2] = [&[0x67, 0x42, 0xc0, 0x1f, 9], &[0x68, 7]];
        let record = write_h264(sets.into_iter()).unwrap();
        let (format, profile) = h264(&record).unwrap();
        assert_eq!(profile, [0x42, 0xc0, 0x1f]);
        let expected = Format::H264 {
            length_bytes: 4,
            parameter_sets: sets.map(<[u8]>::to_vec).to_vec(),
        };
        assert_eq!(format, expected);

        // Main at level 3.1; the constraint flags hold an emulation prevention byte.
        let sequence = [
            0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x5d, 0xa0,
        ];
        let sets: [&[u8]; 3] = [&[0x40, 1, 5], &sequence, &[0x44, 1, 6]];
        let record = write_h265(sets.into_iter()).unwrap();
        let (format, profile) = h265(&record).unwrap();
        assert_eq!(profile, [1, 0, 0x5d]);
        let expected = Format::H265 {
            length_bytes: 4,
            parameter_sets: sets.map(<[u8]>::to_vec).to_vec(),
        };
        assert_eq!(format, expected);

        let header = [0x0a, 3, 0x20, 0, 0];
        let (format, profile) = av1(&write_av1(&header)).unwrap();
        let configuration = header.to_vec();
        assert_eq!((format, profile), (Format::Av1 { configuration }, 1));
    }
}
