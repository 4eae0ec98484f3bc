//! A publisher of VP9 with three spatial and three temporal layers, and what viewers of some of them
//! are to see.

use fanmill_engine::ids::RenditionId;
use fanmill_engine::packet::codec::{Codec, Vp9Descriptor};
use fanmill_engine::packet::layer::Layers;
use fanmill_engine::srtp::Profile;

use super::World;
use super::media::{Publisher, Stream};
use super::peer::Rtp;
use super::viewing::Viewer;

/// Temporal layers of pictures, over and over.
const PATTERN: [u8; 4] = [0, 2, 1, 2];
/// Packets of a frame of each spatial layer.
pub const PACKETS: [usize; 3] = [1, 2, 3];

/// Where a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Belongs {
    pub picture: u16,
    pub spatial: u8,
    pub place: u8,
    pub temporal: u8,
}

pub struct Layered {
    pub publisher: Publisher,
    pub video: Stream,
    pub track: u64,
    picture: u16,
    /// Since the latest keyframe.
    position: usize,
}

impl Layered {
    pub fn new(world: &mut World, shard: u16) -> Self {
        let publisher = world.publish(shard, Profile::AeadAes128Gcm);
        let mut video = Stream::new(world, "s", true);
        video.describes = false;
        let track = world.name();
        let mut spec = video.spec(track);
        spec.codecs[0].codec = Codec::Vp9;
        let engine = world.engine();
        engine.add_incoming_track(publisher.peer.id, spec).unwrap();
        let rendition = video.rendition;
        let id = fanmill_engine::ids::IncomingTrackId(track);
        engine.set_alternatives(rendition, id).unwrap();
        world.settle();
        Self {
            publisher,
            video,
            track,
            picture: 0,
            position: 0,
        }
    }

    /// The packets of the next picture.
    pub fn make_picture(&mut self, keyframe: bool) -> Vec<Vec<u8>> {
        self.picture = (self.picture + 1) & 0x7fff;
        self.position = if keyframe { 0 } else { self.position + 1 };
        self.video.timestamp = self.video.timestamp.wrapping_add(3_000);
        let temporal = PATTERN[self.position % PATTERN.len()];
        let mut packets = Vec::new();
        for (spatial, count) in PACKETS.into_iter().enumerate() {
            for place in 0..count {
                let (begins, ends) = (place == 0, place + 1 == count);
                let predicted = !keyframe;
                let first = 0x80 | 0x20 | u8::from(predicted) << 6;
                let first = first | u8::from(begins) << 3 | u8::from(ends) << 2;
                let layer = temporal << 5 | 0x10 | (spatial as u8) << 1 | u8::from(spatial > 0);
                let id = self.picture;
                let mut payload = vec![first, 0x80 | (id >> 8) as u8, id as u8, layer, 7];
                payload.extend([place as u8, temporal]);
                payload.extend(id.to_be_bytes().repeat(60 + 10 * spatial));
                let marker = ends && spatial + 1 == PACKETS.len();
                let number = self.publisher.number();
                packets.push(self.video.plain(marker, number, &payload, 0));
            }
        }
        packets
    }

    pub fn send_picture(&mut self, keyframe: bool) {
        for packet in self.make_picture(keyframe) {
            self.publisher.peer.send_rtp(&packet);
        }
    }

    /// Sends pictures, 33 ms apart.
    pub fn send_pictures(&mut self, world: &mut World, count: usize) {
        for _ in 0..count {
            self.send_picture(false);
            world.run_ms(33);
        }
    }

    pub fn send_retransmission(&mut self, sequence_number: u16) {
        let number = self.publisher.number();
        if let Some(packet) = self.video.retransmission(sequence_number, number) {
            self.publisher.peer.send_rtp(&packet);
        }
    }

    pub fn show(&self, world: &mut World, viewer: &Viewer, layers: Layers) -> RenditionId {
        let rendition = world.engine().layers_of(self.video.rendition, layers);
        let rendition = rendition.unwrap();
        world.attach_video(viewer, rendition);
        rendition
    }
}

pub fn layers(spatial: u8, temporal: u8) -> Layers {
    Layers { spatial, temporal }
}

/// Where a packet belongs; `None` for one without payload.
pub fn belongs(packet: &Rtp) -> Option<Belongs> {
    let payload = &packet.payload;
    if payload.is_empty() {
        return None;
    }
    let descriptor = Vp9Descriptor::parse(payload).unwrap();
    Some(Belongs {
        picture: descriptor.picture_id.unwrap(),
        spatial: descriptor.spatial_id.unwrap(),
        place: payload[descriptor.len],
        temporal: descriptor.temporal_id.unwrap(),
    })
}
