//! One WHIP or WHEP client, from the POST to the SRTP keys.
//!
//! [`join`] runs the whole conversation; what it returns is the client's socket with the keys and
//! the ICE agent that keeps consent alive, ready for a media thread. Everything the server says is
//! checked: lengths, the fingerprint, the signatures of its STUN answers.

pub mod dtls;
pub mod ice;
pub mod join;
pub mod sdp;
pub mod signalling;
#[cfg(test)]
pub(crate) mod testing;

use fanmill_engine::srtp::{KeyMaterial, Profile, SrtpError};

/// Why a client did not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No socket could be opened.
    #[error("cannot open a UDP socket: {0}; check `ulimit -n` and the local address")]
    Socket(#[from] std::io::Error),
    /// The endpoint could not be reached.
    #[error("cannot reach {url}: {source}; is the server running?")]
    Http {
        /// What was asked.
        url: String,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// The endpoint refused the offer.
    #[error("{url} answered {status}: {body}")]
    Refused {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The start of what it said.
        body: String,
    },
    /// The answer is not one this client can use.
    #[error("the SDP answer cannot be used: {0}")]
    Answer(#[from] sdp::AnswerError),
    /// No candidate of the server answered a connectivity check.
    #[error("no answer to connectivity checks; is UDP from here to {candidates} open?")]
    Unreachable {
        /// The server's candidates.
        candidates: String,
    },
    /// The DTLS handshake failed.
    #[error("DTLS handshake failed: {0}")]
    Dtls(#[from] dtls::DtlsError),
    /// The keys could not be used.
    #[error(transparent)]
    Srtp(#[from] SrtpError),
    /// The client took too long.
    #[error("not joined within {0} s; the server or this machine is overloaded")]
    Timeout(u64),
}

/// What the handshake exported, in a form from which any number of contexts can be made.
#[derive(Clone)]
pub struct SrtpKeys {
    profile: Profile,
    exported: Vec<u8>,
}

impl SrtpKeys {
    /// Takes what DTLS exported for `profile`.
    ///
    /// # Errors
    /// [`SrtpError::BadKeyLength`].
    pub fn new(profile: Profile, exported: Vec<u8>) -> Result<Self, SrtpError> {
        KeyMaterial::from_dtls_exporter(profile, &exported, false)?;
        Ok(Self { profile, exported })
    }

    /// The negotiated profile.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The keys of both directions; this end was the DTLS client.
    ///
    /// # Errors
    /// [`SrtpError::BadKeyLength`], which [`SrtpKeys::new`] has excluded.
    pub fn material(&self) -> Result<KeyMaterial, SrtpError> {
        KeyMaterial::from_dtls_exporter(self.profile, &self.exported, false)
    }

    /// The server's master key and salt, for the oracle.
    #[must_use]
    pub fn remote_parts(&self) -> (&[u8], &[u8]) {
        // RFC 5764 4.2: client key, server key, client salt, server salt.
        let (key_len, salt_len) = (self.profile.key_len(), self.profile.salt_len());
        let (keys, salts) = self.exported.split_at(2 * key_len);
        (&keys[key_len..], &salts[salt_len..])
    }
}

impl std::fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpKeys")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}
