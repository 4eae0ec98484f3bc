//! Which of a track's encodings a publisher is asked for: those that somebody is shown, and all that are
//! less than those.
//!
//! The only means there is: a sender gives its bitrate to its encodings from the least up, so a bitrate
//! that is enough for the wanted ones leaves none for what is above them. This module says how much that
//! is; [`Transport`](crate::shard::transport::Transport) tells it, by REMB. It only looks at what
//! it is shown, once a tick, and knows neither viewers nor packets.

use crate::counters::IncomingCounters;

/// What is asked for beyond what the wanted encodings took, in per cent: for headers, and so that what is
/// wanted is not held down if it grows.
const ROOM_PERCENT: u64 = 120;

/// An encoding that was asked for again and does not come in this time is not to be had: the publisher
/// has left it out by itself.
const RETURNS_WITHIN_US: u64 = 15_000_000;

/// How much of what an encoding took at most is forgotten in a second, as a part of it.
const FORGOTTEN: u64 = 64;

/// What is seen of an encoding.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Somebody is shown it, takes it, or wants to.
    pub(crate) watched: bool,
    /// Its packets come.
    pub(crate) comes: bool,
    /// What it took in the last second.
    pub(crate) bitrate_bps: u64,
    /// What the publisher says that it may take; 0: it does not say.
    pub(crate) target_bps: u64,
    /// Of its picture; 0: not known.
    pub(crate) pixels: u64,
}

/// One of the track's encodings.
#[derive(Debug, Clone, Default)]
struct Wanted {
    seen: Seen,
    watched_us: u64,
    came: bool,
    /// What it takes when it is not held down.
    full_bps: u64,
    /// It is not asked for, or was not until lately and has not come again.
    paused: bool,
}

/// A track with several encodings.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    each: Vec<Wanted>,
    /// Places of the encodings, the least first.
    order: Vec<usize>,
    /// What is asked for; `None`: everything.
    ceiling_bps: Option<u64>,
    /// When everything was asked for again.
    lifted_us: u64,
    forgot_us: u64,
}

impl Demand {
    /// What the track's encodings are to take together; `None`: as much as the publisher likes.
    pub(crate) fn ceiling_bps(&self) -> Option<u64> {
        self.ceiling_bps
    }

    /// Looks at the encodings; those above all that were watched in the last `pause_after_us` are not
    /// asked for. Says whether what is asked for has changed.
    pub(crate) fn look(
        &mut self,
        seen: impl Iterator<Item = Seen>,
        pause_after_us: u64,
        now_us: u64,
    ) -> bool {
        for (place, seen) in seen.enumerate() {
            if place == self.each.len() {
                self.each.push(Wanted::default());
            }
            self.each[place].seen = seen;
        }
        self.note(now_us);
        let asked = |place: &usize| now_us < self.each[*place].watched_us + pause_after_us;
        // With nobody there the least goes on, for whoever comes.
        let top = self.order.iter().rposition(asked).unwrap_or(0);
        let above = self.order.get(top + 1).copied();
        let next_comes = above.is_some_and(|place| self.each[place].seen.comes);
        let next_paused = above.is_some_and(|place| self.each[place].paused);
        // What the publisher leaves out by itself would come as soon as it can: that must not be
        // prevented, or those who watch the best there is would never get better.
        let holds = match self.ceiling_bps {
            Some(_) => next_paused,
            None => next_comes,
        };
        let known = self.order[..=top]
            .iter()
            .all(|place| self.each[*place].full_bps > 0);
        let before = self.ceiling_bps;
        self.ceiling_bps = (holds && known).then(|| self.hold(top));
        if before.is_some() && self.ceiling_bps.is_none() {
            self.lifted_us = now_us;
        }
        self.ceiling_bps != before
    }

    /// Leaves out what is above `top`; what the others take.
    fn hold(&mut self, top: usize) -> u64 {
        for place in &self.order[top + 1..] {
            let one = &mut self.each[*place];
            one.paused |= one.seen.comes;
        }
        let full = self.order[..=top]
            .iter()
            .map(|place| self.each[*place].full_bps);
        full.sum::<u64>() * ROOM_PERCENT / 100
    }

    fn note(&mut self, now_us: u64) {
        let forgets = now_us >= self.forgot_us + 1_000_000;
        if forgets {
            self.forgot_us = now_us;
        }
        let held = self.ceiling_bps.is_some();
        for one in &mut self.each {
            let seen = one.seen;
            // One that has just come is given the time to be watched.
            if seen.watched || seen.comes && !one.came && !held {
                one.watched_us = now_us;
            }
            one.came = seen.comes;
            if seen.comes && !held {
                one.paused = false;
                if forgets {
                    one.full_bps -= one.full_bps / FORGOTTEN;
                }
                one.full_bps = match seen.target_bps {
                    0 => one.full_bps.max(seen.bitrate_bps),
                    target_bps => target_bps,
                };
            }
            let gone = !held && now_us >= self.lifted_us + RETURNS_WITHIN_US;
            one.paused &= !gone;
        }
        self.order.clear();
        self.order.extend(0..self.each.len());
        let each = &self.each;
        let size = |place: &usize| match each[*place].seen.pixels {
            0 => (u64::MAX, 0, *place),
            pixels => (pixels, each[*place].full_bps, *place),
        };
        self.order.sort_unstable_by_key(size);
    }

    /// Lets the control plane read which encodings are not asked for, and what they would take.
    pub(crate) fn publish(&self, place: usize, to: &IncomingCounters) {
        if let Some(one) = self.each.get(place) {
            to.paused.set(one.paused.into());
            to.full_bitrate_bps.set(one.full_bps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const PAUSE: u64 = 8 * SECOND;

    /// Three encodings of which so many come, and these are watched.
    fn three(comes: usize, watched: &[usize]) -> [Seen; 3] {
        [150_000, 400_000, 900_000].map(|bps| {
            let place = [150_000, 400_000, 900_000].iter().position(|b| *b == bps);
            let place = place.unwrap_or_default();
            Seen {
                watched: watched.contains(&place),
                comes: place < comes,
                bitrate_bps: if place < comes { bps } else { 0 },
                target_bps: 0,
                pixels: 1_000 << place,
            }
        })
    }

    /// Looks once a second; the ceiling after each.
    fn run(demand: &mut Demand, seen: [Seen; 3], from: u64, to: u64) -> Vec<Option<u64>> {
        let look = |second: u64| {
            demand.look(seen.into_iter(), PAUSE, second * SECOND);
            demand.ceiling_bps()
        };
        (from..to).map(look).collect()
    }

    fn paused(demand: &Demand) -> Vec<bool> {
        demand.each.iter().map(|one| one.paused).collect()
    }

    #[test]
    fn what_is_above_all_that_is_watched_is_left_out_after_a_while() {
        let mut demand = Demand::default();
        let asked = run(&mut demand, three(3, &[1]), 100, 120);
        assert_eq!(asked[7], None);
        let held = asked[9].unwrap_or_default();
        assert!((600_000..700_000).contains(&held), "{held}");
        assert_eq!(paused(&demand), [false, false, true]);
    }

    #[test]
    fn with_nobody_there_the_least_goes_on() {
        let mut demand = Demand::default();
        let asked = run(&mut demand, three(3, &[]), 100, 120);
        assert_eq!(asked.last(), Some(&Some(150_000 * 6 / 5)));
        assert_eq!(paused(&demand), [false, true, true]);
    }

    #[test]
    fn what_is_wanted_again_is_asked_for_at_once_and_given_time_to_come() {
        let mut demand = Demand::default();
        run(&mut demand, three(3, &[0]), 100, 120);
        run(&mut demand, three(1, &[0]), 120, 200);
        assert_eq!(paused(&demand), [false, true, true]);
        let asked = run(&mut demand, three(1, &[0, 2]), 200, 205);
        assert!(asked.iter().all(Option::is_none), "{asked:?}");
        assert_eq!(paused(&demand), [false, true, true], "to be had");
        run(&mut demand, three(3, &[0, 2]), 205, 206);
        assert_eq!(paused(&demand), [false; 3]);
    }

    #[test]
    fn what_does_not_come_again_is_not_to_be_had() {
        let mut demand = Demand::default();
        run(&mut demand, three(3, &[0]), 100, 120);
        run(&mut demand, three(1, &[0, 2]), 120, 140);
        assert_eq!(paused(&demand), [false; 3]);
        let asked = run(&mut demand, three(1, &[0]), 140, 200);
        assert!(asked.iter().all(Option::is_none), "it may come by itself");
    }

    #[test]
    fn the_best_that_comes_is_not_held_down_where_the_publisher_leaves_out_a_better_one() {
        let mut demand = Demand::default();
        let asked = run(&mut demand, three(2, &[1]), 100, 200);
        assert!(asked.iter().all(Option::is_none), "{asked:?}");
    }

    #[test]
    fn what_the_publisher_says_it_may_take_counts_for_more_than_what_it_took() {
        let mut demand = Demand::default();
        let mut seen = three(3, &[0]);
        seen[0].target_bps = 200_000;
        let asked = run(&mut demand, seen, 100, 120);
        assert_eq!(asked.last(), Some(&Some(240_000)));
    }
}
