//! VP9 payloads (RFC 9628), in non-flexible mode without layers: each picture refers to those
//! before it.

use super::{MAX_PAYLOAD_BYTES, Payloads};

const PICTURE_ID_PRESENT: u8 = 0x80;
const INTER_PICTURE_PREDICTED: u8 = 0x40;
const START_OF_FRAME: u8 = 0x08;
const END_OF_FRAME: u8 = 0x04;

const DESCRIPTOR_BYTES: usize = 3;

pub(super) fn packetize(frame: &[u8], is_keyframe: bool, picture_id: u16, payloads: &mut Payloads) {
    let [high, low] = picture_id.to_be_bytes();
    let room = MAX_PAYLOAD_BYTES - DESCRIPTOR_BYTES;
    let count = frame.len().div_ceil(room);
    for (index, part) in frame.chunks(room).enumerate() {
        let mut first = PICTURE_ID_PRESENT;
        if !is_keyframe {
            first |= INTER_PICTURE_PREDICTED;
        }
        if index == 0 {
            first |= START_OF_FRAME;
        }
        if index + 1 == count {
            first |= END_OF_FRAME;
        }
        payloads.push(&[&[first, 0x80 | high, low], part]);
    }
}
