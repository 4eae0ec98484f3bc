#![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

mod statistics {
    use super::*;

    #[test]
    fn nothing_is_reported_before_the_first_packet() {
        assert_eq!(ReceptionStatistics::new(90_000).report_block(1, 0), None);
    }

    #[test]
    fn loss_is_counted_in_total_and_since_the_last_report() {
        let mut statistics = ReceptionStatistics::new(90_000);
        for seq in [65533, 65534, 0, 1] {
            statistics.on_packet(seq, 0, 0);
        }
        let block = statistics.report_block(7, 0).unwrap();
        assert_eq!(block.ssrc, 7);
        assert_eq!(block.fraction_lost, 51, "one of five");
        assert_eq!(block.cumulative_lost, 1);
        assert_eq!(block.extended_highest_sequence_number, 0x1_0001);
        for seq in 2..6 {
            statistics.on_packet(seq, 0, 0);
        }
        let block = statistics.report_block(7, 0).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 1));
        let block = statistics.report_block(7, 0).unwrap();
        assert_eq!(
            (block.fraction_lost, block.cumulative_lost),
            (0, 1),
            "an idle interval"
        );
    }

    #[test]
    fn duplicates_make_the_loss_negative_but_not_the_fraction() {
        let mut statistics = ReceptionStatistics::new(48_000);
        for seq in [10, 10, 11] {
            statistics.on_packet(seq, 0, 0);
        }
        let block = statistics.report_block(1, 0).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, -1));
    }

    #[test]
    fn an_even_stream_has_no_jitter_and_an_uneven_one_the_rfc_value() {
        let mut statistics = ReceptionStatistics::new(90_000);
        for index in 0..100u32 {
            let arrival_us = u64::from(index) * 20_000;
            statistics.on_packet(index as u16, index.wrapping_mul(1800), arrival_us);
        }
        assert_eq!(statistics.jitter(), 0);
        // One packet 10 ms late: 900 units of transit difference, one sixteenth of which counts.
        statistics.on_packet(100, 180_000, 2_010_000);
        assert_eq!(statistics.jitter(), 900 / 16);
    }

    #[test]
    fn jitter_converges_on_the_mean_difference() {
        let mut statistics = ReceptionStatistics::new(48_000);
        for index in 0..2000u32 {
            let late_us = if index % 2 == 0 { 0 } else { 2_000 };
            let arrival_us = u64::from(index) * 20_000 + late_us;
            statistics.on_packet(index as u16, index * 960, arrival_us);
        }
        assert!(
            (94..=97).contains(&statistics.jitter()),
            "{}",
            statistics.jitter()
        );
    }

    #[test]
    fn report_blocks_answer_the_last_sender_report() {
        let mut statistics = ReceptionStatistics::new(90_000);
        statistics.on_packet(1, 0, 0);
        let info = SenderInfo {
            ntp_timestamp: 0x1111_2222_3333_4444,
            ..SenderInfo::default()
        };
        statistics.on_sender_report(&info, 1_000_000);
        let block = statistics.report_block(1, 1_500_000).unwrap();
        assert_eq!(
            (block.last_sr, block.delay_since_last_sr),
            (0x2222_3333, 0x8000)
        );
        let block = statistics.report_block(1, u64::MAX).unwrap();
        assert_eq!(block.delay_since_last_sr, u32::MAX);
    }

    #[test]
    fn one_stray_packet_is_not_counted_and_two_in_order_are_a_restart() {
        let mut statistics = ReceptionStatistics::new(90_000);
        let first = statistics.on_packet(40_000, 0, 0).unwrap();
        assert_eq!(statistics.on_packet(20_000, 0, 0), None);
        assert_eq!(statistics.on_packet(40_001, 0, 0), Some(first + 1));
        assert_eq!(
            statistics.on_packet(20_001, 0, 0),
            None,
            "the stray one was forgotten"
        );
        let restarted = statistics.on_packet(20_002, 0, 0).unwrap();
        assert!(restarted > first + 1);
        assert_eq!(restarted as u16, 20_002);
        assert_eq!((statistics.received(), statistics.lost()), (1, 0));
        assert_eq!(statistics.on_packet(20_003, 0, 0), Some(restarted + 1));
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(
            clock_rate_hz in any::<u32>(),
            packets in prop::collection::vec((any::<u16>(), any::<u32>(), any::<u64>()), 0..200),
        ) {
            let mut statistics = ReceptionStatistics::new(clock_rate_hz);
            for (index, (seq, timestamp, arrival_us)) in packets.into_iter().enumerate() {
                statistics.on_packet(seq, timestamp, arrival_us);
                if index % 7 == 0 {
                    statistics.report_block(1, arrival_us);
                }
            }
        }

        #[test]
        fn loss_equals_what_was_dropped(
            start in any::<u16>(),
            mut kept in prop::collection::vec(any::<bool>(), 1..2000),
        ) {
            kept[0] = true;
            *kept.last_mut().unwrap() = true;
            let mut statistics = ReceptionStatistics::new(90_000);
            for (index, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
                statistics.on_packet(start.wrapping_add(index as u16), 0, 0);
            }
            let lost = kept.iter().filter(|kept| !**kept).count();
            let block = statistics.report_block(1, 0).unwrap();
            prop_assert_eq!(block.cumulative_lost as usize, lost);
            prop_assert_eq!(usize::from(block.fraction_lost), (lost << 8) / kept.len());
        }
    }
}

mod nacks {
    use super::*;

    fn poll(tracker: &mut NackTracker, now_us: u64) -> Vec<u16> {
        tracker.poll(now_us, &mut [0; MAX_MISSING]).to_vec()
    }

    #[test]
    fn a_gap_is_asked_for_after_the_reorder_tolerance() {
        let mut tracker = NackTracker::new();
        tracker.on_packet(100, 0);
        tracker.on_packet(103, 1000);
        assert_eq!(tracker.deadline_us(), Some(6000));
        assert!(poll(&mut tracker, 5999).is_empty());
        assert_eq!(poll(&mut tracker, 6000), [101, 102]);
        assert!(poll(&mut tracker, 6000).is_empty(), "asked already");
    }

    #[test]
    fn a_packet_merely_overtaken_is_not_asked_for() {
        let mut tracker = NackTracker::new();
        tracker.on_packet(100, 0);
        tracker.on_packet(102, 0);
        assert_eq!(tracker.on_packet(101, 4000), PacketOutcome::Recovered);
        assert!(poll(&mut tracker, 10_000).is_empty());
        assert_eq!(tracker.deadline_us(), None);
        assert_eq!(
            tracker.counters(),
            NackCounters {
                reordered: 1,
                ..Default::default()
            }
        );
    }

    #[test]
    fn requests_are_spaced_by_the_round_trip_and_back_off() {
        let mut tracker = NackTracker::new();
        tracker.set_rtt_us(50_000);
        tracker.on_packet(0, 0);
        tracker.on_packet(2, 0);
        let mut asked_at = vec![];
        while let Some(now_us) = tracker.deadline_us() {
            if !poll(&mut tracker, now_us).is_empty() {
                asked_at.push(now_us);
            }
        }
        assert_eq!(
            asked_at,
            [5_000, 55_000, 155_000, 305_000, 505_000, 755_000]
        );
        assert_eq!(
            tracker.counters(),
            NackCounters {
                requested: 6,
                given_up: 1,
                ..Default::default()
            }
        );
    }

    #[test]
    fn a_short_round_trip_neither_floods_nor_asks_without_end() {
        let mut tracker = NackTracker::new();
        tracker.set_rtt_us(10);
        tracker.on_packet(0, 0);
        tracker.on_packet(2, 0);
        let mut asked_at = vec![];
        while let Some(now_us) = tracker.deadline_us() {
            if !poll(&mut tracker, now_us).is_empty() {
                asked_at.push(now_us);
            }
        }
        assert!(
            asked_at.windows(2).all(|pair| pair[1] - pair[0] >= 20_000),
            "{asked_at:?}"
        );
        assert!(
            asked_at.len() <= 10 && *asked_at.last().unwrap() < 1_000_000,
            "{asked_at:?}"
        );
        assert_eq!(tracker.missing(), 0);
    }

    #[test]
    fn a_retransmission_ends_the_asking() {
        let mut tracker = NackTracker::new();
        tracker.on_packet(10, 0);
        tracker.on_packet(12, 0);
        assert_eq!(poll(&mut tracker, 5_000), [11]);
        assert_eq!(tracker.on_packet(11, 60_000), PacketOutcome::Recovered);
        assert_eq!(tracker.on_packet(11, 61_000), PacketOutcome::Unexpected);
        assert!(poll(&mut tracker, 900_000).is_empty());
        let expected = NackCounters {
            requested: 1,
            recovered: 1,
            ..Default::default()
        };
        assert_eq!(tracker.counters(), expected);
    }

    #[test]
    fn a_big_jump_gives_up_instead_of_asking_for_all() {
        let mut tracker = NackTracker::new();
        tracker.on_packet(10, 0);
        tracker.on_packet(12, 0);
        tracker.on_packet(12 + MAX_MISSING as u64 + 2, 0);
        assert_eq!(tracker.missing(), 0);
        assert!(poll(&mut tracker, 10_000).is_empty());
        let expected = NackCounters {
            given_up: 1,
            resets: 1,
            ..Default::default()
        };
        assert_eq!(tracker.counters(), expected);
        assert_eq!(tracker.on_packet(11, 0), PacketOutcome::Unexpected);
    }

    #[test]
    fn the_oldest_are_given_up_when_too_many_are_missing() {
        let mut tracker = NackTracker::new();
        for index in 0..=MAX_MISSING as u64 {
            tracker.on_packet(2 * index, 0);
        }
        assert_eq!(
            (tracker.missing(), tracker.counters().given_up),
            (MAX_MISSING, 0)
        );
        tracker.on_packet(2 * MAX_MISSING as u64 + 2, 0);
        assert_eq!(
            (tracker.missing(), tracker.counters().given_up),
            (MAX_MISSING, 1)
        );
        assert_eq!(poll(&mut tracker, 5_000)[0], 3, "1 was given up");
    }

    #[test]
    fn what_does_not_fit_the_list_stays_due() {
        let mut tracker = NackTracker::new();
        tracker.on_packet(65_535, 0);
        tracker.on_packet(65_540, 0);
        assert_eq!(tracker.poll(5_000, &mut [0; 3]), [0, 1, 2]);
        assert_eq!(tracker.deadline_us(), Some(5_000));
        assert_eq!(tracker.poll(5_000, &mut [0; 3]), [3]);
    }

    proptest! {
        #[test]
        fn exactly_the_missing_packets_are_asked_for(
            start in any::<u32>(),
            kept in prop::collection::vec(any::<bool>(), 1..MAX_MISSING),
        ) {
            let start = u64::from(start);
            let end = start + kept.len() as u64 + 1;
            let mut tracker = NackTracker::new();
            tracker.on_packet(start, 0);
            let mut missing = BTreeSet::new();
            for (extended, kept) in (start + 1..).zip(kept) {
                if kept {
                    prop_assert_eq!(tracker.on_packet(extended, 0), PacketOutcome::New);
                } else {
                    missing.insert(extended);
                }
            }
            tracker.on_packet(end, 0);
            let asked = poll(&mut tracker, 1_000_000 - 1);
            let expected: Vec<u16> = missing.iter().map(|&extended| extended as u16).collect();
            prop_assert_eq!(asked, expected);
            for &extended in &missing {
                prop_assert_eq!(tracker.on_packet(extended, 0), PacketOutcome::Recovered);
            }
            prop_assert_eq!(tracker.missing(), 0);
        }

        #[test]
        fn arbitrary_packets_and_clocks_stay_within_bounds(
            steps in prop::collection::vec((-700i64..700, any::<u64>(), 0usize..20), 0..300),
            rtt_us in any::<u32>(),
        ) {
            let mut tracker = NackTracker::new();
            tracker.set_rtt_us(rtt_us);
            let mut extended = 1u64 << 20;
            for (step, now_us, room) in steps {
                extended = extended.wrapping_add_signed(step);
                tracker.on_packet(extended, now_us);
                prop_assert!(tracker.missing() <= MAX_MISSING);
                prop_assert!(tracker.poll(now_us, &mut vec![0; room]).len() <= room);
            }
        }
    }
}
