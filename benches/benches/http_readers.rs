//! What those cost who read a stream over HTTP: CPU time of the server for each reader of `live.mp4`
//! and of HLS with low latency, 200 at once, of a stream of 2.5 Mbit/s with sound.
//!
//! All of it is real but the publisher, who is a producer in this process: the server's own HTTP over
//! loopback, and readers on a thread of their own, whose time is not counted. What the kernel does to
//! deliver over loopback is: it is done while the server sends.
//!
//! Not criterion's kind of measure: a stream takes its time.

mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fanmill_control::broadcast::{Broadcast, BroadcastLimits};
use fanmill_control::http::{self, HttpLimits};
use fanmill_control::model::{ProducedTrack, Producer};
use fanmill_control::output::Outputs;
use fanmill_engine::producer::ProducedPacket;
use nix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const READERS: u32 = 200;
const SECONDS: u64 = 10;
const FPS: u32 = 30;
const PICTURE_BYTES: usize = 10_000;
const KEYFRAME_BYTES: usize = 40_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let address = runtime.block_on(serve())?;
    let alone = process_time_over(Duration::from_secs(SECONDS));
    println!("{READERS} readers of 2.5 Mbit/s; CPU time of the server in a second, for each:");
    for (name, hls) in [("live.mp4", false), ("HLS", true)] {
        let (busy, bytes) = read(address, hls)?;
        let each = busy.saturating_sub(alone) / READERS / SECONDS as u32;
        let mbps = bytes as f64 * 8.0 / 1e6 / SECONDS as f64 / f64::from(READERS);
        println!("{name:10} {each:>10.1?}   {mbps:.2} Mbit/s");
    }
    println!("for all, without readers: {:.1?}", alone / SECONDS as u32);
    Ok(())
}

/// Starts a server and its publisher.
async fn serve() -> Result<SocketAddr, Failure> {
    let media = server::start()?;
    let limits = BroadcastLimits {
        max_streams: 10,
        max_viewers_per_stream: 10,
    };
    let broadcast = Broadcast::new(media.clone(), limits);
    let tracks = vec![ProducedTrack::opus(40), ProducedTrack::vp8(41)];
    let (stream, producer) = media.create_incoming_stream("bench", tracks, None)?;
    broadcast.publish_stream("cam", &stream)?;
    std::thread::spawn(move || produce(producer));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = http::outputs_router(Outputs::start(broadcast)?);
    let stop = CancellationToken::new();
    tokio::spawn(http::serve(listener, router, HttpLimits::default(), stop));
    Ok(address)
}

/// Sends pictures and sound in real time, for as long as the process lives.
fn produce(mut producer: Producer) {
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
        let frame = frame(is_keyframe);
        let pieces = frame.chunks(1100).count();
        for (place, piece) in frame.chunks(1100).enumerate() {
            // The payload descriptor (RFC 7741 4.2): S on the first.
            let descriptor = if place == 0 { 0x10 } else { 0 };
            let payload = [&[descriptor], piece].concat();
            let last = place + 1 == pieces;
            if !send(&mut producer, 1, picture * 90_000 / FPS, last, &payload) {
                return;
            }
        }
        let sounds = picture * 50 / FPS..(picture + 1) * 50 / FPS;
        for sound in sounds {
            send(&mut producer, 0, sound * 960, false, &[0xfc; 160]);
        }
    }
}

/// A VP8 frame, as far as anybody looks: 1280 by 720.
fn frame(is_keyframe: bool) -> Vec<u8> {
    let mut frame = match is_keyframe {
        true => vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02],
        false => vec![0x11, 0, 0],
    };
    let len = if is_keyframe {
        KEYFRAME_BYTES
    } else {
        PICTURE_BYTES
    };
    frame.resize(len, 0x5a);
    frame
}

/// Reads with all readers at once: the CPU time of everything but them, and the bytes they got.
fn read(address: SocketAddr, hls: bool) -> Result<(Duration, u64), Failure> {
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
                    match hls {
                        true => read_hls(address, &bytes).await,
                        false => read_file(address, &bytes).await,
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

async fn read_file(address: SocketAddr, bytes: &AtomicU64) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /cam/live.mp4 HTTP/1.1\r\nHost: bench\r\n\r\n")
        .await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            len => bytes.fetch_add(len as u64, Ordering::Relaxed),
        };
    }
}

/// As players with low latency do: the playlist as soon as it has the next part, then that part.
async fn read_hls(address: SocketAddr, bytes: &AtomicU64) -> Result<(), Failure> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let mut next = String::new();
    loop {
        let text = get(&mut stream, &format!("media.m3u8{next}"), address, bytes).await?;
        let text = String::from_utf8(text)?;
        let number = |tag: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(tag));
            line.and_then(|number| number.parse::<u64>().ok())
        };
        let first = number("#EXT-X-MEDIA-SEQUENCE:").ok_or("no number")?;
        let segments = text.matches("#EXTINF").count() as u64;
        let open = text.rsplit("#EXTINF").next().unwrap_or_default();
        let parts = open.matches("#EXT-X-PART:").count();
        next = format!("?_HLS_msn={}&_HLS_part={parts}", first + segments);
        let part = text.lines().rfind(|line| line.starts_with("#EXT-X-PART:"));
        let part = part
            .and_then(|part| part.split('"').nth(1))
            .ok_or("no part")?;
        get(&mut stream, part, address, bytes).await?;
    }
}

async fn get(
    stream: &mut BufReader<TcpStream>,
    path: &str,
    address: SocketAddr,
    bytes: &AtomicU64,
) -> Result<Vec<u8>, Failure> {
    let request = format!("GET /cam/{path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut len, mut is_last, mut line) = (0, false, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err("the server closed the connection".into());
        }
        let field = line.trim().to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length: ") {
            len = value.parse()?;
        }
        is_last |= field == "connection: close";
        if field.starts_with("http/1.1 ") && field != "http/1.1 200 ok" {
            return Err(format!("{path}: {field}").into());
        }
        if field.is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    bytes.fetch_add(len as u64, Ordering::Relaxed);
    if is_last {
        *stream = BufReader::new(TcpStream::connect(address).await?);
    }
    Ok(body)
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
