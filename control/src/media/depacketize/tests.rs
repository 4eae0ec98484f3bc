//! Every depacketizer against payloads that follow its format, and against those that do not.

use proptest::prelude::*;

use super::nal::nals;
use super::*;

const VIDEO: [Codec; 5] = [Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9, Codec::Av1];

fn packet(codec: Codec, timestamp: u32, marker: bool, payload: &[u8]) -> Packet {
    Packet {
        index: 0,
        timestamp,
        marker,
        codec,
        payload: payload.to_vec(),
        arrival_us: 7,
    }
}

fn units(depacketizer: &mut Depacketizer, packets: &[Packet]) -> Vec<Unit> {
    packets
        .iter()
        .flat_map(|packet| depacketizer.push(packet).collect::<Vec<_>>())
        .collect()
}

/// STAP-A with parameter sets, then an IDR slice in two fragments.
fn h264_keyframe(timestamp: u32) -> Vec<Packet> {
    let sets = [24, 0, 4, 0x67, 0x42, 0, 0x1f, 0, 2, 0x68, 0xce];
    vec![
        packet(Codec::H264, timestamp, false, &sets),
        packet(Codec::H264, timestamp, false, &[0x7c, 0x85, 0x88, 1]),
        packet(Codec::H264, timestamp, true, &[0x7c, 0x45, 2, 3]),
    ]
}

#[test]
fn an_h264_keyframe_is_joined_from_aggregate_and_fragments() {
    let all = units(&mut Depacketizer::new(), &h264_keyframe(90));
    assert_eq!(all.len(), 1);
    assert!(all[0].keyframe);
    assert_eq!(all[0].timestamp, 90);
    let parts: Vec<&[u8]> = nals(&all[0].data).collect();
    let expected: [&[u8]; 3] = [
        &[0x67, 0x42, 0, 0x1f],
        &[0x68, 0xce],
        &[0x65, 0x88, 1, 2, 3],
    ];
    assert_eq!(parts, expected);
}

#[test]
fn a_keyframe_after_a_delimiter_in_a_packet_of_its_own_is_a_beginning() {
    let mut packets = vec![
        packet(Codec::H264, 90, false, &[0x41, 0x9a, 1]),
        packet(Codec::H264, 3090, false, &[9, 0xf0]),
        packet(Codec::H264, 3090, false, &[6, 5, 0]),
    ];
    packets.extend(h264_keyframe(3090));
    let all = units(&mut Depacketizer::new(), &packets);
    assert_eq!(all.len(), 1);
    assert!(all[0].keyframe);
    let mut depacketizer = Depacketizer::new();
    units(&mut depacketizer, &packets[1..2]);
    // The rest of a picture is none, though nothing before it was skipped but a delimiter.
    depacketizer.gap();
    assert_eq!(units(&mut depacketizer, &packets[5..]), []);
}

#[test]
fn a_keyframe_without_parameter_sets_is_given_the_latest() {
    let mut depacketizer = Depacketizer::new();
    units(&mut depacketizer, &h264_keyframe(0));
    let idr = packet(Codec::H264, 3000, true, &[0x65, 0x88, 9]);
    let all = units(&mut depacketizer, &[idr]);
    let types: Vec<u8> = nals(&all[0].data).map(|nal| nal[0] & 0x1f).collect();
    assert_eq!(types, [7, 8, 5]);
}

#[test]
fn video_is_left_out_from_a_gap_to_the_next_keyframe() {
    let mut depacketizer = Depacketizer::new();
    assert_eq!(units(&mut depacketizer, &h264_keyframe(0)).len(), 1);
    let slice = |timestamp| packet(Codec::H264, timestamp, true, &[0x41, 0x9a, 1]);
    assert_eq!(units(&mut depacketizer, &[slice(3000)]).len(), 1);
    depacketizer.gap();
    assert_eq!(units(&mut depacketizer, &[slice(9000), slice(12_000)]), []);
    assert!(depacketizer.is_awaiting_keyframe());
    assert_eq!(units(&mut depacketizer, &h264_keyframe(15_000)).len(), 1);
    assert_eq!(depacketizer.interruptions(), 1);
}

#[test]
fn a_gap_in_a_keyframe_does_not_let_its_rest_pass_for_one() {
    let mut depacketizer = Depacketizer::new();
    let keyframe = h264_keyframe(0);
    units(&mut depacketizer, &keyframe[..1]);
    depacketizer.gap();
    assert_eq!(units(&mut depacketizer, &keyframe[2..]), []);
}

#[test]
fn a_gap_of_padding_between_vp8_pictures_is_harmless() {
    // X, S; I with seven bits of picture id; the frame.
    let picture = |id: u8, timestamp, first| {
        packet(Codec::Vp8, timestamp, true, &[0x90, 0x80, id, first, 0, 0])
    };
    let mut depacketizer = Depacketizer::new();
    assert_eq!(units(&mut depacketizer, &[picture(127, 0, 0)]).len(), 1);
    depacketizer.gap();
    assert_eq!(units(&mut depacketizer, &[picture(0, 3000, 1)]).len(), 1);
    depacketizer.gap();
    assert_eq!(units(&mut depacketizer, &[picture(2, 9000, 1)]), []);
}

#[test]
fn spatial_layers_of_vp9_become_a_superframe() {
    // L, B and E; layer indices; TL0PICIDX; the frame.
    let base = packet(Codec::Vp9, 0, false, &[0x2c, 0x00, 0, 0x82, 1, 2]);
    let upper = packet(Codec::Vp9, 0, true, &[0x2c, 0x03, 0, 0x86, 3]);
    let all = units(&mut Depacketizer::new(), &[base, upper]);
    assert_eq!(all.len(), 1);
    assert!(all[0].keyframe);
    let marker = 0b1101_1001;
    let expected = [0x82, 1, 2, 0x86, 3, marker, 3, 0, 0, 0, 2, 0, 0, 0, marker];
    assert_eq!(all[0].data, expected);
}

#[test]
fn av1_obus_are_joined_and_given_sizes() {
    // Temporal delimiter, sequence header, then a frame that the next packet continues.
    let first = [0x48, 1, 0x10, 3, 0x08, 0xaa, 0xbb, 3, 0x30, 1, 2];
    let second = [0x90, 3, 4];
    let packets = [
        packet(Codec::Av1, 0, false, &first),
        packet(Codec::Av1, 0, true, &second),
    ];
    let all = units(&mut Depacketizer::new(), &packets);
    assert_eq!(all.len(), 1);
    assert!(all[0].keyframe);
    assert_eq!(all[0].data, [0x0a, 2, 0xaa, 0xbb, 0x32, 4, 1, 2, 3, 4]);
    assert_eq!(
        av1::sequence_header(&all[0].data),
        Some(&[0x0a, 2, 0xaa, 0xbb][..])
    );
}

#[test]
fn a_publisher_without_markers_is_understood() {
    let mut depacketizer = Depacketizer::new();
    let mut packets = h264_keyframe(0);
    packets[2].marker = false;
    packets.push(packet(Codec::H264, 3000, false, &[0x41, 0x9a, 1]));
    packets.push(packet(Codec::H264, 6000, false, &[0x41, 0x9a, 2]));
    let all = units(&mut depacketizer, &packets);
    let times: Vec<u32> = all.iter().map(|unit| unit.timestamp).collect();
    assert_eq!(times, [0, 3000]);
}

proptest! {
    /// Whatever comes, nothing panics, units have content, and NAL lengths cover the unit.
    #[test]
    fn no_payload_breaks_a_depacketizer(
        which in 0..VIDEO.len(),
        payloads in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..40), any::<bool>(), 0..3u32, any::<bool>()),
            0..60,
        ),
    ) {
        let codec = VIDEO[which];
        let mut depacketizer = Depacketizer::new();
        for (payload, marker, timestamp, gap) in payloads {
            if gap && marker {
                depacketizer.gap();
            }
            for unit in depacketizer.push(&packet(codec, timestamp, marker, &payload)) {
                prop_assert!(!unit.data.is_empty());
                if matches!(codec, Codec::H264 | Codec::H265) {
                    let covered: usize = nals(&unit.data).map(|nal| nal.len() + 4).sum();
                    prop_assert_eq!(covered, unit.data.len());
                }
                let _ = av1::sequence_header(&unit.data);
            }
        }
    }

    /// A NAL unit cut anywhere comes out whole.
    #[test]
    fn fragments_of_any_size_are_joined(
        body in proptest::collection::vec(any::<u8>(), 4..2000),
        size in 1..500usize,
    ) {
        let mut packets = h264_keyframe(0);
        packets.truncate(1);
        let chunks: Vec<&[u8]> = body.chunks(size).collect();
        prop_assume!(chunks.len() > 1);
        // A first macroblock of 0, or it would not be the beginning of a picture.
        for (position, chunk) in chunks.iter().enumerate() {
            let first = if position == 0 { 0x80 } else { 0 };
            let last = if position + 1 == chunks.len() { 0x40 } else { 0 };
            let mut payload = vec![0x7c, first | last | 5];
            payload.extend_from_slice(chunk);
            packets.push(packet(Codec::H264, 0, last != 0, &payload));
        }
        let all = units(&mut Depacketizer::new(), &packets);
        prop_assert_eq!(all.len(), 1);
        let slice = nals(&all[0].data).nth(2).map(<[u8]>::to_vec);
        let mut expected = vec![0x65];
        expected.extend_from_slice(&body);
        prop_assert_eq!(slice, Some(expected));
    }
}

/// AAC-hbr of 44.1 kHz.
fn aac_hbr() -> Mpeg4Depacketizer {
    Mpeg4Depacketizer::new(Mpeg4Layout {
        size_bits: 13,
        index_bits: 3,
        index_delta_bits: 3,
        frame_ticks: 1024,
    })
}

fn aac_hbr_payload(sizes: &[usize], body: &[u8]) -> Vec<u8> {
    let mut payload = (16 * sizes.len() as u16).to_be_bytes().to_vec();
    for &size in sizes {
        payload.extend_from_slice(&((size as u16) << 3).to_be_bytes());
    }
    payload.extend_from_slice(body);
    payload
}

#[test]
fn frames_of_aac_that_share_a_packet_follow_each_other() {
    let payload = aac_hbr_payload(&[2, 3], &[1, 2, 3, 4, 5]);
    let mut frames = Vec::new();
    let pushed = aac_hbr().push(&payload, u32::MAX, |at, frame| {
        frames.push((at, frame.to_vec()))
    });
    assert_eq!(pushed, Ok(()));
    assert_eq!(frames, [(u32::MAX, vec![1, 2]), (1023, vec![3, 4, 5])]);
}

#[test]
fn a_frame_of_aac_in_fragments_is_joined_and_one_with_a_gap_left_out() {
    let body: Vec<u8> = (0..250).collect();
    let parts: Vec<_> = body
        .chunks(100)
        .map(|part| aac_hbr_payload(&[250], part))
        .collect();
    let mut depacketizer = aac_hbr();
    let mut frames = Vec::new();
    for part in &parts {
        let pushed = depacketizer.push(part, 7, |at, frame| frames.push((at, frame.to_vec())));
        assert_eq!(pushed, Ok(()));
    }
    assert_eq!(frames, [(7, body)]);
    let mut late = Vec::new();
    for part in &parts[1..] {
        let _ = depacketizer.push(part, 8, |_, frame| late.push(frame.to_vec()));
    }
    let whole = aac_hbr_payload(&[1], &[9]);
    let pushed = depacketizer.push(&whole, 9, |_, frame| late.push(frame.to_vec()));
    assert_eq!((pushed, late), (Ok(()), vec![vec![9]]));
}

#[test]
fn interleaved_aac_is_refused() {
    let mut payload = aac_hbr_payload(&[1, 1], &[1, 2]);
    payload[5] |= 1;
    let given = aac_hbr().push(&payload, 0, |_, _| panic!("a frame came out"));
    assert_eq!(given, Err(Malformed));
}

/// The StreamMuxConfig of AAC-LC, 48 kHz, stereo, one frame an element (RFC 6416 7.1).
const LATM_CONFIG: [u8; 6] = [0x40, 0x00, 0x23, 0x20, 0x3f, 0xc0];

#[test]
fn latm_with_a_told_configuration_is_read() {
    let config = LatmConfig::parse(&LATM_CONFIG);
    let config = config.unwrap_or_else(|| panic!("the configuration was refused"));
    assert_eq!(config.config, [0x11, 0x90]);
    let mut latm = LatmDepacketizer::configured(config);
    let mut frames = Vec::new();
    let mut element = vec![255, 45];
    element.extend(std::iter::repeat_n(7_u8, 300));
    for (part, marker) in [(&element[..100], false), (&element[100..], true)] {
        let pushed = latm.push(part, (5, marker), |_, frame| frames.push(frame.len()));
        assert_eq!(pushed, Ok(()));
    }
    assert_eq!(frames, [300]);
    latm.gap();
    let tail = latm.push(&element[100..], (6, true), |_, _| panic!("half an element"));
    assert_eq!(tail, Ok(()));
}

proptest! {
    /// Whatever comes, the depacketizers of AAC do not panic and give no empty frame.
    #[test]
    fn no_payload_breaks_aac(
        payloads in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..60), 0..3u32, any::<bool>()),
            0..40,
        ),
        size_bits in 0..20u32,
    ) {
        let mut mpeg4 = Mpeg4Depacketizer::new(Mpeg4Layout {
            size_bits,
            index_bits: 2,
            index_delta_bits: 2,
            frame_ticks: 1024,
        });
        let mut latm = LatmDepacketizer::in_band();
        for (payload, timestamp, marker) in payloads {
            let _ = mpeg4.push(&payload, timestamp, |_, frame| assert!(!frame.is_empty()));
            let moment = (timestamp, marker);
            let _ = latm.push(&payload, moment, |_, frame| assert!(!frame.is_empty()));
        }
    }

    /// Frames of any sizes come out as they were put in, however they share packets.
    #[test]
    fn aac_of_any_size_comes_out(sizes in proptest::collection::vec(1..400usize, 1..10)) {
        let body: Vec<u8> = sizes.iter().enumerate().flat_map(|(n, &size)| vec![n as u8; size]).collect();
        let mut out = Vec::new();
        let payload = aac_hbr_payload(&sizes, &body);
        let pushed = aac_hbr().push(&payload, 0, |_, frame| out.push(frame.len()));
        prop_assert_eq!(pushed, Ok(()));
        prop_assert_eq!(out, sizes);
    }
}
