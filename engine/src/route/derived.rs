//! A rendition of some layers of an encoding: which packets it is made of, and what they look like.
//!
//! The home of the encoding makes it, packet by packet, once for all its viewers: each packet that
//! belongs to it is copied into a slot with a number of its own, and everything after that is as with
//! any other rendition. A viewer of layers costs nothing more than one of everything.
//!
//! A copy differs from its original in three things: the marker bit, which ends a picture where its
//! highest layer here ends; where a decoder can begin, if the layer is independent of others; and one
//! bit of VP8 (see [`LayerRendition::copy`]). Picture ids and frame numbers stay as they are, and so
//! are the same in all renditions of an encoding, between which viewers change. They have gaps then:
//! receivers of VP9 and of dependency descriptors expect those, being told what refers to what.

use crate::packet::codec::Codec;
use crate::packet::extension::Extensions;
use crate::packet::layer::{LayerMark, Layers};
use crate::pool::{Packet, PacketMut, PacketPool, Slot};
use crate::route::renumber::{Decision, Outcome, Renumbering};

/// One rendition that is made of another.
#[derive(Debug)]
pub(crate) struct LayerRendition {
    /// Its place in the shard's table.
    pub(crate) place: u32,
    layers: Layers,
    /// The latest keyframe, by the index of its first packet at the source and its timestamp.
    keyframe: Option<(u64, u32)>,
    numbers: Renumbering,
    /// Packets came whose layer is not known yet.
    pub(crate) waits_to_learn: bool,
}

impl LayerRendition {
    pub(crate) fn new(place: u32, layers: Layers) -> Self {
        Self {
            place,
            layers,
            keyframe: None,
            numbers: Renumbering::new(),
            waits_to_learn: false,
        }
    }

    /// What becomes of a packet of the encoding here: a copy, something to fill its place, or nothing.
    ///
    /// # Errors
    /// When the pool has no slot for it.
    pub(crate) fn derive(
        &mut self,
        original: &Packet,
        mark: &LayerMark,
        codec: Option<Codec>,
        pool: &PacketPool,
    ) -> Result<Option<Packet>, PoolExhausted> {
        let is_kept = !self.layers.keyframes_only || self.is_in_keyframe(original);
        // What says nothing of layers is of the lowest.
        let decision = match self.layers.hold(mark) {
            _ if !is_kept => Decision::LeaveOut,
            _ if mark.unread => Decision::Later,
            true => Decision::Pass,
            false => Decision::LeaveOut,
        };
        self.waits_to_learn |= decision == Decision::Later;
        let (number, fills) = match self.numbers.decide(original.info.index, decision) {
            Outcome::Pass(number) => (number, false),
            Outcome::Close(number) => (number, true),
            Outcome::Nothing => return Ok(None),
        };
        let mut slot = pool.take().ok_or(PoolExhausted)?;
        match fills {
            true => empty(&mut slot, original),
            false => self.copy(&mut slot, original, mark, codec),
        }
        slot.info.index = number;
        Ok(Some(slot.share()))
    }

    /// Whether a packet is of the latest keyframe. One that comes before the first packet of its keyframe
    /// counts as of none: that keyframe is not seen whole then, and the next one is.
    fn is_in_keyframe(&mut self, packet: &Slot) -> bool {
        let info = &packet.info;
        // By the index, as timestamps begin anew with another SSRC.
        let is_later = |(first, _)| info.index > first;
        if info.keyframe_start && self.keyframe.is_none_or(is_later) {
            self.keyframe = Some((info.index, info.timestamp));
        }
        self.keyframe
            .is_some_and(|(_, timestamp)| timestamp == info.timestamp)
    }

    /// Packets that came, by their index at the source, and may have been what is awaited.
    pub(crate) fn awaited(&self) -> Vec<u64> {
        self.numbers.awaited().collect()
    }

    fn copy(&self, slot: &mut PacketMut, original: &Slot, mark: &LayerMark, codec: Option<Codec>) {
        slot.copy_from(original);
        let info = &mut slot.info;
        info.layer = *mark;
        info.marker |= mark.ends_frame && mark.spatial == self.layers.spatial;
        if mark.is_independent(self.layers.spatial) {
            info.keyframe_start = mark.starts_frame && mark.intra;
        }
        // libwebrtc waits for all picture ids between a frame and the latest of each layer it may
        // refer to, unless it is told that the frame refers to the lowest layer only. Of the layers
        // in between nothing is lacking here: what is left out are layers above.
        if codec == Some(Codec::Vp8) && mark.temporal > 0 {
            set_layer_sync(slot.payload_mut());
        }
    }
}

/// There was no slot for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolExhausted;

/// A packet without payload in place of one that is left out.
fn empty(slot: &mut PacketMut, original: &Slot) {
    slot.info = original.info;
    slot.info.layer = LayerMark::NONE;
    slot.info.marker = false;
    slot.info.keyframe_start = false;
    slot.info.extensions = Extensions::default();
    slot.info.capture_time = None;
    slot.info.playout_delay = None;
    (slot.info.payload_start, slot.info.payload_len) = (0, 0);
    slot.info.redundancy_len = 0;
    slot.set_len(0);
}

/// Sets the Y bit of a VP8 payload descriptor (RFC 7741 4.2), if it has one.
fn set_layer_sync(payload: &mut [u8]) {
    let [0x80..=0xff, extensions, ..] = *payload else {
        return;
    };
    if extensions & 0x20 == 0 {
        return;
    }
    let mut at = 2;
    if extensions & 0x80 != 0 {
        let long = payload.get(at).is_some_and(|byte| byte & 0x80 != 0);
        at += if long { 2 } else { 1 };
    }
    at += usize::from(extensions & 0x40 != 0);
    if let Some(byte) = payload.get_mut(at) {
        *byte |= 0x20;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::codec::Vp8Descriptor;

    #[test]
    fn the_layer_sync_bit_is_set_and_nothing_else() {
        for payload in [
            &[0x90, 0xe0, 0x81, 0x23, 0x07, 0x40, 1, 2][..],
            &[0x90, 0xe0, 0x23, 0x07, 0x80, 1],
            &[0x90, 0x20, 0x40, 1],
        ] {
            let before = Vp8Descriptor::parse(payload).expect("a descriptor");
            let mut patched = payload.to_vec();
            set_layer_sync(&mut patched);
            let after = Vp8Descriptor::parse(&patched).expect("a descriptor");
            assert!(after.layer_sync && !before.layer_sync);
            let undone = Vp8Descriptor {
                layer_sync: false,
                ..after
            };
            assert_eq!(undone, before);
            assert_eq!(patched[after.len..], payload[before.len..]);
        }
        for payload in [
            &[][..],
            &[0x10, 0xff],
            &[0x80, 0xe0, 0x80],
            &[0x80, 0xc0, 1, 2, 3],
        ] {
            let mut patched = payload.to_vec();
            set_layer_sync(&mut patched);
            assert_eq!(patched, payload);
        }
    }
}
