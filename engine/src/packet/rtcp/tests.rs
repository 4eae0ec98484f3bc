#![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure
#![allow(clippy::unusual_byte_groupings)] // the groups are the fields of the wire format

use proptest::prelude::*;

use super::*;

/// A feedback body: base 65534, eight statuses, reference time -2 (x 64 ms), feedback 5.
fn transport_cc(count: u16, chunks: &[u16], deltas: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xfe];
    body.extend(count.to_be_bytes());
    body.extend([0xff, 0xff, 0xfe, 5]);
    body.extend(chunks.iter().flat_map(|chunk| chunk.to_be_bytes()));
    body.extend(deltas);
    body
}

fn packet(first: u8, packet_type: u8, body: &[u8]) -> Vec<u8> {
    assert_eq!(body.len() % 4, 0);
    let mut packet = vec![first, packet_type];
    packet.extend((body.len() as u16 / 4).to_be_bytes());
    packet.extend(body);
    packet
}

fn only(datagram: &[u8]) -> Result<RtcpPacket<'_>, RtcpError> {
    let mut compound = Compound::new(datagram);
    let packet = compound.next().unwrap();
    assert!(compound.next().is_none());
    packet
}

#[test]
fn a_malformed_body_does_not_hide_the_next_packet() {
    let mut datagram = packet(0x81, PT_PSFB, &[0, 0, 0, 1]);
    datagram.extend(packet(0x81, PT_PSFB, &[0, 0, 0, 1, 0, 0, 0, 2]));
    let packets: Vec<_> = Compound::new(&datagram).collect();
    assert_eq!(
        packets,
        [
            Err(RtcpError::Body {
                packet_type: PT_PSFB,
                count: 1
            }),
            Ok(RtcpPacket::Pli(Pli {
                sender_ssrc: 1,
                media_ssrc: 2
            })),
        ]
    );
}

#[test]
fn nothing_is_read_after_a_length_that_cannot_be_trusted() {
    let mut datagram = packet(0x80, PT_BYE, &[]);
    datagram.extend([0x81, PT_PSFB, 0, 9, 0, 0, 0, 1]);
    let packets: Vec<_> = Compound::new(&datagram).collect();
    assert_eq!(packets.len(), 2);
    assert_eq!(packets[1], Err(RtcpError::Truncated { len: 8, needed: 40 }));
    assert_eq!(
        only(&[0x80]),
        Err(RtcpError::Truncated { len: 1, needed: 4 })
    );
    assert_eq!(only(&[0xc1, PT_PSFB, 0, 0]), Err(RtcpError::Version(3)));
}

#[test]
fn padding_is_taken_off_and_must_fit() {
    let padded = [0, 0, 0, 7, 0, 0, 0, 4];
    let datagram = packet(0xa1, PT_BYE, &padded);
    let Ok(RtcpPacket::Bye(bye)) = only(&datagram) else {
        panic!("not a goodbye")
    };
    assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [7]);
    for last in [0, 9] {
        let datagram = packet(0xa1, PT_BYE, &[0, 0, 0, 7, 0, 0, 0, last]);
        assert_eq!(
            only(&datagram),
            Err(RtcpError::Padding {
                packet_type: PT_BYE
            })
        );
    }
}

#[test]
fn a_count_beyond_the_body_is_malformed() {
    for (first, packet_type, body) in [
        (0x81, PT_SR, vec![0; 24 + 20]),
        (0x82, PT_RR, vec![0; 4 + 24]),
        (0x82, PT_BYE, vec![0; 4]),
    ] {
        let datagram = packet(first, packet_type, &body);
        assert!(
            matches!(only(&datagram), Err(RtcpError::Body { .. })),
            "type {packet_type}"
        );
    }
}

#[test]
fn packets_nobody_acts_upon_are_passed_over() {
    for (first, packet_type) in [(0x81, PT_SDES), (0x80, 204), (0x80, 207), (0x83, PT_RTPFB)] {
        assert_eq!(
            only(&packet(first, packet_type, &[0; 8])),
            Ok(RtcpPacket::Other {
                packet_type,
                count: first & 0x1f
            })
        );
    }
    let datagram = packet(0x8f, PT_PSFB, b"senderssSOME");
    assert_eq!(
        only(&datagram),
        Ok(RtcpPacket::Other {
            packet_type: PT_PSFB,
            count: 15
        })
    );
}

#[test]
fn nack_bits_count_from_the_packet_id_around_the_circle() {
    let datagram = packet(
        0x81,
        PT_RTPFB,
        &[0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xfe, 0x80, 0x05, 0, 9, 0, 0],
    );
    let Ok(RtcpPacket::Nack(nack)) = only(&datagram) else {
        panic!("not a NACK")
    };
    assert_eq!(
        nack.sequence_numbers().collect::<Vec<_>>(),
        [65534, 65535, 1, 14, 9]
    );
}

#[test]
fn an_absurd_remb_saturates() {
    let mut body = b"\0\0\0\x01\0\0\0\0REMB".to_vec();
    body.extend([1, 0xff, 0xff, 0xff, 0, 0, 0, 7]);
    let datagram = packet(0x8f, PT_PSFB, &body);
    let Ok(RtcpPacket::Remb(remb)) = only(&datagram) else {
        panic!("not a REMB")
    };
    assert_eq!(remb.bitrate_bps, u64::MAX);
    assert_eq!(remb.ssrcs().collect::<Vec<_>>(), [7]);
    body[13..16].copy_from_slice(&[0xfc, 0, 0]);
    let datagram = packet(0x8f, PT_PSFB, &body);
    let Ok(RtcpPacket::Remb(remb)) = only(&datagram) else {
        panic!("not a REMB")
    };
    assert_eq!(remb.bitrate_bps, 0);
    body[12] = 2;
    assert!(only(&packet(0x8f, PT_PSFB, &body)).is_err());
}

#[test]
fn cumulative_loss_is_signed() {
    let mut body = vec![0; 28];
    body[9..12].copy_from_slice(&[0xff, 0xff, 0xfe]);
    let datagram = packet(0x81, PT_RR, &body);
    let Ok(RtcpPacket::ReceiverReport(report)) = only(&datagram) else {
        panic!("not an RR")
    };
    assert_eq!(report.report_blocks().next().unwrap().cumulative_lost, -2);
}

#[test]
fn the_round_trip_is_what_was_not_spent_at_the_receiver() {
    let block = ReportBlock {
        last_sr: 0x0001_8000,
        delay_since_last_sr: 0x8000,
        ..ReportBlock::default()
    };
    // Sent at 1.5 s, held for half a second, back at 2.25 s.
    assert_eq!(block.round_trip_us(0x0000_0002_4000_0000), Some(250_000));
    assert_eq!(
        block.round_trip_us(0x0000_0001_c000_0000),
        None,
        "held longer than it was away"
    );
    assert_eq!(
        ReportBlock::default().round_trip_us(1 << 40),
        None,
        "no sender report seen"
    );
}

#[test]
fn every_chunk_form_of_transport_feedback_is_read() {
    let chunks = [
        0b0_01_0000000000010,          // run of two small deltas
        0b1_0_01000000000000,          // one bit: lost, small, then past the count at the end
        0b1_1_10_00_00_00_00_00_00u16, // two bits: large
    ];
    let body = transport_cc(17, &chunks, &[4, 255, 1, 0xff, 0xf8]);
    let feedback = TransportCc::parse(&body).unwrap();
    assert_eq!(feedback.reference_time_us(), -128_000);
    assert_eq!(feedback.feedback_packet_count, 5);
    let statuses: Vec<_> = feedback
        .statuses()
        .map(|status| (status.sequence_number, status.delta_us))
        .collect();
    let mut expected = vec![
        (65534, Some(1000)),
        (65535, Some(63_750)),
        (0, None),
        (1, Some(250)),
    ];
    expected.extend((2..14).map(|seq| (seq, None)));
    expected.push((14, Some(-2000)));
    assert_eq!(statuses, expected);
    let received: Vec<_> = feedback.received().collect();
    assert_eq!(
        received,
        [(65534, 1000), (65535, 63_750), (1, 250), (14, -2000)]
    );
}

#[test]
fn malformed_transport_feedback_is_refused() {
    let large = 0b0_10_0000000000001;
    assert!(TransportCc::parse(&transport_cc(1, &[large], &[1, 2])).is_some());
    assert!(
        TransportCc::parse(&transport_cc(1, &[large], &[1])).is_none(),
        "delta cut"
    );
    assert!(
        TransportCc::parse(&transport_cc(2, &[large], &[1])).is_none(),
        "chunk missing"
    );
    let reserved = 0b0_11_0000000000001;
    assert!(
        TransportCc::parse(&transport_cc(1, &[reserved], &[1, 2])).is_none(),
        "reserved"
    );
    let reserved = 0b1_1_00_11_00_00_00_00_00;
    assert!(
        TransportCc::parse(&transport_cc(2, &[reserved], &[1, 2])).is_none(),
        "reserved"
    );
    assert!(
        TransportCc::parse(&transport_cc(1, &[reserved], &[])).is_some(),
        "past the count"
    );
    assert!(TransportCc::parse(&transport_cc(1, &[large], &[1, 2])[..15]).is_none());
}

#[test]
fn long_runs_of_lost_packets_are_passed_over_at_once() {
    let lost = 0x1fff;
    let small = 0b0_01_0000000000001;
    let empty = 0;
    let count = 3 * lost + 2;
    let chunks = [empty, lost, lost, small, lost, empty, small];
    let body = transport_cc(count, &chunks, &[1, 2]);
    let feedback = TransportCc::parse(&body).unwrap();
    let base = feedback.base_sequence_number;
    assert_eq!(
        feedback.received().collect::<Vec<_>>(),
        [
            (base.wrapping_add(2 * lost), 250),
            (base.wrapping_add(3 * lost + 1), 500)
        ]
    );
    assert_eq!(feedback.statuses().count(), usize::from(count));
}

/// Bytes that look like RTCP often enough to reach every parser.
fn plausible_rtcp() -> impl Strategy<Value = Vec<u8>> {
    let one = (
        0u8..32,
        any::<bool>(),
        prop_oneof![199u8..208, any::<u8>()],
        prop::collection::vec(any::<u8>(), 0..80),
        any::<bool>(),
    )
        .prop_map(|(count, padding, packet_type, mut body, remb)| {
            body.resize(body.len() / 4 * 4, 0);
            if remb && body.len() >= 16 {
                body[8..12].copy_from_slice(b"REMB");
                body[12] &= 3;
            }
            packet(0x80 | u8::from(padding) << 5 | count, packet_type, &body)
        });
    prop::collection::vec(one, 0..4).prop_map(|packets| packets.concat())
}

/// Reads everything a packet offers.
fn exhaust(packet: &RtcpPacket<'_>) -> usize {
    match packet {
        RtcpPacket::SenderReport(report) => report.report_blocks().count(),
        RtcpPacket::ReceiverReport(report) => report.report_blocks().count(),
        RtcpPacket::Bye(bye) => bye.ssrcs().count(),
        RtcpPacket::Nack(nack) => nack.sequence_numbers().count(),
        RtcpPacket::Pli(_) | RtcpPacket::Other { .. } => 0,
        RtcpPacket::Fir(fir) => fir.entries().count(),
        RtcpPacket::Remb(remb) => remb.ssrcs().count(),
        RtcpPacket::TransportCc(feedback) => {
            let statuses: Vec<_> = feedback.statuses().collect();
            assert_eq!(statuses.len(), usize::from(feedback.packet_status_count));
            let received: Vec<_> = statuses
                .iter()
                .filter_map(|status| Some((status.sequence_number, status.delta_us?)))
                .collect();
            assert_eq!(feedback.received().collect::<Vec<_>>(), received);
            received.len()
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        prop_assert!(Compound::new(&bytes).count() <= bytes.len().div_ceil(4));
    }

    #[test]
    fn plausible_packets_offer_no_more_than_they_hold(bytes in plausible_rtcp()) {
        for packet in Compound::new(&bytes).flatten() {
            prop_assert!(exhaust(&packet) <= 17 * bytes.len() / 4);
        }
    }

    #[test]
    fn transport_feedback_yields_as_many_as_it_counts(
        count in 0u16..600,
        chunks in prop::collection::vec(
            prop_oneof![0u16..0x40, 0x2000u16..0x2020, 0x4000u16..0x4020, any::<u16>()], 0..20),
        deltas in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let body = transport_cc(count, &chunks, &deltas);
        if let Some(feedback) = TransportCc::parse(&body) {
            exhaust(&RtcpPacket::TransportCc(feedback));
        }
    }
}
