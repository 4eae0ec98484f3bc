use proptest::prelude::*;

use super::*;
use crate::packet::rtcp::{Compound, RtcpPacket};

proptest! {
    /// Whatever a viewer says, the estimate stays a number, and the work stays bounded by what it
    /// said and by what is remembered of what was sent.
    #[test]
    fn nonsense_is_borne(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 16..80), 1..40),
        sizes in prop::collection::vec((0u16..200, 0u32..300_000), 1..40),
        remb in any::<u64>(),
    ) {
        let mut estimator = Estimator::new();
        let mut number = 65_400u16;
        let mut now_us = 1u64 << 40;
        for (body, (count, bytes)) in bodies.iter().zip(sizes.iter().cycle()) {
            let send = Send {
                first: number.wrapping_add(3),
                count: *count,
                bytes: *bytes,
                before: 3,
                before_bytes: 300,
            };
            estimator.sent(&send, now_us);
            let mut body = body.clone();
            body.resize(body.len() / 4 * 4, 0);
            let base = number.wrapping_add(u16::from(body[8] % 16));
            body[8..10].copy_from_slice(&base.to_be_bytes());
            number = number.wrapping_add(3 + count);
            let words = (body.len() / 4) as u8;
            let mut packet = vec![0x8f, 205, 0, words];
            packet.extend_from_slice(&body);
            for packet in Compound::new(&packet) {
                if let Ok(RtcpPacket::TransportCc(feedback)) = packet {
                    estimator.feedback(&feedback, now_us);
                }
            }
            estimator.tick(now_us);
            estimator.probe_packets(*bytes, now_us);
            prop_assert!(estimator.estimate_bps.is_finite());
            now_us += u64::from(*bytes);
        }
        estimator.remb(remb, now_us);
        estimator.tick(now_us + SILENCE_US * 3);
        prop_assert!(estimator.estimate_bps.is_finite());
    }
}

#[test]
fn an_estimator_takes_two_kilobytes() {
    assert!(
        size_of::<Estimator>() <= 2_048,
        "{}",
        size_of::<Estimator>()
    );
}

#[test]
fn remb_stands_in_where_there_is_no_feedback() {
    let mut estimator = Estimator::new();
    assert_eq!(estimator.estimate_bps(), 0);
    estimator.remb(800_000, 5);
    assert_eq!(estimator.estimate_bps(), 800_000);
}

#[test]
fn probes_that_tell_nothing_new_become_rare() {
    let mut estimator = Estimator::new();
    estimator.estimate_bps = 500_000.0;
    estimator.last_feedback_us = Some(1);
    let second = |at: &u64| estimator.probe_packets(1_000, at * 1_000_000) > 0;
    let probed: Vec<u64> = (0..40).filter(second).collect();
    let pauses: Vec<_> = probed.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses, [2, 4, 4, 4, 4, 4, 4, 4, 4], "{probed:?}");
}
