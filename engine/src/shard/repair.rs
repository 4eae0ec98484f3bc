//! Answers NACKs: sends again what a viewer asks for, as far as it is kept and of use, and as the
//! budgets of viewer and shard go.
//!
//! What we have not got ourselves is left alone: the home shard has asked the publisher for it, once
//! for all viewers, and when it comes it goes to everybody who received what surrounds it.

use crate::io::Tx;
use crate::route::repair::Refusal;
use crate::route::sweep::Sent;
use crate::shard::core::Core;
use crate::shard::outgoing::Attachment;

impl Core {
    /// Sends again what a viewer asks for, by the numbers it knows it under.
    pub(crate) fn repair<T: Tx>(
        &mut self,
        track: u32,
        sequence_numbers: impl Iterator<Item = u16>,
        tx: &mut T,
    ) {
        let now_us = self.now_us;
        let mut sent = Sent::default();
        let Some(outgoing) = self.outgoing.get_mut(track) else {
            return;
        };
        let Attachment::Attached { rendition, place } = outgoing.attachment else {
            return;
        };
        let Some(rendition) = self.renditions.get_mut(rendition) else {
            return;
        };
        let viewer = &rendition.viewers[place];
        let rtt_us = self.transports.get(viewer.peer).map_or(0, |t| t.rtt_us);
        let repair = &mut outgoing.repair;
        let repaired = &mut outgoing.repaired;
        repair.refill(viewer.payload_bytes, now_us);
        for sequence_number in sequence_numbers {
            let found = rendition.repairable(place, sequence_number, rtt_us, now_us);
            let index = match &found {
                Ok(packet) => Some(packet.info.index),
                Err((index, _)) => *index,
            };
            if index.is_some_and(|index| repair.first_asked(index)) {
                match &found {
                    Err((_, Refusal::NotHere)) => repaired.lost_on_way_in += 1,
                    _ => {
                        repaired.lost_on_last_mile += 1;
                        rendition.served.lost_on_last_mile += 1;
                    }
                }
            }
            let allowed = found.map_err(|(_, refusal)| refusal).and_then(|packet| {
                let bytes = packet.redundant_payload().len() as u64;
                repair.allow(packet.info.index, bytes, now_us)?;
                let free = self.resends.take(now_us);
                free.then_some(packet).ok_or(Refusal::ShardBusy)
            });
            match allowed {
                Ok(packet) => {
                    repaired.sent += 1;
                    rendition.served.retransmissions += 1;
                    let rtx = (outgoing.spec.rtx_ssrc, &mut outgoing.rtx_index);
                    rendition.resend(place, &packet, rtx, &mut self.peers, tx, &mut sent);
                }
                Err(refusal) => {
                    repaired.refuse(refusal);
                    if let Some(reason) = refusal.drop_reason() {
                        self.drops.count(reason);
                    }
                }
            }
        }
        self.note_sent(sent);
    }
}
