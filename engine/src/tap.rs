//! Taps: the packets of a rendition as they come in, for consumers without a network peer, such as a
//! recorder.
//!
//! [`Engine::add_tap`](crate::Engine::add_tap) gives a [`Tap`]: the consumer's end of a bounded
//! ring, whose other end (`TapFeed`) the rendition's home shard has. Each admitted packet crosses
//! once, as a pointer to its slot. A consumer that falls behind loses packets, which is counted; the
//! shard never waits for it, and never allocates for it. This module never touches the tables of a
//! shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::command::{IncomingCodec, RenditionSpec};
use crate::ids::RenditionId;
use crate::io::uring::Waker;
use crate::limits::{DEFAULT_TAP_PACKETS, MAX_BURST_PACKETS, MAX_TAP_PACKETS, MAX_TAPS_PER_SHARD};
use crate::pool::{Packet, TappedPacket};
use crate::route::clock::SenderClock;
use crate::signal::Signal;

/// How a tap is made.
#[derive(Debug, Clone)]
pub struct TapSpec {
    /// Packets that may wait for the consumer; those beyond are lost to it. At most
    /// [`MAX_TAP_PACKETS`].
    pub capacity: usize,
    /// Begin with what came since the latest keyframe, as far as the shard keeps it, instead of with
    /// what comes next. These packets do not count against `capacity`.
    pub from_cache: bool,
    /// Rung when there is something to [`pop`](Tap::pop), once a burst.
    pub signal: Signal,
}

impl TapSpec {
    /// A tap of the usual capacity, which begins with what comes next.
    pub fn new(signal: Signal) -> Self {
        Self {
            capacity: DEFAULT_TAP_PACKETS,
            from_cache: false,
            signal,
        }
    }
}

/// The publisher's own report of its clock (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReport {
    /// NTP time, in units of 2^-32 s.
    pub ntp: u64,
    /// RTP timestamp of that moment.
    pub rtp: u32,
    /// When the report came in, in the shards' microseconds.
    pub at_us: u64,
}

impl ClockReport {
    /// The publisher's NTP time of a timestamp near that of the report, before or after it: what
    /// brings several tracks of one publisher in step.
    pub fn ntp_of(&self, timestamp: u32, clock_rate: u32) -> u64 {
        let Self { ntp, rtp, at_us } = *self;
        SenderClock { ntp, rtp, at_us }.ntp_of(timestamp, clock_rate)
    }
}

impl From<SenderClock> for ClockReport {
    fn from(clock: SenderClock) -> Self {
        Self {
            ntp: clock.ntp,
            rtp: clock.rtp,
            at_us: clock.at_us,
        }
    }
}

/// What a tap gives, in the order in which it happened.
#[derive(Debug)]
pub enum TapItem<'a> {
    /// A packet.
    Packet(TapPacket<'a>),
    /// The publisher reported its clock; also given first when it did before the tap was there.
    Clock(ClockReport),
    /// So many packets are missing here, because too many waited for the consumer.
    Lost(u64),
    /// The source began anew: indices leap ahead by more than 2^16, and timestamps and clock have
    /// nothing to do with those before.
    Restarted,
}

/// A packet as it was admitted: each index once, and late ones when they come.
#[derive(Debug, Clone, Copy)]
pub struct TapPacket<'a> {
    packet: &'a Packet,
    codec: &'a IncomingCodec,
}

impl<'a> TapPacket<'a> {
    /// The RTP payload, without padding.
    pub fn payload(&self) -> &'a [u8] {
        self.packet.payload()
    }

    /// The extended sequence number; its low 16 bits are the sequence number.
    pub fn index(&self) -> u64 {
        self.packet.info.index
    }

    /// The RTP sequence number.
    pub fn sequence_number(&self) -> u16 {
        self.packet.info.index as u16
    }

    /// The RTP timestamp.
    pub fn timestamp(&self) -> u32 {
        self.packet.info.timestamp
    }

    /// The marker bit: of video, the last packet of a frame.
    pub fn marker(&self) -> bool {
        self.packet.info.marker
    }

    /// Whether a decoder can begin with it: it starts a keyframe, or is audio.
    pub fn is_keyframe_start(&self) -> bool {
        self.packet.info.keyframe_start
    }

    /// When it came in, in the shards' microseconds.
    pub fn arrival_us(&self) -> u64 {
        self.packet.info.arrival_us
    }

    /// When it was captured, if the publisher says so with this packet (abs-capture-time): NTP time in
    /// units of 2^-32 s, of the clock of its reports.
    pub fn capture_ntp(&self) -> Option<u64> {
        let info = &self.packet.info;
        info.extensions.capture_ntp(self.packet.bytes())
    }

    /// Its format, with the payload type and clock rate it came with.
    pub fn codec(&self) -> &'a IncomingCodec {
        self.codec
    }
}

/// What goes through the ring.
enum Message {
    Packet(TappedPacket),
    Cached(Vec<TappedPacket>),
    Clock(SenderClock),
    Lost(u64),
    Restarted,
}

/// What both ends see.
#[derive(Debug, Default)]
struct Shared {
    lost: AtomicU64,
    keyframe_wanted: AtomicBool,
}

/// The consumer's end. Dropping it ends it.
pub struct Tap {
    rendition: RenditionId,
    video: bool,
    codecs: Vec<IncomingCodec>,
    ring: Consumer<Message>,
    shared: Arc<Shared>,
    cached: std::vec::IntoIter<TappedPacket>,
    /// What the consumer looks at.
    current: Option<TappedPacket>,
    _count: Counted,
}

/// One of a shard's taps, as long as it lives.
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// One more; `None` when there are [`MAX_TAPS_PER_SHARD`].
    pub(crate) fn one_of(taps: &Arc<AtomicUsize>) -> Option<Self> {
        // Counted first, so that the guard takes it back if that was one too many.
        let before = taps.fetch_add(1, Ordering::Relaxed);
        let counted = Self(Arc::clone(taps));
        (before < MAX_TAPS_PER_SHARD).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap")
            .field("rendition", &self.rendition)
            .finish_non_exhaustive()
    }
}

impl Tap {
    /// The next item, `None` when there is nothing now. A packet is lent until the next call, so
    /// that no more slots are held than wait in the ring: copy what is to be kept.
    pub fn pop(&mut self) -> Option<TapItem<'_>> {
        self.current = None;
        loop {
            if let Some(packet) = self.cached.next() {
                self.current = Some(packet);
                break;
            }
            match self.ring.pop().ok()? {
                Message::Packet(packet) => {
                    self.current = Some(packet);
                    break;
                }
                Message::Cached(packets) => self.cached = packets.into_iter(),
                Message::Clock(clock) => return Some(TapItem::Clock(clock.into())),
                Message::Lost(packets) => return Some(TapItem::Lost(packets)),
                Message::Restarted => return Some(TapItem::Restarted),
            }
        }
        let packet = self.current.as_deref()?;
        let codec = self.codecs.get(usize::from(packet.info.codec))?;
        Some(TapItem::Packet(TapPacket { packet, codec }))
    }

    /// Whether nothing will come any more: the rendition has ended (its publisher left), and all of
    /// it was popped.
    pub fn has_ended(&self) -> bool {
        // In this order: what is pushed before the end is seen.
        self.ring.is_abandoned() && self.ring.is_empty() && self.cached.len() == 0
    }

    /// Packets that were lost to this tap so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Asks for a keyframe, within 10 ms; coalesced with the wishes of others, and repeated until one
    /// comes.
    pub fn want_keyframe(&self) {
        self.shared.keyframe_wanted.store(true, Ordering::Relaxed);
    }

    /// The rendition it taps.
    pub fn rendition(&self) -> RenditionId {
        self.rendition
    }

    /// Video, with keyframes, or audio.
    pub fn is_video(&self) -> bool {
        self.video
    }

    /// The formats that packets may have.
    pub fn codecs(&self) -> &[IncomingCodec] {
        &self.codecs
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // Here rather than on the shard.
        while self.ring.pop().is_ok() {}
    }
}

/// The shard's end.
pub struct TapFeed {
    ring: Producer<Message>,
    shared: Arc<Shared>,
    /// Behind the ring, so that the consumer finds it abandoned when it is woken for the last time.
    waker: LastWake,
    from_cache: bool,
    /// Something was pushed since the consumer was last woken.
    dirty: bool,
    lost: u64,
    owed: Owed,
}

/// What found no room, to be told before the next packet.
#[derive(Debug, Default, Clone, Copy)]
struct Owed {
    lost: u64,
    restarted: bool,
    clock: Option<SenderClock>,
}

impl std::fmt::Debug for TapFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TapFeed").finish_non_exhaustive()
    }
}

/// Both ends of a tap.
pub(crate) fn connect(rendition: &RenditionSpec, spec: &TapSpec, count: Counted) -> (Tap, TapFeed) {
    let capacity = spec.capacity.clamp(MAX_BURST_PACKETS, MAX_TAP_PACKETS);
    let (producer, consumer) = RingBuffer::new(capacity);
    let shared = Arc::<Shared>::default();
    let tap = Tap {
        rendition: rendition.id,
        video: rendition.video,
        codecs: rendition.codecs.clone(),
        ring: consumer,
        shared: Arc::clone(&shared),
        cached: Vec::new().into_iter(),
        current: None,
        _count: count,
    };
    let feed = TapFeed {
        ring: producer,
        shared,
        waker: LastWake(spec.signal.waker()),
        from_cache: spec.from_cache,
        dirty: false,
        lost: 0,
        owed: Owed::default(),
    };
    (tap, feed)
}

impl TapFeed {
    /// Whether the consumer is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }

    /// Whether the consumer wished to begin with the frame cache.
    pub(crate) fn begins_with_cache(&self) -> bool {
        self.from_cache
    }

    /// Whether the consumer asked for a keyframe since the last call.
    pub(crate) fn takes_keyframe_wish(&self) -> bool {
        // The common answer costs no write of what another core reads.
        let wanted = &self.shared.keyframe_wanted;
        wanted.load(Ordering::Relaxed) && wanted.swap(false, Ordering::Relaxed)
    }

    /// Hands over the packets of a burst. With `scarce`, too many slots are held by the taps
    /// together: then only to a consumer with less than a burst waiting.
    /// Returns how many of them are lost.
    pub(crate) fn give(&mut self, burst: &[Packet], scarce: bool) -> u64 {
        if self.is_abandoned() {
            return 0;
        }
        let capacity = self.ring.buffer().capacity();
        let behind = || capacity - self.ring.slots() >= MAX_BURST_PACKETS;
        if (scarce && behind()) || !self.pay() {
            return self.lose(burst.len());
        }
        for (place, packet) in burst.iter().enumerate() {
            // Asked first, so that a full ring costs no counting of slots.
            if self.ring.is_full() {
                return self.lose(burst.len() - place);
            }
            let _ = self.push(Message::Packet(packet.tap()));
        }
        0
    }

    /// Hands over the frame cache, which is the first thing the consumer is given. Returns how many
    /// packets of it are lost.
    pub(crate) fn give_cached(&mut self, packets: &[Packet], scarce: bool) -> u64 {
        if packets.is_empty() {
            return 0;
        }
        let tapped = || packets.iter().map(Packet::tap).collect();
        if scarce || !self.push(Message::Cached(tapped())) {
            return self.lose(packets.len());
        }
        0
    }

    /// Tells the publisher's clock.
    pub(crate) fn tell_clock(&mut self, clock: SenderClock) {
        self.owed.clock = Some(clock);
        let _ = self.pay();
    }

    /// Tells that the source begins anew.
    pub(crate) fn tell_restart(&mut self) {
        self.owed.restarted = true;
        self.owed.clock = None;
        let _ = self.pay();
    }

    /// Wakes the consumer if there is anything new to it.
    pub(crate) fn wake(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.waker.0.wake();
        }
    }

    fn lose(&mut self, packets: usize) -> u64 {
        let packets = packets as u64;
        self.lost += packets;
        self.owed.lost += packets;
        self.shared.lost.store(self.lost, Ordering::Relaxed);
        packets
    }

    /// Tells what is owed; `false` while there is no room.
    fn pay(&mut self) -> bool {
        if self.owed.lost > 0 {
            if !self.push(Message::Lost(self.owed.lost)) {
                return false;
            }
            self.owed.lost = 0;
        }
        if self.owed.restarted {
            if !self.push(Message::Restarted) {
                return false;
            }
            self.owed.restarted = false;
        }
        if let Some(clock) = self.owed.clock {
            if !self.push(Message::Clock(clock)) {
                return false;
            }
            self.owed.clock = None;
        }
        true
    }

    fn push(&mut self, message: Message) -> bool {
        let pushed = self.ring.push(message).is_ok();
        self.dirty |= pushed;
        pushed
    }
}

/// Wakes the consumer when it goes.
struct LastWake(Waker);

impl Drop for LastWake {
    fn drop(&mut self) {
        self.0.wake();
    }
}
