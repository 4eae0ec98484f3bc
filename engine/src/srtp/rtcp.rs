//! SRTCP both ways for one transport: indices, replay, and who may be heard.
//!
//! RTCP is not multiplied by the packet rate, so its packets may be allocated. Lengths and the E
//! flag are checked here before anything else; nothing moves before a packet is authenticated.

use super::rtcp_cipher::{CLEAR_LEN, RtcpCipher};
use super::{MasterKey, Profile, ReplayWindow, SrtpError};

/// How many SSRCs one peer may send RTCP from. Each costs replay state for the session's life.
pub const MAX_RTCP_SOURCES: usize = 256;

/// RFC 3711 9.2: one key protects at most 2^31 SRTCP packets, whose index has 31 bits.
const MAX_SEALED: u32 = (1 << 31) - 1;

/// Seals and opens the RTCP packets of one transport.
pub struct RtcpSession {
    local: RtcpCipher,
    /// All SSRCs of this side are numbered in one row.
    sealed: u32,
    remote: RtcpCipher,
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
        Ok(Self {
            local: RtcpCipher::new(profile, local)?,
            sealed: 0,
            remote: RtcpCipher::new(profile, remote)?,
            sources: Vec::new(),
        })
    }

    /// Seals one compound RTCP packet.
    ///
    /// # Errors
    /// [`SrtpError::TooShort`] and [`SrtpError::MalformedRtcp`] for what is not RTCP,
    /// [`SrtpError::IndexExhausted`] after 2^31 - 1 packets.
    pub fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let (clear, body) = clear_part(plain, CLEAR_LEN)?;
        if self.sealed >= MAX_SEALED {
            return Err(SrtpError::IndexExhausted);
        }
        let sealed = self.local.seal(self.sealed + 1, clear, body)?;
        self.sealed += 1;
        Ok(sealed)
    }

    /// Opens one SRTCP packet and returns the compound RTCP packet in it.
    ///
    /// A packet that is refused changes nothing that a later packet could notice.
    ///
    /// # Errors
    /// [`SrtpError::TooShort`], [`SrtpError::MalformedRtcp`], [`SrtpError::Replayed`],
    /// [`SrtpError::TooOld`], [`SrtpError::TooManySources`], [`SrtpError::AuthenticationFailed`].
    pub fn open(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        clear_part(packet, CLEAR_LEN + self.remote.overhead())?;
        let claims = self.remote.claims(packet);
        let (ssrc, index) = claims.ok_or(SrtpError::MalformedRtcp)?;
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        match known {
            Some(at) => self.sources[at].window.check(index.into())?,
            None if self.sources.len() >= MAX_RTCP_SOURCES => {
                return Err(SrtpError::TooManySources);
            }
            None => {}
        }
        let plain = self.remote.open(index, packet)?;
        let at = known.unwrap_or_else(|| {
            // Most peers have one.
            self.sources.reserve_exact(1);
            self.sources.push(Source {
                ssrc,
                window: ReplayWindow::new(),
            });
            self.sources.len() - 1
        });
        self.sources[at].window.accept(index.into());
        Ok(plain)
    }
}

/// The part of an RTCP packet that is never encrypted, and the rest, once `packet` is `min` bytes
/// at least and of RTP version 2.
fn clear_part(packet: &[u8], min: usize) -> Result<(&[u8; CLEAR_LEN], &[u8]), SrtpError> {
    match packet.split_first_chunk() {
        Some((clear, rest)) if packet.len() >= min => {
            if clear[0] >> 6 == 2 {
                Ok((clear, rest))
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
