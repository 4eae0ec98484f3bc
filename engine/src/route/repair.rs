//! What a viewer is sent again, and what not: one viewer's budget, and the judgement on each packet
//! that it asks for.
//!
//! A shard calls this for every number of a NACK; nothing here is touched by packets that are sent
//! for the first time. The budget is counted in bytes and follows what the viewer is sent, so that
//! what a bad link costs is bounded by what a good one does.

use crate::counters::DropReason;
use crate::io::Tx;
use crate::limits::{
    RESEND_BURST_BYTES, RESEND_FLOOR_BYTES_PER_SECOND, RESEND_SHARE, RETRANSMISSION_QUIET_US,
    STORE_AGE_US,
};
use crate::packet::header;
use crate::pool::{Packet, PacketInfo};
use crate::route::duplicate::{DuplicateFilter, Verdict};
use crate::route::rendition::Rendition;
use crate::route::single::Head;
use crate::route::sweep::Sent;
use crate::route::viewer::Stage;
use crate::shard::peer::Peer;

/// Recently resent packets that are remembered, to resend none twice for one loss.
const RECENT: usize = 32;

/// Over how long what a viewer is sent is measured, at least.
const MEASURE_US: u64 = 1_000_000;

/// A round trip that was measured as longer is not relied on: the queue that made it so may be gone.
const MAX_TRUSTED_RTT_US: u64 = 200_000;

/// A millionth of a byte is the unit of the budget, so that no time is too short to add to it.
const BYTE: u64 = 1_000_000;

/// Why a packet is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It was never sent to the viewer, or so long ago that it is not kept.
    Gone,
    /// We have not got it ourselves, or just now: the viewer is sent it as soon as it comes.
    NotHere,
    /// It precedes a keyframe that the viewer was sent.
    Useless,
    /// It was sent again a moment ago.
    JustSent,
    /// The viewer has had its share.
    OverBudget,
    /// The shard has done its share.
    ShardBusy,
}

impl Refusal {
    /// What it is counted as among the shard's drops, if it is one.
    pub(crate) fn drop_reason(self) -> Option<DropReason> {
        match self {
            Self::Gone => Some(DropReason::ResendGone),
            Self::Useless => Some(DropReason::ResendUseless),
            Self::OverBudget => Some(DropReason::ResendOverBudget),
            Self::ShardBusy => Some(DropReason::ResendShardBusy),
            Self::NotHere | Self::JustSent => None,
        }
    }
}

/// Limits what a viewer's NACKs cost, and tells its losses apart.
pub(crate) struct Repair {
    /// What may be resent now, in millionths of a byte.
    budget: u64,
    filled_us: u64,
    /// What the viewer had been sent, in bytes, when the budget was last filled.
    sent_bytes: u64,
    /// The same when the rate was last measured, and when that was.
    measured_bytes: u64,
    measured_us: u64,
    bytes_per_second: u64,
    recent: [(u64, u64); RECENT],
    next: usize,
    /// What was asked for, to count each loss once.
    asked: DuplicateFilter,
}

impl Repair {
    pub(crate) fn new() -> Self {
        Self {
            budget: RESEND_BURST_BYTES * BYTE,
            filled_us: 0,
            sent_bytes: 0,
            measured_bytes: 0,
            measured_us: 0,
            bytes_per_second: 0,
            recent: [(u64::MAX, 0); RECENT],
            next: 0,
            asked: DuplicateFilter::default(),
        }
    }

    /// Adds what has become due: `sent_bytes` is what the viewer was sent in all.
    pub(crate) fn refill(&mut self, sent_bytes: u64, now_us: u64) {
        let elapsed_us = now_us.saturating_sub(self.filled_us);
        let fresh = sent_bytes.saturating_sub(self.sent_bytes);
        (self.filled_us, self.sent_bytes) = (now_us.max(self.filled_us), sent_bytes);
        let measured_for_us = now_us.saturating_sub(self.measured_us);
        if measured_for_us >= MEASURE_US {
            let bytes = sent_bytes.saturating_sub(self.measured_bytes);
            let rate = u128::from(bytes) * 1_000_000 / u128::from(measured_for_us);
            self.bytes_per_second = rate as u64;
            (self.measured_us, self.measured_bytes) = (now_us, sent_bytes);
        }
        let by_time = elapsed_us.saturating_mul(RESEND_FLOOR_BYTES_PER_SECOND);
        let by_share = (fresh / RESEND_SHARE).saturating_mul(BYTE);
        let most = RESEND_BURST_BYTES.max(self.bytes_per_second / RESEND_SHARE);
        let filled = self.budget.saturating_add(by_time).saturating_add(by_share);
        self.budget = filled.min(most.saturating_mul(BYTE));
    }

    /// Whether this packet is asked for the first time.
    pub(crate) fn first_asked(&mut self, index: u64) -> bool {
        self.asked.admit(index) == Verdict::New
    }

    /// Whether to send a packet of so many bytes again now, and takes them off the budget.
    pub(crate) fn allow(&mut self, index: u64, bytes: u64, now_us: u64) -> Result<(), Refusal> {
        let just_sent = self
            .recent
            .iter()
            .any(|(sent, at_us)| *sent == index && now_us < at_us + RETRANSMISSION_QUIET_US);
        if just_sent {
            return Err(Refusal::JustSent);
        }
        let left = self.budget.checked_sub(bytes.saturating_mul(BYTE));
        self.budget = left.ok_or(Refusal::OverBudget)?;
        self.recent[self.next] = (index, now_us);
        self.next = (self.next + 1) % RECENT;
        Ok(())
    }
}

/// The latest keyframe of a rendition.
#[derive(Debug, Clone, Copy)]
pub(super) struct LatestKeyframe {
    index: u64,
    timestamp: u32,
}

impl LatestKeyframe {
    /// What is the latest after this packet, whichever of a keyframe's packets come first.
    pub(super) fn after(latest: Option<Self>, info: &PacketInfo) -> Option<Self> {
        if !info.keyframe_start {
            return latest;
        }
        let this = Self {
            index: info.index,
            timestamp: info.timestamp,
        };
        Some(match latest {
            Some(latest) if latest.timestamp == info.timestamp => Self {
                index: latest.index.min(info.index),
                ..latest
            },
            Some(latest) if latest.index > info.index => latest,
            _ => this,
        })
    }
}

impl Rendition {
    /// The packet with this sequence number of the viewer at that place, if it may be sent again:
    /// it was sent to it, is kept, and is of use.
    ///
    /// # Errors
    /// Why not, with its index if it has one. A NACK that comes sooner than a round trip of
    /// `rtt_us` (less a quarter, for no two are the same) after the packet was first sent was made
    /// before it could arrive: the packet was late on the way in.
    pub(crate) fn repairable(
        &self,
        place: usize,
        sequence_number: u16,
        rtt_us: u64,
        now_us: u64,
    ) -> Result<Packet, (Option<u64>, Refusal)> {
        let viewer = &self.viewers[place];
        let index = viewer.source_index(sequence_number);
        let index = index.ok_or((None, Refusal::Gone))?;
        let refuse = |refusal| Err((Some(index), refusal));
        let Some(packet) = self.store.get(index) else {
            return refuse(if self.store.lacks(index) {
                Refusal::NotHere
            } else {
                Refusal::Gone
            });
        };
        let info = &packet.info;
        let sent_us = viewer.due_us(info.arrival_us);
        let in_burst = self.burst().iter().any(|other| other.info.index == index);
        // A quarter less than a round trip, which is never the same twice.
        let round_trip_us = rtt_us.min(MAX_TRUSTED_RTT_US) / 4 * 3;
        if in_burst || now_us < sent_us + round_trip_us {
            return refuse(Refusal::NotHere);
        }
        let key = self.layout_key(viewer);
        if sent_us + STORE_AGE_US < now_us || !key.resends(info.codec) {
            return refuse(Refusal::Gone);
        }
        let useless = self.latest_keyframe.is_some_and(|keyframe| {
            index < keyframe.index
                && info.timestamp != keyframe.timestamp
                && viewer.was_sent(keyframe.index)
        });
        if useless && self.spec.video {
            return refuse(Refusal::Useless);
        }
        Ok(packet.clone())
    }

    /// Packets to send again to a viewer only to learn how far apart they arrive: the last that it was
    /// sent, as many as `count` says for their size. None to one who knows no retransmissions.
    pub(crate) fn probe_packets(
        &self,
        place: usize,
        count: impl FnOnce(u32) -> usize,
    ) -> Vec<Packet> {
        let viewer = &self.viewers[place];
        let (Some(highest), Stage::Live) = (self.store.highest(), viewer.stage) else {
            return Vec::new();
        };
        let latest = self.store.get(highest).filter(|packet| {
            let payload = self
                .layout_key(viewer)
                .payloads
                .get(usize::from(packet.info.codec));
            let payload = payload.and_then(Option::as_ref);
            payload.is_some_and(|payload| payload.rtx_payload_type.is_some())
        });
        let Some(latest) = latest else {
            return Vec::new();
        };
        let wanted = count(u32::from(latest.info.payload_len));
        let last = (highest + 1).saturating_sub(wanted as u64 * 4)..=highest;
        let sent = last.rev().filter(|index| viewer.was_sent(*index));
        let kept = sent.filter_map(|index| self.store.get(index));
        kept.take(wanted).cloned().collect()
    }

    /// Sends a packet again: as RFC 4588 has it, under this SSRC and its next index, or, to a
    /// viewer who did not negotiate that, as it was the first time, to the last byte.
    pub(crate) fn resend<T: Tx>(
        &mut self,
        place: usize,
        packet: &Packet,
        (rtx_ssrc, rtx_index): (u32, &mut u64),
        peers: &mut [Peer],
        tx: &mut T,
        sent: &mut Sent,
    ) {
        let viewer = &self.viewers[place];
        let Some(peer) = peers.get_mut(viewer.peer as usize) else {
            return;
        };
        let mut buffer = [0; header::MAX_TEMPLATE_BYTES];
        let key = self.layout_key(viewer);
        let (original, timestamp) = viewer.map(&packet.info);
        if let Some(template) = key.build_rtx_header(packet, &mut buffer) {
            let head = Head {
                bytes: &mut buffer,
                template,
                index: *rtx_index,
                timestamp,
                ssrc: rtx_ssrc,
            };
            *rtx_index += 1;
            // RFC 4588 4: the original sequence number, then the original payload.
            let original = (original as u16).to_be_bytes();
            head.send(&[&original, packet.payload()], peer, tx, sent);
        } else if let Some(template) = key.build_header(packet, &mut buffer) {
            let head = Head {
                bytes: &mut buffer,
                template,
                index: original,
                timestamp,
                ssrc: viewer.ssrc,
            };
            match key.redundancy(packet) {
                Some(red) => head.send(&[red.headers(), red.blocks], peer, tx, sent),
                None => head.send(&[packet.payload()], peer, tx, sent),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_not_resent_twice_for_one_loss() {
        let mut repair = Repair::new();
        assert_eq!(repair.allow(7, 1, 0), Ok(()));
        let before = RETRANSMISSION_QUIET_US - 1;
        assert_eq!(repair.allow(7, 1, before), Err(Refusal::JustSent));
        assert_eq!(repair.allow(8, 1, before), Ok(()));
        assert_eq!(repair.allow(7, 1, RETRANSMISSION_QUIET_US), Ok(()));
    }

    /// Bytes granted of a wish without end, in packets of 1000.
    fn granted(repair: &mut Repair, first: u64, now_us: u64) -> u64 {
        let packets = (first..).take_while(|index| repair.allow(*index, 1_000, now_us).is_ok());
        packets.count() as u64 * 1_000
    }

    #[test]
    fn the_budget_follows_what_the_viewer_is_sent_and_has_a_floor() {
        let mut repair = Repair::new();
        let burst = RESEND_BURST_BYTES / 1_000 * 1_000;
        assert_eq!(granted(&mut repair, 0, 0), burst);
        repair.refill(0, 1_000_000);
        let floor = RESEND_FLOOR_BYTES_PER_SECOND;
        let of_floor = granted(&mut repair, 10_000, 1_000_000);
        assert!(of_floor <= floor + 1_000 && of_floor + 1_000 >= floor);
        // A second at 8 Mbit/s, and nothing before.
        repair.refill(1_000_000, 2_000_000);
        let following = granted(&mut repair, 20_000, 2_000_000);
        let expected = floor + 1_000_000 / RESEND_SHARE;
        assert!(following <= expected + 2_000 && following + 2_000 >= expected.min(following));
        assert!(following > of_floor * 2);
    }

    #[test]
    fn what_is_not_used_is_kept_for_a_burst_at_most() {
        let mut repair = Repair::new();
        repair.refill(40_000_000_000, 1_000_000_000);
        // 40 MB a second: a second's share.
        assert_eq!(granted(&mut repair, 0, 0), 40_000_000 / RESEND_SHARE);
        repair.refill(40_000_000_000, 2_000_000_000);
        let burst = RESEND_BURST_BYTES / 1_000 * 1_000;
        assert_eq!(granted(&mut repair, 100_000, 1), burst);
    }

    #[test]
    fn the_latest_keyframe_begins_with_its_lowest_start() {
        let info = |index, timestamp, keyframe_start| PacketInfo {
            index,
            timestamp,
            keyframe_start,
            ..PacketInfo::default()
        };
        let mut latest = None;
        for (info, expected) in [
            (info(5, 1, true), 5),
            (info(9, 2, false), 5),
            (info(11, 3, true), 11),
            (info(10, 3, true), 10),
            (info(7, 1, true), 10),
        ] {
            latest = LatestKeyframe::after(latest, &info);
            assert_eq!(latest.map(|latest| latest.index), Some(expected));
        }
    }
}
