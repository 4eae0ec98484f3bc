//! The SRTP protection profiles the engine speaks, and the sizes each one fixes.
//!
//! The control plane negotiates a [`Profile`] in DTLS and hands it on with the keys; nothing here
//! touches key bytes.

/// An SRTP protection profile (RFC 5764 4.1.2, RFC 7714 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// AES-128 in Galois/Counter mode, 16-byte tag.
    AeadAes128Gcm,
    /// AES-256 in Galois/Counter mode, 16-byte tag.
    AeadAes256Gcm,
    /// AES-128 in counter mode with an 80-bit HMAC-SHA1 tag.
    Aes128CmSha1_80,
}

impl Profile {
    /// All profiles, the one to prefer first.
    pub const ALL: [Self; 3] = [
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
        Self::Aes128CmSha1_80,
    ];

    /// The profile's number in the DTLS `use_srtp` extension.
    pub const fn id(self) -> u16 {
        match self {
            Self::Aes128CmSha1_80 => 0x0001,
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
        }
    }

    /// The profile with this `use_srtp` number, if it is one of ours.
    pub const fn from_id(id: u16) -> Option<Self> {
        match id {
            0x0001 => Some(Self::Aes128CmSha1_80),
            0x0007 => Some(Self::AeadAes128Gcm),
            0x0008 => Some(Self::AeadAes256Gcm),
            _ => None,
        }
    }

    /// The profile's name in the IANA registry "DTLS-SRTP Protection Profiles".
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
            Self::Aes128CmSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
        }
    }

    /// Length of the master key and of the session encryption key, in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Length of the master salt and of the session salt, in bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }

    /// Length of the authentication tag that ends an SRTP packet, in bytes. RTP packets grow by
    /// this and nothing else.
    pub const fn tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            Self::Aes128CmSha1_80 => 10,
        }
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
