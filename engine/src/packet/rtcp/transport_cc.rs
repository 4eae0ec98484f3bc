//! Reading transport-wide congestion control feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 3.1).
//!
//! A few bytes can announce thousands of lost packets, so the packet is checked without walking
//! them, and [`TransportCc::received`] passes over them in one step.

use super::{read_u16, read_u24, read_u32};

/// Bytes of the body before the packet chunks.
const FIXED_BYTES: usize = 16;

/// What a feedback says about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketStatus {
    /// Transport-wide sequence number.
    pub sequence_number: u16,
    /// If it arrived: how long after the received packet listed before it (for the first, after
    /// the reference time), in microseconds; negative if it overtook that one.
    pub delta_us: Option<i32>,
}

/// A transport-wide feedback packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportCc<'a> {
    /// Who received the packets.
    pub sender_ssrc: u32,
    /// A source of the sender's; the feedback is about all of them.
    pub media_ssrc: u32,
    /// First sequence number reported on.
    pub base_sequence_number: u16,
    /// How many are reported on.
    pub packet_status_count: u16,
    /// Signed 24 bits, in units of 64 ms of the receiver's clock.
    pub reference_time: i32,
    /// Number of this feedback, to see when one is lost.
    pub feedback_packet_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// A status symbol; the reserved fourth one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol {
    NotReceived,
    SmallDelta,
    LargeDelta,
}

impl Symbol {
    fn from_bits(bits: u16) -> Option<Self> {
        match bits & 3 {
            0 => Some(Self::NotReceived),
            1 => Some(Self::SmallDelta),
            2 => Some(Self::LargeDelta),
            _ => None,
        }
    }

    fn delta_bytes(self) -> usize {
        self as usize
    }
}

/// A packet chunk (3.1.3, 3.1.4).
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Run {
        symbol: Symbol,
        len: u16,
    },
    /// Up to 14 symbols of one bit.
    OneBit(u16),
    /// Up to 7 symbols of two bits.
    TwoBit(u16),
}

impl Chunk {
    fn parse(bits: u16) -> Option<Self> {
        Some(match bits >> 14 {
            0 | 1 => Self::Run {
                symbol: Symbol::from_bits(bits >> 13)?,
                len: bits & 0x1fff,
            },
            2 => Self::OneBit(bits),
            _ => Self::TwoBit(bits),
        })
    }

    fn len(self) -> u16 {
        match self {
            Self::Run { len, .. } => len,
            Self::OneBit(_) => 14,
            Self::TwoBit(_) => 7,
        }
    }

    /// The symbol at `index`, which is below [`Self::len`].
    fn symbol(self, index: u16) -> Option<Symbol> {
        match self {
            Self::Run { symbol, .. } => Some(symbol),
            Self::OneBit(bits) => Symbol::from_bits(bits >> 13u16.checked_sub(index)? & 1),
            Self::TwoBit(bits) => Symbol::from_bits(bits >> 12u16.checked_sub(2 * index)?),
        }
    }

    /// Bytes that the deltas of the first `count` symbols take, or `None` if one is reserved.
    fn delta_bytes(self, count: u16) -> Option<usize> {
        match self {
            Self::Run { symbol, .. } => Some(symbol.delta_bytes() * usize::from(count)),
            _ => (0..count)
                .map(|index| self.symbol(index).map(Symbol::delta_bytes))
                .sum(),
        }
    }
}

impl<'a> TransportCc<'a> {
    /// Reads the body of a feedback packet. `None` unless the chunks cover the packet status
    /// count and every delta they announce is there.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let packet_status_count = read_u16(body, 10)?;
        let mut remaining = packet_status_count;
        let mut delta_bytes = 0;
        let mut at = FIXED_BYTES;
        // Each turn takes two bytes of the body, whatever the count says.
        while remaining > 0 {
            let chunk = Chunk::parse(read_u16(body, at)?)?;
            let covered = chunk.len().min(remaining);
            delta_bytes += chunk.delta_bytes(covered)?;
            remaining -= covered;
            at += 2;
        }
        let reference_time = read_u24(body, 12)?;
        Some(Self {
            sender_ssrc: read_u32(body, 0)?,
            media_ssrc: read_u32(body, 4)?,
            base_sequence_number: read_u16(body, 8)?,
            packet_status_count,
            reference_time: (reference_time << 8).cast_signed() >> 8,
            feedback_packet_count: *body.get(15)?,
            chunks: body.get(FIXED_BYTES..at)?,
            deltas: body.get(at..at + delta_bytes)?,
        })
    }

    /// The reference time in microseconds of the receiver's clock; it wraps after some 12 days.
    #[must_use]
    pub fn reference_time_us(&self) -> i64 {
        i64::from(self.reference_time) * 64_000
    }

    /// Every reported packet, lost ones included: up to 65535 of them however short the feedback.
    #[must_use]
    pub fn statuses(&self) -> PacketStatuses<'a> {
        PacketStatuses {
            sequence_number: self.base_sequence_number,
            remaining: self.packet_status_count,
            chunk: None,
            chunks: self.chunks,
            deltas: self.deltas,
        }
    }

    /// Only the received packets, with their deltas in microseconds. The work is bounded by the
    /// size of the feedback.
    pub fn received(&self) -> impl Iterator<Item = (u16, i32)> + 'a {
        let mut statuses = self.statuses();
        std::iter::from_fn(move || {
            loop {
                statuses.skip_lost_run();
                let status = statuses.next()?;
                if let Some(delta_us) = status.delta_us {
                    return Some((status.sequence_number, delta_us));
                }
            }
        })
    }
}

/// Iterator over the packets a feedback reports on, in order of sequence number.
#[derive(Clone, Debug)]
pub struct PacketStatuses<'a> {
    sequence_number: u16,
    remaining: u16,
    /// The chunk being read, and how many of its symbols were.
    chunk: Option<(Chunk, u16)>,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl PacketStatuses<'_> {
    /// The chunk that holds the next symbol, and that symbol's index.
    fn current(&mut self) -> Option<(Chunk, u16)> {
        loop {
            match self.chunk {
                Some((chunk, index)) if index < chunk.len() => return Some((chunk, index)),
                _ => {
                    let (bits, rest) = self.chunks.split_first_chunk()?;
                    self.chunks = rest;
                    self.chunk = Some((Chunk::parse(u16::from_be_bytes(*bits))?, 0));
                }
            }
        }
    }

    fn skip_lost_run(&mut self) {
        while self.remaining > 0
            && let Some((
                Chunk::Run {
                    symbol: Symbol::NotReceived,
                    len,
                },
                index,
            )) = self.current()
        {
            let skipped = (len - index).min(self.remaining);
            self.remaining -= skipped;
            self.sequence_number = self.sequence_number.wrapping_add(skipped);
            self.chunk = None;
        }
    }

    fn take_delta(&mut self, symbol: Symbol) -> Option<i32> {
        let (taken, rest) = self.deltas.split_at_checked(symbol.delta_bytes())?;
        self.deltas = rest;
        // 3.1.5: units of 250 us, unsigned in one byte or signed in two.
        match *taken {
            [small] => Some(i32::from(small) * 250),
            [high, low] => Some(i32::from(i16::from_be_bytes([high, low])) * 250),
            _ => None,
        }
    }
}

impl Iterator for PacketStatuses<'_> {
    type Item = PacketStatus;

    fn next(&mut self) -> Option<PacketStatus> {
        self.remaining = self.remaining.checked_sub(1)?;
        let (chunk, index) = self.current()?;
        self.chunk = Some((chunk, index + 1));
        let symbol = chunk.symbol(index)?;
        let status = PacketStatus {
            sequence_number: self.sequence_number,
            delta_us: self.take_delta(symbol),
        };
        self.sequence_number = self.sequence_number.wrapping_add(1);
        Some(status)
    }
}
