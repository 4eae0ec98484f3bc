//! AAC in LATM (ISO/IEC 14496-3 1.7): in RTP as RFC 6416 has it (`MP4A-LATM`), and in LOAS, which
//! MPEG-TS carries.
//!
//! One program with one layer, as every encoder makes it; others are refused. Frames begin at any bit.

use super::Malformed;
use crate::media::aac::{AacConfig, Bits};

/// The largest multiplex element: LOAS has 13 bits for its length, RTP a few packets.
const MAX_ELEMENT_BYTES: usize = 1 << 14;

/// The least that says how frames lie in an element: frameLengthType, and the length or fullness.
const LEAST_LAYOUT_BITS: usize = 11;

/// What StreamMuxConfig says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatmConfig {
    /// AudioSpecificConfig.
    pub config: Vec<u8>,
    /// The same, read.
    pub audio: AacConfig,
    /// Frames in an element.
    frames: usize,
    /// Length of each, if it is always the same.
    fixed_bytes: Option<usize>,
}

impl LatmConfig {
    /// Reads a StreamMuxConfig, as `config` in an SDP's `a=fmtp` holds it; `None` if it is cut or of
    /// a kind that is not carried.
    #[must_use]
    pub fn parse(config: &[u8]) -> Option<Self> {
        Self::read(&mut Bits::new(config), config)
    }

    fn read(bits: &mut Bits<'_>, all: &[u8]) -> Option<Self> {
        let version = bits.bits(1)?;
        if version == 1 {
            // audioMuxVersionA is 1 in nothing that exists.
            (bits.bits(1)? == 0).then_some(())?;
            latm_value(bits)?;
        }
        let same_framing = bits.bits(1)?;
        let frames = bits.bits(6)? as usize + 1;
        let (programs, layers) = (bits.bits(4)?, bits.bits(3)?);
        ((same_framing, programs, layers) == (1, 0, 0)).then_some(())?;
        let announced = match version {
            1 => Some(latm_value(bits)? as usize),
            _ => None,
        };
        let start = bits.position();
        let audio = AacConfig::read(bits)?;
        if let Some(announced) = announced {
            for _ in 0..announced.checked_sub(bits.position() - start)? {
                bits.bits(1)?;
            }
        }
        let length = bits.position() - start;
        let mut copied = Bits::new(all);
        for _ in 0..start {
            copied.bits(1)?;
        }
        let mut read = Self {
            config: copied.bytes(length)?,
            audio,
            frames,
            fixed_bytes: None,
        };
        if announced.is_none() {
            AacConfig::pass_extension(bits)?;
            // GStreamer ends here, having said in full what is in the frames.
            if 8 * all.len() - bits.position() < LEAST_LAYOUT_BITS {
                return Some(read);
            }
        }
        read.fixed_bytes = match bits.bits(3)? {
            0 => {
                bits.bits(8)?;
                None
            }
            1 => Some(bits.bits(9)? as usize + 20),
            _ => return None,
        };
        // The length of other data, which stands after the frames and is left there.
        match bits.bits(1)? {
            1 if version == 1 => drop(latm_value(bits)?),
            1 => while bits.bits(9)? & 0x100 != 0 {},
            _ => {}
        }
        if bits.bits(1)? == 1 {
            bits.bits(8)?;
        }
        Some(read)
    }
}

/// LatmGetValue (1.7.3.2).
fn latm_value(bits: &mut Bits<'_>) -> Option<u32> {
    let bytes = bits.bits(2)? + 1;
    bits.bits(8 * bytes)
}

/// Reads the elements of one source.
#[derive(Debug)]
pub struct LatmDepacketizer {
    /// Whether the elements bring their configuration (`cpresent`).
    in_band: bool,
    config: Option<LatmConfig>,
    /// An element of which some packets have come, and its timestamp.
    open: Vec<u8>,
    open_timestamp: Option<u32>,
    /// The rest of an element whose beginning is missing is coming.
    damaged: bool,
}

impl LatmDepacketizer {
    /// At the beginning of a source whose elements bring their configuration (`cpresent=1`, LOAS).
    #[must_use]
    pub fn in_band() -> Self {
        Self::new(None, true)
    }

    /// At the beginning of a source whose configuration was told (`cpresent=0`).
    #[must_use]
    pub fn configured(config: LatmConfig) -> Self {
        Self::new(Some(config), false)
    }

    fn new(config: Option<LatmConfig>, in_band: bool) -> Self {
        Self {
            in_band,
            config,
            open: Vec::new(),
            open_timestamp: None,
            damaged: false,
        }
    }

    /// The configuration, once it is known.
    #[must_use]
    pub fn config(&self) -> Option<&LatmConfig> {
        self.config.as_ref()
    }

    /// Packets are missing here.
    pub fn gap(&mut self) {
        self.open.clear();
        self.open_timestamp = None;
        self.damaged = true;
    }

    /// Takes the next RTP payload in order and gives each complete frame with its place in the
    /// element. An element ends with the marker.
    ///
    /// # Errors
    /// The element cannot be read.
    pub fn push(
        &mut self,
        payload: &[u8],
        (timestamp, marker): (u32, bool),
        frame: impl FnMut(usize, &[u8]),
    ) -> Result<(), Malformed> {
        if self.open_timestamp.is_some_and(|open| open != timestamp) {
            // The packet with its end is missing: this one begins an element.
            self.open.clear();
            self.damaged = false;
        }
        self.open_timestamp = Some(timestamp);
        if self.open.len() + payload.len() > MAX_ELEMENT_BYTES {
            self.gap();
            return Err(Malformed);
        }
        self.open.extend_from_slice(payload);
        if !marker {
            return Ok(());
        }
        self.open_timestamp = None;
        let element = std::mem::take(&mut self.open);
        // After a loss it may be the end of an element only.
        if std::mem::take(&mut self.damaged) {
            return Ok(());
        }
        self.element(&element, frame)
    }

    /// Takes an element (AudioMuxElement) and gives its frames with their places in it.
    ///
    /// # Errors
    /// It cannot be read, or its configuration has not come yet.
    pub fn element(
        &mut self,
        element: &[u8],
        mut frame: impl FnMut(usize, &[u8]),
    ) -> Result<(), Malformed> {
        let mut bits = Bits::new(element);
        if self.in_band && bits.bits(1).ok_or(Malformed)? == 0 {
            let config = LatmConfig::read(&mut bits, element).ok_or(Malformed)?;
            self.config = Some(config);
        }
        let config = self.config.as_ref().ok_or(Malformed)?;
        for place in 0..config.frames {
            let length = match config.fixed_bytes {
                Some(fixed) => fixed,
                None => frame_length(&mut bits).ok_or(Malformed)?,
            };
            if length > element.len() {
                return Err(Malformed);
            }
            let bytes = bits.bytes(8 * length).ok_or(Malformed)?;
            if !bytes.is_empty() {
                frame(place, &bytes);
            }
        }
        Ok(())
    }
}

/// PayloadLengthInfo (1.7.3.1): bytes are added up as long as they are 255.
fn frame_length(bits: &mut Bits<'_>) -> Option<usize> {
    let mut length = 0;
    loop {
        let more = bits.bits(8)? as usize;
        length += more;
        if more != 255 {
            return Some(length);
        }
    }
}
