//! A shard's tables, and the few operations that everything else is made of: looking things up,
//! passing packets on, telling events, counting.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::counters::{DropReason, Drops};
use crate::event::Event;
use crate::forwarding::Forwarding;
use crate::ids::{OutgoingTrackId, ProducerId, RenditionId, ShardId, TransportId};
use crate::io::Tx;
use crate::limits::{
    EVENT_BACKLOG, POOL_SLOTS_PREPARED, RESENDS_PER_SECOND, RESENDS_PER_TURN,
    STRANGE_STUN_PER_SECOND,
};
use crate::pool::Packet;
use crate::route::budget::Budget;
use crate::route::rendition::Rendition;
use crate::route::source::Source;
use crate::route::sweep::Sent;
use crate::shard::estimates::Estimates;
use crate::shard::links::{Links, Message};
use crate::shard::outgoing::{Attachment, OutgoingTrack};
use crate::shard::overload::{Decision, Overload};
use crate::shard::peer::Peer;
use crate::shard::produced::ProducerEntry;
use crate::shard::table::Table;
use crate::shard::transport::Transport;
use crate::transit::TransitTally;

/// Where a rendition's source is on its home shard.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SourcePlace {
    /// An encoding of what a peer shares.
    Transport {
        transport: u32,
        track: usize,
        encoding: usize,
    },
    /// A track of a producer.
    Producer { producer: u32, track: usize },
}

/// Everything a shard owns but its network.
pub(crate) struct Core {
    pub(crate) now_us: u64,
    pub(crate) links: Links,
    pub(crate) forwarding: Forwarding,
    pub(crate) transports: Table<TransportId, Transport>,
    /// The media path's part of each transport, at the same place.
    pub(crate) peers: Vec<Peer>,
    pub(crate) by_address: HashMap<SocketAddr, u32>,
    pub(crate) by_ufrag: HashMap<String, u32>,
    pub(crate) renditions: Table<RenditionId, Rendition>,
    pub(crate) sources: HashMap<RenditionId, SourcePlace>,
    pub(crate) producers: Table<ProducerId, ProducerEntry>,
    pub(crate) outgoing: Table<OutgoingTrackId, OutgoingTrack>,
    /// The bandwidth of viewers of tracks with several encodings.
    pub(crate) estimates: Estimates,
    /// Renditions with a burst to send, now or when it has grown.
    pub(crate) pending: Vec<u32>,
    /// Renditions whose taps were given something in this turn.
    pub(crate) tapped: Vec<u32>,
    /// Renditions with viewers who wait for something to begin with, or catch up.
    pub(crate) newcomers: Vec<u32>,
    pub(crate) catch_up_due_us: u64,
    /// Transports that publish.
    pub(crate) publishers: Vec<u32>,
    pub(crate) drops: Drops,
    pub(crate) tally: Tally,
    pub(crate) round: u64,
    /// What strangers may hand to the control plane.
    pub(crate) strange_stun: Budget,
    /// What may be sent again now, to all viewers together.
    pub(crate) resends: Budget,
    pub(crate) overload: Overload,
    pub(crate) transit: TransitTally,
    /// Something was done since the counters were last published.
    pub(crate) unpublished: bool,
    backlog: VecDeque<Event>,
    random: u64,
}

/// A shard's plain counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) datagrams_received: u64,
    pub(crate) packets_routed: u64,
    pub(crate) packets_sent: u64,
    pub(crate) sends: u64,
    pub(crate) packets_padded: u64,
    pub(crate) padding_bytes: u64,
    pub(crate) checks_answered: u64,
    pub(crate) viewers_shed: u64,
    pub(crate) lag_us: u64,
    pub(crate) joins_from_cache: u64,
    pub(crate) caches_dropped: u64,
}

impl Core {
    pub(crate) fn new(links: Links, forwarding: Forwarding) -> Self {
        links.pool.prepare(POOL_SLOTS_PREPARED);
        Self {
            now_us: 0,
            links,
            forwarding,
            transports: Table::new(),
            peers: Vec::new(),
            by_address: HashMap::new(),
            by_ufrag: HashMap::new(),
            renditions: Table::new(),
            sources: HashMap::new(),
            producers: Table::new(),
            outgoing: Table::new(),
            estimates: Estimates::default(),
            pending: Vec::new(),
            tapped: Vec::new(),
            newcomers: Vec::new(),
            catch_up_due_us: 0,
            publishers: Vec::new(),
            drops: Drops::default(),
            tally: Tally::default(),
            round: 0,
            strange_stun: Budget::new(STRANGE_STUN_PER_SECOND, STRANGE_STUN_PER_SECOND),
            resends: Budget::new(RESENDS_PER_SECOND, RESENDS_PER_TURN),
            overload: Overload::new(forwarding.max_lag_us),
            transit: TransitTally::default(),
            unpublished: true,
            backlog: VecDeque::new(),
            random: forwarding.seed,
        }
    }

    pub(crate) fn count(&mut self, reason: DropReason) {
        self.drops.count(reason);
    }

    /// Counts a drop against a peer as well.
    pub(crate) fn count_for(&mut self, transport: u32, reason: DropReason) {
        self.drops.count(reason);
        if let Some(transport) = self.transports.get_mut(transport) {
            transport.dropped += 1;
        }
    }

    /// A number that differs from call to call (SplitMix64); not for secrets.
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn source_mut(&mut self, rendition: &RenditionId) -> Option<&mut Source> {
        match *self.sources.get(rendition)? {
            SourcePlace::Transport {
                transport,
                track,
                encoding,
            } => {
                let transport = self.transports.get_mut(transport)?;
                let track = transport.tracks.get_mut(track)?;
                track.sources.get_mut(encoding)
            }
            SourcePlace::Producer { producer, track } => {
                self.producers.get_mut(producer)?.sources.get_mut(track)
            }
        }
    }

    /// Sets where a peer's media goes, or that it goes nowhere.
    pub(crate) fn set_destination(&mut self, place: u32, destination: Option<SocketAddr>) {
        let was_ready = self.is_ready(place);
        if let Some(peer) = self.peers.get_mut(place as usize) {
            peer.destination = destination;
        }
        self.note_readiness(place, was_ready);
    }

    pub(crate) fn is_ready(&self, place: u32) -> bool {
        let peer = self.peers.get(place as usize);
        peer.is_some_and(|peer| peer.ready().is_some())
    }

    /// Lets the renditions know when a peer can receive from now on, or no more.
    pub(crate) fn note_readiness(&mut self, place: u32, was_ready: bool) {
        let ready = self.is_ready(place);
        let Some(transport) = self.transports.get(place).filter(|_| ready != was_ready) else {
            return;
        };
        for track in &transport.outgoing {
            let attachment = self.outgoing.get(*track).map(|track| &track.attachment);
            let Some(Attachment::Attached { rendition, place }) = attachment else {
                continue;
            };
            match self.renditions.get_mut(*rendition) {
                Some(rendition) if ready => rendition.viewer_ready(*place),
                Some(rendition) => rendition.suspend_viewer(*place),
                None => {}
            }
        }
    }

    /// Adds a packet, which waits for this shard since `since_us`, to its rendition's burst.
    pub(crate) fn route<T: Tx>(&mut self, place: u32, packet: Packet, since_us: u64, tx: &mut T) {
        let Some(rendition) = self.renditions.get(place) else {
            return;
        };
        if rendition.has_burst() && rendition.begins_anew(&packet) {
            self.export_burst(place, tx.now_us());
            self.send_burst(place, tx);
        }
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        if !std::mem::replace(&mut rendition.pending, true) {
            self.pending.push(place);
        }
        if rendition.push(packet, since_us) {
            self.export_burst(place, tx.now_us());
            self.send_burst(place, tx);
        }
    }

    /// Sends every burst that is due: first to the other shards, which then work at the same time
    /// as this one, and audio before video, which takes longer.
    pub(crate) fn fan_out<T: Tx>(&mut self, tx: &mut T) {
        // Without trains there is nothing to wait for.
        let waits = tx.least_train().is_some();
        let due = |core: &Self, position: usize| {
            let place = core.pending[position];
            let rendition = core.renditions.get(place)?;
            let due = rendition.has_burst() && (rendition.due_us() <= core.now_us || !waits);
            due.then_some((place, rendition.spec.video))
        };
        for position in 0..self.pending.len() {
            if let Some((place, _)) = due(self, position) {
                self.export_burst(place, tx.now_us());
            }
        }
        self.links.wake_others();
        for video in [false, true] {
            for position in 0..self.pending.len() {
                if let Some((place, kind)) = due(self, position)
                    && kind == video
                {
                    self.send_burst(place, tx);
                }
            }
        }
        let renditions = &mut self.renditions;
        self.pending.retain(|place| {
            let Some(rendition) = renditions.get_mut(*place) else {
                return false;
            };
            rendition.pending = rendition.has_burst();
            rendition.pending
        });
    }

    /// When the next burst is due that waits to grow; `None` when none does.
    pub(crate) fn next_burst_us(&self) -> Option<u64> {
        let pending = self.pending.iter();
        let renditions = pending.filter_map(|place| self.renditions.get(*place));
        renditions.map(Rendition::due_us).min()
    }

    /// Passes a burst on to the other shards that serve its rendition, and to its taps.
    pub(super) fn export_burst(&mut self, place: u32, now_us: u64) {
        let Some(rendition) = self.renditions.get(place) else {
            return;
        };
        for shard in &rendition.exports {
            for packet in rendition.burst() {
                let message = Message::Packet {
                    rendition: rendition.spec.id,
                    packet: packet.clone(),
                    handed_over_us: now_us,
                };
                if !self.links.tell_shard(*shard, message) {
                    self.drops.count(DropReason::ShardRingFull);
                }
            }
        }
        if !rendition.taps.is_empty() {
            self.feed_taps(place);
        }
    }

    /// Sends a burst to the viewers on this shard.
    pub(super) fn send_burst<T: Tx>(&mut self, place: u32, tx: &mut T) {
        if self
            .renditions
            .get(place)
            .is_some_and(Rendition::lets_change)
        {
            self.change_over(place);
        }
        if self
            .renditions
            .get(place)
            .is_some_and(|rendition| !rendition.leaving.is_empty())
        {
            self.let_leave(place);
        }
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        if rendition.spec.video {
            let since_us = rendition.waiting_since_us();
            let now_us = tx.now_us();
            self.overload.note(now_us.saturating_sub(since_us), now_us);
        }
        let sent = rendition.fan_out(&mut self.peers, &mut self.transit, tx);
        if rendition.spec.alternative_of.is_some() {
            self.note_burst(place, tx.now_us());
        }
        self.note_sent(sent);
        self.mind_overload(tx.now_us());
    }

    /// Withholds video from viewers when the shard cannot keep up, or lets them have it again.
    pub(crate) fn mind_overload(&mut self, now_us: u64) {
        let Some((decision, lag_us)) = self.overload.judge(now_us) else {
            return;
        };
        self.tally.lag_us = lag_us;
        let (share, withhold) = match decision {
            Decision::Keep => return,
            Decision::Shed(share) => (share, true),
            Decision::Admit(share) => (share, false),
        };
        let mut without = 0;
        for place in 0..self.renditions.end() {
            if let Some(rendition) = self.renditions.get_mut(place) {
                if withhold {
                    rendition.shed(share);
                } else {
                    rendition.admit(share);
                }
                without += rendition.viewers_shed();
            }
        }
        if without == 0 {
            self.overload.all_admitted();
        }
        self.tally.viewers_shed = without as u64;
        let event = Event::VideoWithheld(self.links.id, without as u32);
        if withhold || without == 0 {
            // The counter tells it too.
            let _ = self.tell(event);
        }
    }

    pub(crate) fn note_sent(&mut self, sent: Sent) {
        self.tally.packets_sent += sent.packets;
        self.tally.sends += sent.sends;
        self.tally.packets_padded += sent.packets_padded;
        self.tally.padding_bytes += sent.padding_bytes;
        self.drops.add(DropReason::SealFailed, sent.failed);
        self.drops.add(DropReason::Overload, sent.shed);
    }

    /// Passes a message to another shard; a full ring loses it.
    pub(crate) fn tell_shard(&mut self, shard: ShardId, message: Message) {
        if !self.links.tell_shard(shard, message) {
            self.drops.count(DropReason::ShardRingFull);
        }
    }

    /// Tells the control plane something it must not miss: kept back while its ring is full.
    /// `false` when even that cannot be: the caller has to tell it again later.
    #[must_use]
    pub(crate) fn tell(&mut self, event: Event) -> bool {
        let room = self.backlog.len() < EVENT_BACKLOG;
        if room {
            self.backlog.push_back(event);
        } else {
            self.drops.count(DropReason::EventRingFull);
        }
        self.flush_events();
        room
    }

    /// Tells something after which nothing is told any more: there is always room for one.
    pub(crate) fn tell_last(&mut self, event: Event) {
        self.backlog.push_back(event);
    }

    /// Tells a state change that a peer can make as often as it likes; `false` when it has made too
    /// many, or as [`tell`](Self::tell).
    #[must_use]
    pub(crate) fn tell_for(&mut self, place: u32, event: Event) -> bool {
        let now_us = self.now_us;
        let transport = self.transports.get_mut(place);
        transport.is_some_and(|transport| transport.news.take(now_us)) && self.tell(event)
    }

    /// Tells the control plane something that will be said again if it is lost.
    pub(crate) fn tell_or_drop(&mut self, event: Event) {
        match self.links.events.push(event) {
            Ok(()) => self.links.events_waker.wake(),
            Err(_) => self.drops.count(DropReason::EventRingFull),
        }
    }

    /// Moves kept-back events into the ring as far as there is room; `true` when none is left.
    pub(crate) fn flush_events(&mut self) -> bool {
        let mut moved = false;
        while let Some(event) = self.backlog.pop_front() {
            match self.links.events.push(event) {
                Ok(()) => moved = true,
                Err(rtrb::PushError::Full(event)) => {
                    self.backlog.push_front(event);
                    break;
                }
            }
        }
        if moved {
            self.links.events_waker.wake();
        }
        self.backlog.is_empty()
    }

    /// Something is left to do that no datagram announces.
    pub(crate) fn has_work_waiting(&self) -> bool {
        self.links.commands.slots() > 0
            || self.links.produced.is_announced()
            || self.links.inboxes.iter().any(|ring| ring.slots() > 0)
    }

    /// Periodic work exists, so the loop must not sleep without end.
    pub(crate) fn has_timers(&self) -> bool {
        self.unpublished
            || self.transports.len() > 0
            || self.renditions.len() > 0
            || self.producers.len() > 0
            || !self.backlog.is_empty()
    }

    /// Copies the shard's counts to where the control plane reads them.
    pub(crate) fn publish(&mut self) {
        self.unpublished = false;
        let to = &self.links.counters;
        to.datagrams_received.set(self.tally.datagrams_received);
        to.packets_routed.set(self.tally.packets_routed);
        to.packets_sent.set(self.tally.packets_sent);
        to.sends.set(self.tally.sends);
        to.packets_padded.set(self.tally.packets_padded);
        to.padding_bytes.set(self.tally.padding_bytes);
        to.checks_answered.set(self.tally.checks_answered);
        to.transports.set(self.transports.len() as u64);
        to.ufrags.set(self.by_ufrag.len() as u64);
        to.addresses.set(self.by_address.len() as u64);
        to.sources.set(self.sources.len() as u64);
        to.renditions.set(self.renditions.len() as u64);
        to.producers.set(self.producers.len() as u64);
        to.outgoing_tracks.set(self.outgoing.len() as u64);
        to.viewers_shed.set(self.tally.viewers_shed);
        to.lag_us.set(self.tally.lag_us);
        to.joins_from_cache.set(self.tally.joins_from_cache);
        to.caches_dropped.set(self.tally.caches_dropped);
        self.transit.publish(&to.transit);
        to.slots_in_use.set(self.links.pool.in_use() as u64);
        to.slots_tapped.set(self.links.pool.tapped() as u64);
        self.drops.publish(to);
    }
}
