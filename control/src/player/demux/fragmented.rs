//! Samples by movie fragments (ISO/IEC 14496-12 8.8): one `moof` is in memory at a time. A file that
//! was cut off, by a crash for instance, ends with its last whole sample.

use super::boxes::{self, BoxAt, InMemory, read_u32, read_u64};
use super::error::DemuxError;
use super::source::Source;
use super::track::Trex;
use super::{MAX_SAMPLE_BYTES, RawSample};

/// A `moof` describes some seconds in some kilobytes.
const MAX_MOOF_BYTES: u64 = 4 << 20;

/// Places remembered for seeking; when they are full, every second is forgotten.
const MAX_PLACES: usize = 4096;

/// Boxes looked at to learn how long the file is when it does not say: about three hours of
/// fragments of one second.
const MAX_BOXES_FOR_DURATION: usize = 20_000;

/// Fragments at the end that are read for it: tracks may have theirs apart.
const LAST_FRAGMENTS: usize = 8;

const NOT_A_KEYFRAME: u32 = 0x1_0000;

/// The samples of one track in decoding order.
pub(super) struct Samples {
    source: Source,
    track_id: u32,
    defaults: Trex,
    /// Where the first box after `moov` begins.
    first: u64,
    /// The next box to look at.
    next_box: u64,
    dts: i64,
    moof: Vec<u8>,
    moof_at: u64,
    runs: Vec<Run>,
    run: usize,
    in_run: u32,
    data_at: u64,
    /// Samples of this track taken from the present `moof`.
    taken: u32,
    places: Vec<Place>,
}

/// A `moof` that begins with a keyframe.
#[derive(Debug, Clone, Copy)]
struct Place {
    pts: i64,
    dts: i64,
    at: u64,
}

/// A `trun` box: where its entries are in the `moof`, and what they leave out.
#[derive(Debug, Clone, Copy)]
struct Run {
    entries: usize,
    count: u32,
    fields: u32,
    first_flags: Option<u32>,
    defaults: Trex,
    /// Where the data begins; `None`: after that of the run before.
    data_at: Option<u64>,
    /// Of the run's first sample; `None`: it goes on.
    dts: Option<i64>,
}

impl Run {
    fn entry_bytes(&self) -> usize {
        4 * (self.fields & 0xf00).count_ones() as usize
    }
}

impl Samples {
    pub(super) fn new(source: &Source, track_id: u32, extends: &[Trex], first: u64) -> Self {
        let defaults = extends.iter().find(|trex| trex.track_id == track_id);
        Self {
            source: source.clone(),
            track_id,
            defaults: defaults.copied().unwrap_or_default(),
            first,
            next_box: first,
            dts: 0,
            moof: Vec::new(),
            moof_at: first,
            runs: Vec::new(),
            run: 0,
            in_run: 0,
            data_at: 0,
            taken: 0,
            places: Vec::new(),
        }
    }

    /// The next sample; `None` after the last whole one.
    pub(super) fn next(&mut self) -> Result<Option<RawSample>, DemuxError> {
        loop {
            let Some(run) = self.runs.get(self.run).copied() else {
                if !self.next_fragment()? {
                    return Ok(None);
                }
                continue;
            };
            if self.in_run == run.count {
                self.run += 1;
                self.in_run = 0;
                continue;
            }
            if self.in_run == 0 {
                self.data_at = run.data_at.unwrap_or(self.data_at);
                self.dts = run.dts.unwrap_or(self.dts);
            }
            return self.take(&run);
        }
    }

    fn take(&mut self, run: &Run) -> Result<Option<RawSample>, DemuxError> {
        let mut at = run.entries + self.in_run as usize * run.entry_bytes();
        let mut field = |bit: u32| {
            let value = (run.fields & bit != 0).then(|| read_u32(&self.moof, at));
            at += if value.is_some() { 4 } else { 0 };
            value.flatten()
        };
        let duration = field(0x100).unwrap_or(run.defaults.duration);
        let size = field(0x200).unwrap_or(run.defaults.size);
        let flags = field(0x400);
        let pts_offset = field(0x800).unwrap_or(0).cast_signed();
        let flags = match run.first_flags {
            Some(first) if self.in_run == 0 => first,
            _ => flags.unwrap_or(run.defaults.flags),
        };
        if size > MAX_SAMPLE_BYTES {
            return Err(DemuxError::TooMuch {
                what: "a sample",
                value: size.into(),
                limit: MAX_SAMPLE_BYTES.into(),
            });
        }
        let offset = self.data_at;
        let end = offset.checked_add(size.into());
        if end.is_none_or(|end| end > self.source.len()) {
            // The rest was never written.
            self.runs.clear();
            self.next_box = self.source.len();
            return Ok(None);
        }
        let dts = self.dts;
        let sample = RawSample {
            dts,
            pts: dts.saturating_add(pts_offset.into()),
            duration,
            offset,
            size,
            is_keyframe: flags & NOT_A_KEYFRAME == 0,
        };
        if self.taken == 0 && sample.is_keyframe {
            self.remember(&sample);
        }
        self.data_at += u64::from(size);
        self.dts = dts
            .checked_add(duration.into())
            .ok_or_else(|| self.damaged("its clock runs over"))?;
        self.in_run += 1;
        self.taken += 1;
        Ok(Some(sample))
    }

    /// Goes to the last keyframe that is shown at `pts` or before. `false`: there is none, and the
    /// first sample is next.
    pub(super) fn seek(&mut self, pts: i64) -> Result<bool, DemuxError> {
        let known = self.places.partition_point(|place| place.pts <= pts);
        match known
            .checked_sub(1)
            .and_then(|index| self.places.get(index))
        {
            Some(&Place { at, dts, .. }) => self.enter(at, dts),
            None => self.enter(self.first, 0),
        }
        let mut found = None;
        while let Some(sample) = self.next()? {
            if sample.pts > pts {
                break;
            }
            if sample.is_keyframe {
                found = Some((self.moof_at, self.taken - 1, sample.dts));
            }
        }
        let Some((at, before, dts)) = found else {
            self.enter(self.first, 0);
            return Ok(false);
        };
        self.enter(at, dts);
        for _ in 0..before {
            self.next()?;
        }
        // Without a `tfdt`, the time of the fragment's first sample is not known any more.
        self.dts = dts;
        Ok(true)
    }

    /// Where the presentation ends, if that can be found without reading too much.
    pub(super) fn find_end(&mut self) -> Result<Option<i64>, DemuxError> {
        let mut last = std::collections::VecDeque::new();
        let mut at = self.first;
        for _ in 0..MAX_BOXES_FOR_DURATION {
            match boxes::box_at(&self.source, at, self.source.len())? {
                Some(found) => {
                    if &found.name == b"moof" && !found.is_cut {
                        last.push_back(found.at);
                        if last.len() > LAST_FRAGMENTS {
                            last.pop_front();
                        }
                    }
                    at = found.end;
                }
                None => {
                    let Some(&from) = last.front() else {
                        return Ok(None);
                    };
                    self.enter(from, 0);
                    let mut end = None;
                    while let Some(sample) = self.next()? {
                        end = end.max(Some(sample.pts.saturating_add(sample.duration.into())));
                    }
                    self.places.clear();
                    self.enter(self.first, 0);
                    return Ok(end);
                }
            }
        }
        Ok(None)
    }

    fn enter(&mut self, at: u64, dts: i64) {
        self.runs.clear();
        self.next_box = at;
        self.dts = dts;
    }

    fn remember(&mut self, sample: &RawSample) {
        if self
            .places
            .last()
            .is_some_and(|last| last.at >= self.moof_at)
        {
            return;
        }
        if self.places.len() == MAX_PLACES {
            let mut keep = false;
            self.places.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.places.push(Place {
            pts: sample.pts,
            dts: sample.dts,
            at: self.moof_at,
        });
    }

    fn damaged(&self, what: &'static str) -> DemuxError {
        DemuxError::damaged(what, *b"moof", self.moof_at)
    }

    /// Loads the next fragment that has samples of this track. `false` at the end of the file.
    fn next_fragment(&mut self) -> Result<bool, DemuxError> {
        loop {
            let found = boxes::box_at(&self.source, self.next_box, self.source.len())?;
            let Some(found) = found.filter(|found| !(&found.name == b"moof" && found.is_cut))
            else {
                return Ok(false);
            };
            self.next_box = found.end;
            if &found.name != b"moof" {
                continue;
            }
            self.moof = found.read(&self.source, MAX_MOOF_BYTES)?;
            self.moof_at = found.at;
            self.taken = 0;
            self.run = 0;
            self.in_run = 0;
            self.runs.clear();
            self.read_moof(&found)?;
            if !self.runs.is_empty() {
                return Ok(true);
            }
        }
    }

    fn read_moof(&mut self, found: &BoxAt) -> Result<(), DemuxError> {
        let moof = std::mem::take(&mut self.moof);
        let mut runs = Vec::new();
        let mut done = Ok(());
        for (name, traf) in InMemory(&moof) {
            if &name == b"traf" && done.is_ok() {
                done = self.read_traf(&moof, traf, found, &mut runs);
            }
        }
        self.moof = moof;
        self.runs = runs;
        done
    }

    fn read_traf(
        &self,
        moof: &[u8],
        traf: &[u8],
        found: &BoxAt,
        runs: &mut Vec<Run>,
    ) -> Result<(), DemuxError> {
        let find = |wanted: &[u8; 4]| {
            InMemory(traf)
                .find(|(name, _)| name == wanted)
                .map(|(_, content)| content)
        };
        let tfhd = find(b"tfhd").ok_or_else(|| found.damaged("a track has no tfhd"))?;
        let cut = || found.damaged("a tfhd is cut");
        let flags = read_u32(tfhd, 0).ok_or_else(cut)?;
        if read_u32(tfhd, 4).ok_or_else(cut)? != self.track_id {
            return Ok(());
        }
        let mut at = 8;
        let mut base = found.at;
        if flags & 0x1 != 0 {
            base = read_u64(tfhd, at).ok_or_else(cut)?;
            at += 8;
        }
        let mut optional = |bit: u32| {
            let value = (flags & bit != 0).then(|| read_u32(tfhd, at));
            at += if value.is_some() { 4 } else { 0 };
            value.map_or(Ok(None), |value| value.map(Some).ok_or_else(cut))
        };
        optional(0x2)?;
        let mut defaults = self.defaults;
        defaults.duration = optional(0x8)?.unwrap_or(defaults.duration);
        defaults.size = optional(0x10)?.unwrap_or(defaults.size);
        defaults.flags = optional(0x20)?.unwrap_or(defaults.flags);
        let mut dts = find(b"tfdt").and_then(|tfdt| match tfdt.first() {
            Some(1) => read_u64(tfdt, 4).map(|dts| i64::try_from(dts).unwrap_or(i64::MAX)),
            _ => read_u32(tfdt, 4).map(i64::from),
        });
        let mut data_at = Some(base);
        for (_, trun) in InMemory(traf).filter(|(name, _)| name == b"trun") {
            let run = read_trun(moof, trun, base, defaults, data_at.take(), dts.take());
            let run = run.ok_or_else(|| found.damaged("a trun counts more than it has"))?;
            runs.extend(run);
        }
        Ok(())
    }
}

/// Reads a `trun`, which lies in `moof`. `Some(None)` if it has no samples.
#[expect(clippy::option_option, reason = "damaged, and empty")]
fn read_trun(
    moof: &[u8],
    trun: &[u8],
    base: u64,
    defaults: Trex,
    first_data_at: Option<u64>,
    dts: Option<i64>,
) -> Option<Option<Run>> {
    let fields = read_u32(trun, 0)? & 0xff_ffff;
    let count = read_u32(trun, 4)?;
    let mut at = 8;
    let mut data_at = first_data_at;
    if fields & 0x1 != 0 {
        let offset = i64::from(read_u32(trun, at)?.cast_signed());
        data_at = Some(base.checked_add_signed(offset)?);
        at += 4;
    }
    let mut first_flags = None;
    if fields & 0x4 != 0 {
        first_flags = Some(read_u32(trun, at)?);
        at += 4;
    }
    let mut run = Run {
        entries: 0,
        count,
        fields,
        first_flags,
        defaults,
        data_at,
        dts,
    };
    let entries = trun.get(at..)?;
    // Samples without an entry each and without a size could be announced without end.
    let is_endless = fields & 0x200 == 0 && defaults.size == 0;
    if is_endless || (count as usize).checked_mul(run.entry_bytes())? > entries.len() {
        return (count == 0).then_some(None);
    }
    // `trun` is a part of `moof`: the distance between them is where the entries begin in it.
    run.entries = entries.as_ptr().addr() - moof.as_ptr().addr();
    Some((count > 0).then_some(run))
}
