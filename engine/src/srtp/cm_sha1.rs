//! AES_CM_128_HMAC_SHA1_80: AES in counter mode with a truncated HMAC-SHA1 tag (RFC 3711).
//!
//! Called only through [`Cipher`](super::cipher::Cipher), for peers that offer nothing better. The
//! library encrypts in counter mode only in place, so payloads are copied first.

use super::keys::{AUTH_KEY_LEN, Label, Secret};
use super::sha1::MacKey;
use super::{Incoming, MasterKey, Outgoing, PacketId, Profile, SrtpError};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

const SALT_LEN: usize = Profile::Aes128CmSha1_80.salt_len();
const TAG_LEN: usize = Profile::Aes128CmSha1_80.tag_len();

/// Session keys and salt of one direction.
#[derive(Debug)]
pub(super) struct CmSha1 {
    key: EncryptingKey,
    auth_key: hmac::Key,
    mac_key: MacKey,
    salt: [u8; SALT_LEN],
}

impl CmSha1 {
    pub(super) fn new(master: &MasterKey) -> Result<Self, SrtpError> {
        let mut key = Secret([0; 16]);
        master.derive(Label::Encryption, &mut key.0)?;
        let mut auth_key = Secret([0; AUTH_KEY_LEN]);
        master.derive(Label::Authentication, &mut auth_key.0)?;
        let mut salt = [0; SALT_LEN];
        master.derive(Label::Salt, &mut salt)?;
        Self::from_session_keys(&key.0, &auth_key.0, salt)
    }

    /// Takes session keys as they are.
    pub(super) fn from_session_keys(
        key: &[u8; 16],
        auth_key: &[u8; AUTH_KEY_LEN],
        salt: [u8; SALT_LEN],
    ) -> Result<Self, SrtpError> {
        let key = UnboundCipherKey::new(&AES_128, key)
            .and_then(EncryptingKey::ctr)
            .map_err(|_| SrtpError::CryptoFailure)?;
        let mac_key = MacKey::new(auth_key);
        let auth_key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_key);
        Ok(Self {
            key,
            auth_key,
            mac_key,
            salt,
        })
    }

    pub(super) fn seal(&self, mut packet: Outgoing<'_>, parts: &[&[u8]]) -> Result<(), SrtpError> {
        packet.gather(parts);
        self.apply_keystream(&packet.id, packet.body)?;
        let tag = self.tag(&packet.id, packet.header, packet.body);
        packet.tag.copy_from_slice(&tag);
        Ok(())
    }

    /// Encrypts, and leaves the tag to [`super::tags`].
    pub(super) fn encrypt(&self, packet: Outgoing<'_>, payload: &[u8]) -> Result<(), SrtpError> {
        packet.body.copy_from_slice(payload);
        self.apply_keystream(&packet.id, packet.body)
    }

    /// What its tags are made with.
    pub(super) fn mac_key(&self) -> &MacKey {
        &self.mac_key
    }

    pub(super) fn open(&self, packet: &Incoming<'_>, plain: &mut [u8]) -> Result<(), SrtpError> {
        let tag = self.tag(&packet.id, packet.header, packet.body);
        verify_slices_are_equal(&tag, packet.tag).map_err(|_| SrtpError::AuthenticationFailed)?;
        plain.copy_from_slice(packet.body);
        self.apply_keystream(&packet.id, plain)
    }

    /// Encrypts or decrypts in place.
    // RFC 3711 4.1.1: IV = (salt << 16) XOR (SSRC << 64) XOR (index << 16).
    fn apply_keystream(&self, id: &PacketId, body: &mut [u8]) -> Result<(), SrtpError> {
        let mut iv = [0; 16];
        iv[..SALT_LEN].copy_from_slice(&self.salt);
        for (byte, id) in iv[4..SALT_LEN]
            .iter_mut()
            .zip(id.ssrc.iter().chain(&id.index))
        {
            *byte ^= id;
        }
        self.key
            .less_safe_encrypt(body, EncryptionContext::Iv128(iv.into()))
            .map_err(|_| SrtpError::CryptoFailure)?;
        Ok(())
    }

    // RFC 3711 4.2: HMAC over the authenticated portion followed by the rollover counter, of which
    // the leftmost 80 bits are kept.
    fn tag(&self, id: &PacketId, header: &[u8], body: &[u8]) -> [u8; TAG_LEN] {
        let mut mac = hmac::Context::with_key(&self.auth_key);
        mac.update(header);
        mac.update(body);
        mac.update(&id.rollover_counter());
        let mac = mac.sign();
        *mac.as_ref()
            .first_chunk()
            .expect("an HMAC-SHA1 is 20 bytes")
    }
}
