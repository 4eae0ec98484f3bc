//! AAC in RTP as RFC 3640 has it (`mpeg4-generic`, modes AAC-hbr and AAC-lbr).
//!
//! A payload is headers, each the size of a frame, then the frames; a frame that is larger than a
//! packet comes in several. Interleaved frames are refused: nothing that pushes live sound sends them.

use std::cmp::Ordering;

use super::Malformed;
use crate::media::aac::{AacConfig, Bits};

/// The largest frame: 13 bits of length.
const MAX_FRAME_BYTES: usize = (1 << 13) - 1;

/// Frames in a packet at most: more have no room in a datagram.
const MAX_FRAMES: usize = 64;

/// How the payloads are made up; an SDP's `a=fmtp` says it (RFC 3640 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mpeg4Layout {
    /// Bits of a frame's length: 13 (AAC-hbr) or 6 (AAC-lbr).
    pub size_bits: u32,
    /// Bits of the first frame's number.
    pub index_bits: u32,
    /// Bits of a later frame's distance.
    pub index_delta_bits: u32,
    /// Ticks of the RTP clock that a frame lasts.
    pub frame_ticks: u32,
}

impl Mpeg4Layout {
    /// That of AAC-hbr (RFC 3640 3.3.6), for sound with this configuration.
    #[must_use]
    pub fn high_bitrate(config: &AacConfig, clock_rate_hz: u32) -> Self {
        Self {
            size_bits: 13,
            index_bits: 3,
            index_delta_bits: 3,
            frame_ticks: config.frame_ticks(clock_rate_hz),
        }
    }

    fn is_sound(&self) -> bool {
        (1..=16).contains(&self.size_bits) && self.index_bits <= 16 && self.index_delta_bits <= 16
    }
}

/// Frames of AAC from the payloads of one source.
#[derive(Debug)]
pub struct Mpeg4Depacketizer {
    layout: Mpeg4Layout,
    /// A frame of which the first part has come, its length and its timestamp.
    open: Option<(Vec<u8>, usize, u32)>,
}

impl Mpeg4Depacketizer {
    /// At the beginning of a source.
    #[must_use]
    pub fn new(layout: Mpeg4Layout) -> Self {
        Self { layout, open: None }
    }

    /// Packets are missing here.
    pub fn gap(&mut self) {
        self.open = None;
    }

    /// Takes the next packet in order and gives each complete frame with its timestamp.
    ///
    /// # Errors
    /// The payload does not hold what it announces, or interleaved frames; nothing of it was given.
    pub fn push(
        &mut self,
        payload: &[u8],
        timestamp: u32,
        mut frame: impl FnMut(u32, &[u8]),
    ) -> Result<(), Malformed> {
        let (sizes, body) = self.headers(payload)?;
        if let [size] = *sizes.as_slice() {
            let open = self.open.as_ref().map(|&(_, size, of)| (size, of));
            // The last part of a frame is known by the frame being open.
            if size > body.len() || open == Some((size, timestamp)) {
                return self.fragment(size, body, timestamp, frame);
            }
        }
        self.open = None;
        if sizes.iter().sum::<usize>() > body.len() {
            return Err(Malformed);
        }
        let mut rest = body;
        let mut at = timestamp;
        for size in sizes {
            let (one, after) = rest.split_at_checked(size).ok_or(Malformed)?;
            if !one.is_empty() {
                frame(at, one);
            }
            at = at.wrapping_add(self.layout.frame_ticks);
            rest = after;
        }
        Ok(())
    }

    fn fragment(
        &mut self,
        size: usize,
        part: &[u8],
        timestamp: u32,
        mut frame: impl FnMut(u32, &[u8]),
    ) -> Result<(), Malformed> {
        let open = self
            .open
            .take()
            .filter(|&(_, of, at)| (of, at) == (size, timestamp));
        let (mut bytes, ..) = open.unwrap_or_default();
        bytes.extend_from_slice(part);
        match bytes.len().cmp(&size) {
            Ordering::Equal => frame(timestamp, &bytes),
            Ordering::Less if !part.is_empty() => self.open = Some((bytes, size, timestamp)),
            _ => return Err(Malformed),
        }
        Ok(())
    }

    /// Lengths of the frames, and what follows the headers.
    fn headers<'a>(&self, payload: &'a [u8]) -> Result<(Vec<usize>, &'a [u8]), Malformed> {
        let layout = &self.layout;
        if !layout.is_sound() {
            return Err(Malformed);
        }
        let (&bits, rest) = payload.split_first_chunk::<2>().ok_or(Malformed)?;
        let bits = usize::from(u16::from_be_bytes(bits));
        let (headers, body) = rest.split_at_checked(bits.div_ceil(8)).ok_or(Malformed)?;
        let mut reader = Bits::new(headers);
        let mut sizes = Vec::new();
        loop {
            let index_bits = match sizes.is_empty() {
                true => layout.index_bits,
                false => layout.index_delta_bits,
            };
            if reader.position() + (layout.size_bits + index_bits) as usize > bits {
                break;
            }
            let size = reader.bits(layout.size_bits).ok_or(Malformed)? as usize;
            let index = reader.bits(index_bits).ok_or(Malformed)?;
            // RFC 3640 3.2.1.1: anything else is a frame out of its order.
            if index != 0 || size > MAX_FRAME_BYTES || sizes.len() == MAX_FRAMES {
                return Err(Malformed);
            }
            sizes.push(size);
        }
        match sizes.is_empty() {
            true => Err(Malformed),
            false => Ok((sizes, body)),
        }
    }
}
