//! SRTP with keys from the description (`a=crypto`, RFC 4568), for plain RTP that crosses networks.
//!
//! The key that a description holds seals what its author sends, and what we answer: a file that is
//! handed over, and no negotiation, is all there is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanmill_engine::packet::rtp::{FIXED_HEADER_BYTES, RtpHeader};
use fanmill_engine::srtp::{
    MasterKey, Opener, Profile, ReplayWindow, RtcpSession, Sealer, SrtpError,
};

/// A profile and the key for it.
#[derive(Clone)]
pub struct SdesKey {
    profile: Profile,
    key: MasterKey,
    /// Key and salt in base64, as a description has them.
    inline: String,
}

impl std::fmt::Debug for SdesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SdesKey")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// Why an `a=crypto` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdesError {
    /// The suite is not one of ours.
    #[error(
        "the crypto suite {0} is not spoken; use AES_CM_128_HMAC_SHA1_80, AEAD_AES_128_GCM or \
         AEAD_AES_256_GCM"
    )]
    Suite(String),
    /// No key of the right length.
    #[error("a=crypto has no inline key of the length that its suite needs, in base64")]
    Key,
    /// A key identifier, or parameters of the session.
    #[error("key identifiers and session parameters in a=crypto are not read; leave them out")]
    Extras,
}

impl SdesKey {
    /// Reads what stands after `a=crypto:`.
    ///
    /// # Errors
    /// [`SdesError`].
    pub fn parse(attribute: &str) -> Result<Self, SdesError> {
        let mut fields = attribute.split_ascii_whitespace();
        let (_tag, suite) = (fields.next(), fields.next().unwrap_or_default());
        let key = fields.next().unwrap_or_default();
        if fields.next().is_some() {
            return Err(SdesError::Extras);
        }
        Self::new(suite, key.strip_prefix("inline:").ok_or(SdesError::Key)?)
    }

    /// A suite by its name in SDP (RFC 4568 6.2, RFC 7714 14.2), with key and salt in base64.
    ///
    /// # Errors
    /// [`SdesError`].
    pub fn new(suite: &str, inline: &str) -> Result<Self, SdesError> {
        let profile = match suite.to_ascii_uppercase().as_str() {
            "AES_CM_128_HMAC_SHA1_80" | "SRTP_AES128_CM_HMAC_SHA1_80" => Profile::Aes128CmSha1_80,
            "AEAD_AES_128_GCM" => Profile::AeadAes128Gcm,
            "AEAD_AES_256_GCM" => Profile::AeadAes256Gcm,
            _ => return Err(SdesError::Suite(suite.to_owned())),
        };
        let mut parts = inline.split('|');
        let key = STANDARD.decode(parts.next().unwrap_or_default());
        // The lifetime is longer than ours; a key identifier has a colon.
        if parts.any(|part| part.contains(':')) {
            return Err(SdesError::Extras);
        }
        let key = key.map_err(|_| SdesError::Key)?;
        let (key, salt) = key
            .split_at_checked(profile.key_len())
            .ok_or(SdesError::Key)?;
        let key = MasterKey::new(profile, key, salt).map_err(|_| SdesError::Key)?;
        Ok(Self {
            profile,
            key,
            inline: inline.to_owned(),
        })
    }

    /// One that nobody has yet, of the suite that every receiver speaks.
    ///
    /// # Panics
    /// If the system has no random numbers.
    #[must_use]
    pub fn random() -> Self {
        const PROFILE: Profile = Profile::Aes128CmSha1_80;
        let mut key = [0; PROFILE.key_len() + PROFILE.salt_len()];
        aws_lc_rs::rand::fill(&mut key).expect("the system has random numbers");
        let inline = STANDARD.encode(key);
        Self::new("AES_CM_128_HMAC_SHA1_80", &inline).expect("the key has its length")
    }

    /// What stands after the tag of `a=crypto`.
    pub(super) fn attribute(&self) -> String {
        format!("{} inline:{}", self.suite(), self.inline)
    }

    /// Its suite's name in SDP.
    #[must_use]
    pub fn suite(&self) -> &'static str {
        match self.profile {
            Profile::Aes128CmSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Profile::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }
}

/// Opens what one sender sends, and seals what it is answered.
pub(crate) struct Guard {
    opener: Opener,
    /// Of the SSRC that is received.
    window: ReplayWindow,
    rtcp: RtcpSession,
}

impl Guard {
    pub(super) fn new(key: &SdesKey) -> Result<Self, SrtpError> {
        Ok(Self {
            opener: Opener::new(key.profile, &key.key)?,
            window: ReplayWindow::new(),
            rtcp: RtcpSession::new(key.profile, &key.key, &key.key)?,
        })
    }

    /// Opens a packet; of a new source all is forgotten about the last one once it proved itself.
    pub(super) fn open_rtp(
        &mut self,
        header: &RtpHeader,
        packet: &[u8],
        is_new: bool,
    ) -> Result<Vec<u8>, SrtpError> {
        let window = match is_new {
            true => ReplayWindow::new(),
            false => self.window.clone(),
        };
        let index = window.estimate(header.sequence_number);
        window.check(index)?;
        let mut plain = vec![0; packet.len()];
        let length = self
            .opener
            .open(index, header.header_len, packet, &mut plain)?;
        plain.truncate(length);
        self.window = window;
        self.window.accept(index);
        Ok(plain)
    }

    pub(super) fn open_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        self.rtcp.open(packet)
    }

    pub(super) fn seal_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        self.rtcp.seal(packet)
    }
}

/// Seals what is sent.
pub(super) struct Seal {
    sealer: Sealer,
    rtcp: RtcpSession,
}

impl Seal {
    pub(super) fn new(key: &SdesKey) -> Result<Self, SrtpError> {
        Ok(Self {
            sealer: Sealer::new(key.profile, &key.key)?,
            rtcp: RtcpSession::new(key.profile, &key.key, &key.key)?,
        })
    }

    /// Seals a packet that has no more than the fixed header before its payload.
    pub(super) fn rtp(&self, index: u64, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let mut out = vec![0; packet.len() + self.sealer.overhead()];
        let (header, payload) = packet.split_at(FIXED_HEADER_BYTES);
        self.sealer.seal(index, header, payload, &mut out)?;
        Ok(out)
    }

    pub(super) fn rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        self.rtcp.seal(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "WUw/gbjX4DNKo1aG8TFzpPDLSJQ0WKYYKBVGMUTZ";

    #[test]
    fn what_ffmpeg_writes_is_read_and_what_is_not_spoken_refused() {
        let suite = |text: &str| SdesKey::parse(text).map(|key| key.suite());
        let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31");
        assert_eq!(suite(&line), Ok("AES_CM_128_HMAC_SHA1_80"));
        let short = format!("1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}");
        assert!(matches!(suite(&short), Err(SdesError::Suite(_))));
        let identified = format!("{line}|1:4");
        assert_eq!(suite(&identified), Err(SdesError::Extras));
        assert_eq!(
            suite("1 AES_CM_128_HMAC_SHA1_80 inline:AAAA"),
            Err(SdesError::Key)
        );
        assert_eq!(suite(""), Err(SdesError::Key));
    }
}
