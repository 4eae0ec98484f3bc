//! Master keys from DTLS, and the session keys derived from them.
//!
//! The control plane builds [`KeyMaterial`] from what DTLS exported; sealers and openers derive
//! their session keys here once, when they are made. Key bytes never leave this module in a
//! `Debug` text, and are overwritten when dropped.

use super::{Profile, SrtpError};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use std::fmt;
use std::hint::black_box;

const MAX_KEY_LEN: usize = 32;
const MAX_SALT_LEN: usize = 14;
/// HMAC-SHA1 session authentication keys are 160 bits (RFC 3711 5.2).
pub(super) const AUTH_KEY_LEN: usize = 20;

/// Key bytes that are overwritten when they go out of scope.
#[derive(Clone)]
pub(super) struct Secret<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.fill(0);
        // Seen as a use, so that the overwriting is not optimised away.
        black_box(&self.0);
    }
}

/// One direction's SRTP master key and master salt.
#[derive(Clone)]
pub struct MasterKey {
    profile: Profile,
    key: Secret<MAX_KEY_LEN>,
    salt: Secret<MAX_SALT_LEN>,
}

impl MasterKey {
    /// Takes a master key and salt of the lengths `profile` fixes.
    ///
    /// # Errors
    /// [`SrtpError::BadKeyLength`] when either length is another.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        for (bytes, needed) in [(key, profile.key_len()), (salt, profile.salt_len())] {
            if bytes.len() != needed {
                return Err(SrtpError::BadKeyLength {
                    len: bytes.len(),
                    needed,
                });
            }
        }
        let mut this = Self {
            profile,
            key: Secret([0; MAX_KEY_LEN]),
            salt: Secret([0; MAX_SALT_LEN]),
        };
        this.key.0[..key.len()].copy_from_slice(key);
        this.salt.0[..salt.len()].copy_from_slice(salt);
        Ok(this)
    }

    /// The profile whose lengths the key has.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key.0[..self.profile.key_len()]
    }

    /// Fails unless the key was made for `profile`.
    pub(super) fn check_profile(&self, profile: Profile) -> Result<(), SrtpError> {
        if self.profile == profile {
            return Ok(());
        }
        let lens = |p: Profile| p.key_len() + p.salt_len();
        Err(SrtpError::BadKeyLength {
            len: lens(self.profile),
            needed: lens(profile),
        })
    }

    /// Derives one SRTP session key of `out`'s length.
    // RFC 3711 4.3.3 (AES-CM PRF) and RFC 6188 3.1 (AES_256_CM_PRF): the keystream of AES-CM under
    // the master key, from the counter (master_salt XOR label << 48) << 16, with r = 0 because the
    // key derivation rate of DTLS-SRTP is 0. RFC 7714 11 feeds its 12-byte salt in left-aligned.
    pub(super) fn derive(&self, label: Label, out: &mut [u8]) -> Result<(), SrtpError> {
        let algorithm = if self.profile.key_len() == MAX_KEY_LEN {
            &AES_256
        } else {
            &AES_128
        };
        let mut counter = [0; 16];
        counter[..MAX_SALT_LEN].copy_from_slice(&self.salt.0);
        counter[7] ^= label as u8;
        out.fill(0);
        UnboundCipherKey::new(algorithm, self.key())
            .and_then(EncryptingKey::ctr)
            .and_then(|prf| prf.less_safe_encrypt(out, EncryptionContext::Iv128(counter.into())))
            .map_err(|_| SrtpError::CryptoFailure)?;
        Ok(())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// Key derivation labels of the session keys (RFC 3711 4.3.2).
#[derive(Debug, Clone, Copy)]
pub(super) enum Label {
    Encryption = 0x00,
    Authentication = 0x01,
    Salt = 0x02,
    RtcpEncryption = 0x03,
    RtcpAuthentication = 0x04,
    RtcpSalt = 0x05,
}

/// The master keys of both directions of a session.
#[derive(Debug)]
pub struct KeyMaterial {
    /// Protects what this end sends.
    pub local: MasterKey,
    /// Protects what the peer sends.
    pub remote: MasterKey,
}

impl KeyMaterial {
    /// How many bytes to export from DTLS, under the label `EXTRACTOR-dtls_srtp`.
    pub const fn exporter_len(profile: Profile) -> usize {
        2 * (profile.key_len() + profile.salt_len())
    }

    /// Cuts exported keying material into the keys of both directions. `is_server` tells whether
    /// this end was the DTLS server.
    ///
    /// # Errors
    /// [`SrtpError::BadKeyLength`] unless `exported` is exactly
    /// [`exporter_len`](Self::exporter_len) bytes.
    pub fn from_dtls_exporter(
        profile: Profile,
        exported: &[u8],
        is_server: bool,
    ) -> Result<Self, SrtpError> {
        let needed = Self::exporter_len(profile);
        if exported.len() != needed {
            return Err(SrtpError::BadKeyLength {
                len: exported.len(),
                needed,
            });
        }
        // RFC 5764 4.2: client key, server key, client salt, server salt.
        let (keys, salts) = exported.split_at(2 * profile.key_len());
        let (client_key, server_key) = keys.split_at(profile.key_len());
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let client = MasterKey::new(profile, client_key, client_salt)?;
        let server = MasterKey::new(profile, server_key, server_salt)?;
        Ok(if is_server {
            Self {
                local: server,
                remote: client,
            }
        } else {
            Self {
                local: client,
                remote: server,
            }
        })
    }
}

#[cfg(test)]
impl MasterKey {
    pub(super) fn salt(&self) -> &[u8] {
        &self.salt.0[..self.profile.salt_len()]
    }

    /// Sets a salt of up to 14 bytes, whatever the profile's length.
    pub(super) fn set_salt_for_test(&mut self, salt: &[u8]) {
        self.salt.0[..salt.len()].copy_from_slice(salt);
    }
}
