//! What came before the present: the pictures of the frame cache, which are decoded and not watched.
//!
//! A tap that begins with the frame cache gives the pictures since the latest keyframe at once, and
//! sound from now on. [`Past`] gathers both until pictures of the present come, and makes one fragment
//! of it whose pictures follow each other at the least distance: whoever reads it is at the present at
//! once.

use crate::media::mux::{Sample, TrackHead};
use crate::media::recording::Fragment;

/// Pictures that ended so long ago are of the past.
const PAST_US: i64 = 500_000;

/// Longer than this a first fragment is of the past, too.
const LONG_US: i64 = 300_000;

/// The present is waited for so long; then there are no pictures.
const PATIENCE_US: i64 = 2_000_000;

/// Most bytes that are gathered.
const MAX_BYTES: usize = 32 << 20;

/// Ticks of video that a picture of the past is shown: a millisecond, the least that players do not
/// take for an error.
const PICTURE_TICKS: i64 = 90;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Past {
    held: Vec<Fragment>,
    bytes: usize,
    since_us: Option<i64>,
}

impl Past {
    /// Takes a fragment; gives one back when the present has come. `lead` is the track with the
    /// pictures.
    pub(super) fn add(
        &mut self,
        fragment: Fragment,
        lead: usize,
        tracks: &[TrackHead],
        now_us: i64,
    ) -> Option<Fragment> {
        let since_us = *self.since_us.get_or_insert(now_us);
        let pictures = fragment.runs.iter().find(|run| run.0 == lead);
        let latest = pictures.and_then(|run| run.1.last());
        let latest_us = latest.map(|sample| {
            let end = sample.dts + i64::from(sample.duration);
            in_us(end, tracks, lead)
        });
        let is_present = latest_us.is_some_and(|end_us| end_us >= now_us - PAST_US);
        self.bytes += fragment.bytes;
        self.held.push(fragment);
        let enough = self.bytes > MAX_BYTES || now_us - since_us > PATIENCE_US;
        (is_present || enough).then(|| std::mem::take(self).whole(lead, tracks))
    }

    /// All of it as one fragment.
    fn whole(self, lead: usize, tracks: &[TrackHead]) -> Fragment {
        let mut runs: Vec<Vec<Sample>> = tracks.iter().map(|_| Vec::new()).collect();
        let mut end_us = i64::MIN;
        for fragment in self.held {
            end_us = end_us.max(fragment.end_us);
            for (track, samples) in fragment.runs {
                runs[track].extend(samples);
            }
        }
        if let Some(pictures) = runs.get_mut(lead) {
            let begin = pictures.iter().rposition(|sample| sample.keyframe);
            pictures.drain(..begin.unwrap_or(0));
            let span = pictures.first().zip(pictures.last());
            let span_us = span.map_or(0, |(first, last)| {
                in_us(last.dts, tracks, lead) - in_us(first.dts, tracks, lead)
            });
            if span_us > LONG_US {
                squeeze(pictures, i64::MIN);
            }
        }
        let runs: Vec<_> = runs.into_iter().enumerate().collect();
        let runs: Vec<_> = runs.into_iter().filter(|run| !run.1.is_empty()).collect();
        let starts = runs.iter().filter_map(|(track, samples)| {
            let first = samples.first()?;
            Some(in_us(first.dts, tracks, *track))
        });
        let pictures = runs.iter().find(|run| run.0 == lead);
        let samples = runs.iter().flat_map(|run| &run.1);
        Fragment {
            start_us: starts.min().unwrap_or(end_us),
            end_us,
            keyframe: pictures.is_some_and(|run| run.1.first().is_some_and(|s| s.keyframe)),
            bytes: samples.map(|sample| sample.data.len()).sum(),
            runs,
        }
    }
}

/// Leaves the last picture where it is and moves those before to a millisecond apart, or closer if
/// they would begin before `earliest`. Pictures that are shown in another order than they are decoded
/// stay where they are.
pub(super) fn squeeze(samples: &mut [Sample], earliest: i64) {
    if samples.iter().any(|sample| sample.composition_offset != 0) {
        return;
    }
    let Some((last, before)) = samples.split_last_mut() else {
        return;
    };
    let count = i64::try_from(before.len()).unwrap_or(i64::MAX);
    if count == 0 {
        return;
    }
    let room = last.dts.saturating_sub(earliest);
    let apart = PICTURE_TICKS.min(room / count).max(1);
    for (sample, place) in before.iter_mut().zip(0..) {
        sample.dts = last.dts - (count - place) * apart;
        sample.duration = u32::try_from(apart).unwrap_or(1);
    }
}

fn in_us(ticks: i64, tracks: &[TrackHead], track: usize) -> i64 {
    let timescale = tracks.get(track).map_or(1, |track| track.timescale.get());
    let us = i128::from(ticks) * 1_000_000 / i128::from(timescale);
    i64::try_from(us).unwrap_or(i64::MAX)
}
