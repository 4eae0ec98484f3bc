//! A media section that is received: its sender, its sockets, and what lists say of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::sockets::Pair;
use super::source::{Dropped, Source};
use crate::clock::now_us;

/// The largest datagram there is.
const MAX_DATAGRAM_BYTES: usize = 65_535;

/// Before a socket that failed is read again.
const AFTER_ERROR: Duration = Duration::from_millis(10);

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
pub(super) struct Datagram {
    pub(super) media: usize,
    pub(super) on_rtcp: bool,
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) arrival_us: u64,
}

/// A media section: its sender and its sockets.
pub(super) struct Medium {
    pub(super) source: Source,
    rtp: Arc<UdpSocket>,
    /// None: on the same one.
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

    /// Whether RTCP comes on the socket of RTP.
    pub(super) fn is_muxed(&self) -> bool {
        self.rtcp.is_none()
    }

    /// Sends RTCP. It may be lost like any other packet.
    pub(super) fn answer(&self, packet: &[u8], to: SocketAddr) {
        let socket = self.rtcp.as_ref().unwrap_or(&self.rtp);
        let _ = socket.try_send_to(packet, to);
    }

    /// Begins to read its sockets, as the `media`-th of a session, into its queue; what finds no room
    /// is counted. It ends with the handles.
    pub(super) fn listen(
        &self,
        media: usize,
        to: &mpsc::Sender<Datagram>,
        overrun: &Arc<AtomicU64>,
    ) -> Vec<AbortOnDropHandle<()>> {
        let sockets = [(Some(&self.rtp), false), (self.rtcp.as_ref(), true)];
        let readers = sockets.into_iter().filter_map(|(socket, on_rtcp)| {
            let read = read(
                Arc::clone(socket?),
                (media, on_rtcp),
                to.clone(),
                Arc::clone(overrun),
            );
            Some(AbortOnDropHandle::new(tokio::spawn(read)))
        });
        readers.collect()
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

/// Reads a socket into the session's queue.
async fn read(
    socket: Arc<UdpSocket>,
    (media, on_rtcp): (usize, bool),
    to: mpsc::Sender<Datagram>,
    overrun: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        // What an earlier packet of ours met at the other end, at most.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(AFTER_ERROR).await;
            continue;
        };
        let datagram = Datagram {
            media,
            on_rtcp,
            from,
            bytes: buffer[..length].to_vec(),
            arrival_us: now_us().unsigned_abs(),
        };
        match to.try_send(datagram) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                overrun.fetch_add(1, Ordering::Relaxed);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}
