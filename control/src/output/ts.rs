//! A stream's pieces as an MPEG transport stream, made once for all who read it.

use bytes::Bytes;

use super::remux::{Begin, Piece};
use crate::media::mux::Description;
use crate::media::ts::mux::{Muxer, TsCodec, TsUnit, Unsupported};

/// The tables come again after so long, for players that lost them.
const TABLES_EVERY_US: i64 = 500_000;

/// The tracks of a part as a program.
#[derive(Debug)]
pub(super) struct Program {
    muxer: Muxer,
    /// When the tables were last written, in the readers' time.
    tables_us: Option<i64>,
}

impl Program {
    /// A program with these tracks; `Err` says why there is none.
    pub(super) fn new(begin: &Begin) -> Result<Self, String> {
        let tracks = begin.head.tracks.iter();
        let codecs: Result<_, _> = tracks.map(|track| codec(&track.description)).collect();
        let codecs = codecs.map_err(|error| error.to_string())?;
        Ok(Self {
            muxer: Muxer::new(codecs),
            tables_us: None,
        })
    }

    /// The packets of the next piece.
    pub(super) fn packets(&mut self, begin: &Begin, piece: &Piece) -> Bytes {
        let mut out = Vec::with_capacity(piece.bytes.len() * 9 / 8);
        let due = |at| piece.start_us - at >= TABLES_EVERY_US;
        if piece.description.is_some() || self.tables_us.is_none_or(due) {
            self.tables_us = Some(piece.start_us);
            self.muxer.tables(&mut out);
        }
        self.muxer.write(&mut out, &mut units(begin, piece));
        out.into()
    }

    /// What somebody is given who comes now, before the next piece.
    pub(super) fn catch_up(&self, begin: &Begin, piece: &Piece) -> Bytes {
        self.muxer.before(&mut units(begin, piece)).into()
    }
}

fn codec(description: &Description) -> Result<TsCodec, Unsupported> {
    let aac = description.aac_config();
    match aac.and_then(|config| config.first_chunk().copied()) {
        Some(config) => Ok(TsCodec::Aac(config)),
        None => description.codec.try_into(),
    }
}

/// The samples of a piece, timed at 90 kHz.
fn units<'a>(begin: &Begin, piece: &'a Piece) -> Vec<TsUnit<'a>> {
    let runs = piece.fragment.runs.iter();
    let samples = runs.flat_map(|(track, samples)| samples.iter().map(move |one| (*track, one)));
    let unit = |(track, sample)| {
        let (dts, pts) = piece.times(begin, track, sample);
        TsUnit {
            track,
            pts: u64::try_from(pts).unwrap_or(0),
            dts: u64::try_from(dts).unwrap_or(0),
            keyframe: sample.keyframe,
            data: &sample.data,
        }
    };
    samples.map(unit).collect()
}
