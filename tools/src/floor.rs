//! What sending alone costs: the same bursts to as many receivers, without any protocol.
//!
//! One thread sends what a server would have to send, once as single packets and once as trains;
//! others receive with the code the viewers use. The difference between this and a server's cost
//! per packet is what the server adds: copying, headers, SRTP, bookkeeping.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::args::BenchArgs;
use crate::clock::now_ns;
use crate::media::source::{Frame, Shape, Source};
use crate::net::{self, Receiver};

/// Bytes a server adds to each payload: RTP header and AES-GCM tag.
const OVERHEAD_BYTES: usize = 12 + 16;
/// The kernel's limit on segments of a train, and on its length.
const MAX_SEGMENTS: usize = 64;
const MAX_TRAIN_BYTES: usize = 65_000;

/// How the packets of a burst leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A system call for each.
    Single,
    /// Trains of equal packets, as their sizes happen to be.
    Trains,
    /// Every packet filled up to the size of the longest, so that the burst is one train.
    Padded,
}

/// What one mode cost.
#[derive(Debug, Serialize)]
pub struct Floor {
    /// How packets left.
    pub mode: Mode,
    /// Receivers.
    pub receivers: u64,
    /// Packets sent.
    pub packets: u64,
    /// Share of them that did not arrive.
    pub loss: f64,
    /// CPU of the sending thread per packet, in nanoseconds.
    pub ns_per_packet: f64,
    /// CPUs the sending thread kept busy.
    pub sender_cpus: f64,
    /// CPU of the receiving threads per packet, in nanoseconds.
    pub receive_ns_per_packet: f64,
}

/// Measures all modes and prints them.
///
/// # Errors
/// When sockets or threads cannot be had.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let mut floors = Vec::new();
    println!(
        "{:>8} {:>9} {:>10} {:>9} {:>9} {:>10} {:>11}",
        "mode", "receivers", "packets", "loss %", "snd CPU", "ns/packet", "rcv ns/pkt"
    );
    for mode in [Mode::Single, Mode::Trains, Mode::Padded] {
        let floor = measure(args, mode)?;
        println!(
            "{:>8} {:>9} {:>10} {:>9.4} {:>9.2} {:>10.0} {:>11.0}",
            format!("{:?}", floor.mode).to_lowercase(),
            floor.receivers,
            floor.packets,
            100.0 * floor.loss,
            floor.sender_cpus,
            floor.ns_per_packet,
            floor.receive_ns_per_packet,
        );
        floors.push(floor);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&floors)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn measure(args: &BenchArgs, mode: Mode) -> anyhow::Result<Floor> {
    let receivers = args.viewers.unwrap_or(100);
    let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
    let sender = net::open(loopback, 1 << 16, false)?;
    let mut sockets = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..receivers {
        let socket = net::open(loopback, args.receive_buffer, !args.no_gro)
            .context("cannot open a socket for each receiver; see `ulimit -n`")?;
        socket.connect(sender.local_addr()?)?;
        addresses.push(socket.local_addr()?);
        sockets.push(socket);
    }
    let sink = Sink::start(sockets)?;
    let seconds = args.duration.clamp(0.1, 3600.0);
    let start_ns = now_ns();
    let mut source = Source::new(shape(args), 1, start_ns);
    let end_ns = start_ns + (seconds * 1e9) as u64;
    let mut packets = 0;
    let cpu_before = thread_cpu_ns();
    while source.deadline_ns() < end_ns {
        let now = now_ns();
        match source.poll(now) {
            Some(frame) => packets += send_burst(&sender, &frame, mode, &addresses),
            None => std::thread::sleep(Duration::from_nanos(source.deadline_ns() - now)),
        }
    }
    let cpu_ns = thread_cpu_ns() - cpu_before;
    let (received, receive_ns) = sink.stop();
    let sent = packets.max(1) as f64;
    Ok(Floor {
        mode,
        receivers,
        packets,
        loss: 1.0 - received.min(packets) as f64 / sent,
        ns_per_packet: cpu_ns as f64 / sent,
        sender_cpus: cpu_ns as f64 / (now_ns() - start_ns) as f64,
        receive_ns_per_packet: receive_ns as f64 / sent,
    })
}

fn shape(args: &BenchArgs) -> Shape {
    Shape {
        codec: args.codec,
        bitrate_bps: args.bitrate,
        fps: args.fps,
        audio: !args.no_audio,
        keyframe_interval_ns: 0,
    }
}

/// Sends a frame to every receiver and returns how many packets that were.
fn send_burst(sender: &UdpSocket, frame: &Frame, mode: Mode, to: &[SocketAddr]) -> u64 {
    let trains = trains(frame, mode);
    let mut packets = 0;
    for &address in to {
        for (train, segment_bytes) in &trains {
            // What the system does not take is lost, and shows as such.
            let _ = net::send_train(sender, train, *segment_bytes, address);
            packets += train.len().div_ceil(usize::from(*segment_bytes)) as u64;
        }
    }
    packets
}

/// The packets of a frame, grouped, each group with its segment size.
fn trains(frame: &Frame, mode: Mode) -> Vec<(Vec<u8>, u16)> {
    let sizes = frame
        .payloads
        .iter()
        .map(|p| p.bytes.len() + OVERHEAD_BYTES);
    let longest = sizes.clone().max().unwrap_or(0);
    let mut trains: Vec<(Vec<u8>, u16)> = Vec::new();
    for size in sizes {
        let size = if mode == Mode::Padded { longest } else { size };
        let fits = trains.last().is_some_and(|(train, segment)| {
            let segment = usize::from(*segment);
            // Only the last segment of a train may be shorter.
            mode != Mode::Single
                && train.len().is_multiple_of(segment)
                && size <= segment
                && train.len() / segment < MAX_SEGMENTS
                && train.len() + size <= MAX_TRAIN_BYTES
        });
        match trains.last_mut().filter(|_| fits) {
            Some((train, _)) => train.resize(train.len() + size, 0x80),
            None => trains.push((vec![0x80; size], size as u16)),
        }
    }
    trains
}

fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A thread that receives and counts.
struct Sink {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<u64>,
}

impl Sink {
    fn start(sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let (stop, received) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (place, socket) in sockets.iter().enumerate() {
            let data = epoll::EventData::new_u64(place as u64);
            epoll::add(&epoll, socket, data, epoll::EventFlags::IN)?;
        }
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&received));
        let thread = std::thread::Builder::new().name("receive-0".to_owned());
        let thread = thread.spawn(move || {
            let mut receiver = Receiver::default();
            let mut events: Vec<epoll::Event> = Vec::with_capacity(512);
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: 50_000_000,
            };
            loop {
                events.clear();
                let _ = epoll::wait(&epoll, spare_capacity(&mut events), Some(&timeout));
                // Everything that was sent before the stop has arrived by now.
                if events.is_empty() && stopped.load(Ordering::Acquire) {
                    return thread_cpu_ns();
                }
                for event in &events {
                    let place = event.data.u64() as usize;
                    if let Ok(datagrams) = receiver.receive(&sockets[place]) {
                        count.fetch_add(datagrams.len() as u64, Ordering::Relaxed);
                    }
                }
            }
        })?;
        Ok(Self {
            stop,
            received,
            thread,
        })
    }

    /// Datagrams received, and the CPU time it took in nanoseconds.
    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Release);
        let cpu_ns = self.thread.join().unwrap_or(0);
        (self.received.load(Ordering::Relaxed), cpu_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::sdp::VideoCodec;

    fn frame() -> Frame {
        let shape = Shape {
            codec: VideoCodec::Vp8,
            bitrate_bps: 5_000_000,
            fps: 30,
            audio: false,
            keyframe_interval_ns: 0,
        };
        Source::new(shape, 1, 0)
            .poll(0)
            .expect("a frame is due at once")
    }

    #[test]
    fn a_padded_burst_is_one_train_per_kernel_limit() {
        let frame = frame();
        let count = frame.payloads.len();
        let trains = trains(&frame, Mode::Padded);
        let segments = |(train, size): &(Vec<u8>, u16)| train.len().div_ceil(usize::from(*size));
        assert_eq!(trains.iter().map(segments).sum::<usize>(), count);
        assert_eq!(trains.len(), count.div_ceil(MAX_TRAIN_BYTES / 1216));
    }

    #[test]
    fn single_packets_and_trains_carry_the_same_bytes() {
        let frame = frame();
        let bytes = |mode| -> usize { trains(&frame, mode).iter().map(|(t, _)| t.len()).sum() };
        assert_eq!(bytes(Mode::Single), bytes(Mode::Trains));
        assert_eq!(trains(&frame, Mode::Single).len(), frame.payloads.len());
        assert!(trains(&frame, Mode::Trains).len() < frame.payloads.len());
    }
}
