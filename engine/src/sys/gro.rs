//! `UDP_GRO`: the kernel hands over consecutive equal-sized datagrams of one flow as one buffer
//! and tells their size in a control message. Linux 5.0, net/ipv4/udp.c `udp_cmsg_recv`.

use std::io;
use std::os::fd::AsFd;

use super::socket;

/// Bytes to set aside for control messages of a received datagram: one `UDP_GRO` (a C `int`).
pub(crate) const CONTROL_BYTES: usize = 24;

const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const WORD_BYTES: usize = size_of::<usize>();

const _: () = assert!(HEADER_BYTES + WORD_BYTES <= CONTROL_BYTES);

/// Asks for coalesced datagrams.
pub(crate) fn enable(socket: &impl AsFd) -> io::Result<()> {
    socket::set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// The segment size that `control` tells, if it tells one that makes sense.
pub(crate) fn segment_bytes(control: &[u8]) -> Option<usize> {
    let mut rest = control;
    loop {
        let len = usize::from_ne_bytes(*rest.first_chunk()?);
        let level = i32::from_ne_bytes(*rest.get(WORD_BYTES..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*rest.get(WORD_BYTES + 4..)?.first_chunk()?);
        let data = rest.get(HEADER_BYTES..len)?;
        if (level, kind) == (libc::SOL_UDP, libc::UDP_GRO) {
            let segment = i32::from_ne_bytes(*data.first_chunk()?);
            return usize::try_from(segment).ok().filter(|&bytes| bytes > 0);
        }
        rest = rest.get(len.next_multiple_of(WORD_BYTES)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER_BYTES + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(WORD_BYTES), 0);
        bytes
    }

    #[test]
    fn the_segment_size_is_found_behind_another_message() {
        let mut control = message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7u32.to_ne_bytes());
        control.extend(message(
            libc::SOL_UDP,
            libc::UDP_GRO,
            &1200i32.to_ne_bytes(),
        ));
        assert_eq!(segment_bytes(&control), Some(1200));
    }

    #[test]
    fn a_segment_size_that_is_not_positive_is_ignored() {
        for size in [0i32, -1] {
            let control = message(libc::SOL_UDP, libc::UDP_GRO, &size.to_ne_bytes());
            assert_eq!(segment_bytes(&control), None);
        }
    }

    #[test]
    fn a_message_that_claims_an_absurd_length_is_ignored() {
        for len in [0, 1, usize::MAX, usize::MAX - 6] {
            let mut control = message(libc::SOL_SOCKET, 1, &[0; 4]);
            control[..WORD_BYTES].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(segment_bytes(&control), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = segment_bytes(&bytes);
        }
    }
}
