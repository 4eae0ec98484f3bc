#![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

use std::collections::BTreeSet;

use ::rtcp::goodbye::Goodbye;
use ::rtcp::packet::Packet;
use ::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use ::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use ::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use ::rtcp::receiver_report::ReceiverReport;
use ::rtcp::reception_report::ReceptionReport;
use ::rtcp::sender_report::SenderReport;
use ::rtcp::source_description::{SdesType, SourceDescription};
use ::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use proptest::prelude::*;

use super::super::rtcp::{Compound, RtcpPacket};
use super::*;

/// What the `rtcp` crate reads from one packet that `write` wrote.
fn oracle<T: Packet + Clone + 'static>(
    write: impl FnOnce(&mut RtcpWriter<'_>) -> Result<(), RtcpWriteError>,
) -> T {
    let mut out = [0xaa; 1500];
    let mut writer = RtcpWriter::new(&mut out);
    write(&mut writer).unwrap();
    let mut bytes = writer.as_bytes();
    let packets = ::rtcp::packet::unmarshal(&mut bytes).unwrap();
    assert_eq!(packets.len(), 1);
    packets[0].as_any().downcast_ref::<T>().unwrap().clone()
}

/// The packets written, read by our own reader and handed to `check`.
fn read(
    write: impl FnOnce(&mut RtcpWriter<'_>) -> Result<(), RtcpWriteError>,
    check: impl FnOnce(&[RtcpPacket<'_>]),
) {
    let mut out = [0xaa; 1500];
    let mut writer = RtcpWriter::new(&mut out);
    write(&mut writer).unwrap();
    let packets: Vec<_> = Compound::new(writer.as_bytes())
        .map(Result::unwrap)
        .collect();
    check(&packets);
}

fn block() -> impl Strategy<Value = ReportBlock> {
    (
        any::<u32>(),
        any::<u8>(),
        -0x80_0000..=0x7f_ffff,
        any::<[u32; 4]>(),
    )
        .prop_map(
            |(ssrc, fraction_lost, cumulative_lost, [highest, jitter, last_sr, delay])| {
                ReportBlock {
                    ssrc,
                    fraction_lost,
                    cumulative_lost,
                    extended_highest_sequence_number: highest,
                    jitter,
                    last_sr,
                    delay_since_last_sr: delay,
                }
            },
        )
}

fn as_oracle(block: &ReportBlock) -> ReceptionReport {
    ReceptionReport {
        ssrc: block.ssrc,
        fraction_lost: block.fraction_lost,
        total_lost: block.cumulative_lost.cast_unsigned() & 0xff_ffff,
        last_sequence_number: block.extended_highest_sequence_number,
        jitter: block.jitter,
        last_sender_report: block.last_sr,
        delay: block.delay_since_last_sr,
    }
}

#[test]
fn a_compound_is_written_packet_by_packet() {
    let mut out = [0; 200];
    let mut writer = RtcpWriter::new(&mut out);
    writer.receiver_report(1, &[]).unwrap();
    writer.sdes_cname(1, b"fanmill").unwrap();
    writer.pli(1, 2).unwrap();
    writer.nack(1, 2, &[10, 11]).unwrap();
    let packets: Vec<_> = Compound::new(writer.as_bytes())
        .map(Result::unwrap)
        .collect();
    assert!(matches!(
        packets[..],
        [
            RtcpPacket::ReceiverReport(_),
            RtcpPacket::Other {
                packet_type: PT_SDES,
                count: 1
            },
            RtcpPacket::Pli(_),
            RtcpPacket::Nack(_)
        ]
    ));
    let len = writer.len();
    assert_eq!(
        ::rtcp::packet::unmarshal(&mut &out[..len]).unwrap().len(),
        4
    );
}

#[test]
fn what_does_not_fit_leaves_the_compound_as_it_was() {
    let mut out = [0; 23];
    let mut writer = RtcpWriter::new(&mut out);
    writer.pli(1, 2).unwrap();
    let before = writer.as_bytes().to_vec();
    let too_small = Err(RtcpWriteError::BufferTooSmall {
        needed: 12,
        left: 11,
    });
    assert_eq!(writer.pli(3, 4), too_small);
    assert!(
        writer
            .fir(
                3,
                &[FirEntry {
                    ssrc: 4,
                    sequence_number: 0
                }]
            )
            .is_err()
    );
    assert!(writer.sdes_cname(3, b"name").is_err());
    assert!(!writer.transport_cc(&mut TwccRecorder::new(), 3, 4));
    assert_eq!(writer.as_bytes(), before);
    writer.bye(&[7]).unwrap();
    assert_eq!(writer.len(), 20);
}

#[test]
fn lists_longer_than_their_count_field_are_refused() {
    let mut out = [0; 2000];
    let mut writer = RtcpWriter::new(&mut out);
    let too_many = Err(RtcpWriteError::TooMany { len: 32, max: 31 });
    assert_eq!(
        writer.receiver_report(1, &[ReportBlock::default(); 32]),
        too_many
    );
    assert_eq!(
        writer.sender_report(&SenderInfo::default(), &[ReportBlock::default(); 32]),
        too_many
    );
    assert_eq!(writer.bye(&[0; 32]), too_many);
    let too_many = Err(RtcpWriteError::TooMany { len: 256, max: 255 });
    assert_eq!(writer.sdes_cname(1, &[b'a'; 256]), too_many);
    assert_eq!(writer.remb(1, 1, &[0; 256]), too_many);
    assert!(writer.is_empty());
}

#[test]
fn a_nack_of_nothing_writes_nothing() {
    let mut out = [0; 40];
    let mut writer = RtcpWriter::new(&mut out);
    writer.nack(1, 2, &[]).unwrap();
    assert!(writer.is_empty());
}

#[test]
fn sorted_neighbours_share_a_nack_pair() {
    let mut out = [0; 40];
    let mut writer = RtcpWriter::new(&mut out);
    writer.nack(1, 2, &[65530, 65535, 0, 10, 11]).unwrap();
    assert_eq!(
        writer.len(),
        12 + 8,
        "65530 to 10 in one pair, 11 in the next"
    );
}

#[test]
fn loss_beyond_24_bits_is_clamped() {
    let blocks = [i32::MAX, i32::MIN].map(|cumulative_lost| ReportBlock {
        cumulative_lost,
        ..ReportBlock::default()
    });
    read(
        |writer| writer.receiver_report(1, &blocks),
        |packets| {
            let [RtcpPacket::ReceiverReport(report)] = packets else {
                panic!("{packets:?}")
            };
            let lost: Vec<_> = report.report_blocks().map(|b| b.cumulative_lost).collect();
            assert_eq!(lost, [0x7f_ffff, -0x80_0000]);
        },
    );
}

proptest! {
    #[test]
    fn reports_read_back_equal(
        blocks in prop::collection::vec(block(), 0..=MAX_COUNT),
        ntp_timestamp in any::<u64>(),
        [ssrc, rtp_timestamp, packet_count, octet_count] in any::<[u32; 4]>(),
    ) {
        let info = SenderInfo { ssrc, ntp_timestamp, rtp_timestamp, packet_count, octet_count };
        let expected: Vec<_> = blocks.iter().map(as_oracle).collect();
        let sr: SenderReport = oracle(|writer| writer.sender_report(&info, &blocks));
        prop_assert_eq!(
            (sr.ssrc, sr.ntp_time, sr.rtp_time, sr.packet_count, sr.octet_count),
            (ssrc, ntp_timestamp, rtp_timestamp, packet_count, octet_count)
        );
        prop_assert_eq!(&sr.reports, &expected);
        let rr: ReceiverReport = oracle(|writer| writer.receiver_report(ssrc, &blocks));
        prop_assert_eq!((rr.ssrc, &rr.reports), (ssrc, &expected));
        read(
            |writer| {
                writer.sender_report(&info, &blocks)?;
                writer.receiver_report(ssrc, &[])
            },
            |packets| {
                let [RtcpPacket::SenderReport(sr), RtcpPacket::ReceiverReport(rr)] = packets else {
                    panic!("{packets:?}")
                };
                assert_eq!(sr.info, info);
                assert_eq!(sr.report_blocks().collect::<Vec<_>>(), blocks);
                assert_eq!((rr.ssrc, rr.report_blocks().count()), (ssrc, 0));
            },
        );
    }

    #[test]
    fn names_and_goodbyes_read_back_equal(
        ssrc in any::<u32>(),
        cname in "[ -~]{0,255}",
        ssrcs in prop::collection::vec(any::<u32>(), 0..=MAX_COUNT),
    ) {
        let sdes: SourceDescription = oracle(|writer| writer.sdes_cname(ssrc, cname.as_bytes()));
        prop_assert_eq!(sdes.chunks.len(), 1);
        prop_assert_eq!(sdes.chunks[0].source, ssrc);
        prop_assert_eq!(sdes.chunks[0].items.len(), 1);
        prop_assert_eq!(sdes.chunks[0].items[0].sdes_type, SdesType::SdesCname);
        prop_assert_eq!(&sdes.chunks[0].items[0].text[..], cname.as_bytes());
        let bye: Goodbye = oracle(|writer| writer.bye(&ssrcs));
        prop_assert_eq!(&bye.sources, &ssrcs);
        read(|writer| writer.bye(&ssrcs), |packets| {
            let [RtcpPacket::Bye(bye)] = packets else { panic!("{packets:?}") };
            assert_eq!(bye.ssrcs().collect::<Vec<_>>(), ssrcs);
        });
    }

    #[test]
    fn nacks_name_exactly_the_missing_packets(
        start in any::<u16>(),
        steps in prop::collection::vec(0u16..40, 1..150),
        shuffled in any::<bool>(),
    ) {
        let mut missing: Vec<u16> = steps
            .iter()
            .scan(start, |seq, step| {
                *seq = seq.wrapping_add(*step);
                Some(*seq)
            })
            .collect();
        if shuffled {
            missing.reverse();
        }
        let expected: BTreeSet<u16> = missing.iter().copied().collect();
        let nack: TransportLayerNack = oracle(|writer| writer.nack(3, 4, &missing));
        prop_assert_eq!((nack.sender_ssrc, nack.media_ssrc), (3, 4));
        let listed: Vec<u16> = nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
        prop_assert_eq!(&listed.iter().copied().collect::<BTreeSet<_>>(), &expected);
        read(|writer| writer.nack(3, 4, &missing), |packets| {
            let [RtcpPacket::Nack(nack)] = packets else { panic!("{packets:?}") };
            assert_eq!((nack.sender_ssrc, nack.media_ssrc), (3, 4));
            assert_eq!(nack.sequence_numbers().collect::<Vec<_>>(), listed);
        });
    }

    #[test]
    fn keyframe_requests_read_back_equal(
        [sender_ssrc, media_ssrc] in any::<[u32; 2]>(),
        entries in prop::collection::vec((any::<u32>(), any::<u8>()), 0..20),
    ) {
        let pli: PictureLossIndication = oracle(|writer| writer.pli(sender_ssrc, media_ssrc));
        prop_assert_eq!((pli.sender_ssrc, pli.media_ssrc), (sender_ssrc, media_ssrc));
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(ssrc, sequence_number)| FirEntry { ssrc, sequence_number })
            .collect();
        let fir: FullIntraRequest = oracle(|writer| writer.fir(sender_ssrc, &entries));
        prop_assert_eq!((fir.sender_ssrc, fir.media_ssrc), (sender_ssrc, 0));
        let listed: Vec<_> = fir
            .fir
            .iter()
            .map(|entry| FirEntry { ssrc: entry.ssrc, sequence_number: entry.sequence_number })
            .collect();
        prop_assert_eq!(&listed, &entries);
        read(|writer| writer.fir(sender_ssrc, &entries), |packets| {
            let [RtcpPacket::Fir(fir)] = packets else { panic!("{packets:?}") };
            assert_eq!(fir.sender_ssrc, sender_ssrc);
            assert_eq!(fir.entries().collect::<Vec<_>>(), entries);
        });
    }

    #[test]
    fn bitrates_read_back_rounded_to_18_bits(
        bitrate_bps in prop_oneof![0u64..1 << 20, any::<u64>(), Just(u64::MAX), Just(1 << 18)],
        ssrcs in prop::collection::vec(any::<u32>(), 0..=255),
    ) {
        let shift = (64 - bitrate_bps.leading_zeros()).saturating_sub(18);
        let rounded = bitrate_bps >> shift << shift;
        let remb: ReceiverEstimatedMaximumBitrate =
            oracle(|writer| writer.remb(9, bitrate_bps, &ssrcs));
        prop_assert_eq!((remb.sender_ssrc, &remb.ssrcs), (9, &ssrcs));
        if rounded != 0 {
            // The oracle reads a mantissa of zero as a tiny number.
            prop_assert_eq!(remb.bitrate, rounded as f32);
        }
        read(|writer| writer.remb(9, bitrate_bps, &ssrcs), |packets| {
            let [RtcpPacket::Remb(remb)] = packets else { panic!("{packets:?}") };
            assert_eq!((remb.sender_ssrc, remb.bitrate_bps), (9, rounded));
            assert_eq!(remb.ssrcs().collect::<Vec<_>>(), ssrcs);
        });
    }
}
