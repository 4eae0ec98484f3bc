//! The tracks of a movie (`moov`): what they are, their clocks and edit lists.

use super::boxes::{self, BoxAt, read_u32, read_u64};
use super::entry::{self, Coding, Handler};
use super::error::DemuxError;
use super::source::Source;

/// Bounds of boxes that are read whole.
const MAX_DESCRIPTION_BYTES: u64 = 64 << 10;
const MAX_EDIT_BYTES: u64 = 4 << 10;

/// Nothing plays longer than this: a year.
pub(super) const MAX_DURATION_US: i64 = 366 * 86_400 * 1_000_000;

/// Pictures or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// One track that can be played.
#[derive(Debug, Clone)]
pub struct Track {
    /// Pictures or sound.
    pub kind: Kind,
    /// What its samples are.
    pub coding: Coding,
    /// Width and height as coded; `None` of sound.
    pub picture_size: Option<(u16, u16)>,
    pub(super) id: u32,
    pub(super) clock: Clock,
    pub(super) stbl: Vec<BoxAt>,
}

/// From the ticks of a track to microseconds of presentation, by its edit list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) timescale: u32,
    /// What is added to a presentation time to make the edit list's beginning 0.
    shift_us: i64,
    /// Presentation ends here, if before the media does.
    pub(super) end_us: Option<i64>,
}

impl Clock {
    /// Presentation time in microseconds; may be negative before an edit's beginning.
    pub(super) fn us(&self, ticks: i64) -> Result<i64, DemuxError> {
        let us = i128::from(ticks) * 1_000_000 / i128::from(self.timescale);
        let us = us + i128::from(self.shift_us);
        let limit = i128::from(MAX_DURATION_US);
        if (-limit..=limit).contains(&us) {
            Ok(us as i64)
        } else {
            Err(too_long(us.unsigned_abs()))
        }
    }

    /// The reverse of [`us`](Self::us), not below 0.
    pub(super) fn ticks(&self, us: i64) -> i64 {
        let us = i128::from(us) - i128::from(self.shift_us);
        let ticks = us.max(0) * i128::from(self.timescale) / 1_000_000;
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }
}

fn too_long(us: u128) -> DemuxError {
    DemuxError::TooMuch {
        what: "a duration in seconds",
        value: u64::try_from(us / 1_000_000).unwrap_or(u64::MAX),
        limit: (MAX_DURATION_US / 1_000_000) as u64,
    }
}

/// What a `moov` box says.
pub(super) struct Movie {
    pub(super) tracks: Vec<Track>,
    /// Tracks that are not played, and why.
    pub(super) left_out: Vec<String>,
    pub(super) duration_us: Option<i64>,
    /// Defaults of fragments (`trex`) by track id; `None` if there is no `mvex`.
    pub(super) extends: Option<Vec<Trex>>,
}

/// Defaults of a track's samples in fragments.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trex {
    pub(super) track_id: u32,
    pub(super) duration: u32,
    pub(super) size: u32,
    pub(super) flags: u32,
}

/// Reads a `moov` box: the first track of pictures and the first of sound that can be played.
pub(super) fn read(source: &Source, moov: &BoxAt) -> Result<Movie, DemuxError> {
    let inside = boxes::children(source, moov.content, moov.end)?;
    if boxes::find(&inside, b"cmov").is_some() {
        return Err(DemuxError::Unsupported("its moov box is compressed".into()));
    }
    let (timescale, duration) = match boxes::find(&inside, b"mvhd") {
        Some(mvhd) => timescale_and_duration(source, &mvhd)?,
        None => return Err(moov.damaged("it has no mvhd")),
    };
    let mut movie = Movie {
        tracks: Vec::new(),
        left_out: Vec::new(),
        duration_us: duration.map(|ticks| to_us(ticks, timescale)).transpose()?,
        extends: None,
    };
    if let Some(mvex) = boxes::find(&inside, b"mvex") {
        read_mvex(source, &mvex, timescale, &mut movie)?;
    }
    for trak in inside.iter().filter(|child| &child.name == b"trak") {
        read_trak(source, trak, timescale, &mut movie)?;
    }
    Ok(movie)
}

fn to_us(ticks: u64, timescale: u32) -> Result<i64, DemuxError> {
    let us = u128::from(ticks) * 1_000_000 / u128::from(timescale);
    match i64::try_from(us) {
        Ok(us) if us <= MAX_DURATION_US => Ok(us),
        _ => Err(too_long(us)),
    }
}

/// The two fields that `mvhd` and `mdhd` have at the same places. All ones or 0 is "unknown".
fn timescale_and_duration(source: &Source, of: &BoxAt) -> Result<(u32, Option<u64>), DemuxError> {
    let content = of.read(source, MAX_EDIT_BYTES)?;
    let fields = match content.first() {
        Some(1) => read_u32(&content, 20).zip(read_u64(&content, 24)),
        Some(_) => read_u32(&content, 12).zip(read_u32(&content, 16).map(|short| match short {
            u32::MAX => u64::MAX,
            short => u64::from(short),
        })),
        None => None,
    };
    let (timescale, duration) = fields.ok_or_else(|| of.damaged("too short"))?;
    if timescale == 0 {
        return Err(of.damaged("its clock stands still"));
    }
    Ok((
        timescale,
        Some(duration).filter(|&ticks| ticks != 0 && ticks != u64::MAX),
    ))
}

fn read_mvex(
    source: &Source,
    mvex: &BoxAt,
    timescale: u32,
    movie: &mut Movie,
) -> Result<(), DemuxError> {
    let mut extends = Vec::new();
    // What `mvhd` says leaves out the fragments.
    movie.duration_us = None;
    for child in boxes::children(source, mvex.content, mvex.end)? {
        match &child.name {
            b"mehd" => {
                let content = child.read(source, MAX_EDIT_BYTES)?;
                let ticks = match content.first() {
                    Some(1) => read_u64(&content, 4),
                    _ => read_u32(&content, 4).map(u64::from),
                };
                movie.duration_us = match ticks {
                    Some(ticks) if ticks > 0 => Some(to_us(ticks, timescale)?),
                    _ => None,
                };
            }
            b"trex" => {
                let head: [u8; 24] = child.head(source)?;
                let field = |index: usize| read_u32(&head, 4 * index).unwrap_or(0);
                extends.push(Trex {
                    track_id: field(1),
                    duration: field(3),
                    size: field(4),
                    flags: field(5),
                });
            }
            _ => {}
        }
    }
    movie.extends = Some(extends);
    Ok(())
}

fn read_trak(
    source: &Source,
    trak: &BoxAt,
    movie_timescale: u32,
    movie: &mut Movie,
) -> Result<(), DemuxError> {
    let inside = boxes::children(source, trak.content, trak.end)?;
    let need = |found: Option<BoxAt>, what| found.ok_or_else(|| trak.damaged(what));
    let tkhd = need(boxes::find(&inside, b"tkhd"), "it has no tkhd")?;
    let mdia = need(boxes::find(&inside, b"mdia"), "it has no mdia")?;
    let mdia = boxes::children(source, mdia.content, mdia.end)?;
    let hdlr = need(boxes::find(&mdia, b"hdlr"), "it has no hdlr")?;
    let hdlr: [u8; 12] = hdlr.head(source)?;
    let handler = match &hdlr[8..12] {
        b"vide" => Handler::Video,
        b"soun" => Handler::Audio,
        _ => return Ok(()),
    };
    let kind = match handler {
        Handler::Video => Kind::Video,
        Handler::Audio => Kind::Audio,
    };
    if movie.tracks.iter().any(|track| track.kind == kind) {
        movie
            .left_out
            .push(format!("a second {} track", name(kind)));
        return Ok(());
    }
    let mdhd = need(boxes::find(&mdia, b"mdhd"), "it has no mdhd")?;
    let (timescale, _) = timescale_and_duration(source, &mdhd)?;
    let minf = need(boxes::find(&mdia, b"minf"), "it has no minf")?;
    let minf = boxes::children(source, minf.content, minf.end)?;
    let stbl = need(boxes::find(&minf, b"stbl"), "it has no stbl")?;
    let stbl = boxes::children(source, stbl.content, stbl.end)?;
    let stsd = need(boxes::find(&stbl, b"stsd"), "it has no stsd")?;
    let stsd = stsd.read(source, MAX_DESCRIPTION_BYTES)?;
    let coding = match entry::read(&stsd, handler) {
        Ok(coding) => coding,
        Err(why) => {
            movie.left_out.push(format!("{}: {why}", name(kind)));
            return Ok(());
        }
    };
    if entry::count(&stsd) > 1 {
        movie
            .left_out
            .push(format!("{}: further sample descriptions", name(kind)));
    }
    let clock = read_edits(source, &inside, timescale, movie_timescale)?;
    movie.tracks.push(Track {
        kind,
        coding,
        picture_size: match kind {
            Kind::Video => entry::picture_size(&stsd),
            Kind::Audio => None,
        },
        id: track_id(source, &tkhd)?,
        clock,
        stbl,
    });
    Ok(())
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Video => "video",
        Kind::Audio => "audio",
    }
}

fn track_id(source: &Source, tkhd: &BoxAt) -> Result<u32, DemuxError> {
    let head: [u8; 24] = tkhd.head(source)?;
    let at = if head[0] == 1 { 20 } else { 12 };
    Ok(read_u32(&head, at).unwrap_or(0))
}

/// One line of an edit list.
struct Edit {
    duration: u64,
    media_time: i64,
    rate: u32,
}

/// The edit list (ISO/IEC 14496-12 8.6.6): empty edits delay the track, one more says where in the
/// media it begins and how long it lasts.
fn read_edits(
    source: &Source,
    trak: &[BoxAt],
    timescale: u32,
    movie_timescale: u32,
) -> Result<Clock, DemuxError> {
    let mut clock = Clock {
        timescale,
        shift_us: 0,
        end_us: None,
    };
    let Some(edts) = boxes::find(trak, b"edts") else {
        return Ok(clock);
    };
    let inside = boxes::children(source, edts.content, edts.end)?;
    let Some(elst) = boxes::find(&inside, b"elst") else {
        return Ok(clock);
    };
    let edits = parse_edits(&elst.read(source, MAX_EDIT_BYTES)?);
    let edits = edits.ok_or_else(|| elst.damaged("it counts more entries than it has"))?;
    let mut delay_us = 0_i64;
    let mut media = None;
    for edit in edits {
        let duration_us = to_us(edit.duration, movie_timescale)?;
        if edit.media_time < 0 {
            if media.is_none() {
                delay_us = delay_us.saturating_add(duration_us);
            }
            continue;
        }
        if edit.rate != 0x0001_0000 {
            return Err(DemuxError::Unsupported(
                "an edit list changes its speed".to_owned(),
            ));
        }
        if media.replace((edit.media_time, duration_us)).is_some() {
            return Err(DemuxError::Unsupported(
                "its edit list has several segments; write it anew \
                 (ffmpeg -i IN -c:v libx264 -bf 0 -c:a copy OUT.mp4)"
                    .to_owned(),
            ));
        }
    }
    let (media_time, duration_us) = media.unwrap_or((0, 0));
    let begins_us = clock.us(media_time)?;
    clock.shift_us = delay_us - begins_us;
    if delay_us > MAX_DURATION_US {
        return Err(too_long(delay_us.unsigned_abs().into()));
    }
    if duration_us > 0 {
        clock.end_us = Some(delay_us + duration_us);
    }
    Ok(clock)
}

fn parse_edits(elst: &[u8]) -> Option<Vec<Edit>> {
    let is_long = *elst.first()? == 1;
    let count = read_u32(elst, 4)? as usize;
    let stride = if is_long { 20 } else { 12 };
    let entries = elst.get(8..)?;
    if count > entries.len() / stride {
        return None;
    }
    let edits = entries.chunks_exact(stride).take(count).map(|entry| {
        Some(if is_long {
            Edit {
                duration: read_u64(entry, 0)?,
                media_time: read_u64(entry, 8)?.cast_signed(),
                rate: read_u32(entry, 16)?,
            }
        } else {
            Edit {
                duration: u64::from(read_u32(entry, 0)?),
                media_time: i64::from(read_u32(entry, 4)?.cast_signed()),
                rate: read_u32(entry, 8)?,
            }
        })
    });
    edits.collect()
}
