//! A shard or several with one publisher and many viewers, ready to be measured: everything that happens
//! once (checks, keys, the first keyframe) is done.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use fanmill_engine::command::{
    EncodingSpec, Feedback, IceCredentials, IncomingCodec, IncomingTrackSpec, OutgoingPayload,
    OutgoingTrackSpec, SrtpKeys, TransportSpec,
};
use fanmill_engine::ids::{IncomingTrackId, OutgoingTrackId, RenditionId, ShardId, TransportId};
use fanmill_engine::io::uring::pin_to_core;
use fanmill_engine::limits::SHARD_RING_MESSAGES;
use fanmill_engine::packet::codec::Codec;
use fanmill_engine::packet::extension::{Extension, ExtensionMap};
use fanmill_engine::packet::rtcp_write::RtcpWriter;
use fanmill_engine::shard::Shard;
use fanmill_engine::srtp::{MasterKey, Profile, RtcpSession, Sealer};
use fanmill_engine::{Engine, Events, Forwarding};
use stun::attributes::ATTR_USERNAME;
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, Message, Setter};
use stun::textattrs::Username;

use crate::SinkIo;
use crate::cpu_time::cpu_time;
use crate::frames::Frame;
use crate::packets::Master;

const PASSWORD: &str = "a password of sufficient length";
const RENDITION: RenditionId = RenditionId(1);
const PAYLOAD_TYPE: u8 = 96;
const SSRC: u32 = 0x1234_5678;

/// The peer that publishes; viewers are numbered from one.
const PUBLISHER: u64 = 0;

/// The shards, their publisher, who is on the first of them, and their viewers.
pub struct Studio {
    shards: Vec<Shard<SinkIo>>,
    engine: Engine,
    _events: Events,
    profile: Profile,
    viewers: u64,
    /// The publisher's side of its transport.
    sealer: Sealer,
    index: u64,
    timestamp: u32,
    /// Whether each frame is a keyframe.
    keyframes: bool,
}

impl Studio {
    /// A shard that serves `viewers`, who negotiated `profile`.
    ///
    /// # Panics
    /// When the engine refuses what it must accept.
    #[must_use]
    pub fn new(viewers: usize, profile: Profile) -> Self {
        Self::with_shards(1, viewers, profile)
    }

    /// So many shards that share `viewers`, who negotiated `profile`.
    ///
    /// # Panics
    /// When the engine refuses what it must accept.
    #[must_use]
    pub fn with_shards(shards: usize, viewers: usize, profile: Profile) -> Self {
        Self::forwarding(shards, viewers, profile, Forwarding::default())
    }

    /// A shard whose viewers are shown one of two encodings, so that their bandwidth is estimated.
    ///
    /// # Panics
    /// When the engine refuses what it must accept.
    #[must_use]
    pub fn simulcast(viewers: usize, profile: Profile) -> Self {
        Self::prepare(1, viewers, profile, Forwarding::default(), 2)
    }

    /// The same as [`Studio::with_shards`], forwarding in a way of their own.
    ///
    /// # Panics
    /// When the engine refuses what it must accept.
    #[must_use]
    pub fn forwarding(
        shards: usize,
        viewers: usize,
        profile: Profile,
        forwarding: Forwarding,
    ) -> Self {
        Self::prepare(shards, viewers, profile, forwarding, 1)
    }

    fn prepare(
        shards: usize,
        viewers: usize,
        profile: Profile,
        forwarding: Forwarding,
        encodings: u32,
    ) -> Self {
        let networks = (0..shards).map(|_| SinkIo::new()).collect();
        let (engine, events, shards) = Engine::assemble(networks, forwarding);
        let publisher = key(profile, PUBLISHER, Side::Peer);
        let mut studio = Self {
            shards,
            engine,
            _events: events,
            profile,
            viewers: viewers as u64,
            sealer: Sealer::new(profile, &publisher).expect("a key of the right length"),
            index: 1,
            timestamp: 0,
            keyframes: true,
        };
        studio.connect(PUBLISHER);
        studio.publish(encodings);
        for number in 1..=studio.viewers {
            studio.connect(number);
            studio.view(number);
        }
        // The first burst starts every viewer.
        let frame = vec![1000; 3];
        studio.burst(&frame);
        let (before, _) = studio.swallowed();
        studio.burst(&frame);
        let (after, _) = studio.swallowed();
        let sent = after - before;
        assert_eq!(sent, studio.viewers * 3, "every viewer gets every packet");
        studio
    }

    fn connect(&mut self, number: u64) {
        let id = TransportId(number);
        let spec = TransportSpec {
            id,
            ice: IceCredentials {
                local_ufrag: ufrag(number),
                local_pwd: PASSWORD.to_owned(),
            },
            consent_timeout_us: u64::MAX / 4,
            rtcp_ssrc: 1,
            cname: "bench".to_owned(),
            counters: Arc::default(),
        };
        self.engine
            .add_transport(ShardId(self.shard_of(number) as u16), spec)
            .expect("room for a transport");
        let keys = SrtpKeys {
            profile: self.profile,
            local: key(self.profile, number, Side::Server),
            remote: key(self.profile, number, Side::Peer),
        };
        self.engine
            .set_keys(id, keys)
            .expect("the transport was just added");
        self.turn();
        self.arrive(number, check(number));
        self.turn();
    }

    fn publish(&mut self, encodings: u32) {
        let encoding = |place: u32| EncodingSpec {
            rendition: RenditionId(RENDITION.0 + u64::from(place)),
            rid: None,
            ssrc: Some(SSRC + place),
            rtx_ssrc: None,
            counters: Arc::default(),
            served: Arc::default(),
        };
        let spec = IncomingTrackSpec {
            id: IncomingTrackId(1),
            mid: "0".to_owned(),
            codecs: vec![IncomingCodec {
                codec: Codec::Vp8,
                payload_type: PAYLOAD_TYPE,
                rtx_payload_type: Some(97),
                red_payload_type: None,
                clock_rate: 90_000,
            }],
            encodings: (0..encodings).map(encoding).collect(),
            extensions: ExtensionMap::new(),
            feedback: Feedback::default(),
            max_bitrate_bps: 10_000_000,
        };
        self.engine
            .add_incoming_track(TransportId(PUBLISHER), spec)
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
            ssrc: viewer_ssrc(number),
            rtx_ssrc: viewer_ssrc(number) + 0x4000_0000,
            extensions,
            allow_two_byte: true,
            counters: Arc::default(),
        };
        self.engine
            .add_outgoing_track(TransportId(number), spec)
            .expect("the viewer is there");
        let payload = OutgoingPayload {
            payload_type: PAYLOAD_TYPE,
            rtx_payload_type: Some(97),
            red_payload_type: None,
            nack: true,
        };
        self.engine
            .attach(track, RENDITION, vec![Some(payload)])
            .expect("both are there");
        self.turn();
    }

    /// Puts a datagram of a peer before the shard.
    fn arrive(&mut self, number: u64, datagram: Vec<u8>) {
        let shard = self.shard_of(number);
        self.shards[shard].io().arrive(address(number), datagram);
    }

    /// Which shard a peer is on: they take turns.
    fn shard_of(&self, number: u64) -> usize {
        number as usize % self.shards.len()
    }

    /// Lets the shards handle what arrived, the publisher's first.
    ///
    /// # Panics
    /// Never: a sink does not break.
    pub fn turn(&mut self) {
        for shard in &mut self.shards {
            turn(shard);
        }
    }

    /// Packets and sends that left so far; a train of many packets is one send.
    #[must_use]
    pub fn swallowed(&mut self) -> (u64, u64) {
        let shards = self.shards.iter_mut().map(|shard| shard.io().swallowed());
        shards.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Takes `frames` from the publisher to every viewer, each shard turned by a thread of its own;
    /// how long that took.
    ///
    /// # Panics
    /// When the frames have more packets than wait between two shards.
    pub fn run(&mut self, frames: &[Frame]) -> Duration {
        let packets: usize = frames.iter().map(Vec::len).sum();
        assert!(
            packets <= SHARD_RING_MESSAGES,
            "the publisher's shard is ahead"
        );
        let mut arriving = Vec::new();
        for frame in frames {
            arriving.push(self.frame(frame));
            self.timestamp = self.timestamp.wrapping_add(3000);
        }
        let shards = self.shards.len();
        let start = Barrier::new(shards + 1);
        let viewers = self.viewers;
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, shard) in self.shards.iter_mut().enumerate() {
                let viewers = (1..=viewers).filter(|v| *v as usize % shards == number);
                let sent = shard.io().swallowed().0 + viewers.count() as u64 * packets as u64;
                let arriving = if number == 0 {
                    arriving.as_slice()
                } else {
                    &[]
                };
                let start = &start;
                threads.push(scope.spawn(move || {
                    pin_to_core(number).expect("a core for each shard");
                    start.wait();
                    for frame in arriving {
                        for datagram in frame {
                            shard.io().arrive(address(PUBLISHER), datagram.clone());
                        }
                        turn(shard);
                    }
                    while shard.io().swallowed().0 < sent {
                        turn(shard);
                    }
                }));
            }
            start.wait();
            let begun = Instant::now();
            for thread in threads {
                thread.join().expect("a shard does not panic");
            }
            begun.elapsed()
        })
    }

    /// Takes one frame from the publisher to every viewer; how much CPU time that took.
    pub fn burst(&mut self, frame: &Frame) -> Duration {
        self.send_frame(frame);
        cpu_time(|| self.turn())
    }

    /// Puts one frame of the publisher before the shard.
    pub fn send_frame(&mut self, frame: &Frame) {
        for datagram in self.frame(frame) {
            self.arrive(PUBLISHER, datagram);
        }
        self.timestamp = self.timestamp.wrapping_add(3000);
        // One tick, so that the periodic work of a second is spread over 100 bursts.
        for shard in &mut self.shards {
            shard.io().advance(10_000);
        }
    }

    /// Whether frames are keyframes from now on, as they are at first.
    pub fn make_keyframes(&mut self, keyframes: bool) {
        self.keyframes = keyframes;
    }

    /// Takes a keyframe and `frames` others to every viewer; how many packets they are.
    pub fn fill_cache(&mut self, frame: &Frame, frames: usize) -> u64 {
        for number in 0..=frames {
            self.make_keyframes(number == 0);
            self.burst(frame);
        }
        (frame.len() * (frames + 1)) as u64
    }

    /// Lets one more viewer join, who begins with the `cached` packets since the latest keyframe; how
    /// much CPU time it took from its subscription until it had caught up.
    ///
    /// # Panics
    /// When it is not served them.
    pub fn join(&mut self, cached: u64) -> Duration {
        self.viewers += 1;
        let number = self.viewers;
        self.connect(number);
        let goal = self.swallowed().0 + cached;
        let mut took = cpu_time(|| self.view(number));
        // It may take some seconds of the studio's time.
        for _ in 0..10_000 {
            if self.swallowed().0 >= goal {
                return took;
            }
            for shard in &mut self.shards {
                shard.io().advance(1_000);
            }
            took += cpu_time(|| self.turn());
        }
        panic!("the viewer has not caught up");
    }

    fn frame(&mut self, frame: &Frame) -> Vec<Vec<u8>> {
        let packets = frame.iter().enumerate();
        packets
            .map(|(position, size)| self.packet(position, *size, position + 1 == frame.len()))
            .collect()
    }

    /// Puts a connectivity check of each viewer before the shard, as it comes every few seconds.
    pub fn send_checks(&mut self) {
        for number in 1..=self.viewers {
            self.arrive(number, check(number));
        }
    }

    /// Sends `bursts` frames of one packet, and puts a NACK for each of them, by the last viewer,
    /// before the shard.
    ///
    /// # Panics
    /// When there is no viewer.
    pub fn send_nacks(&mut self, bursts: usize) {
        let number = self.viewers;
        assert!(number > 0, "somebody must miss a packet");
        // What a later keyframe makes useless is not sent again.
        self.make_keyframes(false);
        let mut lost = Vec::new();
        while lost.len() < bursts {
            self.burst(&vec![1150]);
            let shard = self.shard_of(number);
            let sent = self.shards[shard].io().last_sent();
            // Now and then a report was sent after the packet.
            if sent[1] & 0x7f == PAYLOAD_TYPE {
                lost.push(u16::from_be_bytes([sent[2], sent[3]]));
            }
        }
        let own = key(self.profile, number, Side::Peer);
        let server = key(self.profile, number, Side::Server);
        let mut session =
            RtcpSession::new(self.profile, &own, &server).expect("keys of the profile");
        for sequence_number in lost {
            let mut buffer = [0; 64];
            let mut writer = RtcpWriter::new(&mut buffer);
            writer
                .nack(1, viewer_ssrc(number), &[sequence_number])
                .expect("room for one NACK");
            let len = writer.len();
            let sealed = session.seal(&buffer[..len]).expect("an RTCP packet");
            self.arrive(number, sealed);
        }
    }

    fn packet(&mut self, position: usize, payload_bytes: usize, marker: bool) -> Vec<u8> {
        let mut header = vec![0x80, u8::from(marker) << 7 | PAYLOAD_TYPE];
        header.extend_from_slice(&(self.index as u16).to_be_bytes());
        header.extend_from_slice(&self.timestamp.to_be_bytes());
        header.extend_from_slice(&SSRC.to_be_bytes());
        let mut payload = vec![position as u8; payload_bytes];
        // RFC 7741: the start of a partition; a keyframe if it is the first packet of the frame.
        payload[0] = if position == 0 { 0x10 } else { 0 };
        payload[1] = u8::from(!self.keyframes);
        let mut out = vec![0; header.len() + payload.len() + self.sealer.overhead()];
        let sealed = self.sealer.seal(self.index, &header, &payload, &mut out);
        sealed.expect("the buffer is large enough");
        self.index += 1;
        out
    }
}

fn turn(shard: &mut Shard<SinkIo>) {
    shard.turn().expect("the sink does not break");
}

/// Who seals with a key.
#[derive(Clone, Copy)]
enum Side {
    Server,
    Peer,
}

fn key(profile: Profile, number: u64, side: Side) -> MasterKey {
    let master = Master::new(profile, 2 * number as usize + side as usize);
    MasterKey::new(profile, &master.key, &master.salt).expect("lengths of the profile")
}

fn ufrag(number: u64) -> String {
    format!("peer{number}")
}

fn viewer_ssrc(number: u64) -> u32 {
    number as u32
}

fn address(number: u64) -> SocketAddr {
    let ip = Ipv4Addr::from_bits(0x0a00_0000 + number as u32);
    SocketAddr::from((ip, 40_000))
}

/// A connectivity check as a browser sends it.
fn check(number: u64) -> Vec<u8> {
    let username = format!("{}:them", ufrag(number));
    let setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(stun::agent::TransactionId::new()),
        Box::new(Username::new(ATTR_USERNAME, username)),
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
