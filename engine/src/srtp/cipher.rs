//! Which implementation seals and opens: one variant for each.
//!
//! [`Sealer`](super::Sealer) and [`Opener`](super::Opener) have checked every length before they
//! call in here.

use super::cm_sha1::CmSha1;
use super::gcm::Gcm;
use super::{Incoming, MasterKey, Outgoing, Profile, SrtpError};

/// The session keys and algorithms of one direction.
#[derive(Debug)]
pub(super) enum Cipher {
    Gcm(Gcm),
    /// Boxed: its key schedule and hash states are large, and few viewers need it.
    CmSha1(Box<CmSha1>),
}

impl Cipher {
    pub(super) fn new(profile: Profile, key: &MasterKey) -> Result<Self, SrtpError> {
        key.check_profile(profile)?;
        match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                Gcm::new(profile, key).map(Self::Gcm)
            }
            Profile::Aes128CmSha1_80 => CmSha1::new(key).map(Box::new).map(Self::CmSha1),
        }
    }

    pub(super) fn tag_len(&self) -> usize {
        match self {
            Self::Gcm(_) => Profile::AeadAes128Gcm.tag_len(),
            Self::CmSha1(_) => Profile::Aes128CmSha1_80.tag_len(),
        }
    }

    /// Fills body and tag of `packet` and returns the packet's length.
    pub(super) fn seal(&self, packet: Outgoing<'_>, payload: &[u8]) -> Result<usize, SrtpError> {
        let len = packet.len();
        match self {
            Self::Gcm(gcm) => gcm.seal(packet, payload)?,
            Self::CmSha1(cm) => cm.seal(packet, &[payload])?,
        }
        Ok(len)
    }

    /// As [`seal`](Self::seal), but for the tag; only with a cipher that has it made elsewhere.
    pub(super) fn encrypt(&self, packet: Outgoing<'_>, payload: &[u8]) -> Result<usize, SrtpError> {
        let len = packet.len();
        match self {
            Self::Gcm(_) => return Err(SrtpError::CryptoFailure),
            Self::CmSha1(cm) => cm.encrypt(packet, payload)?,
        }
        Ok(len)
    }

    /// As [`seal`](Self::seal), the payload lying in pieces that together fill the body.
    pub(super) fn seal_parts(
        &self,
        packet: Outgoing<'_>,
        parts: &[&[u8]],
    ) -> Result<usize, SrtpError> {
        let len = packet.len();
        match self {
            Self::Gcm(gcm) => gcm.seal_parts(packet, parts)?,
            Self::CmSha1(cm) => cm.seal(packet, parts)?,
        }
        Ok(len)
    }

    /// Authenticates `packet` and decrypts its body into `plain`, which has the body's length.
    pub(super) fn open(&self, packet: &Incoming<'_>, plain: &mut [u8]) -> Result<(), SrtpError> {
        match self {
            Self::Gcm(gcm) => gcm.open(packet, plain),
            Self::CmSha1(cm) => cm.open(packet, plain),
        }
    }
}
