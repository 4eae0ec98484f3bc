//! Units of pictures and sound into an MPEG transport stream (ISO/IEC 13818-1): H.264, H.265, AAC, which
//! everybody reads there, and Opus, as ffmpeg and VLC do.
//!
//! A [`Muxer`] is made for the tracks of one program and given its units in the order of decoding; what
//! it gives back are whole packets. It knows no clock: times are the caller's, in ticks of 90 kHz.

use fanmill_engine::packet::codec::Codec;

use super::{PACKET_BYTES as PACKET, PAT_PID};
use crate::media::aac::AdtsFrame;
use crate::media::depacketize::nals;

const PMT_PID: u16 = 0x1000;
const FIRST_PID: u16 = 0x100;

/// How much later than its clock (PCR) says a unit is decoded: the tracks of a fragment come one after
/// the other.
const DELAY: u64 = 27_000;

/// Times have 33 bits.
const TIME_MASK: u64 = (1 << 33) - 1;

/// Stream types (ISO/IEC 13818-1 table 2-34).
const H264: u8 = 0x1b;
const H265: u8 = 0x24;
const PRIVATE: u8 = 0x06;
const ADTS: u8 = 0x0f;

/// A codec that transport streams do not carry, or no player reads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("MPEG transport streams do not carry {0:?}; use H.264 or H.265 and Opus, or read live.mp4")]
pub struct Unsupported(pub Codec);

/// What a track holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TsCodec {
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// Opus.
    Opus,
    /// AAC, with its AudioSpecificConfig.
    Aac([u8; 2]),
}

impl TryFrom<Codec> for TsCodec {
    type Error = Unsupported;

    fn try_from(codec: Codec) -> Result<Self, Unsupported> {
        match codec {
            Codec::H264 => Ok(Self::H264),
            Codec::H265 => Ok(Self::H265),
            Codec::Opus => Ok(Self::Opus),
            other => Err(Unsupported(other)),
        }
    }
}

impl TsCodec {
    const fn is_video(self) -> bool {
        matches!(self, Self::H264 | Self::H265)
    }
}

/// A unit of a track, as [`Depacketizer`](crate::media::depacketize::Depacketizer) makes them.
#[derive(Debug, Clone, Copy)]
pub struct TsUnit<'a> {
    /// Which of the tracks.
    pub track: usize,
    /// When it is shown.
    pub pts: u64,
    /// When it is decoded.
    pub dts: u64,
    /// Whether decoding can begin here.
    pub keyframe: bool,
    /// Its bytes.
    pub data: &'a [u8],
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Muxer {
    tracks: Vec<TsCodec>,
    /// Continuity counters: of the two tables, then of the tracks.
    counters: Vec<u8>,
    /// Whose packets bear the clock.
    clock: usize,
}

impl Muxer {
    /// A program with these tracks.
    #[must_use]
    pub fn new(tracks: Vec<TsCodec>) -> Self {
        let clock = tracks.iter().position(|codec| codec.is_video());
        Self {
            counters: vec![0; 2 + tracks.len()],
            clock: clock.unwrap_or(0),
            tracks,
        }
    }

    /// The tables that name the tracks: whoever comes needs them first.
    pub fn tables(&mut self, out: &mut Vec<u8>) {
        let program = [&1u16.to_be_bytes()[..], &(0xe000 | PMT_PID).to_be_bytes()].concat();
        let pat = section(0, &program);
        self.packetize(out, (PAT_PID, 0), None, &with_pointer(&pat));
        let pmt = section(2, &self.program_map());
        self.packetize(out, (PMT_PID, 1), None, &with_pointer(&pmt));
    }

    /// Units of any tracks, in the order of decoding of each.
    pub fn write(&mut self, out: &mut Vec<u8>, units: &mut [TsUnit<'_>]) {
        units.sort_by_key(|unit| unit.dts);
        for unit in units {
            let Some(&codec) = self.tracks.get(unit.track) else {
                continue;
            };
            let pes = pes(codec, unit);
            let is_clock = unit.track == self.clock;
            let adaptation = (is_clock || unit.keyframe).then_some(Adaptation {
                clock: is_clock.then_some(unit.dts),
                random_access: unit.keyframe && codec.is_video(),
            });
            let pid = FIRST_PID + u16::try_from(unit.track).unwrap_or(0);
            self.packetize(out, (pid, 2 + unit.track), adaptation, &pes);
        }
    }

    /// What somebody is given who comes late: tables and these units, after which the packets follow
    /// that this muxer makes next.
    #[must_use]
    pub fn before(&self, units: &mut [TsUnit<'_>]) -> Vec<u8> {
        let mut ahead = self.clone();
        let mut out = Vec::new();
        ahead.tables(&mut out);
        ahead.write(&mut out, units);
        for packet in out.chunks_exact_mut(PACKET) {
            let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
            let place = match pid {
                PAT_PID => 0,
                PMT_PID => 1,
                _ => 2 + usize::from(pid - FIRST_PID),
            };
            let made = ahead.counters[place].wrapping_sub(self.counters[place]);
            packet[3] = packet[3] & 0xf0 | packet[3].wrapping_sub(made) & 0x0f;
        }
        out
    }

    fn program_map(&self) -> Vec<u8> {
        let pid = |track: usize| FIRST_PID + u16::try_from(track).unwrap_or(0);
        let mut map = (0xe000 | pid(self.clock)).to_be_bytes().to_vec();
        // No descriptors of the program.
        map.extend(0xf000u16.to_be_bytes());
        for (track, codec) in self.tracks.iter().enumerate() {
            let (stream_type, descriptors): (u8, &[u8]) = match codec {
                TsCodec::H264 => (H264, &[]),
                TsCodec::H265 => (H265, &[]),
                TsCodec::Aac(_) => (ADTS, &[]),
                // ETSI TS 103 491: a registration descriptor, and an extension that says two channels.
                TsCodec::Opus => (PRIVATE, b"\x05\x04Opus\x7f\x02\x80\x02"),
            };
            map.push(stream_type);
            map.extend((0xe000 | pid(track)).to_be_bytes());
            let len = u16::try_from(descriptors.len()).unwrap_or(0);
            map.extend((0xf000 | len).to_be_bytes());
            map.extend_from_slice(descriptors);
        }
        map
    }

    /// Cuts a payload into packets; the first one has the adaptation field, the last is filled up.
    fn packetize(
        &mut self,
        out: &mut Vec<u8>,
        (pid, counter): (u16, usize),
        adaptation: Option<Adaptation>,
        payload: &[u8],
    ) {
        let mut field = adaptation.map_or_else(Vec::new, Adaptation::bytes);
        let mut rest = payload;
        let mut starts = true;
        while starts || !rest.is_empty() {
            let room = PACKET - 4 - field.len();
            let fill = room.saturating_sub(rest.len());
            if fill > 0 {
                lengthen(&mut field, fill);
            }
            let (now, later) = rest.split_at(rest.len().min(room - fill));
            let start = if starts { 0x4000 } else { 0 };
            out.push(0x47);
            out.extend((start | pid).to_be_bytes());
            let has_field = if field.is_empty() { 0x10 } else { 0x30 };
            out.push(has_field | self.counters[counter] & 0x0f);
            self.counters[counter] = self.counters[counter].wrapping_add(1);
            out.append(&mut field);
            out.extend_from_slice(now);
            rest = later;
            starts = false;
        }
    }
}

/// What a packet says before its payload.
#[derive(Debug, Clone, Copy)]
struct Adaptation {
    clock: Option<u64>,
    random_access: bool,
}

impl Adaptation {
    fn bytes(self) -> Vec<u8> {
        let mut flags = 0;
        if self.random_access {
            flags |= 0x40;
        }
        let mut bytes = vec![1, flags];
        if let Some(clock) = self.clock {
            bytes[1] |= 0x10;
            // 33 bits of 90 kHz, 6 reserved, 9 of 27 MHz.
            let pcr = (clock & TIME_MASK) << 15 | 0x7e00;
            bytes.extend_from_slice(&pcr.to_be_bytes()[2..]);
            bytes[0] = 7;
        }
        bytes
    }
}

/// Makes an adaptation field so much longer, or one of this length.
fn lengthen(field: &mut Vec<u8>, fill: usize) {
    let mut fill = fill;
    if field.is_empty() {
        field.push(0);
        fill -= 1;
        if fill > 0 {
            field.push(0);
            fill -= 1;
        }
    }
    field.resize(field.len() + fill, 0xff);
    field[0] = u8::try_from(field.len() - 1).unwrap_or(0);
}

/// A section of one of the tables: `body` is what follows its numbers.
fn section(table: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(5 + body.len() + 4).unwrap_or(0);
    let mut section = vec![table];
    section.extend((0xb000 | len).to_be_bytes());
    // The stream's or program's number; version 0, valid now; the only section.
    section.extend([0, 1, 0xc1, 0, 0]);
    section.extend_from_slice(body);
    section.extend(crc32(&section).to_be_bytes());
    section
}

fn with_pointer(section: &[u8]) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend_from_slice(section);
    // What is not filled by the section is 0xff, not an adaptation field: readers expect it so.
    payload.resize((PACKET - 4).max(payload.len()), 0xff);
    payload
}

/// ISO/IEC 13818-1 annex A.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            let next = crc << 1;
            if crc >> 31 == 1 {
                next ^ 0x04c1_1db7
            } else {
                next
            }
        })
    })
}

/// A unit as a PES packet (2.4.3.6).
fn pes(codec: TsCodec, unit: &TsUnit<'_>) -> Vec<u8> {
    let (pts, dts) = (unit.pts + DELAY, unit.dts + DELAY);
    let is_video = codec.is_video();
    let mut times = Vec::with_capacity(10);
    if is_video && pts != dts {
        time(&mut times, 3, pts);
        time(&mut times, 1, dts);
    } else {
        time(&mut times, 2, pts);
    }
    let flags = if times.len() == 10 { 0xc0 } else { 0x80 };
    let payload = match codec {
        TsCodec::Opus => opus(unit.data),
        TsCodec::Aac(config) => adts(config, unit.data),
        TsCodec::H264 | TsCodec::H265 => annex_b(codec, unit.data),
    };
    let header_len = 3 + times.len();
    // Of video the length may be left open, and mostly does not fit.
    let len = match is_video {
        true => 0,
        false => u16::try_from(header_len + payload.len()).unwrap_or(0),
    };
    let stream_id = match codec {
        TsCodec::H264 | TsCodec::H265 => 0xe0,
        TsCodec::Aac(_) => 0xc0,
        TsCodec::Opus => 0xbd,
    };
    let mut pes = vec![0, 0, 1, stream_id];
    pes.extend(len.to_be_bytes());
    // Aligned: a unit begins here.
    pes.extend([0x84, flags, u8::try_from(times.len()).unwrap_or(0)]);
    pes.append(&mut times);
    pes.extend_from_slice(&payload);
    pes
}

fn time(out: &mut Vec<u8>, prefix: u8, time: u64) {
    let time = time & TIME_MASK;
    let byte = |shift: u32| (time >> shift & 0xff) as u8;
    out.push(prefix << 4 | (byte(30) & 0x07) << 1 | 1);
    out.push(byte(22));
    out.push(byte(15) << 1 | 1);
    out.push(byte(7));
    out.push(byte(0) << 1 | 1);
}

/// NAL units behind start codes instead of lengths, and a delimiter before them.
fn annex_b(codec: TsCodec, data: &[u8]) -> Vec<u8> {
    const START: [u8; 4] = [0, 0, 0, 1];
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(START);
    let delimiter: &[u8] = match codec {
        TsCodec::H265 => &[0x46, 0x01, 0x50],
        _ => &[0x09, 0xf0],
    };
    out.extend_from_slice(delimiter);
    for nal in nals(data) {
        out.extend(START);
        out.extend_from_slice(nal);
    }
    out
}

/// ETSI TS 103 491: a control header with the packet's length before it.
fn opus(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 8);
    out.extend([0x7f, 0xe0]);
    out.resize(out.len() + data.len() / 255, 0xff);
    out.push((data.len() % 255) as u8);
    out.extend_from_slice(data);
    out
}

/// A raw frame behind its header; nothing if it is longer than any that decoders take.
fn adts(config: [u8; 2], data: &[u8]) -> Vec<u8> {
    let header = AdtsFrame::header(config, data.len());
    header.map_or_else(Vec::new, |header| [&header[..], data].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The payloads of a PID, and how its counters ran.
    fn payloads(stream: &[u8], pid: u16) -> (Vec<Vec<u8>>, bool) {
        let (mut units, mut continuous, mut last): (Vec<Vec<u8>>, _, Option<u8>) =
            (Vec::new(), true, None);
        assert_eq!(stream.len() % PACKET, 0);
        for packet in stream.chunks_exact(PACKET) {
            assert_eq!(packet[0], 0x47);
            if u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) != pid {
                continue;
            }
            let counter = packet[3] & 0x0f;
            continuous &= last.is_none_or(|last| (last + 1) & 0x0f == counter);
            last = Some(counter);
            let field = match packet[3] & 0x20 {
                0 => 0,
                _ => 1 + usize::from(packet[4]),
            };
            if packet[1] & 0x40 != 0 {
                units.push(Vec::new());
            }
            let unit = units.last_mut().expect("a unit begins first");
            unit.extend_from_slice(&packet[4 + field..]);
        }
        (units, continuous)
    }

    fn nal(len: usize) -> Vec<u8> {
        let mut data = u32::try_from(len)
            .expect("it is short")
            .to_be_bytes()
            .to_vec();
        data.resize(4 + len, 0x65);
        data
    }

    #[test]
    fn the_tables_have_the_checksums_that_readers_expect() {
        let mut muxer = Muxer::new(vec![TsCodec::H264, TsCodec::Opus]);
        let mut out = Vec::new();
        muxer.tables(&mut out);
        for pid in [PAT_PID, PMT_PID] {
            let (sections, _) = payloads(&out, pid);
            let len = 3 + usize::from(u16::from_be_bytes([sections[0][2] & 0x0f, sections[0][3]]));
            // Over a section with its checksum it is 0.
            assert_eq!(crc32(&sections[0][1..=len]), 0);
        }
        // A known value, from the standard's own polynomial: "123456789".
        assert_eq!(crc32(b"123456789"), 0x0376_e6e7);
    }

    #[test]
    fn what_no_player_reads_there_is_refused_by_name() {
        let refused = TsCodec::try_from(Codec::Vp9).err();
        assert_eq!(refused, Some(Unsupported(Codec::Vp9)));
    }

    #[test]
    fn aac_comes_with_the_header_that_it_has_there() {
        let mut muxer = Muxer::new(vec![TsCodec::Aac([0x11, 0x90])]);
        let mut out = Vec::new();
        let frame = [0x21; 300];
        let unit = TsUnit {
            track: 0,
            pts: 0,
            dts: 0,
            keyframe: true,
            data: &frame,
        };
        muxer.tables(&mut out);
        muxer.write(&mut out, &mut [unit]);
        let (map, _) = payloads(&out, PMT_PID);
        // Behind the pointer, the section's head and the clock's PID.
        assert_eq!(map[0][1 + 12], ADTS);
        let (units, _) = payloads(&out, FIRST_PID);
        let (header, rest) = units[0].split_at(14);
        assert_eq!(header[3], 0xc0);
        let read = AdtsFrame::parse(rest).expect("a header");
        assert_eq!((read.config, read.frame_bytes), ([0x11, 0x90], 307));
        assert_eq!(rest[7..], frame);
    }

    proptest! {
        #[test]
        fn units_of_any_length_come_through_whole_and_in_order(
            lens in proptest::collection::vec(1..2_000usize, 1..20),
        ) {
            let mut muxer = Muxer::new(vec![TsCodec::H264, TsCodec::Opus]);
            let mut out = Vec::new();
            let pictures: Vec<Vec<u8>> = lens.iter().map(|len| nal(*len)).collect();
            let sounds: Vec<Vec<u8>> = lens.iter().map(|len| vec![0xfc; *len]).collect();
            for (place, (picture, sound)) in pictures.iter().zip(&sounds).enumerate() {
                let dts = place as u64 * 3000;
                let unit = |track, data| TsUnit { track, pts: dts, dts, keyframe: place == 0, data };
                let mut units = [unit(0, &picture[..]), unit(1, &sound[..])];
                // Whoever comes in between goes on with what follows.
                let before = muxer.before(&mut units.clone());
                let mut joined = before.clone();
                muxer.tables(&mut joined);
                muxer.write(&mut joined, &mut units);
                out.extend_from_slice(&joined[before.len()..]);
                for pid in [PAT_PID, PMT_PID, FIRST_PID, FIRST_PID + 1] {
                    prop_assert!(payloads(&joined, pid).1, "{pid} of one who comes");
                }
            }
            let (units, continuous) = payloads(&out, FIRST_PID);
            prop_assert!(continuous);
            for (unit, picture) in units.iter().zip(&pictures) {
                // Header of 14 bytes, a delimiter of 6, a start code for the length.
                prop_assert_eq!(&unit[24..], &picture[4..]);
            }
            let (units, continuous) = payloads(&out, FIRST_PID + 1);
            prop_assert!(continuous);
            for (unit, sound) in units.iter().zip(&sounds) {
                prop_assert_eq!(&unit[14 + 3 + sound.len() / 255..], &sound[..]);
                let len = usize::from(u16::from_be_bytes([unit[4], unit[5]]));
                prop_assert_eq!(len, unit.len() - 6);
            }
            prop_assert_eq!(units.len(), sounds.len());
        }
    }
}
