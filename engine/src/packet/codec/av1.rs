//! AV1 payloads (RTP Payload Format For AV1, 4) and sequence headers (AV1 bitstream 5.5).

use super::Resolution;
use super::bits::BitReader;

const OBU_SEQUENCE_HEADER: u8 = 1;

/// A number in leb128 (AV1 4.10.5) and what follows it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}

/// Iterator over the OBU elements of a payload (4.3). Ends at one that is cut.
struct Elements<'a> {
    rest: &'a [u8],
    /// How many elements the aggregation header announces; `None`: each has a length.
    left: Option<u8>,
}

impl<'a> Elements<'a> {
    fn new(payload: &'a [u8]) -> Option<Self> {
        let (&header, rest) = payload.split_first()?;
        // 4.4: W, how many OBU elements there are if not zero.
        let count = header >> 4 & 0x03;
        Some(Self {
            rest,
            left: (count > 0).then_some(count),
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
            if *left == 0 {
                return Some(std::mem::take(&mut self.rest));
            }
        }
        let (len, after) = leb128(self.rest)?;
        let (element, rest) = after.split_at_checked(len)?;
        self.rest = rest;
        Some(element)
    }
}

pub(super) fn is_keyframe_start(payload: &[u8]) -> bool {
    // 4.4: N, the first packet of a coded video sequence; Z, which must then be 0.
    matches!(*payload, [header, _, ..] if header & 0x88 == 0x08)
}

pub(super) fn resolution(payload: &[u8]) -> Option<Resolution> {
    if !is_keyframe_start(payload) {
        return None;
    }
    Elements::new(payload)?.find_map(|obu| sequence_header(obu).and_then(max_frame_size))
}

/// The payload of an OBU, if it is a sequence header (AV1 5.3.2).
fn sequence_header(obu: &[u8]) -> Option<&[u8]> {
    let (&header, mut rest) = obu.split_first()?;
    if header >> 3 & 0x0f != OBU_SEQUENCE_HEADER {
        return None;
    }
    if header & 0x04 != 0 {
        rest = rest.get(1..)?;
    }
    if header & 0x02 != 0 {
        let (len, after) = leb128(rest)?;
        rest = after.get(..len)?;
    }
    Some(rest)
}

/// The largest frame size of a coded video sequence (AV1 5.5.1).
fn max_frame_size(sequence_header: &[u8]) -> Option<Resolution> {
    let mut bits = BitReader::new(sequence_header);
    // seq_profile, still_picture.
    bits.skip(4)?;
    if bits.flag()? {
        // reduced_still_picture_header: only seq_level_idx.
        bits.skip(5)?;
    } else {
        skip_operating_points(&mut bits)?;
    }
    let width_bits = bits.bits(4)? + 1;
    let height_bits = bits.bits(4)? + 1;
    let width = bits.bits(width_bits)? + 1;
    let height = bits.bits(height_bits)? + 1;
    Resolution::new(width, height)
}

/// Passes over timing information and operating points.
fn skip_operating_points(bits: &mut BitReader<'_>) -> Option<()> {
    let mut buffer_delay_bits = None;
    if bits.flag()? {
        // num_units_in_display_tick, time_scale.
        bits.skip(64)?;
        if bits.flag()? {
            skip_uvlc(bits)?;
        }
        if bits.flag()? {
            // decoder_model_info.
            buffer_delay_bits = Some(bits.bits(5)? + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let initial_display_delay_present = bits.flag()?;
    let operating_points = bits.bits(5)? + 1;
    for _ in 0..operating_points {
        // operating_point_idc.
        bits.skip(12)?;
        let seq_level_idx = bits.bits(5)?;
        if seq_level_idx > 7 {
            // seq_tier.
            bits.skip(1)?;
        }
        if let Some(delay_bits) = buffer_delay_bits
            && bits.flag()?
        {
            // decoder_buffer_delay, encoder_buffer_delay, low_delay_mode_flag.
            bits.skip(2 * delay_bits + 1)?;
        }
        if initial_display_delay_present && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

/// Passes over a variable length unsigned number (AV1 4.10.3).
fn skip_uvlc(bits: &mut BitReader<'_>) -> Option<()> {
    let mut zeros = 0;
    while !bits.flag()? {
        zeros += 1;
    }
    if zeros < 32 {
        bits.skip(zeros)
    } else {
        Some(())
    }
}
