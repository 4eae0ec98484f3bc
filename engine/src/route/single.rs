//! A packet that leaves by itself: a retransmission, or one that a joining viewer has missed.

use crate::io::Tx;
use crate::packet::header::{self, HeaderTemplate};
use crate::route::sweep::Sent;
use crate::shard::peer::Peer;

/// The header of one packet that leaves by itself, and what is to be written into it.
pub(crate) struct Head<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) template: HeaderTemplate,
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

impl Head<'_> {
    /// Seals the packet and sends it; `None` if it could not be.
    pub(crate) fn send<T: Tx>(
        self,
        payload: &[&[u8]],
        peer: &mut Peer,
        tx: &mut T,
        sent: &mut Sent,
    ) -> Option<()> {
        let (destination, _) = peer.ready()?;
        let head = &mut self.bytes[..self.template.len];
        header::patch(head, self.index as u16, self.timestamp, self.ssrc);
        if let Some(offset) = self.template.transport_cc_offset {
            header::patch_transport_cc(head, offset, peer.next_transport_cc);
            peer.next_transport_cc = peer.next_transport_cc.wrapping_add(1);
        }
        let payload_len: usize = payload.iter().map(|part| part.len()).sum();
        let out = tx.reserve(head.len() + payload_len + peer.overhead());
        let sealer = peer.sealer.as_ref()?;
        let Ok(len) = sealer.seal_parts(self.index, head, payload, out) else {
            sent.failed += 1;
            return None;
        };
        tx.commit(destination, len, None);
        peer.sent(1, len);
        sent.packets += 1;
        sent.sends += 1;
        Some(())
    }
}
