//! SRTCP sessions: against `webrtc-srtp`, against replays, and against forgers without keys.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanmill_engine::srtp::{
    KeyMaterial, MAX_RTCP_SOURCES, MasterKey, Profile, RtcpSession, SrtpError,
};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

const SSRC: u32 = 0xcafe_babe;

/// An RTCP packet of `words` words of contents after the sender's SSRC.
fn rtcp(ssrc: u32, words: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 206];
    packet.extend((words + 1).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..words).flat_map(|word| [word as u8, 1, 2, 3]));
    packet
}

/// A session and the peer at its other end.
fn sessions(profile: Profile) -> (RtcpSession, RtcpSession) {
    let exported: Vec<u8> = (0..KeyMaterial::exporter_len(profile) as u8).collect();
    let session = |is_server| {
        let keys = KeyMaterial::from_dtls_exporter(profile, &exported, is_server).unwrap();
        RtcpSession::new(profile, &keys.local, &keys.remote).unwrap()
    };
    (session(true), session(false))
}

#[test]
fn srtcp_is_the_oracles_both_ways() {
    let secret: Vec<u8> = (0..46).collect();
    for (profile, oracle_profile) in [
        (Profile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
        (Profile::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
        (
            Profile::Aes128CmSha1_80,
            ProtectionProfile::Aes128CmHmacSha1_80,
        ),
    ] {
        let (key, salt) = (
            &secret[..profile.key_len()],
            &secret[32..32 + profile.salt_len()],
        );
        let oracle = || Context::new(key, salt, oracle_profile, None, None).unwrap();
        let key = MasterKey::new(profile, key, salt).unwrap();
        let mut session = RtcpSession::new(profile, &key, &key).unwrap();
        let (mut sealing, mut opening) = (oracle(), oracle());
        for words in 0..300 {
            let plain = rtcp(SSRC, words);
            let sealed = sealing.encrypt_rtcp(&plain).unwrap();
            assert_eq!(session.open(&sealed), Ok(plain.clone()));
            assert_eq!(session.seal(&plain), Ok(sealed.to_vec()));
            assert_eq!(opening.decrypt_rtcp(&sealed).unwrap(), plain);
        }
    }
}

#[test]
fn a_replayed_srtcp_packet_is_refused() {
    for profile in Profile::ALL {
        let (mut server, mut client) = sessions(profile);
        let sealed: Vec<_> = (0..4)
            .map(|i| client.seal(&rtcp(SSRC, i)).unwrap())
            .collect();
        for at in [0, 3, 1] {
            assert_eq!(server.open(&sealed[at]), Ok(rtcp(SSRC, at as u16)));
        }
        for at in [0, 1, 3] {
            assert_eq!(server.open(&sealed[at]), Err(SrtpError::Replayed));
        }
        assert_eq!(server.open(&sealed[2]), Ok(rtcp(SSRC, 2)));
        // RFC 3711 3.2.3: the index belongs to the SSRC, so another one starts anew.
        let other = client.seal(&rtcp(SSRC + 1, 0)).unwrap();
        assert_eq!(server.open(&other), Ok(rtcp(SSRC + 1, 0)));
    }
}

#[test]
fn srtcp_with_any_bit_flipped_is_refused_and_leaves_the_session_as_it_was() {
    for profile in Profile::ALL {
        let (mut server, mut client) = sessions(profile);
        let first = client.seal(&rtcp(SSRC, 5)).unwrap();
        for bit in 0..first.len() * 8 {
            let mut forged = first.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(server.open(&forged).is_err(), "{profile} bit {bit}");
        }
        // Some of those claimed an index far ahead; the genuine packet is still the first one.
        assert_eq!(server.open(&first), Ok(rtcp(SSRC, 5)));
        let second = client.seal(&rtcp(SSRC, 6)).unwrap();
        assert_eq!(server.open(&second), Ok(rtcp(SSRC, 6)));
    }
}

#[test]
fn unencrypted_srtcp_is_refused() {
    for profile in Profile::ALL {
        let (mut server, _) = sessions(profile);
        let mut forged = rtcp(SSRC, 5);
        forged.extend([0; 4 + 16]);
        assert_eq!(
            server.open(&forged),
            Err(SrtpError::MalformedRtcp),
            "{profile}"
        );
    }
}

#[test]
fn srtcp_cut_short_anywhere_is_refused() {
    for profile in Profile::ALL {
        let (mut server, mut client) = sessions(profile);
        let sealed = client.seal(&rtcp(SSRC, 3)).unwrap();
        for len in 0..sealed.len() {
            assert!(server.open(&sealed[..len]).is_err(), "{profile} {len}");
        }
        assert_eq!(server.open(&sealed), Ok(rtcp(SSRC, 3)));
    }
}

#[test]
fn what_is_not_rtcp_is_not_sealed() {
    let (mut server, _) = sessions(Profile::AeadAes128Gcm);
    for len in 0..8 {
        let refused = server.seal(&rtcp(SSRC, 0)[..len]);
        assert_eq!(refused, Err(SrtpError::TooShort { len, min: 8 }));
    }
    assert_eq!(server.seal(&[0x40; 8]), Err(SrtpError::MalformedRtcp));
}

#[test]
fn authenticated_sources_are_bounded_and_forged_ones_take_no_place() {
    let (mut server, mut client) = sessions(Profile::AeadAes128Gcm);
    let mut forged = client.seal(&rtcp(0, 1)).unwrap();
    for ssrc in 1..1000u32 {
        forged[4..8].copy_from_slice(&ssrc.to_be_bytes());
        assert_eq!(server.open(&forged), Err(SrtpError::AuthenticationFailed));
    }
    let max = MAX_RTCP_SOURCES as u32;
    for ssrc in 0..max {
        let sealed = client.seal(&rtcp(ssrc, 1)).unwrap();
        assert_eq!(server.open(&sealed), Ok(rtcp(ssrc, 1)));
    }
    let sealed = client.seal(&rtcp(max, 1)).unwrap();
    assert_eq!(server.open(&sealed), Err(SrtpError::TooManySources));
    let sealed = client.seal(&rtcp(0, 2)).unwrap();
    assert_eq!(server.open(&sealed), Ok(rtcp(0, 2)));
}
