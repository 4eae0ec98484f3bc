//! VP8 payloads (RFC 7741).

use super::{MAX_PAYLOAD_BYTES, Payloads};

const EXTENDED: u8 = 0x80;
const START_OF_PARTITION: u8 = 0x10;
const PICTURE_ID_PRESENT: u8 = 0x80;

const DESCRIPTOR_BYTES: usize = 4;

/// RFC 7741 4.4 lets partitions be ignored: only the frame's first packet starts one.
pub(super) fn packetize(frame: &[u8], picture_id: u16, payloads: &mut Payloads) {
    let [high, low] = picture_id.to_be_bytes();
    for (index, part) in frame
        .chunks(MAX_PAYLOAD_BYTES - DESCRIPTOR_BYTES)
        .enumerate()
    {
        let start = if index == 0 { START_OF_PARTITION } else { 0 };
        let descriptor = [EXTENDED | start, PICTURE_ID_PRESENT, 0x80 | high, low];
        payloads.push(&[&descriptor, part]);
    }
}
