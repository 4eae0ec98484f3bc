//! One shard with one publisher and many viewers, ready to be measured: everything that happens
//! once (checks, keys, the first keyframe) is done.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanmill_engine::command::{
    EncodingSpec, Feedback, IceCredentials, IncomingCodec, IncomingTrackSpec, OutgoingPayload,
    OutgoingTrackSpec, SrtpKeys, TransportSpec,
};
use fanmill_engine::ids::{IncomingTrackId, OutgoingTrackId, RenditionId, ShardId, TransportId};
use fanmill_engine::packet::codec::Codec;
use fanmill_engine::packet::extension::{Extension, ExtensionMap};
use fanmill_engine::shard::Shard;
use fanmill_engine::srtp::{MasterKey, Profile, Sealer};
use fanmill_engine::{Engine, Events, Forwarding};
use stun::attributes::ATTR_USERNAME;
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, Message, Setter};
use stun::textattrs::Username;

use crate::SinkIo;

const PASSWORD: &str = "a password of sufficient length";
const RENDITION: RenditionId = RenditionId(1);
const PUBLISHER: TransportId = TransportId(1);
const PAYLOAD_TYPE: u8 = 96;
const SSRC: u32 = 0x1234_5678;

/// How the packets of a burst are sized.
#[derive(Debug, Clone, Copy)]
pub enum FramePattern {
    /// All of one size.
    Equal,
    /// As Chromium splits a frame: sizes that differ by a byte or two.
    Uneven,
}

/// The shard and its publisher.
pub struct Studio {
    shard: Shard<SinkIo>,
    engine: Engine,
    _events: Events,
    sealer: Sealer,
    source: SocketAddr,
    index: u64,
    timestamp: u32,
    pattern: FramePattern,
}

impl Studio {
    /// A shard that serves `viewers`, who negotiated `profile`.
    ///
    /// # Panics
    /// When the engine refuses what it must accept.
    #[must_use]
    pub fn new(viewers: usize, profile: Profile, pattern: FramePattern) -> Self {
        let (engine, events, mut shards) =
            Engine::assemble(vec![SinkIo::new()], Forwarding::default());
        let shard = shards.pop().expect("one shard was asked for");
        let sealer = Sealer::new(profile, &key(profile, 1)).expect("a key of the right length");
        let mut studio = Self {
            shard,
            engine,
            _events: events,
            sealer,
            source: address(0),
            index: 1,
            timestamp: 0,
            pattern,
        };
        studio.connect(PUBLISHER, 0, profile);
        studio.publish();
        for number in 1..=viewers as u64 {
            studio.connect(TransportId(number + 1), number, profile);
            studio.view(number);
        }
        // The first burst starts every viewer.
        studio.burst(10);
        let (before, _) = studio.shard.io().swallowed();
        studio.burst(10);
        let (after, _) = studio.shard.io().swallowed();
        assert_eq!(
            after - before,
            viewers as u64 * 10,
            "every viewer gets every packet"
        );
        studio
    }

    fn connect(&mut self, id: TransportId, number: u64, profile: Profile) {
        let ufrag = format!("peer{number}");
        let spec = TransportSpec {
            id,
            ice: IceCredentials {
                local_ufrag: ufrag.clone(),
                local_pwd: PASSWORD.to_owned(),
            },
            consent_timeout_us: u64::MAX / 4,
            rtcp_ssrc: 1,
            cname: "bench".to_owned(),
            counters: Arc::default(),
        };
        self.engine
            .add_transport(ShardId(0), spec)
            .expect("room for a transport");
        let keys = SrtpKeys {
            profile,
            local: key(profile, 2),
            remote: key(profile, 1),
        };
        self.engine
            .set_keys(id, keys)
            .expect("the transport was just added");
        self.turn();
        self.shard.io().arrive(address(number), check(&ufrag));
        self.turn();
    }

    fn publish(&mut self) {
        let spec = IncomingTrackSpec {
            id: IncomingTrackId(1),
            mid: "0".to_owned(),
            codecs: vec![IncomingCodec {
                codec: Codec::Vp8,
                payload_type: PAYLOAD_TYPE,
                rtx_payload_type: Some(97),
                clock_rate: 90_000,
            }],
            encodings: vec![EncodingSpec {
                rendition: RENDITION,
                rid: None,
                ssrc: Some(SSRC),
                rtx_ssrc: None,
                counters: Arc::default(),
            }],
            extensions: ExtensionMap::new(),
            feedback: Feedback::default(),
            max_bitrate_bps: 10_000_000,
        };
        self.engine
            .add_incoming_track(PUBLISHER, spec)
            .expect("the publisher is there");
        self.turn();
    }

    fn view(&mut self, number: u64) {
        let mut extensions = ExtensionMap::new();
        for (id, extension) in [
            (1, Extension::Mid),
            (2, Extension::AbsSendTime),
            (3, Extension::TransportWideCc),
        ] {
            extensions.insert(extension, id).expect("distinct ids");
        }
        let track = OutgoingTrackId(number);
        let spec = OutgoingTrackSpec {
            id: track,
            mid: "0".to_owned(),
            ssrc: number as u32,
            rtx_ssrc: number as u32 + 0x4000_0000,
            extensions,
            allow_two_byte: true,
            counters: Arc::default(),
        };
        let transport = TransportId(number + 1);
        self.engine
            .add_outgoing_track(transport, spec)
            .expect("the viewer is there");
        let payload = OutgoingPayload {
            payload_type: PAYLOAD_TYPE,
            rtx_payload_type: Some(97),
        };
        self.engine
            .attach(track, RENDITION, vec![Some(payload)])
            .expect("both are there");
        self.turn();
    }

    fn turn(&mut self) {
        self.shard.turn().expect("the sink does not break");
    }

    /// Takes one burst of `packets` from the publisher to every viewer; how long that took.
    pub fn burst(&mut self, packets: usize) -> Duration {
        for position in 0..packets {
            let datagram = self.packet(position, packets);
            self.shard.io().arrive(self.source, datagram);
        }
        self.timestamp = self.timestamp.wrapping_add(3000);
        // Less than a tick, so that the periodic work of a second is spread over 100 bursts.
        self.shard.io().advance(10_000);
        let start = Instant::now();
        self.turn();
        start.elapsed()
    }

    fn packet(&mut self, position: usize, packets: usize) -> Vec<u8> {
        let len = match self.pattern {
            FramePattern::Equal => 1150,
            FramePattern::Uneven => 1150 - self.index as usize % 3,
        };
        let mut header = vec![0x80, PAYLOAD_TYPE];
        if position + 1 == packets {
            header[1] |= 0x80;
        }
        header.extend_from_slice(&(self.index as u16).to_be_bytes());
        header.extend_from_slice(&self.timestamp.to_be_bytes());
        header.extend_from_slice(&SSRC.to_be_bytes());
        let mut payload = vec![0xa5; len];
        // RFC 7741: the start of a partition; a keyframe if it is the first packet of the frame.
        payload[0] = if position == 0 { 0x10 } else { 0 };
        payload[1] = 0;
        let mut out = vec![0; header.len() + payload.len() + self.sealer.overhead()];
        let sealed = self.sealer.seal(self.index, &header, &payload, &mut out);
        sealed.expect("the buffer is large enough");
        self.index += 1;
        out
    }
}

fn key(profile: Profile, fill: u8) -> MasterKey {
    let (key, salt) = (
        vec![fill; profile.key_len()],
        vec![fill; profile.salt_len()],
    );
    MasterKey::new(profile, &key, &salt).expect("lengths of the profile")
}

fn address(number: u64) -> SocketAddr {
    let ip = Ipv4Addr::from_bits(0x0a00_0000 + number as u32);
    SocketAddr::from((ip, 40_000))
}

/// A connectivity check as a browser sends it.
fn check(ufrag: &str) -> Vec<u8> {
    let setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(stun::agent::TransactionId::new()),
        Box::new(Username::new(ATTR_USERNAME, format!("{ufrag}:them"))),
        Box::new(MessageIntegrity::new_short_term_integrity(
            PASSWORD.to_owned(),
        )),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message
        .build(&setters)
        .expect("a message of valid attributes");
    message.raw
}
