//! VP8 payloads (RFC 7741) and frame headers (RFC 6386).

use super::Resolution;

/// A VP8 payload descriptor (RFC 7741 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// Nothing refers to this frame; it may be dropped.
    pub non_reference: bool,
    /// The packet begins a partition.
    pub start_of_partition: bool,
    /// Which partition the packet's first byte belongs to.
    pub partition_index: u8,
    /// Picture id, of 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// Whether the picture id has 15 bits.
    pub long_picture_id: bool,
    /// Running number of temporal layer zero.
    pub tl0_pic_idx: Option<u8>,
    /// Temporal layer.
    pub temporal_id: Option<u8>,
    /// The frame depends only on temporal layer zero.
    pub layer_sync: bool,
    /// Length of the descriptor in bytes.
    pub len: usize,
}

impl Vp8Descriptor {
    /// Reads the descriptor a payload begins with; `None` if it is cut.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut bytes = payload.iter().copied();
        let first = bytes.next()?;
        let mut descriptor = Self {
            non_reference: first & 0x20 != 0,
            start_of_partition: first & 0x10 != 0,
            partition_index: first & 0x07,
            picture_id: None,
            long_picture_id: false,
            tl0_pic_idx: None,
            temporal_id: None,
            layer_sync: false,
            len: 0,
        };
        let extensions = if first & 0x80 != 0 { bytes.next()? } else { 0 };
        if extensions & 0x80 != 0 {
            let high = bytes.next()?;
            descriptor.long_picture_id = high & 0x80 != 0;
            let high_bits = u16::from(high & 0x7f);
            descriptor.picture_id = Some(if descriptor.long_picture_id {
                high_bits << 8 | u16::from(bytes.next()?)
            } else {
                high_bits
            });
        }
        if extensions & 0x40 != 0 {
            descriptor.tl0_pic_idx = Some(bytes.next()?);
        }
        // One byte for TID and KEYIDX, if either is there.
        if extensions & 0x30 != 0 {
            let layer = bytes.next()?;
            if extensions & 0x20 != 0 {
                descriptor.temporal_id = Some(layer >> 6);
                descriptor.layer_sync = layer & 0x20 != 0;
            }
        }
        descriptor.len = payload.len() - bytes.len();
        Some(descriptor)
    }
}

/// The frame that a packet begins, if it begins one that is a keyframe.
fn keyframe(payload: &[u8]) -> Option<&[u8]> {
    let descriptor = Vp8Descriptor::parse(payload)?;
    let frame = payload.get(descriptor.len..)?;
    // RFC 7741 4.3: the frame header comes with the first partition; its P bit is the inverse of
    // "keyframe".
    let begins = descriptor.start_of_partition && descriptor.partition_index == 0;
    (begins && frame.first()? & 1 == 0).then_some(frame)
}

pub(super) fn is_keyframe_start(payload: &[u8]) -> bool {
    keyframe(payload).is_some()
}

pub(super) fn resolution(payload: &[u8]) -> Option<Resolution> {
    // RFC 6386 9.1: frame tag, start code, then width and height, each with two bits of scale.
    let [_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *keyframe(payload)?.first_chunk()? else {
        return None;
    };
    let size = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
    Resolution::new(size([w0, w1]), size([h0, h1]))
}
