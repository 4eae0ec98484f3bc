#![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

use proptest::prelude::*;

use super::super::extension::elements;
use super::super::rtp::RtpHeader;
use super::*;

fn map(ids: &[(Extension, u8)]) -> ExtensionMap {
    let mut map = ExtensionMap::new();
    for &(extension, id) in ids {
        map.insert(extension, id).unwrap();
    }
    map
}

/// A received packet in two-byte form with these elements, and where they are.
fn source(values: &[(Extension, &[u8])]) -> (Vec<u8>, Extensions) {
    let mut ids = ExtensionMap::new();
    let mut block = vec![];
    for &(extension, value) in values {
        let id = 20 + extension as u8;
        ids.insert(extension, id).unwrap();
        block.extend([id, value.len() as u8]);
        block.extend(value);
    }
    // An element nobody knows.
    block.extend([250, 1, 0xee]);
    block.resize(block.len().next_multiple_of(4), 0);
    let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0x10, 0];
    packet.extend((block.len() as u16 / 4).to_be_bytes());
    packet.extend(block);
    let extensions = Extensions::parse(&packet, &RtpHeader::parse(&packet).unwrap(), &ids);
    (packet, extensions)
}

fn read(header: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let parsed = RtpHeader::parse(header).unwrap();
    assert_eq!(parsed.header_len, header.len());
    elements(header, &parsed)
        .map(|element| (element.id, element.data.to_vec()))
        .collect()
}

fn every_value() -> Vec<(Extension, &'static [u8])> {
    vec![
        (Extension::Mid, b"pub"),
        (Extension::Rid, b"hi"),
        (Extension::RepairedRid, b"hi"),
        (Extension::AbsSendTime, &[9, 9, 9]),
        (Extension::TransportWideCc, &[8, 8]),
        (Extension::AudioLevel, &[0x85]),
        (Extension::VideoOrientation, &[1]),
        (Extension::PlayoutDelay, &[1, 2, 3]),
        (Extension::AbsCaptureTime, &[1, 2, 3, 4, 5, 6, 7, 8]),
        (Extension::DependencyDescriptor, &[0xc0, 0, 1, 2]),
        (Extension::VideoLayersAllocation, &[0]),
    ]
}

#[test]
fn without_negotiated_extensions_the_header_is_twelve_bytes() {
    let (packet, extensions) = source(&every_value());
    let fields = Fields {
        payload_type: 111,
        marker: true,
        ..Fields::default()
    };
    let target = Target {
        extensions: &ExtensionMap::new(),
        mid: b"0",
        allow_two_byte: true,
    };
    let mut out = [0xff; 12];
    let template = HeaderTemplate::build(&mut out, &fields, &packet, &extensions, &target).unwrap();
    assert_eq!(template.len, 12);
    assert_eq!(out, [0x80, 0x80 | 111, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    patch(&mut out, 0x1234, 0x5678_9abc, 0xdef0_1234);
    let header = RtpHeader::parse(&out).unwrap();
    assert_eq!(
        (header.sequence_number, header.timestamp, header.ssrc),
        (0x1234, 0x5678_9abc, 0xdef0_1234)
    );
    assert!(header.marker && !header.padding);
}

#[test]
fn only_what_may_be_forwarded_is_forwarded_under_the_viewers_ids() {
    let (packet, extensions) = source(&every_value());
    let ids: Vec<_> = Extension::ALL.into_iter().zip(1..).collect();
    let fields = Fields {
        abs_send_time: Some(0x0a_0b0c),
        padding: true,
        ..Fields::default()
    };
    let map = map(&ids);
    let target = Target {
        extensions: &map,
        mid: b"v",
        allow_two_byte: false,
    };
    let mut out = [0; MAX_TEMPLATE_BYTES];
    let template = HeaderTemplate::build(&mut out, &fields, &packet, &extensions, &target).unwrap();
    let mut read = read(&out[..template.len]);
    read.sort();
    let id = |extension| map.id(extension).unwrap();
    let mut expected = vec![
        (id(Extension::Mid), b"v".to_vec()),
        (id(Extension::AbsSendTime), vec![0x0a, 0x0b, 0x0c]),
        (id(Extension::TransportWideCc), vec![0, 0]),
        (id(Extension::AudioLevel), vec![0x85]),
        (id(Extension::VideoOrientation), vec![1]),
        (id(Extension::PlayoutDelay), vec![1, 2, 3]),
        (id(Extension::AbsCaptureTime), vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (id(Extension::DependencyDescriptor), vec![0xc0, 0, 1, 2]),
    ];
    expected.sort();
    assert_eq!(read, expected);
    assert_eq!(out[0], 0xb0, "version 2, padding, extension, no CSRC");
    assert_eq!(out[12..14], [0xbe, 0xde]);
}

#[test]
fn the_transport_wide_number_is_patched_where_the_template_says() {
    let (packet, extensions) = source(&[]);
    let map = map(&[(Extension::Mid, 1), (Extension::TransportWideCc, 3)]);
    let target = Target {
        extensions: &map,
        mid: b"10",
        allow_two_byte: false,
    };
    let mut out = [0; 64];
    let template =
        HeaderTemplate::build(&mut out, &Fields::default(), &packet, &extensions, &target).unwrap();
    patch_transport_cc(&mut out, template.transport_cc_offset.unwrap(), 0xcafe);
    assert_eq!(
        read(&out[..template.len]),
        [(1, b"10".to_vec()), (3, vec![0xca, 0xfe])]
    );
    let before = out;
    patch_transport_cc(&mut out, u16::MAX, 1);
    assert_eq!(out, before);
}

#[test]
fn a_long_element_takes_the_two_byte_form_only_where_allowed() {
    let descriptor = [0x80; 40];
    let (packet, extensions) = source(&[
        (Extension::DependencyDescriptor, &descriptor),
        (Extension::AudioLevel, &[5]),
    ]);
    let map = map(&[
        (Extension::DependencyDescriptor, 9),
        (Extension::AudioLevel, 1),
    ]);
    let mut out = [0; 128];
    let mut build = |allow_two_byte| {
        let target = Target {
            extensions: &map,
            mid: b"",
            allow_two_byte,
        };
        let fields = Fields::default();
        let built =
            HeaderTemplate::build(&mut out, &fields, &packet, &extensions, &target).unwrap();
        (out[12..14].to_vec(), read(&out[..built.len]))
    };
    let (profile, elements) = build(true);
    assert_eq!(profile, [0x10, 0]);
    assert_eq!(elements, [(1, vec![5]), (9, descriptor.to_vec())]);
    let (profile, elements) = build(false);
    assert_eq!(profile, [0xbe, 0xde]);
    assert_eq!(elements, [(1, vec![5])]);
}

#[test]
fn an_id_above_14_takes_the_two_byte_form_only_where_allowed() {
    let (packet, extensions) = source(&[]);
    let map = map(&[(Extension::Mid, 15), (Extension::TransportWideCc, 2)]);
    let mut out = [0; 64];
    for (allow_two_byte, expected) in [
        (true, vec![(15, b"a".to_vec()), (2, vec![0, 0])]),
        (false, vec![(2, vec![0, 0])]),
    ] {
        let target = Target {
            extensions: &map,
            mid: b"a",
            allow_two_byte,
        };
        let fields = Fields::default();
        let built =
            HeaderTemplate::build(&mut out, &fields, &packet, &extensions, &target).unwrap();
        assert_eq!(read(&out[..built.len]), expected);
    }
}

#[test]
fn our_playout_delay_replaces_the_publishers() {
    let (packet, extensions) = source(&[(Extension::PlayoutDelay, &[1, 2, 3])]);
    let map = map(&[(Extension::PlayoutDelay, 6)]);
    let target = Target {
        extensions: &map,
        mid: b"",
        allow_two_byte: false,
    };
    let fields = Fields {
        playout_delay: Some(PlayoutDelay {
            min_ms: 0,
            max_ms: 40,
        }),
        ..Fields::default()
    };
    let mut out = [0; 32];
    let built = HeaderTemplate::build(&mut out, &fields, &packet, &extensions, &target).unwrap();
    assert_eq!(read(&out[..built.len]), [(6, vec![0, 0, 4])]);
}

#[test]
fn our_time_of_capture_is_written_where_the_publisher_gives_none() {
    let map = map(&[(Extension::AbsCaptureTime, 6)]);
    let target = Target {
        extensions: &map,
        mid: b"",
        allow_two_byte: false,
    };
    let fields = Fields {
        abs_capture_time: Some(0x0102_0304_0506_0708),
        ..Fields::default()
    };
    let theirs = [9; 8];
    let ours = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let given = [(Extension::AbsCaptureTime, &theirs[..])];
    let malformed = [(Extension::AbsCaptureTime, &theirs[1..])];
    for (values, expected) in [(&[][..], &ours[..]), (&malformed, &ours), (&given, &theirs)] {
        let (packet, extensions) = source(values);
        let mut out = [0; 40];
        let built =
            HeaderTemplate::build(&mut out, &fields, &packet, &extensions, &target).unwrap();
        assert_eq!(read(&out[..built.len]), [(6, expected.to_vec())]);
    }
}

#[test]
fn an_element_of_a_wrong_size_is_not_forwarded() {
    let (packet, extensions) = source(&[
        (Extension::AudioLevel, &[1, 2, 3, 4]),
        (Extension::VideoOrientation, &[]),
        (Extension::PlayoutDelay, &[1, 2]),
        (Extension::AbsCaptureTime, &[0; 9]),
        (Extension::DependencyDescriptor, &[0; 2]),
    ]);
    let map = map(&Extension::ALL.into_iter().zip(1..).collect::<Vec<_>>());
    let target = Target {
        extensions: &map,
        mid: b"",
        allow_two_byte: true,
    };
    let mut out = [0; MAX_TEMPLATE_BYTES];
    let built =
        HeaderTemplate::build(&mut out, &Fields::default(), &packet, &extensions, &target).unwrap();
    assert_eq!(
        read(&out[..built.len]),
        [(map.id(Extension::TransportWideCc).unwrap(), vec![0; 2])]
    );
}

#[test]
fn a_buffer_too_small_is_an_error() {
    let (packet, extensions) = source(&[]);
    let map = map(&[(Extension::TransportWideCc, 1)]);
    let target = Target {
        extensions: &map,
        mid: b"",
        allow_two_byte: false,
    };
    for len in 0..20 {
        let mut out = vec![0; len];
        assert_eq!(
            HeaderTemplate::build(&mut out, &Fields::default(), &packet, &extensions, &target),
            Err(HeaderError::BufferTooSmall { needed: 20, len })
        );
    }
}

proptest! {
    #[test]
    fn templates_read_back_as_what_was_chosen(
        ids in prop::collection::hash_set(1u8..=255, Extension::COUNT),
        small_ids in any::<bool>(),
        allow_two_byte in any::<bool>(),
        mid in prop::collection::vec(any::<u8>(), 0..300),
        descriptor in prop::collection::vec(any::<u8>(), 0..=255),
        level in any::<u8>(),
        send_time in prop::option::of(0u32..1 << 24),
    ) {
        let ids: Vec<u8> = if small_ids { (1..=11).collect() } else { ids.into_iter().collect() };
        let pairs: Vec<_> = Extension::ALL.into_iter().zip(ids).collect();
        let map = map(&pairs);
        let (packet, extensions) = source(&[
            (Extension::DependencyDescriptor, &descriptor),
            (Extension::AudioLevel, &[level]),
            (Extension::VideoLayersAllocation, &[1, 2]),
        ]);
        let target = Target { extensions: &map, mid: &mid, allow_two_byte };
        let fields = Fields { abs_send_time: send_time, ..Fields::default() };
        let mut out = [0xaa; MAX_TEMPLATE_BYTES];
        let built =
            HeaderTemplate::build(&mut out, &fields, &packet, &extensions, &target).unwrap();
        prop_assert_eq!(built.len % 4, 0);

        let mut wanted: Vec<(Extension, Vec<u8>)> =
            vec![(Extension::TransportWideCc, vec![0, 0]), (Extension::AudioLevel, vec![level])];
        if !mid.is_empty() {
            wanted.push((Extension::Mid, mid.clone()));
        }
        if descriptor.len() >= 3 {
            wanted.push((Extension::DependencyDescriptor, descriptor.clone()));
        }
        if let Some(time) = send_time {
            wanted.push((Extension::AbsSendTime, time.to_be_bytes()[1..].to_vec()));
        }
        let limit = if allow_two_byte { (255, 255) } else { (14, 16) };
        let mut expected: Vec<(u8, Vec<u8>)> = wanted
            .into_iter()
            .map(|(extension, value)| (map.id(extension).unwrap(), value))
            .filter(|(id, value)| *id <= limit.0 && value.len() <= limit.1)
            .collect();
        expected.sort();
        let mut read = read(&out[..built.len]);
        read.sort();
        prop_assert_eq!(read, expected);
    }
}
