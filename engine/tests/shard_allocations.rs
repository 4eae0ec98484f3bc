//! In steady state forwarding allocates nothing, on the publisher's shard and on another one, nor do
//! taps and producers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use common::media::{Stream, opus, vp8};
use common::peer::{Secret, binding_request};
use common::tapping::tap;
use common::viewing::{Watched, audio_payloads, viewer_extensions};
use common::{LONG_CONSENT_US, World};
use fanmill_engine::command::{
    IceCredentials, OutgoingPayload, OutgoingTrackSpec, SrtpKeys, TransportSpec,
};
use fanmill_engine::counters::TransportCounters;
use fanmill_engine::ids::{OutgoingTrackId, ProducerId, RenditionId, ShardId, TransportId};
use fanmill_engine::io::{Datagram, Io, IoError, MAX_STRETCH_BYTES, Rx, Tx};
use fanmill_engine::packet::layer::Layers;
use fanmill_engine::producer::{ProducedPacket, ProducedTrackSpec, ProducerSpec};
use fanmill_engine::shard::Shard;
use fanmill_engine::srtp::{MasterKey, Profile, Sealer};
use fanmill_engine::tap::Tap;
use fanmill_engine::{Engine, Events, Forwarding};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the count is a
// thread-local integer that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the system allocator's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PROFILE: Profile = Profile::AeadAes128Gcm;
const VIEWERS: u64 = 50;

/// A network whose datagrams lie ready, and which only counts what is sent.
struct Ready {
    clock: Rc<Cell<u64>>,
    rx: ReadyRx,
    tx: CountingTx,
}

struct ReadyRx {
    clock: Rc<Cell<u64>>,
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    next: usize,
    /// How many of them arrive until the next poll.
    arriving: usize,
}

struct CountingTx {
    clock: Rc<Cell<u64>>,
    buffer: Vec<u8>,
    sent: Rc<RefCell<Sent>>,
}

#[derive(Default)]
struct Sent {
    trains: u64,
    bytes: u64,
}

impl Io for Ready {
    type Rx = ReadyRx;
    type Tx = CountingTx;

    fn now_us(&self) -> u64 {
        self.clock.get()
    }

    fn poll(&mut self, _deadline_us: Option<u64>) -> Result<(), IoError> {
        Ok(())
    }

    fn nap(&mut self, _: u64) -> Result<(), IoError> {
        self.poll(None)
    }

    fn split(&mut self) -> (&mut ReadyRx, &mut CountingTx) {
        (&mut self.rx, &mut self.tx)
    }
}

impl Rx for ReadyRx {
    fn drain(&mut self, mut handle: impl FnMut(Datagram<'_>)) {
        let end = (self.next + std::mem::take(&mut self.arriving)).min(self.datagrams.len());
        for (source, payload) in &mut self.datagrams[self.next..end] {
            let segment_bytes = payload.len();
            handle(Datagram {
                source: *source,
                payload,
                segment_bytes,
                received_us: self.clock.get(),
            });
        }
        self.next = end;
    }
}

impl Tx for CountingTx {
    fn reserve(&mut self, len: usize) -> &mut [u8] {
        &mut self.buffer[..len]
    }

    fn commit_part(&mut self, _: SocketAddr, _: usize, len: usize, _: Option<u16>) {
        let mut sent = self.sent.borrow_mut();
        sent.trains += 1;
        sent.bytes += len as u64;
    }

    fn now_us(&self) -> u64 {
        self.clock.get()
    }

    fn untaken(&self) -> u64 {
        0
    }

    fn least_train(&self) -> Option<usize> {
        Some(2)
    }

    fn flush(&mut self) {}
}

struct Bench {
    engine: Engine,
    _events: Events,
    shards: Vec<Shard<Ready>>,
    clock: Rc<Cell<u64>>,
    sent: Rc<RefCell<Sent>>,
    publisher: SocketAddr,
    sealer: Sealer,
    video: Stream,
    audio: Stream,
    number: u16,
    video_index: u64,
    audio_index: u64,
    taps: Vec<Tap>,
    tapped: u64,
}

fn secret(id: u64) -> (Secret, Secret) {
    (Secret::new(id, 1), Secret::new(id, 2))
}

fn master(secret: &Secret) -> MasterKey {
    let (key, salt) = secret.parts(PROFILE);
    MasterKey::new(PROFILE, key, salt).unwrap()
}

impl Bench {
    fn new() -> Self {
        Self::of_layers(Layers::ALL)
    }

    /// Viewers are shown these layers of the video, which tells nothing of layers and so is of the
    /// lowest.
    fn of_layers(layers: Layers) -> Self {
        let (clock, sent) = (Rc::new(Cell::new(1_000_000)), Rc::default());
        let networks = (0..2).map(|_| Ready {
            clock: Rc::clone(&clock),
            rx: ReadyRx {
                clock: Rc::clone(&clock),
                datagrams: Vec::new(),
                next: 0,
                arriving: 0,
            },
            tx: CountingTx {
                clock: Rc::clone(&clock),
                buffer: vec![0; MAX_STRETCH_BYTES],
                sent: Rc::clone(&sent),
            },
        });
        let (engine, events, shards) = Engine::assemble(networks.collect(), Forwarding::default());
        // Only for its names.
        let mut names = World::new(1, 0);
        let mut bench = Self {
            engine,
            _events: events,
            shards,
            clock,
            sent,
            publisher: SocketAddr::from(([10, 1, 0, 0], 1)),
            sealer: Sealer::new(PROFILE, &master(&secret(0).0)).unwrap(),
            video: Stream::new(&mut names, "v", true),
            audio: Stream::new(&mut names, "a", false),
            number: 0,
            video_index: 100,
            audio_index: 100,
            taps: Vec::new(),
            tapped: 0,
        };
        bench.connect(0, 0);
        for (stream, track) in [(&bench.video, 1), (&bench.audio, 2)] {
            bench
                .engine
                .add_incoming_track(TransportId(0), stream.spec(track))
                .unwrap();
        }
        assert_eq!((vp8().payload_type, opus().payload_type), (96, 111));
        for viewer in 1..=VIEWERS {
            bench.connect(viewer, viewer % 2);
            bench.watch(viewer, layers, &mut names);
        }
        bench.turn(4);
        bench
    }

    fn connect(&mut self, id: u64, shard: u64) {
        let ice = IceCredentials {
            local_ufrag: format!("ufrag{id}"),
            local_pwd: format!("password-number-{id:020}"),
        };
        let spec = TransportSpec {
            id: TransportId(id),
            ice: ice.clone(),
            consent_timeout_us: LONG_CONSENT_US,
            rtcp_ssrc: 1,
            cname: "test".to_owned(),
            counters: Arc::new(TransportCounters::default()),
        };
        self.engine
            .add_transport(ShardId(shard as u16), spec)
            .unwrap();
        let (client, server) = secret(id);
        let keys = SrtpKeys {
            profile: PROFILE,
            local: master(&server),
            remote: master(&client),
        };
        self.engine.set_keys(TransportId(id), keys).unwrap();
        let address = SocketAddr::from(([10, 1, 0, id as u8], 1));
        self.arrive(
            shard as usize,
            address,
            binding_request(&ice, [id as u8; 12], true),
        );
        self.deliver(shard as usize, 1);
    }

    fn watch(&mut self, id: u64, layers: Layers, names: &mut World) {
        let video = self.engine.layers_of(self.video.rendition, layers).unwrap();
        for (rendition, video) in [(video, true), (self.audio.rendition, false)] {
            let watched = Watched::new(names);
            let spec = OutgoingTrackSpec {
                extensions: viewer_extensions(),
                ..watched.spec(if video { "0" } else { "1" })
            };
            self.engine
                .add_outgoing_track(TransportId(id), spec)
                .unwrap();
            let payloads = if video {
                vec![Some(OutgoingPayload {
                    payload_type: 45,
                    rtx_payload_type: Some(46),
                    red_payload_type: None,
                    nack: true,
                })]
            } else {
                audio_payloads()
            };
            self.engine.attach(watched.id, rendition, payloads).unwrap();
        }
    }

    fn arrive(&mut self, shard: usize, source: SocketAddr, datagram: Vec<u8>) {
        self.shards[shard]
            .io()
            .rx
            .datagrams
            .push((source, datagram));
    }

    fn deliver(&mut self, shard: usize, datagrams: usize) {
        self.shards[shard].io().rx.arriving = datagrams;
        self.turn(2);
    }

    fn turn(&mut self, times: usize) {
        for _ in 0..times {
            for shard in &mut self.shards {
                shard.turn().unwrap();
            }
        }
    }

    /// Lays packets ready: bursts of video, and an audio packet behind each.
    fn prepare(&mut self, bursts: usize) {
        for burst in 0..bursts {
            self.video.timestamp = self.video.timestamp.wrapping_add(3_000);
            for place in 0..9 {
                self.number = self.number.wrapping_add(1);
                let keyframe = burst % 30 == 0;
                // Almost of one size, so that they are padded to one.
                self.video.payload_len = 900 - place % 3;
                let plain = self
                    .video
                    .packet(place == 0, keyframe, place == 8, self.number);
                self.seal(&plain, true);
            }
            self.number = self.number.wrapping_add(1);
            self.audio.timestamp = self.audio.timestamp.wrapping_add(960);
            let plain = self.audio.packet(true, true, false, self.number);
            self.seal(&plain, false);
        }
    }

    fn seal(&mut self, plain: &[u8], video: bool) {
        let header = fanmill_engine::packet::rtp::RtpHeader::parse(plain).unwrap();
        let index = if video {
            &mut self.video_index
        } else {
            &mut self.audio_index
        };
        let mut sealed = vec![0; plain.len() + self.sealer.overhead()];
        let (head, payload) = plain.split_at(header.header_len);
        self.sealer
            .seal(*index, head, payload, &mut sealed)
            .unwrap();
        *index += 1;
        self.arrive(0, self.publisher, sealed);
    }

    /// Forwards prepared bursts, so many microseconds apart; how much was allocated meanwhile.
    fn forward(&mut self, bursts: usize, apart_us: u64) -> u64 {
        let before = ALLOCATIONS.get();
        for _ in 0..bursts {
            self.clock.set(self.clock.get() + apart_us);
            self.deliver(0, 10);
            for tap in &mut self.taps {
                while tap.pop().is_some() {
                    self.tapped += 1;
                }
            }
        }
        ALLOCATIONS.get() - before
    }

    /// Goes on until nothing is left to be allocated, and prepares for 500 bursts.
    fn settle(&mut self) {
        // Until stores are as full as they get, by age and by number, and buffers have found their
        // size.
        self.prepare(600);
        self.forward(300, 10_000);
        self.forward(300, 1);
        // Right after a tick, so that nothing but forwarding happens.
        self.prepare(500);
        self.clock.set(self.clock.get() + 10_000);
        self.turn(2);
    }
}

#[test]
fn forwarding_allocates_nothing_per_packet_on_either_shard() {
    let mut bench = Bench::new();
    bench.settle();
    let trains = bench.sent.borrow().trains;
    let counters = bench.engine.counters(ShardId(0)).unwrap();
    assert_eq!(counters.packets_routed.get(), 6_000);
    assert_eq!(bench.forward(500, 1), 0);
    // A frame of packets made equal, and its sound: two trains for each viewer.
    let trains = bench.sent.borrow().trains - trains;
    assert_eq!(trains, 500 * VIEWERS * 2);

    let control = Box::new(0u8);
    assert!(ALLOCATIONS.get() > 0, "the count counts {control}");
}

#[test]
fn making_a_rendition_of_layers_allocates_nothing() {
    let lowest = Layers {
        spatial: 0,
        temporal: 0,
        keyframes_only: false,
    };
    let mut bench = Bench::of_layers(lowest);
    bench.settle();
    let trains = bench.sent.borrow().trains;
    assert_eq!(bench.forward(500, 1), 0);
    let trains = bench.sent.borrow().trains - trains;
    assert_eq!(trains, 500 * VIEWERS * 2);
}

#[test]
fn handing_packets_to_taps_allocates_nothing() {
    const TAPS: u64 = 20;
    let mut bench = Bench::new();
    for rendition in [bench.video.rendition, bench.audio.rendition] {
        for _ in 0..TAPS {
            bench.taps.push(tap(&bench.engine, rendition));
        }
    }
    // And one that takes nothing, so that it loses.
    let hanging = tap(&bench.engine, bench.video.rendition);
    bench.settle();
    let (tapped, lost) = (bench.tapped, hanging.lost());
    assert_eq!(bench.forward(500, 1), 0);
    assert_eq!(bench.tapped - tapped, 500 * 10 * TAPS);
    assert_eq!(hanging.lost() - lost, 500 * 9);
}

#[test]
fn what_a_producer_sends_allocates_nothing_on_its_thread_or_the_shard() {
    let mut bench = Bench::new();
    let mut names = World::new(1, 0);
    names.name();
    let stream = Stream::new(&mut names, "v", true);
    let track = ProducedTrackSpec {
        rendition: RenditionId(1_000_000),
        codecs: vec![vp8()],
        counters: stream.counters.clone(),
        served: Default::default(),
    };
    let spec = ProducerSpec::new(ProducerId(1), vec![track]);
    let mut producer = bench.engine.add_producer(ShardId(0), spec).unwrap();
    for (viewer, shard) in [(1, 1), (2, 0)] {
        assert_eq!(viewer % 2, shard);
        let watched = Watched::new(&mut names);
        let spec = OutgoingTrackSpec {
            id: OutgoingTrackId(2_000_000 + viewer),
            ssrc: watched.ssrc ^ 0x0f00_0000,
            rtx_ssrc: watched.rtx_ssrc ^ 0x0f00_0000,
            ..watched.spec("2")
        };
        let (id, transport) = (spec.id, TransportId(viewer));
        bench.engine.add_outgoing_track(transport, spec).unwrap();
        let payload = OutgoingPayload {
            payload_type: 45,
            rtx_payload_type: Some(46),
            red_payload_type: None,
            nack: true,
        };
        let rendition = RenditionId(1_000_000);
        bench
            .engine
            .attach(id, rendition, vec![Some(payload)])
            .unwrap();
    }
    bench.turn(4);
    let payload = [0x10; 900];
    let mut number = 0u32;
    let mut frames = |bench: &mut Bench, count: usize, apart_us: u64| {
        let before = ALLOCATIONS.get();
        for _ in 0..count {
            bench.clock.set(bench.clock.get() + apart_us);
            for place in 0..9 {
                number += 1;
                // A keyframe once in a while (RFC 7741 4.2, RFC 6386 9.1).
                let mut payload = payload;
                payload[1] = u8::from(number % 270 != 1);
                let packet = ProducedPacket {
                    ssrc: 7,
                    payload_type: 96,
                    sequence_number: number as u16,
                    timestamp: number / 9 * 3_000,
                    marker: place == 8,
                    payload: &payload,
                };
                producer.send(0, &packet).unwrap();
            }
            bench.turn(2);
        }
        ALLOCATIONS.get() - before
    };
    frames(&mut bench, 300, 10_000);
    frames(&mut bench, 300, 1);
    bench.clock.set(bench.clock.get() + 10_000);
    bench.turn(2);
    let trains = bench.sent.borrow().trains;
    assert_eq!(frames(&mut bench, 500, 1), 0);
    assert_eq!(bench.sent.borrow().trains - trains, 500 * 2);
}

#[test]
fn periodic_work_allocates_the_same_however_many_packets_pass() {
    let mut bench = Bench::new();
    // Until all slots are there that any of it takes.
    bench.prepare(600);
    bench.forward(300, 1);
    bench.forward(300, 10_000);
    // A second each, with a hundred packets and with ten times as many.
    bench.prepare(1_200);
    let few = bench.forward(100, 10_000);
    let many = bench.forward(1_000, 1_000);
    assert!(many <= few + few / 10, "{few}, then {many}");
    let bytes = bench.sent.borrow().bytes;
    assert!(bytes > 1_700 * 9 * 898 * VIEWERS);
}
