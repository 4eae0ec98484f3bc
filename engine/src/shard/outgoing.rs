//! A track that a peer watches, in its shard's table: the cold part beside
//! [`Viewer`](crate::route::viewer::Viewer).

use crate::command::OutgoingTrackSpec;
use crate::limits::{RETRANSMISSION_BURST, RETRANSMISSION_QUIET_US, RETRANSMISSIONS_PER_SECOND};
use crate::route::budget::Budget;
use crate::route::clock::SenderClock;
use crate::route::viewer::Viewer;

/// Recently resent packets that are remembered, to resend none twice for one loss.
const RECENT: usize = 32;

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
    /// Next index on the retransmission SSRC.
    pub(crate) rtx_index: u64,
    pub(crate) resends: Resends,
    pub(crate) report: ViewerReport,
    /// The clock of our last sender report, at the time it was sent.
    pub(crate) reported: Option<SenderClock>,
    /// Counts of viewers this track was before it was attached anew.
    pub(crate) retransmissions: u64,
    pub(crate) retransmissions_refused: u64,
    pub(crate) keyframe_requests: u64,
}

/// What the viewer last reported.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ViewerReport {
    pub(crate) packets_lost: u64,
    pub(crate) jitter: u32,
    pub(crate) remb_bps: u64,
}

impl OutgoingTrack {
    pub(crate) fn new(spec: OutgoingTrackSpec, viewer: Viewer, rtx_first: u16) -> Self {
        Self {
            spec,
            attachment: Attachment::Detached(Box::new(viewer)),
            rtx_index: u64::from(rtx_first & 0x7fff),
            resends: Resends::new(),
            report: ViewerReport::default(),
            reported: None,
            retransmissions: 0,
            retransmissions_refused: 0,
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
        to.retransmissions.set(self.retransmissions);
        to.retransmissions_refused.set(self.retransmissions_refused);
        to.keyframe_requests.set(self.keyframe_requests);
        to.packets_lost.set(self.report.packets_lost);
        to.remb_bps.set(self.report.remb_bps);
        let jitter_us = u64::from(self.report.jitter) * 1_000_000 / u64::from(clock_rate.max(1));
        to.jitter_us.set(jitter_us);
    }
}

/// Limits what a viewer's NACKs cost.
pub(crate) struct Resends {
    budget: Budget,
    recent: [(u64, u64); RECENT],
    next: usize,
}

impl Resends {
    fn new() -> Self {
        Self {
            budget: Budget::new(RETRANSMISSIONS_PER_SECOND, RETRANSMISSION_BURST),
            recent: [(u64::MAX, 0); RECENT],
            next: 0,
        }
    }

    /// Whether to send this packet again now.
    pub(crate) fn allow(&mut self, index: u64, now_us: u64) -> bool {
        let just_sent = self
            .recent
            .iter()
            .any(|(sent, at_us)| *sent == index && now_us < at_us + RETRANSMISSION_QUIET_US);
        if just_sent || !self.budget.take(now_us) {
            return false;
        }
        self.recent[self.next] = (index, now_us);
        self.next = (self.next + 1) % RECENT;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_not_resent_twice_for_one_loss() {
        let mut resends = Resends::new();
        assert!(resends.allow(7, 0));
        assert!(!resends.allow(7, RETRANSMISSION_QUIET_US - 1));
        assert!(resends.allow(8, RETRANSMISSION_QUIET_US - 1));
        assert!(resends.allow(7, RETRANSMISSION_QUIET_US));
    }

    #[test]
    fn one_viewer_cannot_ask_for_everything() {
        let mut resends = Resends::new();
        let granted = (0..10_000).filter(|index| resends.allow(*index, 0)).count();
        assert_eq!(granted, RETRANSMISSION_BURST as usize);
    }
}
