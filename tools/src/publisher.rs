//! The thread that sends: every publisher of the run, each on its socket.
//!
//! It sends frames when they are due, one packet a system call as a browser does, answers picture
//! loss indications with keyframes and NACKs with retransmissions, and keeps consent. It must
//! never wait for anything but its sockets and the next frame.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use fanmill_engine::packet::Kind;
use fanmill_engine::packet::rtcp::{Compound, RtcpPacket, SenderInfo};
use fanmill_engine::packet::rtcp_write::RtcpWriter;
use fanmill_engine::srtp::{RtcpSession, Sealer, SrtpError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::client::ice::IceAgent;
use crate::client::join::Session;
use crate::client::sdp::{AUDIO_LEVEL_ID, OPUS, Ssrcs};
use crate::clock::{now_ns, now_ntp};
use crate::media::source::{Frame, Shape, Source};
use crate::media::stamp::{self, Stamp};

/// Packets kept for retransmission.
const STORE_PACKETS: usize = 1024;
const REPORT_INTERVAL_NS: u64 = 1_000_000_000;
/// A frame that is due while the thread sleeps waits no longer than this.
const MAX_SLEEP_NS: u64 = 5_000_000;
const MAX_DATAGRAM_BYTES: usize = 2048;
/// Of publishers who speak in turn, each speaks for so long.
const TURN_NS: u64 = 2_000_000_000;

/// What the publishers have done so far.
#[derive(Debug, Default)]
pub struct PublisherCounters {
    /// RTP packets sent, without retransmissions.
    pub packets: AtomicU64,
    /// Bytes of them, sealed.
    pub bytes: AtomicU64,
    /// Keyframes.
    pub keyframes: AtomicU64,
    /// Keyframe requests received.
    pub keyframe_requests: AtomicU64,
    /// Packets asked for again.
    pub nacked: AtomicU64,
    /// Packets sent again.
    pub retransmitted: AtomicU64,
    /// Packets the system did not take.
    pub send_failures: AtomicU64,
    /// Frames that were sent more than 5 ms after they were due: this machine is too slow.
    pub late_frames: AtomicU64,
}

/// The sending thread.
pub struct Publishers {
    counters: Arc<PublisherCounters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Publishers {
    /// Starts sending. If they are `speaking` in turn, packets of sound say how loud it is.
    ///
    /// # Errors
    /// When the keys do not fit their profile, or no thread can be started.
    pub fn start(
        sessions: Vec<(Session, Ssrcs)>,
        shape: Shape,
        speaking: bool,
    ) -> io::Result<Self> {
        let counters = Arc::<PublisherCounters>::default();
        let stop = Arc::<AtomicBool>::default();
        let start_ns = now_ns();
        let count = sessions.len().max(1) as u64;
        let mut publishers = Vec::new();
        for (number, (session, ssrcs)) in sessions.into_iter().enumerate() {
            // Publishers do not all send their frames at the same moment.
            let phase_ns = 1_000_000_000 / u64::from(shape.fps.max(1)) * number as u64 / count;
            let source = Source::new(shape, number as u64 + 1, start_ns + phase_ns);
            let publisher = Publisher::new(session, ssrcs, source, number as u16, shape)
                .map_err(io::Error::other)?;
            publishers.push(Publisher {
                turns: speaking.then_some(count),
                ..publisher
            });
        }
        let thread = std::thread::Builder::new().name("publish".to_owned());
        let (shared, stopped) = (Arc::clone(&counters), Arc::clone(&stop));
        let thread = thread.spawn(move || send_until(&mut publishers, &shared, &stopped))?;
        Ok(Self {
            counters,
            stop,
            thread: Some(thread),
        })
    }

    /// What they have done so far.
    #[must_use]
    pub fn counters(&self) -> &PublisherCounters {
        &self.counters
    }
}

impl Drop for Publishers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How loud a publisher is, in -dBov: in its turn it speaks, in syllables; else there is the noise of a
/// quiet room.
fn loudness(publisher: u16, count: u64, packet: u64, now_ns: u64) -> u8 {
    let has_turn = now_ns / TURN_NS % count == u64::from(publisher);
    match packet % 12 {
        0..10 if has_turn => 28 + (packet * 7 % 11) as u8,
        at => 70 + at as u8 % 5,
    }
}

/// Completes a header with the audio level (RFC 8285 4.2, RFC 6464): one element of a byte.
fn with_level(header: &mut [u8; 20], level: u8) -> &[u8] {
    header[0] |= 0x10;
    let extension = [0xBE, 0xDE, 0, 1, AUDIO_LEVEL_ID << 4, level, 0, 0];
    header[12..].copy_from_slice(&extension);
    header
}

fn send_until(publishers: &mut [Publisher], counters: &PublisherCounters, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let now = now_ns();
        for publisher in publishers.iter_mut() {
            publisher.send_due(now, counters);
        }
        let due = publishers.iter().map(|p| p.source.deadline_ns()).min();
        let now = now_ns();
        let sleep_ns = due
            .unwrap_or(u64::MAX)
            .saturating_sub(now)
            .min(MAX_SLEEP_NS);
        if sleep_ns == 0 {
            continue;
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: sleep_ns as i64,
        };
        let mut sockets: Vec<_> = publishers
            .iter()
            .map(|publisher| PollFd::new(&publisher.socket, PollFlags::IN))
            .collect();
        // An interrupted wait is as good as one that ended.
        let _ = poll(&mut sockets, Some(&timeout));
        let ready: Vec<bool> = sockets.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (publisher, ready) in publishers.iter_mut().zip(ready) {
            if ready {
                publisher.receive(counters);
            }
        }
    }
}

/// One SSRC that is sent.
struct Stream {
    ssrc: u32,
    payload_type: u8,
    /// Rollover counter and sequence number of the next packet.
    index: u64,
    packets: u32,
    octets: u32,
    timestamp: u32,
}

impl Stream {
    fn new(ssrc: u32, payload_type: u8) -> Self {
        Self {
            ssrc,
            payload_type,
            // Below 2^15, so that the receiver cannot mistake the rollover counter.
            index: u64::from(ssrc & 0x3fff),
            packets: 0,
            octets: 0,
            timestamp: 0,
        }
    }

    fn header(&self, marker: bool, timestamp: u32) -> [u8; 12] {
        let mut header = [0; 12];
        header[0] = 0x80;
        header[1] = u8::from(marker) << 7 | self.payload_type;
        header[2..4].copy_from_slice(&(self.index as u16).to_be_bytes());
        header[4..8].copy_from_slice(&timestamp.to_be_bytes());
        header[8..].copy_from_slice(&self.ssrc.to_be_bytes());
        header
    }

    fn report(&self) -> SenderInfo {
        SenderInfo {
            ssrc: self.ssrc,
            ntp_timestamp: now_ntp(),
            rtp_timestamp: self.timestamp,
            packet_count: self.packets,
            octet_count: self.octets,
        }
    }
}

/// A sent packet, kept for retransmission.
#[derive(Clone, Default)]
struct Sent {
    sequence_number: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

struct Publisher {
    socket: UdpSocket,
    remote: SocketAddr,
    ice: IceAgent,
    sealer: Sealer,
    rtcp: RtcpSession,
    source: Source,
    audio: Option<Stream>,
    video: Stream,
    rtx: Stream,
    store: Vec<Sent>,
    number: u16,
    /// Of how many who speak in turn it is one, if they do.
    turns: Option<u64>,
    packets: u32,
    next_report_ns: u64,
    out: Box<[u8; MAX_DATAGRAM_BYTES]>,
}

impl Publisher {
    fn new(
        session: Session,
        ssrcs: Ssrcs,
        source: Source,
        number: u16,
        shape: Shape,
    ) -> Result<Self, SrtpError> {
        let material = session.keys.material()?;
        let profile = session.keys.profile();
        Ok(Self {
            socket: session.socket,
            remote: session.remote,
            ice: session.ice,
            sealer: Sealer::new(profile, &material.local)?,
            rtcp: RtcpSession::new(profile, &material.local, &material.remote)?,
            source,
            audio: ssrcs.audio.map(|ssrc| Stream::new(ssrc, OPUS)),
            video: Stream::new(ssrcs.video, shape.codec.payload_type()),
            rtx: Stream::new(ssrcs.rtx, shape.codec.rtx_payload_type()),
            store: vec![Sent::default(); STORE_PACKETS],
            number,
            turns: None,
            packets: 0,
            next_report_ns: 0,
            out: Box::new([0; MAX_DATAGRAM_BYTES]),
        })
    }

    fn send_due(&mut self, now: u64, counters: &PublisherCounters) {
        const LATE_NS: u64 = 5_000_000;
        loop {
            let due = self.source.deadline_ns();
            let Some(frame) = self.source.poll(now) else {
                break;
            };
            if now > due + LATE_NS {
                counters.late_frames.fetch_add(1, Ordering::Relaxed);
            }
            counters
                .keyframes
                .fetch_add(u64::from(frame.keyframe), Ordering::Relaxed);
            self.send_frame(frame, counters);
        }
        if let Some(request) = self.ice.poll(now / 1000) {
            let _ = self.socket.send(&request);
        }
        if now >= self.next_report_ns {
            self.next_report_ns = now + REPORT_INTERVAL_NS;
            self.report();
        }
    }

    fn send_frame(&mut self, frame: Frame, counters: &PublisherCounters) {
        for mut payload in frame.payloads {
            let stamp = Stamp {
                publisher: self.number,
                number: self.packets,
                sent_ns: now_ns(),
            };
            stamp::write(&mut payload.bytes, payload.body_len, stamp);
            let stream = match (&mut self.audio, frame.video) {
                (Some(audio), false) => audio,
                _ => &mut self.video,
            };
            let mut header = [0; 20];
            header[..12].copy_from_slice(&stream.header(payload.marker, frame.timestamp));
            let level = self.turns.filter(|_| !frame.video);
            let level =
                level.map(|count| loudness(self.number, count, stream.index, stamp.sent_ns));
            let header = match level {
                Some(level) => with_level(&mut header, level),
                None => &header[..12],
            };
            let sealed = self
                .sealer
                .seal(stream.index, header, &payload.bytes, &mut self.out[..]);
            let sequence_number = stream.index as u16;
            stream.index += 1;
            stream.timestamp = frame.timestamp;
            stream.packets = stream.packets.wrapping_add(1);
            stream.octets = stream.octets.wrapping_add(payload.bytes.len() as u32);
            self.packets = self.packets.wrapping_add(1);
            let sent = sealed
                .map_err(io::Error::other)
                .and_then(|len| self.socket.send(&self.out[..len]));
            match sent {
                Ok(len) => {
                    counters.packets.fetch_add(1, Ordering::Relaxed);
                    counters.bytes.fetch_add(len as u64, Ordering::Relaxed);
                }
                Err(_) => drop(counters.send_failures.fetch_add(1, Ordering::Relaxed)),
            }
            if frame.video {
                self.store[usize::from(sequence_number) % STORE_PACKETS] = Sent {
                    sequence_number,
                    timestamp: frame.timestamp,
                    marker: payload.marker,
                    payload: payload.bytes,
                };
            }
        }
    }

    fn report(&mut self) {
        let mut out = [0; 256];
        let mut writer = RtcpWriter::new(&mut out);
        for stream in [Some(&self.video), self.audio.as_ref()]
            .into_iter()
            .flatten()
        {
            let written = writer
                .sender_report(&stream.report(), &[])
                .and_then(|()| writer.sdes_cname(stream.ssrc, b"bench"));
            if written.is_err() {
                break;
            }
        }
        if let Ok(sealed) = self.rtcp.seal(writer.as_bytes()) {
            let _ = self.socket.send(&sealed);
        }
    }

    fn receive(&mut self, counters: &PublisherCounters) {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        while let Ok(len) = self.socket.recv(&mut buffer) {
            let datagram = &buffer[..len];
            match Kind::of(datagram) {
                Kind::Stun => {
                    let now_us = now_ns() / 1000;
                    if let Some(answer) = self.ice.handle(now_us, self.remote, datagram) {
                        let _ = self.socket.send(&answer);
                    }
                }
                Kind::Rtcp => {
                    if let Ok(plain) = self.rtcp.open(datagram) {
                        self.feedback(&plain, counters);
                    }
                }
                _ => {}
            }
        }
    }

    fn feedback(&mut self, compound: &[u8], counters: &PublisherCounters) {
        for packet in Compound::new(compound).flatten() {
            match packet {
                RtcpPacket::Pli(_) | RtcpPacket::Fir(_) => {
                    counters.keyframe_requests.fetch_add(1, Ordering::Relaxed);
                    self.source.request_keyframe();
                }
                RtcpPacket::Nack(nack) if nack.media_ssrc == self.video.ssrc => {
                    for sequence_number in nack.sequence_numbers() {
                        counters.nacked.fetch_add(1, Ordering::Relaxed);
                        self.retransmit(sequence_number, counters);
                    }
                }
                _ => {}
            }
        }
    }

    // RFC 4588 4: the original sequence number precedes the payload.
    fn retransmit(&mut self, sequence_number: u16, counters: &PublisherCounters) {
        let sent = &self.store[usize::from(sequence_number) % STORE_PACKETS];
        if sent.sequence_number != sequence_number || sent.payload.is_empty() {
            return;
        }
        let header = self.rtx.header(sent.marker, sent.timestamp);
        let original = sequence_number.to_be_bytes();
        let parts: [&[u8]; 2] = [&original, &sent.payload];
        let sealed = self
            .sealer
            .seal_parts(self.rtx.index, &header, &parts, &mut self.out[..]);
        self.rtx.index += 1;
        if let Ok(len) = sealed
            && self.socket.send(&self.out[..len]).is_ok()
        {
            counters.retransmitted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
