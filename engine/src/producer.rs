//! Producers: renditions without a network peer, made by another thread of this process, such as a
//! player's or a gateway's.
//!
//! [`Engine::add_producer`](crate::Engine::add_producer) gives a [`Producer`]: the near end of a
//! bounded ring, whose other end (`ProducerFeed`) the home shard has. A payload is copied once, on
//! the producer's thread, into a slot of the shard's pool; from there it goes the way of a
//! publisher's packets. The shard never waits for a producer, nor a producer for a shard but to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::utils::CachePadded;
use rtrb::{Consumer, RingBuffer};

use crate::command::IncomingCodec;
use crate::counters::IncomingCounters;
use crate::engine::Engine;
use crate::ids::{ProducerId, RenditionId};
use crate::io::uring::Waker;
use crate::limits::{
    DEFAULT_PRODUCER_PACKETS, MAX_PRODUCED_PAYLOAD_BYTES, MAX_PRODUCER_PACKETS,
    PRODUCED_BEFORE_WAKE,
};
use crate::packet::codec::MediaKind;
use crate::pool::{PacketMut, PoolHandle};
use crate::shard::links::ShardWaker;
use crate::signal::Signal;

/// What a producer makes.
#[derive(Debug, Clone)]
pub struct ProducerSpec {
    /// Its name.
    pub id: ProducerId,
    /// Its tracks: each becomes a rendition.
    pub tracks: Vec<ProducedTrackSpec>,
    /// Packets that may wait for the shard, at most [`MAX_PRODUCER_PACKETS`].
    pub capacity: usize,
    /// Rung when a keyframe is asked for, and when the producer was removed.
    pub signal: Option<Signal>,
}

impl ProducerSpec {
    /// A producer of the usual capacity, which is not told anything but when it asks.
    pub fn new(id: ProducerId, tracks: Vec<ProducedTrackSpec>) -> Self {
        Self {
            id,
            tracks,
            capacity: DEFAULT_PRODUCER_PACKETS,
            signal: None,
        }
    }
}

/// One track of a producer.
#[derive(Debug, Clone)]
pub struct ProducedTrackSpec {
    /// The rendition its packets become.
    pub rendition: RenditionId,
    /// The formats it may use, at least one; all of a kind.
    pub codecs: Vec<IncomingCodec>,
    /// Read by the control plane at any time.
    pub counters: Arc<IncomingCounters>,
}

/// An RTP packet, as a producer sends it.
#[derive(Debug, Clone, Copy)]
pub struct ProducedPacket<'a> {
    /// Another one than before on the same track says that the track begins anew: the numbers and
    /// timestamps before mean nothing any more.
    pub ssrc: u32,
    /// One of the track's formats.
    pub payload_type: u8,
    /// One more than the packet before it, unless that was lost.
    pub sequence_number: u16,
    /// In units of the format's clock.
    pub timestamp: u32,
    /// Of video: it ends a frame (RFC 3550 5.1).
    pub marker: bool,
    /// The payload.
    pub payload: &'a [u8],
}

/// Why a packet was not taken. Its sequence number counts as lost if it is not sent again.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[non_exhaustive]
pub enum ProduceError {
    /// The shard is behind, or the producer far ahead of real time.
    #[error(
        "the shard has not taken what was sent before; send in real time and drop what is late"
    )]
    Full,
    /// The shard has no packet slot left.
    #[error("the shard has no packet slot left; drop the packet and go on")]
    PoolExhausted,
    /// The payload is too long.
    #[error(
        "a payload of {0} bytes is too long; split frames into {MAX_PRODUCED_PAYLOAD_BYTES} bytes or less"
    )]
    TooLong(usize),
    /// The track has no such format.
    #[error("the track has no payload type {0}; use one of those it was made with")]
    UnknownPayloadType(u8),
    /// There is no such track.
    #[error("there is no track {0}; count from 0 in the order in which they were made")]
    UnknownTrack(usize),
    /// The producer was removed, or its shard ended.
    #[error("the stream was closed")]
    Closed,
}

/// What goes through the ring.
pub(crate) enum Message {
    Packet {
        track: u16,
        /// Position in the track's list.
        codec: u8,
        ssrc: u32,
        sequence_number: u16,
        /// Holds the payload and what routing knows already.
        slot: PacketMut,
    },
    Clock {
        track: u16,
        ntp: u64,
        rtp: u32,
    },
}

/// Tells one shard that producers have something for it.
#[derive(Debug, Default)]
pub(crate) struct Produced(CachePadded<AtomicBool>);

impl Produced {
    /// Call it after the work is in a ring and before the shard is woken.
    pub(crate) fn announce(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether anything was announced since the last [`take`](Self::take).
    pub(crate) fn is_announced(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether to look at the rings now. Most often nothing was announced, and nothing is written.
    pub(crate) fn take(&self) -> bool {
        self.is_announced() && self.0.swap(false, Ordering::AcqRel)
    }
}

/// What a shard offers its producers.
#[derive(Clone)]
pub(crate) struct Entrance {
    pub(crate) pool: PoolHandle,
    pub(crate) produced: Arc<Produced>,
    pub(crate) waker: ShardWaker,
}

struct Track {
    codecs: Vec<IncomingCodec>,
    video: bool,
}

/// The producer's end. Dropping it ends its renditions, as if a publisher had left.
pub struct Producer {
    id: ProducerId,
    engine: Engine,
    tracks: Vec<Track>,
    ring: rtrb::Producer<Message>,
    entrance: Entrance,
    keyframes_wanted: Arc<[AtomicBool]>,
    /// Packets since the shard was last woken.
    unannounced: usize,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// Sends a packet of the `track`-th track; it arrives when the shard takes it. Send the packets
    /// of a frame in one go, the marker on its last: they leave together. Never blocks.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub fn send(&mut self, track: usize, packet: &ProducedPacket<'_>) -> Result<(), ProduceError> {
        let (number, of) = (track, self.tracks.get(track));
        let of = of.ok_or(ProduceError::UnknownTrack(track))?;
        let video = of.video;
        let mut codecs = of.codecs.iter();
        let codec = codecs.position(|codec| codec.payload_type == packet.payload_type);
        let codec = codec.ok_or(ProduceError::UnknownPayloadType(packet.payload_type))?;
        let len = packet.payload.len();
        if len > MAX_PRODUCED_PAYLOAD_BYTES {
            return Err(ProduceError::TooLong(len));
        }
        self.check_room()?;
        let slot = self.entrance.pool.take();
        let mut slot = slot.ok_or(ProduceError::PoolExhausted)?;
        slot.buffer_mut()[..len].copy_from_slice(packet.payload);
        slot.set_len(len);
        slot.info = crate::pool::PacketInfo {
            timestamp: packet.timestamp,
            marker: packet.marker,
            payload_len: len as u16,
            ..Default::default()
        };
        let message = Message::Packet {
            track: number as u16,
            codec: codec as u8,
            ssrc: packet.ssrc,
            sequence_number: packet.sequence_number,
            slot,
        };
        self.push(message)?;
        self.unannounced += 1;
        if packet.marker || !video || self.unannounced >= PRODUCED_BEFORE_WAKE {
            self.flush();
        }
        Ok(())
    }

    /// Says which moment (NTP time, in units of 2^-32 s) an RTP timestamp of a track is. Viewers'
    /// sender reports are made from it: with the same clock for all tracks they play in step. Say
    /// it with the first packets, after a track began anew, and now and then.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub fn set_clock(&mut self, track: usize, ntp: u64, rtp: u32) -> Result<(), ProduceError> {
        if track >= self.tracks.len() {
            return Err(ProduceError::UnknownTrack(track));
        }
        self.check_room()?;
        let track = track as u16;
        self.push(Message::Clock { track, ntp, rtp })
    }

    /// Lets the shard look at what was sent: done by itself with the last packet of a frame, with
    /// each packet of audio and once in a while; what waits otherwise is taken within 10 ms.
    pub fn flush(&mut self) {
        self.unannounced = 0;
        self.entrance.produced.announce();
        self.entrance.waker.wake();
    }

    /// Whether a viewer waits for a keyframe of a track, since the last call. It comes again twice a
    /// second while one does; however many wait, once.
    pub fn take_keyframe_request(&self, track: usize) -> bool {
        let wanted = self.keyframes_wanted.get(track);
        wanted.is_some_and(|wanted| wanted.swap(false, Ordering::Relaxed))
    }

    /// Packets that may be sent before the shard takes any.
    pub fn room(&self) -> usize {
        self.ring.slots()
    }

    /// Whether it was removed, or its shard ended: nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.ring.is_abandoned()
    }

    /// Its name.
    pub fn id(&self) -> ProducerId {
        self.id
    }

    fn check_room(&self) -> Result<(), ProduceError> {
        if self.is_closed() {
            return Err(ProduceError::Closed);
        }
        match self.ring.is_full() {
            true => Err(ProduceError::Full),
            false => Ok(()),
        }
    }

    fn push(&mut self, message: Message) -> Result<(), ProduceError> {
        self.ring.push(message).map_err(|_| ProduceError::Full)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // The shard sees the ring abandoned even if it does not take the command; the rest is gone
        // when the engine has ended.
        let _ = self.engine.remove_producer(self.id);
    }
}

/// The shard's end.
pub struct ProducerFeed {
    pub(crate) spec: ProducerSpec,
    pub(crate) ring: Consumer<Message>,
    keyframes_wanted: Arc<[AtomicBool]>,
    waker: Option<LastWake>,
}

impl std::fmt::Debug for ProducerFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerFeed")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl ProducerFeed {
    /// Whether the producer has gone without a word.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned() && self.ring.is_empty()
    }

    /// Asks for a keyframe of a track.
    pub(crate) fn want_keyframe(&self, track: usize) {
        if let Some(wanted) = self.keyframes_wanted.get(track) {
            wanted.store(true, Ordering::Relaxed);
        }
        if let Some(LastWake(waker)) = &self.waker {
            waker.wake();
        }
    }
}

/// Wakes the producer's owner when the feed goes; behind the ring in it, which then is abandoned.
struct LastWake(Waker);

impl Drop for LastWake {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// Both ends of a producer.
pub(crate) fn connect(
    engine: Engine,
    entrance: Entrance,
    spec: ProducerSpec,
) -> (Producer, ProducerFeed) {
    let capacity = spec
        .capacity
        .clamp(PRODUCED_BEFORE_WAKE, MAX_PRODUCER_PACKETS);
    let (ring, consumer) = RingBuffer::new(capacity);
    let wanted: Vec<_> = spec.tracks.iter().map(|_| AtomicBool::new(false)).collect();
    let keyframes_wanted: Arc<[AtomicBool]> = wanted.into();
    let tracks = spec.tracks.iter().map(|track| Track {
        codecs: track.codecs.clone(),
        video: is_video(&track.codecs),
    });
    let producer = Producer {
        id: spec.id,
        engine,
        tracks: tracks.collect(),
        ring,
        entrance,
        keyframes_wanted: Arc::clone(&keyframes_wanted),
        unannounced: 0,
    };
    let feed = ProducerFeed {
        waker: spec.signal.as_ref().map(|signal| LastWake(signal.waker())),
        spec,
        ring: consumer,
        keyframes_wanted,
    };
    (producer, feed)
}

/// Whether a track of these formats is video.
pub(crate) fn is_video(codecs: &[IncomingCodec]) -> bool {
    let first = codecs.first();
    first.is_some_and(|codec| codec.codec.kind() == MediaKind::Video)
}
