//! What the server must know of a ClientHello before the backend sees it.
//!
//! The backend follows the client's order of SRTP profiles and misreads some malformed hellos, so
//! the guard parses every complete ClientHello here first: strictly, since what passes is handed
//! on as it is. Owns no state; must never trust a length.

use super::srtp::SrtpProfile;
use super::wire::{Reader, u16_list};

/// DTLS 1.2 on the wire.
pub(super) const DTLS_1_2: u16 = 0xfefd;

/// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`.
// RFC 8827 6.5: every WebRTC endpoint supports this suite.
pub(super) const ECDHE_ECDSA_AES_128_GCM_SHA256: u16 = 0xc02b;

const USE_SRTP: u16 = 14;
const EXTENDED_MASTER_SECRET: u16 = 23;
const SUPPORTED_VERSIONS: u16 = 43;

/// The parts of a ClientHello (RFC 6347 4.2.1) that choose the association's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The version field; 0xfefd even when DTLS 1.3 is offered.
    pub legacy_version: u16,
    /// Whether it answers a HelloVerifyRequest.
    pub has_cookie: bool,
    /// Cipher suites, in the client's order.
    pub cipher_suites: Vec<u16>,
    /// `supported_versions` (RFC 8446 4.2.1), in the client's order; empty without the extension.
    pub supported_versions: Vec<u16>,
    /// The profiles of `use_srtp` (RFC 5764 4.1.1), in the client's order; empty without it.
    pub srtp_profiles: Vec<u16>,
    /// Whether `extended_master_secret` (RFC 7627 5.1) is offered.
    pub extended_master_secret: bool,
}

impl ClientHello {
    /// Parses the body of a ClientHello, without its handshake header.
    ///
    /// `None` when it is malformed, names a session (never resumed here, and misread by the
    /// backend), or does not offer null compression.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let legacy_version = reader.u16()?;
        let _random = reader.take(32)?;
        if !reader.vec8()?.is_empty() {
            return None;
        }
        let cookie = reader.vec8()?;
        let cipher_suites = u16_list(reader.vec16()?)?;
        if !reader.vec8()?.contains(&0) {
            return None;
        }
        let mut hello = Self {
            legacy_version,
            has_cookie: !cookie.is_empty(),
            cipher_suites,
            supported_versions: Vec::new(),
            srtp_profiles: Vec::new(),
            extended_master_secret: false,
        };
        let mut extensions = Reader::new(reader.vec16()?);
        if !reader.is_empty() {
            return None;
        }
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            hello.read_extension(kind, extensions.vec16()?)?;
        }
        Some(hello)
    }

    fn read_extension(&mut self, kind: u16, data: &[u8]) -> Option<()> {
        let mut reader = Reader::new(data);
        match kind {
            USE_SRTP => {
                self.srtp_profiles = u16_list(reader.vec16()?)?;
                let _mki = reader.vec8()?;
            }
            SUPPORTED_VERSIONS => self.supported_versions = u16_list(reader.vec8()?)?,
            EXTENDED_MASTER_SECRET => self.extended_master_secret = true,
            _ => return Some(()),
        }
        reader.is_empty().then_some(())
    }

    /// Whether the client would accept DTLS 1.2.
    // RFC 8446 4.2.1: supported_versions, when present, alone decides.
    pub fn offers_dtls_1_2(&self) -> bool {
        if self.supported_versions.is_empty() {
            self.legacy_version == DTLS_1_2
        } else {
            self.supported_versions.contains(&DTLS_1_2)
        }
    }

    /// The first of `preference` that the client offers.
    // RFC 5764 4.1.1: the server picks one of the client's profiles; the order is a wish only.
    pub fn choose_srtp_profile(&self, preference: &[SrtpProfile]) -> Option<SrtpProfile> {
        preference
            .iter()
            .copied()
            .find(|profile| self.srtp_profiles.contains(&profile.id()))
    }
}

#[cfg(test)]
mod tests;
