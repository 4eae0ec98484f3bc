//! Seals and opens RTP against `webrtc-srtp`, byte for byte, in both directions.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanmill_engine::srtp::{
    MAX_TOGETHER, MasterKey, Opener, Profile, ReplayWindow, RtcpSession, Sealer, ShortTag,
    SrtpError, Untagged, tags,
};
use proptest::prelude::*;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

const SSRC: u32 = 0xcafe_babe;

fn oracle_profile(profile: Profile) -> ProtectionProfile {
    match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    }
}

fn any_profile() -> impl Strategy<Value = Profile> {
    prop::sample::select(&Profile::ALL[..])
}

/// A master key and the same one in the oracle's form.
fn keys(profile: Profile, secret: &[u8; 46]) -> (MasterKey, Context) {
    let key = &secret[..profile.key_len()];
    let salt = &secret[32..32 + profile.salt_len()];
    let oracle = Context::new(key, salt, oracle_profile(profile), None, None).unwrap();
    (MasterKey::new(profile, key, salt).unwrap(), oracle)
}

/// An RTP packet cut at the end of its header.
#[derive(Debug, Clone)]
struct Rtp {
    header: Vec<u8>,
    payload: Vec<u8>,
}

impl Rtp {
    fn with_seq(&self, seq: u16) -> Self {
        let mut rtp = self.clone();
        rtp.header[2..4].copy_from_slice(&seq.to_be_bytes());
        rtp
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.header[..], &self.payload[..]].concat()
    }
}

/// Headers with CSRCs and with one-byte, or opaque, extensions (RFC 3550 5.1, RFC 8285 4.2).
fn any_rtp() -> impl Strategy<Value = Rtp> {
    let one_byte_elements = |elements: Vec<[u8; 3]>| {
        let element = |(at, [a, b, c]): (usize, [u8; 3])| [(at as u8 + 1) << 4 | 2, a, b, c];
        Some((
            0xbede,
            elements.into_iter().enumerate().map(element).collect(),
        ))
    };
    let extension = prop_oneof![
        Just(None),
        prop::collection::vec(any::<[u8; 4]>(), 0..6).prop_map(|words| Some((0x1234, words))),
        prop::collection::vec(any::<[u8; 3]>(), 1..6).prop_map(one_byte_elements),
    ];
    let payload_len = prop_oneof![Just(0), Just(1400), 0usize..=1400];
    (
        any::<(bool, u8, u32)>(),
        prop::collection::vec(any::<[u8; 4]>(), 0..=15),
        extension,
        payload_len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)),
    )
        .prop_map(
            |((marker, payload_type, timestamp), csrcs, extension, payload)| {
                let mut header = vec![
                    0x80 | u8::from(extension.is_some()) << 4 | csrcs.len() as u8,
                    u8::from(marker) << 7 | payload_type & 0x7f,
                    0,
                    0,
                ];
                header.extend(timestamp.to_be_bytes());
                header.extend(SSRC.to_be_bytes());
                header.extend(csrcs.concat());
                if let Some((extension_profile, words)) = extension {
                    header.extend(u16::to_be_bytes(extension_profile));
                    header.extend((words.len() as u16).to_be_bytes());
                    header.extend(words.concat());
                }
                Rtp { header, payload }
            },
        )
}

/// Packet indices of a stream: from anywhere, ever forward, across several wraps.
fn any_indices() -> impl Strategy<Value = Vec<u64>> {
    let step = prop_oneof![4 => 1u64..4, 1 => 15_000u64..30_000];
    (0u64..0x7fff, prop::collection::vec(step, 1..40)).prop_map(|(first, steps)| {
        let mut index = first;
        let mut indices = vec![first];
        indices.extend(steps.into_iter().map(|step| {
            index += step;
            index
        }));
        indices
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sealed_packets_are_those_of_the_oracle(
        profile in any_profile(),
        secret: [u8; 46],
        packets in prop::collection::vec(any_rtp(), 1..4),
        indices in any_indices(),
    ) {
        let (key, mut oracle) = keys(profile, &secret);
        let sealer = Sealer::new(profile, &key).unwrap();
        let mut out = [0; 2048];
        for (&index, rtp) in indices.iter().zip(packets.iter().cycle()) {
            let rtp = rtp.with_seq(index as u16);
            let expected = oracle.encrypt_rtp(&rtp.bytes()).unwrap();
            let len = sealer.seal(index, &rtp.header, &rtp.payload, &mut out).unwrap();
            prop_assert_eq!(len, rtp.header.len() + rtp.payload.len() + sealer.overhead());
            prop_assert_eq!(&out[..len], &expected[..]);

            let (one, rest) = rtp.payload.split_at(rtp.payload.len().min(2));
            let (two, three) = rest.split_at(rest.len() / 2);
            out.fill(0);
            let len = sealer.seal_parts(index, &rtp.header, &[one, two, three], &mut out).unwrap();
            prop_assert_eq!(&out[..len], &expected[..]);
        }
    }

    #[test]
    fn the_oracles_packets_open_to_what_it_sealed(
        profile in any_profile(),
        secret: [u8; 46],
        packets in prop::collection::vec(any_rtp(), 1..4),
        indices in any_indices(),
    ) {
        let (key, mut oracle) = keys(profile, &secret);
        let opener = Opener::new(profile, &key).unwrap();
        let mut window = ReplayWindow::new();
        let mut out = [0; 2048];
        for (&index, rtp) in indices.iter().zip(packets.iter().cycle()) {
            let rtp = rtp.with_seq(index as u16);
            let sealed = oracle.encrypt_rtp(&rtp.bytes()).unwrap();
            let estimate = window.estimate(index as u16);
            prop_assert_eq!(estimate, index);
            prop_assert_eq!(window.check(estimate), Ok(()));
            let len = opener.open(estimate, rtp.header.len(), &sealed, &mut out).unwrap();
            prop_assert_eq!(&out[..len], &rtp.bytes()[..]);
            window.accept(estimate);
            prop_assert_eq!(window.check(estimate), Err(SrtpError::Replayed));
        }
    }

    #[test]
    fn the_oracle_opens_what_was_sealed(
        profile in any_profile(),
        secret: [u8; 46],
        rtp in any_rtp(),
        indices in any_indices(),
    ) {
        let (key, mut oracle) = keys(profile, &secret);
        let sealer = Sealer::new(profile, &key).unwrap();
        let mut out = [0; 2048];
        for index in indices {
            let rtp = rtp.with_seq(index as u16);
            let len = sealer.seal(index, &rtp.header, &rtp.payload, &mut out).unwrap();
            prop_assert_eq!(&oracle.decrypt_rtp(&out[..len]).unwrap()[..], &rtp.bytes()[..]);
        }
    }

    #[test]
    fn a_packet_with_any_byte_changed_is_refused(
        profile in any_profile(),
        secret: [u8; 46],
        rtp in any_rtp(),
        index in 0u64..1 << 20,
        at: prop::sample::Index,
        change in 1u8..,
    ) {
        let (key, _) = keys(profile, &secret);
        let sealer = Sealer::new(profile, &key).unwrap();
        let opener = Opener::new(profile, &key).unwrap();
        let rtp = rtp.with_seq(index as u16);
        let (mut sealed, mut out) = ([0; 2048], [0; 2048]);
        let len = sealer.seal(index, &rtp.header, &rtp.payload, &mut sealed).unwrap();
        let at = at.index(len);
        sealed[at] ^= change;
        let index = index & !0xffff | u64::from(u16::from_be_bytes([sealed[2], sealed[3]]));
        let refused = opener.open(index, rtp.header.len(), &sealed[..len], &mut out);
        prop_assert_eq!(refused, Err(SrtpError::AuthenticationFailed));
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(
        profile in any_profile(),
        packet in prop::collection::vec(any::<u8>(), 0..300),
        version_2: bool,
        header_len in 0usize..310,
        index: u64,
        out_len in 0usize..300,
    ) {
        let (key, _) = keys(profile, &[7; 46]);
        let mut packet = packet;
        if let Some(first) = packet.first_mut().filter(|_| version_2) {
            *first = 0x80 | *first & 0x3f;
        }
        let mut out = vec![0; out_len];
        let opener = Opener::new(profile, &key).unwrap();
        prop_assert!(opener.open(index, header_len, &packet, &mut out).is_err());
        if let Some(&[high, low]) = packet.get(2..4).and_then(|seq| seq.first_chunk()) {
            let index = u64::from(u16::from_be_bytes([high, low]));
            prop_assert!(opener.open(index, header_len, &packet, &mut out).is_err());
        }
        let mut session = RtcpSession::new(profile, &key, &key).unwrap();
        prop_assert!(session.open(&packet).is_err());
    }
}

#[test]
fn packets_sealed_side_by_side_are_those_of_the_oracle() {
    let profile = Profile::Aes128CmSha1_80;
    for count in 1..=MAX_TOGETHER {
        for payload_len in [0, 1, 37, 45, 51, 52, 1188] {
            let secrets: Vec<[u8; 46]> = (0..count).map(|at| [at as u8 + 1; 46]).collect();
            let sealers: Vec<_> = secrets
                .iter()
                .map(|secret| Sealer::new(profile, &keys(profile, secret).0).unwrap())
                .collect();
            let payload: Vec<u8> = (0..payload_len).map(|at| at as u8).collect();
            let header = |at: usize| {
                let mut header = [0x80, 96, 0, 0, 1, 2, 3, 4, 0, 0, 0, at as u8];
                header[2..4].copy_from_slice(&(100 + at as u16).to_be_bytes());
                header
            };
            let len = 12 + payload_len + 10;
            let mut sealed = vec![vec![0; len]; count];
            for (at, sealer) in sealers.iter().enumerate() {
                let index = 100 + at as u64;
                let out = &mut sealed[at];
                assert_eq!(sealer.encrypt(index, &header(at), &payload, out), Ok(len));
            }
            let untagged: Vec<_> = sealers
                .iter()
                .zip(&sealed)
                .enumerate()
                .map(|(at, (sealer, packet))| Untagged {
                    sealer,
                    index: 100 + at as u64,
                    packet: &packet[..len - 10],
                })
                .collect();
            let mut made = [ShortTag::default(); MAX_TOGETHER];
            tags(&untagged, &mut made).unwrap();
            for (at, secret) in secrets.iter().enumerate() {
                sealed[at][len - 10..].copy_from_slice(&made[at]);
                let plain = [&header(at)[..], &payload].concat();
                let expected = keys(profile, secret).1.encrypt_rtp(&plain).unwrap();
                assert_eq!(sealed[at], expected, "{at} of {count}, {payload_len} bytes");
            }
        }
    }
}

#[test]
fn what_cannot_be_tagged_side_by_side_is_refused() {
    let sealer = |profile| Sealer::new(profile, &keys(profile, &[1; 46]).0).unwrap();
    let (gcm, cm) = (
        sealer(Profile::AeadAes128Gcm),
        sealer(Profile::Aes128CmSha1_80),
    );
    let untagged = |sealer, packet| Untagged {
        sealer,
        index: 1,
        packet,
    };
    let mut made = [ShortTag::default(); MAX_TOGETHER];
    let refused = Err(SrtpError::CryptoFailure);
    assert_eq!(tags(&[untagged(&gcm, &[0; 20])], &mut made), refused);
    let uneven = [untagged(&cm, &[0; 20][..]), untagged(&cm, &[0; 21])];
    assert_eq!(tags(&uneven, &mut made), refused);
    let many = [untagged(&cm, &[0; 20]); MAX_TOGETHER + 1];
    assert_eq!(tags(&many, &mut [ShortTag::default(); 20]), refused);
    assert_eq!(tags(&many[..2], &mut made[..1]), refused);
    assert_eq!(tags(&[], &mut []), Ok(()));
    assert_eq!(gcm.prefers_company_of(), None);
}
