use super::*;

/// From x264: 854x478 high, high 4:4:4 and baseline; 1920x1080 interlaced.
const SPS: &str = "67640016acd940d83de6ac044000000300400000030283c58b6580";
const SPS_444: &str = "67f40016919b281b07bc5de022000003000200000300141e2c5b2c";
const SPS_BASELINE: &str = "6742c016d900d83de6ac044000000300400000030283c58b92";
const SPS_INTERLACED: &str = "67640028acd94078044fde022000000300200000030143e2c5b2c000";
const PPS: &str = "68ebe3cb22c0";
const IDR_FIRST_SLICE: &str = "6588843a0c60";
const IDR_SECOND_SLICE: &str = "65001fe22210";
const SLICE: &str = "419a216c457f";

#[test]
fn a_keyframe_starts_with_its_parameters_or_its_first_slice() {
    for (payload, start) in [
        (hex(SPS), true),
        (hex(IDR_FIRST_SLICE), true),
        (hex(IDR_SECOND_SLICE), false),
        (hex(SLICE), false),
        (hex(PPS), false),
        (stap_a(&[hex(SPS), hex(PPS)]), true),
        (
            stap_a(&[hex("0930"), hex(SPS), hex(PPS), hex(IDR_FIRST_SLICE)]),
            true,
        ),
        (stap_a(&[hex(PPS), hex(SLICE)]), false),
        (hex("7c85888407"), true),
        (hex("7c8500 1fe2".replace(' ', "").as_str()), false),
        (hex("7c05888407"), false),
        (hex("7c45888407"), false),
        (hex("7c819a21"), false),
        (hex("65"), false),
        (hex("7c85"), false),
        (hex("7c"), false),
        (hex(""), false),
    ] {
        assert_eq!(
            is_keyframe_start(Codec::H264, &payload),
            start,
            "{payload:02x?}"
        );
    }
}

#[test]
fn real_parameter_sets_say_their_cropped_size() {
    assert_eq!(resolution(Codec::H264, &hex(SPS)), size(854, 478));
    assert_eq!(resolution(Codec::H264, &hex(SPS_444)), size(854, 478));
    assert_eq!(resolution(Codec::H264, &hex(SPS_BASELINE)), size(854, 478));
    assert_eq!(
        resolution(Codec::H264, &hex(SPS_INTERLACED)),
        size(1920, 1080)
    );
    assert_eq!(
        resolution(Codec::H264, &stap_a(&[hex(PPS), hex(SPS)])),
        size(854, 478)
    );
    assert_eq!(resolution(Codec::H264, &hex(IDR_FIRST_SLICE)), None);
    assert_eq!(resolution(Codec::H264, &hex(&SPS[..20])), None, "cut");
}

/// A high profile SPS with scaling lists and picture order count type 1.
fn sps(width_mbs: u64, height_mbs: u64, crop: [u64; 4]) -> Vec<u8> {
    let mut fields: Bits = vec![(0x67, 8), (100, 8), (0, 8), (31, 8), ue(0)];
    // chroma 4:2:0, 8 bits, no bypass, scaling matrix present.
    fields.extend([ue(1), ue(0), ue(0), (0, 1), (1, 1)]);
    // A flat list of 16 (delta +8 -> code 15, then zeros), five absent ones.
    fields.extend([(1, 1), ue(15)]);
    fields.extend([ue(0); 15]);
    fields.extend([(0, 1); 5]);
    // A list of 64 that ends at once (delta -8 -> code 16), one absent one.
    fields.extend([(1, 1), ue(16), (0, 1)]);
    // log2_max_frame_num, picture order count type 1 with a cycle of two.
    fields.extend([ue(0), ue(1), (0, 1), ue(3), ue(4), ue(2), ue(7), ue(8)]);
    // One reference frame, no gaps.
    fields.extend([ue(1), (0, 1)]);
    fields.extend([
        ue(width_mbs - 1),
        ue(height_mbs - 1),
        (1, 1),
        (1, 1),
        (1, 1),
    ]);
    fields.extend(crop.map(ue));
    fields.extend([(0, 1), (1, 1)]);
    pack(&fields)
}

#[test]
fn scaling_lists_and_order_counts_are_passed_over() {
    assert_eq!(
        resolution(Codec::H264, &sps(120, 68, [0, 0, 0, 4])),
        size(1920, 1080)
    );
    assert_eq!(
        resolution(Codec::H264, &sps(45, 30, [3, 5, 1, 2])),
        size(704, 474)
    );
}

#[test]
fn an_absurd_size_is_none() {
    assert_eq!(resolution(Codec::H264, &sps(1 << 20, 1, [0; 4])), None);
    assert_eq!(
        resolution(Codec::H264, &sps(4, 4, [16, 16, 0, 0])),
        None,
        "cropped to nothing"
    );
    assert_eq!(
        resolution(Codec::H264, &sps(4, 4, [900, 900, 0, 0])),
        None,
        "and beyond"
    );
}
