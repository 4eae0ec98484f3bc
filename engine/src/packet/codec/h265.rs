//! H.265 payloads (RFC 7798, without DONL fields, as WebRTC has them) and sequence parameter sets
//! (H.265 7.3.2.2).

use super::Resolution;
use super::bits::BitReader;
use super::h264::Aggregated;

const NAL_IRAP_FIRST: u8 = 16;
const NAL_IRAP_LAST: u8 = 21;
const NAL_VPS: u8 = 32;
const NAL_SPS: u8 = 33;
const NAL_AP: u8 = 48;
const NAL_FU: u8 = 49;

fn nal_type(header: u8) -> u8 {
    header >> 1 & 0x3f
}

/// Whether a NAL unit of this type, with these bytes after its two-byte header, begins a
/// keyframe: a parameter set, or the first slice of a random access picture.
fn begins_keyframe(nal_type: u8, body: &[u8]) -> bool {
    match nal_type {
        NAL_VPS | NAL_SPS => true,
        // 7.3.6.1: a slice header begins with first_slice_segment_in_pic_flag.
        NAL_IRAP_FIRST..=NAL_IRAP_LAST => body.first().is_some_and(|first| first & 0x80 != 0),
        _ => false,
    }
}

pub(super) fn is_keyframe_start(payload: &[u8]) -> bool {
    let Some((&[header, _], body)) = payload.split_first_chunk() else {
        return false;
    };
    match nal_type(header) {
        NAL_AP => Aggregated(body).any(|nal| {
            nal.split_first_chunk::<2>()
                .is_some_and(|(header, body)| begins_keyframe(nal_type(header[0]), body))
        }),
        // RFC 7798 4.4.3: start bit, end bit and the type of the fragmented unit.
        NAL_FU => body.split_first().is_some_and(|(&fu_header, fragment)| {
            fu_header & 0x80 != 0 && begins_keyframe(fu_header & 0x3f, fragment)
        }),
        single => begins_keyframe(single, body),
    }
}

pub(super) fn resolution(payload: &[u8]) -> Option<Resolution> {
    let (&[header, _], body) = payload.split_first_chunk()?;
    match nal_type(header) {
        NAL_SPS => sps_resolution(body),
        NAL_AP => Aggregated(body)
            .find(|nal| nal_type(nal[0]) == NAL_SPS)
            .and_then(|nal| sps_resolution(nal.get(2..)?)),
        _ => None,
    }
}

/// The cropped size a sequence parameter set gives, read from after its NAL header.
fn sps_resolution(sps: &[u8]) -> Option<Resolution> {
    let mut bits = BitReader::nal(sps);
    // sps_video_parameter_set_id.
    bits.skip(4)?;
    let sub_layers_minus1 = bits.bits(3)?;
    bits.skip(1)?;
    skip_profile_tier_level(&mut bits, sub_layers_minus1)?;
    // sps_seq_parameter_set_id.
    bits.ue()?;
    let chroma_format_idc = bits.ue()?;
    let separate_colour_planes = chroma_format_idc == 3 && bits.flag()?;
    let width = u64::from(bits.ue()?);
    let height = u64::from(bits.ue()?);
    let (mut crop_width, mut crop_height) = (0, 0);
    if bits.flag()? {
        // 7.4.3.2.1: the conformance window counts chroma samples.
        let (sub_width, sub_height) = match chroma_format_idc {
            1 => (2, 2),
            2 if !separate_colour_planes => (2, 1),
            _ => (1, 1),
        };
        crop_width = sub_width * (u64::from(bits.ue()?) + u64::from(bits.ue()?));
        crop_height = sub_height * (u64::from(bits.ue()?) + u64::from(bits.ue()?));
    }
    let width = u32::try_from(width.checked_sub(crop_width)?).ok()?;
    let height = u32::try_from(height.checked_sub(crop_height)?).ok()?;
    Resolution::new(width, height)
}

/// Passes over profile_tier_level (7.3.3).
fn skip_profile_tier_level(bits: &mut BitReader<'_>, sub_layers_minus1: u32) -> Option<()> {
    const PROFILE_BITS: u32 = 88;
    const LEVEL_BITS: u32 = 8;
    bits.skip(PROFILE_BITS + LEVEL_BITS)?;
    if sub_layers_minus1 == 0 {
        return Some(());
    }
    let mut sub_layer_bits = 0;
    for _ in 0..sub_layers_minus1 {
        let profile_present = bits.flag()?;
        let level_present = bits.flag()?;
        sub_layer_bits += u32::from(profile_present) * PROFILE_BITS;
        sub_layer_bits += u32::from(level_present) * LEVEL_BITS;
    }
    // Eight places of two flags each, the unused ones reserved.
    bits.skip(2 * (8 - sub_layers_minus1))?;
    bits.skip(sub_layer_bits)
}
