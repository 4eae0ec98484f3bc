//! The messages of RFC 5769, and messages that are cut, changed or made up.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::integrity::fingerprint;
use super::*;
use proptest::prelude::*;
use std::net::SocketAddr;

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

// RFC 5769 2.1
const REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\
    \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x10STUN test client\
    \x00\x24\x00\x04\x6e\x00\x01\xff\
    \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
    \x00\x06\x00\x09evtj:h6vY\x20\x20\x20\
    \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\
    \xc1\xb5\x71\xa2\
    \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

const FINGERPRINT_AT: usize = REQUEST.len() - 8;

// RFC 5769 2.2
const RESPONSE_V4: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\
    \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0btest vector\x20\
    \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
    \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\
    \xf0\x6b\xe7\xd7\
    \x80\x28\x00\x04\xc0\x7d\x4c\x96";

// RFC 5769 2.3
const RESPONSE_V6: &[u8] = b"\x01\x01\x00\x48\x21\x12\xa4\x42\
    \xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0btest vector\x20\
    \x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\
    \xbe\xd2\xb9\xd9\
    \x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\
    \xbf\xe3\xed\x41\
    \x80\x28\x00\x04\xc8\xfb\x0b\x4c";

fn binding_request(message: &[u8]) -> BindingRequest<'_> {
    match parse(message) {
        Ok(Message::BindingRequest(request)) => request,
        other => panic!("not a Binding request: {other:?}"),
    }
}

/// A Binding message of these attributes, as they are: header, values and padding.
fn message(class_bits: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = (1 | class_bits).to_be_bytes().to_vec();
    message.extend([0, 0]);
    message.extend(MAGIC_COOKIE);
    message.extend([7; 12]);
    for (kind, value) in attributes {
        message.extend(kind.to_be_bytes());
        message.extend((value.len() as u16).to_be_bytes());
        message.extend(*value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    set_length(&mut message, 0);
    message
}

/// Makes the length field count the message and `more` bytes.
fn set_length(message: &mut [u8], more: usize) {
    let length = (message.len() + more - HEADER_LEN) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    set_length(message, 0);
}

/// A message with MESSAGE-INTEGRITY after these attributes.
fn signed(attributes: &[(u16, &[u8])], key: &IntegrityKey) -> Vec<u8> {
    let mut message = message(0, attributes);
    let tag = key.sign(&message);
    push(&mut message, attribute::MESSAGE_INTEGRITY, &tag);
    message
}

fn with_fingerprint(mut message: Vec<u8>) -> Vec<u8> {
    set_length(&mut message, 8);
    let value = fingerprint(&message);
    push(&mut message, attribute::FINGERPRINT, &value);
    message
}

const USERNAME: (u16, &[u8]) = (attribute::USERNAME, b"evtj:h6vY");

#[test]
fn the_published_request_is_understood_and_verified() {
    assert!(is_stun(REQUEST));
    let request = binding_request(REQUEST);
    assert_eq!(
        request.transaction_id,
        *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
    );
    assert_eq!(
        (request.local_ufrag, request.remote_ufrag),
        (&b"evtj"[..], &b"h6vY"[..])
    );
    assert_eq!(request.priority, Some(0x6e00_01ff));
    assert_eq!(
        request.role,
        Some(IceRole::Controlled(0x932f_f9b1_5126_3b36))
    );
    assert!(!request.use_candidate);
    assert!(request.unknown_attributes.is_empty());
    assert!(request.verify(&IntegrityKey::new(PASSWORD)));
    assert!(!request.verify(&IntegrityKey::new("VOkJxbRl1RmTxUk/WvJxBT")));
}

#[test]
fn published_responses_carry_what_is_written() {
    let key = IntegrityKey::new(PASSWORD);
    let transaction_id = REQUEST[8..20].try_into().unwrap();
    for (published, mapped, len) in [
        (RESPONSE_V4, "192.0.2.1:32853", 12),
        (
            RESPONSE_V6,
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
            24,
        ),
    ] {
        // As published, but for SOFTWARE, which is not written.
        let (address, integrity_at) = (&published[36..36 + len], 36 + len);
        let mapped: SocketAddr = mapped.parse().unwrap();
        let mut out = [0xee; MAX_BINDING_SUCCESS_LEN];
        let written = write_binding_success(&mut out, &transaction_id, mapped, &key).unwrap();
        assert_eq!(written, HEADER_LEN + len + 32);
        assert_eq!(out[20..20 + len], *address);
        assert_eq!(out[4..20], published[4..20]);
        // And as published for a message with it.
        assert_eq!(
            key.sign(&published[..integrity_at]),
            published[integrity_at + 4..integrity_at + 24]
        );
        let end = published.len() - 8;
        assert_eq!(fingerprint(&published[..end]), published[end + 4..]);
        let class = Class::SuccessResponse;
        assert_eq!(parse(published), Ok(Message::Other { class, method: 1 }));
        assert_eq!(
            parse(&out[..written]),
            Ok(Message::Other { class, method: 1 })
        );
    }
}

#[test]
fn any_bit_flipped_in_a_request_is_noticed() {
    let key = IntegrityKey::new(PASSWORD);
    for bit in 0..REQUEST.len() * 8 {
        let mut changed = REQUEST.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let accepted = match parse(&changed) {
            Ok(Message::BindingRequest(request)) => request.verify(&key),
            // A fingerprint can only be right by chance, and it is not.
            Ok(other) => panic!("bit {bit} made {other:?}"),
            Err(_) => false,
        };
        // By another type FINGERPRINT is one more attribute behind MESSAGE-INTEGRITY.
        let in_fingerprint_kind = (FINGERPRINT_AT..FINGERPRINT_AT + 2).contains(&(bit / 8));
        assert_eq!(accepted, in_fingerprint_kind, "bit {bit}");
    }
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    for len in 0..REQUEST.len() {
        assert!(parse(&REQUEST[..len]).is_err(), "{len}");
        // With the length field made to fit, what is missing is an attribute.
        let mut cut = REQUEST[..len].to_vec();
        if len >= HEADER_LEN && len.is_multiple_of(4) {
            set_length(&mut cut, 0);
            // Without FINGERPRINT, which STUN does not require, it is whole.
            assert_eq!(parse(&cut).is_ok(), len == FINGERPRINT_AT, "{len}");
        }
    }
    assert!(parse(&[REQUEST, &[0; 4]].concat()).is_err());
}

#[test]
fn other_protocols_of_the_port_are_not_stun() {
    for first in 0..=u8::MAX {
        let mut datagram = REQUEST.to_vec();
        datagram[0] = first;
        assert_eq!(is_stun(&datagram), first <= 3, "RFC 7983: {first}");
    }
    let mut datagram = REQUEST.to_vec();
    datagram[4] ^= 1;
    assert!(!is_stun(&datagram));
    assert_eq!(parse(&datagram), Err(StunError::NotStun));
}

#[test]
fn nothing_after_message_integrity_counts_but_the_fingerprint() {
    let key = IntegrityKey::new(PASSWORD);
    let mut message = signed(&[USERNAME], &key);
    push(&mut message, attribute::USE_CANDIDATE, &[]);
    push(&mut message, attribute::PRIORITY, &[0, 0, 0, 1]);
    push(&mut message, 0x7ff0, &[]);
    let message = with_fingerprint(message);
    let request = binding_request(&message);
    assert!(request.verify(&key));
    assert!(!request.use_candidate);
    assert_eq!(request.priority, None);
    assert!(request.unknown_attributes.is_empty());
}

#[test]
fn a_username_only_after_message_integrity_is_missing() {
    let key = IntegrityKey::new(PASSWORD);
    let mut message = signed(&[], &key);
    push(&mut message, USERNAME.0, b"evtj:h6v");
    assert_eq!(parse(&message), Err(StunError::MissingUsername));
}

#[test]
fn of_repeated_attributes_the_first_counts() {
    let key = IntegrityKey::new(PASSWORD);
    let message = signed(
        &[
            USERNAME,
            (attribute::USERNAME, b"other:user"),
            (attribute::PRIORITY, &[0, 0, 0, 1]),
            (attribute::PRIORITY, &[0, 0, 0, 2]),
            (attribute::ICE_CONTROLLING, &[0, 0, 0, 0, 0, 0, 0, 3]),
            (attribute::ICE_CONTROLLED, &[0, 0, 0, 0, 0, 0, 0, 4]),
        ],
        &key,
    );
    let request = binding_request(&message);
    assert_eq!(request.local_ufrag, b"evtj");
    assert_eq!(request.priority, Some(1));
    assert_eq!(request.role, Some(IceRole::Controlling(3)));
}

#[test]
fn a_request_without_credentials_is_refused() {
    let integrity = (attribute::MESSAGE_INTEGRITY, &[0; 20][..]);
    let refused = |attributes: &[_]| parse(&message(0, attributes)).unwrap_err();
    assert_eq!(refused(&[]), StunError::MissingUsername);
    assert_eq!(refused(&[integrity]), StunError::MissingUsername);
    assert_eq!(refused(&[USERNAME]), StunError::MissingIntegrity);
    for username in [&b""[..], b":", b"evtj", b"evtj:", b":h6vY"] {
        let attributes = [(attribute::USERNAME, username), integrity];
        assert_eq!(
            refused(&attributes),
            StunError::MalformedUsername,
            "{username:?}"
        );
    }
}

#[test]
fn an_attribute_of_another_length_than_its_types_is_refused() {
    for (kind, right) in [
        (attribute::MESSAGE_INTEGRITY, 20),
        (attribute::PRIORITY, 4),
        (attribute::USE_CANDIDATE, 0),
        (attribute::ICE_CONTROLLING, 8),
        (attribute::ICE_CONTROLLED, 8),
        (attribute::FINGERPRINT, 4),
    ] {
        for len in (0..40).filter(|&len| len != right) {
            let message = message(0, &[USERNAME, (kind, &vec![0; len])]);
            assert_eq!(
                parse(&message),
                Err(StunError::BadAttributeLength { kind, len })
            );
        }
    }
}

#[test]
fn an_attribute_that_runs_past_the_end_is_refused() {
    for len in [5, 8, 0xfffd, 0xffff_u16] {
        let mut message = message(0, &[USERNAME, (0x8022, &[1, 2, 3, 4])]);
        let at = message.len() - 6;
        message[at..at + 2].copy_from_slice(&len.to_be_bytes());
        assert_eq!(
            parse(&message),
            Err(StunError::TruncatedAttribute { kind: 0x8022 })
        );
    }
}

#[test]
fn a_fingerprint_that_is_wrong_or_not_last_is_refused() {
    let key = IntegrityKey::new(PASSWORD);
    let right = with_fingerprint(signed(&[USERNAME], &key));
    assert!(binding_request(&right).verify(&key));
    let mut wrong = right.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(parse(&wrong), Err(StunError::FingerprintMismatch));
    let mut early = right;
    push(&mut early, 0x8022, b"more");
    assert_eq!(parse(&early), Err(StunError::FingerprintNotLast));
}

#[test]
fn attributes_to_be_understood_are_listed_up_to_a_bound() {
    let key = IntegrityKey::new(PASSWORD);
    let optional: [(u16, &[u8]); 3] = [USERNAME, (0x8000, b""), (0xc057, b"cost")];
    assert!(
        binding_request(&signed(&optional, &key))
            .unknown_attributes
            .is_empty()
    );
    let kinds: Vec<u16> = (0..100).map(|i| 0x7f00 + i).collect();
    let mut attributes = vec![USERNAME];
    attributes.extend(kinds.iter().map(|&kind| (kind, &b"x"[..])));
    let message = signed(&attributes, &key);
    let unknown = binding_request(&message).unknown_attributes;
    assert_eq!(unknown.as_slice(), &kinds[..UnknownAttributes::MAX]);
    assert!(!unknown.is_empty());
}

#[test]
fn a_keepalive_and_other_methods_are_told_apart() {
    assert_eq!(parse(&message(0x10, &[])), Ok(Message::BindingIndication));
    assert_eq!(
        parse(&with_fingerprint(message(0x10, &[]))),
        Ok(Message::BindingIndication)
    );
    let mut allocate = message(0, &[]);
    allocate[1] = 3;
    let other = Message::Other {
        class: Class::Request,
        method: 3,
    };
    assert_eq!(parse(&allocate), Ok(other));
    let mut error = message(0, &[]);
    (error[0], error[1]) = (0x03, 0xff);
    let other = Message::Other {
        class: Class::ErrorResponse,
        method: 0xff,
    };
    assert_eq!(parse(&error), Ok(other));
}

#[test]
fn an_address_mapped_into_ipv6_is_written_as_ipv4() {
    let key = IntegrityKey::new(PASSWORD);
    let write = |mapped: &str| {
        let mut out = [0; MAX_BINDING_SUCCESS_LEN];
        let mapped = mapped.parse().unwrap();
        let len = write_binding_success(&mut out, &[1; 12], mapped, &key).unwrap();
        out[..len].to_vec()
    };
    assert_eq!(write("[::ffff:192.0.2.1]:5000"), write("192.0.2.1:5000"));
    assert_ne!(
        write("[::ffff:192.0.2.1]:5000").len(),
        write("[2001:db8::1]:5000").len()
    );
}

#[test]
fn a_buffer_too_small_for_an_answer_is_refused() {
    let key = IntegrityKey::new(PASSWORD);
    let needed = MAX_BINDING_SUCCESS_LEN;
    let mut out = vec![0; needed - 1];
    let mapped = "[2001:db8::1]:5000".parse().unwrap();
    assert_eq!(
        write_binding_success(&mut out, &[1; 12], mapped, &key),
        Err(StunError::BufferTooSmall {
            len: needed - 1,
            needed
        })
    );
    let needed = MAX_BINDING_ERROR_LEN;
    out.resize(needed - 1, 0);
    assert_eq!(
        write_binding_error(&mut out, &[1; 12], BindingError::RoleConflict, &key),
        Err(StunError::BufferTooSmall {
            len: needed - 1,
            needed
        })
    );
    out.push(0);
    let attributes: Vec<(u16, &[u8])> = (0..100).map(|i| (0x7f00 + i, &b""[..])).collect();
    let message = signed(&[&[USERNAME], &attributes[..]].concat(), &key);
    let unknown = binding_request(&message).unknown_attributes;
    let error = BindingError::UnknownAttribute(&unknown);
    assert_eq!(
        write_binding_error(&mut out, &[1; 12], error, &key),
        Ok(needed)
    );
}

#[test]
fn the_password_does_not_show_in_debug_text() {
    let text = format!("{:?}", IntegrityKey::new("aaaa"));
    assert!(!text.contains("97") && !text.contains("aaaa"), "{text}");
}

fn any_attributes() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    let known = prop::sample::select(vec![
        0x0006, 0x0008, 0x0020, 0x0024, 0x0025, 0x8022, 0x8028, 0x8029, 0x802a, 0xc057,
    ]);
    let kind = prop_oneof![4 => known, 1 => any::<u16>()];
    let len = prop_oneof![0usize..40, Just(0), Just(4), Just(8), Just(20)];
    let value = len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len));
    prop::collection::vec((kind, value), 0..12)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if parse(&bytes).is_ok() {
            prop_assert!(is_stun(&bytes));
        }
        let mut stun = message(0, &[]);
        stun.extend(bytes);
        stun.truncate(stun.len() & !3);
        set_length(&mut stun, 0);
        if let Ok(Message::BindingRequest(request)) = parse(&stun) {
            prop_assert!(!request.verify(&IntegrityKey::new(PASSWORD)));
        }
    }

    #[test]
    fn arbitrary_attributes_never_panic_nor_verify(attributes in any_attributes()) {
        let attributes: Vec<_> = attributes.iter().map(|(kind, v)| (*kind, &v[..])).collect();
        if let Ok(Message::BindingRequest(request)) = parse(&message(0, &attributes)) {
            prop_assert!(!request.verify(&IntegrityKey::new(PASSWORD)));
        }
    }

    #[test]
    fn a_damaged_request_never_verifies(at in 0..FINGERPRINT_AT, bytes: [u8; 6]) {
        let mut damaged = REQUEST[..FINGERPRINT_AT].to_vec();
        set_length(&mut damaged, 0);
        let whole = damaged.clone();
        prop_assert!(binding_request(&whole).verify(&IntegrityKey::new(PASSWORD)));
        for (byte, with) in damaged[at..].iter_mut().zip(bytes) {
            *byte = with;
        }
        prop_assume!(damaged != whole);
        if let Ok(Message::BindingRequest(request)) = parse(&damaged) {
            prop_assert!(!request.verify(&IntegrityKey::new(PASSWORD)));
        }
    }
}
