use super::*;

/// The first bytes of a keyframe and of the frame after it, from libvpx.
const KEYFRAME: &str = "7025019d012a5603de0100";
const DELTA_FRAME: &str = "d16100171110001ebb229c";

fn payload(descriptor: &str, frame: &str) -> Vec<u8> {
    [hex(descriptor), hex(frame)].concat()
}

#[test]
fn a_keyframe_starts_with_its_first_partition() {
    assert!(is_keyframe_start(Codec::Vp8, &payload("10", KEYFRAME)));
    assert!(is_keyframe_start(
        Codec::Vp8,
        &payload("90e0812c0720", KEYFRAME)
    ));
    assert!(
        !is_keyframe_start(Codec::Vp8, &payload("00", KEYFRAME)),
        "a continuation"
    );
    assert!(
        !is_keyframe_start(Codec::Vp8, &payload("11", KEYFRAME)),
        "another partition"
    );
    assert!(!is_keyframe_start(Codec::Vp8, &payload("10", DELTA_FRAME)));
    assert!(
        !is_keyframe_start(Codec::Vp8, &hex("10")),
        "no frame header"
    );
}

#[test]
fn a_keyframe_says_its_size() {
    assert_eq!(
        resolution(Codec::Vp8, &payload("10", KEYFRAME)),
        size(854, 478)
    );
    assert_eq!(resolution(Codec::Vp8, &payload("10", DELTA_FRAME)), None);
    assert_eq!(
        resolution(Codec::Vp8, &payload("10", "7025019d012b5603de01")),
        None
    );
    assert_eq!(
        resolution(Codec::Vp8, &payload("10", "7025019d012a5643de81")),
        size(854, 478)
    );
    assert_eq!(
        resolution(Codec::Vp8, &payload("10", "7025019d012a0000de01")),
        None
    );
}

#[test]
fn a_full_descriptor_is_read() {
    let descriptor = Vp8Descriptor::parse(&hex("b0f0812c07a5ff")).unwrap();
    assert_eq!(
        descriptor,
        Vp8Descriptor {
            non_reference: true,
            start_of_partition: true,
            partition_index: 0,
            picture_id: Some(0x12c),
            long_picture_id: true,
            tl0_pic_idx: Some(7),
            temporal_id: Some(2),
            layer_sync: true,
            len: 6,
        }
    );
    let short = Vp8Descriptor::parse(&hex("80802c")).unwrap();
    assert_eq!(
        (short.picture_id, short.long_picture_id, short.len),
        (Some(0x2c), false, 3)
    );
    let key_index_only = Vp8Descriptor::parse(&hex("80103f")).unwrap();
    assert_eq!((key_index_only.temporal_id, key_index_only.len), (None, 3));
}

#[test]
fn a_descriptor_cut_anywhere_is_refused() {
    let descriptor = hex("b0f0812c07a5");
    for len in 0..descriptor.len() {
        assert_eq!(Vp8Descriptor::parse(&descriptor[..len]), None);
    }
    assert!(Vp8Descriptor::parse(&descriptor).is_some());
}
