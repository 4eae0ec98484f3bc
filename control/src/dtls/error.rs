//! The errors of a DTLS association, and the names of alerts.
//!
//! All of them end the association they belong to and none ends anything else; what is merely
//! dropped is counted in [`Counters`](super::Counters) instead.

use std::fmt;

use super::fingerprint::Fingerprint;

/// An error of a lower layer, kept as text and source only, so that backends can be exchanged.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no DTLS association.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DtlsError {
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[source] BoxError),
    /// The deadline passed before both Finished messages.
    #[error("the handshake did not finish before its deadline{}", hint(*.alert))]
    Timeout {
        /// The last unprotected alert seen. Anyone may have sent it: a hint, not a fact.
        alert: Option<AlertDescription>,
    },
    /// The peer ended the handshake by a protected alert.
    #[error("the peer ended the handshake with an alert")]
    Alert,
    /// The peer's certificate is not the one its SDP announced.
    #[error("the peer's certificate has fingerprint {presented}, which its SDP does not announce")]
    FingerprintMismatch {
        /// The fingerprint of the certificate shown.
        presented: Fingerprint,
    },
    /// The peer showed no certificate.
    #[error("the peer showed no certificate: WebRTC needs one to compare with the SDP")]
    NoPeerCertificate,
    /// A handshake was asked for without any fingerprint to check.
    #[error("no expected fingerprint: take a=fingerprint from the peer's SDP")]
    NoExpectedFingerprint,
    /// The peer and the configuration share no SRTP protection profile.
    #[error("no common SRTP protection profile: the peer offers {offered:04x?}")]
    NoCommonSrtpProfile {
        /// The profile numbers the peer offered (RFC 5764 4.1.2); empty without `use_srtp`.
        offered: Vec<u16>,
    },
    /// The client cannot do DTLS 1.2.
    #[error("the peer does not offer DTLS 1.2")]
    NoCommonVersion,
    /// The peer lacks the extended master secret (RFC 7627).
    #[error("the peer does not offer the extended master secret (RFC 7627)")]
    NoExtendedMasterSecret,
    /// The peer lacks the cipher suite RFC 8827 6.5 requires.
    #[error("the peer offers no accepted cipher suite: it needs ECDHE with AES-128-GCM")]
    NoCommonCipherSuite,
    /// The peer used up the datagrams or the bytes a handshake may cost.
    #[error("more than {datagrams} datagrams or {bytes} bytes arrived during one handshake")]
    Flooded {
        /// The configured number of datagrams.
        datagrams: usize,
        /// The configured number of bytes.
        bytes: usize,
    },
    /// As many handshakes as allowed are running and waiting.
    #[error("too many handshakes at once: let the client try again")]
    TooManyHandshakes,
    /// This side closed the association during its handshake.
    #[error("the association was closed during its handshake")]
    Closed,
    /// The association was dropped, or its task ended, without an outcome.
    #[error("the handshake was abandoned")]
    Abandoned,
    /// The backend refused what the peer sent.
    #[error("the handshake failed: {0}")]
    Protocol(#[source] BoxError),
}

fn hint(alert: Option<AlertDescription>) -> String {
    alert.map_or_else(String::new, |alert| {
        format!(" (an unprotected alert said {alert})")
    })
}

/// An alert's description (RFC 5246 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AlertDescription(pub u8);

impl AlertDescription {
    /// `close_notify`.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// `insufficient_security`.
    pub const INSUFFICIENT_SECURITY: Self = Self(71);
    /// `protocol_version`.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// `handshake_failure`.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
}

impl fmt::Display for AlertDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            100 => "no_renegotiation",
            110 => "unsupported_extension",
            116 => "certificate_required",
            other => return write!(f, "alert {other}"),
        };
        f.write_str(name)
    }
}
