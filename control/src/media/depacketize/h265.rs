//! H.265 (RFC 7798, without DONL fields, as WebRTC has it).

use super::nal::{Aggregated, Nals, nals};
use super::{Coded, Malformed};

const LAST_SLICE: u8 = 31;
const IRAP: std::ops::RangeInclusive<u8> = 16..=21;
const VPS: u8 = 32;
const PPS: u8 = 34;
const DELIMITER: u8 = 35;
const FILLER: u8 = 38;
const PREFIX_SEI: u8 = 39;
const AP: u8 = 48;
const FU: u8 = 49;

/// Whether a unit with this header comes before all that is decoded of a picture.
pub(super) fn precedes_picture(header: u8) -> bool {
    matches!(header >> 1 & 0x3f, DELIMITER | PREFIX_SEI)
}

fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header >> 1 & 0x3f)
}

#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) nals: Nals,
    /// The latest VPS, SPS and PPS, for keyframes that come without.
    sets: [Vec<u8>; 3],
}

impl Picture {
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (&[high, low], body) = payload.split_first_chunk().ok_or(Malformed)?;
        match high >> 1 & 0x3f {
            0..=47 => self.add(payload),
            AP => Aggregated(body).try_for_each(|nal| self.add(nal?)),
            FU => {
                let (&fu, fragment) = body.split_first().ok_or(Malformed)?;
                // RFC 7798 4.4.3: the header is the payload's with the fragment's type.
                let unit_header = [high & 0x81 | (fu & 0x3f) << 1, low];
                let ends = (fu & 0x80 != 0, fu & 0x40 != 0);
                self.nals.add_fragment(&unit_header, fragment, ends)
            }
            _ => Err(Malformed),
        }
    }

    pub(super) fn add(&mut self, nal: &[u8]) -> Result<(), Malformed> {
        match nal_type(nal) {
            DELIMITER | FILLER => Ok(()),
            _ if nal.len() < 2 => Err(Malformed),
            _ => self.nals.add(nal),
        }
    }

    /// Keeps a parameter set that was told outside of the pictures.
    pub(super) fn keep_set(&mut self, set: &[u8]) {
        if let kind @ VPS..=PPS = nal_type(set) {
            set.clone_into(&mut self.sets[usize::from(kind - VPS)]);
        }
    }

    pub(super) fn finish(&mut self) -> Result<Option<Coded>, Malformed> {
        let data = self.nals.take()?;
        let (mut slices, mut keyframe, mut present) = (false, false, [false; 3]);
        for nal in nals(&data) {
            match nal_type(nal) {
                set @ VPS..=PPS => {
                    let which = usize::from(set - VPS);
                    nal.clone_into(&mut self.sets[which]);
                    present[which] = true;
                }
                slice @ 0..=LAST_SLICE => {
                    slices = true;
                    keyframe |= IRAP.contains(&slice);
                }
                _ => {}
            }
        }
        if !slices {
            return Ok(None);
        }
        if !keyframe || present == [true; 3] {
            return Ok(Some(Coded { keyframe, data }));
        }
        if self.sets.iter().any(Vec::is_empty) {
            return Err(Malformed);
        }
        let mut missing = Nals::default();
        for (set, present) in self.sets.iter().zip(present) {
            if !present {
                missing.add(set)?;
            }
        }
        let mut whole = missing.take()?;
        whole.extend_from_slice(&data);
        Ok(Some(Coded {
            keyframe,
            data: whole,
        }))
    }
}
