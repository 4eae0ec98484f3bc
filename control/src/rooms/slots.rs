//! Who is in which slot: few slots, shared by many in turn. Pure; a room says who is wanted.

/// Gives a slot to each of those `wanted`, of whom there must not be more than slots. Who has one
/// keeps it, so that nothing changes its place that need not; the others take, in order, what is left.
/// Slots that nobody is wanted in become empty. Says whether anything has changed.
pub(super) fn assign<T: Copy + Eq>(slots: &mut [Option<T>], wanted: &[T]) -> bool {
    debug_assert!(wanted.len() <= slots.len());
    let mut changed = false;
    for slot in slots.iter_mut() {
        changed |= slot.take_if(|one| !wanted.contains(one)).is_some();
    }
    for one in wanted {
        if slots.contains(&Some(*one)) {
            continue;
        }
        if let Some(free) = slots.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(*one);
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fourth_takes_the_place_of_who_is_not_wanted_any_more() {
        let mut slots = [None; 3];
        assert!(assign(&mut slots, &[1, 2, 3]));
        assert_eq!(slots, [Some(1), Some(2), Some(3)]);
        assert!(
            !assign(&mut slots, &[3, 1, 2]),
            "the order alone is no reason"
        );
        assert!(assign(&mut slots, &[4, 3, 1]));
        assert_eq!(slots, [Some(1), Some(4), Some(3)]);
        assert!(assign(&mut slots, &[3]));
        assert_eq!(slots, [None, None, Some(3)]);
    }

    proptest! {
        #[test]
        fn everybody_wanted_has_one_slot_and_nobody_moves(
            rounds in prop::collection::vec(prop::collection::hash_set(0_u8..12, 0..5), 1..30),
        ) {
            let mut slots = [None; 4];
            for wanted in rounds {
                let wanted: Vec<u8> = wanted.into_iter().take(slots.len()).collect();
                let before = slots;
                let changed = assign(&mut slots, &wanted);
                let held: Vec<u8> = slots.iter().flatten().copied().collect();
                prop_assert_eq!(held.len(), wanted.len());
                prop_assert!(wanted.iter().all(|one| held.contains(one)));
                prop_assert_eq!(changed, before != slots);
                for (place, one) in before.iter().enumerate() {
                    let stays = one.is_some_and(|one| wanted.contains(&one));
                    prop_assert!(!stays || slots[place] == *one);
                }
            }
        }
    }
}
