//! The record protection of an association whose handshake is done: AES-128-GCM (RFC 5288 3,
//! RFC 6347 4.1.2), of which both cipher suites that are negotiated here make use.
//!
//! Kept by the [`Association`](super::Association) in place of the backend's connection, which
//! takes a hundred times the memory, to read the peer's alerts and to say goodbye. Holds the keys
//! as bytes: the cipher is set up for each record, of which there are hardly any. Must never say
//! anything about a record that does not authenticate.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::tls_prf;

use super::Role;
use super::error::AlertDescription;
use super::record::{self, Record};

const KEY_LEN: usize = 16;
/// The part of the nonce that both sides know (RFC 5288 3).
const SALT_LEN: usize = 4;
/// The part of the nonce that each record brings along.
const EXPLICIT_NONCE_LEN: usize = 8;
/// The epoch of all protected records, since there is no renegotiation.
const EPOCH: u16 = 1;

/// What the handshake agreed on, as far as record protection follows from it.
pub(super) struct Secrets<'a> {
    pub(super) master_secret: &'a [u8],
    pub(super) client_random: &'a [u8],
    pub(super) server_random: &'a [u8],
}

/// The keys of both directions.
pub(super) struct Protection {
    local: Half,
    remote: Half,
    next_sequence: u64,
}

// The derived form would print the keys.
impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection")
            .field("next_sequence", &self.next_sequence)
            .finish_non_exhaustive()
    }
}

/// A peer's alert (RFC 5246 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alert {
    pub(super) level: u8,
    pub(super) description: AlertDescription,
}

impl Alert {
    const WARNING: u8 = 1;
    const FATAL: u8 = 2;

    /// Whether there is no association after it (RFC 5246 7.2.1, 7.2.2).
    pub(super) fn ends(self) -> bool {
        self.level == Self::FATAL || self.description == AlertDescription::CLOSE_NOTIFY
    }
}

impl Protection {
    /// Derives the keys. `next_sequence` is the number of the next record this side protects.
    /// `None` if the library refuses the secrets.
    // RFC 5246 6.3: the client's key, the server's key, the client's salt, the server's salt.
    pub(super) fn derive(role: Role, secrets: &Secrets<'_>, next_sequence: u64) -> Option<Self> {
        let block = tls_prf::Secret::new(&tls_prf::P_SHA256, secrets.master_secret)
            .and_then(|secret| {
                secret.derive_with_seed_concatination(
                    b"key expansion",
                    secrets.server_random,
                    secrets.client_random,
                    2 * (KEY_LEN + SALT_LEN),
                )
            })
            .ok()?;
        let (keys, salts) = block.as_ref().split_at(2 * KEY_LEN);
        let half = |place: usize| {
            Some(Half {
                key: keys.chunks_exact(KEY_LEN).nth(place)?.try_into().ok()?,
                salt: salts.chunks_exact(SALT_LEN).nth(place)?.try_into().ok()?,
            })
        };
        let (client, server) = (half(0)?, half(1)?);
        let (local, remote) = match role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        Some(Self {
            local,
            remote,
            next_sequence,
        })
    }

    /// The alert in a record of the peer's; `None` if it is not authentic, or no alert.
    ///
    /// Replays are not told apart: an alert that ends the association ends it the first time, and
    /// no other has any effect.
    pub(super) fn open_alert(&self, record: &Record<'_>) -> Option<Alert> {
        if (record.content_type, record.epoch) != (record::ALERT, EPOCH) {
            return None;
        }
        let (explicit, sealed) = record.body.split_first_chunk::<EXPLICIT_NONCE_LEN>()?;
        let len = sealed.len().checked_sub(MAX_TAG_LEN)?;
        let header = record
            .bytes
            .first_chunk::<{ record::RECORD_HEADER_LEN }>()?;
        let mut buffer = sealed.to_vec();
        let plain = self
            .remote
            .cipher()?
            .open_in_place(
                self.remote.nonce(*explicit),
                Aad::from(additional_data(header, len)?),
                &mut buffer,
            )
            .ok()?;
        match *plain {
            [level, description] => Some(Alert {
                level,
                description: AlertDescription(description),
            }),
            _ => None,
        }
    }

    /// A datagram with a close_notify; `None` if the library refuses.
    pub(super) fn close_notify(&mut self) -> Option<Vec<u8>> {
        let mut body = vec![Alert::WARNING, AlertDescription::CLOSE_NOTIFY.0];
        let sealed_len = EXPLICIT_NONCE_LEN + body.len() + MAX_TAG_LEN;
        let mut datagram = Vec::with_capacity(record::RECORD_HEADER_LEN + sealed_len);
        let number = u64::from(EPOCH) << 48 | self.next_sequence;
        self.next_sequence += 1;
        record::write_header(
            &mut datagram,
            record::ALERT,
            number,
            u16::try_from(sealed_len).ok()?,
        );
        let header = datagram.first_chunk::<{ record::RECORD_HEADER_LEN }>()?;
        // RFC 5288 3: the record's number is never used twice, so it may be the explicit nonce.
        let explicit = number.to_be_bytes();
        self.local
            .cipher()?
            .seal_in_place_append_tag(
                self.local.nonce(explicit),
                Aad::from(additional_data(header, body.len())?),
                &mut body,
            )
            .ok()?;
        datagram.extend_from_slice(&explicit);
        datagram.extend_from_slice(&body);
        Some(datagram)
    }
}

/// One direction's key and salt.
struct Half {
    key: [u8; KEY_LEN],
    salt: [u8; SALT_LEN],
}

impl Half {
    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_128_GCM, &self.key)
            .map(LessSafeKey::new)
            .ok()
    }

    fn nonce(&self, explicit: [u8; EXPLICIT_NONCE_LEN]) -> Nonce {
        let mut nonce = [0; SALT_LEN + EXPLICIT_NONCE_LEN];
        nonce[..SALT_LEN].copy_from_slice(&self.salt);
        nonce[SALT_LEN..].copy_from_slice(&explicit);
        Nonce::assume_unique_for_key(nonce)
    }
}

// RFC 5246 6.2.3.3, RFC 6347 4.1.2.1: epoch and sequence number, type, version, and the length of
// the plaintext.
fn additional_data(
    header: &[u8; record::RECORD_HEADER_LEN],
    plain_len: usize,
) -> Option<[u8; record::RECORD_HEADER_LEN]> {
    let mut data = [0; record::RECORD_HEADER_LEN];
    data[..8].copy_from_slice(&header[3..11]);
    data[8..11].copy_from_slice(&header[..3]);
    data[11..].copy_from_slice(&u16::try_from(plain_len).ok()?.to_be_bytes());
    Some(data)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::dtls::record::Records;
    use webrtc_dtls::cipher_suite::CipherSuite;
    use webrtc_dtls::cipher_suite::cipher_suite_aes_128_gcm_sha256::CipherSuiteAes128GcmSha256;
    use webrtc_dtls::content::ContentType;
    use webrtc_dtls::record_layer::record_layer_header::{PROTOCOL_VERSION1_2, RecordLayerHeader};

    const SECRETS: Secrets<'_> = Secrets {
        master_secret: &[1; 48],
        client_random: &[2; 32],
        server_random: &[3; 32],
    };

    fn protection(role: Role) -> Protection {
        Protection::derive(role, &SECRETS, 5).unwrap()
    }

    fn first(datagram: &[u8]) -> Record<'_> {
        Records::new(datagram).next().unwrap().unwrap()
    }

    /// The crate's cipher for the same secrets, for a record of the given number.
    fn oracle(is_client: bool) -> CipherSuiteAes128GcmSha256 {
        let mut suite = CipherSuiteAes128GcmSha256::new(false);
        suite
            .init(
                SECRETS.master_secret,
                SECRETS.client_random,
                SECRETS.server_random,
                is_client,
            )
            .unwrap();
        suite
    }

    fn sealed_by_the_crate(is_client: bool, content_type: ContentType, plain: &[u8]) -> Vec<u8> {
        let header = RecordLayerHeader {
            content_type,
            protocol_version: PROTOCOL_VERSION1_2,
            epoch: 1,
            sequence_number: 9,
            content_len: plain.len() as u16,
        };
        let mut raw = Vec::new();
        record::write_header(
            &mut raw,
            content_type as u8,
            1 << 48 | 9,
            plain.len() as u16,
        );
        raw.extend_from_slice(plain);
        oracle(is_client).encrypt(&header, &raw).unwrap()
    }

    #[test]
    fn a_close_notify_is_one_to_the_crate_and_to_the_other_side() {
        for (ours, theirs, is_client) in [
            (Role::Server, Role::Client, true),
            (Role::Client, Role::Server, false),
        ] {
            let mut us = protection(ours);
            let datagram = us.close_notify().unwrap();
            let record = first(&datagram);
            assert_eq!((record.epoch, record.sequence), (1, 5));
            assert_eq!(record.bytes.len(), datagram.len());
            let plain = oracle(is_client).decrypt(&datagram).unwrap();
            assert_eq!(plain[record::RECORD_HEADER_LEN..], [1, 0]);
            let alert = protection(theirs).open_alert(&record).unwrap();
            assert!(alert.ends());
            assert_eq!(us.open_alert(&record), None, "its own is not the peer's");
            assert_eq!(first(&us.close_notify().unwrap()).sequence, 6);
        }
    }

    // RFC 5246 7.2.1, 7.2.2.
    #[test]
    fn what_the_crate_seals_is_read_and_only_fatal_alerts_and_close_notify_end() {
        for (role, is_client) in [(Role::Server, true), (Role::Client, false)] {
            let us = protection(role);
            for (level, description, ends) in [(2, 40, true), (1, 0, true), (1, 90, false)] {
                let plain = [level, description];
                let datagram = sealed_by_the_crate(is_client, ContentType::Alert, &plain);
                let alert = us.open_alert(&first(&datagram)).unwrap();
                assert_eq!((alert.level, alert.description.0), (level, description));
                assert_eq!(alert.ends(), ends);
            }
        }
    }

    #[test]
    fn no_bit_of_a_record_can_be_changed() {
        let us = protection(Role::Server);
        let sealed = sealed_by_the_crate(true, ContentType::Alert, &[2, 40]);
        assert!(us.open_alert(&first(&sealed)).is_some());
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Some(Ok(record)) = Records::new(&changed).next() {
                assert_eq!(us.open_alert(&record), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_no_alert_is_not_taken_for_one() {
        let us = protection(Role::Server);
        let data = sealed_by_the_crate(true, ContentType::ApplicationData, &[2, 40]);
        assert_eq!(us.open_alert(&first(&data)), None);
        let long = sealed_by_the_crate(true, ContentType::Alert, &[2, 40, 0]);
        assert_eq!(us.open_alert(&first(&long)), None);
        for len in 1..EXPLICIT_NONCE_LEN + MAX_TAG_LEN {
            let mut short = Vec::new();
            record::write_header(&mut short, record::ALERT, 1 << 48, len as u16);
            short.resize(short.len() + len, 0);
            assert_eq!(us.open_alert(&first(&short)), None);
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let text = format!("{:?}", protection(Role::Client));
        assert_eq!(text, "Protection { next_sequence: 5, .. }");
    }
}
