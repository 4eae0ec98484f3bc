//! RTCP as views: iterates over the packets of a decrypted compound and reads the ones a media
//! server acts upon.
//!
//! The shard calls it for every opened SRTCP packet. Nothing is copied: lists are iterators over
//! the received bytes, and each was checked to lie inside them when its packet was parsed. The
//! work any of them can cause is bounded by the size of the datagram.

use super::{read_u16, read_u24, read_u32};

mod transport_cc;

pub use transport_cc::{PacketStatus, TransportCc};

#[cfg(test)]
mod tests;

pub(crate) const PT_SR: u8 = 200;
pub(crate) const PT_RR: u8 = 201;
pub(crate) const PT_SDES: u8 = 202;
pub(crate) const PT_BYE: u8 = 203;
pub(crate) const PT_RTPFB: u8 = 205;
pub(crate) const PT_PSFB: u8 = 206;

pub(crate) const RTPFB_NACK: u8 = 1;
pub(crate) const RTPFB_TRANSPORT_CC: u8 = 15;
pub(crate) const PSFB_PLI: u8 = 1;
pub(crate) const PSFB_FIR: u8 = 4;
pub(crate) const PSFB_ALFB: u8 = 15;

pub(crate) const REPORT_BLOCK_BYTES: usize = 24;

/// Why an RTCP packet cannot be read. It is to be ignored; the rest of a compound stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// The version field is not 2; nothing after this packet can be trusted.
    #[error("RTCP version {0} is not 2; ignore the rest of the compound packet")]
    Version(u8),
    /// The packet is longer than the datagram; nothing follows it.
    #[error("RTCP packet of {needed} bytes is cut at {len}; ignore it")]
    Truncated {
        /// Bytes there are.
        len: usize,
        /// Bytes the header announces.
        needed: usize,
    },
    /// The padding count is zero or exceeds the packet.
    #[error("RTCP padding does not fit its packet of type {packet_type}; ignore it")]
    Padding {
        /// Packet type of the offender.
        packet_type: u8,
    },
    /// The body is too short for what it must hold.
    #[error("body of RTCP packet type {packet_type}, count {count}, is malformed; ignore it")]
    Body {
        /// Packet type.
        packet_type: u8,
        /// The five bits that are a count or a feedback message type.
        count: u8,
    },
}

/// One RTCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RtcpPacket<'a> {
    /// Sender report (RFC 3550 6.4.1).
    SenderReport(SenderReport<'a>),
    /// Receiver report (RFC 3550 6.4.2).
    ReceiverReport(ReceiverReport<'a>),
    /// Goodbye (RFC 3550 6.6).
    Bye(Bye<'a>),
    /// Generic NACK (RFC 4585 6.2.1).
    Nack(Nack<'a>),
    /// Picture loss indication (RFC 4585 6.3.1).
    Pli(Pli),
    /// Full intra request (RFC 5104 4.3.1).
    Fir(Fir<'a>),
    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
    Remb(Remb<'a>),
    /// Transport-wide congestion control feedback
    /// (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportCc(TransportCc<'a>),
    /// Well formed, but nothing we act upon: SDES, APP, XR and unknown ones.
    Other {
        /// Packet type.
        packet_type: u8,
        /// The five bits that are a count or a feedback message type.
        count: u8,
    },
}

/// Iterator over the packets of a compound or reduced-size (RFC 5506) RTCP packet.
///
/// A packet with a malformed body is an error and the next one follows; after one whose length
/// cannot be trusted the iterator ends.
#[derive(Clone, Debug)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

impl<'a> Compound<'a> {
    /// The packets of a decrypted datagram, without SRTCP index and tag.
    #[must_use]
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    fn split(&mut self) -> Result<(u8, u8, &'a [u8]), RtcpError> {
        let rest = std::mem::take(&mut self.rest);
        let truncated = |needed| RtcpError::Truncated {
            len: rest.len(),
            needed,
        };
        let [first, packet_type, length @ ..] = *rest.first_chunk::<4>().ok_or(truncated(4))?;
        if first >> 6 != 2 {
            return Err(RtcpError::Version(first >> 6));
        }
        let len = 4 * (usize::from(u16::from_be_bytes(length)) + 1);
        let (packet, after) = rest.split_at_checked(len).ok_or(truncated(len))?;
        self.rest = after;
        let mut body = &packet[4..];
        if first & 0x20 != 0 {
            // RFC 3550 6.4.1 wants a multiple of four here; senders of transport feedback pad to
            // the next word, which is read too.
            let padding = body.last().copied().map_or(0, usize::from);
            let keep = body.len().checked_sub(padding).filter(|_| padding != 0);
            body = &body[..keep.ok_or(RtcpError::Padding { packet_type })?];
        }
        Ok((packet_type, first & 0x1f, body))
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Result<RtcpPacket<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.split().and_then(|(packet_type, count, body)| {
            parse(packet_type, count, body).ok_or(RtcpError::Body { packet_type, count })
        }))
    }
}

/// The packet with this body (all after the first word, without padding), or `None` if malformed.
fn parse(packet_type: u8, count: u8, body: &[u8]) -> Option<RtcpPacket<'_>> {
    Some(match (packet_type, count) {
        (PT_SR, _) => RtcpPacket::SenderReport(SenderReport {
            info: SenderInfo::parse(body)?,
            report_blocks: ReportBlocks::parse(body, SenderInfo::BYTES, count)?,
        }),
        (PT_RR, _) => RtcpPacket::ReceiverReport(ReceiverReport {
            ssrc: read_u32(body, 0)?,
            report_blocks: ReportBlocks::parse(body, 4, count)?,
        }),
        (PT_BYE, _) => RtcpPacket::Bye(Bye {
            ssrcs: body.get(..4 * usize::from(count))?,
        }),
        (PT_RTPFB, RTPFB_NACK) => RtcpPacket::Nack(Nack {
            sender_ssrc: read_u32(body, 0)?,
            media_ssrc: read_u32(body, 4)?,
            pairs: body.get(8..)?,
        }),
        (PT_RTPFB, RTPFB_TRANSPORT_CC) => RtcpPacket::TransportCc(TransportCc::parse(body)?),
        (PT_PSFB, PSFB_PLI) => RtcpPacket::Pli(Pli {
            sender_ssrc: read_u32(body, 0)?,
            media_ssrc: read_u32(body, 4)?,
        }),
        (PT_PSFB, PSFB_FIR) => RtcpPacket::Fir(Fir {
            sender_ssrc: read_u32(body, 0)?,
            entries: body.get(8..)?,
        }),
        (PT_PSFB, PSFB_ALFB) if body.get(8..12) == Some(b"REMB") => {
            RtcpPacket::Remb(Remb::parse(body)?)
        }
        _ => RtcpPacket::Other { packet_type, count },
    })
}

/// The sender's half of a sender report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// Sender of the report.
    pub ssrc: u32,
    /// Wall clock of the report: NTP, 32.32 fixed-point seconds.
    pub ntp_timestamp: u64,
    /// The same instant in the media's clock.
    pub rtp_timestamp: u32,
    /// RTP packets sent so far.
    pub packet_count: u32,
    /// Payload bytes sent so far.
    pub octet_count: u32,
}

impl SenderInfo {
    /// On the wire, SSRC included.
    pub(crate) const BYTES: usize = 24;

    fn parse(body: &[u8]) -> Option<Self> {
        Some(Self {
            ssrc: read_u32(body, 0)?,
            ntp_timestamp: u64::from(read_u32(body, 4)?) << 32 | u64::from(read_u32(body, 8)?),
            rtp_timestamp: read_u32(body, 12)?,
            packet_count: read_u32(body, 16)?,
            octet_count: read_u32(body, 20)?,
        })
    }
}

/// A reception report block (RFC 3550 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source reported on.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since reception began; negative with duplicates. 24 bits.
    pub cumulative_lost: i32,
    /// Cycles and highest sequence number received.
    pub extended_highest_sequence_number: u32,
    /// Interarrival jitter in units of the media's clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP timestamp of the last sender report; 0: none yet.
    pub last_sr: u32,
    /// Time since that report came, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    fn parse(block: &[u8; REPORT_BLOCK_BYTES]) -> Option<Self> {
        let lost = read_u24(block, 5)?;
        Some(Self {
            ssrc: read_u32(block, 0)?,
            fraction_lost: block[4],
            // Shifted up and down again to extend the sign.
            cumulative_lost: (lost << 8).cast_signed() >> 8,
            extended_highest_sequence_number: read_u32(block, 8)?,
            jitter: read_u32(block, 12)?,
            last_sr: read_u32(block, 16)?,
            delay_since_last_sr: read_u32(block, 20)?,
        })
    }

    /// The round trip in microseconds that this block, received at `now_ntp` (NTP, 32.32 seconds,
    /// of the clock our sender reports were stamped with), shows. `None` if its sender has seen
    /// no report of ours, or claims to have held it longer than it was away.
    #[must_use]
    pub fn round_trip_us(&self, now_ntp: u64) -> Option<u32> {
        if self.last_sr == 0 {
            return None;
        }
        // RFC 3550 6.4.1: A - LSR - DLSR, in 1/65536 s.
        let arrival = (now_ntp >> 16) as u32;
        let away = arrival.wrapping_sub(self.last_sr);
        let round_trip = u64::from(away.checked_sub(self.delay_since_last_sr)?);
        u32::try_from((round_trip * 1_000_000) >> 16).ok()
    }
}

/// The report blocks of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ReportBlocks<'a>(&'a [u8]);

impl<'a> ReportBlocks<'a> {
    fn parse(body: &'a [u8], at: usize, count: u8) -> Option<Self> {
        // What follows the blocks is a profile-specific extension.
        body.get(at..at + usize::from(count) * REPORT_BLOCK_BYTES)
            .map(Self)
    }

    fn iter(self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.0.as_chunks().0.iter().filter_map(ReportBlock::parse)
    }
}

/// A sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport<'a> {
    /// What the sender says about its own stream.
    pub info: SenderInfo,
    report_blocks: ReportBlocks<'a>,
}

impl<'a> SenderReport<'a> {
    /// What it received, up to 31 sources.
    pub fn report_blocks(&self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.report_blocks.iter()
    }
}

/// A receiver report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverReport<'a> {
    /// Sender of the report.
    pub ssrc: u32,
    report_blocks: ReportBlocks<'a>,
}

impl<'a> ReceiverReport<'a> {
    /// What it received, up to 31 sources.
    pub fn report_blocks(&self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.report_blocks.iter()
    }
}

/// Sources that leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bye<'a> {
    ssrcs: &'a [u8],
}

impl<'a> Bye<'a> {
    /// The sources.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + 'a {
        ssrcs(self.ssrcs)
    }
}

fn ssrcs(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks().0.iter().copied().map(u32::from_be_bytes)
}

/// Packets a receiver misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nack<'a> {
    /// Who misses them.
    pub sender_ssrc: u32,
    /// The source they belong to.
    pub media_ssrc: u32,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    /// The missing sequence numbers, as listed: possibly unsorted and repeated.
    pub fn sequence_numbers(&self) -> impl Iterator<Item = u16> + 'a {
        self.pairs
            .as_chunks()
            .0
            .iter()
            .flat_map(|&[p0, p1, b0, b1]| {
                let pid = u16::from_be_bytes([p0, p1]);
                // RFC 4585 6.2.1: bit i of the bitmask (from the least significant) is PID + i + 1.
                let lost = u32::from(u16::from_be_bytes([b0, b1])) << 1 | 1;
                (0..17u16)
                    .filter(move |i| lost >> i & 1 != 0)
                    .map(move |i| pid.wrapping_add(i))
            })
    }
}

/// A receiver that lost the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pli {
    /// Who lost it.
    pub sender_ssrc: u32,
    /// The source of the picture.
    pub media_ssrc: u32,
}

/// A receiver that asks for keyframes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fir<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    entries: &'a [u8],
}

/// One keyframe asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirEntry {
    /// The source asked.
    pub ssrc: u32,
    /// Command number: a repetition of the last one is the same request (RFC 5104 4.3.1.1).
    pub sequence_number: u8,
}

impl<'a> Fir<'a> {
    /// What it asks for.
    pub fn entries(&self) -> impl Iterator<Item = FirEntry> + 'a {
        self.entries.as_chunks::<8>().0.iter().filter_map(|entry| {
            Some(FirEntry {
                ssrc: read_u32(entry, 0)?,
                sequence_number: entry[4],
            })
        })
    }
}

/// The bandwidth a receiver believes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remb<'a> {
    /// Who believes it.
    pub sender_ssrc: u32,
    /// Total for all listed sources, in bits per second; saturates.
    pub bitrate_bps: u64,
    ssrcs: &'a [u8],
}

impl<'a> Remb<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        // draft-alvestrand-rmcat-remb-03 2.2.
        let count = usize::from(*body.get(12)?);
        let bits = read_u24(body, 13)?;
        let exponent = bits >> 18;
        let mantissa = u64::from(bits & 0x3_ffff);
        let bitrate_bps = if mantissa.leading_zeros() < exponent {
            u64::MAX
        } else {
            mantissa << exponent
        };
        let bitrate_bps = if mantissa == 0 { 0 } else { bitrate_bps };
        Some(Self {
            sender_ssrc: read_u32(body, 0)?,
            bitrate_bps,
            ssrcs: body.get(16..16 + 4 * count)?,
        })
    }

    /// The sources it applies to.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + 'a {
        ssrcs(self.ssrcs)
    }
}
