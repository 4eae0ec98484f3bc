//! A peer as the media path sees it: where it is and what its packets are sealed with.

use std::net::SocketAddr;

use crate::srtp::Sealer;

/// The part of a transport that every sealed packet touches.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The selected address, while the peer consents to receive there (RFC 7675 5).
    pub(crate) destination: Option<SocketAddr>,
    /// Present once the handshake is done.
    pub(crate) sealer: Option<Sealer>,
    /// Next transport-wide sequence number.
    pub(crate) next_transport_cc: u16,
    pub(crate) packets_sent: u64,
    pub(crate) bytes_sent: u64,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self {
            destination: None,
            sealer: None,
            next_transport_cc: 0,
            packets_sent: 0,
            bytes_sent: 0,
        }
    }

    /// Where media goes and what seals it, once there are both.
    pub(crate) fn ready(&self) -> Option<(SocketAddr, &Sealer)> {
        self.destination.zip(self.sealer.as_ref())
    }

    /// Notes that so many sealed packets leave, of so many bytes in all.
    pub(crate) fn sent(&mut self, packets: u64, bytes: usize) {
        self.packets_sent += packets;
        self.bytes_sent += bytes as u64;
    }

    /// Bytes that sealing adds to a packet.
    pub(crate) fn overhead(&self) -> usize {
        self.sealer.as_ref().map_or(0, Sealer::overhead)
    }
}
