//! VP9 (RFC 9628). The frames of one picture's spatial layers become a superframe (VP9 bitstream
//! specification, annex B).

use fanmill_engine::packet::codec::Vp9Descriptor;

use super::{Coded, Malformed};

/// A superframe's index has room for so many (annex B.3).
const MAX_FRAMES: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Picture {
    data: Vec<u8>,
    /// Where each layer's frame begins in `data`.
    frames: Vec<usize>,
    keyframe: bool,
    picture_id: Option<u16>,
}

impl Picture {
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let descriptor = Vp9Descriptor::parse(payload).ok_or(Malformed)?;
        let data = payload.get(descriptor.len..).ok_or(Malformed)?;
        if descriptor.start_of_frame {
            if self.frames.len() == MAX_FRAMES {
                return Err(Malformed);
            }
            if self.frames.is_empty() {
                self.keyframe = !descriptor.inter_picture_predicted;
            }
            self.frames.push(self.data.len());
        } else if self.frames.is_empty() {
            return Err(Malformed);
        }
        self.picture_id = descriptor.picture_id;
        self.data.extend_from_slice(data);
        Ok(())
    }

    /// Whether the payload begins the picture after the last one.
    pub(super) fn is_next(&self, payload: &[u8]) -> bool {
        let Some(descriptor) = Vp9Descriptor::parse(payload) else {
            return false;
        };
        let base = descriptor.spatial_id.is_none_or(|layer| layer == 0);
        let follows = match (self.picture_id, descriptor.picture_id) {
            // Seven or fifteen bits.
            (Some(last), Some(id)) => {
                id == last.wrapping_add(1) & 0x7fff || (id == 0 && last == 0x7f)
            }
            _ => false,
        };
        descriptor.start_of_frame && base && follows
    }

    pub(super) fn finish(&mut self) -> Option<Coded> {
        let mut data = std::mem::take(&mut self.data);
        let frames = std::mem::take(&mut self.frames);
        if data.is_empty() {
            return None;
        }
        if frames.len() > 1 {
            let ends = frames.iter().skip(1).copied().chain([data.len()]);
            let sizes: Vec<usize> = frames.iter().zip(ends).map(|(at, end)| end - at).collect();
            append_index(&mut data, &sizes);
        }
        Some(Coded {
            keyframe: self.keyframe,
            data,
        })
    }

    pub(super) fn abandon(&mut self) {
        self.data.clear();
        self.frames.clear();
    }
}

/// Annex B.2: marker, number of frames, four bytes for each size.
fn append_index(data: &mut Vec<u8>, sizes: &[usize]) {
    const SIZE_BYTES_MINUS_1: u8 = 3;
    let count = u8::try_from(sizes.len() - 1).unwrap_or(7) & 7;
    let marker = 0b1100_0000 | SIZE_BYTES_MINUS_1 << 3 | count;
    data.push(marker);
    for &size in sizes {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        data.extend_from_slice(&size.to_le_bytes());
    }
    data.push(marker);
}
