//! A session that sends: the packets of a stream, as they are, to an address.
//!
//! One task, which the registry starts and stops. Payloads are passed on untouched; numbers and
//! timestamps are the session's own, and go on when another publisher comes. What it cannot send it
//! drops, and its taps are bounded: the stream's viewers do not notice it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanmill_engine::packet::codec::MediaKind;
use fanmill_engine::packet::rtcp::{Compound, RtcpPacket, SenderInfo};
use fanmill_engine::packet::rtcp_write::RtcpWriter;
use fanmill_engine::tap::{Tap, TapItem, TapPacket, TapSpec};
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::output_sdp::{Described, describe, keep_parameter_sets, payload_type};
use super::{SendSpec, StreamerError};
use crate::broadcast::{Follower, Live};
use crate::clock::random_u32;
use crate::model::{IncomingTrack, TapSignal};
use crate::sdp::{Codec, CodecParameters};

/// Ports between tracks: one for RTP, one for RTCP.
const PORTS_A_TRACK: u16 = 2;

/// The highest port that leaves room for them.
const HIGHEST_PORT: u16 = 65_520;

/// How often receivers are told the time (RFC 3550 6.2 allows what is needed to play in step).
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Packets sent in one go: a receiver's socket holds that many. The frame cache gives more at once.
const BURST_PACKETS: usize = 32;

/// Between such bursts.
const BURST_PAUSE: Duration = Duration::from_millis(1);

/// A mapping of times that was not renewed for this long is no longer told.
const CLOCK_AGE: Duration = Duration::from_secs(60);

const MAX_RTP_BYTES: usize = 2048;
const MAX_RTCP_BYTES: usize = 1500;

/// A session that sends, in a list.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SenderState {
    /// `waiting` for the stream to be live, or `sending`.
    pub state: &'static str,
    /// Its tracks.
    pub tracks: Vec<SentTrack>,
}

/// A track that is sent, in a list.
#[derive(Debug, Clone, Serialize)]
pub struct SentTrack {
    /// Its codec.
    pub codec: &'static str,
    /// Where to.
    pub to: SocketAddr,
    /// Its SSRC.
    pub ssrc: u32,
    /// Packets sent.
    pub packets: u64,
    /// Packets that were not sent: the session was behind, or the network did not take them.
    pub dropped: u64,
    /// Share of packets that the receiver said it lost, in per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_loss_percent: Option<f64>,
}

/// What lists and [`sdp`](Shared::sdp) read.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<(SenderState, Option<String>)>,
    /// Rung when the description changed.
    described: Notify,
}

impl Shared {
    pub(super) fn state(&self) -> SenderState {
        self.lock().0.clone()
    }

    /// The description of what is sent, once it is known.
    pub(super) fn sdp(&self) -> Option<String> {
        self.lock().1.clone()
    }

    /// Waits for the description at most so long.
    pub(super) async fn wait_for_sdp(&self, limit: Duration) -> Option<String> {
        let known = async {
            loop {
                let changed = self.described.notified();
                if let Some(sdp) = self.sdp() {
                    return sdp;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, known).await.ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (SenderState, Option<String>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a receiver told, for the task.
#[derive(Default)]
struct Told {
    wants_keyframe: AtomicBool,
    /// In 256ths, and 256 above; 0: nothing.
    fraction_lost: AtomicU64,
}

/// A track on its way out.
struct Track {
    kind: MediaKind,
    ssrc: u32,
    to: SocketAddr,
    rtcp_to: SocketAddr,
    socket: Arc<UdpSocket>,
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
struct Tapped {
    tap: Tap,
    track: Arc<IncomingTrack>,
    lost: u64,
}

/// Sequence numbers and timestamps that go on.
#[derive(Debug)]
struct Numbers {
    /// The first index since the source began, and the number that it was sent with.
    index: Option<(u64, u16)>,
    next: u16,
    offset: u32,
    /// The latest timestamp that was sent, when, and its clock rate.
    last: Option<(u32, Instant, u32)>,
    began: bool,
}

impl Numbers {
    fn new() -> Self {
        Self {
            index: None,
            next: random_u32() as u16,
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
    fn of(&mut self, index: u64, timestamp: u32, rate_hz: u32, now: Instant) -> Option<(u16, u32)> {
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
        let number = number.wrapping_add(index.checked_sub(first)? as u16);
        if number.wrapping_sub(self.next).cast_signed() >= 0 {
            self.next = number.wrapping_add(1);
        }
        let timestamp = timestamp.wrapping_add(self.offset);
        self.last = Some((timestamp, now, rate_hz));
        Some((number, timestamp))
    }
}

/// See the module.
pub(super) struct Output {
    spec: SendSpec,
    session: u64,
    tracks: Vec<Track>,
    shared: Arc<Shared>,
    sdp: Option<String>,
}

impl Output {
    /// Pictures to the first port, sound to that two above.
    ///
    /// # Errors
    /// [`StreamerError`].
    pub(super) fn new(
        spec: SendSpec,
        session: u64,
        open: impl Fn() -> std::io::Result<UdpSocket>,
        shared: Arc<Shared>,
    ) -> Result<Self, StreamerError> {
        if spec.to.port() == 0 || spec.to.port() > HIGHEST_PORT {
            return Err(StreamerError::Port(spec.to.port()));
        }
        let to = spec.to;
        let track = |(place, kind)| {
            let port = to.port() + PORTS_A_TRACK * place;
            let socket = open().map_err(|source| StreamerError::Send { to, source })?;
            let socket = Arc::new(socket);
            let told = Arc::new(Told::default());
            let reader = tokio::spawn(hear(Arc::clone(&socket), Arc::clone(&told)));
            let rtcp_port = if spec.rtcp_mux { port } else { port + 1 };
            Ok(Track {
                kind,
                ssrc: random_u32(),
                to: SocketAddr::new(to.ip(), port),
                rtcp_to: SocketAddr::new(to.ip(), rtcp_port),
                socket,
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
        };
        let kinds = [(0, MediaKind::Video), (1, MediaKind::Audio)];
        let tracks: Result<_, StreamerError> = kinds.into_iter().map(track).collect();
        let mut output = Self {
            tracks: tracks?,
            session,
            shared,
            sdp: None,
            spec,
        };
        output.tell();
        Ok(output)
    }

    /// Follows the stream until it is told to stop.
    pub(super) async fn run(mut self, mut follower: Follower, stop: CancellationToken) {
        let signal = match TapSignal::new() {
            Ok(signal) => signal,
            Err(error) => {
                tracing::error!(%error, stream = self.spec.stream, "plain RTP cannot be sent");
                return;
            }
        };
        let mut tick = tokio::time::interval(REPORT_EVERY);
        self.attach(follower.current(), &signal).await;
        loop {
            while self.pump() {
                tokio::time::sleep(BURST_PAUSE).await;
            }
            tokio::select! {
                () = signal.rung() => {}
                live = follower.changed() => self.attach(live, &signal).await,
                _ = tick.tick() => self.tell(),
                () = stop.cancelled() => return,
            }
        }
    }

    /// Taps the tracks of whoever publishes now.
    async fn attach(&mut self, live: Option<Live>, signal: &TapSignal) {
        for track in &mut self.tracks {
            track.detach();
        }
        if let Some(live) = live {
            let wanted = self.tracks.iter().map(|track| {
                let kind = match track.kind {
                    MediaKind::Video => crate::sdp::MediaKind::Video,
                    MediaKind::Audio => crate::sdp::MediaKind::Audio,
                };
                live.incoming.track(kind, 0).cloned()
            });
            let wanted: Vec<_> = wanted.collect();
            let signal = signal.signal();
            // Making taps may wait for the data plane.
            let tapped = tokio::task::spawn_blocking(move || {
                let tap = |track: Option<Arc<IncomingTrack>>| {
                    let track = track?;
                    let mut spec = TapSpec::new(signal.clone());
                    spec.from_cache = true;
                    match track.best_encoding().create_tap(spec) {
                        Ok(tap) => Some(Tapped {
                            tap,
                            track,
                            lost: 0,
                        }),
                        Err(error) => {
                            tracing::error!(%error, "no tap for plain RTP");
                            None
                        }
                    }
                };
                wanted.into_iter().map(tap).collect::<Vec<_>>()
            });
            for (track, source) in self.tracks.iter_mut().zip(tapped.await.unwrap_or_default()) {
                track.source = source;
            }
        }
        self.tell();
    }

    /// Sends what there is, up to a burst; whether there may be more.
    fn pump(&mut self) -> bool {
        let now = Instant::now();
        let mut left = BURST_PACKETS;
        let mut changed = false;
        for track in &mut self.tracks {
            changed |= track.pump(&mut left, now);
        }
        if changed {
            self.tell();
        }
        left == 0
    }

    /// Renews what lists and the description say.
    fn tell(&mut self) {
        let live = self.tracks.iter().filter(|track| track.source.is_some());
        let is_known = |track: &Track| {
            let needs_sets = |codec: &CodecParameters| codec.codec == Codec::H264;
            let codec = track.codec.as_ref();
            codec.is_some_and(|codec| !needs_sets(codec) || track.parameter_sets.len() >= 2)
        };
        let is_complete = live.clone().count() > 0 && live.clone().all(is_known);
        if is_complete {
            let described = live.filter_map(|track| {
                Some(Described {
                    port: track.to.port(),
                    codec: track.codec.clone()?,
                    parameter_sets: track.parameter_sets.clone(),
                })
            });
            let described: Vec<_> = described.collect();
            let how = (self.spec.ttl, self.spec.rtcp_mux);
            let (stream, to) = (&self.spec.stream, self.spec.to.ip());
            self.sdp = Some(describe(stream, self.session, to, how, &described));
        }
        let sending = self.tracks.iter().any(|track| track.source.is_some());
        let of_track = |track: &Track| {
            let codec = track.codec.as_ref()?;
            let loss = track.told.fraction_lost.load(Ordering::Relaxed);
            Some(SentTrack {
                codec: codec.codec.encoding_name(),
                to: track.to,
                ssrc: track.ssrc,
                packets: track.packets,
                dropped: track.dropped,
                reported_loss_percent: (loss > 0).then(|| (loss - 1) as f64 / 2.56),
            })
        };
        let state = SenderState {
            state: if sending { "sending" } else { "waiting" },
            tracks: self.tracks.iter().filter_map(of_track).collect(),
        };
        *self.shared.lock() = (state, self.sdp.clone());
        self.shared.described.notify_waiters();
    }
}

impl Track {
    fn detach(&mut self) {
        if self.source.take().is_some() {
            self.numbers.restart();
            self.clock = None;
            self.codec = None;
            self.parameter_sets.clear();
        }
    }

    /// Sends what the tap has; whether there is more to be told of the track than before.
    fn pump(&mut self, left: &mut usize, now: Instant) -> bool {
        let Some(mut source) = self.source.take() else {
            return false;
        };
        if self.told.wants_keyframe.swap(false, Ordering::Relaxed) {
            source.tap.want_keyframe();
        }
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
        let Some((number, timestamp)) = numbers else {
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
        header[2..4].copy_from_slice(&number.to_be_bytes());
        header[4..8].copy_from_slice(&timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        body.copy_from_slice(payload);
        match self.socket.try_send_to(bytes, self.to) {
            Ok(_) => {
                self.packets += 1;
                self.bytes += payload.len() as u64;
            }
            Err(_) => self.dropped += 1,
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
        if written.is_ok() && writer.sdes_cname(self.ssrc, b"fanmill").is_ok() {
            // Lost like any other packet.
            let _ = self.socket.try_send_to(writer.as_bytes(), self.rtcp_to);
        }
    }
}

/// Hears what receivers say.
async fn hear(socket: Arc<UdpSocket>, told: Arc<Told>) {
    let mut buffer = [0; MAX_RTCP_BYTES];
    loop {
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(BURST_PAUSE).await;
            continue;
        };
        for packet in Compound::new(&buffer[..length]).map_while(Result::ok) {
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
