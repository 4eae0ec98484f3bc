//! SRTP protection profiles and the keys a handshake yields (RFC 5764 4, RFC 7714 14).
//!
//! The handshake picks the profile and splits the exported secret; the shard's SRTP takes the
//! result. Key bytes never appear in `Debug` output.

use std::fmt;

use super::Role;
use super::fingerprint::Fingerprint;

/// The exporter label of RFC 5764 4.2.
pub(super) const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// An SRTP protection profile this server can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum SrtpProfile {
    /// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 4.1.2).
    Aes128CmHmacSha1_80 = 0x0001,
    /// `SRTP_AEAD_AES_128_GCM` (RFC 7714 14.2).
    AeadAes128Gcm = 0x0007,
    /// `SRTP_AEAD_AES_256_GCM` (RFC 7714 14.2).
    AeadAes256Gcm = 0x0008,
}

impl SrtpProfile {
    /// The default order of preference: the cheapest to seal first.
    pub const PREFERENCE: [Self; 3] = [
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
        Self::Aes128CmHmacSha1_80,
    ];

    /// The number in `use_srtp`.
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// The profile with this number in `use_srtp`.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::PREFERENCE
            .into_iter()
            .find(|profile| profile.id() == id)
    }

    /// Length of an SRTP master key, in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128CmHmacSha1_80 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Length of an SRTP master salt, in bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128CmHmacSha1_80 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }

    /// Length of the exported keying material: a key and a salt for each direction, in bytes.
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }
}

/// One direction's SRTP master key and salt, of the lengths its profile has.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    /// The master key.
    pub key: Vec<u8>,
    /// The master salt.
    pub salt: Vec<u8>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MasterKey({} + {} bytes)",
            self.key.len(),
            self.salt.len()
        )
    }
}

/// What a finished handshake yields.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The negotiated profile; its wire number is [`SrtpProfile::id`].
    pub profile: SrtpProfile,
    /// For what this server sends.
    pub local: MasterKey,
    /// For what the peer sends.
    pub remote: MasterKey,
    /// The sha-256 fingerprint of the peer's certificate, which matched an expected one.
    pub peer_fingerprint: Fingerprint,
}

/// Splits exported keying material into (local, remote), or `None` if its length is wrong.
// RFC 5764 4.2: client key, server key, client salt, server salt.
pub(super) fn split_keying_material(
    profile: SrtpProfile,
    role: Role,
    material: &[u8],
) -> Option<(MasterKey, MasterKey)> {
    if material.len() != profile.keying_material_len() {
        return None;
    }
    let (keys, salts) = material.split_at(2 * profile.key_len());
    let (client_key, server_key) = keys.split_at(profile.key_len());
    let (client_salt, server_salt) = salts.split_at(profile.salt_len());
    let client = MasterKey {
        key: client_key.to_vec(),
        salt: client_salt.to_vec(),
    };
    let server = MasterKey {
        key: server_key.to_vec(),
        salt: server_salt.to_vec(),
    };
    Some(match role {
        Role::Client => (client, server),
        Role::Server => (server, client),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn keying_material_is_cut_in_the_order_of_rfc_5764() {
        for (profile, length) in [
            (SrtpProfile::Aes128CmHmacSha1_80, 60),
            (SrtpProfile::AeadAes128Gcm, 56),
            (SrtpProfile::AeadAes256Gcm, 88),
        ] {
            let material: Vec<u8> = (0..length).collect();
            let (local, remote) = split_keying_material(profile, Role::Client, &material).unwrap();
            let joined = [&local.key[..], &remote.key, &local.salt, &remote.salt].concat();
            assert_eq!(joined, material);
            let (server, client) = split_keying_material(profile, Role::Server, &material).unwrap();
            assert_eq!((server, client), (remote, local));
            assert!(split_keying_material(profile, Role::Server, &material[1..]).is_none());
            assert_eq!(SrtpProfile::from_id(profile.id()), Some(profile));
        }
        assert_eq!(SrtpProfile::from_id(2), None);
    }

    #[test]
    fn key_bytes_are_not_printed() {
        let key = MasterKey {
            key: vec![0xab; 16],
            salt: vec![0xcd; 12],
        };
        assert_eq!(format!("{key:?}"), "MasterKey(16 + 12 bytes)");
    }
}
