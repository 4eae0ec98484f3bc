//! Samples by the tables of a progressive file (ISO/IEC 14496-12 8.5 to 8.7), which are read as
//! they are needed and never loaded.

use super::boxes::{self, BoxAt};
use super::error::DemuxError;
use super::source::Source;
use super::table::Table;
use super::{MAX_SAMPLE_BYTES, RawSample};

/// Samples of one track: five weeks of Opus.
const MAX_SAMPLES: u32 = 150_000_000;

/// The samples of one track in decoding order.
pub(super) struct Samples {
    source: Source,
    stbl: BoxAt,
    durations: Table,
    offsets: Option<Table>,
    sizes: Sizes,
    chunks: Table,
    chunk_runs: Table,
    keyframes: Option<Table>,
    /// Version 1 of `ctts` and everything in the wild: signed.
    at: Place,
    count: u32,
}

enum Sizes {
    All(u32),
    Each(Table),
}

/// Where in the tables the next sample is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    sample: u32,
    dts: i64,
    duration_entry: u32,
    duration_used: u32,
    offset_entry: u32,
    offset_used: u32,
    chunk: u32,
    chunk_run: u32,
    /// Samples of the chunk before this one, and their bytes.
    in_chunk: u32,
    in_chunk_bytes: u64,
    keyframe_entry: u32,
}

impl Samples {
    /// Finds the tables of a track; `None` if it has no samples.
    pub(super) fn open(
        source: &Source,
        stbl: &[BoxAt],
        track: &BoxAt,
    ) -> Result<Option<Self>, DemuxError> {
        let find = |name: &[u8; 4]| boxes::find(stbl, name);
        let need = |name: &[u8; 4], what| find(name).ok_or_else(|| track.damaged(what));
        let stsz = match (find(b"stsz"), find(b"stz2")) {
            (Some(stsz), _) => stsz,
            (None, Some(_)) => {
                return Err(DemuxError::Unsupported(
                    "it has a compact size table".into(),
                ));
            }
            (None, None) => return Ok(None),
        };
        let head: [u8; 12] = stsz.head(source)?;
        let field =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (size, count) = (field(4), field(8));
        if count == 0 {
            return Ok(None);
        }
        if count > MAX_SAMPLES {
            return Err(DemuxError::TooMuch {
                what: "a number of samples",
                value: count.into(),
                limit: MAX_SAMPLES.into(),
            });
        }
        let sizes = match size {
            0 => Sizes::Each(Table::new(source, &stsz, 12, count, 4)?),
            // Else a few bytes could announce samples without end.
            size if u64::from(size) * u64::from(count) > source.len() => {
                return Err(DemuxError::Cut { at: source.len() });
            }
            size => Sizes::All(size),
        };
        let chunks = match (find(b"co64"), find(b"stco")) {
            (Some(co64), _) => Table::counted(source, &co64, 8)?,
            (None, Some(stco)) => Table::counted(source, &stco, 4)?,
            (None, None) => return Err(track.damaged("it says not where its samples are")),
        };
        let stts = need(b"stts", "it has no stts")?;
        let stsc = need(b"stsc", "it has no stsc")?;
        Ok(Some(Self {
            source: source.clone(),
            stbl: *track,
            durations: Table::counted(source, &stts, 8)?,
            offsets: find(b"ctts")
                .map(|ctts| Table::counted(source, &ctts, 8))
                .transpose()?,
            sizes,
            chunks,
            chunk_runs: Table::counted(source, &stsc, 12)?,
            keyframes: find(b"stss")
                .map(|stss| Table::counted(source, &stss, 4))
                .transpose()?,
            at: Place::default(),
            count,
        }))
    }

    /// The next sample; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<RawSample>, DemuxError> {
        if self.at.sample == self.count {
            return Ok(None);
        }
        let size = self.size(self.at.sample)?;
        let (chunk_at, per_chunk) = self.enter_chunk()?;
        let offset = chunk_at.checked_add(self.at.in_chunk_bytes);
        let end = offset.and_then(|offset| offset.checked_add(size.into()));
        let (Some(offset), Some(end)) = (offset, end) else {
            return Err(self.damaged("a sample lies beyond any file"));
        };
        if end > self.source.len() {
            return Err(DemuxError::Cut {
                at: self.source.len(),
            });
        }
        if size > MAX_SAMPLE_BYTES {
            return Err(DemuxError::TooMuch {
                what: "a sample",
                value: size.into(),
                limit: MAX_SAMPLE_BYTES.into(),
            });
        }
        let duration = self.take_duration()?;
        let pts_offset = self.take_offset()?;
        let is_keyframe = self.take_keyframe()?;
        let dts = self.at.dts;
        self.at.dts = dts
            .checked_add(duration.into())
            .ok_or_else(|| self.damaged("its clock runs over"))?;
        self.at.sample += 1;
        self.at.in_chunk += 1;
        self.at.in_chunk_bytes += u64::from(size);
        if self.at.in_chunk == per_chunk {
            self.at.chunk += 1;
            self.at.in_chunk = 0;
            self.at.in_chunk_bytes = 0;
        }
        Ok(Some(RawSample {
            dts,
            pts: dts.saturating_add(pts_offset.into()),
            duration,
            offset,
            size,
            is_keyframe,
        }))
    }

    /// Goes to the last keyframe that is shown at `pts` or before, or to the first sample.
    pub(super) fn seek(&mut self, pts: i64) -> Result<(), DemuxError> {
        self.at = Place::default();
        let mut before = self.at;
        // Samples are passed one by one: the tables hold some bytes for each, which is far less
        // than the media that plays in the same time.
        loop {
            let here = self.at;
            match self.next()? {
                Some(sample) if sample.pts > pts => break,
                Some(sample) if sample.is_keyframe => before = here,
                Some(_) => {}
                None => break,
            }
        }
        self.at = before;
        Ok(())
    }

    fn damaged(&self, what: &'static str) -> DemuxError {
        self.stbl.damaged(what)
    }

    fn size(&mut self, sample: u32) -> Result<u32, DemuxError> {
        match &mut self.sizes {
            Sizes::All(size) => Ok(*size),
            Sizes::Each(table) => Ok(table.u32(sample, 0)?.unwrap_or(0)),
        }
    }

    /// Where the chunk of the next sample begins, and how many samples it has.
    fn enter_chunk(&mut self) -> Result<(u64, u32), DemuxError> {
        // 8.7.4: a run holds until the first chunk of the next; chunks count from 1.
        while let Some(next_first) = self.chunk_runs.u32(self.at.chunk_run + 1, 0)? {
            if next_first > self.at.chunk + 1 {
                break;
            }
            self.at.chunk_run += 1;
        }
        let first = self.chunk_runs.u32(self.at.chunk_run, 0)?;
        let per_chunk = self.chunk_runs.u32(self.at.chunk_run, 1)?.unwrap_or(0);
        let description = self.chunk_runs.u32(self.at.chunk_run, 2)?;
        if first.is_none_or(|first| first == 0 || first > self.at.chunk + 1) || per_chunk == 0 {
            return Err(self.damaged("its chunks do not hold its samples"));
        }
        if description != Some(1) {
            return Err(DemuxError::Unsupported(
                "its format changes in the middle".to_owned(),
            ));
        }
        let at = self.chunks.offset(self.at.chunk)?;
        let at = at.ok_or_else(|| self.damaged("it has fewer chunks than samples need"))?;
        Ok((at, per_chunk))
    }

    fn take_duration(&mut self) -> Result<u32, DemuxError> {
        loop {
            let entry = self.at.duration_entry;
            let Some(count) = self.durations.u32(entry, 0)? else {
                return Err(self.damaged("it has fewer durations than samples"));
            };
            if self.at.duration_used < count {
                self.at.duration_used += 1;
                return Ok(self.durations.u32(entry, 1)?.unwrap_or(0));
            }
            self.at.duration_entry += 1;
            self.at.duration_used = 0;
        }
    }

    fn take_offset(&mut self) -> Result<i32, DemuxError> {
        let Some(offsets) = &mut self.offsets else {
            return Ok(0);
        };
        loop {
            let Some(count) = offsets.u32(self.at.offset_entry, 0)? else {
                return Ok(0);
            };
            if self.at.offset_used < count {
                self.at.offset_used += 1;
                let offset = offsets.u32(self.at.offset_entry, 1)?.unwrap_or(0);
                // Version 0 says unsigned, but writers put signed ones there too.
                return Ok(offset.cast_signed());
            }
            self.at.offset_entry += 1;
            self.at.offset_used = 0;
        }
    }

    fn take_keyframe(&mut self) -> Result<bool, DemuxError> {
        let Some(keyframes) = &mut self.keyframes else {
            return Ok(true);
        };
        let number = self.at.sample + 1;
        while let Some(next) = keyframes.u32(self.at.keyframe_entry, 0)? {
            if next >= number {
                return Ok(next == number);
            }
            self.at.keyframe_entry += 1;
        }
        Ok(false)
    }
}
