//! The two UDP sockets of a track: RTP on an even port, RTCP on the next (RFC 3550 11).
//!
//! A session or a pull owns a pair for each track that does not travel on its connection. Datagrams
//! from anybody but the peer are ignored.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::limits::MAX_DATAGRAM_BYTES;

/// Asked for: a keyframe comes in one go, and the system's default holds a hundred packets.
const RECEIVE_BUFFER_BYTES: usize = 2 << 20;

/// How often two ports in a row are looked for.
const ATTEMPTS: usize = 50;

/// A packet that came in.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Its track, as the session counts.
    pub(super) track: usize,
    /// Who sent it.
    pub(super) from: SocketAddr,
    /// Whether it is RTCP.
    pub(super) is_rtcp: bool,
    /// The packet.
    pub(super) bytes: Bytes,
}

/// See the module. Dropping it closes the sockets.
#[derive(Debug)]
pub(super) struct UdpPair {
    rtp: Arc<UdpSocket>,
    rtcp: Arc<UdpSocket>,
    ports: (u16, u16),
    peer: IpAddr,
    peer_ports: (u16, u16),
    listening: JoinSet<()>,
}

impl UdpPair {
    /// Two free ports in a row at this address, for a peer at that one. Its ports may be said later.
    pub(super) async fn bind(
        local: IpAddr,
        peer: IpAddr,
        peer_ports: (u16, u16),
    ) -> io::Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let rtp = UdpSocket::bind((local, 0)).await?;
            let port = rtp.local_addr()?.port();
            // The port is odd, or its neighbour taken: the next one may be better.
            if port % 2 == 1 {
                continue;
            }
            match UdpSocket::bind((local, port + 1)).await {
                Ok(rtcp) => {
                    // Granted or not: a smaller one may do.
                    let _ = set_socket_recv_buffer_size(&rtp, RECEIVE_BUFFER_BYTES);
                    return Ok(Self {
                        rtp: Arc::new(rtp),
                        rtcp: Arc::new(rtcp),
                        ports: (port, port + 1),
                        peer,
                        peer_ports,
                        listening: JoinSet::new(),
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    /// Its ports: RTP, RTCP.
    pub(super) fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// Says where the peer's ports are.
    pub(super) fn set_peer(&mut self, peer: IpAddr, ports: (u16, u16)) {
        self.peer = peer;
        self.peer_ports = ports;
    }

    /// Begins to read RTCP, and RTP if it is wanted.
    pub(super) fn listen(&mut self, track: usize, to: &mpsc::Sender<Incoming>, with_rtp: bool) {
        let sockets = [(&self.rtp, false), (&self.rtcp, true)];
        for (socket, is_rtcp) in sockets {
            if is_rtcp || with_rtp {
                let read = read(Arc::clone(socket), self.peer, track, is_rtcp, to.clone());
                self.listening.spawn(read);
            }
        }
    }

    /// Sends to the peer. What cannot be sent is lost, as it may be anywhere on the way.
    pub(super) async fn send(&self, is_rtcp: bool, packet: &[u8]) {
        let (socket, port) = match is_rtcp {
            false => (&self.rtp, self.peer_ports.0),
            true => (&self.rtcp, self.peer_ports.1),
        };
        if let Err(error) = socket
            .send_to(packet, SocketAddr::new(self.peer, port))
            .await
        {
            tracing::trace!(%error, "a datagram to an RTSP peer was not sent");
        }
    }
}

async fn read(
    socket: Arc<UdpSocket>,
    peer: IpAddr,
    track: usize,
    is_rtcp: bool,
    to: mpsc::Sender<Incoming>,
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(MAX_DATAGRAM_BYTES);
        let from = match socket.recv_buf_from(&mut buffer).await {
            Ok((_, from)) => from,
            // What an earlier datagram came to; the socket goes on.
            Err(_) => continue,
        };
        let bytes = buffer.split().freeze();
        if from.ip().to_canonical() != peer.to_canonical() {
            continue;
        }
        let incoming = Incoming {
            track,
            from,
            is_rtcp,
            bytes,
        };
        // The session waits as long as its packets do: what does not fit is lost, and seen to be.
        if let Err(mpsc::error::TrySendError::Closed(_)) = to.try_send(incoming) {
            return;
        }
    }
}
