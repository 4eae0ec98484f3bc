//! What is inside a datagram: views that read RTP and RTCP in place, writers that fill a caller's
//! buffer, and the little the engine must know about codecs.
//!
//! The shard calls it for every packet. Everything here is sans-IO: no socket, no clock, no
//! allocation per packet, no key. It must never trust a length it has not compared with the bytes
//! it was given, and must never panic on what came from the network.

pub mod codec;
pub mod dependency;
pub mod extension;
pub mod header;
pub mod layer;
pub mod layers_allocation;
pub mod loss;
pub mod red;
pub mod rtcp;
pub mod rtcp_write;
pub mod rtp;
pub mod twcc;

/// What a datagram that arrived on the media port is, told from its first two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A STUN message (RFC 8489).
    Stun,
    /// A DTLS record.
    Dtls,
    /// A TURN ChannelData message.
    TurnChannel,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
    /// None of these (ZRTP included): to be dropped.
    Unknown,
}

impl Kind {
    /// Classifies a datagram. Only two bytes are looked at; the rest may still be malformed.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Self {
        // RFC 7983 7: the ranges of the first byte.
        match *datagram {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [64..=79, ..] => Self::TurnChannel,
            // RFC 5761 4: RTCP packet types and RTP payload types share the second byte, and
            // payload types 64 to 95 with the marker bit are left to RTCP.
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, _, ..] => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}

/// The big-endian `u16` at `at`, or `None` past the end.
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The big-endian 24-bit number at `at`, or `None` past the end.
pub(crate) fn read_u24(bytes: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = *bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The big-endian `u32` at `at`, or `None` past the end.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn the_first_byte_tells_the_protocol() {
        assert_eq!(Kind::of(&[0, 1]), Kind::Stun);
        assert_eq!(Kind::of(&[3, 0]), Kind::Stun);
        assert_eq!(Kind::of(&[4, 0]), Kind::Unknown);
        assert_eq!(Kind::of(&[16, 0]), Kind::Unknown);
        assert_eq!(Kind::of(&[20, 254]), Kind::Dtls);
        assert_eq!(Kind::of(&[63, 0]), Kind::Dtls);
        assert_eq!(Kind::of(&[64, 0]), Kind::TurnChannel);
        assert_eq!(Kind::of(&[80, 0]), Kind::Unknown);
        assert_eq!(Kind::of(&[192, 200]), Kind::Unknown);
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_the_second_byte() {
        for second in 0..=255u8 {
            let expected = if (192..=223).contains(&second) {
                Kind::Rtcp
            } else {
                Kind::Rtp
            };
            assert_eq!(Kind::of(&[0x80, second]), expected, "second byte {second}");
            assert_eq!(Kind::of(&[0xbf, second]), expected, "second byte {second}");
        }
    }

    #[test]
    fn a_datagram_too_short_to_tell_is_unknown() {
        assert_eq!(Kind::of(&[]), Kind::Unknown);
        assert_eq!(Kind::of(&[0x80]), Kind::Unknown);
    }
}
