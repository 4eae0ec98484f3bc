//! The times of a source, made into one timeline that goes on: leaps of its clock are taken out, the
//! same way for all its tracks; and how that timeline relates to our clock.

use std::collections::VecDeque;

use crate::media::clock::TrackClock;

/// A track's times that step back by less than this are imprecise; by more, the clock was set.
const MAX_BACK_US: i64 = 100_000;

/// Times that step forward by this much more than the time that passed were set, too.
const MAX_AHEAD_US: i64 = 2_000_000;

/// Tracks of a source begin within this much of each other; if they do not, they have not the same
/// clock.
const MAX_APART_US: i64 = 10_000_000;

/// After a leap the other tracks are taken to have made the same one if that brings them so near.
const SAME_LEAP_US: i64 = 1_000_000;

/// Leaps remembered: tracks leap one after the other.
const SHIFTS: usize = 4;

/// The least time that a unit follows the one before a leap by.
const LEAST_STEP_US: i64 = 1_000;

/// Farther apart than this, the time of showing is none.
const MAX_REORDERING_US: i64 = 10_000_000;

/// A source that gets ahead by this much within so long does not send live; one that catches up after
/// a stall gets less far.
const HURRY_US: i64 = 20_000_000;
const HURRY_OVER_US: i64 = 60_000_000;

/// What our clock is compared at: fine enough for sound, and thirteen hours until it wraps.
const CLOCK_RATE_HZ: u32 = 90_000;

/// A unit, placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pts_us: i64,
    pub(super) dts_us: i64,
    /// The source's clock was set before this unit.
    pub(super) leapt: bool,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    dts_us: i64,
    shift_us: i64,
    arrival_us: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Timeline {
    /// What is added to the source's times, the latest first.
    shifts: VecDeque<i64>,
    tracks: Vec<Option<Last>>,
    clock: TrackClock,
    drift: Drift,
    /// A place and its time of arrival, some seconds ago.
    began: Option<(i64, i64)>,
}

impl Timeline {
    pub(super) fn new(tracks: usize) -> Self {
        Self {
            shifts: VecDeque::new(),
            tracks: vec![None; tracks],
            clock: TrackClock::new(CLOCK_RATE_HZ),
            drift: Drift::default(),
            began: None,
        }
    }

    /// Places a unit of a track that arrived now.
    pub(super) fn place(
        &mut self,
        track: usize,
        pts_us: i64,
        dts_us: i64,
        arrival_us: i64,
    ) -> Place {
        let (shift_us, leapt) = self.shift(track, dts_us, arrival_us);
        self.tracks[track] = Some(Last {
            dts_us,
            shift_us,
            arrival_us,
        });
        let place_us = dts_us.saturating_add(shift_us);
        if leapt {
            self.drift = Drift::default();
        }
        self.drift.add(place_us, arrival_us);
        self.clock
            .arrived(ticks(place_us), arrival_us.max(0).unsigned_abs());
        let ahead_us = pts_us.saturating_sub(dts_us);
        let ahead_us = match ahead_us.abs() > MAX_REORDERING_US {
            true => 0,
            false => ahead_us,
        };
        Place {
            pts_us: place_us.saturating_add(ahead_us),
            dts_us: place_us,
            leapt,
        }
    }

    /// Whether the source sends far faster than in life. Ask with each unit.
    pub(super) fn hurries(&mut self, place: &Place, arrival_us: i64) -> bool {
        let began = self.began.filter(|(_, at_us)| {
            let passed_us = arrival_us.saturating_sub(*at_us);
            !place.leapt && passed_us < HURRY_OVER_US
        });
        let (from_us, at_us) = *self
            .began
            .insert(began.unwrap_or((place.dts_us, arrival_us)));
        let played_us = place.dts_us.saturating_sub(from_us);
        played_us.saturating_sub(arrival_us.saturating_sub(at_us)) > HURRY_US
    }

    /// When a moment of the timeline is on our clock. Ask for later and later ones.
    pub(super) fn wall_us(&mut self, place_us: i64) -> i64 {
        self.clock.time_us(ticks(place_us))
    }

    /// By how much the source's clock is faster than ours, in millionths, once that can be told.
    pub(super) fn drift_ppm(&self) -> Option<f64> {
        self.drift.ppm()
    }

    fn shift(&mut self, track: usize, dts_us: i64, arrival_us: i64) -> (i64, bool) {
        let Some(&current_us) = self.shifts.front() else {
            let shift_us = arrival_us.saturating_sub(dts_us);
            self.shifts.push_front(shift_us);
            return (shift_us, false);
        };
        let follows_us = match self.tracks[track] {
            None => {
                let place_us = dts_us.saturating_add(current_us);
                if place_us.saturating_sub(arrival_us).abs() <= MAX_APART_US {
                    return (current_us, false);
                }
                i64::MIN
            }
            Some(last) => {
                let step_us = dts_us.saturating_sub(last.dts_us);
                let passed_us = arrival_us.saturating_sub(last.arrival_us);
                if step_us >= -MAX_BACK_US && step_us.saturating_sub(passed_us) <= MAX_AHEAD_US {
                    return (last.shift_us, false);
                }
                let last_us = last.dts_us.saturating_add(last.shift_us);
                last_us.saturating_add(LEAST_STEP_US)
            }
        };
        let near = |shift_us: i64| {
            let place_us = dts_us.saturating_add(shift_us);
            place_us >= follows_us && place_us.saturating_sub(arrival_us).abs() <= SAME_LEAP_US
        };
        if let Some(&same) = self.shifts.iter().find(|&&shift_us| near(shift_us)) {
            return (same, true);
        }
        let shift_us = arrival_us.max(follows_us).saturating_sub(dts_us);
        self.shifts.push_front(shift_us);
        self.shifts.truncate(SHIFTS);
        (shift_us, true)
    }
}

fn ticks(us: i64) -> u32 {
    let ticks = i128::from(us) * i128::from(CLOCK_RATE_HZ) / 1_000_000;
    ticks as u32
}

/// Length of the pieces that the least delayed unit of is looked for.
const PIECE_US: i64 = 10_000_000;

/// Pieces that the drift is told from: ten minutes.
const PIECES: usize = 60;

/// Fewer say more of the network than of the clocks.
const LEAST_PIECES: usize = 3;

/// How delays go up or down: those of the least delayed units of pieces of time.
#[derive(Debug, Default)]
struct Drift {
    began_us: Option<i64>,
    least_us: i64,
    pieces: VecDeque<(i64, i64)>,
}

impl Drift {
    fn add(&mut self, place_us: i64, arrival_us: i64) {
        let delay_us = arrival_us.saturating_sub(place_us);
        match self.began_us {
            Some(began_us) if arrival_us - began_us < PIECE_US => {
                self.least_us = self.least_us.min(delay_us);
                return;
            }
            Some(began_us) => {
                if self.pieces.len() == PIECES {
                    self.pieces.pop_front();
                }
                self.pieces.push_back((began_us, self.least_us));
            }
            None => {}
        }
        self.began_us = Some(arrival_us);
        self.least_us = delay_us;
    }

    /// The slope by least squares.
    fn ppm(&self) -> Option<f64> {
        let (&(from_us, base_us), count) = (self.pieces.front()?, self.pieces.len());
        if count < LEAST_PIECES {
            return None;
        }
        let points = || {
            self.pieces.iter().map(move |&(at_us, least_us)| {
                ((at_us - from_us) as f64, (least_us - base_us) as f64)
            })
        };
        let of = |sum: f64| sum / count as f64;
        let (mean_x, mean_y) = (
            of(points().map(|(x, _)| x).sum()),
            of(points().map(|(_, y)| y).sum()),
        );
        let with: f64 = points().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let square: f64 = points().map(|(x, _)| (x - mean_x).powi(2)).sum();
        (square > 0.0).then(|| -with / square * 1e6)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_for_both_tracks_alike() {
        let mut timeline = Timeline::new(2);
        let mut places = [Vec::new(), Vec::new()];
        for index in 0..200_i64 {
            let now_us = index * 40_000;
            // Sound notices two units later.
            for (track, at) in [(0, 100), (1, 102)] {
                let set_us = if index < at { 5_000_000 } else { -3_000_000 };
                let place = timeline.place(track, now_us + set_us, now_us + set_us, now_us);
                assert_eq!(place.leapt, index == at, "{track} {index}");
                places[track].push(place.pts_us);
            }
        }
        for track in &places {
            assert!(track.windows(2).all(|pair| pair[1] - pair[0] == 40_000));
        }
        assert_eq!(places[0][199], places[1][199]);
    }

    #[test]
    fn a_stall_of_the_network_is_no_leap() {
        let mut timeline = Timeline::new(1);
        for index in 0..100_i64 {
            let late_us = if index >= 50 { 5_000_000 } else { 0 };
            let us = index * 40_000;
            let place = timeline.place(0, us, us, us + late_us);
            assert!(!place.leapt);
            assert_eq!(place.pts_us, us);
        }
    }

    #[test]
    fn the_drift_of_the_source_is_told() {
        let mut timeline = Timeline::new(1);
        for index in 0..15_000_i64 {
            let now_us = index * 40_000;
            let us = now_us + now_us / 10_000;
            let jitter_us = index % 7 * 3_000;
            timeline.place(0, us, us, now_us + jitter_us);
        }
        let ppm = timeline.drift_ppm().unwrap();
        assert!((ppm - 100.0).abs() < 5.0, "{ppm}");
    }

    proptest! {
        /// Whatever a source says, its units are placed within reason and in order.
        #[test]
        fn the_timeline_goes_forward(
            units in proptest::collection::vec((0..2_usize, any::<i64>(), 0..1_000_000_i64), 1..200)
        ) {
            let mut timeline = Timeline::new(2);
            let (mut now_us, mut last_us) = (0, [i64::MIN; 2]);
            for (track, us, passed_us) in units {
                now_us += passed_us;
                let us = us >> 3;
                let place = timeline.place(track, us, us, now_us);
                prop_assert!(place.dts_us >= last_us[track].saturating_sub(MAX_BACK_US));
                last_us[track] = place.dts_us;
                timeline.wall_us(place.dts_us);
            }
        }
    }
}
