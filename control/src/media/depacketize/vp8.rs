//! VP8 (RFC 7741).

use fanmill_engine::packet::codec::Vp8Descriptor;

use super::{Coded, Malformed};

#[derive(Debug, Default)]
pub(super) struct Picture {
    frame: Vec<u8>,
    /// Of the picture being collected, then of the last one.
    picture_id: Option<u16>,
    long_id: bool,
}

impl Picture {
    pub(super) fn len(&self) -> usize {
        self.frame.len()
    }

    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let descriptor = Vp8Descriptor::parse(payload).ok_or(Malformed)?;
        let data = payload.get(descriptor.len..).ok_or(Malformed)?;
        let begins = descriptor.start_of_partition && descriptor.partition_index == 0;
        if begins != self.frame.is_empty() {
            return Err(Malformed);
        }
        self.picture_id = descriptor.picture_id;
        self.long_id = descriptor.long_picture_id;
        self.frame.extend_from_slice(data);
        Ok(())
    }

    /// Whether the payload begins the picture after the last one.
    pub(super) fn is_next(&self, payload: &[u8]) -> bool {
        let Some(descriptor) = Vp8Descriptor::parse(payload) else {
            return false;
        };
        let begins = descriptor.start_of_partition && descriptor.partition_index == 0;
        let mask = if self.long_id { 0x7fff } else { 0x7f };
        let next = self.picture_id.map(|id| id.wrapping_add(1) & mask);
        begins && next.is_some() && next == descriptor.picture_id
    }

    pub(super) fn finish(&mut self) -> Option<Coded> {
        let data = std::mem::take(&mut self.frame);
        // RFC 6386 9.1: the first bit is the inverse of "keyframe".
        let keyframe = data.first()? & 1 == 0;
        Some(Coded { keyframe, data })
    }

    pub(super) fn abandon(&mut self) {
        self.frame.clear();
    }
}
