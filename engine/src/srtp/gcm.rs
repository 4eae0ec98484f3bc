//! AEAD_AES_128_GCM and AEAD_AES_256_GCM for SRTP (RFC 7714).
//!
//! Called only through [`Cipher`](super::cipher::Cipher). Payloads are encrypted and decrypted
//! from one buffer into another in a single pass.

use super::keys::{Label, Secret};
use super::{Incoming, MasterKey, Outgoing, PacketId, Profile, SrtpError};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Session key and salt of one direction.
#[derive(Debug)]
pub(super) struct Gcm {
    key: LessSafeKey,
    salt: [u8; NONCE_LEN],
}

impl Gcm {
    pub(super) fn new(profile: Profile, master: &MasterKey) -> Result<Self, SrtpError> {
        let mut key = Secret([0; 32]);
        let key = &mut key.0[..profile.key_len()];
        master.derive(Label::Encryption, key)?;
        let mut salt = [0; NONCE_LEN];
        master.derive(Label::Salt, &mut salt)?;
        Self::from_session_keys(key, salt)
    }

    /// Takes session keys as they are; the key's length chooses the algorithm.
    pub(super) fn from_session_keys(key: &[u8], salt: [u8; NONCE_LEN]) -> Result<Self, SrtpError> {
        let algorithm = if key.len() == 32 {
            &AES_256_GCM
        } else {
            &AES_128_GCM
        };
        let key = UnboundKey::new(algorithm, key).map_err(|_| SrtpError::CryptoFailure)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            salt,
        })
    }

    pub(super) fn seal(&self, packet: Outgoing<'_>, payload: &[u8]) -> Result<(), SrtpError> {
        let Outgoing {
            id,
            header,
            body,
            tag,
        } = packet;
        let aad = Aad::from(header);
        self.key
            .seal_out_of_place_scatter(self.nonce(&id), aad, payload, body, &[], tag)
            .map_err(|_| SrtpError::CryptoFailure)
    }

    pub(super) fn seal_parts(
        &self,
        mut packet: Outgoing<'_>,
        parts: &[&[u8]],
    ) -> Result<(), SrtpError> {
        packet.gather(parts);
        let Outgoing {
            id,
            header,
            body,
            tag,
        } = packet;
        let aad = Aad::from(header);
        self.key
            .seal_in_place_scatter(self.nonce(&id), aad, body, &[], tag)
            .map_err(|_| SrtpError::CryptoFailure)
    }

    pub(super) fn open(&self, packet: &Incoming<'_>, plain: &mut [u8]) -> Result<(), SrtpError> {
        let aad = Aad::from(packet.header);
        self.key
            .open_separate_gather(self.nonce(&packet.id), aad, packet.body, packet.tag, plain)
            .map_err(|_| SrtpError::AuthenticationFailed)
    }

    // RFC 7714 8.1: two zero bytes, SSRC, rollover counter and sequence number, XOR the salt.
    fn nonce(&self, id: &PacketId) -> Nonce {
        let [s0, s1, s2, s3] = id.ssrc;
        let [i0, i1, i2, i3, i4, i5] = id.index;
        let id = [0, 0, s0, s1, s2, s3, i0, i1, i2, i3, i4, i5];
        Nonce::assume_unique_for_key(std::array::from_fn(|at| id[at] ^ self.salt[at]))
    }
}
