//! A rendition as one shard serves it: the burst at hand, the store that NACKs are answered from,
//! and the viewers.

use crate::command::{IncomingCodec, RenditionSpec};
use crate::forwarding::Forwarding;
use crate::ids::ShardId;
use crate::io::Tx;
use crate::limits::{AUDIO_STORE_PACKETS, MAX_BURST_PACKETS, STORE_AGE_US, VIDEO_STORE_PACKETS};
use crate::pool::{Packet, PacketInfo};
use crate::route::clock::{SenderClock, ntp_from_us};
use crate::route::derived::LayerRendition;
use crate::route::gather::Gathering;
use crate::route::keyframe::KeyframeRequests;
use crate::route::newcomers::Newcomers;
use crate::route::plan::{Layout, LayoutKey};
use crate::route::repair::LatestKeyframe;
use crate::route::served::Served;
use crate::route::store::PacketStore;
use crate::route::sweep::{Sent, Sweep};
use crate::route::viewer::{MAX_INDEX_GAP, Stage, Viewer};
use crate::shard::changes::Change;
use crate::shard::peer::Peer;
use crate::tap::TapFeed;
use crate::transit::TransitTally;

/// A loss that retransmission makes good, in 1/256.
const LITTLE_LOST: u8 = 12;

/// How long a publisher may take to its first sender report; browsers take a second or so.
pub(super) const REPORT_PATIENCE_US: u64 = 3_000_000;

/// What a shard keeps of a rendition it has viewers of, or is the home of.
pub(crate) struct Rendition {
    pub(crate) spec: RenditionSpec,
    pub(crate) store: PacketStore,
    pub(crate) viewers: Vec<Viewer>,
    /// Tracks that show another encoding until this one begins with a keyframe.
    pub(crate) changing: Vec<Change>,
    /// Tracks that show it until they can change to other layers of its encoding.
    pub(crate) leaving: Vec<u32>,
    /// At its home: the renditions that are made of its layers.
    pub(crate) layered: Vec<LayerRendition>,
    /// Highest place at the source of what was sent, if its viewers may change.
    pub(crate) sent_origin: u64,
    /// At its home: other shards that have viewers of it.
    pub(crate) exports: Vec<ShardId>,
    /// At its home: consumers in this process.
    pub(crate) taps: Vec<TapFeed>,
    /// It is on its shard's list of renditions whose taps are to be woken.
    pub(crate) tapped: bool,
    /// As the publisher last reported it.
    pub(crate) clock: Option<SenderClock>,
    /// Made from the arrival of the first packet, for publishers that send no reports.
    arrival_clock: Option<SenderClock>,
    pub(crate) keyframes: KeyframeRequests,
    pub(super) latest_keyframe: Option<LatestKeyframe>,
    /// What its viewers were sent, as far as it is not yet published.
    pub(crate) served: Served,
    /// Position in the list of the codec that came last.
    codec: u8,
    pub(super) layouts: Vec<Layout>,
    /// It is on its shard's list of renditions with a burst.
    pub(crate) pending: bool,
    pub(super) burst: Vec<Packet>,
    /// Since when the first packet of the burst waits for this shard.
    waiting_since_us: u64,
    gathering: Gathering,
    /// How long the frame cache may grow, in microseconds.
    max_cache_us: u64,
    pub(super) newcomers: Newcomers,
    /// Viewers that wait for something to begin with.
    pub(super) waiting: usize,
    /// Viewers that cross over to it.
    pub(super) crossing: usize,
    /// Viewers that video is withheld from.
    withheld: usize,
}

impl Rendition {
    /// A rendition without viewers.
    pub(crate) fn new(spec: RenditionSpec, forwarding: &Forwarding) -> Self {
        let size = if spec.video {
            VIDEO_STORE_PACKETS
        } else {
            AUDIO_STORE_PACKETS
        };
        let wait_us = forwarding.wait_us(spec.video);
        let caches = spec.video && forwarding.max_cache_us > 0;
        Self {
            spec,
            store: PacketStore::new(size, caches),
            viewers: Vec::new(),
            changing: Vec::new(),
            leaving: Vec::new(),
            layered: Vec::new(),
            sent_origin: 0,
            exports: Vec::new(),
            taps: Vec::new(),
            tapped: false,
            clock: None,
            arrival_clock: None,
            keyframes: KeyframeRequests::default(),
            latest_keyframe: None,
            served: Served::default(),
            codec: 0,
            layouts: Vec::new(),
            pending: false,
            burst: Vec::with_capacity(MAX_BURST_PACKETS),
            waiting_since_us: 0,
            gathering: Gathering::new(wait_us),
            max_cache_us: forwarding.max_cache_us,
            newcomers: Newcomers::default(),
            waiting: 0,
            crossing: 0,
            withheld: 0,
        }
    }

    /// At its home: whether anybody takes it or some of its layers, here or on another shard, or is to change
    /// to it.
    pub(crate) fn is_watched(&self) -> bool {
        let here = !self.viewers.is_empty() || !self.changing.is_empty();
        let of_its_layers = !self.layered.is_empty();
        here || of_its_layers || !self.exports.is_empty() || !self.taps.is_empty()
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
            self.keyframes.came(packet.info.arrival_us);
            self.latest_keyframe = LatestKeyframe::after(self.latest_keyframe, &packet.info);
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
        for place in 0..self.viewers.len() {
            self.suspend_viewer(place);
        }
        self.taps.iter_mut().for_each(TapFeed::tell_restart);
        self.store.drop_cache();
        self.latest_keyframe = None;
        self.clock = None;
        self.arrival_clock = None;
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

    pub(super) fn clock_rate(&self, info: &PacketInfo) -> u32 {
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
        let cache_before_us = now_us.saturating_sub(self.max_cache_us);
        self.store
            .expire(now_us.saturating_sub(STORE_AGE_US), cache_before_us);
    }

    /// What came since the latest keyframe, but for the burst at hand.
    pub(crate) fn cached(&self) -> Vec<Packet> {
        let Some(first) = self.store.cache_start() else {
            return Vec::new();
        };
        let in_burst = |packet: &&Packet| {
            let mut burst = self.burst.iter();
            burst.any(|other| other.info.index == packet.info.index)
        };
        let cached = self.store.from(first.info.index);
        cached.filter(|packet| !in_burst(packet)).cloned().collect()
    }

    /// Takes over what its home has cached, before the first packet from there.
    pub(crate) fn fill_cache(&mut self, packets: Vec<Packet>) {
        if self.store.highest().is_none() {
            // All that comes from now on lies above.
            let origins = packets.iter().map(|packet| packet.info.origin);
            self.sent_origin = origins.max().unwrap_or(0);
            packets
                .into_iter()
                .for_each(|packet| self.store.insert(packet));
            // Who changes to it cannot begin with that.
            if self.changing.is_empty() {
                self.keyframes.unwanted();
            }
        }
    }

    /// Forgets how a viewer caught up once nothing from then is sent again.
    pub(crate) fn forget_squeeze(&mut self, place: usize, now_us: u64) {
        let resent_as_was = !self.layout_key(&self.viewers[place]).may_pad();
        let kept_since_us = now_us.saturating_sub(2 * STORE_AGE_US);
        self.viewers[place].forget_squeeze(kept_since_us, resent_as_was);
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
        viewer.stage = Stage::Waiting;
        self.waiting += 1;
        self.viewers.push(viewer);
        let place = self.viewers.len() - 1;
        if withhold && self.spec.video {
            self.set_stage(place, Stage::Withheld);
        }
        if ready {
            self.viewer_ready(place);
        }
        place
    }

    /// Ends a subscription. The last viewer takes its place: the caller must note that.
    pub(crate) fn remove_viewer(&mut self, place: usize) -> Viewer {
        self.set_stage(place, Stage::Waiting);
        self.waiting -= 1;
        let viewer = self.viewers.swap_remove(place);
        self.newcomers.removed(place, self.viewers.len());
        self.layouts[viewer.layout as usize].users -= 1;
        viewer
    }

    /// Moves a viewer to a stage, and counts it there.
    pub(super) fn set_stage(&mut self, place: usize, stage: Stage) {
        let before = std::mem::replace(&mut self.viewers[place].stage, stage);
        self.waiting += usize::from(stage == Stage::Waiting);
        self.waiting -= usize::from(before == Stage::Waiting);
        self.crossing += usize::from(matches!(stage, Stage::Crossing(_)));
        self.crossing -= usize::from(matches!(before, Stage::Crossing(_)));
        self.withheld += usize::from(stage == Stage::Withheld);
        self.withheld -= usize::from(before == Stage::Withheld);
    }

    /// A viewer who was just attached waits for the packet with this place at the source, unless it has
    /// to begin anew.
    pub(crate) fn let_cross(&mut self, place: usize, origin: u64) {
        if self.viewers[place].stage == Stage::Waiting {
            self.set_stage(place, Stage::Crossing(origin));
        }
    }

    /// Those who wait for a packet of the burst go on with it; for whom it has passed, begin anew.
    fn end_crossings(&mut self) {
        for place in 0..self.viewers.len() {
            let Stage::Crossing(origin) = self.viewers[place].stage else {
                continue;
            };
            let found = self.burst.iter().find(|one| one.info.origin == origin);
            match found.map(|packet| packet.info) {
                Some(first) => {
                    self.crossing -= 1;
                    self.viewers[place].go_on(&first);
                }
                None if self.sent_origin > origin => self.set_stage(place, Stage::Waiting),
                None => {}
            }
        }
    }

    /// Tracks that video is withheld from.
    pub(crate) fn viewers_shed(&self) -> usize {
        self.withheld
    }

    /// Withholds video from a share of the viewers that receive it: from those first who lose most
    /// of it anyway, then from those who came last.
    pub(crate) fn shed(&mut self, share: f64) {
        if !self.spec.video {
            return;
        }
        let receiving = |viewer: &&Viewer| !viewer.stage.is_idle();
        let count = self.viewers.iter().filter(receiving).count();
        let mut left = (count as f64 * share).ceil() as usize;
        let mut losing = [0usize; 256];
        let viewers = self.viewers.iter().filter(receiving);
        viewers.for_each(|viewer| losing[usize::from(viewer.fraction_lost)] += 1);
        for fraction_lost in (0..=u8::MAX).rev() {
            if losing[usize::from(fraction_lost)] == 0 {
                continue;
            }
            for place in (0..self.viewers.len()).rev() {
                if left == 0 {
                    return;
                }
                let viewer = &self.viewers[place];
                if !viewer.stage.is_idle() && viewer.fraction_lost == fraction_lost {
                    self.set_stage(place, Stage::Withheld);
                    left -= 1;
                }
            }
        }
    }

    /// Lets a share of all viewers, of those that video is withheld from, have it again with the next
    /// keyframe, which is asked for: those first who lost little.
    pub(crate) fn admit(&mut self, share: f64) {
        if self.withheld == 0 {
            return;
        }
        let mut left = (self.viewers.len() as f64 * share).ceil() as usize;
        for fraction_lost in [LITTLE_LOST, u8::MAX] {
            for place in 0..self.viewers.len() {
                let viewer = &self.viewers[place];
                let chosen = viewer.stage == Stage::Withheld;
                if left > 0 && chosen && viewer.fraction_lost <= fraction_lost {
                    self.set_stage(place, Stage::Waiting);
                    left -= 1;
                }
            }
        }
        self.keyframes.want();
    }

    /// How a viewer is sent what there is.
    pub(crate) fn layout_of(&self, viewer: &Viewer) -> &Layout {
        &self.layouts[viewer.layout as usize]
    }

    pub(super) fn layout_key(&self, viewer: &Viewer) -> &LayoutKey {
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
        if self.spec.alternative_of.is_some() {
            let origins = self.burst.iter().map(|packet| packet.info.origin);
            self.sent_origin = origins.fold(self.sent_origin, u64::max);
        }
        if self.crossing > 0 {
            self.end_crossings();
        }
        if self.waiting > 0 || self.has_newcomers() {
            self.start_with_burst(peers, tx, &mut sent);
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
            rendition_transit: &mut self.served.transit,
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
}
