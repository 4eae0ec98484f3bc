//! From access units, as files and other protocols hold them, to RTP payloads of at most
//! [`MAX_PAYLOAD_BYTES`].
//!
//! A [`Packetizer`] is made for one track and called for each of its units in decoding order. It
//! neither looks at time nor makes headers. Damaged units are refused, never passed on.

mod av1;
mod h264;
mod h265;
mod nal;
mod vp8;
mod vp9;

#[cfg(test)]
mod tests;

use fanmill_engine::packet::codec::Codec;

/// Largest payload made: with the headers of RTP, SRTP, UDP and IPv6 it fits the smallest paths in
/// use, as browsers assume too.
pub const MAX_PAYLOAD_BYTES: usize = 1200;

/// What the units of a track are, with what is said once for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// H.264, NAL units with lengths before them (ISO/IEC 14496-15).
    H264 {
        /// Bytes of each length: 1, 2 or 4.
        length_bytes: u8,
        /// Sequence and picture parameter sets, sent before each keyframe that has none itself.
        parameter_sets: Vec<Vec<u8>>,
    },
    /// H.265, NAL units with lengths before them.
    H265 {
        /// Bytes of each length: 1, 2 or 4.
        length_bytes: u8,
        /// Video, sequence and picture parameter sets.
        parameter_sets: Vec<Vec<u8>>,
    },
    /// VP8 frames.
    Vp8,
    /// VP9 frames and superframes.
    Vp9,
    /// AV1 temporal units in the low-overhead format (AV1 5.2).
    Av1 {
        /// OBUs with sizes, sent before each keyframe that has no sequence header itself.
        configuration: Vec<u8>,
    },
    /// Opus packets.
    Opus,
}

impl Format {
    /// The codec.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        match self {
            Self::H264 { .. } => Codec::H264,
            Self::H265 { .. } => Codec::H265,
            Self::Vp8 => Codec::Vp8,
            Self::Vp9 => Codec::Vp9,
            Self::Av1 { .. } => Codec::Av1,
            Self::Opus => Codec::Opus,
        }
    }
}

/// Why a unit was not packetized. It is left out; the next one may be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketizeError {
    /// A length inside the unit points past its end.
    #[error("a unit of {0} bytes is cut or damaged inside")]
    Damaged(usize),
    /// The unit holds nothing to be sent.
    #[error("an access unit holds no media")]
    Empty,
    /// Opus has no way to be cut into several packets (RFC 7587 4.2).
    #[error(
        "an Opus packet of {0} bytes does not fit a datagram; encode with packets of 20 ms \
         (ffmpeg: -frame_duration 20)"
    )]
    TooLong(usize),
}

/// The payloads of one access unit, in one piece of memory. The marker bit belongs to the last of
/// video; audio is one payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Payloads {
    /// How many payloads.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all payloads together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The payloads in the order of sending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|index| {
            let start = match index {
                0 => 0,
                _ => self.ends[index - 1] as usize,
            };
            &self.bytes[start..self.ends[index] as usize]
        })
    }

    /// Forgets them and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds one payload, of these parts in turn.
    fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.end_payload();
    }

    /// Adds bytes to the payload that [`end_payload`](Self::end_payload) will complete.
    fn extend(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
    }

    fn end_payload(&mut self) {
        let end = u32::try_from(self.bytes.len()).expect("access units are far below 4 GiB");
        self.ends.push(end);
    }
}

/// Makes the payloads of one track.
#[derive(Debug, Clone)]
pub struct Packetizer {
    format: Format,
    /// Counts the pictures of VP8 and VP9, 15 bits.
    picture_id: u16,
}

impl Packetizer {
    /// For the units of a track. `first_picture_id` should be random (RFC 7741 4.2).
    #[must_use]
    pub fn new(format: Format, first_picture_id: u16) -> Self {
        Self {
            format,
            picture_id: first_picture_id & 0x7fff,
        }
    }

    /// Goes on with units of another file or encoder, of the same codec.
    pub fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    /// Replaces the contents of `payloads` by those of `unit`, which is empty after an error.
    ///
    /// # Errors
    /// [`PacketizeError`]: the unit cannot be sent.
    pub fn packetize(
        &mut self,
        unit: &[u8],
        is_keyframe: bool,
        payloads: &mut Payloads,
    ) -> Result<(), PacketizeError> {
        payloads.clear();
        let done = self.fill(unit, is_keyframe, payloads);
        if done.is_ok() && payloads.is_empty() {
            return Err(PacketizeError::Empty);
        }
        if done.is_err() {
            payloads.clear();
        }
        done
    }

    fn fill(
        &mut self,
        unit: &[u8],
        is_keyframe: bool,
        payloads: &mut Payloads,
    ) -> Result<(), PacketizeError> {
        if unit.is_empty() {
            return Err(PacketizeError::Empty);
        }
        match &self.format {
            Format::H264 {
                length_bytes,
                parameter_sets,
            } => {
                let nals = nal::split(unit, *length_bytes)?;
                h264::packetize(&nals, is_keyframe, parameter_sets, payloads);
            }
            Format::H265 {
                length_bytes,
                parameter_sets,
            } => {
                let nals = nal::split(unit, *length_bytes)?;
                h265::packetize(&nals, is_keyframe, parameter_sets, payloads);
            }
            Format::Vp8 => {
                vp8::packetize(unit, self.picture_id, payloads);
                self.picture_id = (self.picture_id + 1) & 0x7fff;
            }
            Format::Vp9 => {
                vp9::packetize(unit, is_keyframe, self.picture_id, payloads);
                self.picture_id = (self.picture_id + 1) & 0x7fff;
            }
            Format::Av1 { configuration } => {
                av1::packetize(unit, is_keyframe, configuration, payloads)?;
            }
            Format::Opus if unit.len() > MAX_PAYLOAD_BYTES => {
                return Err(PacketizeError::TooLong(unit.len()));
            }
            Format::Opus => payloads.push(&[unit]),
        }
        Ok(())
    }
}
