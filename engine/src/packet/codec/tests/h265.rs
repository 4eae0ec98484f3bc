use super::*;

/// From x265: 854x478 main, and range extensions 4:4:4 with two sub-layers.
const VPS: &str = "40010c01ffff01600000030090000003000003005a959809";
const SPS: &str =
    "42010101600000030090000003000003005aa006b201e1d565959a4932bc05a020000003002000000300a1";
const SPS_444: &str =
    "4201020408000003009e0800000300005a00009000d6403c3bbcb2b3159a4932bc05a020000003002000000300a1";
const PPS: &str = "4401c172b46240";
const IDR_FIRST_SLICE: &str = "2801af2440d3";
const SLICE: &str = "0201d0097e10";

fn aggregation(nals: &[&str]) -> Vec<u8> {
    let mut payload = vec![0x60, 0x01];
    for nal in nals.iter().map(|nal| hex(nal)) {
        payload.extend((nal.len() as u16).to_be_bytes());
        payload.extend(nal);
    }
    payload
}

#[test]
fn a_keyframe_starts_with_its_parameters_or_its_first_slice() {
    for (payload, start) in [
        (hex(VPS), true),
        (hex(SPS), true),
        (hex(PPS), false),
        (hex(IDR_FIRST_SLICE), true),
        (hex("28012f2440d3"), false),
        (hex("2a01af2440d3"), true),
        (hex(SLICE), false),
        (aggregation(&[VPS, SPS, PPS]), true),
        (aggregation(&[PPS, SLICE]), false),
        (hex("620194af24"), true),
        (hex("620195af24"), true),
        (hex("6201942f24"), false),
        (hex("620114af24"), false),
        (hex("620181d009"), false),
        (hex("2801"), false),
        (hex("28"), false),
        (hex("6201"), false),
    ] {
        assert_eq!(
            is_keyframe_start(Codec::H265, &payload),
            start,
            "{payload:02x?}"
        );
    }
}

#[test]
fn real_parameter_sets_say_their_cropped_size() {
    assert_eq!(resolution(Codec::H265, &hex(SPS)), size(854, 478));
    assert_eq!(resolution(Codec::H265, &hex(SPS_444)), size(854, 478));
    assert_eq!(
        resolution(Codec::H265, &aggregation(&[VPS, SPS])),
        size(854, 478)
    );
    assert_eq!(resolution(Codec::H265, &hex(VPS)), None);
    assert_eq!(resolution(Codec::H265, &hex(&SPS[..30])), None, "cut");
}

#[test]
fn sub_layers_are_passed_over() {
    let mut fields: Bits = vec![(0x4201, 16), (0, 4), (2, 3), (1, 1)];
    // General profile and level, none of it zero, so that nothing needs escaping.
    fields.extend([(u64::MAX, 48), (u64::MAX, 48)]);
    // Two sub-layers: profile and level, level only; six reserved places.
    fields.extend([(0b11_01, 4), (0, 12)]);
    fields.extend([(u64::MAX, 48), (u64::MAX, 48), (u64::MAX, 8)]);
    // Id, chroma 4:2:2, size, conformance window.
    fields.extend([
        ue(0),
        ue(2),
        ue(1288),
        ue(728),
        (1, 1),
        ue(1),
        ue(3),
        ue(2),
        ue(6),
    ]);
    fields.push((1, 1));
    assert_eq!(resolution(Codec::H265, &pack(&fields)), size(1280, 720));
}
