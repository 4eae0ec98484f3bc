//! One burst to every viewer of a rendition: the loop that all the rest exists for.
//!
//! Viewer by viewer, so that one viewer's keys stay in the cache for the whole burst; a viewer's
//! packets lie back to back in the send buffer and leave as trains. Viewers whose seal is cheaper
//! in company are gathered and sealed packet by packet side by side. Nothing here decides who
//! receives what: that is in the viewers and layouts when it begins.

use std::net::SocketAddr;
use std::ops::Range;

use crate::io::{MAX_STRETCH_BYTES, Tx};
use crate::pool::{Packet, PacketInfo};
use crate::route::plan::{Layout, Planned};
use crate::route::train::Train;
use crate::route::viewer::{Passed, Stage, Viewer};
use crate::shard::peer::Peer;
use crate::srtp::{self, MAX_TOGETHER, Sealer, ShortTag, SrtpError, Untagged};
use crate::transit::{Bucket, TransitTally};

/// After so many viewers the clock is looked at.
const CLOCK_VIEWERS: u64 = 64;

/// Each viewer's part of a common stretch begins on a cache line.
const PART_ALIGNMENT: usize = 64;

/// What was sent, for the counters.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) sends: u64,
    pub(crate) packets_padded: u64,
    pub(crate) padding_bytes: u64,
    pub(crate) failed: u64,
    /// Packets that are withheld from viewers, for want of time.
    pub(crate) shed: u64,
}

impl Sent {
    fn train(&mut self, train: &Train) {
        self.packets += train.count as u64;
        self.sends += 1;
        self.packets_padded += train.packets_padded as u64;
        self.padding_bytes += train.padding_bytes as u64;
    }

    fn packet(&mut self, planned: &Planned) {
        self.packets += 1;
        self.sends += 1;
        self.packets_padded += u64::from(planned.padding_bytes() > 0);
        self.padding_bytes += planned.padding_bytes() as u64;
    }
}

/// What a sweep works with, and what comes of it.
pub(crate) struct Sweep<'a, T: Tx> {
    pub(crate) burst: &'a [Packet],
    pub(crate) layouts: &'a mut [Layout],
    pub(crate) peers: &'a mut [Peer],
    pub(crate) tx: &'a mut T,
    pub(crate) transit: &'a mut TransitTally,
    /// The same of this rendition alone.
    pub(crate) rendition_transit: &'a mut TransitTally,
    pub(crate) sent: &'a mut Sent,
    /// Viewers for whom the burst lay too far ahead: they wait to begin anew.
    pub(crate) suspended: usize,
}

/// Viewers of one layout that are sealed side by side, by their places in the rendition.
#[derive(Default)]
struct Company {
    layout: u32,
    places: [usize; MAX_TOGETHER],
    count: usize,
}

impl<T: Tx> Sweep<'_, T> {
    /// Sends the burst to each viewer that can receive it.
    pub(crate) fn all(&mut self, viewers: &mut [Viewer]) {
        let mut company = Company::default();
        let mut served = 0;
        for place in 0..viewers.len() {
            if served == CLOCK_VIEWERS {
                self.note_transit(std::mem::take(&mut served));
            }
            let viewer = &mut viewers[place];
            let layout = &self.layouts[viewer.layout as usize];
            let planned = layout.planned_count() as u64;
            viewer.codec_mismatch += self.burst.len() as u64 - planned;
            if planned == 0 {
                continue;
            }
            if viewer.would_jump(layout.lowest_index()) {
                viewer.stage = Stage::Waiting;
                self.suspended += 1;
            }
            let peer = self.peers.get(viewer.peer as usize).and_then(Peer::ready);
            let (false, Some((destination, sealer))) = (viewer.stage.is_idle(), peer) else {
                if viewer.stage == Stage::Withheld {
                    self.sent.shed += planned;
                } else {
                    viewer.awaiting_keyframe += planned;
                }
                continue;
            };
            let live = viewer.stage == Stage::Live;
            served += u64::from(live);
            if !live || !viewer.wants(layout.lowest_index()) {
                self.singly(viewer, destination);
            } else if sealer.prefers_company_of().is_none() {
                self.trains(viewer, destination);
            } else {
                if company.count == MAX_TOGETHER || company.layout != viewer.layout {
                    self.together(&mut company, viewers);
                }
                company.layout = viewers[place].layout;
                company.places[company.count] = place;
                company.count += 1;
            }
        }
        self.together(&mut company, viewers);
        self.note_transit(served);
    }

    /// So many viewers were served since the clock was last looked at.
    fn note_transit(&mut self, viewers: u64) {
        let now_us = self.tx.now_us();
        for packet in self.burst {
            let spent_us = now_us.saturating_sub(packet.info.arrival_us);
            let time = Bucket::of(spent_us);
            self.transit.add(time, viewers);
            self.rendition_transit.add(time, viewers);
        }
    }

    /// Every train of the burst to one viewer.
    pub(crate) fn trains(&mut self, viewer: &mut Viewer, destination: SocketAddr) {
        let layout = &mut self.layouts[viewer.layout as usize];
        let Some(peer) = self.peers.get_mut(viewer.peer as usize) else {
            return;
        };
        let overhead = peer.overhead();
        for place in 0..layout.trains().len() {
            let train = layout.trains()[place];
            let stretch = self.tx.reserve(train.sealed_bytes(overhead));
            match fill(
                &train,
                layout,
                self.burst,
                viewer,
                peer,
                stretch,
                Sealer::seal,
            ) {
                Some(()) => {
                    let len = train.sealed_bytes(overhead);
                    let segment = train.sealed_segment_bytes(overhead);
                    self.tx.commit(destination, len, segment);
                    self.sent.train(&train);
                    peer.sent(train.count as u64, len);
                }
                None => self.sent.failed += train.count as u64,
            }
        }
        viewer.sent(layout.passed());
    }

    /// Those packets of the burst that belong to what the viewer receives now, one by one.
    fn singly(&mut self, viewer: &mut Viewer, destination: SocketAddr) {
        let layout = &mut self.layouts[viewer.layout as usize];
        let Some(peer) = self.peers.get_mut(viewer.peer as usize) else {
            return;
        };
        for place in 0..layout.planned_count() {
            let planned = layout.planned(place);
            let packet = &self.burst[planned.packet];
            if !viewer.wants(packet.info.index) {
                continue;
            }
            let alone = Train::new(place, planned.plain_len());
            let len = alone.sealed_bytes(peer.overhead());
            let stretch = self.tx.reserve(len);
            match fill(
                &alone,
                layout,
                self.burst,
                viewer,
                peer,
                stretch,
                Sealer::seal,
            ) {
                Some(()) => {
                    self.tx.commit(destination, len, None);
                    self.sent.packet(&planned);
                    peer.sent(1, len);
                    viewer.sent(&Passed::one(&packet.info));
                }
                None => self.sent.failed += 1,
            }
        }
    }

    /// Every train of the burst to viewers that are sealed side by side, if they are enough.
    fn together(&mut self, company: &mut Company, viewers: &mut [Viewer]) {
        let places = &company.places[..std::mem::take(&mut company.count)];
        let first = places.first().map(|place| viewers[*place].peer as usize);
        let sealer = first.and_then(|peer| self.peers.get(peer)?.sealer.as_ref());
        let Some(sealer) = sealer else { return };
        if sealer
            .prefers_company_of()
            .is_none_or(|least| places.len() < least)
        {
            for place in places {
                let viewer = &mut viewers[*place];
                let peer = self.peers.get(viewer.peer as usize);
                if let Some((destination, _)) = peer.and_then(Peer::ready) {
                    self.trains(viewer, destination);
                }
            }
            return;
        }
        let overhead = sealer.overhead();
        let layout = company.layout as usize;
        for train in 0..self.layouts[layout].trains().len() {
            let train = self.layouts[layout].trains()[train];
            // So many of its packets that those of every viewer fit into one stretch.
            let room = MAX_STRETCH_BYTES / MAX_TOGETHER - PART_ALIGNMENT;
            let most = room / (train.segment_bytes + overhead);
            for part in train.parts(most.max(1)) {
                self.train_together(&part, layout, overhead, places, viewers);
            }
        }
        for place in places {
            viewers[*place].sent(self.layouts[layout].passed());
        }
    }

    /// One train to each of several viewers: encrypted viewer by viewer, then given its tags packet
    /// by packet, for all viewers at once.
    fn train_together(
        &mut self,
        train: &Train,
        layout: usize,
        overhead: usize,
        places: &[usize],
        viewers: &mut [Viewer],
    ) {
        let layout = &mut self.layouts[layout];
        let len = train.sealed_bytes(overhead);
        let step = len.next_multiple_of(PART_ALIGNMENT);
        let stretch = self.tx.reserve(step * places.len());
        let mut encrypted = [Part::default(); MAX_TOGETHER];
        let mut count = 0;
        for (start, place) in (0..).step_by(step).zip(places) {
            let viewer = &mut viewers[*place];
            let Some(peer) = self.peers.get_mut(viewer.peer as usize) else {
                continue;
            };
            let out = &mut stretch[start..start + len];
            match fill(
                train,
                layout,
                self.burst,
                viewer,
                peer,
                out,
                Sealer::encrypt,
            ) {
                Some(()) => {
                    encrypted[count] = Part {
                        start,
                        place: *place,
                    };
                    count += 1;
                }
                None => self.sent.failed += train.count as u64,
            }
        }
        let parts = &encrypted[..count];
        let mut offset = 0;
        for place in train.first..train.first + train.count {
            let planned = layout.planned(place);
            let info = &self.burst[planned.packet].info;
            let range = offset..offset + planned.plain_len();
            offset = range.end + overhead;
            if write_tags(parts, viewers, self.peers, info, range, stretch).is_none() {
                self.sent.failed += (train.count * count) as u64;
                return;
            }
        }
        let segment = train.sealed_segment_bytes(overhead);
        for part in parts {
            let Some(peer) = self.peers.get_mut(viewers[part.place].peer as usize) else {
                continue;
            };
            peer.sent(train.count as u64, len);
            if let Some((destination, _)) = peer.ready() {
                self.tx.commit_part(destination, part.start, len, segment);
                self.sent.train(train);
            }
        }
    }
}

/// One viewer's part of a common stretch.
#[derive(Debug, Default, Clone, Copy)]
struct Part {
    start: usize,
    /// The viewer's place in the rendition.
    place: usize,
}

/// Makes the tags of one packet for all viewers. `range` is where the packet lies in each part, and
/// the tag's place is right behind it.
fn write_tags(
    parts: &[Part],
    viewers: &[Viewer],
    peers: &[Peer],
    info: &PacketInfo,
    range: Range<usize>,
    stretch: &mut [u8],
) -> Option<()> {
    let untagged = |part: &Part| {
        let viewer = viewers.get(part.place)?;
        Some(Untagged {
            sealer: peers.get(viewer.peer as usize)?.sealer.as_ref()?,
            index: viewer.map(info).0,
            packet: &stretch[part.start + range.start..part.start + range.end],
        })
    };
    let Some(first) = parts.first() else {
        return Some(());
    };
    let mut packets = [untagged(first)?; MAX_TOGETHER];
    for (packet, part) in packets.iter_mut().zip(parts) {
        *packet = untagged(part)?;
    }
    let mut tags = [ShortTag::default(); MAX_TOGETHER];
    srtp::tags(&packets[..parts.len()], &mut tags).ok()?;
    for (part, tag) in parts.iter().zip(&tags) {
        stretch[part.start + range.end..][..tag.len()].copy_from_slice(tag);
    }
    Some(())
}

/// Seals the packets of a train back to back into `out`, which they fill. `seal` makes each, or
/// leaves the tag to be written.
fn fill(
    train: &Train,
    layout: &mut Layout,
    burst: &[Packet],
    viewer: &Viewer,
    peer: &mut Peer,
    mut out: &mut [u8],
    seal: impl Fn(&Sealer, u64, &[u8], &[u8], &mut [u8]) -> Result<usize, SrtpError>,
) -> Option<()> {
    let Peer {
        sealer,
        next_transport_cc,
        ..
    } = peer;
    let sealer = sealer.as_ref()?;
    for place in train.first..train.first + train.count {
        let planned = layout.planned(place);
        let packet = &burst[planned.packet];
        let (index, timestamp) = viewer.map(&packet.info);
        let numbers = (index, timestamp, viewer.ssrc);
        let (header, payload) = layout.parts(&planned, packet, numbers, next_transport_cc);
        let len = seal(sealer, index, header, payload, out).ok()?;
        out = &mut out[len..];
    }
    Some(())
}
