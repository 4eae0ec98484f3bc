//! `UDP_SEGMENT`: one send that the network device (or the kernel, just before it) cuts into
//! equal-sized datagrams. Linux 4.18, net/ipv4/udp.c `udp_send_skb`.
//!
//! The kernel refuses a train with EINVAL when a segment does not fit the device's MTU or there
//! are too many, and with EIO when the route cannot checksum it (IPsec; before 6.11 also any
//! device without checksum offload).

use std::os::fd::AsFd;

use super::socket;

/// Bytes of a control buffer with the one message `UDP_SEGMENT`.
pub(crate) const CONTROL_BYTES: usize = 24;

const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();

// CMSG_SPACE(sizeof(u16)) must be what the table sets aside.
const _: () = assert!(HEADER_BYTES + size_of::<usize>() <= CONTROL_BYTES);

/// Whether this kernel knows `UDP_SEGMENT`. It says nothing about the device.
pub(crate) fn is_supported(socket: &impl AsFd) -> bool {
    socket::get_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok()
}

/// The control message that asks for segments of `segment_bytes`, and its length.
pub(crate) fn control_message(segment_bytes: u16) -> ([u8; CONTROL_BYTES], usize) {
    let mut control = [0; CONTROL_BYTES];
    let word = size_of::<usize>();
    // cmsg_len, cmsg_level, cmsg_type, then the data: see cmsg(3).
    let message_bytes = HEADER_BYTES + size_of::<u16>();
    control[..word].copy_from_slice(&message_bytes.to_ne_bytes());
    control[word..word + 4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    control[word + 4..word + 8].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    control[HEADER_BYTES..message_bytes].copy_from_slice(&segment_bytes.to_ne_bytes());
    (control, HEADER_BYTES + word)
}
