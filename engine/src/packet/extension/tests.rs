#![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

use proptest::prelude::*;

use super::*;

/// A packet with this extension block, padded to whole words.
fn packet(profile: u16, elements: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    packet.extend(profile.to_be_bytes());
    packet.extend((elements.len().div_ceil(4) as u16).to_be_bytes());
    packet.extend(elements);
    packet.resize(packet.len().next_multiple_of(4), 0);
    packet.extend(b"payload");
    packet
}

fn read(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let header = RtpHeader::parse(packet).unwrap();
    elements(packet, &header)
        .map(|element| (element.id, element.data.to_vec()))
        .collect()
}

#[test]
fn one_byte_elements_and_padding_between_them_are_read() {
    let read = read(&packet(0xbede, &[0x10, 0xaa, 0, 0, 0x32, 1, 2, 3]));
    assert_eq!(read, [(1, vec![0xaa]), (3, vec![1, 2, 3])]);
}

#[test]
fn two_byte_elements_may_be_empty_and_have_large_ids() {
    let read = read(&packet(0x1005, &[200, 0, 0, 15, 2, 7, 8]));
    assert_eq!(read, [(200, vec![]), (15, vec![7, 8])]);
}

#[test]
fn reserved_ids_end_a_one_byte_extension() {
    assert_eq!(
        read(&packet(0xbede, &[0x10, 1, 0xf0, 2, 0x20, 3])),
        [(1, vec![1])]
    );
    assert_eq!(
        read(&packet(0xbede, &[0x10, 1, 0x01, 2, 3, 0x20, 3])),
        [(1, vec![1])]
    );
}

#[test]
fn an_element_that_overruns_its_extension_is_not_read() {
    assert_eq!(read(&packet(0xbede, &[0x10, 1, 0x2f, 2])), [(1, vec![1])]);
    assert_eq!(read(&packet(0x1000, &[1, 1, 9, 2])), [(1, vec![9])]);
    assert_eq!(
        read(&packet(0x1000, &[1, 1, 9, 2, 100, 0, 0, 0])),
        [(1, vec![9])]
    );
}

#[test]
fn an_unknown_form_has_no_elements() {
    assert!(read(&packet(0xbedf, &[0x10, 1, 0, 0])).is_empty());
    assert!(read(&packet(0x1010, &[1, 1, 1, 0])).is_empty());
}

#[test]
fn uris_name_their_extension_and_nothing_else() {
    for (index, extension) in Extension::ALL.into_iter().enumerate() {
        assert_eq!(extension as usize, index);
        assert_eq!(Extension::from_uri(extension.uri()), Some(extension));
    }
    assert_eq!(
        Extension::from_uri("urn:ietf:params:rtp-hdrext:toffset"),
        None
    );
    assert_eq!(Extension::from_uri(""), None);
}

#[test]
fn an_id_belongs_to_one_extension() {
    let mut map = ExtensionMap::new();
    assert_eq!(
        map.insert(Extension::Mid, 0),
        Err(ExtensionMapError::ReservedId)
    );
    map.insert(Extension::Mid, 4).unwrap();
    assert_eq!(
        map.insert(Extension::Rid, 4),
        Err(ExtensionMapError::DuplicateId {
            id: 4,
            used_by: Extension::Mid
        })
    );
    map.insert(Extension::Mid, 255).unwrap();
    map.insert(Extension::Rid, 4).unwrap();
    assert_eq!(map.extension(4), Some(Extension::Rid));
    assert_eq!(map.id(Extension::Mid), Some(255));
    assert_eq!(map.extension(0), None);
    assert_eq!(
        map.iter().collect::<Vec<_>>(),
        [(Extension::Mid, 255), (Extension::Rid, 4)]
    );
    map.remove(Extension::Mid);
    assert_eq!(map.extension(255), None);
}

#[test]
fn maps_negotiated_alike_are_equal_whatever_the_order() {
    let mut a = ExtensionMap::new();
    a.insert(Extension::Mid, 1).unwrap();
    a.insert(Extension::AudioLevel, 2).unwrap();
    let mut b = ExtensionMap::new();
    b.insert(Extension::AudioLevel, 2).unwrap();
    b.insert(Extension::Mid, 1).unwrap();
    assert_eq!(a, b);
}

#[test]
fn known_values_are_found_by_meaning() {
    let mut map = ExtensionMap::new();
    map.insert(Extension::TransportWideCc, 3).unwrap();
    map.insert(Extension::AbsSendTime, 2).unwrap();
    map.insert(Extension::AudioLevel, 1).unwrap();
    map.insert(Extension::PlayoutDelay, 5).unwrap();
    map.insert(Extension::Mid, 4).unwrap();
    let packet = packet(
        0xbede,
        &[
            0x10, 0x9e, 0x22, 1, 2, 3, 0x31, 0x12, 0x34, 0x40, b'7', 0x52, 0x00, 0xa0, 0x14, 0x60,
            9, 0x10, 0x00,
        ],
    );
    let header = RtpHeader::parse(&packet).unwrap();
    let found = Extensions::parse(&packet, &header, &map);
    assert_eq!(found.transport_wide_cc(&packet), Some(0x1234));
    assert_eq!(found.abs_send_time(&packet), Some(0x01_0203));
    assert_eq!(
        found.audio_level(&packet),
        Some((true, 30)),
        "the first of two counts"
    );
    assert_eq!(found.get(&packet, Extension::Mid), Some(&b"7"[..]));
    let delay = PlayoutDelay {
        min_ms: 100,
        max_ms: 200,
    };
    assert_eq!(found.playout_delay(&packet), Some(delay));
    assert_eq!(delay.to_bytes(), [0x00, 0xa0, 0x14]);
    assert_eq!(found.get(&packet, Extension::Rid), None);
}

#[test]
fn positions_used_on_a_shorter_packet_find_nothing() {
    let mut map = ExtensionMap::new();
    map.insert(Extension::Mid, 1).unwrap();
    let packet = packet(0xbede, &[0x12, 1, 2, 3]);
    let found = Extensions::parse(&packet, &RtpHeader::parse(&packet).unwrap(), &map);
    assert_eq!(found.get(&packet[..18], Extension::Mid), None);
}

#[test]
fn send_time_wraps_after_64_seconds() {
    assert_eq!(abs_send_time(1_000_000), 1 << 18);
    assert_eq!(abs_send_time(64_500_000), 1 << 17);
    assert!(abs_send_time(u64::MAX) < 1 << 24);
}

proptest! {
    #[test]
    fn arbitrary_extensions_yield_only_what_lies_inside(
        profile in prop_oneof![Just(0xbedeu16), 0x1000u16..=0x100f, any::<u16>()],
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        ids in prop::collection::vec(1u8..=255, Extension::COUNT),
    ) {
        let mut map = ExtensionMap::new();
        for (extension, id) in Extension::ALL.into_iter().zip(ids) {
            // Duplicates are refused; the others stay.
            let _ = map.insert(extension, id);
        }
        let packet = packet(profile, &bytes);
        let header = RtpHeader::parse(&packet).unwrap();
        for element in elements(&packet, &header) {
            let start = usize::from(element.offset);
            prop_assert!(start + element.data.len() <= header.header_len);
            prop_assert_eq!(&packet[start..start + element.data.len()], element.data);
        }
        let found = Extensions::parse(&packet, &header, &map);
        for (extension, id) in map.iter() {
            let first = elements(&packet, &header).find(|element| element.id == id);
            prop_assert_eq!(found.get(&packet, extension), first.map(|element| element.data));
        }
    }
}
