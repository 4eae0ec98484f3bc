//! A rendition as one shard serves it: the burst at hand, the store that NACKs are answered from,
//! and the viewers.

use crate::command::{IncomingCodec, RenditionSpec};
use crate::ids::ShardId;
use crate::io::Tx;
use crate::limits::{AUDIO_STORE_PACKETS, MAX_BURST_PACKETS, STORE_AGE_US, VIDEO_STORE_PACKETS};
use crate::packet::header;
use crate::pool::{Packet, PacketInfo};
use crate::route::clock::{SenderClock, ntp_from_us};
use crate::route::gather::Gathering;
use crate::route::keyframe::KeyframeRequests;
use crate::route::plan::{Layout, LayoutKey};
use crate::route::single::Head;
use crate::route::store::PacketStore;
use crate::route::sweep::{Sent, Sweep};
use crate::route::viewer::{MAX_INDEX_GAP, Passed, Viewer};
use crate::shard::peer::Peer;
use crate::transit::TransitTally;

/// A loss that retransmission makes good, in 1/256.
const LITTLE_LOST: u8 = 12;

/// How long a publisher may take to its first sender report; browsers take a second or so.
const REPORT_PATIENCE_US: u64 = 3_000_000;

/// What a shard keeps of a rendition it has viewers of, or is the home of.
pub(crate) struct Rendition {
    pub(crate) spec: RenditionSpec,
    pub(crate) store: PacketStore,
    pub(crate) viewers: Vec<Viewer>,
    /// At its home: other shards that have viewers of it.
    pub(crate) exports: Vec<ShardId>,
    /// As the publisher last reported it.
    pub(crate) clock: Option<SenderClock>,
    /// Made from the arrival of the first packet, for publishers that send no reports.
    arrival_clock: Option<SenderClock>,
    pub(crate) keyframes: KeyframeRequests,
    /// Position in the list of the codec that came last.
    codec: u8,
    layouts: Vec<Layout>,
    /// It is on its shard's list of renditions with a burst.
    pub(crate) pending: bool,
    burst: Vec<Packet>,
    /// Since when the first packet of the burst waits for this shard.
    waiting_since_us: u64,
    gathering: Gathering,
    /// Viewers that receive nothing before the next keyframe.
    waiting: usize,
    /// Of those, the ones that video is withheld from.
    shed: usize,
}

impl Rendition {
    /// A rendition whose bursts wait for at most `wait_us` to grow.
    pub(crate) fn new(spec: RenditionSpec, wait_us: u64) -> Self {
        let size = if spec.video {
            VIDEO_STORE_PACKETS
        } else {
            AUDIO_STORE_PACKETS
        };
        Self {
            spec,
            store: PacketStore::new(size),
            viewers: Vec::new(),
            exports: Vec::new(),
            clock: None,
            arrival_clock: None,
            keyframes: KeyframeRequests::default(),
            codec: 0,
            layouts: Vec::new(),
            pending: false,
            burst: Vec::with_capacity(MAX_BURST_PACKETS),
            waiting_since_us: 0,
            gathering: Gathering::new(wait_us),
            waiting: 0,
            shed: 0,
        }
    }

    /// Whether the source began anew with this packet. What is in the burst must be sent before it
    /// is added: no burst spans two numberings.
    pub(crate) fn begins_anew(&self, packet: &Packet) -> bool {
        let highest = self.store.highest();
        highest.is_some_and(|highest| packet.info.index > highest + MAX_INDEX_GAP)
    }

    /// Adds a packet, which waits for this shard since `since_us`, to the burst; `true` when the
    /// burst is full and must be sent now.
    pub(crate) fn push(&mut self, packet: Packet, since_us: u64) -> bool {
        if self.begins_anew(&packet) {
            self.restart_viewers();
        }
        if packet.info.keyframe_start {
            self.keyframes.satisfied();
        }
        self.arrival_clock.get_or_insert(SenderClock {
            ntp: ntp_from_us(packet.info.arrival_us),
            rtp: packet.info.timestamp,
            at_us: packet.info.arrival_us,
        });
        let late = self
            .store
            .highest()
            .is_some_and(|highest| packet.info.index < highest);
        let ends_frame = self.spec.video && packet.info.marker;
        let first = self.burst.is_empty();
        if first {
            self.waiting_since_us = since_us;
        }
        self.gathering
            .joins(&packet.info, first, ends_frame || late);
        self.codec = packet.info.codec;
        self.expire_packets(packet.info.arrival_us);
        self.store.insert(packet.clone());
        self.burst.push(packet);
        self.burst.len() >= MAX_BURST_PACKETS
    }

    /// The source began anew under other numbers: so does every viewer's mapping.
    fn restart_viewers(&mut self) {
        for viewer in &mut self.viewers {
            viewer.waiting = true;
        }
        self.clock = None;
        self.arrival_clock = None;
        self.waiting = self.viewers.len();
        if self.spec.video && self.waiting > 0 {
            self.keyframes.want();
        }
    }

    /// The clock that viewers are told: the publisher's, or after some time without a report of
    /// it our own.
    pub(crate) fn sender_clock(&self, now_us: u64) -> Option<SenderClock> {
        let patience = |clock: &SenderClock| now_us > clock.at_us + REPORT_PATIENCE_US;
        self.clock.or(self.arrival_clock.filter(patience))
    }

    pub(crate) fn has_burst(&self) -> bool {
        !self.burst.is_empty()
    }

    /// The packets that are to be sent next.
    pub(crate) fn burst(&self) -> &[Packet] {
        &self.burst
    }

    /// Since when the first of them waits for this shard.
    pub(crate) fn waiting_since_us(&self) -> u64 {
        self.waiting_since_us
    }

    /// When they are to be sent; in the past: now.
    pub(crate) fn due_us(&self) -> u64 {
        self.gathering.due_us()
    }

    /// The format at this position of the rendition's list.
    pub(crate) fn codec(&self, position: u8) -> Option<&IncomingCodec> {
        self.spec.codecs.get(usize::from(position))
    }

    fn clock_rate(&self, info: &PacketInfo) -> u32 {
        self.codec(info.codec)
            .map_or(90_000, |codec| codec.clock_rate)
    }

    /// RTP clock rate of the packets that come now, in Hz.
    pub(crate) fn current_clock_rate(&self) -> u32 {
        self.codec(self.codec)
            .map_or(90_000, |codec| codec.clock_rate)
    }

    /// Lets go of packets that came too long ago to be asked for.
    pub(crate) fn expire_packets(&mut self, now_us: u64) {
        self.store.expire(now_us.saturating_sub(STORE_AGE_US));
    }

    /// Subscribes a viewer; returns its place. It waits for the next keyframe (video) or packet
    /// after its peer is `ready`; with `withhold`, until it is let have video.
    pub(crate) fn add_viewer(
        &mut self,
        mut viewer: Viewer,
        key: LayoutKey,
        ready: bool,
        withhold: bool,
    ) -> usize {
        viewer.layout = self.layout(key);
        viewer.waiting = true;
        viewer.shed = withhold && self.spec.video;
        self.waiting += 1;
        self.shed += usize::from(viewer.shed);
        self.viewers.push(viewer);
        let place = self.viewers.len() - 1;
        if ready {
            self.viewer_ready(place);
        }
        place
    }

    /// The viewer's peer can receive from now on.
    pub(crate) fn viewer_ready(&mut self, place: usize) {
        let viewer = &self.viewers[place];
        if self.spec.video && viewer.waiting && !viewer.shed {
            self.keyframes.want();
        }
    }

    /// The viewer's peer can receive nothing from now on: it will start anew.
    pub(crate) fn suspend_viewer(&mut self, place: usize) {
        let viewer = &mut self.viewers[place];
        self.waiting += usize::from(!viewer.waiting);
        viewer.waiting = true;
    }

    /// Ends a subscription. The last viewer takes its place: the caller must note that.
    pub(crate) fn remove_viewer(&mut self, place: usize) -> Viewer {
        let mut viewer = self.viewers.swap_remove(place);
        self.layouts[viewer.layout as usize].users -= 1;
        self.waiting -= usize::from(viewer.waiting);
        self.shed -= usize::from(viewer.shed);
        viewer.shed = false;
        viewer
    }

    /// Tracks that video is withheld from.
    pub(crate) fn viewers_shed(&self) -> usize {
        self.shed
    }

    /// Withholds video from a share of the viewers that receive it: from those first who lose most
    /// of it anyway, then from those who came last.
    pub(crate) fn shed(&mut self, share: f64) {
        if !self.spec.video {
            return;
        }
        let receiving = self.viewers.len() - self.waiting;
        let mut left = (receiving as f64 * share).ceil() as usize;
        let mut losing = [0usize; 256];
        let receiving = self.viewers.iter().filter(|viewer| !viewer.waiting);
        receiving.for_each(|viewer| losing[usize::from(viewer.fraction_lost)] += 1);
        for fraction_lost in (0..=u8::MAX).rev() {
            if losing[usize::from(fraction_lost)] == 0 {
                continue;
            }
            let viewers = self.viewers.iter_mut().rev();
            let chosen = viewers.filter(|v| !v.waiting && v.fraction_lost == fraction_lost);
            for viewer in chosen.take(left) {
                viewer.waiting = true;
                viewer.shed = true;
                self.waiting += 1;
                self.shed += 1;
                left -= 1;
            }
            if left == 0 {
                return;
            }
        }
    }

    /// Lets a share of all viewers, of those that video is withheld from, have it again with the next
    /// keyframe, which is asked for: those first who lost little.
    pub(crate) fn admit(&mut self, share: f64) {
        if self.shed == 0 {
            return;
        }
        let mut left = (self.viewers.len() as f64 * share).ceil() as usize;
        for fraction_lost in [LITTLE_LOST, u8::MAX] {
            let shed = self.viewers.iter_mut().filter(|viewer| viewer.shed);
            let chosen = shed.filter(|viewer| viewer.fraction_lost <= fraction_lost);
            for viewer in chosen.take(left) {
                viewer.shed = false;
                self.shed -= 1;
                left -= 1;
            }
        }
        self.keyframes.want();
    }

    fn layout_key(&self, viewer: &Viewer) -> &LayoutKey {
        &self.layouts[viewer.layout as usize].key
    }

    fn layout(&mut self, key: LayoutKey) -> u32 {
        let place = self
            .layouts
            .iter()
            .position(|layout| layout.key == key)
            .or_else(|| {
                let free = self.layouts.iter().position(|layout| layout.users == 0)?;
                self.layouts[free] = Layout::new(key.clone(), MAX_BURST_PACKETS);
                Some(free)
            })
            .unwrap_or_else(|| {
                self.layouts.push(Layout::new(key, MAX_BURST_PACKETS));
                self.layouts.len() - 1
            });
        self.layouts[place].users += 1;
        place as u32
    }

    /// Sends the burst to every viewer and forgets it.
    pub(crate) fn fan_out<T: Tx>(
        &mut self,
        peers: &mut [Peer],
        transit: &mut TransitTally,
        tx: &mut T,
    ) -> Sent {
        let mut sent = Sent::default();
        if self.waiting > self.shed {
            self.start_waiting(peers, tx, &mut sent);
        }
        let least_train = tx.least_train();
        for layout in self.layouts.iter_mut().filter(|layout| layout.users > 0) {
            let may_pad = least_train.is_some() && layout.key.may_pad();
            layout.prepare(&self.burst, may_pad, least_train.unwrap_or(usize::MAX));
        }
        let mut sweep = Sweep {
            burst: &self.burst,
            layouts: &mut self.layouts,
            peers,
            tx,
            transit,
            sent: &mut sent,
            suspended: 0,
        };
        sweep.all(&mut self.viewers);
        let suspended = sweep.suspended;
        self.burst.clear();
        self.waiting += suspended;
        if suspended > 0 && self.spec.video {
            self.keyframes.want();
        }
        sent
    }

    /// Lets waiting viewers that have their keys begin with the first packet of the burst that can
    /// start them, and gives them what followed it but came earlier, out of order.
    fn start_waiting<T: Tx>(&mut self, peers: &mut [Peer], tx: &mut T, sent: &mut Sent) {
        let start = self.burst.iter().find(|packet| packet.info.keyframe_start);
        let Some(first) = start.map(|packet| packet.info) else {
            return;
        };
        let clock_rate = self.clock_rate(&first);
        let ahead: Vec<Packet> = self
            .store
            .after(first.index)
            .filter(|kept| !self.burst.iter().any(|p| p.info.index == kept.info.index))
            .cloned()
            .collect();
        for place in 0..self.viewers.len() {
            let viewer = &mut self.viewers[place];
            let ready = peers
                .get(viewer.peer as usize)
                .is_some_and(|peer| peer.ready().is_some());
            let plays = self.layouts[viewer.layout as usize].key.plays(first.codec);
            if !(viewer.waiting && !viewer.shed && ready && plays) {
                continue;
            }
            viewer.start(&first, clock_rate);
            self.waiting -= 1;
            for packet in &ahead {
                self.send_ahead(place, packet, peers, tx, sent);
            }
        }
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
        if head.send(&[packet.payload()], peer, tx, sent).is_some() {
            viewer.sent(&Passed::one(&packet.info));
        }
    }

    /// The packet with this index, if it is still kept and the viewer at that place may have it
    /// again.
    pub(crate) fn kept_for(&self, place: usize, index: u64) -> Option<Packet> {
        let packet = self.store.get(index)?;
        let key = self.layout_key(&self.viewers[place]);
        key.resends(packet.info.codec).then(|| packet.clone())
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
            head.send(&[packet.payload()], peer, tx, sent);
        }
    }
}
