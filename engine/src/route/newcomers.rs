//! Viewers who begin with a rendition: with the next keyframe, or at once with the latest, from the
//! frame cache.
//!
//! A keyframe that comes starts everybody who waits, and everybody who has not caught up with it.
//! Until then those who join are sent what came since the latest one, faster than it came (see
//! [`squeeze`](super::squeeze)), in slices of time between the bursts of the others, and at a total
//! rate that leaves the shard room for them. The publisher is asked for a keyframe only if there is
//! no cache, no room, or a long way to catch up.

use crate::io::Tx;
use crate::limits::{CATCH_UP_PACKETS_PER_SECOND, LONG_CATCH_UP_US, MAX_BURST_PACKETS};
use crate::packet::header;
use crate::pool::{Packet, PacketInfo};
use crate::route::rendition::Rendition;
use crate::route::single::Head;
use crate::route::squeeze::Squeeze;
use crate::route::sweep::{Sent, Sweep};
use crate::route::viewer::{Passed, Stage, Viewer};
use crate::shard::estimates::Estimates;
use crate::shard::peer::Peer;
use crate::transit::TransitTally;

/// What catching up takes of a link is reckoned over so long at least: less, its queue holds.
const CATCH_UP_BPS_OVER_US: u64 = 200_000;

/// A viewer who catches up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer {
    /// Its place in the rendition.
    place: usize,
    packets_per_second: u64,
}

/// Those of one rendition.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    list: Vec<Newcomer>,
    /// Where in the list the next slice begins.
    next: usize,
    /// What has come since the keyframe is copied here, a burst at a time.
    chunk: Vec<Packet>,
}

impl Newcomers {
    /// The viewer at this place is gone, and the one at `last` has taken its place.
    pub(super) fn removed(&mut self, place: usize, last: usize) {
        self.list.retain(|newcomer| newcomer.place != place);
        for newcomer in &mut self.list {
            if newcomer.place == last {
                newcomer.place = place;
            }
        }
    }
}

/// A slice of a shard's time for those who catch up.
pub(crate) struct Slice<'a, T: Tx> {
    pub(crate) now_us: u64,
    /// When it ends.
    pub(crate) until_us: u64,
    /// Packets a second to all who catch up on the shard.
    pub(crate) packets_per_second: u64,
    /// Whether anybody may begin so now.
    pub(crate) admits: bool,
    /// Viewers who began.
    pub(crate) joined: u64,
    pub(crate) peers: &'a mut [Peer],
    pub(crate) estimates: &'a mut Estimates,
    pub(crate) transit: &'a mut TransitTally,
    pub(crate) tx: &'a mut T,
    pub(crate) sent: &'a mut Sent,
}

impl Rendition {
    /// The viewer's peer can receive from now on.
    pub(crate) fn viewer_ready(&mut self, place: usize) {
        let waits = self.viewers[place].stage == Stage::Waiting;
        if self.spec.video && waits && self.store.cache_start().is_none() {
            self.keyframes.want();
        }
    }

    /// The viewer's peer can receive nothing from now on: it will start anew.
    pub(crate) fn suspend_viewer(&mut self, place: usize) {
        if self.viewers[place].stage != Stage::Withheld {
            self.set_stage(place, Stage::Waiting);
        }
    }

    /// The viewer asks for a keyframe: it cannot decode what it gets. A publisher is asked; from one
    /// that does not answer, the latest is all there is.
    pub(crate) fn keyframe_wanted(&mut self, place: usize) {
        match self.viewers[place].stage {
            Stage::Live if self.keyframes.unanswered() && self.store.cache_start().is_some() => {
                self.set_stage(place, Stage::Waiting);
            }
            // One is on its way.
            Stage::CatchingUp(_) => {}
            _ => self.keyframes.want(),
        }
    }

    /// Packets a second to those who catch up.
    pub(crate) fn catch_up_rate(&self) -> u64 {
        let list = self.newcomers.list.iter();
        list.map(|newcomer| newcomer.packets_per_second).sum()
    }

    /// Those who catch up.
    pub(crate) fn newcomers(&self) -> impl Iterator<Item = &Viewer> {
        let list = self.newcomers.list.iter();
        list.filter_map(|newcomer| self.viewers.get(newcomer.place))
    }

    /// Whether somebody catches up, or waits for want of a keyframe.
    pub(crate) fn has_newcomers(&self) -> bool {
        let waits = self.spec.video && self.waiting > 0;
        waits || !self.newcomers.list.is_empty()
    }

    /// Whether somebody waits who cannot begin with anything that is here.
    pub(crate) fn waits_for_keyframe(&self) -> bool {
        let waits = self.waiting > 0 && self.store.cache_start().is_none();
        self.spec.video && (waits || !self.changing.is_empty())
    }

    /// Lets viewers who wait, or have not caught up, begin with the first packet of the burst that
    /// can start them, and gives them what followed it but came earlier, out of order.
    pub(super) fn start_with_burst<T: Tx>(
        &mut self,
        peers: &mut [Peer],
        tx: &mut T,
        sent: &mut Sent,
    ) {
        let start = self.burst.iter().find(|packet| packet.info.keyframe_start);
        let Some(first) = start.map(|packet| packet.info) else {
            return;
        };
        let clock_rate = self.clock_rate(&first);
        let ahead: Vec<Packet> = self
            .store
            .from(first.index + 1)
            .filter(|kept| !self.burst.iter().any(|p| p.info.index == kept.info.index))
            .cloned()
            .collect();
        for place in 0..self.viewers.len() {
            let behind = match self.viewers[place].stage {
                Stage::Waiting => true,
                Stage::CatchingUp(next) => next <= first.index,
                Stage::Withheld | Stage::Crossing(_) | Stage::Live => false,
            };
            if !behind || !self.can_begin(place, &first, peers) {
                continue;
            }
            self.waiting -= usize::from(self.viewers[place].stage == Stage::Waiting);
            self.viewers[place].start(&first, clock_rate);
            for packet in &ahead {
                self.send_ahead(place, packet, peers, tx, sent);
            }
        }
    }

    fn can_begin(&self, place: usize, first: &PacketInfo, peers: &[Peer]) -> bool {
        let viewer = &self.viewers[place];
        let peer = peers.get(viewer.peer as usize);
        peer.is_some_and(|peer| peer.ready().is_some())
            && self.layouts[viewer.layout as usize].key.plays(first.codec)
    }

    /// Sends a packet that came before the one the viewer started with but follows it.
    fn send_ahead<T: Tx>(
        &mut self,
        place: usize,
        packet: &Packet,
        peers: &mut [Peer],
        tx: &mut T,
        sent: &mut Sent,
    ) {
        let viewer = &mut self.viewers[place];
        let Some(peer) = peers.get_mut(viewer.peer as usize) else {
            return;
        };
        let mut buffer = [0; header::MAX_TEMPLATE_BYTES];
        let key = &self.layouts[viewer.layout as usize].key;
        let Some(template) = key.build_header(packet, &mut buffer) else {
            viewer.codec_mismatch += 1;
            return;
        };
        let (index, timestamp) = viewer.map(&packet.info);
        let head = Head {
            bytes: &mut buffer,
            template,
            index,
            timestamp,
            ssrc: viewer.ssrc,
        };
        let done = match key.redundancy(packet) {
            Some(red) => head.send(&[red.headers(), red.blocks], peer, tx, sent),
            None => head.send(&[packet.payload()], peer, tx, sent),
        };
        if done.is_some() {
            viewer.sent(&Passed::one(&packet.info));
        }
    }

    /// Lets viewers who wait begin with the frame cache, and sends what is due to those who have.
    pub(crate) fn catch_up<T: Tx>(&mut self, slice: &mut Slice<'_, T>) {
        let viewers = &self.viewers;
        let behind = |newcomer: &Newcomer| {
            let viewer = viewers.get(newcomer.place);
            viewer.is_some_and(|viewer| matches!(viewer.stage, Stage::CatchingUp(_)))
        };
        self.newcomers.list.retain(behind);
        if self.waiting > 0 && slice.admits {
            self.begin_cached(slice);
        }
        let count = self.newcomers.list.len();
        for _ in 0..count {
            if slice.tx.now_us() >= slice.until_us {
                return;
            }
            let at = self.newcomers.next % count;
            self.newcomers.next = at + 1;
            self.send_cached(self.newcomers.list[at].place, slice);
        }
    }

    /// Lets as many of those who wait as there is room for begin with the frame cache.
    fn begin_cached<T: Tx>(&mut self, slice: &mut Slice<'_, T>) {
        let Some(first) = self.store.cache_start().map(|packet| packet.info) else {
            return;
        };
        let clock_rate = self.clock_rate(&first);
        let cached = self.store.from(first.index);
        let bytes: u64 = cached
            .map(|packet| u64::from(packet.info.payload_len))
            .sum();
        let squeeze = Squeeze::new(&first, clock_rate, slice.now_us, bytes);
        let takes_us = squeeze.takes_us();
        let catch_up_bps = bytes.saturating_mul(8_000_000) / takes_us.max(CATCH_UP_BPS_OVER_US);
        let packets = self.store.cached_packets();
        let packets_per_second = packets.saturating_mul(1_000_000) / takes_us.max(1_000_000);
        if takes_us > LONG_CATCH_UP_US {
            self.keyframes.wish(slice.now_us);
        }
        for place in 0..self.viewers.len() {
            if self.viewers[place].stage != Stage::Waiting
                || !self.can_begin(place, &first, slice.peers)
            {
                continue;
            }
            // A link that is known to carry less would be flooded: a keyframe is asked for instead,
            // unless none will come.
            let known_bps = slice.estimates.known_bps(self.viewers[place].peer);
            if known_bps.is_some_and(|bps| bps < catch_up_bps) && !self.keyframes.unanswered() {
                self.keyframes.want();
                continue;
            }
            if slice.packets_per_second + packets_per_second > CATCH_UP_PACKETS_PER_SECOND {
                self.keyframes.wish(slice.now_us);
                return;
            }
            slice.packets_per_second += packets_per_second;
            slice.joined += 1;
            self.viewers[place].start_cached(&first, squeeze, clock_rate, slice.now_us);
            self.waiting -= 1;
            self.newcomers.list.push(Newcomer {
                place,
                packets_per_second,
            });
        }
    }

    /// Sends a viewer what is due of the frame cache, up to a burst, and lets it go live when it
    /// has everything.
    fn send_cached<T: Tx>(&mut self, place: usize, slice: &mut Slice<'_, T>) {
        let viewer = &mut self.viewers[place];
        let Stage::CatchingUp(mut next) = viewer.stage else {
            return;
        };
        // What the burst at hand holds goes to the viewer with all others once it is live.
        let mut in_burst = self.burst.iter().map(|packet| packet.info.index);
        let beyond = self.store.highest().map_or(0, |highest| highest + 1);
        let end = in_burst.next().unwrap_or(beyond);
        let chunk = &mut self.newcomers.chunk;
        while next < end && chunk.len() < MAX_BURST_PACKETS {
            if let Some(packet) = self.store.get(next) {
                if viewer.due_us(packet.info.arrival_us) > slice.now_us {
                    break;
                }
                chunk.push(packet.clone());
            }
            next += 1;
        }
        viewer.stage = if next < end {
            Stage::CatchingUp(next)
        } else {
            Stage::Live
        };
        let peer = slice.peers.get(viewer.peer as usize);
        if let Some((destination, _)) = peer.and_then(Peer::ready) {
            let layout = &mut self.layouts[viewer.layout as usize];
            let least_train = slice.tx.least_train();
            let may_pad = least_train.is_some() && layout.key.may_pad();
            layout.prepare(chunk, may_pad, least_train.unwrap_or(usize::MAX));
            viewer.codec_mismatch += (chunk.len() - layout.planned_count()) as u64;
            let mut sweep = Sweep {
                burst: chunk,
                layouts: &mut self.layouts,
                peers: slice.peers,
                tx: slice.tx,
                transit: slice.transit,
                rendition_transit: &mut self.served.transit,
                sent: slice.sent,
                suspended: 0,
            };
            sweep.trains(viewer, destination);
        }
        chunk.clear();
    }
}
