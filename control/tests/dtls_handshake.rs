//! Handshakes between two associations over an in-memory path that loses, repeats, reorders and
//! forges.

mod dtls_support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dtls_support::*;
use fanmill_control::dtls::{
    AlertDescription, Backend, DropReason, DtlsError, Ending, Fingerprint, FingerprintAlgorithm,
    Handshake, Limits, Role, SrtpProfile,
};

const PLAINTEXT_FATAL_ALERT: [u8; 15] = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];

#[tokio::test]
async fn both_sides_get_the_same_keys_and_know_each_other() {
    let pair = Pair::new();
    let (mut server, mut client) = pair.connect(faithful());
    let keys = soon(&mut server.outcome)
        .await
        .expect("the server finishes");
    let other = soon(&mut client.outcome)
        .await
        .expect("the client finishes");
    assert_eq!(keys.profile, SrtpProfile::AeadAes128Gcm);
    assert_eq!((&keys.local, &keys.remote), (&other.remote, &other.local));
    assert_ne!(keys.local, keys.remote);
    assert_eq!((keys.local.key.len(), keys.local.salt.len()), (16, 12));
    assert_eq!(&keys.peer_fingerprint, pair.client.fingerprint());
    assert_eq!(&other.peer_fingerprint, pair.server.fingerprint());
    assert_eq!(pair.server.counters().completed(), 1);
}

#[tokio::test]
async fn the_server_takes_gcm_although_the_client_lists_sha1_80_first() {
    let pair = Pair::new();
    let mut client = pair.client_handshake();
    client.srtp_profiles = vec![SrtpProfile::Aes128CmHmacSha1_80, SrtpProfile::AeadAes128Gcm];
    let (mut server, mut client) = pair.connect_with(pair.server_handshake(), client, faithful());
    let keys = matching_keys(&mut server, &mut client).await;
    assert_eq!(keys.profile, SrtpProfile::AeadAes128Gcm);
}

#[tokio::test]
async fn the_server_takes_sha1_80_from_a_client_that_has_nothing_else() {
    let pair = Pair::new();
    let mut client = pair.client_handshake();
    client.srtp_profiles = vec![SrtpProfile::Aes128CmHmacSha1_80];
    let (mut server, mut client) = pair.connect_with(pair.server_handshake(), client, faithful());
    let keys = matching_keys(&mut server, &mut client).await;
    assert_eq!(keys.profile, SrtpProfile::Aes128CmHmacSha1_80);
    assert_eq!((keys.local.key.len(), keys.local.salt.len()), (16, 14));
}

#[tokio::test]
async fn without_a_common_profile_both_sides_fail() {
    let pair = Pair::new();
    let (mut server, mut client) = (pair.server_handshake(), pair.client_handshake());
    server.srtp_profiles = vec![SrtpProfile::AeadAes256Gcm];
    client.srtp_profiles = vec![SrtpProfile::AeadAes128Gcm];
    client.deadline = Duration::from_millis(400);
    let (mut server, mut client) = pair.connect_with(server, client, faithful());
    match error(&mut server.outcome).await {
        DtlsError::NoCommonSrtpProfile { offered } => assert_eq!(offered, [7]),
        other => panic!("{other}"),
    }
    match error(&mut client.outcome).await {
        DtlsError::Timeout { alert } => {
            assert_eq!(alert, Some(AlertDescription::INSUFFICIENT_SECURITY));
        }
        other => panic!("{other}"),
    }
    assert_eq!(soon(server.ended).await, Ending::HandshakeFailed);
}

#[tokio::test]
async fn a_lost_last_flight_is_sent_again_when_the_client_repeats_its_own() {
    let pair = Pair::new();
    let mut lost = 0;
    let fate: Fate = Box::new(move |from, datagram| {
        if from == Role::Server && has_change_cipher_spec(&datagram) && lost < 2 {
            lost += 1;
            return Vec::new();
        }
        vec![datagram]
    });
    let (mut server, mut client) = pair.connect(fate);
    matching_keys(&mut server, &mut client).await;
    assert!(pair.server.counters().flights_repeated() >= 2);
}

#[tokio::test]
async fn a_lost_verify_request_is_sent_again() {
    let pair = Pair::new();
    let mut first_from_server = true;
    let fate: Fate = Box::new(move |from, datagram| {
        if from == Role::Server && std::mem::take(&mut first_from_server) {
            return Vec::new();
        }
        vec![datagram]
    });
    let (mut server, mut client) = pair.connect(fate);
    matching_keys(&mut server, &mut client).await;
    assert!(pair.server.counters().flights_repeated() >= 1);
}

/// A deterministic stream of numbers below 100.
fn percentages(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % 100
    }
}

#[tokio::test]
async fn a_path_that_loses_repeats_and_reorders_delays_but_does_not_prevent() {
    let pair = Pair::new();
    for seed in 1..=4 {
        let mut roll = percentages(seed);
        let mut late: Vec<(Role, Vec<u8>)> = Vec::new();
        let fate: Fate = Box::new(move |from, datagram| {
            let mut arriving = match roll() {
                0..20 => Vec::new(),
                20..40 => vec![datagram.clone(), datagram],
                40..60 => {
                    late.push((from, datagram));
                    return Vec::new();
                }
                _ => vec![datagram],
            };
            for (side, held) in std::mem::take(&mut late) {
                if side == from {
                    arriving.push(held);
                } else {
                    late.push((side, held));
                }
            }
            arriving
        });
        let (mut server, mut client) = pair.connect(fate);
        matching_keys(&mut server, &mut client).await;
    }
}

#[tokio::test]
async fn records_cut_apart_and_swapped_still_make_a_handshake() {
    let pair = Pair::new();
    // Each record in a datagram of its own, last first.
    let fate: Fate = Box::new(|_, datagram| {
        let mut rest = &datagram[..];
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let length = 13 + usize::from(u16::from_be_bytes([rest[11], rest[12]]));
            pieces.insert(0, rest[..length].to_vec());
            rest = &rest[length..];
        }
        pieces
    });
    let (mut server, mut client) = pair.connect(fate);
    matching_keys(&mut server, &mut client).await;
}

#[tokio::test]
async fn forged_datagrams_after_the_handshake_do_not_end_it() {
    let pair = Pair::new();
    let (mut server, mut client) = pair.connect(faithful());
    matching_keys(&mut server, &mut client).await;
    let mut protected_alert = vec![21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 26];
    protected_alert.extend_from_slice(&[0x5a; 26]);
    let forged: [&[u8]; 7] = [
        &PLAINTEXT_FATAL_ALERT,
        &PLAINTEXT_FATAL_ALERT[..14],
        &[20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 2],
        &[20, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 2],
        &[99, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0],
        &[21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 3, 1, 1, 1],
        &protected_alert,
    ];
    for datagram in forged {
        server.association.handle_datagram(datagram);
        client.association.handle_datagram(datagram);
    }
    let plaintext = pair
        .server
        .counters()
        .dropped(DropReason::PlaintextAfterHandshake);
    assert_eq!(plaintext, 2, "the alert and the ChangeCipherSpec");
    // Both still hear a true close_notify, which comes after all of the above in their queues.
    client.association.close();
    assert_eq!(soon(client.ended).await, Ending::Local);
    assert_eq!(soon(server.ended).await, Ending::ByPeer);
}

#[tokio::test]
async fn garbage_before_and_during_the_handshake_does_not_stop_it() {
    let pair = Pair::new();
    let fate: Fate = Box::new(|_, datagram| {
        let mut truncated = datagram.clone();
        truncated.pop();
        vec![
            PLAINTEXT_FATAL_ALERT.to_vec(),
            vec![0x16; 40],
            vec![20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1],
            truncated,
            vec![22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 1, 1],
            vec![22, 0xfe, 0xfd, 0, 7, 0, 0, 0, 0, 0, 9, 0, 2, 1, 1],
            Vec::new(),
            datagram,
        ]
    });
    let (mut server, mut client) = pair.connect(fate);
    matching_keys(&mut server, &mut client).await;
    let counters = pair.server.counters();
    for reason in [
        DropReason::PlaintextAlert,
        DropReason::ChangeCipherSpec,
        DropReason::TruncatedRecord,
        DropReason::CiphertextLength,
        DropReason::FutureEpoch,
    ] {
        assert!(counters.dropped(reason) > 0, "{}", reason.label());
    }
}

#[tokio::test]
async fn the_server_refuses_a_certificate_the_sdp_does_not_announce() {
    let pair = Pair::new();
    let server = Handshake::new(Role::Server, vec![some_fingerprint()]);
    let (mut server, _client) = pair.connect_with(server, pair.client_handshake(), faithful());
    match error(&mut server.outcome).await {
        DtlsError::FingerprintMismatch { presented } => {
            assert_eq!(&presented, pair.client.fingerprint());
        }
        other => panic!("{other}"),
    }
    assert_eq!(pair.server.counters().failed(), 1);
}

#[tokio::test]
async fn the_client_refuses_a_certificate_the_sdp_does_not_announce() {
    let pair = Pair::new();
    let client = Handshake::new(Role::Client, vec![some_fingerprint()]);
    let (_server, mut client) = pair.connect_with(pair.server_handshake(), client, faithful());
    let error = error(&mut client.outcome).await;
    assert!(
        matches!(error, DtlsError::FingerprintMismatch { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn one_matching_fingerprint_of_several_is_enough() {
    let pair = Pair::new();
    let mut server = pair.server_handshake();
    server.peer_fingerprints.insert(0, some_fingerprint());
    let other_algorithm = Fingerprint::of(FingerprintAlgorithm::Sha512, b"another certificate");
    server.peer_fingerprints.insert(0, other_algorithm);
    let (mut server, mut client) = pair.connect_with(server, pair.client_handshake(), faithful());
    matching_keys(&mut server, &mut client).await;
}

#[tokio::test]
async fn a_handshake_without_a_fingerprint_to_check_is_not_started() {
    let pair = Pair::new();
    let started = pair
        .server
        .start(Handshake::new(Role::Server, vec![]), Arc::new(|_| {}));
    assert!(matches!(started, Err(DtlsError::NoExpectedFingerprint)));
}

#[tokio::test]
async fn the_deadline_fires_without_a_peer() {
    let pair = Pair::new();
    for mut handshake in [pair.server_handshake(), pair.client_handshake()] {
        handshake.deadline = Duration::from_millis(50);
        let mut started = pair
            .server
            .start(handshake, Arc::new(|_| {}))
            .expect("it starts");
        let error = error(&mut started.outcome).await;
        assert!(
            matches!(error, DtlsError::Timeout { alert: None }),
            "{error}"
        );
        assert_eq!(soon(started.ended).await, Ending::HandshakeFailed);
        started.association.handle_datagram(&PLAINTEXT_FATAL_ALERT);
    }
    assert_eq!(pair.server.counters().dropped(DropReason::Ended), 2);
}

#[tokio::test]
async fn closing_during_the_handshake_ends_it() {
    let pair = Pair::new();
    let mut started = pair
        .server
        .start(pair.server_handshake(), Arc::new(|_| {}))
        .expect("it starts");
    started.association.close();
    let error = error(&mut started.outcome).await;
    assert!(matches!(error, DtlsError::Closed), "{error}");
}

#[tokio::test]
async fn a_fragment_flood_ends_the_handshake_at_its_budget() {
    let limits = Limits {
        max_datagrams: 64,
        ..Limits::default()
    };
    let server = backend(limits);
    let handshake = Handshake::new(Role::Server, vec![some_fingerprint()]);
    let mut started = server
        .start(handshake, Arc::new(|_| {}))
        .expect("it starts");
    // Forty fragments without bytes a datagram.
    let header = [1, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0].repeat(40);
    let mut flood = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
    flood.extend_from_slice(&u16::try_from(header.len()).expect("480").to_be_bytes());
    flood.extend_from_slice(&header);
    for _ in 0..10_000 {
        started.association.handle_datagram(&flood);
    }
    let error = error(&mut started.outcome).await;
    assert!(
        matches!(error, DtlsError::Flooded { datagrams: 64, .. }),
        "{error}"
    );
    assert_eq!(
        server.counters().dropped(DropReason::EmptyFragment),
        64 * 40
    );
}

#[tokio::test]
async fn handshakes_beyond_the_limits_are_refused_and_the_waiting_ones_get_their_turn() {
    let server = backend(Limits {
        max_running: 1,
        max_waiting: 1,
        ..Limits::default()
    });
    let hello = &recorded_client_hello("wrtc")[0];
    // Three clients that never answer the HelloVerifyRequest. What each was sent tells how far it
    // came.
    let start = |sent: &Arc<Mutex<usize>>| {
        let sent = Arc::clone(sent);
        let handshake = Handshake::new(Role::Server, vec![some_fingerprint()]);
        let send = Arc::new(move |_: &[u8]| *sent.lock().expect("not poisoned") += 1);
        let started = server.start(handshake, send).expect("it starts");
        started.association.handle_datagram(hello);
        started
    };
    let sent: [Arc<Mutex<usize>>; 3] = Default::default();
    let count = |of: usize| *sent[of].lock().expect("not poisoned");
    let running = start(&sent[0]);
    until(|| count(0) == 1).await;
    let waiting = start(&sent[1]);
    // Tasks of a current-thread runtime run in order of their waking: when the third is refused,
    // the second has taken the place to wait in.
    let mut refused = start(&sent[2]);
    let error = error(&mut refused.outcome).await;
    assert!(matches!(error, DtlsError::TooManyHandshakes), "{error}");
    assert_eq!((count(1), count(2)), (0, 0));
    drop(running);
    until(|| count(1) == 1).await;
    drop(waiting);
}

/// Lets the other tasks run until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A ClientHello that answers a HelloVerifyRequest: `first` with a cookie, whole.
fn with_cookie(first: &[Vec<u8>], cookie: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (_, _, fragment) in first.iter().flat_map(|datagram| records(datagram)) {
        body.extend_from_slice(&fragment[12..]);
    }
    // version, random, an empty session id, then the cookie's length
    assert_eq!(body[34..36], [0, 0]);
    body[35] = u8::try_from(cookie.len()).expect("a short cookie");
    body.splice(36..36, cookie.iter().copied());
    let length = u32::try_from(body.len())
        .expect("a short message")
        .to_be_bytes();
    let mut message = [&[1], &length[1..], &[0, 1], &[0, 0, 0], &length[1..]].concat();
    message.extend_from_slice(&body);
    let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
    datagram.extend_from_slice(&u16::try_from(message.len()).expect("short").to_be_bytes());
    datagram.extend_from_slice(&message);
    datagram
}

/// The profile in the ServerHello's `use_srtp`.
fn chosen_profile(server_hello: &[u8]) -> u16 {
    let at = server_hello
        .windows(8)
        .position(|bytes| bytes[..6] == [0, 14, 0, 5, 0, 2])
        .expect("the ServerHello has use_srtp");
    u16::from_be_bytes([server_hello[at + 6], server_hello[at + 7]])
}

#[tokio::test]
async fn every_recorded_client_hello_is_answered_with_the_best_profile_it_offers() {
    let server = backend(Limits::default());
    for (client, profile) in [
        ("chromium", SrtpProfile::AeadAes128Gcm),
        ("chromium-nopqc", SrtpProfile::AeadAes128Gcm),
        ("firefox", SrtpProfile::AeadAes128Gcm),
        ("firefox-dtls12max", SrtpProfile::AeadAes128Gcm),
        ("aiortc", SrtpProfile::AeadAes128Gcm),
        ("wrtc", SrtpProfile::Aes128CmHmacSha1_80),
        ("werift", SrtpProfile::AeadAes128Gcm),
        ("libdatachannel", SrtpProfile::AeadAes128Gcm),
        ("gstreamer", SrtpProfile::Aes128CmHmacSha1_80),
        ("ffmpeg9", SrtpProfile::Aes128CmHmacSha1_80),
    ] {
        let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel();
        let handshake = Handshake::new(Role::Server, vec![some_fingerprint()]);
        let send = Arc::new(move |datagram: &[u8]| drop(sender.send(datagram.to_vec())));
        let started = server.start(handshake, send).expect("it starts");
        let hello = recorded_client_hello(client);
        // The worst order of arrival: swapped, and each twice.
        for datagram in hello.iter().rev().chain(&hello) {
            started.association.handle_datagram(datagram);
        }
        let verify_request = soon(sent.recv()).await.expect("an answer");
        let (content_type, epoch, body) = records(&verify_request).remove(0);
        assert_eq!((content_type, epoch, body[0]), (22, 0, 3), "{client}");
        let cookie = &body[15..];
        assert_eq!(usize::from(body[14]), cookie.len());
        started
            .association
            .handle_datagram(&with_cookie(&hello, cookie));
        let flight = loop {
            let datagram = soon(sent.recv()).await.expect("an answer");
            if records(&datagram)[0].2[0] != 3 {
                break datagram;
            }
        };
        let types: Vec<u8> = records(&flight).iter().map(|record| record.2[0]).collect();
        assert_eq!(
            types,
            [2, 11, 12, 13, 14],
            "{client}: ServerHello to ServerHelloDone"
        );
        assert_eq!(
            chosen_profile(&records(&flight)[0].2),
            profile.id(),
            "{client}"
        );
    }
}

#[tokio::test]
async fn a_burst_of_repeats_is_answered_once() {
    let pair = Pair::new();
    let last_flights = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&last_flights);
    let repeat = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&repeat);
    let fate: Fate = Box::new(move |from, datagram| {
        if has_change_cipher_spec(&datagram) {
            match from {
                Role::Server => drop(seen.fetch_add(1, Ordering::Relaxed)),
                Role::Client => *recorded.lock().expect("not poisoned") = datagram.clone(),
            }
        }
        vec![datagram]
    });
    let (mut server, mut client) = pair.connect(fate);
    matching_keys(&mut server, &mut client).await;
    let before = last_flights.load(Ordering::Relaxed);
    let started = std::time::Instant::now();
    let flight = repeat.lock().expect("not poisoned").clone();
    for _ in 0..1000 {
        server.association.handle_datagram(&flight);
    }
    let intervals = usize::try_from(started.elapsed().as_millis() / 40).expect("a short test");
    let repeated = last_flights.load(Ordering::Relaxed) - before;
    assert!(
        (1..=1 + intervals).contains(&repeated),
        "{repeated} in {intervals} intervals"
    );
}
