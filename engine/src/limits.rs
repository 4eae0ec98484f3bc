//! Every fixed bound of the data plane, with its reason.

/// Largest UDP payload received or sent as one packet (or one segment of a train): what fits an
/// Ethernet frame over IPv4.
pub const MAX_DATAGRAM_BYTES: usize = 1472;

/// Path MTU budget for packets we enlarge ourselves (padding, RTX, extensions): browsers cut their
/// RTP at about 1200 bytes so that tunnels and IPv6 have room; we never grow a packet past this.
pub const MAX_PADDED_BYTES: usize = 1200;
