#![allow(clippy::unwrap_used)] // a failed unwrap is the failed test

use bytes::Bytes;
use fanmill_engine::packet::codec;
use proptest::prelude::*;
use rtp::codecs::h264::H264Packet;
use rtp::codecs::h265::{H265Packet, H265Payload};
use rtp::codecs::vp8::Vp8Packet;
use rtp::codecs::vp9::Vp9Packet;
use rtp::packetizer::Depacketizer;

use super::*;

fn packetized(format: Format, unit: &[u8], is_keyframe: bool) -> Vec<Bytes> {
    let mut payloads = Payloads::default();
    let codec = format.codec();
    let mut packetizer = Packetizer::new(format, 0x7ffe);
    packetizer
        .packetize(unit, is_keyframe, &mut payloads)
        .unwrap();
    let all: Vec<_> = payloads.iter().map(Bytes::copy_from_slice).collect();
    assert!(
        all.iter()
            .all(|payload| (1..=MAX_PAYLOAD_BYTES).contains(&payload.len()))
    );
    if codec.kind() == codec::MediaKind::Video {
        assert_eq!(
            codec::is_keyframe_start(codec, &all[0]),
            is_keyframe,
            "{codec:?}"
        );
    }
    all
}

fn avcc_depacketizer() -> H264Packet {
    let mut depacketizer = H264Packet::default();
    depacketizer.is_avc = true;
    depacketizer
}

fn avcc(nals: &[Vec<u8>]) -> Vec<u8> {
    let mut unit = Vec::new();
    for nal in nals {
        unit.extend((nal.len() as u32).to_be_bytes());
        unit.extend_from_slice(nal);
    }
    unit
}

/// NAL units with this header, of various lengths.
fn nals(header: &'static [u8]) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 4..40),
        prop::collection::vec(any::<u8>(), 1000..4000),
    ];
    let nal = body.prop_map(move |body| [header, &body].concat());
    prop::collection::vec(nal, 1..12)
}

proptest! {
    #[test]
    fn h264_comes_back(nals in nals(&[0x65])) {
        let sets = vec![vec![0x67, 0x42, 0xe0, 0x1f], vec![0x68, 0xce, 0x3c, 0x80]];
        let format = Format::H264 { length_bytes: 4, parameter_sets: sets.clone() };
        let mut depacketizer = avcc_depacketizer();
        let mut back = Vec::new();
        for payload in packetized(format, &avcc(&nals), true) {
            back.extend(depacketizer.depacketize(&payload).unwrap());
        }
        prop_assert_eq!(back, avcc(&[sets, nals].concat()));
    }

    #[test]
    fn h265_comes_back(nals in nals(&[0x26, 0x01, 0x80])) {
        let sets = vec![vec![0x40, 1, 1], vec![0x42, 1, 2], vec![0x44, 1, 3]];
        let format = Format::H265 { length_bytes: 4, parameter_sets: sets.clone() };
        let mut back: Vec<Vec<u8>> = Vec::new();
        for payload in packetized(format, &avcc(&nals), true) {
            let mut packet = H265Packet::default();
            packet.depacketize(&payload).unwrap();
            match packet.payload() {
                H265Payload::H265SingleNALUnitPacket(_) => back.push(payload.to_vec()),
                H265Payload::H265AggregationPacket(all) => {
                    back.extend(all.first_unit().map(|unit| unit.nal_unit().to_vec()));
                    back.extend(all.other_units().iter().map(|unit| unit.nal_unit().to_vec()));
                }
                H265Payload::H265FragmentationUnitPacket(part) => {
                    if part.fu_header().s() {
                        let header = payload[0] & 0x81 | part.fu_header().fu_type() << 1;
                        back.push(vec![header, payload[1]]);
                    }
                    back.last_mut().unwrap().extend(part.payload());
                }
                H265Payload::H265PACIPacket(_) => prop_assert!(false, "a PACI packet"),
            }
        }
        prop_assert_eq!(back, [sets, nals].concat());
    }

    #[test]
    fn vp8_comes_back(body in prop::collection::vec(any::<u8>(), 10..9000)) {
        let mut frame = body;
        // A keyframe: the lowest bit of the frame tag, and the start code.
        frame[0] &= !1;
        frame[3..6].copy_from_slice(&[0x9d, 0x01, 0x2a]);
        let mut back = Vec::new();
        for (index, payload) in packetized(Format::Vp8, &frame, true).iter().enumerate() {
            let mut packet = Vp8Packet::default();
            back.extend(packet.depacketize(payload).unwrap());
            prop_assert_eq!((packet.s, packet.picture_id), (u8::from(index == 0), 0x7ffe));
        }
        prop_assert_eq!(back, frame);
    }

    #[test]
    fn vp9_comes_back(frame in prop::collection::vec(any::<u8>(), 1..9000), is_keyframe: bool) {
        let all = packetized(Format::Vp9, &frame, is_keyframe);
        let mut back = Vec::new();
        for (index, payload) in all.iter().enumerate() {
            let mut packet = Vp9Packet::default();
            back.extend(packet.depacketize(payload).unwrap());
            prop_assert_eq!(packet.b, index == 0);
            prop_assert_eq!(packet.e, index + 1 == all.len());
            prop_assert_eq!(packet.p, !is_keyframe);
        }
        prop_assert_eq!(back, frame);
    }

    #[test]
    fn av1_comes_back(bodies in prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            prop::collection::vec(any::<u8>(), 900..5000),
        ], 1..10), has_extension: bool)
    {
        // A temporal delimiter, which is not sent; a sequence header; frames.
        let mut unit = vec![0x12, 0x00, 0x0a, 0x03, 1, 2, 3];
        let mut expected = vec![vec![0x08, 1, 2, 3]];
        for body in &bodies {
            let header: &[u8] = if has_extension { &[0x36, 0x20] } else { &[0x32] };
            unit.extend_from_slice(header);
            let mut len = body.len();
            while len >= 0x80 {
                unit.push((len & 0x7f) as u8 | 0x80);
                len >>= 7;
            }
            unit.push(len as u8);
            unit.extend_from_slice(body);
            expected.push([&[header[0] & !2], &header[1..], body].concat());
        }
        let payloads = packetized(Format::Av1 { configuration: Vec::new() }, &unit, true);
        prop_assert_eq!(reassemble(&payloads), expected);
    }

    #[test]
    fn no_unit_panics(unit in prop::collection::vec(any::<u8>(), 0..3000), is_keyframe: bool) {
        let sets = vec![vec![], vec![1]];
        for format in [
            Format::H264 { length_bytes: 4, parameter_sets: sets.clone() },
            Format::H264 { length_bytes: 1, parameter_sets: sets.clone() },
            Format::H265 { length_bytes: 2, parameter_sets: sets.clone() },
            Format::Vp8,
            Format::Vp9,
            Format::Av1 { configuration: vec![0x0a] },
            Format::Opus,
        ] {
            let mut payloads = Payloads::default();
            let done = Packetizer::new(format, 0).packetize(&unit, is_keyframe, &mut payloads);
            prop_assert_eq!(done.is_err(), payloads.is_empty());
            prop_assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD_BYTES));
        }
    }
}

/// OBUs by the rules of the AV1 payload format, 4.3 and 4.4: written apart from the packetizer.
fn reassemble(payloads: &[Bytes]) -> Vec<Vec<u8>> {
    let mut obus: Vec<Vec<u8>> = Vec::new();
    let mut is_open = false;
    for payload in payloads {
        let (header, mut rest) = (payload[0], &payload[1..]);
        assert_eq!(header >> 7 == 1, is_open, "Z agrees with the Y before it");
        assert_eq!(header >> 4 & 3, 0, "every element has a length");
        let mut continues = is_open;
        while !rest.is_empty() {
            let (mut len, mut shift) = (0, 0);
            loop {
                len |= usize::from(rest[0] & 0x7f) << shift;
                shift += 7;
                let is_last = rest[0] & 0x80 == 0;
                rest = &rest[1..];
                if is_last {
                    break;
                }
            }
            match continues {
                true => obus.last_mut().unwrap().extend_from_slice(&rest[..len]),
                false => obus.push(rest[..len].to_vec()),
            }
            continues = false;
            rest = &rest[len..];
        }
        is_open = header & 0x40 != 0;
    }
    assert!(!is_open, "the last payload is continued");
    obus
}

#[test]
fn parameter_sets_of_the_unit_itself_come_before_those_of_the_file() {
    let own = vec![
        vec![0x67, 1, 2, 3],
        vec![0x68, 1, 2],
        vec![0x65, 0x88, 0x80],
    ];
    let format = Format::H264 {
        length_bytes: 4,
        parameter_sets: vec![vec![0x67, 9, 9, 9]],
    };
    let payloads = packetized(format, &avcc(&own), true);
    let mut depacketizer = avcc_depacketizer();
    assert_eq!(depacketizer.depacketize(&payloads[0]).unwrap(), avcc(&own));
}

#[test]
fn an_opus_packet_that_fits_no_datagram_is_refused() {
    let mut payloads = Payloads::default();
    let mut packetizer = Packetizer::new(Format::Opus, 0);
    assert_eq!(
        packetizer.packetize(&[0; 1201], true, &mut payloads),
        Err(PacketizeError::TooLong(1201))
    );
}
