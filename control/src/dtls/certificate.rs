//! The certificate this server shows in every handshake.
//!
//! Made once at start-up by `main`; its fingerprint goes into every SDP answer. The key never
//! leaves the process and is never written anywhere.

use std::fmt;

use rustls::crypto::{CryptoProvider, ring};
use webrtc_dtls::crypto::Certificate as CrateCertificate;

use super::error::DtlsError;
use super::fingerprint::{Fingerprint, FingerprintAlgorithm};

/// A self-signed ECDSA P-256 certificate and its private key.
///
/// RFC 8827 6.5 makes P-256 the curve every WebRTC endpoint accepts.
#[derive(Clone)]
pub struct Certificate {
    inner: CrateCertificate,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// Makes a fresh key and certificate.
    ///
    /// # Errors
    /// [`DtlsError::Certificate`] when the system gives no randomness or the key is unusable.
    pub fn generate() -> Result<Self, DtlsError> {
        // The DTLS crate builds rustls verifiers it never uses here, and rustls refuses to choose
        // a provider by itself once two are compiled in. A provider already installed stays.
        if CryptoProvider::get_default().is_none() {
            let _ = ring::default_provider().install_default();
        }
        let inner = CrateCertificate::generate_self_signed(vec!["fanmill.invalid".to_owned()])
            .map_err(|error| DtlsError::Certificate(Box::new(error)))?;
        let der = inner.certificate.first().ok_or_else(|| {
            DtlsError::Certificate("the generated certificate chain is empty".into())
        })?;
        let fingerprint = Fingerprint::of(FingerprintAlgorithm::Sha256, der);
        Ok(Self { inner, fingerprint })
    }

    /// The sha-256 fingerprint for `a=fingerprint`.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(super) fn as_crate(&self) -> &CrateCertificate {
        &self.inner
    }
}

// The derived form would print the private key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_is_its_own_and_hides_its_key() {
        let (one, two) = (
            Certificate::generate().unwrap(),
            Certificate::generate().unwrap(),
        );
        assert_ne!(one.fingerprint(), two.fingerprint());
        assert!(one.fingerprint().matches(&one.as_crate().certificate[0]));
        assert!(!format!("{one:?}").contains("private"));
    }
}
