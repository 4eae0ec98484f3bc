#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use proptest::prelude::*;

fn fragment(message_seq: u16, length: usize, offset: usize, data: &[u8]) -> Fragment<'_> {
    Fragment {
        message_type: 1,
        message_seq,
        length,
        offset,
        data,
    }
}

/// Takes every message that is complete.
fn drain(reassembly: &mut Reassembly) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some(message) = reassembly.complete() {
        assert_eq!(message.message_seq, reassembly.next_seq());
        bodies.push(message.body);
        reassembly.advance();
    }
    bodies
}

#[test]
fn a_message_without_bytes_is_complete_at_once() {
    let mut reassembly = Reassembly::default();
    assert_eq!(reassembly.push(fragment(0, 0, 0, &[])), Push::Stored);
    assert_eq!(drain(&mut reassembly), [Vec::<u8>::new()]);
}

#[test]
fn later_messages_wait_for_earlier_ones() {
    let mut reassembly = Reassembly::default();
    assert_eq!(reassembly.push(fragment(1, 2, 0, b"cd")), Push::Stored);
    assert!(drain(&mut reassembly).is_empty());
    assert_eq!(reassembly.push(fragment(0, 2, 0, b"ab")), Push::Stored);
    assert_eq!(drain(&mut reassembly), [b"ab", b"cd"]);
    assert_eq!(reassembly.push(fragment(1, 2, 0, b"cd")), Push::Repeated);
}

#[test]
fn a_forged_fragment_does_not_block_the_true_message_for_good() {
    let mut reassembly = Reassembly::default();
    assert_eq!(reassembly.push(fragment(0, 5, 3, b"!!")), Push::Stored);
    assert_eq!(reassembly.push(fragment(0, 4, 0, b"ab")), Push::Replaced);
    assert_eq!(reassembly.push(fragment(0, 4, 2, b"cd")), Push::Stored);
    assert_eq!(drain(&mut reassembly), [b"abcd"]);
    assert_eq!(reassembly.stored_bytes, 0);
}

#[test]
fn messages_far_ahead_are_refused() {
    let mut reassembly = Reassembly::default();
    let refused = Push::Refused(DropReason::OutOfWindow);
    assert_eq!(reassembly.push(fragment(WINDOW + 1, 1, 0, b"x")), refused);
    assert_eq!(reassembly.push(fragment(u16::MAX, 1, 0, b"x")), refused);
}

#[test]
fn what_is_kept_is_bounded_in_bytes_and_fragments() {
    let mut reassembly = Reassembly::default();
    for offset in 0..MAX_FRAGMENTS {
        assert_eq!(
            reassembly.push(fragment(0, 8000, 2 * offset, b"x")),
            Push::Stored
        );
    }
    let refused = Push::Refused(DropReason::OutOfWindow);
    assert_eq!(reassembly.push(fragment(0, 8000, 7000, b"x")), refused);

    let mut reassembly = Reassembly::default();
    let chunk = vec![0; 4000];
    let pushed: Vec<_> = (1..=WINDOW)
        .map(|message_seq| reassembly.push(fragment(message_seq, 8000, 0, &chunk)))
        .collect();
    assert_eq!(
        pushed.iter().filter(|push| **push == Push::Stored).count(),
        4
    );
    assert!(reassembly.stored_bytes <= MAX_STORED_BYTES);
}

#[test]
fn a_header_that_contradicts_itself_is_refused() {
    let read = |bytes: &[u8]| Fragment::read(&mut Reader::new(bytes)).unwrap_err();
    // length 2, offset 1, fragment length 2
    let past_the_end = [1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 2, 7, 7];
    assert_eq!(read(&past_the_end), DropReason::MalformedFragment);
    let too_long = [1, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 7];
    assert_eq!(read(&too_long), DropReason::MalformedFragment);
    let without_bytes = [1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(read(&without_bytes), DropReason::EmptyFragment);
    assert_eq!(read(&without_bytes[..11]), DropReason::MalformedFragment);
}

proptest! {
    #[test]
    fn any_cut_in_any_order_with_overlaps_yields_the_message(
        body in proptest::collection::vec(any::<u8>(), 1..600),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 1..200usize), 0..20),
        order in any::<u64>(),
    ) {
        let step = body.len().div_ceil(10);
        let mut pieces: Vec<(usize, usize)> =
            (0..body.len()).step_by(step).map(|at| (at, (at + step).min(body.len()))).collect();
        for (at, length) in cuts {
            let at = at.index(body.len());
            pieces.push((at, (at + length).min(body.len())));
        }
        let mut state = order | 1;
        for index in (1..pieces.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            pieces.swap(index, (state >> 33) as usize % (index + 1));
        }
        let mut reassembly = Reassembly::default();
        let mut taken = Vec::new();
        for (from, to) in pieces {
            reassembly.push(fragment(0, body.len(), from, &body[from..to]));
            taken.extend(drain(&mut reassembly));
        }
        prop_assert_eq!(taken, [body]);
        prop_assert_eq!(reassembly.stored_bytes, 0);
    }

    #[test]
    fn arbitrary_fragments_never_panic_nor_pile_up(
        bytes in proptest::collection::vec(any::<u8>(), 0..4000),
    ) {
        let mut reassembly = Reassembly::default();
        let mut reader = Reader::new(&bytes);
        while let Ok(fragment) = Fragment::read(&mut reader) {
            reassembly.push(fragment);
            drain(&mut reassembly);
            prop_assert!(reassembly.stored_bytes <= MAX_STORED_BYTES);
        }
    }
}
