//! Viewers whose bandwidth is estimated: those of a track with several encodings, for whom there is
//! something to choose. Tells their [`Estimator`]s what was sent and what they report, and the control
//! plane what comes of it.
//!
//! Nobody else pays for it: no viewer of a plain stream has an entry here, and nothing is noted packet
//! by packet. What a viewer was sent is read off its peer's counts after each burst.

use crate::bandwidth::{Estimator, Send};
use crate::event::Event;
use crate::io::Tx;
use crate::limits::FALL_INTERVAL_US;
use crate::packet::extension::Extension;
use crate::packet::rtcp::TransportCc;
use crate::route::rendition::Rendition;
use crate::route::sweep::Sent;
use crate::route::viewer::{Stage, Viewer};
use crate::shard::core::Core;
use crate::shard::outgoing::Attachment;
use crate::shard::peer::Peer;

/// Estimators by their transports' places in the shard's table; none is made until it is needed.
#[derive(Default)]
pub(crate) struct Estimates(Vec<Option<Box<Estimated>>>);

/// One viewer's.
pub(crate) struct Estimated {
    estimator: Estimator,
    /// What of the peer's counts was noted.
    next_transport_cc: u16,
    bytes_sent: u64,
    /// When the control plane was told that the estimate fell, and to what.
    told_us: u64,
    told_bps: u64,
}

impl Estimates {
    fn get_mut(&mut self, transport: u32) -> Option<&mut Estimated> {
        self.0.get_mut(transport as usize)?.as_deref_mut()
    }

    /// What is known of a peer's bandwidth, in bits per second.
    pub(crate) fn known_bps(&self, transport: u32) -> Option<u64> {
        let estimated = self.0.get(transport as usize)?.as_ref()?;
        Some(estimated.estimator.estimate_bps()).filter(|bps| *bps > 0)
    }

    /// Whether a peer is sent more than its network carries.
    pub(crate) fn is_overused(&self, transport: u32) -> bool {
        let estimated = self.0.get(transport as usize).and_then(Option::as_ref);
        estimated.is_some_and(|estimated| {
            let bps = estimated.estimator.estimate_bps();
            bps > 0 && bps < estimated.estimator.sent_bps()
        })
    }

    fn begin(&mut self, transport: u32, peer: &Peer) {
        let place = transport as usize;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, || None);
        }
        self.0[place].get_or_insert_with(|| {
            Box::new(Estimated {
                estimator: Estimator::new(),
                next_transport_cc: peer.next_transport_cc,
                bytes_sent: peer.bytes_sent,
                told_us: 0,
                told_bps: u64::MAX,
            })
        });
    }

    /// A peer is gone, or has nothing left to choose.
    pub(crate) fn end(&mut self, transport: u32) {
        if let Some(place) = self.0.get_mut(transport as usize) {
            *place = None;
        }
    }

    /// Notes what was sent to every viewer of a rendition since the last time: its burst, which has
    /// just gone out, and what went out singly before that.
    fn note_burst(&mut self, rendition: &Rendition, peers: &[Peer], now_us: u64) {
        for viewer in &rendition.viewers {
            let (Some(estimated), Some(peer)) = (
                self.0
                    .get_mut(viewer.peer as usize)
                    .and_then(Option::as_deref_mut),
                peers.get(viewer.peer as usize),
            ) else {
                continue;
            };
            let train = match viewer.stage {
                Stage::Live => rendition.last_burst(viewer, peer.overhead()),
                _ => (0, 0),
            };
            estimated.note(peer, train, now_us);
        }
    }

    /// Notes what was sent to viewers who catch up.
    pub(crate) fn note_slice(&mut self, rendition: &Rendition, peers: &[Peer], now_us: u64) {
        for viewer in rendition.newcomers() {
            if let (Some(estimated), Some(peer)) =
                (self.get_mut(viewer.peer), peers.get(viewer.peer as usize))
            {
                estimated.note(peer, (u16::MAX, 0), now_us);
            }
        }
    }
}

impl Estimated {
    /// Notes what the peer was sent since the last time, of which a train of so many packets and
    /// bytes just now; if there was less than that, all of it just now.
    fn note(&mut self, peer: &Peer, train: (u16, u32), now_us: u64) {
        let packets = peer.next_transport_cc.wrapping_sub(self.next_transport_cc);
        let bytes = peer.bytes_sent.saturating_sub(self.bytes_sent);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Sent without numbers, nothing is heard of it.
        if packets == 0 {
            self.bytes_sent = peer.bytes_sent;
            return;
        }
        let (count, train_bytes) = train;
        let (count, train_bytes) = match packets < count || bytes < train_bytes {
            true => (packets, bytes),
            false => (count, train_bytes),
        };
        // A train of nothing: what was sent singly waits to be noted with the next.
        if count == 0 {
            return;
        }
        let send = Send {
            first: peer.next_transport_cc.wrapping_sub(count),
            count,
            bytes: train_bytes,
            before: packets - count,
            before_bytes: bytes - train_bytes,
        };
        self.estimator.sent(&send, now_us);
        self.next_transport_cc = peer.next_transport_cc;
        self.bytes_sent = peer.bytes_sent;
    }

    /// Whether the control plane is to be told now that the estimate has fallen below what is sent.
    fn has_fallen(&mut self, now_us: u64) -> bool {
        let bps = self.estimator.estimate_bps();
        if bps == 0 || bps >= self.estimator.sent_bps() {
            self.told_bps = u64::MAX;
            return false;
        }
        let news = bps < self.told_bps / 20 * 19 && now_us >= self.told_us + FALL_INTERVAL_US;
        if news {
            (self.told_us, self.told_bps) = (now_us, bps);
        }
        news
    }
}

impl Core {
    /// A track has been attached: its peer is estimated from now on, or no more.
    pub(super) fn note_attachment(&mut self, track: u32) {
        let Some(outgoing) = self.outgoing.get(track) else {
            return;
        };
        let Attachment::Attached { rendition, place } = outgoing.attachment else {
            return;
        };
        let Some(rendition) = self.renditions.get(rendition) else {
            return;
        };
        let transport = rendition.viewers[place].peer;
        if rendition.spec.alternative_of.is_some() {
            if let Some(peer) = self.peers.get(transport as usize) {
                self.estimates.begin(transport, peer);
            }
        } else if rendition.spec.video && !self.has_choice(transport) {
            self.estimates.end(transport);
            outgoing.spec.counters.estimate_bps.set(0);
        }
    }

    /// Whether any track of a peer shows one of several encodings.
    fn has_choice(&self, transport: u32) -> bool {
        let tracks = self.transports.get(transport).map(|t| &t.outgoing);
        tracks.into_iter().flatten().any(|track| {
            let attachment = self.outgoing.get(*track).map(|track| &track.attachment);
            let Some(Attachment::Attached { rendition, .. }) = attachment else {
                return false;
            };
            let rendition = self.renditions.get(*rendition);
            rendition.is_some_and(|rendition| rendition.spec.alternative_of.is_some())
        })
    }

    /// Notes a burst that has just been sent.
    pub(super) fn note_burst(&mut self, place: u32, now_us: u64) {
        if let Some(rendition) = self.renditions.get(place) {
            self.estimates.note_burst(rendition, &self.peers, now_us);
        }
    }

    /// A viewer reports on what it was sent.
    pub(super) fn transport_cc(&mut self, place: u32, feedback: &TransportCc<'_>) {
        let now_us = self.now_us;
        if let Some(estimated) = self.estimates.get_mut(place) {
            estimated.estimator.feedback(feedback, now_us);
            self.publish_estimate(place);
        }
    }

    /// A viewer tells what it can take.
    pub(super) fn note_remb(&mut self, place: u32, bitrate_bps: u64) {
        let now_us = self.now_us;
        if let Some(estimated) = self.estimates.get_mut(place) {
            estimated.estimator.remb(bitrate_bps, now_us);
            self.publish_estimate(place);
        }
    }

    /// Lets the control plane read the estimate, and tells it at once of one that has fallen below
    /// what the viewer is sent.
    fn publish_estimate(&mut self, place: u32) {
        let now_us = self.now_us;
        let (Some(estimated), Some(transport)) =
            (self.estimates.get_mut(place), self.transports.get(place))
        else {
            return;
        };
        let bps = estimated.estimator.estimate_bps();
        for track in &transport.outgoing {
            if let Some(outgoing) = self.outgoing.get(*track) {
                outgoing.spec.counters.estimate_bps.set(bps);
            }
        }
        let id = transport.id;
        if estimated.has_fallen(now_us) {
            // The control plane also looks by itself, later.
            self.tell_or_drop(Event::EstimateFell(id));
        }
    }

    /// What is done for an estimated peer once a second: it may have fallen silent, or nothing may
    /// have told lately how much more it could be sent.
    pub(super) fn tend_estimate<T: Tx>(&mut self, place: u32, tx: &mut T) {
        let now_us = self.now_us;
        let Some(estimated) = self.estimates.get_mut(place) else {
            return;
        };
        let before_bps = estimated.estimator.estimate_bps();
        estimated.estimator.tick(now_us);
        let has_changed = estimated.estimator.estimate_bps() != before_bps;
        if has_changed {
            self.publish_estimate(place);
        }
        self.probe(place, tx);
    }

    /// Sends some of the last packets again, in one go, if the estimator has need of it.
    fn probe<T: Tx>(&mut self, transport: u32, tx: &mut T) -> Option<()> {
        let now_us = self.now_us;
        let tracks = &self.transports.get(transport)?.outgoing;
        let (track, rendition, place) = tracks.iter().find_map(|track| {
            let Attachment::Attached { rendition, place } = self.outgoing.get(*track)?.attachment
            else {
                return None;
            };
            let chosen = self
                .renditions
                .get(rendition)?
                .spec
                .alternative_of
                .is_some();
            chosen.then_some((*track, rendition, place))
        })?;
        let outgoing = self.outgoing.get_mut(track)?;
        let rendition = self.renditions.get_mut(rendition)?;
        let estimated = self.estimates.get_mut(transport)?;
        let packets = rendition.probe_packets(place, |bytes| {
            estimated.estimator.probe_packets(bytes, now_us)
        });
        if packets.is_empty() {
            return None;
        }
        let mut sent = Sent::default();
        // What was sent before is not part of it.
        let count = packets.len() as u16;
        let bytes_before = self.peers.get(transport as usize)?.bytes_sent;
        for packet in &packets {
            let rtx = (outgoing.spec.rtx_ssrc, &mut outgoing.rtx_index);
            rendition.resend(place, packet, rtx, &mut self.peers, tx, &mut sent);
        }
        let peer = self.peers.get(transport as usize)?;
        let bytes = peer.bytes_sent.saturating_sub(bytes_before) as u32;
        estimated.note(peer, (count, bytes), now_us);
        self.note_sent(sent);
        Some(())
    }
}

impl Rendition {
    /// Packets and sealed bytes of the burst that was sent last, to a viewer who was sent all of it;
    /// nothing if they bear no numbers to report on.
    fn last_burst(&self, viewer: &Viewer, overhead: usize) -> (u16, u32) {
        let layout = self.layout_of(viewer);
        if layout
            .key
            .extensions
            .id(Extension::TransportWideCc)
            .is_none()
        {
            return (0, 0);
        }
        let sealed = layout
            .trains()
            .iter()
            .map(|train| train.sealed_bytes(overhead) as u32);
        (layout.planned_count() as u16, sealed.sum())
    }
}
