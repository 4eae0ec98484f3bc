use super::*;

/// Sequence headers from libaom and rav1e, with their OBU header and size, and the beginning
/// of the frame after.
const LIBAOM: &str = "0a0b00000024c6abdd36be4010";
const RAV1E: &str = "0a0e000000fa6355ee8842a204040428";
const FRAME: &str = "32e75a1400a0";

#[test]
fn a_new_coded_video_sequence_starts_a_keyframe() {
    assert!(is_keyframe_start(Codec::Av1, &hex("080a")));
    assert!(
        is_keyframe_start(Codec::Av1, &hex("780a")),
        "continued in the next packet"
    );
    assert!(!is_keyframe_start(Codec::Av1, &hex("100a")));
    assert!(
        !is_keyframe_start(Codec::Av1, &hex("880a")),
        "a continuation starts nothing"
    );
    assert!(
        !is_keyframe_start(Codec::Av1, &hex("08")),
        "nothing follows"
    );
}

#[test]
fn a_sequence_header_says_the_largest_size() {
    for obu in [LIBAOM, RAV1E] {
        let len = format!("{:02x}", obu.len() / 2);
        for payload in [
            format!("18{obu}"),
            format!("28{len}{obu}{FRAME}"),
            format!("08{len}{obu}06{FRAME}"),
            format!("08021200{len}{obu}06{FRAME}"),
            format!("18 08 {}", &obu[4..]).replace(' ', ""),
        ] {
            let payload = hex(&payload);
            assert_eq!(
                resolution(Codec::Av1, &payload),
                size(854, 478),
                "{payload:02x?}"
            );
        }
    }
    let delta_frame = hex(&format!("10{LIBAOM}"));
    assert_eq!(resolution(Codec::Av1, &delta_frame), None);
    assert_eq!(
        resolution(Codec::Av1, &hex(&format!("18{}", &LIBAOM[..16]))),
        None,
        "cut"
    );
}

#[test]
fn timing_and_operating_points_are_passed_over() {
    // Aggregation header; sequence header OBU with an extension and no size.
    let mut fields: Bits = vec![(0x18, 8), (0x0c, 8), (0x40, 8)];
    // Profile 0, no still picture; timing with an equal picture interval of uvlc 4.
    fields.extend([
        (0, 3),
        (0, 2),
        (1, 1),
        (1, 32),
        (30, 32),
        (1, 1),
        (0b00101, 5),
    ]);
    // Decoder model with delays of 10 bits.
    fields.extend([(1, 1), (9, 5), (7, 32), (3, 5), (4, 5)]);
    // Initial display delay; two operating points, the first with everything.
    fields.extend([(1, 1), (1, 5)]);
    fields.extend([
        (0x101, 12),
        (8, 5),
        (1, 1),
        (1, 1),
        (5, 10),
        (6, 10),
        (0, 1),
        (1, 1),
        (9, 4),
    ]);
    fields.extend([(0x100, 12), (7, 5), (0, 1), (0, 1)]);
    // Sizes of 11 and 10 bits.
    fields.extend([(10, 4), (9, 4), (1279, 11), (719, 10)]);
    assert_eq!(resolution(Codec::Av1, &pack(&fields)), size(1280, 720));
    let still: Bits = vec![
        (0x1808, 16),
        (0, 3),
        (3, 2),
        (0, 5),
        (5, 4),
        (5, 4),
        (31, 6),
        (15, 6),
    ];
    assert_eq!(resolution(Codec::Av1, &pack(&still)), size(32, 16));
}
