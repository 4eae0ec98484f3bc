//! H.264 (RFC 6184, packetization modes 0 and 1).

use super::nal::{Aggregated, Nals, nals};
use super::{Coded, Malformed};

const IDR_SLICE: u8 = 5;
const LAST_SLICE: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;
const FILLER: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Whether a unit with this header comes before all that is decoded of a picture.
pub(super) fn precedes_picture(header: u8) -> bool {
    matches!(header & 0x1f, SEI | DELIMITER)
}

fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1f)
}

#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) nals: Nals,
    /// The latest parameter sets, for keyframes that come without.
    sps: Vec<u8>,
    pps: Vec<u8>,
}

impl Picture {
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (&header, body) = payload.split_first().ok_or(Malformed)?;
        match header & 0x1f {
            1..=23 => self.add(payload),
            STAP_A => Aggregated(body).try_for_each(|nal| self.add(nal?)),
            FU_A => {
                let (&fu, fragment) = body.split_first().ok_or(Malformed)?;
                // RFC 6184 5.8: the unit's header is the indicator's NRI and the fragment's type.
                let unit_header = header & 0xe0 | fu & 0x1f;
                let ends = (fu & 0x80 != 0, fu & 0x40 != 0);
                self.nals.add_fragment(&[unit_header], fragment, ends)
            }
            _ => Err(Malformed),
        }
    }

    pub(super) fn add(&mut self, nal: &[u8]) -> Result<(), Malformed> {
        match nal_type(nal) {
            // AVC file format (ISO 14496-15 5.3.2): no delimiters, no filler.
            DELIMITER | FILLER | 0 => Ok(()),
            _ => self.nals.add(nal),
        }
    }

    /// Keeps a parameter set that was told outside of the pictures.
    pub(super) fn keep_set(&mut self, set: &[u8]) {
        match nal_type(set) {
            SPS => set.clone_into(&mut self.sps),
            PPS => set.clone_into(&mut self.pps),
            _ => {}
        }
    }

    pub(super) fn finish(&mut self) -> Result<Option<Coded>, Malformed> {
        let data = self.nals.take()?;
        let (mut slices, mut keyframe, mut has_sps, mut has_pps) = (false, false, false, false);
        for nal in nals(&data) {
            match nal_type(nal) {
                SPS => {
                    nal.clone_into(&mut self.sps);
                    has_sps = true;
                }
                PPS => {
                    nal.clone_into(&mut self.pps);
                    has_pps = true;
                }
                1..=LAST_SLICE => {
                    slices = true;
                    keyframe |= nal_type(nal) == IDR_SLICE;
                }
                _ => {}
            }
        }
        if !slices {
            return Ok(None);
        }
        if !keyframe || (has_sps && has_pps) {
            return Ok(Some(Coded { keyframe, data }));
        }
        if self.sps.is_empty() || self.pps.is_empty() {
            return Err(Malformed);
        }
        let mut whole = Nals::default();
        if !has_sps {
            whole.add(&self.sps)?;
        }
        if !has_pps {
            whole.add(&self.pps)?;
        }
        let mut sets = whole.take()?;
        sets.extend_from_slice(&data);
        Ok(Some(Coded {
            keyframe,
            data: sets,
        }))
    }
}
