//! DTLS attributes: certificate fingerprints (RFC 8122) and the roles of the handshake (RFC 8842).
//! The offer parser calls it, the DTLS association is checked against its [`Fingerprint`]s.

use std::fmt;

use super::error::{SdpError, quote};

/// A hash function that is accepted for certificate fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashAlgorithm {
    /// SHA-256, what every client uses.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// Reads a hash name of RFC 8122, in any case. `None` for one that is not accepted.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|hash| hash.name().eq_ignore_ascii_case(name))
    }

    /// The name in `a=fingerprint`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Bytes of the hash.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The hash of a certificate, `a=fingerprint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The hash function.
    pub algorithm: HashAlgorithm,
    /// The hash: [`HashAlgorithm::digest_len`] bytes.
    pub digest: Vec<u8>,
}

impl Fingerprint {
    /// Reads the value of `a=fingerprint:`. `Ok(None)` when its hash function is not accepted.
    ///
    /// # Errors
    /// [`SdpError::InvalidAttribute`] when the hash is not the hexadecimal its function makes.
    pub fn parse(value: &str) -> Result<Option<Self>, SdpError> {
        let (name, hex) = value.trim().split_once(' ').unwrap_or((value, ""));
        let Some(algorithm) = HashAlgorithm::from_name(name) else {
            return Ok(None);
        };
        let mut digest = Vec::with_capacity(algorithm.digest_len());
        for pair in hex.trim().split(':') {
            // `from_str_radix` would also take a sign.
            let is_byte = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
            match u8::from_str_radix(pair, 16) {
                Ok(byte) if is_byte && digest.len() < algorithm.digest_len() => digest.push(byte),
                _ => return Err(Self::invalid(value)),
            }
        }
        if digest.len() != algorithm.digest_len() {
            return Err(Self::invalid(value));
        }
        Ok(Some(Self { algorithm, digest }))
    }

    fn invalid(value: &str) -> SdpError {
        SdpError::invalid(
            "fingerprint",
            value,
            "it must be the whole hash in pairs of hexadecimal digits with colons between \
             (RFC 8122 5)",
        )
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.algorithm.name())?;
        for (i, byte) in self.digest.iter().enumerate() {
            let colon = if i == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

/// Fingerprints that apply to one m-section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FingerprintList {
    pub(crate) usable: Vec<Fingerprint>,
    /// Names of the hash functions that are not accepted.
    pub(crate) refused: Vec<String>,
}

impl FingerprintList {
    pub(crate) fn push(&mut self, value: &str) -> Result<(), SdpError> {
        let len = self.usable.len() + self.refused.len();
        super::error::check_room(len, super::limits::MAX_FINGERPRINTS, "fingerprints")?;
        match Fingerprint::parse(value)? {
            Some(fingerprint) => {
                self.usable.push(fingerprint);
                self.usable.sort_by_key(|fingerprint| fingerprint.algorithm);
            }
            None => {
                self.refused
                    .push(quote(value.split(' ').next().unwrap_or_default()));
            }
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.usable.is_empty() && self.refused.is_empty()
    }
}

/// Who begins the DTLS handshake, `a=setup` (RFC 4145 4, RFC 8842 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setup {
    /// The describing side sends the ClientHello.
    Active,
    /// It waits for the ClientHello.
    Passive,
    /// The other side may choose; in offers only.
    ActPass,
}

impl Setup {
    /// Reads the value of `a=setup:`.
    ///
    /// # Errors
    /// [`SdpError::InvalidAttribute`] for `holdconn` and for what RFC 4145 does not know.
    pub fn parse(value: &str) -> Result<Self, SdpError> {
        match value.trim() {
            "active" => Ok(Self::Active),
            "passive" => Ok(Self::Passive),
            "actpass" => Ok(Self::ActPass),
            other => Err(SdpError::invalid(
                "setup",
                other,
                "an offer says actpass, active or passive (RFC 8842 5.1)",
            )),
        }
    }

    /// The attribute's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
        }
    }

    /// Our role in the answer to an offer with this one.
    pub const fn answer(self) -> Self {
        match self {
            // RFC 8842 5.3 prefers active in an answer. The server stays passive wherever it may:
            // the client's ClientHello then also proves that its side of the path is open.
            Self::Active | Self::ActPass => Self::Passive,
            Self::Passive => Self::Active,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hash_of_the_wrong_length_is_refused() {
        assert!(Fingerprint::parse("sha-256 AA:BB").is_err());
        assert!(Fingerprint::parse(&format!("sha-256 AA{}", ":BB".repeat(32))).is_err());
        assert!(Fingerprint::parse(&format!("sha-256 +A{}", ":BB".repeat(31))).is_err());
        assert!(Fingerprint::parse("sha-256").is_err());
    }

    #[test]
    fn a_weak_hash_is_not_read() {
        assert_eq!(Fingerprint::parse("sha-1 AA:BB"), Ok(None));
        assert_eq!(Fingerprint::parse("md5 AA:BB"), Ok(None));
    }

    #[test]
    fn the_server_is_active_only_for_a_passive_client() {
        assert_eq!(Setup::ActPass.answer(), Setup::Passive);
        assert_eq!(Setup::Active.answer(), Setup::Passive);
        assert_eq!(Setup::Passive.answer(), Setup::Active);
        assert!(Setup::parse("holdconn").is_err());
    }

    proptest! {
        #[test]
        fn a_fingerprint_round_trips(digest in proptest::collection::vec(any::<u8>(), 48)) {
            let fingerprint = Fingerprint { algorithm: HashAlgorithm::Sha384, digest };
            let read = Fingerprint::parse(&fingerprint.to_string()).unwrap();
            prop_assert_eq!(read, Some(fingerprint));
        }

        #[test]
        fn no_fingerprint_line_panics(line in "(sha-256 )?\\PC*") {
            let _ = Fingerprint::parse(&line);
        }
    }
}
