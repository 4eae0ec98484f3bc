//! The stamp at the end of every payload: when it was sent, and a checksum over what precedes it.
//!
//! It lies at the end because a server may rewrite a payload descriptor (VP8 picture ids), and
//! must not change anything behind it. Written by the publisher, checked by viewers on packets
//! they decrypt.

/// Length of a stamp, in bytes.
pub const STAMP_BYTES: usize = 24;

const MAGIC: [u8; 4] = *b"FmB1";

/// What a stamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which publisher sent the packet.
    pub publisher: u16,
    /// The packet's number at its publisher, over all its streams.
    pub number: u32,
    /// When it was sent, in nanoseconds of the machine's monotonic clock.
    pub sent_ns: u64,
}

/// What the end of a payload turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// A stamp, and the bytes it covers are those it was made for.
    Whole(Stamp),
    /// A stamp, but the bytes it covers have changed.
    Corrupt,
    /// No stamp: not sent by this generator, or cut off.
    Absent,
}

/// Writes a stamp into the last [`STAMP_BYTES`] of `payload`, covering the `body_len` bytes before
/// it. A payload too short for that is left alone.
pub fn write(payload: &mut [u8], body_len: u16, stamp: Stamp) {
    let Some((before, out)) = payload.split_last_chunk_mut::<STAMP_BYTES>() else {
        return;
    };
    let Some(start) = before.len().checked_sub(usize::from(body_len)) else {
        return;
    };
    out[..4].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&body_len.to_be_bytes());
    out[10..12].copy_from_slice(&stamp.publisher.to_be_bytes());
    out[12..16].copy_from_slice(&stamp.number.to_be_bytes());
    out[16..].copy_from_slice(&stamp.sent_ns.to_be_bytes());
    let checksum = checksum(&before[start..], &out[8..]);
    out[4..8].copy_from_slice(&checksum.to_be_bytes());
}

/// Looks for a stamp at the end of a payload (without RTP padding) and checks what it covers.
#[must_use]
pub fn check(payload: &[u8]) -> Check {
    let Some((before, stamp)) = payload.split_last_chunk::<STAMP_BYTES>() else {
        return Check::Absent;
    };
    if stamp[..4] != MAGIC {
        return Check::Absent;
    }
    let body_len = u16::from_be_bytes([stamp[8], stamp[9]]);
    let Some(start) = before.len().checked_sub(usize::from(body_len)) else {
        return Check::Corrupt;
    };
    if stamp[4..8] != checksum(&before[start..], &stamp[8..]).to_be_bytes() {
        return Check::Corrupt;
    }
    let sent_ns = stamp[16..].try_into().map_or(0, u64::from_be_bytes);
    Check::Whole(Stamp {
        publisher: u16::from_be_bytes([stamp[10], stamp[11]]),
        number: u32::from_be_bytes([stamp[12], stamp[13], stamp[14], stamp[15]]),
        sent_ns,
    })
}

fn checksum(body: &[u8], fields: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(fields);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAMP: Stamp = Stamp {
        publisher: 3,
        number: 70_000,
        sent_ns: 1 << 40,
    };

    #[test]
    fn a_stamp_is_read_back() {
        let mut payload = vec![9; 100];
        write(&mut payload, 70, STAMP);
        assert_eq!(check(&payload), Check::Whole(STAMP));
    }

    #[test]
    fn a_descriptor_outside_the_body_may_change() {
        let mut payload = vec![9; 100];
        write(&mut payload, 70, STAMP);
        payload[5] ^= 1;
        assert_eq!(check(&payload), Check::Whole(STAMP));
    }

    proptest! {
        #[test]
        fn any_change_of_the_body_is_noticed(at in 6usize..100, bit in 0u8..8) {
            let mut payload = vec![9; 100];
            write(&mut payload, 70, STAMP);
            payload[at] ^= 1 << bit;
            prop_assert!(!matches!(check(&payload), Check::Whole(_)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = check(&bytes);
            if let Some(end) = bytes.last_chunk_mut::<STAMP_BYTES>() {
                end[..4].copy_from_slice(&MAGIC);
            }
            let _ = check(&bytes);
        }
    }
}
