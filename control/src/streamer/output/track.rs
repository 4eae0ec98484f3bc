//! A track on its way out: numbers and timestamps that go on, sender reports, and what receivers say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fanmill_engine::packet::codec::MediaKind;
use fanmill_engine::packet::rtcp::{Compound, RtcpPacket, SenderInfo};
use fanmill_engine::packet::rtcp_write::RtcpWriter;
use fanmill_engine::srtp::SrtpError;
use fanmill_engine::tap::{Tap, TapItem, TapPacket};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::sdp::{Described, keep_parameter_sets, payload_type};
use super::{REPORT_EVERY, SentTrack};
use crate::clock::random_u32;
use crate::model::IncomingTrack;
use crate::sdp::{Codec, CodecParameters};
use crate::streamer::security::{Guard, SdesKey, Seal};

/// A mapping of times that was not renewed for this long is no longer told.
const CLOCK_AGE: Duration = Duration::from_secs(60);

const MAX_RTP_BYTES: usize = 2048;
const MAX_RTCP_BYTES: usize = 1500;

/// Before a socket that failed is read again.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// What a receiver told, for the task.
#[derive(Default)]
struct Told {
    wants_keyframe: AtomicBool,
    /// In 256ths, and 256 above; 0: nothing.
    fraction_lost: AtomicU64,
}

/// A track on its way out.
pub(super) struct Track {
    pub(super) kind: MediaKind,
    ssrc: u32,
    to: SocketAddr,
    rtcp_to: SocketAddr,
    socket: Arc<UdpSocket>,
    seal: Option<Seal>,
    told: Arc<Told>,
    _reader: AbortOnDropHandle<()>,
    source: Option<Tapped>,
    codec: Option<CodecParameters>,
    parameter_sets: Vec<Vec<u8>>,
    numbers: Numbers,
    clock: Option<(u64, u32, Instant)>,
    reported: Option<Instant>,
    packets: u64,
    bytes: u64,
    dropped: u64,
}

/// A publisher's track.
pub(super) struct Tapped {
    tap: Tap,
    track: Arc<IncomingTrack>,
    lost: u64,
    /// Of a better encoding, until it has a keyframe.
    next: Option<Tap>,
}

impl Tapped {
    pub(super) fn new(tap: Tap, track: Arc<IncomingTrack>) -> Self {
        Self {
            tap,
            track,
            lost: 0,
            next: None,
        }
    }
}

/// Sequence numbers and timestamps that go on.
#[derive(Debug)]
struct Numbers {
    /// The first index since the source began, and the number that it was sent with.
    index: Option<(u64, u64)>,
    /// Without wrapping, as SRTP counts them.
    next: u64,
    offset: u32,
    /// The latest timestamp that was sent, when, and its clock rate.
    last: Option<(u32, Instant, u32)>,
    began: bool,
}

impl Numbers {
    fn new() -> Self {
        Self {
            index: None,
            // RFC 3711 3.3.1: a receiver that misses the first packets is not to miss a roll-over.
            next: u64::from(random_u32() >> 17),
            offset: 0,
            last: None,
            began: false,
        }
    }

    /// What comes has nothing to do with what came.
    fn restart(&mut self) {
        self.index = None;
        self.began = false;
    }

    /// The number and the timestamp that a packet is sent with; `None` for one from before the
    /// first.
    fn of(&mut self, index: u64, timestamp: u32, rate_hz: u32, now: Instant) -> Option<(u64, u32)> {
        if !self.began {
            self.began = true;
            let follows = self.last.map(|(last, at, rate)| {
                let passed = now.duration_since(at).as_micros() * u128::from(rate) / 1_000_000;
                last.wrapping_add((passed as u32).max(1))
            });
            let first = follows.unwrap_or_else(random_u32);
            self.offset = first.wrapping_sub(timestamp);
            self.index = None;
        }
        let (first, number) = *self.index.get_or_insert((index, self.next));
        let number = number + index.checked_sub(first)?;
        self.next = self.next.max(number + 1);
        let timestamp = timestamp.wrapping_add(self.offset);
        self.last = Some((timestamp, now, rate_hz));
        Some((number, timestamp))
    }
}

impl Track {
    /// To a port, and RTCP to another or the same; sealed if there is a key.
    pub(super) fn new(
        kind: MediaKind,
        (to, rtcp_to): (SocketAddr, SocketAddr),
        socket: UdpSocket,
        key: Option<&SdesKey>,
    ) -> Result<Self, SrtpError> {
        let socket = Arc::new(socket);
        let told = Arc::new(Told::default());
        let guard = key.map(Guard::new).transpose()?;
        let reader = tokio::spawn(hear(Arc::clone(&socket), guard, Arc::clone(&told)));
        Ok(Self {
            kind,
            ssrc: random_u32(),
            to,
            rtcp_to,
            socket,
            seal: key.map(Seal::new).transpose()?,
            told,
            _reader: AbortOnDropHandle::new(reader),
            source: None,
            codec: None,
            parameter_sets: Vec::new(),
            numbers: Numbers::new(),
            clock: None,
            reported: None,
            packets: 0,
            bytes: 0,
            dropped: 0,
        })
    }

    /// The track, if a better encoding of it comes in than the one that is sent.
    pub(super) fn better(&self) -> Option<Arc<IncomingTrack>> {
        let source = self.source.as_ref()?;
        let best = source.track.ask_for_best();
        let has = |tap: &Tap| tap.rendition() == best.rendition();
        let is_had = has(&source.tap) || source.next.as_ref().is_some_and(has);
        (best.is_active() && !is_had).then(|| Arc::clone(&source.track))
    }

    /// Goes on with this encoding of the same track, from its next keyframe on.
    pub(super) fn change_to(&mut self, next: Option<Tap>) {
        if let Some(source) = &mut self.source {
            source.next = next;
        }
    }

    /// Changes over if the better encoding has a keyframe.
    fn change_over(&mut self, source: &mut Tapped, now: Instant) {
        let Some(mut next) = source.next.take() else {
            return;
        };
        next.want_keyframe();
        while let Some(item) = next.pop() {
            let TapItem::Packet(packet) = item else {
                continue;
            };
            if packet.is_keyframe_start() {
                self.numbers.restart();
                self.clock = None;
                self.describe(&packet, &source.track);
                self.send(&packet, now);
                source.tap = next;
                source.lost = 0;
                return;
            }
        }
        source.next = Some(next);
    }

    pub(super) fn is_live(&self) -> bool {
        self.source.is_some()
    }

    /// What its receivers are told, once all of it is known.
    pub(super) fn described(&self) -> Option<Described> {
        let codec = self.codec.clone()?;
        let is_complete = codec.codec != Codec::H264 || self.parameter_sets.len() >= 2;
        is_complete.then(|| Described {
            port: self.to.port(),
            codec,
            parameter_sets: self.parameter_sets.clone(),
        })
    }

    /// Its numbers for lists.
    pub(super) fn sent(&self) -> Option<SentTrack> {
        let loss = self.told.fraction_lost.load(Ordering::Relaxed);
        Some(SentTrack {
            codec: self.codec.as_ref()?.codec.encoding_name(),
            to: self.to,
            ssrc: self.ssrc,
            packets: self.packets,
            dropped: self.dropped,
            reported_loss_percent: (loss > 0).then(|| (loss - 1) as f64 / 2.56),
        })
    }

    /// Goes on with the track of another publisher, or of none.
    pub(super) fn attach(&mut self, source: Option<Tapped>) {
        let before = std::mem::replace(&mut self.source, source);
        if before.is_some() {
            self.numbers.restart();
            self.clock = None;
            self.codec = None;
            self.parameter_sets.clear();
        }
    }

    /// Sends what the tap has; whether there is more to be told of the track than before.
    pub(super) fn pump(&mut self, left: &mut usize, now: Instant) -> bool {
        let Some(mut source) = self.source.take() else {
            return false;
        };
        if self.told.wants_keyframe.swap(false, Ordering::Relaxed) {
            source.tap.want_keyframe();
        }
        self.change_over(&mut source, now);
        let lost = source.tap.lost();
        self.dropped += lost - source.lost;
        source.lost = lost;
        let mut changed = false;
        while *left > 0 {
            match source.tap.pop() {
                Some(TapItem::Packet(packet)) => {
                    *left -= 1;
                    changed |= self.describe(&packet, &source.track);
                    self.send(&packet, now);
                }
                Some(TapItem::Clock(clock)) => {
                    self.clock = Some((clock.ntp, clock.rtp, now));
                    self.reported = None;
                }
                // The numbers tell the receiver.
                Some(TapItem::Lost(_)) => {}
                Some(TapItem::Restarted) => {
                    self.numbers.restart();
                    self.clock = None;
                }
                None => break,
            }
        }
        self.source = Some(source);
        self.report(now);
        changed
    }

    /// Takes note of what a packet tells of its track.
    fn describe(&mut self, packet: &TapPacket<'_>, track: &IncomingTrack) -> bool {
        let number = packet.codec().payload_type;
        let known = self.codec.as_ref().map(|codec| codec.payload_type);
        let mut changed = false;
        if known != Some(number) {
            let of = |codec: &&CodecParameters| codec.payload_type == number;
            self.codec = track.codecs().iter().find(of).cloned();
            self.parameter_sets.clear();
            changed = true;
        }
        let codec = self.codec.as_ref().map(|codec| codec.codec);
        if codec == Some(Codec::H264) && packet.is_keyframe_start() {
            let before = self.parameter_sets.clone();
            keep_parameter_sets(packet.payload(), &mut self.parameter_sets);
            changed |= before != self.parameter_sets;
        } else if codec == Some(Codec::H264) && self.parameter_sets.len() == 1 {
            // The PPS comes in a packet of its own.
            keep_parameter_sets(packet.payload(), &mut self.parameter_sets);
            changed |= self.parameter_sets.len() == 2;
        }
        changed
    }

    fn send(&mut self, packet: &TapPacket<'_>, now: Instant) {
        let Some(codec) = self.codec.as_ref().map(|codec| codec.codec) else {
            return;
        };
        let rate_hz = packet.codec().clock_rate;
        let numbers = self
            .numbers
            .of(packet.index(), packet.timestamp(), rate_hz, now);
        let Some((index, timestamp)) = numbers else {
            return;
        };
        let payload = packet.payload();
        let mut datagram = [0; MAX_RTP_BYTES];
        let length = 12 + payload.len();
        let Some(bytes) = datagram.get_mut(..length) else {
            self.dropped += 1;
            return;
        };
        let (header, body) = bytes.split_at_mut(12);
        header[0] = 0x80;
        header[1] = u8::from(packet.marker()) << 7 | payload_type(codec);
        header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        header[4..8].copy_from_slice(&timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        body.copy_from_slice(payload);
        let sealed = self.seal.as_ref().map(|seal| seal.rtp(index, bytes));
        let sent = match &sealed {
            None => self.socket.try_send_to(bytes, self.to).is_ok(),
            Some(Ok(sealed)) => self.socket.try_send_to(sealed, self.to).is_ok(),
            Some(Err(_)) => false,
        };
        match sent {
            true => {
                self.packets += 1;
                self.bytes += payload.len() as u64;
            }
            false => self.dropped += 1,
        }
    }

    /// Tells the receivers what time it is, if it is time to.
    fn report(&mut self, now: Instant) {
        let is_due = self
            .reported
            .is_none_or(|at| now.duration_since(at) >= REPORT_EVERY);
        let (Some((ntp, rtp, at)), true) = (self.clock, is_due && self.numbers.began) else {
            return;
        };
        let passed = now.duration_since(at);
        let Some(rate_hz) = self.codec.as_ref().map(|codec| codec.clock_rate) else {
            return;
        };
        if passed > CLOCK_AGE {
            return;
        }
        self.reported = Some(now);
        let ticks = passed.as_micros() * u128::from(rate_hz) / 1_000_000;
        let passed_ntp = (passed.as_nanos() << 32) / 1_000_000_000;
        let info = SenderInfo {
            ssrc: self.ssrc,
            ntp_timestamp: ntp.wrapping_add(passed_ntp as u64),
            rtp_timestamp: rtp
                .wrapping_add(self.numbers.offset)
                .wrapping_add(ticks as u32),
            packet_count: self.packets as u32,
            octet_count: self.bytes as u32,
        };
        let mut buffer = [0; 128];
        let mut writer = RtcpWriter::new(&mut buffer);
        let written = writer.sender_report(&info, &[]);
        if written.is_err() || writer.sdes_cname(self.ssrc, b"fanmill").is_err() {
            return;
        }
        let sealed = self.seal.as_mut().map(|seal| seal.rtcp(writer.as_bytes()));
        let packet = match &sealed {
            None => writer.as_bytes(),
            Some(Ok(sealed)) => sealed,
            Some(Err(_)) => return,
        };
        // Lost like any other packet.
        let _ = self.socket.try_send_to(packet, self.rtcp_to);
    }
}

/// Hears what receivers say.
async fn hear(socket: Arc<UdpSocket>, mut guard: Option<Guard>, told: Arc<Told>) {
    let mut buffer = [0; MAX_RTCP_BYTES];
    loop {
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(AFTER_ERROR).await;
            continue;
        };
        let packet = &buffer[..length];
        let opened = guard.as_mut().map(|guard| guard.open_rtcp(packet));
        let plain = match &opened {
            None => packet,
            Some(Ok(plain)) => plain,
            Some(Err(_)) => continue,
        };
        for packet in Compound::new(plain).map_while(Result::ok) {
            match packet {
                RtcpPacket::Pli(_) | RtcpPacket::Fir(_) => {
                    told.wants_keyframe.store(true, Ordering::Relaxed);
                }
                RtcpPacket::ReceiverReport(report) => {
                    if let Some(block) = report.report_blocks().next() {
                        let fraction = u64::from(block.fraction_lost) + 1;
                        told.fraction_lost.store(fraction, Ordering::Relaxed);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_timestamps_go_on_when_the_source_is_another() {
        let mut numbers = Numbers::new();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let first = numbers.of(70_000, 1_000, 90_000, at(0));
        let late = numbers.of(70_002, 7_000, 90_000, at(66));
        let (Some((number, timestamp)), Some(late)) = (first, late) else {
            panic!("packets were left out");
        };
        assert_eq!(late, (number + 2, timestamp.wrapping_add(6_000)));
        assert_eq!(numbers.of(69_999, 500, 90_000, at(67)), None, "from before");
        numbers.restart();
        let next = numbers.of(12, 3_000_000_000, 90_000, at(1_066));
        assert_eq!(next, Some((number + 3, timestamp.wrapping_add(96_000))));
        let following = numbers.of(13, 3_000_003_000, 90_000, at(1_100));
        assert_eq!(
            following,
            Some((number + 4, timestamp.wrapping_add(99_000)))
        );
    }
}
