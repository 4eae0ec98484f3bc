//! MP4 files of any origin (ISO/IEC 14496-12, QuickTime), progressive and fragmented, in memory that
//! does not grow with the file: tables are seen through windows, fragments one at a time.
//!
//! [`Mp4::open`] checks a file and says what is in it; [`Reader`] gives its samples in the order of
//! their times and finds keyframes. Every number in a file is taken for a lie until the file's
//! length bears it out. Called from threads that may wait for a disk; knows nothing of playing.

mod boxes;
mod entry;
mod error;
mod fragmented;
mod progressive;
mod source;
mod table;
mod track;

#[cfg(test)]
mod tests;

pub use entry::Coding;
pub use error::DemuxError;
pub use source::{ReadAt, Source};
pub use track::{Kind, Track};

use boxes::BoxAt;
use track::{Clock, Trex};

/// Largest sample that is read: a keyframe of 8K takes a tenth.
pub const MAX_SAMPLE_BYTES: u32 = 16 << 20;

/// Boxes of a file before its `moov`.
const MAX_BOXES_BEFORE_MOOV: usize = 100_000;

/// Samples of a fragmented file that are checked when it is opened; the others are when they are
/// played.
const SAMPLES_CHECKED: usize = 512;

/// A sample as a track's tables describe it, times in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RawSample {
    dts: i64,
    pts: i64,
    duration: u32,
    offset: u64,
    size: u32,
    is_keyframe: bool,
}

/// A sample: where it is, and when it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The place of its track in [`Mp4::tracks`].
    pub track: usize,
    /// When it is shown or heard, by the edit list; negative ones are only decoded.
    pub pts_us: i64,
    /// For how long.
    pub duration_us: i64,
    /// Decoding can begin here. Every sample of sound.
    pub is_keyframe: bool,
    /// Bytes.
    pub size: u32,
    offset: u64,
}

/// An MP4 file that was opened and checked.
#[derive(Clone)]
pub struct Mp4 {
    source: Source,
    tracks: Vec<Track>,
    left_out: Vec<String>,
    duration_us: Option<i64>,
    moov: BoxAt,
    extends: Option<Vec<Trex>>,
}

impl Mp4 {
    /// Opens a file and checks it: of a progressive one every sample's place and time, of a
    /// fragmented one the beginning.
    ///
    /// # Errors
    /// [`DemuxError`]: the file cannot be played.
    pub fn open(source: Source) -> Result<Self, DemuxError> {
        let moov = find_moov(&source)?;
        let movie = track::read(&source, &moov)?;
        if movie.tracks.is_empty() {
            let why = match movie.left_out.is_empty() {
                true => "it has no video and no audio track".to_owned(),
                false => movie.left_out.join("; "),
            };
            return Err(DemuxError::NothingToPlay(why));
        }
        let mut mp4 = Self {
            source,
            tracks: movie.tracks,
            left_out: movie.left_out,
            duration_us: movie.duration_us,
            moov,
            extends: movie.extends,
        };
        mp4.check()?;
        Ok(mp4)
    }

    /// The tracks that are played: at most one of pictures and one of sound.
    #[must_use]
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// What of the file is not played, and why.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// How long it plays; `None` if that is known at its end only.
    #[must_use]
    pub fn duration_us(&self) -> Option<i64> {
        self.duration_us
    }

    /// A reader at the beginning. Several may read the same file.
    ///
    /// # Errors
    /// [`DemuxError`].
    pub fn reader(&self) -> Result<Reader, DemuxError> {
        let mut lines = Vec::with_capacity(self.tracks.len());
        for track in &self.tracks {
            let tables = progressive::Samples::open(&self.source, &track.stbl, &self.moov)?;
            let fragments = self.extends.as_ref().map(|extends| {
                fragmented::Samples::new(&self.source, track.id, extends, self.moov.end)
            });
            lines.push(Line {
                kind: track.kind,
                clock: track.clock,
                in_fragments: tables.is_none(),
                tables,
                fragments,
                last_pts: i64::MIN,
                next: None,
                is_fresh: true,
            });
        }
        Ok(Reader {
            source: self.source.clone(),
            lines,
        })
    }

    fn check(&mut self) -> Result<(), DemuxError> {
        let mut reader = self.reader()?;
        let mut end_us = None;
        let mut samples = 0;
        for line in &mut reader.lines {
            let mut last = None;
            let mut checked = 0;
            while let Some(sample) = line.advance()? {
                let end = sample.pts.saturating_add(sample.duration.into());
                last = last.max(Some(line.clock.us(end)?));
                checked += 1;
                if line.in_fragments && checked >= SAMPLES_CHECKED {
                    break;
                }
            }
            samples += checked;
            if self.duration_us.is_none()
                && let Some(fragments) = &mut line.fragments
                && let Some(end) = fragments.find_end()?
            {
                last = last.max(Some(line.clock.us(end)?));
            }
            let edit_end_us = line.clock.end_us.unwrap_or(i64::MAX);
            end_us = end_us.max(last.map(|us| us.min(edit_end_us)));
        }
        if samples == 0 {
            return Err(DemuxError::NothingToPlay("its tracks are empty".to_owned()));
        }
        // What the samples say is better than what the header says, where all were seen.
        if self.duration_us.is_none() || self.extends.is_none() {
            self.duration_us = end_us;
        }
        Ok(())
    }
}

fn find_moov(source: &Source) -> Result<BoxAt, DemuxError> {
    let mut at = 0;
    for _ in 0..MAX_BOXES_BEFORE_MOOV {
        let Some(found) = boxes::box_at(source, at, source.len())? else {
            break;
        };
        if &found.name == b"moov" {
            if found.is_cut {
                return Err(DemuxError::Cut { at: source.len() });
            }
            return Ok(found);
        }
        if found.is_cut {
            break;
        }
        at = found.end;
    }
    Err(DemuxError::NotMp4)
}

/// Samples of all tracks, those due first before the others.
pub struct Reader {
    source: Source,
    lines: Vec<Line>,
}

/// One track as it is read.
struct Line {
    kind: Kind,
    clock: Clock,
    tables: Option<progressive::Samples>,
    fragments: Option<fragmented::Samples>,
    /// The tables are behind us: files may begin with samples in `moov` and go on in fragments.
    in_fragments: bool,
    last_pts: i64,
    next: Option<RawSample>,
    is_fresh: bool,
}

impl Reader {
    /// The next sample; `None` at the end.
    ///
    /// # Errors
    /// [`DemuxError`]: the file cannot be played on.
    pub fn next_sample(&mut self) -> Result<Option<Sample>, DemuxError> {
        let mut first: Option<Sample> = None;
        for (track, line) in self.lines.iter_mut().enumerate() {
            if let Some(sample) = line.peek(track)?
                && first.is_none_or(|first| sample.pts_us < first.pts_us)
            {
                first = Some(sample);
            }
        }
        if let Some(sample) = first {
            self.lines[sample.track].next = None;
            self.lines[sample.track].is_fresh = true;
        }
        Ok(first)
    }

    /// Goes to `us`: video to the last keyframe shown then or before, sound to what is heard then.
    ///
    /// # Errors
    /// [`DemuxError`]: the file cannot be played on.
    pub fn seek(&mut self, us: i64) -> Result<(), DemuxError> {
        self.lines.iter_mut().try_for_each(|line| line.seek(us))
    }

    /// Replaces what is in `buffer` by the bytes of a sample.
    ///
    /// # Errors
    /// [`DemuxError`].
    pub fn read(&self, sample: &Sample, buffer: &mut Vec<u8>) -> Result<(), DemuxError> {
        // Bounded by MAX_SAMPLE_BYTES when the sample was found.
        buffer.resize(sample.size as usize, 0);
        self.source.read_exact(buffer, sample.offset)
    }
}

impl Line {
    fn peek(&mut self, track: usize) -> Result<Option<Sample>, DemuxError> {
        if self.is_fresh {
            self.next = self.advance()?;
            self.is_fresh = false;
        }
        let Some(raw) = self.next else {
            return Ok(None);
        };
        let pts_us = self.clock.us(raw.pts)?;
        if self.clock.end_us.is_some_and(|end_us| pts_us >= end_us) {
            return Ok(None);
        }
        let end_us = self.clock.us(raw.pts.saturating_add(raw.duration.into()))?;
        Ok(Some(Sample {
            track,
            pts_us,
            duration_us: end_us - pts_us,
            is_keyframe: raw.is_keyframe || self.kind == Kind::Audio,
            size: raw.size,
            offset: raw.offset,
        }))
    }

    fn advance(&mut self) -> Result<Option<RawSample>, DemuxError> {
        let sample = self.advance_unchecked()?;
        if let Some(sample) = &sample {
            if self.kind == Kind::Video && sample.pts < self.last_pts {
                return Err(DemuxError::ReorderedFrames);
            }
            self.last_pts = sample.pts;
        }
        Ok(sample)
    }

    fn advance_unchecked(&mut self) -> Result<Option<RawSample>, DemuxError> {
        if !self.in_fragments {
            if let Some(tables) = &mut self.tables
                && let Some(sample) = tables.next()?
            {
                return Ok(Some(sample));
            }
            self.in_fragments = true;
        }
        match &mut self.fragments {
            Some(fragments) => fragments.next(),
            None => Ok(None),
        }
    }

    fn seek(&mut self, us: i64) -> Result<(), DemuxError> {
        let pts = self.clock.ticks(us);
        self.next = None;
        self.is_fresh = true;
        self.last_pts = i64::MIN;
        self.in_fragments = match &mut self.fragments {
            Some(fragments) => fragments.seek(pts)?,
            None => false,
        };
        if !self.in_fragments
            && let Some(tables) = &mut self.tables
        {
            tables.seek(pts)?;
        }
        Ok(())
    }
}
