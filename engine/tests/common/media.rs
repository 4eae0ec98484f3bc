//! A publisher: one VP8 track and one Opus track, every payload of which is unlike any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fanmill_engine::command::{EncodingSpec, Feedback, IncomingCodec, IncomingTrackSpec};
use fanmill_engine::counters::{IncomingCounters, ServedCounters};
use fanmill_engine::ids::{IncomingTrackId, RenditionId};
use fanmill_engine::packet::codec::Codec;
use fanmill_engine::packet::extension::{Extension, ExtensionMap};
use fanmill_engine::srtp::Profile;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use webrtc_util::marshal::Marshal;

use super::World;
use super::peer::{Peer, Rtp};

/// Not negotiated by anybody.
pub const UNKNOWN_EXTENSION: u8 = 13;

/// Where the number of a payload is in it: after the VP8 descriptor and frame header.
const ID_AT: usize = 11;

/// For redundant audio (RFC 2198).
pub const RED_PAYLOAD_TYPE: u8 = 63;

/// Payload bytes of a video packet, unless a test says otherwise.
pub const VIDEO_PAYLOAD: usize = 900;

pub fn extension_map(ids: &[(Extension, u8)]) -> ExtensionMap {
    let mut map = ExtensionMap::new();
    for (extension, id) in ids {
        map.insert(*extension, *id).unwrap();
    }
    map
}

/// The ids the publisher uses.
pub fn publisher_extensions() -> ExtensionMap {
    extension_map(&[
        (Extension::Mid, 1),
        (Extension::AbsSendTime, 2),
        (Extension::TransportWideCc, 3),
        (Extension::AudioLevel, 4),
        (Extension::VideoOrientation, 5),
        (Extension::PlayoutDelay, 6),
        (Extension::AbsCaptureTime, 7),
        (Extension::DependencyDescriptor, 8),
        (Extension::Rid, 10),
        (Extension::RepairedRid, 11),
    ])
}

pub fn vp8() -> IncomingCodec {
    IncomingCodec {
        codec: Codec::Vp8,
        payload_type: 96,
        rtx_payload_type: Some(97),
        red_payload_type: None,
        clock_rate: 90_000,
    }
}

pub fn opus() -> IncomingCodec {
    IncomingCodec {
        codec: Codec::Opus,
        payload_type: 111,
        rtx_payload_type: None,
        red_payload_type: Some(RED_PAYLOAD_TYPE),
        clock_rate: 48_000,
    }
}

/// One stream of RTP packets as its sender makes them.
pub struct Stream {
    pub rendition: RenditionId,
    pub counters: Arc<IncomingCounters>,
    pub served: Arc<ServedCounters>,
    pub ssrc: u32,
    pub rtx_ssrc: u32,
    pub payload_type: u8,
    pub rtx_payload_type: u8,
    pub mid: &'static str,
    pub rid: Option<&'static str>,
    pub video: bool,
    pub sequence_number: u16,
    pub timestamp: u32,
    pub rtx_sequence_number: u16,
    pub payload_len: usize,
    /// Whether it tells times of capture and playout delays.
    pub tells_times: bool,
    /// How loud it is (RFC 6464); without it packets say nothing of it.
    pub level: Option<u8>,
    /// Whether its packets have dependency descriptors.
    pub describes: bool,
    /// Whether the next packet begins a frame, and a keyframe.
    begins: (bool, bool),
    next_id: u64,
    /// What was made, by sequence number.
    pub made: BTreeMap<u16, Vec<u8>>,
}

impl Stream {
    pub fn new(world: &mut World, mid: &'static str, video: bool) -> Self {
        let name = world.name();
        Self {
            rendition: RenditionId(name),
            counters: Arc::default(),
            served: Arc::default(),
            ssrc: 0x2000_0000 + name as u32,
            rtx_ssrc: 0x3000_0000 + name as u32,
            payload_type: if video { 96 } else { 111 },
            rtx_payload_type: 97,
            mid,
            rid: None,
            video,
            sequence_number: 100,
            timestamp: 0xffff_f000,
            rtx_sequence_number: 7,
            payload_len: if video { VIDEO_PAYLOAD } else { 80 },
            tells_times: true,
            level: Some(30),
            describes: true,
            begins: (false, false),
            next_id: name << 32,
            made: BTreeMap::new(),
        }
    }

    pub fn encoding(&self) -> EncodingSpec {
        EncodingSpec {
            rendition: self.rendition,
            rid: self.rid.map(str::to_owned),
            ssrc: self.rid.is_none().then_some(self.ssrc),
            rtx_ssrc: self.rid.is_none().then_some(self.rtx_ssrc),
            counters: Arc::clone(&self.counters),
            served: Arc::clone(&self.served),
        }
    }

    pub fn spec(&self, id: u64) -> IncomingTrackSpec {
        IncomingTrackSpec {
            id: IncomingTrackId(id),
            mid: self.mid.to_owned(),
            codecs: vec![if self.video { vp8() } else { opus() }],
            encodings: vec![self.encoding()],
            extensions: publisher_extensions(),
            feedback: Feedback {
                nack: self.video,
                pli: self.video,
                fir: false,
                transport_cc: true,
                remb: true,
            },
            max_bitrate_bps: 4_000_000,
        }
    }

    /// The next packet of the present timestamp, with its transport-wide number.
    pub fn packet(&mut self, start: bool, keyframe: bool, marker: bool, number: u16) -> Vec<u8> {
        self.next_id += 1;
        let mut payload = vec![0; self.payload_len];
        if self.video {
            payload[0] = u8::from(start) << 4;
            payload[1] = u8::from(!keyframe);
            // RFC 6386 9.1: start code, 640x360.
            payload[4..ID_AT].copy_from_slice(&[0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        }
        payload[ID_AT..ID_AT + 8].copy_from_slice(&self.next_id.to_be_bytes());
        let fill = self.next_id as u8;
        payload[ID_AT + 8..].fill(fill);
        self.begins = (start, start && keyframe);
        let packet = self.plain(marker, number, &payload, 0);
        self.begins = (false, false);
        packet
    }

    /// A packet with this payload and that many bytes of padding.
    pub fn plain(&mut self, marker: bool, number: u16, payload: &[u8], padding: u8) -> Vec<u8> {
        let mut header = rtp::header::Header {
            version: 2,
            padding: padding > 0,
            marker,
            payload_type: self.payload_type,
            sequence_number: self.sequence_number,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        for (id, data) in self.extensions(number) {
            header.set_extension(id, Bytes::from(data)).unwrap();
        }
        let mut plain = header.marshal().unwrap().to_vec();
        plain.extend_from_slice(payload);
        if padding > 0 {
            plain.resize(plain.len() + usize::from(padding) - 1, 0);
            plain.push(padding);
        }
        self.made.insert(self.sequence_number, plain.clone());
        self.sequence_number = self.sequence_number.wrapping_add(1);
        plain
    }

    fn extensions(&self, number: u16) -> Vec<(u8, Vec<u8>)> {
        let mut all = vec![
            (1, self.mid.as_bytes().to_vec()),
            (2, vec![1, 2, 3]),
            (3, number.to_be_bytes().to_vec()),
            (UNKNOWN_EXTENSION, vec![0xbb; 2]),
        ];
        if let Some(rid) = self.rid {
            all.push((10, rid.as_bytes().to_vec()));
        }
        if self.video {
            all.push((5, vec![3]));
            if self.tells_times {
                all.push((6, vec![0, 0x10, 0x20]));
                all.push((7, vec![8, 7, 6, 5, 4, 3, 2, 1]));
            }
            if self.describes {
                all.push((8, self.descriptor()));
            }
        } else if let Some(level) = self.level {
            all.push((4, vec![0x80 | level]));
        }
        all
    }

    /// Of a frame without layers; with a keyframe comes the structure, of one template (AV1 RTP
    /// specification A.8).
    fn descriptor(&self) -> Vec<u8> {
        let (frame, keyframe) = self.begins;
        let first = u8::from(frame) << 7;
        let mut descriptor = vec![first, 0, self.sequence_number as u8, 0, 0, 0];
        if keyframe {
            // Flags 10000; offset 0; one decode target; no more templates (11); switch (10); no
            // differences, chains or sizes.
            descriptor[3..].copy_from_slice(&[0b1000_0000, 0b0000_0000, 0b1110_0000]);
        }
        descriptor
    }

    /// The retransmission of a packet made before (RFC 4588 4).
    pub fn retransmission(&mut self, sequence_number: u16, number: u16) -> Option<Vec<u8>> {
        let original = self.made.get(&sequence_number)?;
        let original = Rtp::parse(original, original);
        let mut header = original.header.clone();
        header.padding = false;
        header.ssrc = self.rtx_ssrc;
        header.payload_type = self.rtx_payload_type;
        header.sequence_number = self.rtx_sequence_number;
        header
            .set_extension(3, Bytes::copy_from_slice(&number.to_be_bytes()))
            .unwrap();
        if let Some(rid) = self.rid {
            header.del_extension(10).unwrap();
            header
                .set_extension(11, Bytes::from_static(rid.as_bytes()))
                .unwrap();
        }
        self.rtx_sequence_number = self.rtx_sequence_number.wrapping_add(1);
        let mut plain = header.marshal().unwrap().to_vec();
        plain.extend(sequence_number.to_be_bytes());
        plain.extend(original.payload);
        Some(plain)
    }

    /// Numbers of the payloads made so far, in order of making.
    pub fn made_ids(&self) -> Vec<u64> {
        let first = self.next_id >> 32 << 32;
        (first + 1..=self.next_id).collect()
    }
}

/// The number of a payload.
pub fn id_of(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[ID_AT..ID_AT + 8].try_into().unwrap())
}

/// A peer that shares a picture and sound.
pub struct Publisher {
    pub peer: Peer,
    pub video: Stream,
    pub audio: Stream,
    pub video_track: IncomingTrackId,
    pub audio_track: IncomingTrackId,
    pub next_number: u16,
}

impl Publisher {
    pub fn number(&mut self) -> u16 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }

    /// The packets of the next frame, 33 ms after the one before; they are sent by the caller.
    pub fn make_frame(&mut self, keyframe: bool, packets: usize) -> Vec<Vec<u8>> {
        self.video.timestamp = self.video.timestamp.wrapping_add(3_000);
        let frame = (0..packets).map(|place| {
            self.next_number = self.next_number.wrapping_add(1);
            let (start, marker) = (place == 0, place + 1 == packets);
            self.video.packet(start, keyframe, marker, self.next_number)
        });
        frame.collect()
    }

    pub fn send_frame(&mut self, keyframe: bool, packets: usize) {
        for packet in self.make_frame(keyframe, packets) {
            self.peer.send_rtp(&packet);
        }
    }

    pub fn make_audio(&mut self) -> Vec<u8> {
        let number = self.number();
        self.audio.timestamp = self.audio.timestamp.wrapping_add(960);
        self.audio.packet(true, true, false, number)
    }

    pub fn send_audio(&mut self) {
        let packet = self.make_audio();
        self.peer.send_rtp(&packet);
    }

    /// Sequence numbers of the video that the engine asks for again.
    pub fn nacked(&mut self) -> Vec<u16> {
        let nacks = self.peer.take_rtcp::<TransportLayerNack>();
        let nacks = nacks
            .iter()
            .filter(|nack| nack.media_ssrc == self.video.ssrc);
        let pairs = nacks.flat_map(|nack| &nack.nacks);
        pairs.flat_map(|pair| pair.packet_list()).collect()
    }

    pub fn send_retransmission(&mut self, sequence_number: u16) {
        let number = self.number();
        if let Some(packet) = self.video.retransmission(sequence_number, number) {
            self.peer.send_rtp(&packet);
        }
    }
}

impl World {
    /// A connected publisher with its two tracks.
    pub fn publish(&mut self, shard: u16, profile: Profile) -> Publisher {
        let peer = self.connect(shard, profile);
        let video = Stream::new(self, "v", true);
        let audio = Stream::new(self, "a", false);
        let (video_track, audio_track) = (self.name(), self.name());
        for (stream, track) in [(&video, video_track), (&audio, audio_track)] {
            self.engine()
                .add_incoming_track(peer.id, stream.spec(track))
                .unwrap();
        }
        self.settle();
        Publisher {
            peer,
            video,
            audio,
            video_track: IncomingTrackId(video_track),
            audio_track: IncomingTrackId(audio_track),
            next_number: 0xfff0,
        }
    }
}
