//! A peer as the media path sees it: where it is and what its packets are sealed with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::srtp::Sealer;

/// The part of a transport that every sealed packet touches.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where media goes; meaningful once a check selected it.
    pub(crate) address: SocketAddr,
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
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            sealer: None,
            next_transport_cc: 0,
            packets_sent: 0,
            bytes_sent: 0,
        }
    }

    /// Bytes that sealing adds to a packet.
    pub(crate) fn overhead(&self) -> usize {
        self.sealer.as_ref().map_or(0, Sealer::overhead)
    }
}
