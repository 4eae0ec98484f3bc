//! VP9 payloads (RFC 9628) and uncompressed frame headers (VP9 bitstream specification 6.2).

use super::super::read_u16;
use super::Resolution;
use super::bits::BitReader;

/// A VP9 payload descriptor (RFC 9628 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp9Descriptor {
    /// Picture id, of 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// The frame is predicted from earlier pictures.
    pub inter_picture_predicted: bool,
    /// Flexible mode: references are listed per packet.
    pub flexible_mode: bool,
    /// The packet begins a frame of one spatial layer.
    pub start_of_frame: bool,
    /// The packet ends a frame of one spatial layer.
    pub end_of_frame: bool,
    /// Nothing in higher spatial layers refers to this frame.
    pub not_a_reference_for_upper_layers: bool,
    /// Temporal layer.
    pub temporal_id: Option<u8>,
    /// A receiver may switch up to this temporal layer here.
    pub switching_up_point: bool,
    /// Spatial layer.
    pub spatial_id: Option<u8>,
    /// The frame is predicted from the spatial layer below.
    pub inter_layer_predicted: bool,
    /// Running number of temporal layer zero, in non-flexible mode.
    pub tl0_pic_idx: Option<u8>,
    /// How many spatial layers the scalability structure lists, if there is one.
    pub spatial_layers: Option<u8>,
    /// Size of the highest layer in the scalability structure, if it says.
    pub resolution: Option<Resolution>,
    /// The sizes of all layers in it, from the lowest on.
    pub resolutions: [Option<Resolution>; 8],
    /// Length of the descriptor in bytes.
    pub len: usize,
}

impl Vp9Descriptor {
    /// Reads the descriptor a payload begins with; `None` if it is cut.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut bytes = payload.iter().copied();
        let first = bytes.next()?;
        let bit = |mask| first & mask != 0;
        let mut descriptor = Self {
            picture_id: None,
            inter_picture_predicted: bit(0x40),
            flexible_mode: bit(0x10),
            start_of_frame: bit(0x08),
            end_of_frame: bit(0x04),
            not_a_reference_for_upper_layers: bit(0x01),
            temporal_id: None,
            switching_up_point: false,
            spatial_id: None,
            inter_layer_predicted: false,
            tl0_pic_idx: None,
            spatial_layers: None,
            resolution: None,
            resolutions: [None; 8],
            len: 0,
        };
        if bit(0x80) {
            let high = bytes.next()?;
            let high_bits = u16::from(high & 0x7f);
            descriptor.picture_id = Some(if high & 0x80 != 0 {
                high_bits << 8 | u16::from(bytes.next()?)
            } else {
                high_bits
            });
        }
        if bit(0x20) {
            let layer = bytes.next()?;
            descriptor.temporal_id = Some(layer >> 5);
            descriptor.switching_up_point = layer & 0x10 != 0;
            descriptor.spatial_id = Some(layer >> 1 & 0x07);
            descriptor.inter_layer_predicted = layer & 0x01 != 0;
            if !descriptor.flexible_mode {
                descriptor.tl0_pic_idx = Some(bytes.next()?);
            }
        }
        if descriptor.flexible_mode && descriptor.inter_picture_predicted {
            // Up to three reference differences; the last bit says that another follows.
            for _ in 0..3 {
                if bytes.next()? & 1 == 0 {
                    break;
                }
            }
        }
        let mut at = payload.len() - bytes.len();
        if bit(0x02) {
            at = descriptor.scalability_structure(payload, at)?;
        }
        descriptor.len = at;
        Some(descriptor)
    }

    /// Reads the scalability structure at `at` and returns where it ends.
    fn scalability_structure(&mut self, payload: &[u8], mut at: usize) -> Option<usize> {
        let head = *payload.get(at)?;
        at += 1;
        let layers = (head >> 5) + 1;
        self.spatial_layers = Some(layers);
        if head & 0x10 != 0 {
            for layer in 0..layers {
                let width = u32::from(read_u16(payload, at)?);
                let height = u32::from(read_u16(payload, at + 2)?);
                self.resolution = Resolution::new(width, height);
                self.resolutions[usize::from(layer)] = self.resolution;
                at += 4;
            }
        }
        if head & 0x08 != 0 {
            let pictures = *payload.get(at)?;
            at += 1;
            for _ in 0..pictures {
                let references = *payload.get(at)? >> 2 & 0x03;
                at += 1 + usize::from(references);
            }
        }
        (at <= payload.len()).then_some(at)
    }

    fn starts_keyframe(&self) -> bool {
        self.start_of_frame
            && !self.inter_picture_predicted
            && self.spatial_id.is_none_or(|spatial_id| spatial_id == 0)
    }
}

pub(super) fn is_keyframe_start(payload: &[u8]) -> bool {
    Vp9Descriptor::parse(payload)
        .is_some_and(|descriptor| descriptor.starts_keyframe() && descriptor.len < payload.len())
}

pub(super) fn resolution(payload: &[u8]) -> Option<Resolution> {
    let descriptor = Vp9Descriptor::parse(payload)?;
    if descriptor.resolution.is_some() {
        return descriptor.resolution;
    }
    if !descriptor.starts_keyframe() {
        return None;
    }
    frame_size(payload.get(descriptor.len..)?)
}

/// The size in the uncompressed header of a keyframe.
fn frame_size(frame: &[u8]) -> Option<Resolution> {
    const FRAME_MARKER: u32 = 2;
    const SYNC_CODE: u32 = 0x49_8342;
    const CS_RGB: u32 = 7;
    let mut bits = BitReader::new(frame);
    if bits.bits(2)? != FRAME_MARKER {
        return None;
    }
    let profile = bits.bits(1)? | bits.bits(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let show_existing_frame = bits.flag()?;
    let non_key_frame = bits.flag()?;
    if show_existing_frame || non_key_frame {
        return None;
    }
    // show_frame, error_resilient_mode.
    bits.skip(2)?;
    if bits.bits(24)? != SYNC_CODE {
        return None;
    }
    // color_config: bit depth, colour space, range and subsampling.
    if profile >= 2 {
        bits.skip(1)?;
    }
    let color_space = bits.bits(3)?;
    let odd_profile = profile & 1 == 1;
    bits.skip(match (color_space, odd_profile) {
        (CS_RGB, false) => 0,
        (CS_RGB, true) | (_, false) => 1,
        (_, true) => 4,
    })?;
    let width = bits.bits(16)? + 1;
    let height = bits.bits(16)? + 1;
    Resolution::new(width, height)
}
