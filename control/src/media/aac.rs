//! What AAC says of itself: AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1), as SDP, MP4 and LATM carry
//! it, and the ADTS header (1.A.2.2) that takes its place in MPEG-TS.
//!
//! Depacketizers and demultiplexers read it for rates and lengths. It decodes no sound.

use fanmill_engine::packet::codec::BitReader;

/// Sampling rates by their index (ISO/IEC 14496-3 table 1.18).
const RATES_HZ: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

const ESCAPED_OBJECT_TYPE: u32 = 31;
const ESCAPED_RATE: u32 = 15;
const AAC_SCALABLE: u32 = 6;
const SBR: u32 = 5;
const ER_BSAC: u32 = 22;
const PARAMETRIC_STEREO: u32 = 29;

/// What announces extensions (syncExtensionType).
const SBR_FOLLOWS: u32 = 0x2b7;
const STEREO_FOLLOWS: u32 = 0x548;

/// Length of an ADTS header without its checksum, in bytes.
const ADTS_HEADER_BYTES: usize = 7;

/// What an AudioSpecificConfig says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacConfig {
    /// Of the AAC itself: 2 is AAC-LC.
    pub object_type: u8,
    /// Rate that is coded, in Hz; with SBR half of what is heard.
    pub rate_hz: u32,
    /// Channel configuration: 1 mono, 2 stereo, 0 said elsewhere.
    pub channels: u8,
    /// Samples a channel in a frame, at [`rate_hz`](Self::rate_hz).
    pub frame_samples: u32,
}

impl AacConfig {
    /// Reads a configuration; `None` if it is cut or of no kind of AAC.
    #[must_use]
    pub fn parse(config: &[u8]) -> Option<Self> {
        Self::read(&mut Bits::new(config))
    }

    /// Reads a configuration that stands amid other bits, and passes over it.
    pub(super) fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let mut object_type = object_type(bits)?;
        let rate_hz = rate(bits)?;
        let channels = bits.bits(4)?;
        if matches!(object_type, SBR | PARAMETRIC_STEREO) {
            rate(bits)?;
            object_type = self::object_type(bits)?;
            if object_type == ER_BSAC {
                bits.bits(4)?;
            }
        }
        // GASpecificConfig (4.4.1).
        if !matches!(object_type, 1..=4 | AAC_SCALABLE | 7 | 17 | 19..=23) {
            return None;
        }
        let short_frames = bits.bits(1)? == 1;
        if bits.bits(1)? == 1 {
            bits.bits(14)?;
        }
        let extended = bits.bits(1)? == 1;
        // A program config element in the place of the channels: nothing that is sent by RTP.
        if channels == 0 {
            return None;
        }
        if matches!(object_type, AAC_SCALABLE | 20) {
            bits.bits(3)?;
        }
        if extended {
            match object_type {
                ER_BSAC => bits.bits(16)?,
                17 | 19 | 20 | 23 => bits.bits(3)?,
                _ => 0,
            };
            bits.bits(1)?;
        }
        Some(Self {
            object_type: u8::try_from(object_type).ok()?,
            rate_hz,
            channels: u8::try_from(channels).ok()?,
            frame_samples: if short_frames { 960 } else { 1024 },
        })
    }

    /// Passes over what some senders put after a configuration to say whether there is SBR
    /// (1.6.2.1, syncExtensionType); if it is not there, over nothing. `None` if it is cut.
    pub(super) fn pass_extension(bits: &mut Bits<'_>) -> Option<()> {
        let mut ahead = bits.clone();
        if ahead.bits(11) != Some(SBR_FOLLOWS) {
            return Some(());
        }
        let kind = object_type(&mut ahead)?;
        if matches!(kind, SBR | ER_BSAC) && ahead.bits(1)? == 1 {
            rate(&mut ahead)?;
            let mut further = ahead.clone();
            if further.bits(11) == Some(STEREO_FOLLOWS) {
                further.bits(1)?;
                ahead = further;
            }
        }
        *bits = ahead;
        Some(())
    }

    /// Ticks of a clock that a frame lasts.
    #[must_use]
    pub fn frame_ticks(&self, clock_rate_hz: u32) -> u32 {
        let ticks = u64::from(self.frame_samples) * u64::from(clock_rate_hz);
        u32::try_from(ticks / u64::from(self.rate_hz.max(1))).unwrap_or(u32::MAX)
    }
}

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.bits(5)? {
        ESCAPED_OBJECT_TYPE => Some(32 + bits.bits(6)?),
        plain => Some(plain),
    }
}

fn rate(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.bits(4)? {
        ESCAPED_RATE => bits.bits(24).filter(|&rate| rate != 0),
        index => RATES_HZ.get(index as usize).copied(),
    }
}

/// A [`BitReader`] that knows how far it is.
#[derive(Clone)]
pub(super) struct Bits<'a> {
    reader: BitReader<'a>,
    position: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: BitReader::new(bytes),
            position: 0,
        }
    }

    /// Bits read.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next `count` bits, at most 32.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        let value = self.reader.bits(count)?;
        self.position += count as usize;
        Some(value)
    }

    /// The next `count` bits as bytes, the last one filled up with zeros.
    pub(super) fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut left = count;
        while left > 0 {
            let now = left.min(8) as u32;
            let value = self.bits(now)? << (8 - now);
            bytes.push(value as u8);
            left -= now as usize;
        }
        Some(bytes)
    }
}

/// A frame in ADTS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdtsFrame {
    /// The AudioSpecificConfig that the header comes to.
    pub config: [u8; 2],
    /// Where the raw frame begins.
    pub header_bytes: usize,
    /// Length with the header.
    pub frame_bytes: usize,
}

impl AdtsFrame {
    /// Reads a header. `None` if there is none, or if it announces several raw blocks in one frame,
    /// which no encoder in use makes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; ADTS_HEADER_BYTES] = bytes.first_chunk()?;
        let [sync, flags, format, layout, length, tail, blocks] = *header;
        if sync != 0xff || flags & 0xf6 != 0xf0 || blocks & 3 != 0 {
            return None;
        }
        let (profile, rate) = (format >> 6, format >> 2 & 0xf);
        if usize::from(rate) >= RATES_HZ.len() {
            return None;
        }
        let channels = (format & 1) << 2 | layout >> 6;
        let has_checksum = flags & 1 == 0;
        let header_bytes = ADTS_HEADER_BYTES + if has_checksum { 2 } else { 0 };
        let frame_bytes =
            usize::from(layout & 3) << 11 | usize::from(length) << 3 | usize::from(tail >> 5);
        (frame_bytes > header_bytes).then_some(Self {
            config: [(profile + 1) << 3 | rate >> 1, rate << 7 | channels << 3],
            header_bytes,
            frame_bytes,
        })
    }

    /// The header of a raw frame of so many bytes; `None` if it is too long for one.
    #[must_use]
    pub fn header(config: [u8; 2], bytes: usize) -> Option<[u8; ADTS_HEADER_BYTES]> {
        let [first, second] = config;
        let (profile, rate) = ((first >> 3) - 1, (first & 7) << 1 | second >> 7);
        let channels = second >> 3 & 15;
        let length = u16::try_from(bytes + ADTS_HEADER_BYTES).ok()?;
        let length = (length < 1 << 13).then_some(length)?;
        // The fullness of the buffer is left open, as for what has no fixed rate.
        Some([
            0xff,
            0xf1,
            profile << 6 | rate << 2 | channels >> 2,
            channels << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1f,
            0xfc,
        ])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn configurations_in_use_are_read() {
        let stereo = AacConfig::parse(&[0x12, 0x10]);
        let expected = AacConfig {
            object_type: 2,
            rate_hz: 44_100,
            channels: 2,
            frame_samples: 1024,
        };
        assert_eq!(stereo, Some(expected));
        // HE-AAC with explicit SBR: 22.05 kHz coded, 44.1 kHz heard.
        let he = AacConfig::parse(&[0x2b, 0x92, 0x08, 0x00]).map(|c| (c.rate_hz, c.object_type));
        assert_eq!(he, Some((22_050, 2)));
        let ticks = AacConfig::parse(&[0x2b, 0x92, 0x08, 0x00]).map(|c| c.frame_ticks(44_100));
        assert_eq!(ticks, Some(2048));
        // 960 samples a frame, as broadcasters have it.
        let short = AacConfig::parse(&[0x11, 0x94]).map(|c| c.frame_samples);
        assert_eq!(short, Some(960));
        assert_eq!(AacConfig::parse(&[0x12]), None);
    }

    #[test]
    fn an_adts_header_is_read() {
        // AAC-LC, 44.1 kHz, stereo, 371 bytes, without a checksum.
        let header = [0xff, 0xf1, 0x50, 0x80, 0x2e, 0x7f, 0xfc];
        let frame = AdtsFrame::parse(&header);
        let expected = AdtsFrame {
            config: [0x12, 0x10],
            header_bytes: 7,
            frame_bytes: 371,
        };
        assert_eq!(frame, Some(expected));
    }

    proptest! {
        #[test]
        fn a_header_that_is_written_is_read(rate in 0..13u8, channels in 1..8u8, bytes in 1..8184usize) {
            let config = [2 << 3 | rate >> 1, rate << 7 | channels << 3];
            let header = AdtsFrame::header(config, bytes).expect("it fits");
            let expected = AdtsFrame {
                config,
                header_bytes: 7,
                frame_bytes: bytes + 7,
            };
            prop_assert_eq!(AdtsFrame::parse(&header), Some(expected));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = AacConfig::parse(&bytes);
            if let Some(frame) = AdtsFrame::parse(&bytes) {
                prop_assert!(frame.frame_bytes > frame.header_bytes);
                prop_assert!(AacConfig::parse(&frame.config).is_none_or(|c| c.rate_hz > 0));
            }
        }
    }
}
