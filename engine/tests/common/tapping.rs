//! What consumers and producers in this process do, by hand.

use std::time::Duration;

use fanmill_engine::Engine;
use fanmill_engine::ids::{ProducerId, RenditionId, ShardId};
use fanmill_engine::producer::{
    ProduceError, ProducedPacket, ProducedTrackSpec, Producer, ProducerSpec,
};
use fanmill_engine::signal::Signal;
use fanmill_engine::tap::{ClockReport, Tap, TapItem, TapSpec};

use super::World;
use super::media::{Stream, id_of, opus, vp8};
use super::peer::Rtp;
use super::viewing::{Viewer, audio_payloads};

/// A packet that a tap gave, copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tapped {
    pub index: u64,
    pub timestamp: u32,
    pub marker: bool,
    pub keyframe_start: bool,
    pub arrival_us: u64,
    pub capture_ntp: Option<u64>,
    pub payload_type: u8,
    pub payload: Vec<u8>,
}

/// Everything a tap gave.
#[derive(Debug, Default)]
pub struct Taken {
    pub packets: Vec<Tapped>,
    pub clocks: Vec<ClockReport>,
    /// Lost packets, each run with how many packets came before it.
    pub lost: Vec<(usize, u64)>,
    /// How many packets came before each new beginning.
    pub restarts: Vec<usize>,
}

impl Taken {
    pub fn ids(&self) -> Vec<u64> {
        self.packets.iter().map(|p| id_of(&p.payload)).collect()
    }

    pub fn lost_packets(&self) -> u64 {
        self.lost.iter().map(|(_, lost)| lost).sum()
    }
}

/// Takes all that a tap has.
pub fn take(tap: &mut Tap) -> Taken {
    let mut taken = Taken::default();
    while let Some(item) = tap.pop() {
        match item {
            TapItem::Packet(packet) => {
                assert_eq!(packet.sequence_number(), packet.index() as u16);
                taken.packets.push(Tapped {
                    index: packet.index(),
                    timestamp: packet.timestamp(),
                    marker: packet.marker(),
                    keyframe_start: packet.is_keyframe_start(),
                    arrival_us: packet.arrival_us(),
                    capture_ntp: packet.capture_ntp(),
                    payload_type: packet.codec().payload_type,
                    payload: packet.payload().to_vec(),
                });
            }
            TapItem::Clock(clock) => taken.clocks.push(clock),
            TapItem::Lost(lost) => taken.lost.push((taken.packets.len(), lost)),
            TapItem::Restarted => taken.restarts.push(taken.packets.len()),
        }
    }
    taken
}

/// Whether a signal was rung since it was last asked.
pub fn rung(signal: &Signal) -> bool {
    signal.wait(Duration::ZERO)
}

pub fn tap(engine: &Engine, rendition: RenditionId) -> Tap {
    let spec = TapSpec::new(Signal::new().unwrap());
    engine.add_tap(rendition, spec).unwrap()
}

/// A source of a picture and a sound in this process.
pub struct Source {
    pub producer: Producer,
    pub signal: Signal,
    pub video: Stream,
    pub audio: Stream,
}

pub const VIDEO: usize = 0;
pub const AUDIO: usize = 1;

impl Source {
    /// The `packets` of the next frame, 33 ms after the one before.
    pub fn send_frame(&mut self, keyframe: bool, packets: usize) {
        self.video.timestamp = self.video.timestamp.wrapping_add(3_000);
        for place in 0..packets {
            let marker = place + 1 == packets;
            self.send_part(place == 0, keyframe, marker).unwrap();
        }
    }

    /// One packet of the frame at hand.
    pub fn send_part(
        &mut self,
        start: bool,
        keyframe: bool,
        marker: bool,
    ) -> Result<(), ProduceError> {
        let plain = self.video.packet(start, keyframe, marker, 0);
        send(&mut self.producer, VIDEO, &plain)
    }

    pub fn send_audio(&mut self) {
        self.audio.timestamp = self.audio.timestamp.wrapping_add(960);
        let plain = self.audio.packet(true, true, false, 0);
        send(&mut self.producer, AUDIO, &plain).unwrap();
    }
}

/// Sends what a stream made.
pub fn send(producer: &mut Producer, track: usize, plain: &[u8]) -> Result<(), ProduceError> {
    let packet = Rtp::parse(plain, plain);
    let packet = ProducedPacket {
        ssrc: packet.header.ssrc,
        payload_type: packet.header.payload_type,
        sequence_number: packet.header.sequence_number,
        timestamp: packet.header.timestamp,
        marker: packet.header.marker,
        payload: &packet.payload,
    };
    producer.send(track, &packet)
}

impl World {
    /// A producer of a picture and a sound at home on a shard.
    pub fn produce(&mut self, shard: u16) -> Source {
        self.produce_with(shard, fanmill_engine::limits::DEFAULT_PRODUCER_PACKETS)
    }

    pub fn produce_with(&mut self, shard: u16, capacity: usize) -> Source {
        let (video, audio) = (Stream::new(self, "v", true), Stream::new(self, "a", false));
        let id = ProducerId(self.name());
        let tracks = [(&video, vp8()), (&audio, opus())];
        let tracks = tracks.map(|(stream, codec)| ProducedTrackSpec {
            rendition: stream.rendition,
            codecs: vec![codec],
            counters: stream.counters.clone(),
            served: Default::default(),
        });
        let signal = Signal::new().unwrap();
        let spec = ProducerSpec {
            capacity,
            signal: Some(signal.clone()),
            ..ProducerSpec::new(id, tracks.to_vec())
        };
        let producer = self.engine().add_producer(ShardId(shard), spec).unwrap();
        self.settle();
        Source {
            producer,
            signal,
            video,
            audio,
        }
    }

    /// Shows a source to a viewer.
    pub fn show(&mut self, viewer: &Viewer, source: &Source) {
        let engine = self.engine();
        engine
            .attach(
                viewer.video.id,
                source.video.rendition,
                viewer.video_payloads(),
            )
            .unwrap();
        engine
            .attach(viewer.audio.id, source.audio.rendition, audio_payloads())
            .unwrap();
        self.settle();
    }
}
