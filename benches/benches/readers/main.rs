//! What those cost who read a stream by other protocols than WebRTC: CPU time of the server for each reader
//! of `live.mp4`, `live.ts`, HLS with low latency, RTSP over TCP and UDP, and RTMP, 200 at once, of a stream
//! of 2.5 Mbit/s with sound.
//!
//! All of it is real but the publisher, who is a producer in this process: the server's own doors over
//! loopback, and readers on a thread of their own, whose time is not counted. What the kernel does to
//! deliver over loopback is: it is done while the server sends.
//!
//! Not criterion's kind of measure: a stream takes its time. An argument chooses the kinds whose name has it.

mod http;
mod rtmp;
mod rtsp;
#[path = "../server/mod.rs"]
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fanmill_control::broadcast::{Broadcast, BroadcastLimits};
use fanmill_control::http::{HttpLimits, outputs_router, serve as serve_http};
use fanmill_control::ingest::Ingests;
use fanmill_control::media::audio::AudioOptions;
use fanmill_control::media::packetize::{Format, Packetizer, Payloads};
use fanmill_control::model::{ProducedTrack, Producer};
use fanmill_control::output::Outputs;
use fanmill_control::rtmp::{Rtmp, RtmpLimits};
use fanmill_control::rtsp::{Rtsp, RtspLimits};
use fanmill_control::sdp::ProfileLevelId;
use fanmill_engine::producer::ProducedPacket;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const READERS: u32 = 200;
const SECONDS: u64 = 10;
const FPS: u32 = 30;
const PICTURE_BYTES: usize = 10_000;
const KEYFRAME_BYTES: usize = 40_000;

/// Parameter sets of H.264: constrained baseline, level 3.1, 1280 by 720.
const SPS: [u8; 26] = [
    0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0x80,
];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

/// How a stream is read.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Mp4,
    Ts,
    Hls,
    RtspTcp,
    RtspUdp,
    Rtmp,
}

const KINDS: [(&str, Kind); 6] = [
    ("live.mp4", Kind::Mp4),
    ("live.ts", Kind::Ts),
    ("HLS", Kind::Hls),
    ("RTSP/TCP", Kind::RtspTcp),
    ("RTSP/UDP", Kind::RtspUdp),
    ("RTMP", Kind::Rtmp),
];

/// Where the server is.
#[derive(Debug, Clone, Copy)]
struct Doors {
    http: SocketAddr,
    rtsp: SocketAddr,
    rtmp: SocketAddr,
}

/// Bytes that all readers got.
type Bytes = AtomicU64;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    // Sockets of both ends of 200 readers, up to four each.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let doors = runtime.block_on(serve())?;
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|one| !one.starts_with('-'))
        .collect();
    let alone = process_time_over(Duration::from_secs(SECONDS));
    println!("{READERS} readers of 2.5 Mbit/s; CPU time of the server in a second, for each:");
    for (name, kind) in KINDS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part)) {
            continue;
        }
        let (busy, bytes) = read(doors, kind)?;
        let each = busy.saturating_sub(alone) / READERS / SECONDS as u32;
        let mbps = bytes as f64 * 8.0 / 1e6 / SECONDS as f64 / f64::from(READERS);
        println!("{name:10} {each:>10.1?}   {mbps:.2} Mbit/s");
    }
    println!("for all, without readers: {:.1?}", alone / SECONDS as u32);
    Ok(())
}

/// Starts a server and its publisher.
async fn serve() -> Result<Doors, Failure> {
    let media = server::start()?;
    let limits = BroadcastLimits {
        max_streams: 10,
        max_viewers_per_stream: 10,
    };
    let broadcast = Broadcast::new(media.clone(), limits);
    let h264 = ProducedTrack::h264(41, ProfileLevelId([0x42, 0xc0, 0x1f]), 1);
    let tracks = vec![ProducedTrack::opus(40), h264];
    let (stream, producer) = media.create_incoming_stream("bench", tracks, None)?;
    broadcast.publish_stream("cam", &stream)?;
    std::thread::spawn(move || produce(producer));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let http = listener.local_addr()?;
    let router = outputs_router(Outputs::start(broadcast.clone())?);
    let stop = CancellationToken::new();
    tokio::spawn(serve_http(
        listener,
        router,
        HttpLimits::default(),
        stop.clone(),
    ));
    let ingests = Ingests::new(broadcast, AudioOptions::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let rtsp = listener.local_addr()?;
    // It serves as long as it is held.
    std::mem::forget(Rtsp::start(
        ingests.clone(),
        Some(listener),
        RtspLimits::default(),
    )?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let rtmp = listener.local_addr()?;
    Rtmp::new(ingests, RtmpLimits::default(), stop).listen(listener);
    Ok(Doors { http, rtsp, rtmp })
}

/// Sends pictures and sound in real time, for as long as the process lives.
fn produce(mut producer: Producer) {
    let format = Format::H264 {
        length_bytes: 4,
        parameter_sets: vec![SPS.to_vec(), PPS.to_vec()],
    };
    let (mut packetizer, mut payloads) = (Packetizer::new(format, 0), Payloads::default());
    let began = Instant::now();
    let mut numbers = [0u16; 2];
    let mut send = |producer: &mut Producer, track: usize, timestamp, marker, payload: &[u8]| {
        numbers[track] = numbers[track].wrapping_add(1);
        let packet = ProducedPacket {
            ssrc: 1 + track as u32,
            payload_type: [40, 41][track],
            sequence_number: numbers[track],
            timestamp,
            marker,
            payload,
        };
        // Nothing is lost as long as the shard keeps up.
        producer.send(track, &packet).is_ok()
    };
    for picture in 0u32.. {
        let due = began + Duration::from_secs(1) * picture / FPS;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let is_keyframe = producer.take_keyframe_request(1) || picture % (2 * FPS) == 0;
        let done = packetizer.packetize(&unit(is_keyframe), is_keyframe, &mut payloads);
        done.expect("a picture");
        for (place, payload) in payloads.iter().enumerate() {
            let last = place + 1 == payloads.len();
            if !send(&mut producer, 1, picture * 90_000 / FPS, last, payload) {
                return;
            }
        }
        let sounds = picture * 50 / FPS..(picture + 1) * 50 / FPS;
        for sound in sounds {
            send(&mut producer, 0, sound * 960, false, &[0xfc; 160]);
        }
    }
}

/// A picture of H.264, as far as anybody looks.
fn unit(is_keyframe: bool) -> Vec<u8> {
    let (bytes, nal) = match is_keyframe {
        true => (KEYFRAME_BYTES, 0x65),
        false => (PICTURE_BYTES, 0x41),
    };
    let mut unit = u32::try_from(bytes)
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    unit.push(nal);
    unit.resize(4 + bytes, 0x5a);
    unit
}

/// Reads with all readers at once: the CPU time of everything but them, and the bytes they got.
fn read(doors: Doors, kind: Kind) -> Result<(Duration, u64), Failure> {
    let readers = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let bytes = Arc::new(AtomicU64::new(0));
            let mut all = Vec::new();
            for _ in 0..READERS {
                let bytes = Arc::clone(&bytes);
                all.push(tokio::spawn(async move {
                    match kind {
                        Kind::Mp4 => http::read_file(doors.http, "live.mp4", &bytes).await,
                        Kind::Ts => http::read_file(doors.http, "live.ts", &bytes).await,
                        Kind::Hls => http::read_hls(doors.http, &bytes).await,
                        Kind::RtspTcp => rtsp::read_tcp(doors.rtsp, &bytes).await,
                        Kind::RtspUdp => rtsp::read_udp(doors.rtsp, &bytes).await,
                        Kind::Rtmp => rtmp::read(doors.rtmp, &bytes).await,
                    }
                }));
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            let (all_began, own_began) = (process_time(), thread_time());
            let bytes_began = bytes.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(SECONDS)).await;
            let busy = (process_time() - all_began).saturating_sub(thread_time() - own_began);
            let bytes = bytes.load(Ordering::Relaxed) - bytes_began;
            for reader in all {
                if reader.is_finished() {
                    reader.await??;
                    return Err("a reader came to an end".into());
                }
                reader.abort();
            }
            Ok::<_, Failure>((busy, bytes))
        })
    });
    readers.join().map_err(|_| "the readers' thread panicked")?
}

fn process_time_over(time: Duration) -> Duration {
    let began = process_time();
    std::thread::sleep(time);
    process_time() - began
}

fn process_time() -> Duration {
    time_of(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn thread_time() -> Duration {
    time_of(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn time_of(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}
