#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::dtls::record::{fatal_alert, write_handshake, write_header};
use proptest::prelude::*;

const BUDGET: Budget = Budget {
    datagrams: 512,
    bytes: 256 * 1024,
};

fn guard(role: Role) -> Guard {
    Guard::new(role, BUDGET, Arc::default())
}

fn established() -> Guard {
    let mut guard = guard(Role::Server);
    guard.note_outgoing(&last_flight());
    guard.establish();
    guard
}

fn dropped(guard: &Guard, reason: DropReason) -> u64 {
    guard.counters.dropped(reason)
}

fn record(content_type: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_header(
        &mut out,
        content_type,
        7,
        u16::try_from(body.len()).unwrap(),
    );
    out[3..5].copy_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn last_flight() -> Vec<u8> {
    [
        record(record::CHANGE_CIPHER_SPEC, 0, &[1]),
        record(record::HANDSHAKE, 1, &[0; 48]),
    ]
    .concat()
}

/// The smallest ClientHello the guard takes for one.
fn client_hello_body(cookie: &[u8]) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend_from_slice(&[0x55; 32]);
    body.push(0);
    body.push(u8::try_from(cookie.len()).unwrap());
    body.extend_from_slice(cookie);
    body.extend_from_slice(&[0, 2, 0xc0, 0x2b, 1, 0, 0, 0]);
    body
}

fn client_hello(message_seq: u16, cookie: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let number = 40 + u64::from(message_seq);
    write_handshake(
        &mut out,
        number,
        message::CLIENT_HELLO,
        message_seq,
        &client_hello_body(cookie),
    );
    out
}

fn handshake(message_type: u8, message_seq: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_handshake(&mut out, 9, message_type, message_seq, body);
    out
}

#[test]
fn a_client_hello_is_passed_on_whole_with_a_record_number_of_our_own() {
    let mut guard = guard(Role::Server);
    let inspection = guard.inspect(&client_hello(0, &[]), Instant::now());
    let mut expected = Vec::new();
    write_handshake(
        &mut expected,
        0,
        message::CLIENT_HELLO,
        0,
        &client_hello_body(&[]),
    );
    assert_eq!(inspection.deliver, expected);
    assert!(inspection.has_message && inspection.client_hello.is_some());

    let second = guard.inspect(&client_hello(1, b"cookie"), Instant::now());
    assert_eq!(second.client_hello, None, "only the first one chooses");
    assert!(second.has_message);
    let third = guard.inspect(&client_hello(2, b"cookie"), Instant::now());
    assert!(third.deliver.is_empty());
    assert_eq!(dropped(&guard, DropReason::UnexpectedMessage), 1);
}

#[test]
fn a_repeated_client_hello_gets_the_lost_verify_request_again() {
    let mut guard = guard(Role::Server);
    let now = Instant::now();
    guard.inspect(&client_hello(0, &[]), now);
    let verify_request = handshake(message::HELLO_VERIFY_REQUEST, 0, &[0xfe, 0xfd, 1, 9]);
    guard.note_outgoing(&verify_request);
    let repeated = guard.inspect(&client_hello(0, &[]), now);
    assert!(repeated.deliver.is_empty());
    assert_eq!(repeated.repeat.as_deref(), Some(&verify_request[..]));
    assert_eq!(
        guard.inspect(&client_hello(0, &[]), now).repeat,
        None,
        "too soon"
    );
    let later = now + REPEAT_INTERVAL;
    assert!(guard.inspect(&client_hello(0, &[]), later).repeat.is_some());
    assert_eq!(guard.counters.flights_repeated(), 2);
    // Once the cookie came back the backend's own timer is in charge.
    guard.inspect(&client_hello(1, &[9]), later);
    let even_later = later + REPEAT_INTERVAL;
    assert_eq!(
        guard.inspect(&client_hello(0, &[]), even_later).repeat,
        None
    );
}

#[test]
fn a_peer_that_lost_the_last_flight_gets_it_at_most_every_forty_milliseconds() {
    let mut guard = established();
    let now = Instant::now();
    let key_exchange = handshake(16, 3, &[1, 4]);
    let first = guard.inspect(&key_exchange, now);
    assert!(first.deliver.is_empty());
    assert_eq!(first.repeat.as_deref(), Some(&last_flight()[..]));
    let early = now + REPEAT_INTERVAL - Duration::from_millis(1);
    assert_eq!(guard.inspect(&key_exchange, early).repeat, None);
    // A repeated Finished alone asks for it as well.
    let finished = record(record::HANDSHAKE, 1, &[0; 48]);
    assert!(
        guard
            .inspect(&finished, now + REPEAT_INTERVAL)
            .repeat
            .is_some()
    );
}

#[test]
fn after_the_handshake_only_protected_alerts_pass() {
    let mut guard = established();
    let now = Instant::now();
    let refused = [
        (fatal_alert(40), DropReason::PlaintextAfterHandshake),
        (
            record(record::CHANGE_CIPHER_SPEC, 0, &[1]),
            DropReason::PlaintextAfterHandshake,
        ),
        (
            record(record::CHANGE_CIPHER_SPEC, 0, &[2, 2]),
            DropReason::PlaintextAfterHandshake,
        ),
        (
            record(record::CHANGE_CIPHER_SPEC, 1, &[2]),
            DropReason::ChangeCipherSpec,
        ),
        (
            record(record::APPLICATION_DATA, 1, &[0; 40]),
            DropReason::ApplicationData,
        ),
        (
            record(record::ALERT, 1, &[0; 24]),
            DropReason::CiphertextLength,
        ),
        (record(record::ALERT, 2, &[0; 26]), DropReason::FutureEpoch),
        (record(99, 0, &[0]), DropReason::UnknownContentType),
        (fatal_alert(40)[..14].to_vec(), DropReason::TruncatedRecord),
        (vec![21], DropReason::TruncatedRecord),
        (record(record::ALERT, 1, &[]), DropReason::TruncatedRecord),
    ];
    for (datagram, reason) in refused {
        let before = dropped(&guard, reason);
        let inspection = guard.inspect(&datagram, now);
        assert_eq!(inspection, Inspection::default(), "{reason:?}");
        assert_eq!(dropped(&guard, reason), before + 1, "{reason:?}");
    }
    let alert = record(record::ALERT, 1, &[0; 26]);
    assert_eq!(guard.inspect(&alert, now).alerts, alert);
}

#[test]
fn protected_alerts_wait_for_the_keys_up_to_a_few() {
    let mut guard = guard(Role::Server);
    let now = Instant::now();
    let alert = |content: u8| record(record::ALERT, 1, &[content; 26]);
    for content in 0..6 {
        let inspection = guard.inspect(&alert(content), now);
        assert_eq!(inspection, Inspection::default());
    }
    assert_eq!(dropped(&guard, DropReason::OutOfWindow), 2);
    assert_eq!(guard.establish(), [0, 1, 2, 3].map(alert).concat());
    assert!(guard.establish().is_empty(), "once");
}

#[test]
fn protected_records_of_this_side_are_numbered_on() {
    for role in [Role::Server, Role::Client] {
        let mut guard = guard(role);
        assert_eq!(guard.next_protected(), 0);
        // Records of these helpers bear the number 7.
        guard.note_outgoing(&client_hello(0, &[]));
        assert_eq!(guard.next_protected(), 0, "unprotected ones do not count");
        guard.note_outgoing(&last_flight());
        assert_eq!(guard.next_protected(), 8);
    }
}

#[test]
fn an_unprotected_alert_is_ignored_and_remembered() {
    let mut guard = guard(Role::Server);
    assert_eq!(
        guard.inspect(&fatal_alert(47), Instant::now()),
        Inspection::default()
    );
    assert_eq!(dropped(&guard, DropReason::PlaintextAlert), 1);
    assert_eq!(guard.plaintext_alert(), Some(AlertDescription(47)));
}

#[test]
fn a_change_cipher_spec_passes_only_in_its_one_form() {
    let mut guard = guard(Role::Server);
    let now = Instant::now();
    for body in [&[0][..], &[2], &[1, 1]] {
        let datagram = record(record::CHANGE_CIPHER_SPEC, 0, body);
        assert!(guard.inspect(&datagram, now).deliver.is_empty());
    }
    assert!(
        guard
            .inspect(&record(record::CHANGE_CIPHER_SPEC, 1, &[1]), now)
            .deliver
            .is_empty()
    );
    assert_eq!(dropped(&guard, DropReason::ChangeCipherSpec), 4);
    let good = guard.inspect(&record(record::CHANGE_CIPHER_SPEC, 0, &[1]), now);
    assert_eq!(good.deliver.len(), record::RECORD_HEADER_LEN + 1);
}

#[test]
fn a_finished_that_overtakes_its_change_cipher_spec_waits_for_it() {
    let mut guard = guard(Role::Server);
    let now = Instant::now();
    let finished = record(record::HANDSHAKE, 1, &[5; 48]);
    assert!(guard.inspect(&finished, now).deliver.is_empty());
    let delivered = guard
        .inspect(&record(record::CHANGE_CIPHER_SPEC, 0, &[1]), now)
        .deliver;
    assert!(delivered.ends_with(&finished));
    assert_eq!(guard.inspect(&finished, now).deliver, finished);
}

#[test]
fn fragments_without_bytes_go_no_further() {
    let mut guard = guard(Role::Server);
    // 40 headers a datagram: a message of 100 bytes, none of them here.
    let header = [message::CLIENT_HELLO, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0];
    let datagram = record(record::HANDSHAKE, 0, &header.repeat(40));
    for _ in 0..100 {
        assert_eq!(
            guard.inspect(&datagram, Instant::now()),
            Inspection::default()
        );
    }
    assert_eq!(dropped(&guard, DropReason::EmptyFragment), 4000);
}

#[test]
fn a_handshake_that_takes_too_many_datagrams_or_bytes_is_over() {
    let now = Instant::now();
    for budget in [
        Budget {
            datagrams: 3,
            bytes: 1000,
        },
        Budget {
            datagrams: 1000,
            bytes: 46,
        },
    ] {
        let mut guard = Guard::new(Role::Server, budget, Arc::default());
        for _ in 0..3 {
            assert!(!guard.inspect(&fatal_alert(0), now).flooded);
        }
        assert!(guard.inspect(&fatal_alert(0), now).flooded);
        assert_eq!(dropped(&guard, DropReason::Budget), 1);
    }
}

#[test]
fn records_that_cannot_be_checked_are_limited_in_number() {
    let mut guard = guard(Role::Client);
    let datagram = record(record::CHANGE_CIPHER_SPEC, 0, &[1]).repeat(100);
    let passed: usize = (0..20)
        .map(|_| guard.inspect(&datagram, Instant::now()).deliver.len() / 14)
        .sum();
    assert_eq!(passed, MAX_UNCHECKED);
}

#[test]
fn messages_of_the_wrong_role_or_shape_are_dropped() {
    let now = Instant::now();
    let mut server = guard(Role::Server);
    assert!(
        server
            .inspect(&handshake(2, 0, &[0; 40]), now)
            .deliver
            .is_empty()
    );
    assert!(
        server
            .inspect(&handshake(16, 0, &[1, 4]), now)
            .deliver
            .is_empty()
    );
    assert_eq!(dropped(&server, DropReason::UnexpectedMessage), 2);
    // The true message still gets through.
    assert!(server.inspect(&client_hello(0, &[]), now).has_message);
    let malformed = [
        (16, &[][..]),
        (16, &[0]),
        (16, &[2, 4]),
        (11, &[0, 0, 9, 0]),
        (11, &[0, 0, 3, 0xff, 0xff, 0xff]),
        (15, &[4, 3, 0xff, 0xff]),
    ];
    for (message_type, body) in malformed {
        assert!(
            server
                .inspect(&handshake(message_type, 1, body), now)
                .deliver
                .is_empty()
        );
    }
    assert_eq!(dropped(&server, DropReason::MalformedMessage), 6);

    let mut client = guard(Role::Client);
    assert!(
        client
            .inspect(&client_hello(0, &[]), now)
            .deliver
            .is_empty()
    );
    for (message_type, body) in [
        (12, &[3][..]),
        (14, &[0]),
        (3, &[0xfe, 0xfd, 2, 1]),
        (2, &[]),
    ] {
        assert!(
            client
                .inspect(&handshake(message_type, 0, body), now)
                .deliver
                .is_empty()
        );
    }
    assert_eq!(dropped(&client, DropReason::MalformedMessage), 4);
    assert!(
        client
            .inspect(&handshake(3, 0, &[0xfe, 0xfd, 1, 1]), now)
            .has_message
    );
}

#[test]
fn an_ended_association_takes_nothing() {
    let mut guard = established();
    guard.end();
    let alert = record(record::ALERT, 1, &[0; 26]);
    assert_eq!(guard.inspect(&alert, Instant::now()), Inspection::default());
    assert_eq!(dropped(&guard, DropReason::Ended), 1);
}

#[derive(Debug, Clone)]
enum Piece {
    Record {
        content_type: u8,
        epoch: u16,
        body: Vec<u8>,
    },
    Message {
        message_type: u8,
        message_seq: u16,
        body: Vec<u8>,
    },
    Bytes(Vec<u8>),
}

fn piece() -> impl Strategy<Value = Piece> {
    let bytes = |up_to| proptest::collection::vec(any::<u8>(), 0..up_to);
    prop_oneof![
        (19..25u8, 0..3u16, bytes(80)).prop_map(|(content_type, epoch, body)| Piece::Record {
            content_type,
            epoch,
            body
        }),
        (0..20u8, 0..18u16, bytes(60)).prop_map(|(message_type, message_seq, body)| {
            Piece::Message {
                message_type,
                message_seq,
                body,
            }
        }),
        bytes(40).prop_map(Piece::Bytes),
    ]
}

proptest! {
    #[test]
    fn whatever_arrives_the_backend_gets_only_whole_bounded_records(
        client in any::<bool>(),
        is_established in any::<bool>(),
        datagrams in proptest::collection::vec(proptest::collection::vec(piece(), 1..6), 1..20),
    ) {
        let mut guard = guard(if client { Role::Client } else { Role::Server });
        guard.inspect(&client_hello(0, &[]), Instant::now());
        if is_established {
            guard.establish();
        }
        for pieces in datagrams {
            let datagram: Vec<u8> = pieces
                .into_iter()
                .flat_map(|piece| match piece {
                    Piece::Record { content_type, epoch, body } => record(content_type, epoch, &body),
                    Piece::Message { message_type, message_seq, body } => {
                        handshake(message_type, message_seq, &body)
                    }
                    Piece::Bytes(bytes) => bytes,
                })
                .collect();
            let inspection = guard.inspect(&datagram, Instant::now());
            for record in Records::new(&inspection.alerts) {
                let record = record.expect("only whole records are handed on");
                prop_assert!(is_established && is_ciphertext_len(record.body.len()));
                prop_assert_eq!((record.epoch, record.content_type), (1, record::ALERT));
            }
            prop_assert!(!is_established || inspection.deliver.is_empty());
            for record in Records::new(&inspection.deliver) {
                let record = record.expect("only whole records are delivered");
                prop_assert!(record.bytes.len() <= 8192);
                prop_assert!((record.epoch, record.content_type) != (1, record::ALERT));
                if record.epoch == 1 {
                    prop_assert!(is_ciphertext_len(record.body.len()));
                }
            }
        }
    }

    #[test]
    fn arbitrary_datagrams_never_panic(
        datagram in proptest::collection::vec(any::<u8>(), 0..300),
        is_established in any::<bool>(),
    ) {
        let mut guard = guard(Role::Client);
        if is_established {
            guard.establish();
        }
        guard.inspect(&datagram, Instant::now());
        guard.note_outgoing(&datagram);
    }
}
