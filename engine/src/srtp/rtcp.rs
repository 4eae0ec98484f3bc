//! SRTCP both ways for one transport, by `webrtc-srtp`.
//!
//! RTCP is not multiplied by the packet rate, so its packets may be allocated. What this module
//! adds to the library is what an attacker who has no keys would otherwise reach: the library
//! panics on packets shorter than its trailer, passes unencrypted ones without looking at their
//! tag, and moves its replay window and grows its table of sources before it authenticates. Hence
//! lengths and the E flag are checked here, replay windows are kept here and move only after
//! authentication, and the library's table is dropped once enough forgeries may have filled it.

use super::{MasterKey, Profile, ReplayWindow, SrtpError};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

/// How many SSRCs one peer may send RTCP from. Each costs replay state for the session's life.
pub const MAX_RTCP_SOURCES: usize = 256;

/// RTCP header and sender SSRC: in the clear in every SRTCP packet (RFC 3711 3.4).
const CLEAR_LEN: usize = 8;
/// The E flag and the 31-bit SRTCP index.
const INDEX_LEN: usize = 4;
const ENCRYPTED_FLAG: u32 = 1 << 31;
/// RFC 3711 9.2: one key protects at most 2^31 SRTCP packets.
const MAX_SEALED: u32 = (1 << 31) - 1;
/// Failed opens after which the library's context, with a source entry for each, is renewed.
const MAX_FORGERIES: usize = 64;

/// Seals and opens the RTCP packets of one transport.
pub struct RtcpSession {
    local: Context,
    sealed: u32,
    remote: Context,
    remote_key: MasterKey,
    forgeries: usize,
    sources: Vec<Source>,
}

/// Replay state of one authenticated sender.
struct Source {
    ssrc: u32,
    window: ReplayWindow,
}

impl RtcpSession {
    /// Derives the SRTCP session keys of both directions.
    ///
    /// # Errors
    /// [`SrtpError::BadKeyLength`] when a key was made for another profile.
    pub fn new(profile: Profile, local: &MasterKey, remote: &MasterKey) -> Result<Self, SrtpError> {
        local.check_profile(profile)?;
        remote.check_profile(profile)?;
        Ok(Self {
            local: new_context(local)?,
            sealed: 0,
            remote: new_context(remote)?,
            remote_key: remote.clone(),
            forgeries: 0,
            sources: Vec::new(),
        })
    }

    /// Seals one compound RTCP packet.
    ///
    /// # Errors
    /// [`SrtpError::TooShort`] and [`SrtpError::MalformedRtcp`] for what is not RTCP,
    /// [`SrtpError::IndexExhausted`] after 2^31 - 1 packets.
    pub fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, SrtpError> {
        clear_part(plain, CLEAR_LEN)?;
        if self.sealed >= MAX_SEALED {
            return Err(SrtpError::IndexExhausted);
        }
        let sealed = self
            .local
            .encrypt_rtcp(plain)
            .map_err(|_| SrtpError::CryptoFailure)?;
        self.sealed += 1;
        Ok(sealed.into())
    }

    /// Opens one SRTCP packet and returns the compound RTCP packet in it.
    ///
    /// A packet that is refused changes nothing that a later packet could notice.
    ///
    /// # Errors
    /// [`SrtpError::TooShort`], [`SrtpError::MalformedRtcp`], [`SrtpError::Replayed`],
    /// [`SrtpError::TooOld`], [`SrtpError::TooManySources`], [`SrtpError::AuthenticationFailed`].
    pub fn open(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let Trailer { ssrc, index } = self.trailer(packet)?;
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        match known {
            Some(at) => self.sources[at].window.check(index)?,
            None if self.sources.len() >= MAX_RTCP_SOURCES => {
                return Err(SrtpError::TooManySources);
            }
            None => {}
        }
        let Ok(plain) = self.remote.decrypt_rtcp(packet) else {
            self.count_forgery()?;
            return Err(SrtpError::AuthenticationFailed);
        };
        let at = known.unwrap_or_else(|| {
            self.sources.push(Source {
                ssrc,
                window: ReplayWindow::new(),
            });
            self.sources.len() - 1
        });
        self.sources[at].window.accept(index);
        Ok(plain.into())
    }

    // RFC 3711 3.4: the E flag and index follow the encrypted part; with AES-CM the tag comes
    // after them (and RFC 7714 9.2 puts the AES-GCM tag before).
    fn trailer(&self, packet: &[u8]) -> Result<Trailer, SrtpError> {
        let profile = self.remote_key.profile();
        let after_index = match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => 0,
            Profile::Aes128CmSha1_80 => profile.tag_len(),
        };
        let clear = clear_part(packet, CLEAR_LEN + profile.tag_len() + INDEX_LEN)?;
        let ssrc = u32::from_be_bytes([clear[4], clear[5], clear[6], clear[7]]);
        let word = packet[..packet.len() - after_index]
            .last_chunk::<INDEX_LEN>()
            .expect("clear_part checked that the trailer fits");
        let word = u32::from_be_bytes(*word);
        // RFC 3711 3.4 lets a sender leave RTCP unencrypted; DTLS-SRTP profiles encrypt it.
        if word & ENCRYPTED_FLAG == 0 {
            return Err(SrtpError::MalformedRtcp);
        }
        Ok(Trailer {
            ssrc,
            index: u64::from(word & !ENCRYPTED_FLAG),
        })
    }

    /// Bounds the source entries that forged packets leave in the library's context. It holds
    /// nothing else that changes, so a new one opens the same packets.
    fn count_forgery(&mut self) -> Result<(), SrtpError> {
        self.forgeries += 1;
        if self.forgeries >= MAX_FORGERIES {
            self.remote = new_context(&self.remote_key)?;
            self.forgeries = 0;
        }
        Ok(())
    }
}

struct Trailer {
    ssrc: u32,
    index: u64,
}

/// The part of an RTCP packet that is never encrypted, once `packet` is `min` bytes at least and
/// of RTP version 2.
fn clear_part(packet: &[u8], min: usize) -> Result<&[u8; CLEAR_LEN], SrtpError> {
    match packet.first_chunk() {
        Some(clear) if packet.len() >= min => {
            if clear[0] >> 6 == 2 {
                Ok(clear)
            } else {
                Err(SrtpError::MalformedRtcp)
            }
        }
        _ => Err(SrtpError::TooShort {
            len: packet.len(),
            min,
        }),
    }
}

fn new_context(key: &MasterKey) -> Result<Context, SrtpError> {
    let profile = match key.profile() {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(key.key(), key.salt(), profile, None, None).map_err(|_| SrtpError::CryptoFailure)
}
