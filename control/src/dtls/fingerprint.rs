//! Certificate fingerprints as SDP carries them (RFC 8122 5).
//!
//! The SDP layer parses the peer's and prints ours; the handshake compares. Comparison is the only
//! authentication a WebRTC peer gets, so it is over the whole digest and in constant time.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use aws_lc_rs::{constant_time, digest};

/// A hash function allowed in `a=fingerprint`.
///
/// RFC 8122 5 also names md2, md5 and sha-1; they are broken and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FingerprintAlgorithm {
    /// SHA-256: what every WebRTC client sends.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl FingerprintAlgorithm {
    /// The name in the IANA "Hash Function Textual Names" registry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// A digest over a DER-encoded certificate. Equality takes the same time wherever bytes differ.
#[derive(Debug, Clone)]
pub struct Fingerprint {
    algorithm: FingerprintAlgorithm,
    digest: Vec<u8>,
}

/// Why a fingerprint's text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// Not `<algorithm> <hex>`.
    #[error("a fingerprint is an algorithm, a space and colon-separated hex bytes")]
    Shape,
    /// The algorithm is unknown or broken.
    #[error("fingerprint algorithm {0:?} is not accepted: use sha-256, sha-384 or sha-512")]
    Algorithm(String),
    /// The digest has the wrong length for its algorithm.
    #[error("a {algorithm} fingerprint has {expected} bytes, not {actual}")]
    Length {
        /// The algorithm's name.
        algorithm: &'static str,
        /// Bytes the algorithm yields.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
}

impl Fingerprint {
    /// The fingerprint of a DER-encoded certificate.
    pub fn of(algorithm: FingerprintAlgorithm, certificate_der: &[u8]) -> Self {
        let digest = digest::digest(algorithm.digest(), certificate_der)
            .as_ref()
            .to_vec();
        Self { algorithm, digest }
    }

    /// Whether `certificate_der` has this fingerprint.
    pub fn matches(&self, certificate_der: &[u8]) -> bool {
        *self == Self::of(self.algorithm, certificate_der)
    }

    /// The hash function used.
    pub fn algorithm(&self) -> FingerprintAlgorithm {
        self.algorithm
    }

    /// The digest.
    pub fn bytes(&self) -> &[u8] {
        &self.digest
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm
            && constant_time::verify_slices_are_equal(&self.digest, &other.digest).is_ok()
    }
}

impl Eq for Fingerprint {}

// RFC 8122 5: "a=fingerprint:" hash-func SP 2UHEX *(":" 2UHEX). Clients also write lower case.
impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let (name, hex) = text.trim().split_once(' ').ok_or(FingerprintError::Shape)?;
        let algorithm = match name.to_ascii_lowercase().as_str() {
            "sha-256" => FingerprintAlgorithm::Sha256,
            "sha-384" => FingerprintAlgorithm::Sha384,
            "sha-512" => FingerprintAlgorithm::Sha512,
            _ => {
                let shown = name.chars().take(16).collect();
                return Err(FingerprintError::Algorithm(shown));
            }
        };
        let expected = algorithm.digest().output_len();
        let hex = hex.trim();
        let wrong_length = |actual| FingerprintError::Length {
            algorithm: algorithm.name(),
            expected,
            actual,
        };
        let length = hex.len().div_ceil(3);
        if length != expected {
            return Err(wrong_length(length));
        }
        let digest: Vec<u8> = hex
            .split(':')
            .map(hex_byte)
            .collect::<Option<_>>()
            .ok_or(FingerprintError::Shape)?;
        if digest.len() != expected {
            return Err(wrong_length(digest.len()));
        }
        Ok(Self { algorithm, digest })
    }
}

fn hex_byte(pair: &str) -> Option<u8> {
    let [high, low] = pair.as_bytes() else {
        return None;
    };
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(nibble(*high)? << 4 | nibble(*low)?).ok()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        let mut separator = ' ';
        for byte in &self.digest {
            f.write_char(separator)?;
            write!(f, "{byte:02X}")?;
            separator = ':';
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // RFC 6234 8.5, TEST1: the SHA-256 of "abc".
    const ABC: &str = "sha-256 BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:\
                       B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD";

    #[test]
    fn a_known_digest_prints_as_sdp_text_and_parses_back() {
        let fingerprint = Fingerprint::of(FingerprintAlgorithm::Sha256, b"abc");
        assert_eq!(fingerprint.to_string(), ABC);
        assert_eq!(ABC.parse::<Fingerprint>().unwrap(), fingerprint);
        assert_eq!(
            ABC.to_ascii_lowercase().parse::<Fingerprint>().unwrap(),
            fingerprint
        );
        assert!(fingerprint.matches(b"abc"));
        assert!(!fingerprint.matches(b"abd"));
    }

    #[test]
    fn broken_and_unknown_hashes_are_refused() {
        for name in ["sha-1", "md5", "sha256"] {
            let text = format!("{name} AA:BB");
            assert!(matches!(
                text.parse::<Fingerprint>(),
                Err(FingerprintError::Algorithm(_))
            ));
        }
        assert_eq!(
            "sha-256".parse::<Fingerprint>(),
            Err(FingerprintError::Shape)
        );
    }

    #[test]
    fn a_digest_of_the_wrong_length_is_refused() {
        let short = &ABC[..ABC.len() - 3];
        assert!(matches!(
            short.parse::<Fingerprint>(),
            Err(FingerprintError::Length {
                expected: 32,
                actual: 31,
                ..
            })
        ));
        assert!(format!("{ABC}:00").parse::<Fingerprint>().is_err());
        assert!(ABC.replace(':', "-").parse::<Fingerprint>().is_err());
        assert!(ABC.replace("BA", "+A").parse::<Fingerprint>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_panic(text in "\\PC{0,200}") {
            let _ = text.parse::<Fingerprint>();
        }

        #[test]
        fn every_fingerprint_survives_its_text(
            der in proptest::collection::vec(any::<u8>(), 0..64),
            algorithm in prop_oneof![
                Just(FingerprintAlgorithm::Sha256),
                Just(FingerprintAlgorithm::Sha384),
                Just(FingerprintAlgorithm::Sha512),
            ],
        ) {
            let fingerprint = Fingerprint::of(algorithm, &der);
            prop_assert_eq!(fingerprint.to_string().parse::<Fingerprint>().unwrap(), fingerprint);
        }
    }
}
