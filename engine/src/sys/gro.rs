//! `UDP_GRO`: the kernel hands over consecutive equal-sized datagrams of one flow as one buffer
//! and tells their size in a control message. Linux 5.0, net/ipv4/udp.c `udp_cmsg_recv`.

use std::io;
use std::os::fd::AsFd;

use super::cmsg::{self, ControlMessage};
use super::socket;

/// Bytes to set aside for the control message: a C `int`.
pub(crate) const CONTROL_BYTES: usize = cmsg::space(size_of::<libc::c_int>());

/// Asks for coalesced datagrams.
pub(crate) fn enable(socket: &impl AsFd) -> io::Result<()> {
    socket::set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// The segment size that a control message tells, if it tells one that makes sense.
pub(crate) fn segment_bytes(message: &ControlMessage<'_>) -> Option<usize> {
    if (message.level, message.kind) != (libc::SOL_UDP, libc::UDP_GRO) {
        return None;
    }
    let segment = i32::from_ne_bytes(*message.data.first_chunk()?);
    usize::try_from(segment).ok().filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(data: &[u8]) -> Option<usize> {
        segment_bytes(&ControlMessage {
            level: libc::SOL_UDP,
            kind: libc::UDP_GRO,
            data,
        })
    }

    #[test]
    fn only_a_positive_segment_size_counts() {
        assert_eq!(told(&1200i32.to_ne_bytes()), Some(1200));
        assert_eq!(told(&0i32.to_ne_bytes()), None);
        assert_eq!(told(&(-1i32).to_ne_bytes()), None);
        assert_eq!(told(&[1, 2, 3]), None);
    }

    #[test]
    fn another_message_tells_no_size() {
        let message = ControlMessage {
            level: libc::SOL_SOCKET,
            kind: libc::UDP_GRO,
            data: &1200i32.to_ne_bytes(),
        };
        assert_eq!(segment_bytes(&message), None);
    }
}
