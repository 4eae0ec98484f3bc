//! Real input: what the ffmpeg program encodes, sent by its own RTP muxer to a loopback socket.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanmill_engine::packet::codec::{Codec, MediaKind};

use crate::media::reorder::Packet;
use crate::taps::{Item, Source};

/// The seconds that are encoded.
pub(super) const SECONDS: u32 = 3;

/// One track as it came in.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) codec: Codec,
    pub(super) items: Vec<Item>,
}

impl Heard {
    /// Pictures, or packets of sound: those of one timestamp.
    pub(super) fn units(&self) -> usize {
        let timestamps = self.items.iter().filter_map(|item| match item {
            Item::Packet(packet, _) => Some(packet.timestamp),
            _ => None,
        });
        timestamps.collect::<std::collections::BTreeSet<_>>().len()
    }

    pub(super) fn packets(&mut self) -> impl Iterator<Item = &mut Packet> {
        self.items.iter_mut().filter_map(|item| match item {
            Item::Packet(packet, _) => Some(packet),
            _ => None,
        })
    }
}

/// What a source was wished for.
pub(super) type Wishes = Arc<AtomicBool>;

/// Gives what was heard on several tracks, in the order of arrival, faster than it came.
#[derive(Clone)]
pub(super) struct Stage(Arc<Mutex<Vec<VecDeque<Item>>>>);

/// How far one track may be ahead of the others.
const AHEAD_US: u64 = 40_000;

impl Stage {
    /// Something is left to be taken.
    pub(super) fn is_waiting(&self) -> bool {
        self.0.lock().unwrap().iter().any(|items| !items.is_empty())
    }

    /// Adds items behind those that are left.
    pub(super) fn add(&self, track: usize, items: Vec<Item>) {
        self.0.lock().unwrap()[track].extend(items);
    }

    fn pop(&self, track: usize) -> Option<Item> {
        let mut tracks = self.0.lock().unwrap();
        let next = |items: &VecDeque<Item>| {
            let mut packets = items.iter().filter_map(|item| match item {
                Item::Packet(packet, _) => Some(packet.arrival_us),
                _ => None,
            });
            packets.next()
        };
        let others = tracks
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != track);
        let slowest = others.filter_map(|(_, items)| next(items)).min();
        let mine = next(&tracks[track]);
        let ahead = mine
            .zip(slowest)
            .is_some_and(|(mine, slowest)| mine > slowest + AHEAD_US);
        if ahead {
            None
        } else {
            tracks[track].pop_front()
        }
    }
}

struct Replay {
    kind: MediaKind,
    track: usize,
    stage: Stage,
    wished: Wishes,
}

/// The sources of what was heard, and what is left of it; video may be wished for keyframes.
pub(super) fn stage(
    heard: impl IntoIterator<Item = Heard>,
) -> (Vec<Box<dyn Source>>, Stage, Wishes) {
    let (kinds, items): (Vec<_>, Vec<_>) = heard
        .into_iter()
        .map(|heard| (heard.codec.kind(), VecDeque::from(heard.items)))
        .unzip();
    let stage = Stage(Arc::new(Mutex::new(items)));
    let wished = Wishes::default();
    let replay = |(track, kind)| {
        let (stage, wished) = (stage.clone(), wished.clone());
        Box::new(Replay {
            kind,
            track,
            stage,
            wished,
        }) as Box<dyn Source>
    };
    let sources = kinds.into_iter().enumerate().map(replay).collect();
    (sources, stage, wished)
}

impl Source for Replay {
    fn kind(&self) -> MediaKind {
        self.kind
    }

    fn pop(&mut self) -> Option<Item> {
        self.stage.pop(self.track)
    }

    fn want_keyframe(&mut self) {
        self.wished.store(true, Ordering::Relaxed);
    }
}

/// Encodes a test picture with `video` and a tone with `sound`, and hears both.
pub(super) fn capture(video: (Codec, &[&str]), sound: (Codec, &[&str])) -> [Heard; 2] {
    let picture = format!("testsrc2=size=320x180:rate=30:duration={SECONDS}");
    let tone = format!("sine=frequency=440:duration={SECONDS}");
    capture_scene([&picture, &tone], video, sound)
}

/// Encodes what two filters make, a picture and a sound.
pub(super) fn capture_scene(
    [picture, tone]: [&str; 2],
    video: (Codec, &[&str]),
    sound: (Codec, &[&str]),
) -> [Heard; 2] {
    let ports = [pair(), pair()];
    let url = |pair: &[UdpSocket; 2]| {
        format!(
            "rtp://127.0.0.1:{}?pkt_size=1200",
            pair[0].local_addr().unwrap().port()
        )
    };
    let mut command = Command::new("ffmpeg");
    command
        .args([
            "-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", picture,
        ])
        .args(["-re", "-f", "lavfi", "-i", tone])
        .args(["-map", "0:v", "-g", "30", "-pix_fmt", "yuv420p"])
        .args(video.1)
        .args(["-strict", "-2", "-f", "rtp", &url(&ports[0])])
        .args(["-map", "1:a"])
        .args(sound.1)
        .args(["-f", "rtp", &url(&ports[1])])
        .stdout(Stdio::null());
    let child = Arc::new(Mutex::new(command.spawn().expect("ffmpeg is installed")));
    let began = Instant::now();
    let [video_ports, sound_ports] = ports;
    let hearing = [(video.0, video_ports), (sound.0, sound_ports)].map(|(codec, ports)| {
        let child = Arc::clone(&child);
        std::thread::spawn(move || hear(codec, &ports, &child, began))
    });
    hearing.map(|thread| thread.join().unwrap())
}

/// Two sockets on neighbouring ports, for RTP and RTCP.
fn pair() -> [UdpSocket; 2] {
    loop {
        let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = rtp.local_addr().unwrap().port();
        if port.is_multiple_of(2)
            && let Ok(rtcp) = UdpSocket::bind(("127.0.0.1", port + 1))
        {
            return [rtp, rtcp];
        }
    }
}

fn hear(codec: Codec, ports: &[UdpSocket; 2], child: &Mutex<Child>, began: Instant) -> Heard {
    ports[0]
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    ports[1].set_nonblocking(true).unwrap();
    let mut heard = Heard {
        codec,
        items: Vec::new(),
    };
    let (mut buffer, mut index) = (vec![0; 4096], None);
    loop {
        let ended = child.lock().unwrap().try_wait().unwrap().is_some();
        while let Ok(len) = ports[1].recv(&mut buffer) {
            heard.items.extend(report(&buffer[..len]));
        }
        match ports[0].recv(&mut buffer) {
            Ok(len) => {
                let arrival_us = u64::try_from(began.elapsed().as_micros()).unwrap();
                let packet = packet(codec, &buffer[..len], &mut index, arrival_us);
                // ffmpeg reports its clock before the first packet.
                while let Ok(len) = ports[1].recv(&mut buffer) {
                    heard.items.extend(report(&buffer[..len]));
                }
                heard
                    .items
                    .push(Item::Packet(packet, codec.clock_rate_hz()));
            }
            Err(_) if ended => break,
            Err(_) => {}
        }
    }
    assert!(!heard.items.is_empty(), "ffmpeg sent nothing");
    heard
}

fn report(rtcp: &[u8]) -> Option<Item> {
    let word = |at: usize| Some(u32::from_be_bytes(rtcp.get(at..at + 4)?.try_into().ok()?));
    if rtcp.get(1) != Some(&200) {
        return None;
    }
    let ntp = u64::from(word(8)?) << 32 | u64::from(word(12)?);
    Some(Item::Report(ntp, word(16)?))
}

fn packet(codec: Codec, rtp: &[u8], last: &mut Option<u64>, arrival_us: u64) -> Packet {
    assert_eq!(rtp[0], 0x80, "ffmpeg sends plain headers");
    let sequence = u16::from_be_bytes([rtp[2], rtp[3]]);
    let index = match *last {
        None => u64::from(sequence) + (1 << 16),
        Some(last) => {
            let step = sequence.wrapping_sub(last as u16).cast_signed();
            last.saturating_add_signed(step.into())
        }
    };
    *last = Some(last.map_or(index, |last| last.max(index)));
    Packet {
        index,
        timestamp: u32::from_be_bytes([rtp[4], rtp[5], rtp[6], rtp[7]]),
        marker: rtp[1] & 0x80 != 0,
        codec,
        payload: rtp[12..].to_vec(),
        arrival_us,
    }
}
