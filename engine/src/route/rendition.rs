//! A rendition as one shard serves it: the burst at hand, the store that NACKs are answered from,
//! and the viewers, swept viewer by viewer so that one viewer's keys stay in the cache for the
//! whole burst.

use crate::command::{IncomingCodec, RenditionSpec};
use crate::io::Tx;
use crate::limits::{AUDIO_STORE_PACKETS, MAX_BURST_PACKETS, VIDEO_STORE_PACKETS};
use crate::packet::header;
use crate::pool::{Packet, PacketInfo};
use crate::route::clock::{SenderClock, ntp_from_us};
use crate::route::keyframe::KeyframeRequests;
use crate::route::plan::{Layout, LayoutKey, Planned};
use crate::route::store::PacketStore;
use crate::route::train::Train;
use crate::route::viewer::Viewer;
use crate::shard::peer::Peer;

/// A larger jump in the source's index is no loss but a new beginning; passed on, it would throw
/// the viewers' roll-over counters out of step.
const MAX_INDEX_GAP: u64 = 10_000;

/// How long a publisher may take to its first sender report; browsers take a second or so.
const REPORT_PATIENCE_US: u64 = 3_000_000;

/// What a shard keeps of a rendition it has viewers of, or is the home of.
pub(crate) struct Rendition {
    pub(crate) spec: RenditionSpec,
    pub(crate) store: PacketStore,
    pub(crate) viewers: Vec<Viewer>,
    /// As the publisher last reported it.
    pub(crate) clock: Option<SenderClock>,
    /// Made from the arrival of the first packet, for publishers that send no reports.
    arrival_clock: Option<SenderClock>,
    pub(crate) keyframes: KeyframeRequests,
    layouts: Vec<Layout>,
    burst: Vec<Packet>,
    waiting: usize,
}

/// What a sweep did, for the counters.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) sends: u64,
    pub(crate) failed: u64,
}

impl Rendition {
    pub(crate) fn new(spec: RenditionSpec) -> Self {
        let size = if spec.video {
            VIDEO_STORE_PACKETS
        } else {
            AUDIO_STORE_PACKETS
        };
        Self {
            spec,
            store: PacketStore::new(size),
            viewers: Vec::new(),
            clock: None,
            arrival_clock: None,
            keyframes: KeyframeRequests::default(),
            layouts: Vec::new(),
            burst: Vec::with_capacity(MAX_BURST_PACKETS),
            waiting: 0,
        }
    }

    /// Adds a packet to the burst; `true` when the burst is full and must be sent first.
    pub(crate) fn push(&mut self, packet: Packet) -> bool {
        if self
            .store
            .highest()
            .is_some_and(|highest| packet.info.index > highest + MAX_INDEX_GAP)
        {
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
        if self.waiting > 0 {
            self.want_keyframe();
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
        let latest = self.store.highest().and_then(|index| self.store.get(index));
        latest.map_or(90_000, |packet| self.clock_rate(&packet.info))
    }

    /// Subscribes a viewer; returns its place. It waits for the next keyframe (video) or packet.
    pub(crate) fn add_viewer(&mut self, mut viewer: Viewer, key: LayoutKey) -> usize {
        viewer.layout = self.layout(key);
        viewer.waiting = true;
        self.waiting += 1;
        self.viewers.push(viewer);
        self.viewers.len() - 1
    }

    /// A viewer is ready for a picture.
    pub(crate) fn want_keyframe(&mut self) {
        if self.spec.video {
            self.keyframes.want();
        }
    }

    /// Ends a subscription. The last viewer takes its place: the caller must note that.
    pub(crate) fn remove_viewer(&mut self, place: usize) -> Viewer {
        let viewer = self.viewers.swap_remove(place);
        self.layouts[viewer.layout as usize].users -= 1;
        self.waiting -= usize::from(viewer.waiting);
        viewer
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
    pub(crate) fn fan_out<T: Tx>(&mut self, peers: &mut [Peer], tx: &mut T) -> Sent {
        let mut sent = Sent::default();
        if self.waiting > 0 {
            self.start_waiting(peers, tx, &mut sent);
        }
        let segmentation = tx.segmentation();
        let Self {
            layouts,
            viewers,
            burst,
            ..
        } = self;
        for layout in layouts.iter_mut().filter(|layout| layout.users > 0) {
            let may_pad = segmentation && layout.key.may_pad();
            layout.prepare(burst, may_pad);
        }
        for viewer in viewers {
            let layout = &mut layouts[viewer.layout as usize];
            let Some(peer) = peers.get_mut(viewer.peer as usize) else {
                continue;
            };
            if viewer.waiting {
                viewer.awaiting_keyframe += burst.len() as u64;
                continue;
            }
            let mut sweep = Sweep {
                layout,
                burst,
                viewer,
                peer,
                tx,
                sent: &mut sent,
            };
            sweep.all_trains();
        }
        burst.clear();
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
            let peer = peers.get(viewer.peer as usize);
            if !viewer.waiting || peer.is_none_or(|peer| peer.sealer.is_none()) {
                continue;
            }
            viewer.start(&first, clock_rate);
            self.waiting -= 1;
            for packet in &ahead {
                self.send_one(place, packet, peers, tx, sent);
            }
        }
    }

    /// Sends one packet to one viewer, outside the sweep. With the same packet and viewer it makes
    /// the same bytes each time, unless the layout has transport-wide numbers.
    pub(crate) fn send_one<T: Tx>(
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
        let mut layout = SinglePlan::of(&self.layouts[viewer.layout as usize].key, packet);
        let Some(layout) = layout.as_mut() else {
            viewer.codec_mismatch += 1;
            return;
        };
        let burst = std::slice::from_ref(packet);
        Sweep {
            layout: &mut layout.0,
            burst,
            viewer,
            peer,
            tx,
            sent,
        }
        .all_trains();
    }

    /// Sends a packet again as RFC 4588 has it, under this SSRC and index; `None` if the viewer
    /// did not negotiate that.
    pub(crate) fn send_rtx<T: Tx>(
        &mut self,
        place: usize,
        packet: &Packet,
        (ssrc, index): (u32, u64),
        peers: &mut [Peer],
        tx: &mut T,
        sent: &mut Sent,
    ) -> Option<()> {
        let viewer = &self.viewers[place];
        let peer = peers.get_mut(viewer.peer as usize)?;
        let mut buffer = [0; header::MAX_TEMPLATE_BYTES];
        let template = self
            .layout_key(viewer)
            .build_rtx_header(packet, &mut buffer)?;
        let head = &mut buffer[..template.len];
        let (original, timestamp) = viewer.map(&packet.info);
        header::patch(head, index as u16, timestamp, ssrc);
        if let Some(offset) = template.transport_cc_offset {
            header::patch_transport_cc(head, offset, peer.next_transport_cc);
            peer.next_transport_cc = peer.next_transport_cc.wrapping_add(1);
        }
        let original = (original as u16).to_be_bytes();
        let parts = [&original[..], packet.payload()];
        let out = tx.reserve(head.len() + 2 + packet.payload().len() + peer.overhead());
        match peer.sealer.as_ref()?.seal_parts(index, head, &parts, out) {
            Ok(len) => {
                tx.commit(peer.address, len, None);
                sent.packets += 1;
                sent.sends += 1;
            }
            Err(_) => sent.failed += 1,
        }
        Some(())
    }
}

/// A plan for a burst of one.
struct SinglePlan(Layout);

impl SinglePlan {
    fn of(key: &LayoutKey, packet: &Packet) -> Option<Self> {
        let mut layout = Layout::new(key.clone(), 1);
        layout.prepare(std::slice::from_ref(packet), false);
        (!layout.trains().is_empty()).then_some(Self(layout))
    }
}

/// One viewer's turn in a burst.
struct Sweep<'a, T: Tx> {
    layout: &'a mut Layout,
    burst: &'a [Packet],
    viewer: &'a mut Viewer,
    peer: &'a mut Peer,
    tx: &'a mut T,
    sent: &'a mut Sent,
}

impl<T: Tx> Sweep<'_, T> {
    fn all_trains(&mut self) {
        let planned: usize = self.layout.trains().iter().map(|train| train.count).sum();
        self.viewer.codec_mismatch += (self.burst.len() - planned) as u64;
        let whole = self.viewer.wants(self.layout.lowest_index());
        for place in 0..self.layout.trains().len() {
            let train = self.layout.trains()[place];
            if whole {
                self.train(train);
            } else {
                self.singly(train);
            }
        }
    }

    /// The packets of a train back to back, as one send.
    fn train(&mut self, train: Train) {
        let overhead = self.peer.overhead();
        let mut stretch = self.tx.reserve(train.bytes() + train.count * overhead);
        let mut len = 0;
        for place in train.first..train.first + train.count {
            let planned = self.layout.planned(place);
            let packet = &self.burst[planned.packet];
            match seal(
                self.layout,
                &planned,
                packet,
                self.viewer,
                self.peer,
                stretch,
            ) {
                Some(sealed) => {
                    len += sealed;
                    stretch = &mut stretch[sealed..];
                }
                None => {
                    self.sent.failed += train.count as u64;
                    return;
                }
            }
        }
        let segment = (train.count > 1).then_some((train.segment_bytes + overhead) as u16);
        self.tx.commit(self.peer.address, len, segment);
        self.sent.packets += train.count as u64;
        self.sent.sends += 1;
    }

    /// Those packets of a train that belong to what the viewer receives now, one by one.
    fn singly(&mut self, train: Train) {
        for place in train.first..train.first + train.count {
            let planned = self.layout.planned(place);
            let packet = &self.burst[planned.packet];
            if !self.viewer.wants(packet.info.index) {
                continue;
            }
            let stretch = self.tx.reserve(planned.plain_len() + self.peer.overhead());
            match seal(
                self.layout,
                &planned,
                packet,
                self.viewer,
                self.peer,
                stretch,
            ) {
                Some(len) => {
                    self.tx.commit(self.peer.address, len, None);
                    self.sent.packets += 1;
                    self.sent.sends += 1;
                }
                None => self.sent.failed += 1,
            }
        }
    }
}

/// Seals one packet for one viewer into `out`; the sealed length.
fn seal(
    layout: &mut Layout,
    planned: &Planned,
    packet: &Packet,
    viewer: &mut Viewer,
    peer: &mut Peer,
    out: &mut [u8],
) -> Option<usize> {
    let (index, timestamp) = viewer.map(&packet.info);
    let numbers = (index, timestamp, viewer.ssrc);
    let (header, payload) = layout.parts(planned, packet, numbers, &mut peer.next_transport_cc);
    let len = peer
        .sealer
        .as_ref()?
        .seal(index, header, payload, out)
        .ok()?;
    viewer.sent(index, timestamp, &packet.info);
    peer.packets_sent += 1;
    peer.bytes_sent += len as u64;
    Some(len)
}
