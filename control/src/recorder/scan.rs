//! Reads a recording back, fragment by fragment: to close what a crash left open, and to finish a
//! file as progressive MP4.
//!
//! It must never trust the file: sizes are checked against its length, and the first thing that is not
//! whole ends it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use shiguredo_mp4::boxes::{MoofBox, MoovBox};
use shiguredo_mp4::{Decode, Encode};

/// A head or a `moof` larger than this is none of ours.
const MAX_BOX_BYTES: u64 = 64 << 20;

/// A recording, from the beginning.
pub(super) struct Scan<'a> {
    file: &'a File,
    len: u64,
    at: u64,
    /// Where `moov` is, and what it says.
    pub(super) moov_at: u64,
    pub(super) moov: MoovBox,
}

/// A whole fragment.
pub(super) struct ScannedFragment {
    pub(super) moof: MoofBox,
    pub(super) moof_at: u64,
    /// The bytes of `mdat` without its header.
    pub(super) data: std::ops::Range<u64>,
}

struct BoxAt {
    kind: [u8; 4],
    at: u64,
    header: u64,
    len: u64,
}

impl<'a> Scan<'a> {
    /// Reads the head; `None` if it is not whole.
    pub(super) fn open(file: &'a File) -> io::Result<Option<Self>> {
        let len = file.metadata()?.len();
        let mut at = 0;
        while let Some(found) = box_at(file, at, len)? {
            if found.kind == *b"moov" && found.len <= MAX_BOX_BYTES {
                let bytes = read(file, found.at, found.len)?;
                let Ok((moov, _)) = MoovBox::decode(&bytes) else {
                    return Ok(None);
                };
                return Ok(Some(Self {
                    file,
                    len,
                    at: found.at + found.len,
                    moov_at: found.at,
                    moov,
                }));
            }
            at += found.len;
        }
        Ok(None)
    }

    /// Up to where everything is whole.
    pub(super) fn whole_len(&self) -> u64 {
        self.at
    }

    /// The next fragment; `None` at the first thing that is not whole.
    pub(super) fn next(&mut self) -> io::Result<Option<ScannedFragment>> {
        let Some(first) = box_at(self.file, self.at, self.len)? else {
            return Ok(None);
        };
        if first.kind != *b"moof" || first.len > MAX_BOX_BYTES {
            return Ok(None);
        }
        let Some(mdat) = box_at(self.file, first.at + first.len, self.len)? else {
            return Ok(None);
        };
        let bytes = read(self.file, first.at, first.len)?;
        let Ok((moof, _)) = MoofBox::decode(&bytes) else {
            return Ok(None);
        };
        let data = mdat.at + mdat.header..mdat.at + mdat.len;
        if mdat.kind != *b"mdat" || sample_bytes(&moof) != data.end - data.start {
            return Ok(None);
        }
        self.at = data.end;
        Ok(Some(ScannedFragment {
            moof,
            moof_at: first.at,
            data,
        }))
    }
}

/// What the samples of a fragment take in all.
fn sample_bytes(moof: &MoofBox) -> u64 {
    let truns = moof.traf_boxes.iter().flat_map(|traf| &traf.trun_boxes);
    let samples = truns.flat_map(|trun| &trun.samples);
    samples
        .map(|sample| u64::from(sample.size.unwrap_or(0)))
        .sum()
}

/// A whole box at a place.
fn box_at(file: &File, at: u64, len: u64) -> io::Result<Option<BoxAt>> {
    let left = len.saturating_sub(at);
    if left < 8 {
        return Ok(None);
    }
    let header = read(file, at, left.min(16))?;
    let word = |at: usize| {
        header
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
    };
    let (Some(size), Some(kind)) = (word(0).map(u32::from_be_bytes), word(4)) else {
        return Ok(None);
    };
    let large = header.get(8..16).and_then(|bytes| bytes.try_into().ok());
    let (header, size) = match (size, large.map(u64::from_be_bytes)) {
        (1, Some(size)) => (16, size),
        (size, _) => (8, u64::from(size)),
    };
    Ok((size >= header && size <= left).then_some(BoxAt {
        kind,
        at,
        header,
        len: size,
    }))
}

fn read(file: &File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// Writes the duration into the head of a fragmented file, if it keeps its length.
pub(super) fn set_duration(file: &File, scan: &Scan<'_>, movie_ticks: u64) -> io::Result<()> {
    let mut moov = scan.moov.clone();
    let before = moov.encode_to_vec().map_err(invalid)?.len();
    let mehd = moov
        .mvex_box
        .as_mut()
        .and_then(|mvex| mvex.mehd_box.as_mut());
    let Some(mehd) = mehd else {
        return Ok(());
    };
    mehd.fragment_duration = movie_ticks.min(u64::from(u32::MAX));
    let bytes = moov.encode_to_vec().map_err(invalid)?;
    if bytes.len() == before {
        file.write_all_at(&bytes, scan.moov_at)?;
    }
    Ok(())
}

pub(super) fn invalid(error: shiguredo_mp4::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
