//! Writes RTCP into a caller's buffer, one packet after the other as a compound.
//!
//! The shard calls it when it reports, asks for keyframes or asks for retransmission. A packet
//! that does not fit leaves what was written before it untouched, so a full buffer can always be
//! sent as it is. It must never decide *what* to say.

use super::rtcp::{
    FirEntry, PSFB_ALFB, PSFB_FIR, PSFB_PLI, PT_BYE, PT_PSFB, PT_RR, PT_RTPFB, PT_SDES, PT_SR,
    REPORT_BLOCK_BYTES, RTPFB_NACK, ReportBlock, SenderInfo,
};
use super::twcc::TwccRecorder;

#[cfg(test)]
mod tests;

/// Most report blocks or sources in one packet: the count field has five bits.
pub const MAX_COUNT: usize = 31;

/// Why a packet was not written. The compound is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtcpWriteError {
    /// It does not fit.
    #[error(
        "RTCP packet of {needed} bytes does not fit the {left} bytes left; \
         send the compound and start another"
    )]
    BufferTooSmall {
        /// Bytes the packet takes.
        needed: usize,
        /// Bytes left in the buffer.
        left: usize,
    },
    /// A list is longer than its count field can say.
    #[error("{len} entries do not fit one RTCP packet, which takes {max}; split the list")]
    TooMany {
        /// Entries given.
        len: usize,
        /// Entries a packet can have.
        max: usize,
    },
}

/// A compound RTCP packet being written.
#[derive(Debug)]
pub struct RtcpWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

/// A stretch of the buffer that is exactly as long as the packet written into it.
struct Fill<'a> {
    rest: &'a mut [u8],
}

impl Fill<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.rest);
        let (to, rest) = rest.split_at_mut(bytes.len());
        to.copy_from_slice(bytes);
        self.rest = rest;
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }
}

impl<'a> RtcpWriter<'a> {
    /// An empty compound that will be written to the start of `out`.
    #[must_use]
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.out[..self.len]
    }

    /// Claims a packet of `len` bytes, a multiple of four, and writes its first word.
    fn packet(
        &mut self,
        packet_type: u8,
        count: usize,
        len: usize,
    ) -> Result<Fill<'_>, RtcpWriteError> {
        let left = self.out.len() - self.len;
        let words = u16::try_from(len / 4 - 1);
        let (Ok(words), true) = (words, len <= left) else {
            return Err(RtcpWriteError::BufferTooSmall { needed: len, left });
        };
        let mut fill = Fill {
            rest: &mut self.out[self.len..self.len + len],
        };
        self.len += len;
        fill.put(&[0x80 | count as u8, packet_type]);
        fill.put(&words.to_be_bytes());
        Ok(fill)
    }

    /// Appends a sender report (RFC 3550 6.4.1).
    ///
    /// # Errors
    /// If there are more than [`MAX_COUNT`] blocks or the report does not fit.
    pub fn sender_report(
        &mut self,
        info: &SenderInfo,
        blocks: &[ReportBlock],
    ) -> Result<(), RtcpWriteError> {
        let len = 4 + SenderInfo::BYTES + REPORT_BLOCK_BYTES * blocks.len();
        let mut fill = self.packet(PT_SR, count(blocks.len())?, len)?;
        fill.u32(info.ssrc);
        fill.put(&info.ntp_timestamp.to_be_bytes());
        fill.u32(info.rtp_timestamp);
        fill.u32(info.packet_count);
        fill.u32(info.octet_count);
        report_blocks(&mut fill, blocks);
        Ok(())
    }

    /// Appends a receiver report (RFC 3550 6.4.2) from `ssrc`.
    ///
    /// # Errors
    /// If there are more than [`MAX_COUNT`] blocks or the report does not fit.
    pub fn receiver_report(
        &mut self,
        ssrc: u32,
        blocks: &[ReportBlock],
    ) -> Result<(), RtcpWriteError> {
        let len = 8 + REPORT_BLOCK_BYTES * blocks.len();
        let mut fill = self.packet(PT_RR, count(blocks.len())?, len)?;
        fill.u32(ssrc);
        report_blocks(&mut fill, blocks);
        Ok(())
    }

    /// Appends a source description (RFC 3550 6.5) with the canonical name of `ssrc`, at most 255
    /// bytes.
    ///
    /// # Errors
    /// If the name is too long or the packet does not fit.
    pub fn sdes_cname(&mut self, ssrc: u32, cname: &[u8]) -> Result<(), RtcpWriteError> {
        const CNAME: u8 = 1;
        let Ok(cname_len) = u8::try_from(cname.len()) else {
            return Err(RtcpWriteError::TooMany {
                len: cname.len(),
                max: 255,
            });
        };
        // RFC 3550 6.5: one null octet or more ends the items, up to the next word.
        let len = (4 + 4 + 2 + cname.len() + 1).next_multiple_of(4);
        let mut fill = self.packet(PT_SDES, 1, len)?;
        fill.u32(ssrc);
        fill.put(&[CNAME, cname_len]);
        fill.put(cname);
        fill.rest.fill(0);
        Ok(())
    }

    /// Appends a goodbye (RFC 3550 6.6) of up to [`MAX_COUNT`] sources.
    ///
    /// # Errors
    /// If there are too many sources or the packet does not fit.
    pub fn bye(&mut self, ssrcs: &[u32]) -> Result<(), RtcpWriteError> {
        let mut fill = self.packet(PT_BYE, count(ssrcs.len())?, 4 + 4 * ssrcs.len())?;
        for &ssrc in ssrcs {
            fill.u32(ssrc);
        }
        Ok(())
    }

    /// Appends a generic NACK (RFC 4585 6.2.1) for the packets of `media_ssrc` that `sender_ssrc`
    /// misses. It is shortest if `missing` is sorted, counting around the circle; it is right in
    /// any order. An empty list writes nothing.
    ///
    /// # Errors
    /// If the packet does not fit.
    pub fn nack(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        missing: &[u16],
    ) -> Result<(), RtcpWriteError> {
        let pairs = NackPairs { missing };
        let pair_count = pairs.count();
        if pair_count == 0 {
            return Ok(());
        }
        let mut fill = self.packet(PT_RTPFB, usize::from(RTPFB_NACK), 12 + 4 * pair_count)?;
        fill.u32(sender_ssrc);
        fill.u32(media_ssrc);
        for (pid, blp) in (NackPairs { missing }) {
            fill.put(&pid.to_be_bytes());
            fill.put(&blp.to_be_bytes());
        }
        Ok(())
    }

    /// Appends a picture loss indication (RFC 4585 6.3.1).
    ///
    /// # Errors
    /// If it does not fit.
    pub fn pli(&mut self, sender_ssrc: u32, media_ssrc: u32) -> Result<(), RtcpWriteError> {
        let mut fill = self.packet(PT_PSFB, usize::from(PSFB_PLI), 12)?;
        fill.u32(sender_ssrc);
        fill.u32(media_ssrc);
        Ok(())
    }

    /// Appends a full intra request (RFC 5104 4.3.1).
    ///
    /// # Errors
    /// If it does not fit.
    pub fn fir(&mut self, sender_ssrc: u32, entries: &[FirEntry]) -> Result<(), RtcpWriteError> {
        let mut fill = self.packet(PT_PSFB, usize::from(PSFB_FIR), 12 + 8 * entries.len())?;
        fill.u32(sender_ssrc);
        // RFC 5104 4.3.1.2: the media source is in the entries.
        fill.u32(0);
        for entry in entries {
            fill.u32(entry.ssrc);
            fill.put(&[entry.sequence_number, 0, 0, 0]);
        }
        Ok(())
    }

    /// Appends a receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03 2.2). The
    /// bitrate is rounded down to 18 significant bits.
    ///
    /// # Errors
    /// If there are more than 255 sources or it does not fit.
    pub fn remb(
        &mut self,
        sender_ssrc: u32,
        bitrate_bps: u64,
        ssrcs: &[u32],
    ) -> Result<(), RtcpWriteError> {
        let Ok(ssrc_count) = u8::try_from(ssrcs.len()) else {
            return Err(RtcpWriteError::TooMany {
                len: ssrcs.len(),
                max: 255,
            });
        };
        let mut fill = self.packet(PT_PSFB, usize::from(PSFB_ALFB), 20 + 4 * ssrcs.len())?;
        fill.u32(sender_ssrc);
        fill.u32(0);
        fill.put(b"REMB");
        let exponent = (64 - bitrate_bps.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate_bps >> exponent) as u32;
        fill.u32(u32::from(ssrc_count) << 24 | exponent << 18 | mantissa);
        for &ssrc in ssrcs {
            fill.u32(ssrc);
        }
        Ok(())
    }

    /// Appends a transport-wide feedback packet with what `recorder` has to report, and tells
    /// whether there was anything to report and room for it. Call again for the rest while
    /// [`TwccRecorder::has_pending`].
    pub fn transport_cc(
        &mut self,
        recorder: &mut TwccRecorder,
        sender_ssrc: u32,
        media_ssrc: u32,
    ) -> bool {
        let written = recorder.build(&mut self.out[self.len..], sender_ssrc, media_ssrc);
        self.len += written.unwrap_or(0);
        written.is_some()
    }
}

fn count(len: usize) -> Result<usize, RtcpWriteError> {
    if len > MAX_COUNT {
        return Err(RtcpWriteError::TooMany {
            len,
            max: MAX_COUNT,
        });
    }
    Ok(len)
}

fn report_blocks(fill: &mut Fill<'_>, blocks: &[ReportBlock]) {
    for block in blocks {
        // RFC 3550 A.3: the 24-bit signed count is clamped, not wrapped.
        let lost = block
            .cumulative_lost
            .clamp(-0x80_0000, 0x7f_ffff)
            .cast_unsigned()
            & 0xff_ffff;
        fill.u32(block.ssrc);
        fill.u32(u32::from(block.fraction_lost) << 24 | lost);
        fill.u32(block.extended_highest_sequence_number);
        fill.u32(block.jitter);
        fill.u32(block.last_sr);
        fill.u32(block.delay_since_last_sr);
    }
}

/// Packs sequence numbers as (PID, BLP).
struct NackPairs<'a> {
    missing: &'a [u16],
}

impl Iterator for NackPairs<'_> {
    type Item = (u16, u16);

    fn next(&mut self) -> Option<(u16, u16)> {
        let (&pid, mut rest) = self.missing.split_first()?;
        let mut blp = 0;
        while let Some((&seq, after)) = rest.split_first() {
            match seq.wrapping_sub(pid) {
                0 => {}
                distance @ 1..=16 => blp |= 1 << (distance - 1),
                _ => break,
            }
            rest = after;
        }
        self.missing = rest;
        Some((pid, blp))
    }
}
