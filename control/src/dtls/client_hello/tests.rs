#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::dtls::SrtpProfile::{AeadAes128Gcm, Aes128CmHmacSha1_80};
use crate::dtls::message;
use crate::dtls::reassembly::{Fragment, Message, Reassembly};
use crate::dtls::record::Records;
use proptest::prelude::*;

const SHA1_80: u16 = 1;
const SHA1_32: u16 = 2;
const GCM128: u16 = 7;
const GCM256: u16 = 8;

/// Recorded clients, their `use_srtp` lists and what is to be chosen.
const RECORDED: [(&str, &[u16], SrtpProfile); 10] = [
    ("chromium", &[SHA1_80, GCM256, GCM128], AeadAes128Gcm),
    ("chromium-nopqc", &[SHA1_80, GCM256, GCM128], AeadAes128Gcm),
    (
        "firefox",
        &[GCM128, GCM256, SHA1_80, SHA1_32],
        AeadAes128Gcm,
    ),
    (
        "firefox-dtls12max",
        &[GCM128, GCM256, SHA1_80, SHA1_32],
        AeadAes128Gcm,
    ),
    ("aiortc", &[GCM256, GCM128, SHA1_80], AeadAes128Gcm),
    ("wrtc", &[SHA1_80], Aes128CmHmacSha1_80),
    ("werift", &[GCM128, SHA1_80], AeadAes128Gcm),
    ("libdatachannel", &[GCM256, GCM128, SHA1_80], AeadAes128Gcm),
    ("gstreamer", &[SHA1_80], Aes128CmHmacSha1_80),
    ("ffmpeg9", &[SHA1_80], Aes128CmHmacSha1_80),
];

fn datagrams(client: &str) -> Vec<Vec<u8>> {
    let path = format!(
        "{}/../tests/fixtures/dtls/{client}-clienthello.hex",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let byte = |at: usize, line: &str| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    text.lines()
        .map(|line| {
            (0..line.len())
                .step_by(2)
                .map(|at| byte(at, line))
                .collect()
        })
        .collect()
}

fn assemble<'a>(datagrams: impl Iterator<Item = &'a Vec<u8>>) -> Message {
    let mut reassembly = Reassembly::default();
    for datagram in datagrams {
        for record in Records::new(datagram) {
            let mut reader = Reader::new(record.unwrap().body);
            while !reader.is_empty() {
                reassembly.push(Fragment::read(&mut reader).unwrap());
            }
        }
    }
    reassembly.complete().unwrap()
}

#[test]
fn every_recorded_client_hello_is_read_in_either_order_of_arrival() {
    for (client, profiles, chosen) in RECORDED {
        let datagrams = datagrams(client);
        let message = assemble(datagrams.iter());
        assert_eq!(message, assemble(datagrams.iter().rev()), "{client}");
        assert_eq!(message.message_type, message::CLIENT_HELLO, "{client}");
        let hello = ClientHello::parse(&message.body).unwrap_or_else(|| panic!("{client}"));
        assert_eq!(hello.srtp_profiles, profiles, "{client}");
        assert_eq!(
            hello.choose_srtp_profile(&SrtpProfile::PREFERENCE),
            Some(chosen),
            "{client}"
        );
        assert!(hello.offers_dtls_1_2(), "{client}");
        assert!(hello.extended_master_secret, "{client}");
        assert!(
            hello
                .cipher_suites
                .contains(&ECDHE_ECDSA_AES_128_GCM_SHA256),
            "{client}"
        );
        assert!(!hello.has_cookie, "{client}");
    }
}

#[test]
fn clients_of_dtls_1_3_are_recognised_as_taking_1_2_too() {
    for client in ["chromium", "chromium-nopqc", "firefox"] {
        let hello = ClientHello::parse(&assemble(datagrams(client).iter()).body).unwrap();
        assert_eq!(
            hello.supported_versions[..2],
            [0xfefc, DTLS_1_2],
            "{client}"
        );
    }
}

#[test]
fn a_client_of_dtls_1_3_only_is_not_offered_1_2() {
    let mut hello = ClientHello::parse(&assemble(datagrams("firefox").iter()).body).unwrap();
    hello.supported_versions = vec![0xfefc];
    assert!(!hello.offers_dtls_1_2());
}

#[test]
fn a_client_hello_cut_short_or_made_longer_is_refused() {
    let body = assemble(datagrams("chromium").iter()).body;
    for length in 0..body.len() {
        assert_eq!(ClientHello::parse(&body[..length]), None, "{length} bytes");
    }
    assert_eq!(ClientHello::parse(&[&body[..], &[0]].concat()), None);
}

#[test]
fn a_client_hello_that_resumes_a_session_is_refused() {
    let mut body = assemble(datagrams("wrtc").iter()).body;
    assert!(ClientHello::parse(&body).is_some());
    body[34] = 1;
    body.insert(35, 0xaa);
    assert_eq!(ClientHello::parse(&body), None);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = ClientHello::parse(&body);
    }

    #[test]
    fn a_damaged_client_hello_never_panics(
        client in 0..RECORDED.len(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut body = assemble(datagrams(RECORDED[client].0).iter()).body;
        for (at, value) in damage {
            let at = at.index(body.len());
            body[at] = value;
        }
        if let Some(hello) = ClientHello::parse(&body) {
            let _ = hello.choose_srtp_profile(&SrtpProfile::PREFERENCE);
        }
    }
}
