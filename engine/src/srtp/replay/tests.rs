//! The replay window and the packet index estimate.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

#[test]
fn a_replayed_packet_is_refused() {
    let mut window = ReplayWindow::new();
    assert_eq!(window.check(100), Ok(()));
    window.accept(100);
    assert_eq!(window.check(100), Err(SrtpError::Replayed));
    window.accept(103);
    assert_eq!(window.check(101), Ok(()));
    window.accept(101);
    for index in [100, 101, 103] {
        assert_eq!(window.check(index), Err(SrtpError::Replayed));
    }
    assert_eq!(window.check(102), Ok(()));
}

#[test]
fn checking_without_accepting_changes_nothing() {
    let mut window = ReplayWindow::new();
    window.accept(10);
    assert_eq!(window.check(1 << 40), Ok(()));
    assert_eq!(window.highest(), Some(10));
    assert_eq!(window.estimate(11), 11);
    assert_eq!(window.check(9), Ok(()));
}

#[test]
fn a_packet_behind_the_window_is_too_old() {
    let mut window = ReplayWindow::new();
    window.accept(5000);
    assert_eq!(
        window.check(5000 - REPLAY_WINDOW_LEN),
        Err(SrtpError::TooOld)
    );
    assert_eq!(window.check(5001 - REPLAY_WINDOW_LEN), Ok(()));
    window.accept(5000 - REPLAY_WINDOW_LEN);
    assert_eq!(window.check(5000 + REPLAY_WINDOW_LEN), Ok(()));
    window.accept(5000 + REPLAY_WINDOW_LEN);
    assert_eq!(window.check(5000), Err(SrtpError::TooOld));
    assert_eq!(window.check(5001), Ok(()));
}

#[test]
fn the_end_of_the_index_space_is_refused() {
    let mut window = ReplayWindow::new();
    window.accept(PACKET_INDEX_END - 1);
    assert_eq!(window.estimate(0), PACKET_INDEX_END);
    assert_eq!(
        window.check(window.estimate(0)),
        Err(SrtpError::IndexExhausted)
    );
    window.accept(PACKET_INDEX_END);
    assert_eq!(window.highest(), Some(PACKET_INDEX_END - 1));
}

#[test]
fn a_stream_first_seen_anywhere_starts_at_rollover_counter_zero() {
    for seq in [0, 1, 0x7fff, 0x8000, u16::MAX] {
        assert_eq!(ReplayWindow::new().estimate(seq), u64::from(seq));
    }
}

#[test]
fn no_index_is_estimated_before_the_first_one() {
    let mut window = ReplayWindow::new();
    window.accept(5);
    assert_eq!(window.estimate(65_530), 65_530);
}

#[test]
fn the_rollover_counter_follows_reordering_across_the_wrap() {
    let mut window = ReplayWindow::new();
    window.accept(65_534);
    assert_eq!(window.estimate(1), 0x1_0001);
    window.accept(0x1_0001);
    assert_eq!(window.estimate(65_535), 65_535);
    assert_eq!(window.check(65_535), Ok(()));
    assert_eq!(
        window.check(window.estimate(65_534)),
        Err(SrtpError::Replayed)
    );
    assert_eq!(window.estimate(2), 0x1_0002);
}

proptest! {
    // RFC 3711 appendix A, as it is written there.
    #[test]
    fn the_estimate_is_the_one_of_appendix_a(highest in 1u64 << 16..1 << 47, seq: u16) {
        let mut window = ReplayWindow::new();
        window.accept(highest);
        let (roc, s_l, seq64) = (highest >> 16, highest & 0xffff, u64::from(seq));
        let v = if s_l < 32_768 {
            if seq64 as i64 - s_l as i64 > 32_768 { roc - 1 } else { roc }
        } else if s_l - 32_768 > seq64 {
            roc + 1
        } else {
            roc
        };
        prop_assert_eq!(window.estimate(seq), v << 16 | seq64);
    }

    #[test]
    fn the_window_agrees_with_a_list_of_all_it_accepted(
        start in 0u64..1 << 40,
        steps in prop::collection::vec((0u64..2200, any::<bool>()), 1..300),
    ) {
        let mut window = ReplayWindow::new();
        let mut accepted = HashSet::new();
        let mut highest = start;
        for (step, back) in steps {
            let index = if back { highest.saturating_sub(step) } else { highest + step / 8 };
            let expected = if accepted.is_empty() {
                Ok(())
            } else if index + REPLAY_WINDOW_LEN <= highest {
                Err(SrtpError::TooOld)
            } else if accepted.contains(&index) {
                Err(SrtpError::Replayed)
            } else {
                Ok(())
            };
            prop_assert_eq!(window.check(index), expected);
            if expected.is_ok() {
                window.accept(index);
                highest = if accepted.is_empty() { index } else { highest.max(index) };
                accepted.insert(index);
                prop_assert_eq!(window.highest(), Some(highest));
            }
        }
    }
}
