//! The numbers of a rendition that some packets of its source are left out of: without gaps where they
//! are, and with room for what is late.
//!
//! A packet that comes in order takes the next number, or none if it is left out. For one that has not
//! come yet nobody knows which it will be: it has a number reserved. When it comes and is passed, it
//! takes that number, so that what was lost and restored lies where it belongs; when it is left out,
//! the number is *closed*, by a packet without payload, or receivers would go on asking for it. One
//! that never comes leaves a gap, as it does at the source. Numbers rise with the source's, whatever
//! order packets come in, and none is given twice: each stands for one packet of the source, and the
//! source admits no packet twice.

/// How far back, in packets of the source, a late one still finds its number: as far as the source
/// knows duplicates.
pub(crate) const WINDOW: usize = 2048;

/// What is to become of a packet of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Pass,
    LeaveOut,
    /// It cannot be told yet: its number is kept for it.
    Later,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Pass the packet on under this number.
    Pass(u64),
    /// Fill this number with a packet without payload.
    Close(u64),
    Nothing,
}

/// Of one recent packet of the source.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: u64,
    /// It has not come, or was not decided on.
    awaited: bool,
}

/// The numbers of one rendition.
#[derive(Debug)]
pub(crate) struct Renumbering {
    places: Box<[Place]>,
    /// The first packet, and one past the highest, by the source's index.
    began: Option<(u64, u64)>,
    next: u64,
}

impl Renumbering {
    pub(crate) fn new() -> Self {
        let nothing = Place {
            number: 0,
            awaited: false,
        };
        Self {
            places: vec![nothing; WINDOW].into(),
            began: None,
            next: 0,
        }
    }

    /// Decides on the packet with this index at the source.
    pub(crate) fn decide(&mut self, index: u64, decision: Decision) -> Outcome {
        let (first, end) = *self.began.get_or_insert_with(|| {
            self.next = index;
            (index, index)
        });
        if index < end {
            return self.decide_late(first, end, index, decision);
        }
        // A number for each that is missing, of which only the last can still come in time.
        let missing = index - end;
        let kept = missing.min(WINDOW as u64);
        self.next += missing - kept;
        for absent in index - kept..index {
            self.take(absent, true);
        }
        self.began = Some((first, index + 1));
        match decision {
            Decision::Pass => Outcome::Pass(self.take(index, false)),
            Decision::Later => {
                self.take(index, true);
                Outcome::Nothing
            }
            Decision::LeaveOut => {
                self.place(index).awaited = false;
                Outcome::Nothing
            }
        }
    }

    fn decide_late(&mut self, first: u64, end: u64, index: u64, decision: Decision) -> Outcome {
        if index < first || end - index > WINDOW as u64 {
            return Outcome::Nothing;
        }
        let place = self.place(index);
        if !place.awaited || decision == Decision::Later {
            return Outcome::Nothing;
        }
        place.awaited = false;
        match decision {
            Decision::Pass => Outcome::Pass(place.number),
            _ => Outcome::Close(place.number),
        }
    }

    /// The packets of the source that are awaited, by index, from the oldest on.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = u64> {
        let (first, end) = self.began.unwrap_or_default();
        let oldest = first.max(end.saturating_sub(WINDOW as u64));
        (oldest..end).filter(|index| self.places[*index as usize % WINDOW].awaited)
    }

    fn place(&mut self, index: u64) -> &mut Place {
        &mut self.places[index as usize % WINDOW]
    }

    fn take(&mut self, index: u64, awaited: bool) -> u64 {
        let number = self.next;
        *self.place(index) = Place { number, awaited };
        self.next += 1;
        number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn in_order_there_are_no_gaps_and_what_is_lost_keeps_its_number() {
        let mut numbers = Renumbering::new();
        let mut decide = |index, decision| numbers.decide(index, decision);
        assert_eq!(decide(100, Decision::Pass), Outcome::Pass(100));
        assert_eq!(decide(101, Decision::LeaveOut), Outcome::Nothing);
        assert_eq!(decide(102, Decision::Pass), Outcome::Pass(101));
        // 103 and 104 are late.
        assert_eq!(decide(105, Decision::Pass), Outcome::Pass(104));
        assert_eq!(decide(104, Decision::LeaveOut), Outcome::Close(103));
        assert_eq!(decide(103, Decision::Pass), Outcome::Pass(102));
        assert_eq!(decide(103, Decision::Pass), Outcome::Nothing);
        assert_eq!(decide(106, Decision::Later), Outcome::Nothing);
        assert_eq!(decide(107, Decision::Pass), Outcome::Pass(106));
        assert_eq!(decide(106, Decision::LeaveOut), Outcome::Close(105));
        assert_eq!(decide(99, Decision::Pass), Outcome::Nothing, "before all");
    }

    #[test]
    fn a_leap_at_the_source_is_one_here() {
        let mut numbers = Renumbering::new();
        numbers.decide(5, Decision::Pass);
        numbers.decide(6, Decision::LeaveOut);
        let leap = numbers.decide(1_000_006, Decision::Pass);
        assert_eq!(leap, Outcome::Pass(1_000_005));
        assert_eq!(numbers.decide(7, Decision::Pass), Outcome::Nothing);
        let late = numbers.decide(1_000_005, Decision::Pass);
        assert_eq!(late, Outcome::Pass(1_000_004));
        assert_eq!(numbers.awaited().count(), WINDOW - 2);
    }

    /// Packets in some order, some lost, some not decided on at once; whether each is passed.
    fn arrivals() -> impl Strategy<Value = (Vec<bool>, Vec<(u64, bool)>)> {
        let passed = prop::collection::vec(any::<bool>(), 1..300);
        passed.prop_flat_map(|passed| {
            let count = passed.len() as u64;
            // Most come near their place, some far from it.
            let order = prop::collection::vec((0..12u64, 0..40u64, any::<bool>()), passed.len());
            let order = order.prop_map(move |jitter| {
                let mut order: Vec<_> = (0..count)
                    .zip(jitter)
                    .filter(|(_, (lost, ..))| *lost > 0)
                    .map(|(index, (_, late, later))| (index + late * (late / 36), index, later))
                    .collect();
                order.sort_unstable();
                order
                    .into_iter()
                    .map(|(_, index, later)| (index, later))
                    .collect()
            });
            (Just(passed), order)
        })
    }

    proptest! {
        #[test]
        fn numbers_rise_with_the_source_and_stand_for_one_packet_each(
            (passes, order) in arrivals(),
            base in 0u64..1 << 40,
        ) {
            let mut numbers = Renumbering::new();
            let (mut passed, mut closed) = (BTreeMap::new(), BTreeSet::new());
            let mut note = |index: u64, outcome| match outcome {
                Outcome::Pass(number) => {
                    assert!(passes[index as usize]);
                    assert_eq!(passed.insert(number, index), None, "a number twice");
                }
                Outcome::Close(number) => {
                    assert!(!passes[index as usize]);
                    assert!(closed.insert(number), "closed twice");
                }
                Outcome::Nothing => {}
            };
            let decision = |index: u64| match passes[index as usize] {
                true => Decision::Pass,
                false => Decision::LeaveOut,
            };
            let first = order.first().map_or(0, |(index, _)| *index);
            for (index, later) in &order {
                let at_once = if *later { Decision::Later } else { decision(*index) };
                note(*index, numbers.decide(base + index, at_once));
            }
            let came: BTreeSet<_> = order.iter().map(|(index, _)| *index).collect();
            for index in numbers.awaited().collect::<Vec<_>>() {
                let index = index - base;
                if came.contains(&index) {
                    note(index, numbers.decide(base + index, decision(index)));
                }
            }
            prop_assert!(passed.keys().all(|number| !closed.contains(number)));
            prop_assert!(passed.values().is_sorted(), "in the order of the source");
            // All that came after the first is there, and what is neither passed nor closed was lost.
            let due: Vec<_> = came.iter().filter(|i| **i >= first && passes[**i as usize]).collect();
            prop_assert_eq!(passed.values().collect::<Vec<_>>(), due);
            if let (Some(lowest), Some(highest)) = (passed.keys().next(), passed.keys().last()) {
                let filled = (passed.len() + closed.range(lowest..highest).count()) as u64;
                let last = passed[highest];
                let lost = (first..last).filter(|index| !came.contains(index)).count() as u64;
                prop_assert!(highest - lowest < filled + lost);
            }
        }
    }
}
