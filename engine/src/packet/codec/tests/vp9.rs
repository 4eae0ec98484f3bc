use super::*;

/// The first bytes of keyframes from libvpx, of profile 0, of profile 3 and of profile 1 in
/// RGB; and of an inter frame.
const KEYFRAME: &str = "824983420035501dd60638";
const KEYFRAME_10_BIT_444: &str = "b124c1a10001aa80eeb041";
const KEYFRAME_RGB: &str = "a2498342e035501dd60438";
const INTER_FRAME: &str = "86004092f0e1400400ee7f";

fn payload(descriptor: &str, frame: &str) -> Vec<u8> {
    [hex(descriptor), hex(frame)].concat()
}

#[test]
fn a_keyframe_starts_without_prediction_in_the_lowest_layer() {
    for (descriptor, start, why) in [
        ("08", true, "no picture id, no layers"),
        ("8c8123", true, "picture id of 15 bits"),
        ("a8050005", true, "layer indices, spatial layer 0"),
        ("b80500", true, "flexible mode"),
        ("a8050207", false, "spatial layer 1"),
        ("c805", false, "predicted"),
        ("8005", false, "not the beginning"),
    ] {
        let payload = payload(descriptor, KEYFRAME);
        assert_eq!(is_keyframe_start(Codec::Vp9, &payload), start, "{why}");
    }
    assert!(!is_keyframe_start(Codec::Vp9, &hex("08")), "no frame");
}

#[test]
fn a_keyframe_says_its_size() {
    assert_eq!(
        resolution(Codec::Vp9, &payload("08", KEYFRAME)),
        size(854, 478)
    );
    assert_eq!(
        resolution(Codec::Vp9, &payload("08", KEYFRAME_10_BIT_444)),
        size(854, 478)
    );
    assert_eq!(
        resolution(Codec::Vp9, &payload("08", KEYFRAME_RGB)),
        size(854, 478)
    );
    assert_eq!(resolution(Codec::Vp9, &payload("08", INTER_FRAME)), None);
    assert_eq!(
        resolution(Codec::Vp9, &payload("00", KEYFRAME)),
        None,
        "not the beginning"
    );
}

#[test]
fn a_scalability_structure_says_the_size_of_the_highest_layer() {
    // Three layers with sizes, and two pictures in the group.
    let structure = "58014000b4028001680500 02d0 02 08 02 04 01".replace(' ', "");
    let payload = payload("aa050005", &(structure + KEYFRAME));
    let descriptor = Vp9Descriptor::parse(&payload).unwrap();
    assert_eq!(descriptor.spatial_layers, Some(3));
    assert_eq!(descriptor.resolution, size(1280, 720));
    assert_eq!(&payload[descriptor.len..], hex(KEYFRAME));
    assert_eq!(resolution(Codec::Vp9, &payload), size(1280, 720));
    assert!(is_keyframe_start(Codec::Vp9, &payload));
    for len in 0..descriptor.len {
        assert_eq!(Vp9Descriptor::parse(&payload[..len]), None, "cut at {len}");
    }
}

#[test]
fn a_full_descriptor_is_read() {
    let descriptor = Vp9Descriptor::parse(&hex("ed9234750799")).unwrap();
    assert_eq!(
        descriptor,
        Vp9Descriptor {
            picture_id: Some(0x1234),
            inter_picture_predicted: true,
            flexible_mode: false,
            start_of_frame: true,
            end_of_frame: true,
            not_a_reference_for_upper_layers: true,
            temporal_id: Some(3),
            switching_up_point: true,
            spatial_id: Some(2),
            inter_layer_predicted: true,
            tl0_pic_idx: Some(7),
            spatial_layers: None,
            resolution: None,
            resolutions: [None; 8],
            len: 5,
        }
    );
    let flexible = Vp9Descriptor::parse(&hex("f0057503050499")).unwrap();
    assert_eq!(
        (flexible.picture_id, flexible.tl0_pic_idx, flexible.len),
        (Some(5), None, 6)
    );
}
