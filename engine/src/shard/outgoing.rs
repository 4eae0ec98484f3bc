//! A track that a peer watches, in its shard's table: the cold part beside
//! [`Viewer`](crate::route::viewer::Viewer).

use crate::command::OutgoingTrackSpec;
use crate::route::clock::SenderClock;
use crate::route::repair::{Refusal, Repair};
use crate::route::viewer::Viewer;

/// What the track is showing.
pub(crate) enum Attachment {
    /// Nothing; the numbering waits here to be continued.
    Detached(Box<Viewer>),
    /// A rendition (place in the shard's table), as the viewer at that place in it.
    Attached { rendition: u32, place: usize },
}

/// A track a peer watches.
pub(crate) struct OutgoingTrack {
    pub(crate) spec: OutgoingTrackSpec,
    pub(crate) attachment: Attachment,
    /// The rendition it shows from its next keyframe on.
    pub(crate) changing_to: Option<u32>,
    /// Next index on the retransmission SSRC.
    pub(crate) rtx_index: u64,
    pub(crate) repair: Repair,
    pub(crate) repaired: Repaired,
    pub(crate) report: ViewerReport,
    /// The clock of our last sender report, at the time it was sent.
    pub(crate) reported: Option<SenderClock>,
    pub(crate) keyframe_requests: u64,
}

/// What the viewer last reported.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ViewerReport {
    pub(crate) packets_lost: u64,
    pub(crate) jitter: u32,
    pub(crate) remb_bps: u64,
}

/// What became of the packets the viewer asked for.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Repaired {
    pub(crate) sent: u64,
    refused: u64,
    useless: u64,
    over_budget: u64,
    pub(crate) lost_on_last_mile: u64,
    pub(crate) lost_on_way_in: u64,
}

impl Repaired {
    /// A packet is not sent again. One that we have not got was not refused.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.refused += u64::from(refusal != Refusal::NotHere);
        self.useless += u64::from(refusal == Refusal::Useless);
        let over_budget = matches!(refusal, Refusal::OverBudget | Refusal::ShardBusy);
        self.over_budget += u64::from(over_budget);
    }
}

impl OutgoingTrack {
    pub(crate) fn new(spec: OutgoingTrackSpec, viewer: Viewer, rtx_first: u16) -> Self {
        Self {
            spec,
            attachment: Attachment::Detached(Box::new(viewer)),
            changing_to: None,
            rtx_index: u64::from(rtx_first & 0x7fff),
            repair: Repair::new(),
            repaired: Repaired::default(),
            report: ViewerReport::default(),
            reported: None,
            keyframe_requests: 0,
        }
    }

    /// Copies the counts to where the control plane reads them.
    pub(crate) fn publish(&self, viewer: &Viewer, clock_rate: u32) {
        let to = &self.spec.counters;
        to.packets.set(viewer.packets);
        to.bytes.set(viewer.payload_bytes);
        to.codec_mismatch.set(viewer.codec_mismatch);
        to.awaiting_keyframe.set(viewer.awaiting_keyframe);
        let repaired = &self.repaired;
        to.retransmissions.set(repaired.sent);
        to.retransmissions_refused.set(repaired.refused);
        to.retransmissions_useless.set(repaired.useless);
        to.retransmissions_over_budget.set(repaired.over_budget);
        to.lost_on_last_mile.set(repaired.lost_on_last_mile);
        to.lost_on_way_in.set(repaired.lost_on_way_in);
        to.keyframe_requests.set(self.keyframe_requests);
        to.packets_lost.set(self.report.packets_lost);
        to.remb_bps.set(self.report.remb_bps);
        let jitter_us = u64::from(self.report.jitter) * 1_000_000 / u64::from(clock_rate.max(1));
        to.jitter_us.set(jitter_us);
    }
}
