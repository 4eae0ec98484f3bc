//! One viewer's bandwidth among its tracks with several encodings: the way to it is one, and so is its
//! estimate.
//!
//! All tracks are given their least encoding first. Then the one that has least is raised by one encoding,
//! as long as any can be: so none is large while another could be more than its least. What a track is shown
//! already must fit, what is more must fit with room to spare; thus a little more or less of an
//! estimate does not take from one and give to another. Called by the control plane before it asks each
//! track's [`Choice`](super::choice::Choice), which decides when it changes.

use super::choice::{RISE_PERCENT, needed_bps, payload_bps};

/// A track as it is to be served.
#[derive(Debug, Clone, Default)]
pub struct Ladder {
    /// Bitrates of its encodings' payload, the least first; 0: not known.
    pub bitrates_bps: Vec<u64>,
    /// Place of the one that is shown.
    pub shown: Option<usize>,
}

/// What the others take of an estimate, for each of the tracks.
#[must_use]
pub fn others_bps(estimate_bps: u64, tracks: &[Ladder]) -> Vec<u64> {
    let given = divide(estimate_bps, tracks);
    let takes: Vec<u64> = given
        .iter()
        .zip(tracks)
        .map(|(place, track)| track.takes_bps(*place))
        .collect();
    let all: u64 = takes.iter().sum();
    takes.iter().map(|own| all - own).collect()
}

/// The place of the encoding that each track is given.
fn divide(estimate_bps: u64, tracks: &[Ladder]) -> Vec<usize> {
    let mut given = vec![0; tracks.len()];
    let mut open: Vec<usize> = (0..tracks.len()).collect();
    loop {
        open.retain(|track| given[*track] + 1 < tracks[*track].bitrates_bps.len());
        let least = open
            .iter()
            .copied()
            .min_by_key(|track| tracks[*track].takes_bps(given[*track]));
        let Some(track) = least else {
            return given;
        };
        given[track] += 1;
        let takes = given
            .iter()
            .zip(tracks)
            .map(|(place, track)| track.bitrates_bps.get(*place).copied().unwrap_or(0));
        let is_shown = tracks[track].shown >= Some(given[track]);
        let percent = if is_shown { 100 } else { RISE_PERCENT };
        let is_known = tracks[track].bitrates_bps[given[track]] > 0;
        if !is_known || needed_bps(takes.sum()) * percent / 100 > estimate_bps {
            given[track] -= 1;
            open.retain(|other| *other != track);
        }
    }
}

impl Ladder {
    fn takes_bps(&self, place: usize) -> u64 {
        payload_bps(self.bitrates_bps.get(place).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LADDER: [u64; 3] = [150_000, 500_000, 1_500_000];

    fn tracks(shown: [usize; 2]) -> [Ladder; 2] {
        shown.map(|place| Ladder {
            bitrates_bps: LADDER.to_vec(),
            shown: Some(place),
        })
    }

    #[test]
    fn all_have_the_least_before_one_has_more_and_the_same_before_one_has_most() {
        assert_eq!(divide(100_000, &tracks([0, 0])), [0, 0]);
        assert_eq!(divide(1_000_000, &tracks([0, 0])), [1, 0]);
        assert_eq!(divide(1_400_000, &tracks([0, 0])), [1, 1]);
        assert_eq!(divide(2_700_000, &tracks([0, 0])), [2, 1]);
        assert_eq!(divide(9_000_000, &tracks([0, 0])), [2, 2]);
    }

    #[test]
    fn one_that_has_all_gives_the_other_its_part() {
        let low = divide(2_000_000, &tracks([2, 0]));
        assert_eq!(low, [1, 1]);
        let others = others_bps(2_000_000, &tracks([2, 0]));
        assert_eq!(others, [520_000, 520_000]);
    }

    #[test]
    fn what_is_shown_and_barely_fits_stays() {
        assert_eq!(divide(1_150_000, &tracks([1, 1])), [1, 1]);
        assert_eq!(divide(1_150_000, &tracks([1, 0])), [1, 0]);
    }

    #[test]
    fn a_track_that_is_small_leaves_the_rest_to_the_other() {
        let mut two = tracks([0, 0]);
        two[0].bitrates_bps = vec![100_000];
        assert_eq!(divide(2_200_000, &two), [0, 2]);
        assert_eq!(others_bps(2_200_000, &two)[1], 104_000);
        two[1].bitrates_bps[2] = 0;
        assert_eq!(divide(9_000_000, &two), [0, 1], "its bitrate is not known");
    }
}
