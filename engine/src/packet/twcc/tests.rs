#![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

use std::collections::BTreeMap;

use ::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};
use proptest::prelude::*;

use super::super::rtcp::{Compound, RtcpPacket};
use super::*;

/// Arrival in ticks (modulo the 24 bits of reference time) of every packet one feedback lists, by
/// sequence number in order; `None` is lost.
type Listed = Vec<(u16, Option<u64>)>;

const TICK_MODULUS: u64 = TICKS_PER_REFERENCE << 24;

/// Builds one feedback, reads it with our reader and with the oracle, and checks they agree.
fn build(recorder: &mut TwccRecorder, max_len: usize) -> Option<(u8, Listed)> {
    let mut out = vec![0xaa; max_len];
    let len = recorder.build(&mut out, 0x1111, 0x2222)?;
    assert_eq!(len % 4, 0);
    let bytes = &out[..len];

    let mut compound = Compound::new(bytes);
    let Some(Ok(RtcpPacket::TransportCc(feedback))) = compound.next() else {
        panic!("not transport feedback: {bytes:02x?}")
    };
    assert!(compound.next().is_none());
    assert_eq!(
        (feedback.sender_ssrc, feedback.media_ssrc),
        (0x1111, 0x2222)
    );
    let reference = u64::from(feedback.reference_time.cast_unsigned() & 0xff_ffff);
    let mut at = reference * TICKS_PER_REFERENCE;
    let listed: Listed = feedback
        .statuses()
        .map(|status| {
            let arrival = status.delta_us.map(|delta_us| {
                at = at.wrapping_add_signed(i64::from(delta_us / 250)) % TICK_MODULUS;
                at
            });
            (status.sequence_number, arrival)
        })
        .collect();
    assert_eq!(oracle(bytes), listed);
    Some((feedback.feedback_packet_count, listed))
}

/// The same list as the `rtcp` crate reads it.
fn oracle(mut bytes: &[u8]) -> Listed {
    let packets = ::rtcp::packet::unmarshal(&mut bytes).unwrap();
    let [packet] = &packets[..] else {
        panic!("{packets:?}")
    };
    let feedback = packet.as_any().downcast_ref::<TransportLayerCc>().unwrap();
    let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
        PacketStatusChunk::RunLengthChunk(run) => {
            vec![run.packet_status_symbol; usize::from(run.run_length)]
        }
        PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
    });
    let mut deltas = feedback.recv_deltas.iter();
    let mut at = u64::from(feedback.reference_time) * TICKS_PER_REFERENCE;
    let listed = symbols
        .take(usize::from(feedback.packet_status_count))
        .enumerate()
        .map(|(index, symbol)| {
            let seq = feedback.base_sequence_number.wrapping_add(index as u16);
            let arrival = (symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                let delta = deltas.next().unwrap();
                assert_eq!(delta.type_tcc_packet, symbol);
                at = at.wrapping_add_signed(delta.delta / 250) % TICK_MODULUS;
                at
            });
            (seq, arrival)
        })
        .collect();
    assert!(deltas.next().is_none());
    listed
}

fn ticks(arrival_us: u64) -> Option<u64> {
    Some(arrival_us / TICK_US % TICK_MODULUS)
}

#[test]
fn nothing_recorded_means_nothing_to_report() {
    let mut recorder = TwccRecorder::new();
    assert!(!recorder.has_pending());
    assert!(build(&mut recorder, 1200).is_none());
    recorder.record(5, 1000);
    assert!(build(&mut recorder, 1200).is_some());
    assert!(build(&mut recorder, 1200).is_none());
}

#[test]
fn a_gap_is_reported_as_lost_across_the_wrap() {
    let mut recorder = TwccRecorder::new();
    for (seq, arrival_us) in [(65534, 64_000_000), (1, 64_010_000), (0, 64_011_000)] {
        recorder.record(seq, arrival_us);
    }
    let (count, listed) = build(&mut recorder, 1200).unwrap();
    assert_eq!(count, 0);
    assert_eq!(
        listed,
        [
            (65534, ticks(64_000_000)),
            (65535, None),
            (0, ticks(64_011_000)),
            (1, ticks(64_010_000)),
        ]
    );
    recorder.record(2, 64_020_000);
    let (count, listed) = build(&mut recorder, 1200).unwrap();
    assert_eq!((count, listed), (1, vec![(2, ticks(64_020_000))]));
}

#[test]
fn of_a_duplicate_the_first_arrival_stands() {
    let mut recorder = TwccRecorder::new();
    recorder.record(7, 1000);
    recorder.record(7, 9000);
    assert_eq!(build(&mut recorder, 1200).unwrap().1, [(7, ticks(1000))]);
    recorder.record(7, 20_000);
    assert!(!recorder.has_pending(), "a late duplicate is no news");
}

#[test]
fn a_packet_after_its_report_is_reported_again() {
    let mut recorder = TwccRecorder::new();
    recorder.record(10, 1000);
    recorder.record(12, 3000);
    build(&mut recorder, 1200).unwrap();
    recorder.record(11, 40_000);
    assert_eq!(
        build(&mut recorder, 1200).unwrap().1,
        [(11, ticks(40_000)), (12, ticks(3000))]
    );
}

#[test]
fn a_pause_too_long_for_a_delta_starts_another_feedback() {
    let mut recorder = TwccRecorder::new();
    recorder.record(1, 0);
    recorder.record(2, 9_000_000);
    recorder.record(3, 9_000_250);
    assert_eq!(build(&mut recorder, 1200).unwrap().1, [(1, ticks(0))]);
    assert_eq!(
        build(&mut recorder, 1200).unwrap().1,
        [(2, ticks(9_000_000)), (3, ticks(9_000_250))]
    );
}

#[test]
fn feedback_longer_than_the_buffer_is_split() {
    let mut recorder = TwccRecorder::new();
    for seq in 0..1000 {
        recorder.record(seq, u64::from(seq) * 70_000);
    }
    let mut listed = vec![];
    while let Some((count, part)) = build(&mut recorder, MIN_FEEDBACK_BYTES) {
        assert!(count < 20, "every feedback must report something");
        listed.extend(part);
    }
    let expected: Listed = (0..1000)
        .map(|seq| (seq, ticks(u64::from(seq) * 70_000)))
        .collect();
    assert_eq!(listed, expected);
    recorder.record(1000, 0);
    assert!(build(&mut recorder, MIN_FEEDBACK_BYTES - 1).is_none());
    assert!(build(&mut recorder, MIN_FEEDBACK_BYTES).is_some());
}

#[test]
fn a_window_of_lost_packets_fits_the_least_buffer() {
    let mut recorder = TwccRecorder::new();
    recorder.record(0, 0);
    build(&mut recorder, 1200).unwrap();
    recorder.record(WINDOW as u16, 500);
    let (_, listed) = build(&mut recorder, MIN_FEEDBACK_BYTES).unwrap();
    assert_eq!(listed.len(), WINDOW);
    assert_eq!(listed[WINDOW - 1], (WINDOW as u16, ticks(500)));
    assert!(
        listed[..WINDOW - 1]
            .iter()
            .all(|(_, arrival)| arrival.is_none())
    );
}

#[test]
fn chunks_reach_as_far_as_they_can() {
    // Bytes of feedback, less what is fixed and the deltas, for these arrivals in ticks.
    let chunk_bytes = |arrivals: &[(u16, u64)], delta_bytes: usize| {
        let mut recorder = TwccRecorder::new();
        for &(seq, ticks) in arrivals {
            recorder.record(seq, ticks * TICK_US);
        }
        let len = recorder.build(&mut [0; 1200], 1, 2).unwrap();
        assert!(!recorder.has_pending());
        (len - FIXED_BYTES - delta_bytes) / 4 * 4
    };
    let even: Vec<_> = (0..98).map(|seq| (seq, u64::from(seq))).collect();
    assert_eq!(chunk_bytes(&even, 98), 0, "one run, within the padding");
    let every_other: Vec<_> = (0..98).map(|seq| (2 * seq, u64::from(seq))).collect();
    assert_eq!(chunk_bytes(&every_other, 98), 28, "fourteen a chunk");
    let mixed: Vec<_> = (0..98).map(|seq| (seq, u64::from(seq) / 2 * 300)).collect();
    assert_eq!(chunk_bytes(&mixed, 98 + 48), 28, "seven a chunk");
}

#[test]
fn what_falls_out_of_the_window_is_not_reported() {
    let mut recorder = TwccRecorder::new();
    recorder.record(0, 0);
    recorder.record(5000, 1000);
    let (_, listed) = build(&mut recorder, 1200).unwrap();
    assert_eq!(listed.len(), WINDOW);
    assert_eq!(listed.last(), Some(&(5000, ticks(1000))));
    recorder.record(5000 - WINDOW as u16, 2000);
    assert!(!recorder.has_pending(), "too old for the window");
}

#[test]
fn a_sender_that_began_anew_is_followed() {
    let mut recorder = TwccRecorder::new();
    recorder.record(30_000, 1000);
    build(&mut recorder, 1200).unwrap();
    for seq in 0..u16::from(RESTART_AFTER) - 1 {
        recorder.record(seq, 2000);
        assert!(!recorder.has_pending());
    }
    recorder.record(100, 3000);
    recorder.record(101, 4000);
    assert_eq!(
        build(&mut recorder, 1200).unwrap().1,
        [(100, ticks(3000)), (101, ticks(4000))]
    );
}

#[test]
fn the_feedback_count_wraps() {
    let mut recorder = TwccRecorder::new();
    for seq in 0..=256 {
        recorder.record(seq, 0);
        let (count, _) = build(&mut recorder, 1200).unwrap();
        assert_eq!(count, seq as u8);
    }
}

proptest! {
    #[test]
    fn every_arrival_is_reported_as_it_was_recorded(
        start in any::<u16>(),
        start_us in prop_oneof![0u64..1 << 20, 0u64..1 << 52],
        // Steps of sequence number (negative: reordered) and of time.
        arrivals in prop::collection::vec(
            (prop_oneof![4 => 1i32..3, 1 => -6i32..40], prop_oneof![0u64..3000, 0u64..400_000]),
            1..400,
        ),
        max_len in MIN_FEEDBACK_BYTES..1300,
        report_every in 1usize..100,
    ) {
        let mut recorder = TwccRecorder::new();
        let mut expected = BTreeMap::new();
        let mut reported = BTreeMap::new();
        let mut extender = SequenceExtender::new();
        let mut seq = start;
        let mut now_us = start_us;
        for (index, (step, pause_us)) in arrivals.iter().enumerate() {
            recorder.record(seq, now_us);
            expected.entry(seq).or_insert(ticks(now_us));
            if index % report_every == 0 || index + 1 == arrivals.len() {
                while let Some((_, listed)) = build(&mut recorder, max_len) {
                    let at = listed.last().unwrap().0;
                    extender.extend(at);
                    for (seq, arrival) in listed {
                        if arrival.is_some() {
                            let before = reported.insert(seq, arrival);
                            prop_assert!(before.is_none_or(|before| before == arrival));
                        } else {
                            prop_assert!(!reported.contains_key(&seq));
                        }
                    }
                }
            }
            seq = seq.wrapping_add_signed(*step as i16);
            now_us += pause_us;
        }
        // Within 400 steps of at most 39 nothing wraps onto itself, but the window may pass over
        // what was not reported in time.
        if report_every * 39 < WINDOW {
            prop_assert_eq!(reported, expected);
        } else {
            for (seq, arrival) in reported {
                prop_assert_eq!(expected.get(&seq), Some(&arrival));
            }
        }
    }

    #[test]
    fn arbitrary_records_never_panic_and_end(
        records in prop::collection::vec((any::<u16>(), any::<u64>()), 0..300),
        max_len in 0usize..1300,
    ) {
        let mut recorder = TwccRecorder::new();
        for (seq, arrival_us) in records {
            recorder.record(seq, arrival_us);
        }
        for _ in 0..=WINDOW {
            if build(&mut recorder, max_len).is_none() {
                break;
            }
        }
        prop_assert!(max_len < MIN_FEEDBACK_BYTES || !recorder.has_pending());
    }
}
