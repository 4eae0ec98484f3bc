//! H.264 payloads (RFC 6184, packetization modes 0 and 1) and sequence parameter sets (H.264
//! 7.3.2.1.1).

use super::super::read_u16;
use super::Resolution;
use super::bits::BitReader;

const NAL_IDR_SLICE: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;

/// Iterator over the NAL units in the body of an aggregation packet, each after its 16-bit size.
/// Ends at one that is empty or cut.
pub(super) struct Aggregated<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Aggregated<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let size = usize::from(read_u16(self.0, 0)?);
        let (nal, rest) = self.0.get(2..)?.split_at_checked(size)?;
        self.0 = rest;
        (!nal.is_empty()).then_some(nal)
    }
}

fn nal_type(header: u8) -> u8 {
    header & 0x1f
}

/// Whether a NAL unit of this type, with these bytes after its header, begins a keyframe: a
/// parameter set, or the first slice of an IDR picture.
fn begins_keyframe(nal_type: u8, body: &[u8]) -> bool {
    match nal_type {
        NAL_SPS => true,
        // 7.3.3: a slice header begins with first_mb_in_slice, whose code is one set bit if 0.
        NAL_IDR_SLICE => body.first().is_some_and(|first| first & 0x80 != 0),
        _ => false,
    }
}

pub(super) fn is_keyframe_start(payload: &[u8]) -> bool {
    let Some((&header, body)) = payload.split_first() else {
        return false;
    };
    match nal_type(header) {
        NAL_STAP_A => Aggregated(body).any(|nal| begins_keyframe(nal_type(nal[0]), &nal[1..])),
        // RFC 6184 5.8: start bit, end bit, reserved bit and the type of the fragmented unit.
        NAL_FU_A => body.split_first().is_some_and(|(&fu_header, fragment)| {
            fu_header & 0x80 != 0 && begins_keyframe(nal_type(fu_header), fragment)
        }),
        single => begins_keyframe(single, body),
    }
}

pub(super) fn resolution(payload: &[u8]) -> Option<Resolution> {
    let (&header, body) = payload.split_first()?;
    match nal_type(header) {
        NAL_SPS => sps_resolution(body),
        NAL_STAP_A => Aggregated(body)
            .find(|nal| nal_type(nal[0]) == NAL_SPS)
            .and_then(|nal| sps_resolution(&nal[1..])),
        _ => None,
    }
}

/// The cropped size a sequence parameter set gives, read from after its NAL header.
fn sps_resolution(sps: &[u8]) -> Option<Resolution> {
    let mut bits = BitReader::nal(sps);
    let profile_idc = bits.bits(8)?;
    // Constraint flags and level_idc.
    bits.skip(16)?;
    bits.ue()?;
    let chroma_array_type = match profile_idc {
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135 => {
            high_profile_fields(&mut bits)?
        }
        _ => 1,
    };
    // log2_max_frame_num_minus4, then the picture order count.
    bits.ue()?;
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            // 7.4.2.1.1: at most 255 reference frames in the cycle.
            for _ in 0..bits.ue().filter(|&count| count <= 255)? {
                bits.se()?;
            }
        }
        _ => {}
    }
    // max_num_ref_frames, gaps_in_frame_num_value_allowed_flag.
    bits.ue()?;
    bits.skip(1)?;
    let width_mbs = u64::from(bits.ue()?) + 1;
    let height_map_units = u64::from(bits.ue()?) + 1;
    let frame_mbs_only = bits.flag()?;
    if !frame_mbs_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let field_factor = if frame_mbs_only { 1 } else { 2 };
    // 6.2, 7.4.2.1.1: cropping counts chroma samples, and in field pairs.
    let (sub_width, sub_height) = match chroma_array_type {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let (mut crop_width, mut crop_height) = (0, 0);
    if bits.flag()? {
        crop_width = sub_width * (u64::from(bits.ue()?) + u64::from(bits.ue()?));
        crop_height = sub_height * field_factor * (u64::from(bits.ue()?) + u64::from(bits.ue()?));
    }
    let width = (width_mbs * 16).checked_sub(crop_width)?;
    let height = (height_map_units * 16 * field_factor).checked_sub(crop_height)?;
    Resolution::new(u32::try_from(width).ok()?, u32::try_from(height).ok()?)
}

/// Reads what only the high profiles have, and returns ChromaArrayType.
fn high_profile_fields(bits: &mut BitReader<'_>) -> Option<u32> {
    let chroma_format_idc = bits.ue()?;
    let separate_colour_planes = chroma_format_idc == 3 && bits.flag()?;
    // Bit depths, qpprime_y_zero_transform_bypass_flag.
    bits.ue()?;
    bits.ue()?;
    bits.skip(1)?;
    if bits.flag()? {
        let lists = if chroma_format_idc == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(if separate_colour_planes {
        0
    } else {
        chroma_format_idc
    })
}

/// Passes over a scaling list (7.3.2.1.1.1).
fn skip_scaling_list(bits: &mut BitReader<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}
