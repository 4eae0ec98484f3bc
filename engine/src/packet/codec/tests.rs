#![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

use proptest::prelude::*;

use super::*;

mod av1;
mod h264;
mod h265;
mod vp8;
mod vp9;

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

fn size(width: u32, height: u32) -> Option<Resolution> {
    Resolution::new(width, height)
}

/// Fields of a bitstream: value and size in bits.
type Bits = Vec<(u64, u32)>;

/// An unsigned Exp-Golomb code.
fn ue(value: u64) -> (u64, u32) {
    let code = value + 1;
    (code, 2 * (64 - code.leading_zeros()) - 1)
}

fn pack(fields: &Bits) -> Vec<u8> {
    let bits: Vec<bool> = fields
        .iter()
        .flat_map(|&(value, len)| (0..len).rev().map(move |bit| value >> bit & 1 != 0))
        .collect();
    bits.chunks(8)
        .map(|byte| {
            byte.iter()
                .enumerate()
                .fold(0, |sum, (i, &bit)| sum | u8::from(bit) << (7 - i))
        })
        .collect()
}

/// H.264 STAP-A of these NAL units.
fn stap_a(nals: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = vec![0x78];
    for nal in nals {
        payload.extend((nal.len() as u16).to_be_bytes());
        payload.extend(nal);
    }
    payload
}

#[test]
fn codecs_are_found_by_name_in_any_case() {
    for codec in Codec::ALL {
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
        assert_eq!(Codec::from_name(&codec.name().to_lowercase()), Some(codec));
    }
    assert_eq!(Codec::from_name("rtx"), None);
    assert_eq!(
        (Codec::Opus.kind(), Codec::Opus.clock_rate_hz()),
        (MediaKind::Audio, 48_000)
    );
    assert_eq!(
        (Codec::G722.kind(), Codec::G722.clock_rate_hz()),
        (MediaKind::Audio, 8_000)
    );
    assert_eq!(
        (Codec::Av1.kind(), Codec::Av1.clock_rate_hz()),
        (MediaKind::Video, 90_000)
    );
}

#[test]
fn audio_can_begin_with_any_packet() {
    assert!(is_keyframe_start(Codec::Opus, &[0xfc]));
    assert!(!is_keyframe_start(Codec::Opus, &[]));
    assert_eq!(resolution(Codec::Opus, &[0xfc]), None);
}

/// Payloads that begin like real ones and go on at random.
fn plausible_payload() -> impl Strategy<Value = Vec<u8>> {
    let beginnings = vec![
        "",
        "10",
        "90f0",
        "08",
        "aa05000558",
        "67640016",
        "78001b67",
        "7c85",
        "4201",
        "6001002a4201",
        "6201a1",
        "18",
        "080b0a",
        "18080a",
    ];
    (
        prop::sample::select(beginnings).prop_map(hex),
        prop::collection::vec(any::<u8>(), 0..120),
    )
        .prop_map(|(beginning, rest)| [beginning, rest].concat())
}

proptest! {
    #[test]
    fn no_payload_makes_any_codec_panic(payload in plausible_payload()) {
        for codec in Codec::ALL {
            prop_assert!(!is_keyframe_start(codec, &payload) || !payload.is_empty());
            if let Some(Resolution { width, height }) = resolution(codec, &payload) {
                prop_assert!(width > 0 && height > 0);
            }
        }
        if let Some(descriptor) = Vp8Descriptor::parse(&payload) {
            prop_assert!(descriptor.len <= payload.len());
        }
        if let Some(descriptor) = Vp9Descriptor::parse(&payload) {
            prop_assert!(descriptor.len <= payload.len());
        }
    }

    #[test]
    fn exp_golomb_codes_read_back(values in prop::collection::vec(0u64..u64::from(u32::MAX), 1..20)) {
        let fields: Bits = values.iter().map(|&value| ue(value)).collect();
        let bytes = pack(&fields);
        let mut reader = bits::BitReader::new(&bytes);
        for value in values {
            prop_assert_eq!(reader.ue().map(u64::from), Some(value));
        }
    }
}
