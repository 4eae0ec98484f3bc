//! A session that receives: datagrams from its sockets through its sources into an ingest.
//!
//! One task, which the registry starts and stops. What comes goes on to an [`Inflow`], which begins the
//! stream and stays while senders pause.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanmill_engine::packet::Kind;
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::inflow::Inflow;
use super::reader::Read;
use super::sockets::Pair;
use super::source::{Dropped, Source};
use crate::clock::now_us;
use crate::ingest::{IngestSpec, Ingests};
use crate::media::clock::StreamClock;

/// What lists show as the source of the stream.
const SOURCE: &str = "rtp";

/// Datagrams that may wait for the task: half a second at 50 Mbit/s.
const MAX_WAITING: usize = 2048;

/// The largest datagram there is.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// How often missing packets, reports and keyframes are looked after.
const TICK: Duration = Duration::from_millis(10);

/// How often the numbers in lists are renewed.
const INFO_US: u64 = 250_000;

/// A session that receives, in a list.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReceiverInfo {
    /// `waiting` (nothing has come), `live`, `silent` or `refused`.
    pub state: &'static str,
    /// Why the stream does not begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its media sections.
    pub media: Vec<MediaInfo>,
    /// Datagrams that came faster than they were read.
    pub overrun: u64,
}

/// A media section that is received, in a list.
#[derive(Debug, Clone, Serialize)]
pub struct MediaInfo {
    /// What comes, or would.
    pub codec: &'static str,
    /// Where it is received.
    pub address: SocketAddr,
    /// Where RTCP is received, if elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtcp_port: Option<u16>,
    /// Whose packets are taken now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
    /// The sender's SSRC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
    /// Packets taken.
    pub packets: u64,
    /// Packets that did not come.
    pub lost: u64,
    /// How unevenly they come, in microseconds.
    pub jitter_us: u64,
    /// Payloads that did not hold what they announced.
    pub malformed_payloads: u64,
    /// Datagrams that were not used.
    pub dropped: Dropped,
}

/// What lists read.
pub(super) type SharedInfo = Arc<Mutex<ReceiverInfo>>;

/// A datagram, and to which socket it came.
struct Datagram {
    media: usize,
    on_rtcp: bool,
    from: SocketAddr,
    bytes: Vec<u8>,
    arrival_us: u64,
}

/// A media section: its sender and its sockets.
pub(super) struct Medium {
    pub(super) source: Source,
    rtp: Arc<UdpSocket>,
    rtcp: Option<Arc<UdpSocket>>,
    address: SocketAddr,
    rtcp_port: Option<u16>,
}

impl Medium {
    pub(super) fn new(source: Source, pair: Pair, address: SocketAddr) -> Self {
        let port = |socket: &UdpSocket| socket.local_addr().map(|local| local.port());
        let rtp_port = port(&pair.rtp).unwrap_or(address.port());
        Self {
            source,
            address: SocketAddr::new(address.ip(), rtp_port),
            rtcp_port: pair.rtcp.as_ref().and_then(|socket| port(socket).ok()),
            rtp: Arc::new(pair.rtp),
            rtcp: pair.rtcp.map(Arc::new),
        }
    }

    pub(super) fn info(&self) -> MediaInfo {
        let sender = self.source.sender();
        MediaInfo {
            codec: self.source.codec(),
            address: self.address,
            rtcp_port: self.rtcp_port,
            remote: sender.map(|(from, _)| from),
            ssrc: sender.map(|(_, ssrc)| ssrc),
            packets: self.source.packets,
            lost: self.source.lost,
            jitter_us: self.source.jitter_us(),
            malformed_payloads: self.source.malformed_payloads(),
            dropped: self.source.dropped,
        }
    }
}

/// See the module.
pub(super) struct Session {
    stream: String,
    media: Vec<Medium>,
    clock: StreamClock,
    inflow: Inflow,
    overrun: u64,
    shared: SharedInfo,
    info_us: u64,
    out: Vec<Read>,
}

/// Why a session ends by itself.
enum End {
    Stopped,
    Requested,
}

impl Session {
    pub(super) fn new(
        stream: String,
        ingests: Ingests,
        media: Vec<Medium>,
        shared: SharedInfo,
    ) -> Self {
        let spec = IngestSpec {
            stream: stream.clone(),
            source: SOURCE,
            remote: String::new(),
        };
        let mut session = Self {
            stream,
            inflow: Inflow::new(ingests, spec, media.len()),
            media,
            clock: StreamClock::default(),
            overrun: 0,
            shared,
            info_us: 0,
            out: Vec::new(),
        };
        session.tell(0);
        session
    }

    /// Runs until it is told to stop, or somebody stops its stream.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (sender, mut datagrams) = mpsc::channel(MAX_WAITING);
        let overrun = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let mut readers = Vec::new();
        for (media, medium) in self.media.iter().enumerate() {
            let sockets = [(Some(&medium.rtp), false), (medium.rtcp.as_ref(), true)];
            for (socket, on_rtcp) in sockets {
                let Some(socket) = socket else {
                    continue;
                };
                let read = read(
                    Arc::clone(socket),
                    (media, on_rtcp),
                    sender.clone(),
                    Arc::clone(&overrun),
                );
                readers.push(AbortOnDropHandle::new(tokio::spawn(read)));
            }
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = tokio::select! {
                Some(datagram) = datagrams.recv() => {
                    self.take(&datagram);
                    for _ in 0..datagrams.len() {
                        if let Ok(datagram) = datagrams.try_recv() {
                            self.take(&datagram);
                        }
                    }
                    None
                }
                _ = tick.tick() => {
                    self.overrun = overrun.load(std::sync::atomic::Ordering::Relaxed);
                    None
                }
                reason = self.inflow.closed() => {
                    self.inflow.ended(&reason).then_some(End::Requested)
                }
                () = stop.cancelled() => Some(End::Stopped),
            };
            if let Some(end) = end {
                if matches!(end, End::Requested) {
                    tracing::info!(
                        stream = self.stream,
                        "plain RTP ends: its stream was stopped"
                    );
                }
                break;
            }
            self.poll().await;
        }
        self.inflow.stop().await;
    }

    fn take(&mut self, datagram: &Datagram) {
        let Some(medium) = self.media.get_mut(datagram.media) else {
            return;
        };
        let (from, bytes, at_us) = (datagram.from, &datagram.bytes, datagram.arrival_us);
        let is_rtcp = match Kind::of(bytes) {
            Kind::Rtcp => datagram.on_rtcp || medium.rtcp.is_none(),
            Kind::Rtp => false,
            _ => return,
        };
        match is_rtcp {
            true => medium.source.rtcp(from, bytes, &mut self.clock, at_us),
            false => medium.source.rtp(from, bytes, at_us, &mut self.out),
        }
        self.read_all(datagram.media);
        self.media[datagram.media]
            .source
            .poll(&mut self.clock, at_us, &mut self.out);
        self.read_all(datagram.media);
    }

    /// What is due with time.
    async fn poll(&mut self) {
        let now_us = clock_us();
        if !self.inflow.is_running() {
            let sender = self.media.iter().find_map(|medium| medium.source.sender());
            let remote = sender.map(|(from, _)| from.to_string());
            self.inflow.set_remote(remote.unwrap_or_default());
            if self.inflow.poll(now_us).await {
                self.tell(now_us);
            }
        }
        let wanted = self.inflow.take_keyframe_request();
        for media in 0..self.media.len() {
            let medium = &mut self.media[media];
            medium.source.poll(&mut self.clock, now_us, &mut self.out);
            if wanted {
                medium.source.want_keyframe();
            }
            let muxed = medium.rtcp.is_none();
            if let Some((packet, to)) = medium.source.feedback(now_us, muxed) {
                let socket = medium.rtcp.as_ref().unwrap_or(&medium.rtp);
                // Lost like any other packet.
                let _ = socket.try_send_to(&packet, to);
            }
            self.read_all(media);
        }
        if now_us.saturating_sub(self.info_us) >= INFO_US {
            self.tell(now_us);
        }
    }

    /// Hands on what a source came to.
    fn read_all(&mut self, media: usize) {
        self.inflow.take(media, self.out.drain(..));
    }

    /// Renews what lists say.
    fn tell(&mut self, now_us: u64) {
        self.info_us = now_us;
        let is_alive = self.media.iter().any(|m| m.source.is_alive(now_us));
        let state = match (self.inflow.is_running(), self.inflow.error()) {
            (true, _) if is_alive => "live",
            (true, _) => "silent",
            (false, Some(_)) => "refused",
            (false, None) => "waiting",
        };
        let info = ReceiverInfo {
            state,
            error: self.inflow.error().cloned(),
            media: self.media.iter().map(Medium::info).collect(),
            overrun: self.overrun,
        };
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = info;
    }
}

fn clock_us() -> u64 {
    now_us().unsigned_abs()
}

/// Reads a socket into the session's queue.
async fn read(
    socket: Arc<UdpSocket>,
    (media, on_rtcp): (usize, bool),
    to: mpsc::Sender<Datagram>,
    overrun: Arc<std::sync::atomic::AtomicU64>,
) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        // What an earlier packet of ours met at the other end, at most.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(TICK).await;
            continue;
        };
        let datagram = Datagram {
            media,
            on_rtcp,
            from,
            bytes: buffer[..length].to_vec(),
            arrival_us: clock_us(),
        };
        match to.try_send(datagram) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                overrun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}
