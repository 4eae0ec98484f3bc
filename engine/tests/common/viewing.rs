//! A viewer of one picture and one sound, and what to expect of the packets it gets.

use std::sync::Arc;

use fanmill_engine::command::{OutgoingPayload, OutgoingTrackSpec, PayloadMap};
use fanmill_engine::counters::OutgoingCounters;
use fanmill_engine::ids::{OutgoingTrackId, RenditionId};
use fanmill_engine::packet::extension::{Extension, ExtensionMap};
use fanmill_engine::srtp::Profile;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

use super::World;
use super::media::{Publisher, Stream, extension_map, id_of};
use super::peer::{Peer, Rtp};

/// Ids of the viewers, all unlike the publishers'.
pub mod id {
    pub const MID: u8 = 9;
    pub const ABS_SEND_TIME: u8 = 14;
    pub const TRANSPORT_CC: u8 = 12;
    pub const AUDIO_LEVEL: u8 = 3;
    pub const ORIENTATION: u8 = 4;
    pub const PLAYOUT_DELAY: u8 = 7;
    pub const CAPTURE_TIME: u8 = 2;
    pub const DEPENDENCY: u8 = 1;
}

pub fn viewer_extensions() -> ExtensionMap {
    extension_map(&[
        (Extension::Mid, id::MID),
        (Extension::AbsSendTime, id::ABS_SEND_TIME),
        (Extension::TransportWideCc, id::TRANSPORT_CC),
        (Extension::AudioLevel, id::AUDIO_LEVEL),
        (Extension::VideoOrientation, id::ORIENTATION),
        (Extension::PlayoutDelay, id::PLAYOUT_DELAY),
        (Extension::AbsCaptureTime, id::CAPTURE_TIME),
        (Extension::DependencyDescriptor, id::DEPENDENCY),
    ])
}

pub const VIDEO_PAYLOAD_TYPE: u8 = 45;
pub const VIDEO_RTX_PAYLOAD_TYPE: u8 = 46;
pub const AUDIO_PAYLOAD_TYPE: u8 = 109;

/// One track that is watched.
pub struct Watched {
    pub id: OutgoingTrackId,
    pub ssrc: u32,
    pub rtx_ssrc: u32,
    pub counters: Arc<OutgoingCounters>,
}

impl Watched {
    pub fn new(world: &mut World) -> Self {
        let name = world.name();
        Self {
            id: OutgoingTrackId(name),
            ssrc: 0x4000_0000 + name as u32,
            rtx_ssrc: 0x5000_0000 + name as u32,
            counters: Arc::default(),
        }
    }

    pub fn spec(&self, mid: &str) -> OutgoingTrackSpec {
        OutgoingTrackSpec {
            id: self.id,
            mid: mid.to_owned(),
            ssrc: self.ssrc,
            rtx_ssrc: self.rtx_ssrc,
            extensions: viewer_extensions(),
            allow_two_byte: false,
            counters: Arc::clone(&self.counters),
        }
    }
}

/// A peer that watches.
pub struct Viewer {
    pub peer: Peer,
    pub video: Watched,
    pub audio: Watched,
    pub rtx: bool,
}

impl Viewer {
    pub fn video_payloads(&self) -> PayloadMap {
        vec![Some(OutgoingPayload {
            payload_type: VIDEO_PAYLOAD_TYPE,
            rtx_payload_type: self.rtx.then_some(VIDEO_RTX_PAYLOAD_TYPE),
            red_payload_type: None,
            nack: true,
        })]
    }

    /// Takes the video that came, in order of arrival.
    pub fn take_video(&mut self) -> Vec<Rtp> {
        let ssrc = self.video.ssrc;
        self.peer.take_rtp(ssrc)
    }

    pub fn take_audio(&mut self) -> Vec<Rtp> {
        let ssrc = self.audio.ssrc;
        self.peer.take_rtp(ssrc)
    }

    /// Takes the retransmissions that came.
    pub fn take_rtx(&mut self) -> Vec<Rtp> {
        let ssrc = self.video.rtx_ssrc;
        self.peer.take_rtp(ssrc)
    }

    pub fn nack(&mut self, sequence_numbers: &[u16]) {
        let media_ssrc = self.video.ssrc;
        self.peer.send_rtcp(TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc,
            nacks: nack_pairs_from_sequence_numbers(sequence_numbers),
        });
    }

    pub fn ask_for_keyframe(&mut self) {
        let media_ssrc = self.video.ssrc;
        self.peer.send_rtcp(PictureLossIndication {
            sender_ssrc: 1,
            media_ssrc,
        });
    }
}

pub fn audio_payloads() -> PayloadMap {
    vec![Some(OutgoingPayload {
        payload_type: AUDIO_PAYLOAD_TYPE,
        rtx_payload_type: None,
        red_payload_type: None,
        nack: true,
    })]
}

impl World {
    /// A connected viewer with two tracks that show nothing yet.
    pub fn viewer(&mut self, shard: u16, profile: Profile) -> Viewer {
        let peer = self.connect(shard, profile);
        self.viewer_on(peer)
    }

    pub fn viewer_on(&mut self, peer: Peer) -> Viewer {
        let (video, audio) = (Watched::new(self), Watched::new(self));
        for (track, mid) in [(&video, "0"), (&audio, "1")] {
            self.engine()
                .add_outgoing_track(peer.id, track.spec(mid))
                .unwrap();
        }
        Viewer {
            peer,
            video,
            audio,
            rtx: true,
        }
    }

    /// Shows a publisher to a viewer.
    pub fn attach(&mut self, viewer: &Viewer, publisher: &Publisher) {
        let engine = self.engine();
        let (video, audio) = (publisher.video.rendition, publisher.audio.rendition);
        engine
            .attach(viewer.video.id, video, viewer.video_payloads())
            .unwrap();
        engine
            .attach(viewer.audio.id, audio, audio_payloads())
            .unwrap();
        self.settle();
    }

    pub fn attach_video(&mut self, viewer: &Viewer, rendition: RenditionId) {
        self.engine()
            .attach(viewer.video.id, rendition, viewer.video_payloads())
            .unwrap();
        self.settle();
    }

    /// A viewer that watches a publisher.
    pub fn watch(&mut self, shard: u16, profile: Profile, publisher: &Publisher) -> Viewer {
        let viewer = self.viewer(shard, profile);
        self.attach(&viewer, publisher);
        viewer
    }
}

/// The numbers of the payloads of packets.
pub fn ids(packets: &[Rtp]) -> Vec<u64> {
    packets
        .iter()
        .map(|packet| id_of(&packet.payload))
        .collect()
}

/// Checks that sequence numbers go up by one from packet to packet.
pub fn assert_in_sequence(packets: &[Rtp]) {
    for pair in packets.windows(2) {
        let step = pair[1]
            .header
            .sequence_number
            .wrapping_sub(pair[0].header.sequence_number);
        assert_eq!(step, 1, "{:?} then {:?}", pair[0].header, pair[1].header);
    }
}

/// Checks that timestamps advance as those of the packets the stream made with these numbers.
pub fn assert_same_timing(packets: &[Rtp], stream: &Stream) {
    let made: std::collections::HashMap<u64, u32> = stream
        .made
        .values()
        .map(|plain| Rtp::parse(plain, plain))
        .map(|packet| (id_of(&packet.payload), packet.header.timestamp))
        .collect();
    let offset = |packet: &Rtp| {
        let original = made[&id_of(&packet.payload)];
        packet.header.timestamp.wrapping_sub(original)
    };
    for pair in packets.windows(2) {
        assert_eq!(offset(&pair[0]), offset(&pair[1]));
    }
}
