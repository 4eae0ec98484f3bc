//! The tables that tell what a transport stream holds (ISO/IEC 13818-1 2.4.4).

use super::{MAX_TRACKS, TsFormat, TsTrack};

/// The longest section of these tables.
const MAX_SECTION_BYTES: usize = 1024;

const TABLE_PAT: u8 = 0;
const TABLE_PMT: u8 = 2;
const DESCRIPTOR_REGISTRATION: u8 = 5;
const DESCRIPTOR_EXTENSION: u8 = 0x7f;
const EXTENSION_OPUS: u8 = 0x80;

/// Sections of the packets of one identifier.
#[derive(Debug, Default)]
pub(super) struct Sections {
    open: Option<Vec<u8>>,
}

impl Sections {
    pub(super) fn abandon(&mut self) {
        self.open = None;
    }

    /// Takes a packet's payload and gives each section that is complete and whose checksum is right.
    pub(super) fn push(&mut self, payload: &[u8], starts: bool, mut section: impl FnMut(&[u8])) {
        if !starts {
            self.extend(payload, &mut section);
            return;
        }
        let Some((&pointer, rest)) = payload.split_first() else {
            return;
        };
        let Some((end, begin)) = rest.split_at_checked(usize::from(pointer)) else {
            self.open = None;
            return;
        };
        self.extend(end, &mut section);
        self.open = Some(Vec::new());
        self.extend(begin, &mut section);
    }

    fn extend(&mut self, bytes: &[u8], section: &mut impl FnMut(&[u8])) {
        let Some(open) = &mut self.open else {
            return;
        };
        open.extend_from_slice(bytes);
        loop {
            // A byte of ones: nothing but filling follows.
            if open.first().is_none_or(|&table| table == 0xff) {
                break;
            }
            let Some(&[_, high, low]) = open.first_chunk() else {
                return;
            };
            let length = 3 + (usize::from(high & 0x0f) << 8 | usize::from(low));
            if length > MAX_SECTION_BYTES {
                break;
            }
            if open.len() < length {
                return;
            }
            if checksum(&open[..length]) == 0 {
                section(&open[..length]);
            }
            open.drain(..length);
        }
        self.open = None;
    }
}

/// The CRC of MPEG-2 (annex A): that of a section with its own checksum is 0.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        let mixed = crc ^ u32::from(byte) << 24;
        (0..8).fold(mixed, |crc, _| match crc >> 31 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x04c1_1db7,
        })
    })
}

/// What stands between the head of a section that is in force, and its checksum.
fn body(section: &[u8], table: u8) -> Option<&[u8]> {
    let in_force = section.get(5)? & 1 == 1;
    let body = section.get(8..section.len().checked_sub(4)?)?;
    (section[0] == table && in_force).then_some(body)
}

/// The packets that tell of the first program.
pub(super) fn program_map_pid(section: &[u8]) -> Option<u16> {
    let programs = body(section, TABLE_PAT)?.as_chunks::<4>().0;
    // Program 0 is the network's table.
    let program = programs.iter().find(|program| program[..2] != [0, 0])?;
    Some(u16::from_be_bytes([program[2], program[3]]) & 0x1fff)
}

/// The program's streams, and the types of those that cannot be read.
pub(super) fn program_map(section: &[u8]) -> Option<(Vec<TsTrack>, Vec<u8>)> {
    let body = body(section, TABLE_PMT)?;
    let (_, mut rest) = described(body.get(2..)?)?;
    let (mut tracks, mut ignored): (Vec<TsTrack>, _) = (Vec::new(), Vec::new());
    while let Some((&[stream_type, high, low], after)) = rest.split_first_chunk() {
        let (descriptors, after) = described(after)?;
        let pid = u16::from_be_bytes([high, low]) & 0x1fff;
        let is_new = tracks.iter().all(|track| track.pid != pid);
        match format(stream_type, descriptors) {
            Some(format) if tracks.len() < MAX_TRACKS && is_new => {
                tracks.push(TsTrack { pid, format });
            }
            _ => ignored.push(stream_type),
        }
        rest = after;
    }
    Some((tracks, ignored))
}

/// Descriptors after twelve bits of length, and what follows them.
fn described(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[high, low], rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]) & 0x0fff))
}

fn format(stream_type: u8, descriptors: &[u8]) -> Option<TsFormat> {
    match stream_type {
        0x1b => Some(TsFormat::H264),
        0x24 => Some(TsFormat::H265),
        0x0f => Some(TsFormat::Adts),
        0x11 => Some(TsFormat::Loas),
        0x06 => opus(descriptors),
        _ => None,
    }
}

/// Opus in private data says so in its descriptors (ETSI TS 103 491 annex, as ffmpeg writes it).
fn opus(mut descriptors: &[u8]) -> Option<TsFormat> {
    let (mut is_opus, mut channels) = (false, 2);
    while let Some((&[tag, length], rest)) = descriptors.split_first_chunk() {
        let (content, rest) = rest.split_at_checked(usize::from(length))?;
        match (tag, content) {
            (DESCRIPTOR_REGISTRATION, b"Opus") => is_opus = true,
            (DESCRIPTOR_EXTENSION, &[EXTENSION_OPUS, count, ..]) => channels = count,
            _ => {}
        }
        descriptors = rest;
    }
    (is_opus && matches!(channels, 1 | 2)).then_some(TsFormat::Opus { channels })
}
