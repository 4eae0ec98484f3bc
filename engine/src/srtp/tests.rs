//! Published test vectors, key layout, tampering and lengths.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::cm_sha1::CmSha1;
use super::gcm::Gcm;
use super::keys::Label;
use super::*;
use std::collections::HashSet;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn key_of(profile: Profile, seed: u8) -> MasterKey {
    let bytes: Vec<u8> = (0..64).map(|i: u8| i.wrapping_mul(7) ^ seed).collect();
    MasterKey::new(
        profile,
        &bytes[..profile.key_len()],
        &bytes[40..40 + profile.salt_len()],
    )
    .unwrap()
}

fn rtp_header(seq: u16) -> Vec<u8> {
    let mut header = unhex("8060 0000 01020304 cafebabe");
    header[2..4].copy_from_slice(&seq.to_be_bytes());
    header
}

const RFC7714_PLAIN: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973
    20646976 69736120 696e2070 61727465 73207472 6573";

fn assert_rfc7714_vector(key: &str, sealed: &str) {
    let salt: [u8; 12] = unhex("51756964 2070726f 2071756f").try_into().unwrap();
    let cipher = || Cipher::Gcm(Gcm::from_session_keys(&unhex(key), salt).unwrap());
    let plain = unhex(RFC7714_PLAIN);
    let (header, payload) = plain.split_at(12);
    let mut out = [0; 128];
    let len = Sealer(cipher())
        .seal(0xf17b, header, payload, &mut out)
        .unwrap();
    assert_eq!(out[..len], unhex(sealed));
    let mut opened = [0; 128];
    let len = Opener(cipher())
        .open(0xf17b, 12, &out[..len], &mut opened)
        .unwrap();
    assert_eq!(opened[..len], plain);
}

// RFC 7714 16.1.1
#[test]
fn aead_aes_128_gcm_gives_the_published_packet() {
    assert_rfc7714_vector(
        "000102030405060708090a0b0c0d0e0f",
        "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f
         42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
    );
}

// RFC 7714 16.2.1
#[test]
fn aead_aes_256_gcm_gives_the_published_packet() {
    assert_rfc7714_vector(
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3
         b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
    );
}

fn assert_derives(master: &MasterKey, label: Label, expected: &str) {
    let expected = unhex(expected);
    let mut derived = vec![0; expected.len()];
    master.derive(label, &mut derived).unwrap();
    assert_eq!(derived, expected, "{label:?}");
}

// RFC 3711 B.3
#[test]
fn aes_cm_key_derivation_gives_the_published_keys() {
    let master = MasterKey::new(
        Profile::Aes128CmSha1_80,
        &unhex("E1F97A0D3E018BE0D64FA32C06DE4139"),
        &unhex("0EC675AD498AFEEBB6960B3AABE6"),
    )
    .unwrap();
    assert_derives(
        &master,
        Label::Encryption,
        "C61E7A93744F39EE10734AFE3FF7A087",
    );
    assert_derives(&master, Label::Salt, "30CBBC08863D8C85D49DB34A9AE1");
    assert_derives(
        &master,
        Label::Authentication,
        "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE
         E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25
         6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2",
    );
}

// RFC 6188 7.2, whose 14-byte salt no AES-256 profile here has: the first 12 bytes and zeros give
// other keys, so the 14 are set past the profile's length check.
#[test]
fn aes_256_cm_key_derivation_gives_the_published_keys() {
    let salt = unhex("3B04803DE51EE7C96423AB5B78D2");
    let mut master = MasterKey::new(
        Profile::AeadAes256Gcm,
        &unhex("F0F04914B513F2763A1B1FA130F10E2998F6F6E43E4309D1E622A0E332B9F1B6"),
        &salt[..12],
    )
    .unwrap();
    master.set_salt_for_test(&salt);
    assert_derives(
        &master,
        Label::Encryption,
        "5BA1064E30EC51613CAD926C5A28EF731EC7FB397F70A960653CAF06554CD8C4",
    );
    assert_derives(&master, Label::Salt, "FA31791685CA444A9E07C6C64E93");
    assert_derives(
        &master,
        Label::Authentication,
        "FD9C32D39ED5FBB5A9DC96B30818454D1313DC05",
    );
}

// RFC 3711 B.2: the keystream is what sealing zeros gives.
#[test]
fn aes_cm_gives_the_published_keystream() {
    let salt = unhex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
    let key = unhex("2B7E151628AED2A6ABF7158809CF4F3C")
        .try_into()
        .unwrap();
    let sealer = Sealer(Cipher::CmSha1(Box::new(
        CmSha1::from_session_keys(&key, &[0; 20], salt).unwrap(),
    )));
    let header = unhex("80600000 00000000 00000000");
    let mut out = [0; 70];
    assert_eq!(sealer.seal(0, &header, &[0; 48], &mut out), Ok(70));
    assert_eq!(
        out[12..60],
        unhex(
            "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
             41E95B3BB0A2E8DD477901E4FCA894C0"
        )
    );
}

#[test]
fn profile_numbers_round_trip_and_foreign_ones_are_unknown() {
    for profile in Profile::ALL {
        assert_eq!(Profile::from_id(profile.id()), Some(profile));
    }
    let known: HashSet<u16> = Profile::ALL.iter().map(|profile| profile.id()).collect();
    assert_eq!(known, HashSet::from([0x0001, 0x0007, 0x0008]));
    assert_eq!(
        (0..=u16::MAX)
            .filter(|&id| Profile::from_id(id).is_some())
            .count(),
        3
    );
}

// RFC 5764 4.2
#[test]
fn exported_keys_are_cut_client_first_and_keys_before_salts() {
    for profile in Profile::ALL {
        let (key_len, salt_len) = (profile.key_len(), profile.salt_len());
        let exported: Vec<u8> = [
            vec![1; key_len],
            vec![2; key_len],
            vec![3; salt_len],
            vec![4; salt_len],
        ]
        .concat();
        assert_eq!(exported.len(), KeyMaterial::exporter_len(profile));
        let server = KeyMaterial::from_dtls_exporter(profile, &exported, true).unwrap();
        let client = KeyMaterial::from_dtls_exporter(profile, &exported, false).unwrap();
        for (of_client, of_server) in [
            (&client.local, &client.remote),
            (&server.remote, &server.local),
        ] {
            assert_eq!(of_client.key(), vec![1; key_len]);
            assert_eq!(of_server.key(), vec![2; key_len]);
            assert_eq!(of_client.salt(), vec![3; salt_len]);
            assert_eq!(of_server.salt(), vec![4; salt_len]);
        }
    }
}

#[test]
fn key_material_of_another_length_is_refused() {
    for profile in Profile::ALL {
        let needed = KeyMaterial::exporter_len(profile);
        for len in [0, needed - 1, needed + 1] {
            let refused = KeyMaterial::from_dtls_exporter(profile, &vec![0; len], true);
            assert_eq!(refused.err(), Some(SrtpError::BadKeyLength { len, needed }));
        }
    }
}

#[test]
fn a_key_of_another_profile_is_refused() {
    let key = key_of(Profile::AeadAes128Gcm, 1);
    let refused = Err(SrtpError::BadKeyLength {
        len: 28,
        needed: 44,
    });
    assert_eq!(Sealer::new(Profile::AeadAes256Gcm, &key).map(drop), refused);
    assert_eq!(Opener::new(Profile::AeadAes256Gcm, &key).map(drop), refused);
    let own = key_of(Profile::AeadAes256Gcm, 1);
    assert_eq!(
        RtcpSession::new(Profile::AeadAes256Gcm, &own, &key).map(drop),
        refused
    );
    assert_eq!(
        RtcpSession::new(Profile::AeadAes256Gcm, &key, &own).map(drop),
        refused
    );
}

#[test]
fn key_bytes_do_not_show_in_debug_text() {
    let key = MasterKey::new(Profile::AeadAes128Gcm, &[0xab; 16], &[0xcd; 12]).unwrap();
    let material = KeyMaterial {
        local: key.clone(),
        remote: key,
    };
    let text = format!("{material:?}");
    assert!(text.contains("AeadAes128Gcm"));
    assert!(
        !text.contains("171") && !text.contains("205") && !text.contains("ab"),
        "{text}"
    );
}

#[test]
fn every_flipped_bit_of_a_packet_is_refused() {
    for profile in Profile::ALL {
        let key = key_of(profile, 3);
        let sealer = Sealer::new(profile, &key).unwrap();
        let opener = Opener::new(profile, &key).unwrap();
        let mut sealed = [0; 200];
        let len = sealer
            .seal(500, &rtp_header(500), b"payload", &mut sealed)
            .unwrap();
        let mut plain = [0; 200];
        assert_eq!(opener.open(500, 12, &sealed[..len], &mut plain), Ok(19));
        for bit in 0..len * 8 {
            let mut tampered = sealed;
            tampered[bit / 8] ^= 1 << (bit % 8);
            // A changed sequence number is met with the index it claims.
            let seq = u16::from_be_bytes([tampered[2], tampered[3]]);
            let refused = opener.open(seq.into(), 12, &tampered[..len], &mut plain);
            assert_eq!(
                refused,
                Err(SrtpError::AuthenticationFailed),
                "{profile} bit {bit}"
            );
        }
    }
}

#[test]
fn a_packet_opened_with_another_rollover_counter_or_header_length_is_refused() {
    for profile in Profile::ALL {
        let key = key_of(profile, 4);
        let sealer = Sealer::new(profile, &key).unwrap();
        let opener = Opener::new(profile, &key).unwrap();
        let (mut sealed, mut plain) = ([0; 200], [0; 200]);
        let len = sealer
            .seal(0x5_0007, &rtp_header(7), &[9; 40], &mut sealed)
            .unwrap();
        let sealed = &sealed[..len];
        assert_eq!(opener.open(0x5_0007, 12, sealed, &mut plain), Ok(52));
        assert_eq!(
            opener.open(0x4_0007, 12, sealed, &mut plain),
            Err(SrtpError::AuthenticationFailed)
        );
        if profile != Profile::Aes128CmSha1_80 {
            // HMAC-SHA1 covers header and body alike, so only AEAD can tell.
            assert_eq!(
                opener.open(0x5_0007, 16, sealed, &mut plain),
                Err(SrtpError::AuthenticationFailed)
            );
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused_and_those_that_just_fit_are_not() {
    for profile in Profile::ALL {
        let key = key_of(profile, 5);
        let sealer = Sealer::new(profile, &key).unwrap();
        let opener = Opener::new(profile, &key).unwrap();
        let overhead = sealer.overhead();
        assert_eq!(
            (overhead, opener.overhead()),
            (profile.tag_len(), profile.tag_len())
        );
        let header = rtp_header(1);
        let mut sealed = vec![0; 17 + overhead];
        let needed = sealed.len();
        let mut small = vec![0; needed - 1];
        assert_eq!(
            sealer.seal(1, &header, &[1; 5], &mut small),
            Err(SrtpError::BufferTooSmall {
                len: needed - 1,
                needed
            })
        );
        assert_eq!(
            sealer.seal(1, &header[..11], &[1; 5], &mut sealed),
            Err(SrtpError::TooShort { len: 11, min: 12 })
        );
        assert_eq!(sealer.seal(1, &header, &[1; 5], &mut sealed), Ok(needed));
        let mut plain = [0; 17];
        assert_eq!(opener.open(1, 12, &sealed, &mut plain), Ok(17));
        assert_eq!(
            opener.open(1, 12, &sealed, &mut plain[..16]),
            Err(SrtpError::BufferTooSmall {
                len: 16,
                needed: 17
            })
        );
        for len in 0..12 + overhead {
            let refused = opener.open(1, 12, &sealed[..len], &mut plain);
            assert_eq!(
                refused,
                Err(SrtpError::TooShort {
                    len,
                    min: 12 + overhead
                })
            );
        }
        for header_len in [0, 11, 18, usize::MAX] {
            let refused = opener.open(1, header_len, &sealed, &mut plain);
            assert!(
                matches!(refused, Err(SrtpError::TooShort { .. })),
                "{header_len}"
            );
        }
    }
}

#[test]
fn an_index_that_is_not_the_headers_or_does_not_exist_is_refused() {
    let key = key_of(Profile::AeadAes128Gcm, 6);
    let sealer = Sealer::new(Profile::AeadAes128Gcm, &key).unwrap();
    let opener = Opener::new(Profile::AeadAes128Gcm, &key).unwrap();
    let (mut out, mut plain) = ([0; 64], [0; 64]);
    assert_eq!(
        sealer.seal(0x1_0002, &rtp_header(1), b"", &mut out),
        Err(SrtpError::IndexMismatch { index: 0x1_0002 })
    );
    assert_eq!(
        sealer.seal(PACKET_INDEX_END + 1, &rtp_header(1), b"", &mut out),
        Err(SrtpError::IndexExhausted)
    );
    let last = PACKET_INDEX_END - 1;
    let len = sealer
        .seal(last, &rtp_header(u16::MAX), b"", &mut out)
        .unwrap();
    assert_eq!(opener.open(last, 12, &out[..len], &mut plain), Ok(12));
    assert_eq!(
        opener.open(last - 1, 12, &out[..len], &mut plain),
        Err(SrtpError::IndexMismatch { index: last - 1 })
    );
    assert_eq!(
        opener.open(last + 0x1_0000, 12, &out[..len], &mut plain),
        Err(SrtpError::IndexExhausted)
    );
}

#[test]
fn what_follows_the_packet_in_the_output_is_left_alone() {
    for profile in Profile::ALL {
        let key = key_of(profile, 7);
        let mut out = [0xee; 100];
        let sealer = Sealer::new(profile, &key).unwrap();
        let len = sealer.seal(1, &rtp_header(1), &[1; 9], &mut out).unwrap();
        assert!(out[len..].iter().all(|&byte| byte == 0xee));
        let mut plain = [0xee; 100];
        let opener = Opener::new(profile, &key).unwrap();
        assert_eq!(opener.open(1, 12, &out[..len], &mut plain), Ok(21));
        assert!(plain[21..].iter().all(|&byte| byte == 0xee));
    }
}
