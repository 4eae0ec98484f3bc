//! One stream for its readers: what a [`Recording`](crate::media::recording::Recording) comes to, as
//! pieces that all readers share.
//!
//! It keeps the pictures since the latest keyframe, so that whoever comes sees one at once, and closes
//! the gap when a publisher leaves and returns. It knows neither readers nor threads. It must never
//! hold more than [`MAX_KEPT_BYTES`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::past::{Past, squeeze};
use super::rebase::Fields;
use crate::media::mux::{self, Description, MuxError, Sample, TrackRun};
use crate::media::recording::{Fragment, Head};

/// Bytes of pictures that are kept for those who come. Beyond it they wait for a keyframe.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// Pictures that are kept; they are to be decoded before the present one is shown.
const MAX_KEPT_PICTURES: usize = 900;

/// Nothing for longer than this is left out of the readers' time.
const GAP_US: i64 = 500_000;

/// What readers are told before the first piece.
#[derive(Debug)]
pub(super) struct Begin {
    /// `ftyp` and `moov`.
    pub(super) bytes: Bytes,
    /// The tracks.
    pub(super) head: Head,
}

/// A fragment as readers get it.
#[derive(Debug)]
pub(super) struct Piece {
    /// `moof` and `mdat`.
    pub(super) bytes: Bytes,
    /// Where in them is what readers get differently.
    pub(super) fields: Fields,
    /// What is in it; times are those of the recording.
    pub(super) fragment: Fragment,
    /// What to subtract from those, in microseconds.
    pub(super) base_us: i64,
    /// When the leading track's part of it begins, or what there is of others, in the readers' time.
    pub(super) start_us: i64,
    /// When it ends.
    pub(super) end_us: i64,
    /// It begins after everything else since a keyframe: only for those who come.
    pub(super) is_catch_up: bool,
    /// Its number among the fragments.
    sequence_number: u32,
    /// What its keyframe says of the leading track.
    pub(super) description: Option<Description>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Remux {
    begin: Option<Arc<Begin>>,
    /// Where the readers' time 0 lies on the recording's timeline.
    base_us: Option<i64>,
    /// Where each track ends, in its ticks and the readers' time.
    ends: Vec<i64>,
    /// The latest end of all, on the recording's timeline.
    end_us: i64,
    sequence_number: u32,
    /// What a publisher begins with, as long as it is not of the present.
    past: Option<Past>,
    /// What came since the latest keyframe of the leading track.
    kept: VecDeque<Arc<Piece>>,
    kept_bytes: usize,
    kept_pictures: usize,
    catch_up: Option<Arc<Piece>>,
}

impl Begin {
    /// Where the track stands that others follow: the first one with pictures, else the first.
    pub(super) fn lead(&self) -> usize {
        let pictures = |track: &mux::TrackHead| track.description.size.is_some();
        self.head.tracks.iter().position(pictures).unwrap_or(0)
    }

    /// The `codecs` of all tracks.
    pub(super) fn codecs(&self) -> String {
        let tracks = self.head.tracks.iter();
        let codecs = tracks.map(|track| track.description.codecs());
        codecs.collect::<Vec<_>>().join(",")
    }

    /// Whether there are pictures.
    pub(super) fn has_pictures(&self) -> bool {
        let mut tracks = self.head.tracks.iter();
        tracks.any(|track| track.description.size.is_some())
    }
}

impl Piece {
    /// When a sample is decoded and shown, in the readers' time at 90 kHz.
    pub(super) fn times(&self, begin: &Begin, track: usize, sample: &Sample) -> (i64, i64) {
        let timescale = begin.head.tracks.get(track);
        let timescale = timescale.map_or(90_000, |track| i64::from(track.timescale.get()));
        let base = base(&begin.head, self.base_us, track);
        let dts = sample.dts - base;
        let pts = dts + i64::from(sample.composition_offset);
        (dts * 90_000 / timescale, pts * 90_000 / timescale)
    }

    /// Its samples up to `at_us` in the readers' time, and those after, as pieces of their own; `None`:
    /// the leading track has none on one of the sides.
    pub(super) fn split(&self, begin: &Begin, at_us: i64) -> Result<Option<[Self; 2]>, MuxError> {
        let mut halves = [Vec::new(), Vec::new()];
        for (track, samples) in &self.fragment.runs {
            let timescale = i64::from(begin.head.tracks[*track].timescale.get());
            let base = base(&begin.head, self.base_us, *track);
            let is_before = |sample: &Sample| {
                let end = sample.dts + i64::from(sample.duration) - base;
                end * 1_000_000 / timescale <= at_us
            };
            let (before, after) = samples.split_at(samples.partition_point(is_before));
            if *track == begin.lead() && (before.is_empty() || after.is_empty()) {
                return Ok(None);
            }
            for (half, samples) in halves.iter_mut().zip([before, after]) {
                if !samples.is_empty() {
                    half.push((*track, samples.to_vec()));
                }
            }
        }
        let descriptions = [self.description.clone(), None];
        let mut made = halves
            .into_iter()
            .zip(descriptions)
            .map(|(runs, description)| {
                let samples = runs.iter().flat_map(|(_, samples)| samples);
                let fragment = Fragment {
                    bytes: samples.map(|sample| sample.data.len()).sum(),
                    keyframe: description.is_some(),
                    runs,
                    ..self.fragment
                };
                let numbers = (self.sequence_number, self.base_us);
                made(numbers, fragment, begin, description)
            });
        match (made.next().transpose()?, made.next().transpose()?) {
            (Some(before), Some(after)) => Ok(Some([before, after])),
            _ => Ok(None),
        }
    }

    /// When the earliest of its samples begins, in the readers' time.
    pub(super) fn first_us(&self, begin: &Begin) -> i64 {
        let first = |(track, samples): &(usize, Vec<Sample>)| {
            let timescale = i64::from(begin.head.tracks.get(*track)?.timescale.get());
            let ticks = samples.first()?.dts - base(&begin.head, self.base_us, *track);
            Some(ticks * 1_000_000 / timescale)
        };
        let firsts = self.fragment.runs.iter().filter_map(first);
        firsts.min().unwrap_or(self.start_us)
    }
}

impl Remux {
    /// A publisher came: it begins with the pictures since its latest keyframe.
    pub(super) fn arrive(&mut self) {
        self.past = Some(Past::default());
    }

    /// A part begins: other tracks, or another codec, than before.
    pub(super) fn begin(&mut self, head: Head) -> Result<Arc<Begin>, MuxError> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH);
        let bytes = mux::head(&head.tracks, created.unwrap_or_default())?;
        let end = self.ends.iter().zip(self.tracks());
        let ends_us = end.map(|(end, track)| end * 1_000_000 / i64::from(track.timescale.get()));
        let latest_us = ends_us.max().unwrap_or(0);
        let in_ticks = |track: &mux::TrackHead| {
            // Rounded up: no track begins before what was there has ended.
            (latest_us * i64::from(track.timescale.get()) + 999_999) / 1_000_000
        };
        self.ends = head.tracks.iter().map(in_ticks).collect();
        let begin = Arc::new(Begin {
            bytes: bytes.into(),
            head,
        });
        self.begin = Some(Arc::clone(&begin));
        // What was gathered is of the tracks before.
        self.past = self.past.is_some().then(Past::default);
        self.forget_kept();
        Ok(begin)
    }

    /// What whoever comes is told first.
    pub(super) fn head(&self) -> Option<&Arc<Begin>> {
        self.begin.as_ref()
    }

    fn tracks(&self) -> &[mux::TrackHead] {
        self.begin.as_ref().map_or(&[], |begin| &begin.head.tracks)
    }

    /// The next piece; `None` if it is of the past, and comes with a later one.
    pub(super) fn add(
        &mut self,
        mut fragment: Fragment,
        now_us: i64,
    ) -> Result<Option<Arc<Piece>>, MuxError> {
        let Some(begin) = self.begin.clone() else {
            return Ok(None);
        };
        if let (Some(past), true) = (&mut self.past, begin.has_pictures()) {
            let tracks = &begin.head.tracks;
            match past.add(fragment, begin.lead(), tracks, now_us) {
                Some(whole) => fragment = whole,
                None => return Ok(None),
            }
        }
        self.past = None;
        let description = describe(&fragment, &begin);
        self.place(&fragment, &begin.head);
        self.sequence_number = self.sequence_number.wrapping_add(1);
        let piece = Arc::new(self.made(fragment, &begin, description)?);
        self.note(&piece, &begin);
        Ok(Some(piece))
    }

    /// For one who comes: the pictures since the latest keyframe, to be passed over quickly. What
    /// follows is the next piece. `None`: there is no keyframe, or it is too long ago.
    pub(super) fn catch_up(&mut self) -> Result<Option<Arc<Piece>>, MuxError> {
        let (Some(begin), false) = (self.begin.clone(), self.kept.is_empty()) else {
            return Ok(None);
        };
        if self.catch_up.is_none() {
            let kept = self.kept.iter().flat_map(|piece| &piece.fragment.runs);
            let kept = kept.filter(|run| run.0 == begin.lead());
            let mut samples: Vec<Sample> = kept.flat_map(|run| run.1.iter().cloned()).collect();
            let earliest = base(&begin.head, self.base_us.unwrap_or(0), begin.lead());
            squeeze(&mut samples, earliest);
            let fragment = Fragment {
                bytes: self.kept_bytes,
                runs: vec![(begin.lead(), samples)],
                start_us: self.end_us,
                end_us: self.end_us,
                keyframe: true,
            };
            let description = describe(&fragment, &begin);
            let mut piece = self.made(fragment, &begin, description)?;
            piece.is_catch_up = true;
            self.catch_up = Some(Arc::new(piece));
        }
        Ok(self.catch_up.clone())
    }

    /// Whether whoever comes now has to wait for a keyframe.
    pub(super) fn lacks_keyframe(&self) -> bool {
        let pictures = self
            .begin
            .as_ref()
            .is_some_and(|begin| begin.has_pictures());
        pictures && self.kept.is_empty()
    }

    /// Where the readers' time 0 lies from now on: gaps are left out, and nothing overlaps.
    fn place(&mut self, fragment: &Fragment, head: &Head) {
        let base_us = self.base_us.get_or_insert(fragment.start_us);
        if self.end_us != 0 && fragment.start_us - self.end_us > GAP_US {
            *base_us += fragment.start_us - self.end_us;
        }
        let mut overlap_us = 0;
        for (track, samples) in &fragment.runs {
            let (Some(first), Some(end)) = (samples.first(), self.ends.get(*track)) else {
                continue;
            };
            let overlap = end - (first.dts - base(head, *base_us, *track));
            let timescale = i64::from(head.tracks[*track].timescale.get());
            overlap_us = overlap_us.max((overlap * 1_000_000 + timescale - 1) / timescale);
        }
        // Rounding alone is a tick.
        if overlap_us > 0 {
            *base_us -= overlap_us;
        }
    }

    fn made(
        &self,
        fragment: Fragment,
        begin: &Begin,
        description: Option<Description>,
    ) -> Result<Piece, MuxError> {
        let numbers = (self.sequence_number, self.base_us.unwrap_or(0));
        made(numbers, fragment, begin, description)
    }

    /// Takes note of where the tracks end, and keeps the pictures.
    fn note(&mut self, piece: &Arc<Piece>, begin: &Begin) {
        self.end_us = self.end_us.max(piece.fragment.end_us);
        for (track, samples) in &piece.fragment.runs {
            if let (Some(last), Some(end)) = (samples.last(), self.ends.get_mut(*track)) {
                let base = base(&begin.head, piece.base_us, *track);
                *end = (*end).max(last.dts + i64::from(last.duration) - base);
            }
        }
        self.catch_up = None;
        if !begin.has_pictures() {
            return;
        }
        if piece.description.is_some() {
            self.forget_kept();
        } else if self.kept.is_empty() {
            return;
        }
        let pictures = piece
            .fragment
            .runs
            .iter()
            .filter(|run| run.0 == begin.lead());
        self.kept_pictures += pictures.map(|run| run.1.len()).sum::<usize>();
        self.kept_bytes += piece.fragment.bytes;
        self.kept.push_back(Arc::clone(piece));
        if self.kept_bytes > MAX_KEPT_BYTES || self.kept_pictures > MAX_KEPT_PICTURES {
            self.forget_kept();
        }
    }

    fn forget_kept(&mut self) {
        self.kept.clear();
        self.kept_bytes = 0;
        self.kept_pictures = 0;
        self.catch_up = None;
    }
}

/// A fragment as a piece, with its number and where the readers' time 0 lies.
fn made(
    (sequence_number, base_us): (u32, i64),
    fragment: Fragment,
    begin: &Begin,
    description: Option<Description>,
) -> Result<Piece, MuxError> {
    let runs: Vec<_> = fragment
        .runs
        .iter()
        .map(|(track, samples)| TrackRun {
            track: *track,
            base: base(&begin.head, base_us, *track),
            samples,
        })
        .collect();
    let bytes = Bytes::from(mux::fragment(sequence_number, &runs)?);
    let end = |run: &TrackRun<'_>| {
        let last = run.samples.last()?;
        let timescale = i64::from(begin.head.tracks[run.track].timescale.get());
        Some((last.dts + i64::from(last.duration) - run.base) * 1_000_000 / timescale)
    };
    let start = |run: &TrackRun<'_>| {
        let timescale = i64::from(begin.head.tracks[run.track].timescale.get());
        Some((run.samples.first()?.dts - run.base) * 1_000_000 / timescale)
    };
    let lead = runs.iter().find(|run| run.track == begin.lead());
    let start_us = lead.and_then(start).or(runs.iter().filter_map(start).min());
    let end_us = lead.and_then(end).or(runs.iter().filter_map(end).max());
    Ok(Piece {
        fields: Fields::of(&bytes).unwrap_or_default(),
        bytes,
        base_us,
        start_us: start_us.unwrap_or(0),
        end_us: end_us.unwrap_or(0),
        is_catch_up: false,
        sequence_number,
        description,
        fragment,
    })
}

/// What the keyframe says that a fragment begins with.
fn describe(fragment: &Fragment, begin: &Begin) -> Option<Description> {
    let mut runs = fragment.runs.iter();
    let (track, samples) = runs.find(|run| run.0 == begin.lead())?;
    let description = &begin.head.tracks.get(*track)?.description;
    if description.size.is_none() {
        // Of sound the head says all.
        return Some(description.clone());
    }
    let codec = description.codec;
    let first = samples.first().filter(|sample| sample.keyframe)?;
    Description::read(codec, &first.data)
}

/// The readers' time 0 in the ticks of a track.
fn base(head: &Head, base_us: i64, track: usize) -> i64 {
    let timescale = head
        .tracks
        .get(track)
        .map_or(1, |head| head.timescale.get());
    let ticks = (i128::from(base_us) * i128::from(timescale) + 500_000).div_euclid(1_000_000);
    i64::try_from(ticks).unwrap_or(i64::MAX)
}
