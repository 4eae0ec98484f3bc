//! What multishot `recvmsg` leaves in a provided buffer: a header (`io_uring_recvmsg_out`), the
//! source address, the control messages, the payload. Linux 6.0, io_uring/net.c
//! `io_recvmsg_prep_multishot`.

use std::net::SocketAddr;
use std::ops::Range;

use super::{cmsg, gro, sockaddr, timestamp};

/// `namelen`, `controllen`, `payloadlen`, `flags`: four `u32`.
const HEADER_BYTES: usize = 16;

/// Room for the source address, rounded up so that what follows is aligned.
pub(crate) const NAME_BYTES: usize = 32;

/// Room for control messages.
pub(crate) const CONTROL_BYTES: usize = gro::CONTROL_BYTES + timestamp::CONTROL_BYTES;

/// Where the payload starts: the address and control fields always take all their room.
pub(crate) const PAYLOAD_OFFSET: usize = HEADER_BYTES + NAME_BYTES + CONTROL_BYTES;

/// A received datagram, or train, as it lies in its buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// Who sent it.
    pub(crate) source: SocketAddr,
    /// Where the payload lies in the buffer.
    pub(crate) payload: Range<usize>,
    /// Size of each segment but the last; the payload's length when it is no train.
    pub(crate) segment_bytes: usize,
    /// When it came in, in microseconds of the real-time clock, if the kernel tells.
    pub(crate) realtime_us: Option<u64>,
}

/// Why a filled buffer holds nothing to hand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The datagram or its control messages did not fit: what is there is incomplete.
    Truncated,
    /// The header contradicts itself or names no IP address.
    Malformed,
}

/// Reads a filled buffer; `buffer` is the part the kernel wrote.
pub(crate) fn parse(buffer: &[u8]) -> Result<Received, Unreadable> {
    let (header, _) = buffer
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(Unreadable::Malformed)?;
    let word = |index: usize| {
        let at = index * 4;
        u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let (name_len, control_len, payload_len) =
        (word(0) as usize, word(1) as usize, word(2) as usize);
    let lost = (libc::MSG_TRUNC | libc::MSG_CTRUNC) as u32;
    if word(3) & lost != 0 || control_len > CONTROL_BYTES {
        return Err(Unreadable::Truncated);
    }
    let payload_end = PAYLOAD_OFFSET
        .checked_add(payload_len)
        .ok_or(Unreadable::Malformed)?;
    if name_len > NAME_BYTES || payload_end > buffer.len() {
        return Err(Unreadable::Malformed);
    }
    let source = sockaddr::decode(&buffer[HEADER_BYTES..HEADER_BYTES + name_len])
        .ok_or(Unreadable::Malformed)?;
    let control_start = HEADER_BYTES + NAME_BYTES;
    let (mut segment_bytes, mut realtime_us) = (payload_len, None);
    for message in cmsg::messages(&buffer[control_start..control_start + control_len]) {
        if let Some(bytes) = gro::segment_bytes(&message) {
            segment_bytes = bytes.min(payload_len);
        }
        realtime_us = realtime_us.or_else(|| timestamp::realtime_us(&message));
    }
    Ok(Received {
        source,
        payload: PAYLOAD_OFFSET..payload_end,
        segment_bytes,
        realtime_us,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A panic is the failure report.

    use proptest::prelude::*;

    use super::super::cmsg::tests::message;
    use super::super::sockaddr::{Family, SockAddr};
    use super::*;

    fn buffer(header: [u32; 4], payload: &[u8]) -> Vec<u8> {
        let source = SockAddr::encode("192.0.2.7:4000".parse().unwrap(), Family::V6).unwrap();
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(source.storage());
        bytes.resize(PAYLOAD_OFFSET, 0);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_plain_datagram_is_one_segment() {
        let received = parse(&buffer([28, 0, 3, 0], b"abc")).unwrap();
        assert_eq!(received.source, "192.0.2.7:4000".parse().unwrap());
        assert_eq!(received.payload, PAYLOAD_OFFSET..PAYLOAD_OFFSET + 3);
        assert_eq!(received.segment_bytes, 3);
        assert_eq!(received.realtime_us, None);
    }

    #[test]
    fn control_messages_tell_segment_size_and_time_in_any_order() {
        let size = message(libc::SOL_UDP, libc::UDP_GRO, &2i32.to_ne_bytes());
        let stamp = [7i64.to_ne_bytes(), 8_000i64.to_ne_bytes()].concat();
        let stamp = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &stamp);
        for control in [[&size[..], &stamp].concat(), [&stamp[..], &size].concat()] {
            let mut bytes = buffer([28, control.len() as u32, 3, 0], b"abc");
            bytes[HEADER_BYTES + NAME_BYTES..][..control.len()].copy_from_slice(&control);
            let received = parse(&bytes).unwrap();
            assert_eq!(received.segment_bytes, 2);
            assert_eq!(received.realtime_us, Some(7_000_008));
        }
    }

    #[test]
    fn a_truncated_datagram_is_refused() {
        for flags in [libc::MSG_TRUNC as u32, libc::MSG_CTRUNC as u32] {
            assert_eq!(
                parse(&buffer([28, 0, 3, flags], b"abc")),
                Err(Unreadable::Truncated)
            );
        }
    }

    #[test]
    fn a_header_that_claims_more_than_there_is_is_refused() {
        assert_eq!(
            parse(&buffer([28, 0, 4, 0], b"abc")),
            Err(Unreadable::Malformed)
        );
        assert_eq!(
            parse(&buffer([28, 0, u32::MAX, 0], b"abc")),
            Err(Unreadable::Malformed)
        );
        assert_eq!(
            parse(&buffer([33, 0, 3, 0], b"abc")),
            Err(Unreadable::Malformed)
        );
        let control_len = CONTROL_BYTES as u32 + 1;
        assert_eq!(
            parse(&buffer([28, control_len, 3, 0], b"abc")),
            Err(Unreadable::Truncated)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(received) = parse(&bytes) {
                prop_assert!(received.payload.end <= bytes.len());
                prop_assert!(received.segment_bytes <= received.payload.len());
            }
        }

        #[test]
        fn an_arbitrary_header_stays_inside_the_buffer(
            header: [u32; 4], payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let bytes = buffer(header, &payload);
            if let Ok(received) = parse(&bytes) {
                prop_assert!(received.payload.end <= bytes.len());
            }
        }
    }
}
