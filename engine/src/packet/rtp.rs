//! The RTP header as a view, and arithmetic on its sequence numbers.
//!
//! The shard parses every RTP packet here before and after opening it; nothing is copied. The
//! payload is never looked at, so an encrypted packet parses as well as a plain one.

use super::{read_u16, read_u32};

#[cfg(test)]
mod tests;

/// Size of an RTP header without CSRCs and extension.
pub const FIXED_HEADER_BYTES: usize = 12;

/// Why bytes are no RTP packet. The packet is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtpError {
    /// Shorter than what its header announces.
    #[error("RTP packet of {len} bytes is shorter than its header of {needed} bytes; drop it")]
    Truncated {
        /// Bytes there are.
        len: usize,
        /// Bytes the header takes, as far as it could be read.
        needed: usize,
    },
    /// The version field is not 2.
    #[error("RTP version {0} is not 2; drop the packet")]
    Version(u8),
    /// Longer than any UDP datagram.
    #[error("RTP header of {0} bytes is longer than a datagram; drop the packet")]
    TooLong(usize),
    /// The padding count is zero or exceeds the payload.
    #[error("RTP padding of {padding} bytes does not fit a payload of {payload}; drop the packet")]
    Padding {
        /// What the last byte says.
        padding: usize,
        /// Bytes of payload there are.
        payload: usize,
    },
}

/// Where the header extension of a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionBlock {
    /// "Defined by profile": tells the form (RFC 8285).
    pub profile: u16,
    /// Offset in bytes, from the start of the packet, of the first element.
    pub offset: u16,
    /// Length of the elements in bytes; a multiple of four.
    pub len: u16,
}

/// An RTP header (RFC 3550 5.1) whose lengths were all checked against the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// The P bit. How much padding there is stands at the end of the payload: see
    /// [`padding_len`].
    pub padding: bool,
    /// The M bit.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence_number: u16,
    /// Timestamp in units of the payload's clock rate.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
    /// How many contributing sources are listed, 0 to 15.
    pub csrc_count: u8,
    /// Bytes before the payload: fixed header, CSRCs and extension.
    pub header_len: usize,
    /// The header extension, if the X bit is set.
    pub extension: Option<ExtensionBlock>,
}

impl RtpHeader {
    /// Reads the header of `packet`, which may be encrypted.
    ///
    /// # Errors
    /// If the packet is not RTP version 2 or is shorter than its header says. A packet without
    /// payload is none.
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        let truncated = |needed| RtpError::Truncated {
            len: packet.len(),
            needed,
        };
        let fixed: &[u8; FIXED_HEADER_BYTES] =
            packet.first_chunk().ok_or(truncated(FIXED_HEADER_BYTES))?;
        let version = fixed[0] >> 6;
        if version != 2 {
            return Err(RtpError::Version(version));
        }
        let csrc_count = fixed[0] & 0x0f;
        let mut header_len = FIXED_HEADER_BYTES + 4 * usize::from(csrc_count);
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let (Some(profile), Some(words)) = (
                read_u16(packet, header_len),
                read_u16(packet, header_len + 2),
            ) else {
                return Err(truncated(header_len + 4));
            };
            let offset = header_len + 4;
            let len = 4 * usize::from(words);
            header_len = offset + len;
            let end = u16::try_from(header_len).map_err(|_| RtpError::TooLong(header_len))?;
            let len = 4 * words;
            extension = Some(ExtensionBlock {
                profile,
                offset: end - len,
                len,
            });
        }
        if header_len > packet.len() {
            return Err(truncated(header_len));
        }
        Ok(Self {
            padding: fixed[0] & 0x20 != 0,
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence_number: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            csrc_count,
            header_len,
            extension,
        })
    }

    /// The contributing sources of `packet`, the packet this header was parsed from.
    pub fn csrcs<'a>(&self, packet: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        (0..usize::from(self.csrc_count))
            .map_while(|i| read_u32(packet, FIXED_HEADER_BYTES + 4 * i))
    }
}

/// How many bytes at the end of a plaintext payload are padding, when the P bit is set.
///
/// # Errors
/// If the count is zero or larger than the payload.
pub fn padding_len(payload: &[u8]) -> Result<usize, RtpError> {
    // RFC 3550 5.1: the last octet counts the octets to ignore, itself included.
    let padding = payload.last().copied().map_or(0, usize::from);
    if padding == 0 || padding > payload.len() {
        return Err(RtpError::Padding {
            padding,
            payload: payload.len(),
        });
    }
    Ok(padding)
}

/// Whether sequence number `a` comes after `b`, counting modulo 2^16. Numbers exactly half the
/// circle apart are not newer than each other.
#[must_use]
pub fn seq_newer(a: u16, b: u16) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// Whether timestamp `a` comes after `b`, counting modulo 2^32. Timestamps exactly half the
/// circle apart are not newer than each other.
#[must_use]
pub fn timestamp_newer(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// The number nearest to `reference` whose low 16 bits are `seq`.
fn nearest(reference: u64, seq: u16) -> u64 {
    let distance = seq.wrapping_sub(reference as u16).cast_signed();
    reference.wrapping_add_signed(i64::from(distance))
}

/// Turns the 16-bit sequence numbers of one received stream into 64-bit ones that never wrap.
///
/// The first packet is numbered from 2^16 up, so packets that were sent before it but arrive
/// after it still have room below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceExtender {
    highest: Option<u64>,
}

impl SequenceExtender {
    /// What is added to the first sequence number.
    pub const START: u64 = 1 << 16;

    /// An extender that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { highest: None }
    }

    /// The extended number of `seq`: the one nearest to the highest seen so far, which it may
    /// become.
    pub fn extend(&mut self, seq: u16) -> u64 {
        let extended = self.peek(seq);
        self.highest = self.highest.max(Some(extended));
        extended
    }

    /// What [`Self::extend`] would return, changing nothing: for packets not yet authenticated.
    #[must_use]
    pub fn peek(&self, seq: u16) -> u64 {
        match self.highest {
            Some(highest) => nearest(highest, seq),
            None => Self::START + u64::from(seq),
        }
    }

    /// Starts the next cycle of 2^16 but one at `seq`: for a sender that began anew. Extended
    /// numbers still only grow, and by more than 2^16 here, so that nobody takes this for a loss.
    pub fn restart(&mut self, seq: u16) -> u64 {
        let cycle = self
            .highest
            .map_or(Self::START, |highest| ((highest >> 16) + 2) << 16);
        let extended = cycle + u64::from(seq);
        self.highest = Some(extended);
        extended
    }

    /// The highest extended number so far.
    #[must_use]
    pub const fn highest(&self) -> Option<u64> {
        self.highest
    }
}
