//! Pieces into parts and segments.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::playlist::{MediaPlaylist, Part, Segment, Variant};
use super::shelf::{Content, File, Shelf, Stock};
use super::{
    FIRST_SEGMENT_US, LISTED_SEGMENTS, MAX_BYTES, MAX_SEGMENTS, PART_LEAST_US, PART_TARGET_US,
    SEGMENT_US, SEGMENTS_WITH_PARTS, TARGET_DURATION_S,
};
use crate::media::mux::{self, Description, MuxError};
use crate::output::Sound;
use crate::output::remux::{Begin, Piece};

/// How often a keyframe is asked for again.
const KEYFRAME_WISH: Duration = Duration::from_secs(1);

/// The media playlist's name.
const MEDIA_PLAYLIST: &str = "media.m3u8";

/// Bits a second that are told before anything is known.
const UNKNOWN_BPS: u64 = 2_000_000;

/// A segment with its bytes.
#[derive(Debug)]
struct Held {
    segment: Segment,
    /// Those of its parts.
    parts: Vec<Content>,
    /// Those of the whole, once it is complete.
    whole: Content,
    bytes: usize,
}

/// One stream's segments. See [the module](super).
#[derive(Debug)]
pub(in crate::output) struct Packager {
    shelf: Arc<Shelf>,
    /// Tells the files of this packager from those of an earlier one.
    folder: String,
    /// Where the multivariant playlist says that the other one is.
    media_playlist: String,
    held: VecDeque<Held>,
    open: Option<Held>,
    /// The part that is being made: its bytes and duration.
    part: Vec<Bytes>,
    part_us: i64,
    part_independent: bool,
    /// Where the next piece begins, in the readers' time.
    at_us: Option<i64>,
    next_segment: u64,
    next_part: u64,
    inits: Vec<(u64, Content)>,
    description: Option<Description>,
    /// The next segment begins with another initialization section.
    changed: bool,
    discontinuities: u64,
    variant: Variant,
    /// Pictures and how long they last, for the rate.
    pictures: (u64, i64),
    wished: Option<Instant>,
}

impl Packager {
    /// Publishes in `shelf`. Numbers begin with `wall_s`, the seconds of Unix time, so that those of a
    /// later packager of the stream are higher.
    pub(in crate::output) fn new(shelf: Arc<Shelf>, wall_s: u64, sound: Sound) -> Self {
        Self {
            shelf,
            folder: format!("{wall_s}{}", sound.folder()),
            media_playlist: format!("{MEDIA_PLAYLIST}{}", sound.query()),
            held: VecDeque::new(),
            open: None,
            part: Vec::new(),
            part_us: 0,
            part_independent: false,
            at_us: None,
            next_segment: wall_s,
            next_part: 0,
            inits: Vec::new(),
            description: None,
            changed: true,
            discontinuities: 0,
            variant: Variant {
                codecs: String::new(),
                size: None,
                frame_rate: None,
                peak_bps: 0,
                average_bps: 0,
            },
            pictures: (0, 0),
            wished: None,
        }
    }

    /// Takes the next piece. `wall_us` is what to add to the recording's time for Unix time.
    pub(in crate::output) fn add(
        &mut self,
        begin: &Begin,
        piece: &Piece,
        wall_us: i64,
    ) -> Result<(), MuxError> {
        let begins = piece.description.is_some() || !begin.has_pictures();
        if self.at_us.is_none() && !begins {
            return Ok(());
        }
        if let Some(description) = &piece.description {
            self.changed |= !self.goes_on_with(description);
        } else if !begin.has_pictures() && self.inits.is_empty() {
            self.changed = true;
        }
        let start_us = *self.at_us.get_or_insert(piece.start_us);
        let lasts_us = (piece.end_us - start_us).max(0);
        let segment_us = self.segment_us();
        let (least_us, most_us) = self.segment_bounds_us();
        let full = segment_us + lasts_us > most_us;
        if self.changed || full || (begins && segment_us >= least_us) {
            self.close_segment();
        }
        if std::mem::take(&mut self.changed) {
            self.describe(begin, piece)?;
        }
        if self.open.is_none() {
            self.open_segment(piece.fragment.start_us + wall_us);
        }
        self.count_pictures(begin, piece);
        self.put(begin, piece, begins)
    }

    /// Puts a piece into the part, or as much of it as is needed for the part to be as long as it is to
    /// be, and the rest into the next one.
    fn put(&mut self, begin: &Begin, piece: &Piece, begins: bool) -> Result<(), MuxError> {
        let start_us = self.at_us.unwrap_or(piece.start_us);
        let lasts_us = (piece.end_us - start_us).max(0);
        if self.part_us + lasts_us > PART_TARGET_US {
            let until_us = start_us + PART_TARGET_US - self.part_us;
            if self.part_us < PART_LEAST_US
                && let Some([now, later]) = piece.split(begin, until_us)?
            {
                self.put(begin, &now, begins)?;
                return self.put(begin, &later, false);
            }
            self.close_part();
        }
        if self.part.is_empty() {
            self.part_independent = begins;
        }
        self.part.push(piece.bytes.clone());
        self.part_us += lasts_us;
        self.at_us = Some(start_us + lasts_us);
        if self.part_us >= PART_LEAST_US {
            self.close_part();
        }
        Ok(())
    }

    /// The tracks are others from the next piece on.
    pub(in crate::output) fn begin_anew(&mut self) {
        self.changed = true;
        self.description = None;
    }

    /// Whether it can begin with nothing but a keyframe.
    pub(in crate::output) fn awaits_keyframe(&self) -> bool {
        self.at_us.is_none()
    }

    /// Whether a keyframe should be asked for, so that the segment can end.
    pub(in crate::output) fn wants_keyframe(&mut self) -> bool {
        let waits = self.segment_us() >= self.segment_bounds_us().0;
        let wanted = waits && self.wished.is_none_or(|at| at.elapsed() >= KEYFRAME_WISH);
        if wanted {
            self.wished = Some(Instant::now());
        }
        wanted
    }

    /// Nothing follows: what there is is published.
    pub(in crate::output) fn end(&mut self) {
        self.close_segment();
        self.publish(true);
    }

    fn goes_on_with(&self, description: &Description) -> bool {
        let now = self.description.as_ref();
        now.is_some_and(|now| now.is_alike(description))
    }

    /// How long the segment is to be, and may be.
    fn segment_bounds_us(&self) -> (i64, i64) {
        match self.held.is_empty() {
            true => FIRST_SEGMENT_US,
            false => (SEGMENT_US, TARGET_DURATION_S * 1_000_000),
        }
    }

    fn segment_us(&self) -> i64 {
        let open = self
            .open
            .as_ref()
            .map_or(0, |open| open.segment.duration_us);
        open + self.part_us
    }

    /// Another initialization section, from what the keyframe says.
    fn describe(&mut self, begin: &Begin, piece: &Piece) -> Result<(), MuxError> {
        let mut tracks = begin.head.tracks.clone();
        if let (Some(description), Some(lead)) = (&piece.description, tracks.get_mut(begin.lead()))
        {
            lead.description = description.clone();
            self.description = Some(description.clone());
        }
        let number = self.inits.last().map_or(0, |(number, _)| number + 1);
        let bytes = Bytes::from(mux::head(&tracks, Duration::ZERO)?);
        self.inits.push((number, [bytes].into()));
        let codecs = tracks.iter().map(|track| track.description.codecs());
        self.variant.codecs = codecs.collect::<Vec<_>>().join(",");
        let size = tracks.iter().find_map(|track| track.description.size);
        self.variant.size = size.map(|size| (size.width, size.height));
        self.pictures = (0, 0);
        self.variant.frame_rate = None;
        Ok(())
    }

    fn open_segment(&mut self, wall_us: i64) {
        let init = self.inits.last().map_or(0, |(number, _)| *number);
        let before = self.held.back().map(|held| held.segment.init);
        self.open = Some(Held {
            segment: Segment {
                number: self.next_segment,
                duration_us: 0,
                parts: Vec::new(),
                init,
                discontinuity: before.is_some_and(|before| before != init),
                wall_us,
            },
            parts: Vec::new(),
            whole: [].into(),
            bytes: 0,
        });
        self.next_segment += 1;
    }

    fn close_part(&mut self) {
        if self.take_part() {
            self.publish(false);
        }
    }

    /// The part goes into its segment; `false`: there was none.
    fn take_part(&mut self) -> bool {
        let (Some(open), false) = (&mut self.open, self.part.is_empty()) else {
            return false;
        };
        let pieces = std::mem::take(&mut self.part);
        open.segment.parts.push(Part {
            number: self.next_part,
            duration_us: self.part_us,
            independent: self.part_independent,
        });
        open.segment.duration_us += self.part_us;
        open.bytes += pieces.iter().map(Bytes::len).sum::<usize>();
        open.parts.push(pieces.into());
        self.next_part += 1;
        self.part_us = 0;
        true
    }

    fn close_segment(&mut self) {
        self.take_part();
        let Some(mut held) = self.open.take() else {
            return;
        };
        if held.segment.parts.is_empty() {
            self.next_segment -= 1;
            return;
        }
        let pieces = held.parts.iter().flat_map(|part| part.iter().cloned());
        held.whole = pieces.collect();
        self.measure(&held);
        self.held.push_back(held);
        self.wished = None;
        self.forget();
        self.publish(false);
    }

    /// What segments take.
    fn measure(&mut self, held: &Held) {
        // What is of a moment says nothing.
        if held.segment.duration_us < SEGMENT_US / 2 {
            return;
        }
        let bps = bits_a_second(held.bytes, held.segment.duration_us);
        self.variant.peak_bps = self.variant.peak_bps.max(bps);
        let all = self.held.iter().chain([held]);
        let all = all.map(|held| (held.bytes, held.segment.duration_us));
        let (bytes, lasts_us) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        self.variant.average_bps = bits_a_second(bytes, lasts_us);
    }

    /// What is beyond the bounds goes, the oldest first.
    fn forget(&mut self) {
        let mut bytes: usize = self.held.iter().map(|held| held.bytes).sum();
        while self.held.len() > MAX_SEGMENTS || (bytes > MAX_BYTES && self.held.len() > 1) {
            let Some(oldest) = self.held.pop_front() else {
                break;
            };
            bytes -= oldest.bytes;
            let next = self
                .held
                .front()
                .is_some_and(|next| next.segment.discontinuity);
            self.discontinuities += u64::from(next);
        }
        let oldest = self.held.front().map_or(0, |held| held.segment.init);
        self.inits.retain(|(number, _)| *number >= oldest);
    }

    fn count_pictures(&mut self, begin: &Begin, piece: &Piece) {
        let lead = begin.lead();
        let Some(size) = begin.head.tracks.get(lead) else {
            return;
        };
        if size.description.size.is_none() {
            return;
        }
        for (_, samples) in piece.fragment.runs.iter().filter(|run| run.0 == lead) {
            // Those that were passed over quickly are of no account.
            let usual = samples.iter().filter(|sample| sample.duration > 500);
            for sample in usual {
                self.pictures.0 += 1;
                self.pictures.1 += i64::from(sample.duration);
            }
        }
        if self.pictures.1 > 0 {
            let rate = f64::from(size.timescale.get()) / self.pictures.1 as f64;
            self.variant.frame_rate = Some(rate * self.pictures.0 as f64);
        }
    }

    /// Puts everything that is complete where handlers find it.
    fn publish(&self, ended: bool) {
        let open = self.open.as_ref();
        let media = self.playlist(ended);
        self.shelf.put(Stock {
            segment: open.map_or(self.next_segment, |open| open.segment.number),
            parts: open.map_or(0, |open| open.segment.parts.len() as u64),
            next_part: self.next_part,
            has_segments: !self.held.is_empty(),
            folder: self.folder.clone(),
            media: media.text().into(),
            variant: self.variant().text(&self.media_playlist).into(),
            files: self.files(),
            ended,
        });
    }

    fn playlist(&self, ended: bool) -> MediaPlaylist {
        let unlisted = self.held.len().saturating_sub(LISTED_SEGMENTS);
        let without_parts = self.held.len().saturating_sub(SEGMENTS_WITH_PARTS);
        let listed = self.held.iter().enumerate().skip(unlisted);
        let segments = listed.map(|(place, held)| Segment {
            parts: match place < without_parts {
                true => Vec::new(),
                false => held.segment.parts.clone(),
            },
            ..held.segment.clone()
        });
        // Those that no playlist tells of any more, but that of the oldest, which is counted already.
        let passed = self.held.iter().take(unlisted).skip(1);
        let passed = passed.filter(|held| held.segment.discontinuity).count() as u64;
        let first = self.held.get(unlisted).filter(|_| unlisted > 0);
        let first = first.is_some_and(|held| held.segment.discontinuity);
        MediaPlaylist {
            folder: format!("hls/{}", self.folder),
            segments: segments.collect(),
            open: self.open.as_ref().map(|open| open.segment.clone()),
            next_part: self.next_part,
            discontinuities: self.discontinuities + passed + u64::from(first),
            ended,
        }
    }

    fn variant(&self) -> Variant {
        let mut variant = self.variant.clone();
        if variant.average_bps == 0 {
            // One that has begun with a keyframe alone is no measure.
            let so_far = self.open.as_ref().map_or(0, |open| {
                bits_a_second(open.bytes, open.segment.duration_us)
            });
            variant.average_bps = so_far.clamp(1, UNKNOWN_BPS);
        }
        variant.peak_bps = variant.peak_bps.max(variant.average_bps);
        variant
    }

    /// All that may be asked for: the parts of the segments whose parts are listed, and of the one
    /// before, which they were of just now.
    fn files(&self) -> HashMap<File, Content> {
        let inits = self.inits.iter();
        let mut files: HashMap<_, _> = inits
            .map(|(number, content)| (File::Init(*number), Arc::clone(content)))
            .collect();
        for held in &self.held {
            files.insert(File::Segment(held.segment.number), Arc::clone(&held.whole));
        }
        let without_parts = self.held.len().saturating_sub(SEGMENTS_WITH_PARTS + 1);
        for held in self.held.iter().skip(without_parts).chain(&self.open) {
            for (part, content) in held.segment.parts.iter().zip(&held.parts) {
                files.insert(File::Part(part.number), Arc::clone(content));
            }
        }
        files
    }
}

fn bits_a_second(bytes: usize, us: i64) -> u64 {
    let bits = bytes as u128 * 8_000_000;
    u64::try_from(bits / u128::try_from(us.max(1)).unwrap_or(1)).unwrap_or(u64::MAX)
}
