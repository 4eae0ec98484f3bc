//! What protects the SRTCP packets of one direction (RFC 3711 3.4, RFC 7714 9).
//!
//! Called only by [`RtcpSession`](super::RtcpSession), which keeps the indices and has checked
//! every length. Holds the session keys as bytes and sets the cipher up for each packet: a peer has
//! a few packets of RTCP a second, and expanded keys would be most of what it takes up.

use super::cm_sha1::CmSha1;
use super::gcm::Gcm;
use super::keys::{AUTH_KEY_LEN, Label, Secret};
use super::{Incoming, MasterKey, Outgoing, PacketId, Profile, SrtpError};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

/// RTCP header and sender SSRC: in the clear in every SRTCP packet (RFC 3711 3.4).
pub(super) const CLEAR_LEN: usize = 8;
/// The E flag and the 31-bit SRTCP index.
pub(super) const INDEX_LEN: usize = 4;
const ENCRYPTED_FLAG: u32 = 1 << 31;
const GCM_SALT_LEN: usize = 12;
const CM_SALT_LEN: usize = 14;

/// The session keys of one direction.
pub(super) struct RtcpCipher {
    profile: Profile,
    key: Secret<32>,
    salt: Secret<CM_SALT_LEN>,
    auth_key: Secret<AUTH_KEY_LEN>,
}

/// An SRTCP packet cut into its parts.
struct Parts<'a> {
    clear: &'a [u8; CLEAR_LEN],
    body: &'a [u8],
    tag: &'a [u8],
    word: [u8; INDEX_LEN],
}

impl RtcpCipher {
    pub(super) fn new(profile: Profile, master: &MasterKey) -> Result<Self, SrtpError> {
        master.check_profile(profile)?;
        let mut cipher = Self {
            profile,
            key: Secret([0; 32]),
            salt: Secret([0; CM_SALT_LEN]),
            auth_key: Secret([0; AUTH_KEY_LEN]),
        };
        let (key_len, salt_len) = (profile.key_len(), profile.salt_len());
        master.derive(Label::RtcpEncryption, &mut cipher.key.0[..key_len])?;
        master.derive(Label::RtcpSalt, &mut cipher.salt.0[..salt_len])?;
        if profile == Profile::Aes128CmSha1_80 {
            master.derive(Label::RtcpAuthentication, &mut cipher.auth_key.0)?;
        }
        Ok(cipher)
    }

    /// Bytes that sealing adds.
    pub(super) fn overhead(&self) -> usize {
        INDEX_LEN + self.profile.tag_len()
    }

    /// The SSRC and SRTCP index a packet of at least [`CLEAR_LEN`] and
    /// [`overhead`](Self::overhead) claims; `None` if it claims not to be encrypted.
    pub(super) fn claims(&self, packet: &[u8]) -> Option<(u32, u32)> {
        let parts = self.cut(packet)?;
        let [_, _, _, _, s0, s1, s2, s3] = *parts.clear;
        let word = u32::from_be_bytes(parts.word);
        // RFC 3711 3.4 lets a sender leave RTCP unencrypted; DTLS-SRTP profiles encrypt it.
        (word & ENCRYPTED_FLAG != 0)
            .then_some((u32::from_be_bytes([s0, s1, s2, s3]), word & !ENCRYPTED_FLAG))
    }

    // With AES-CM the tag comes last (RFC 3711 3.4), with AES-GCM the index does (RFC 7714 9.2).
    fn cut<'a>(&self, packet: &'a [u8]) -> Option<Parts<'a>> {
        let (clear, rest) = packet.split_first_chunk()?;
        let body_len = rest.len().checked_sub(self.overhead())?;
        let (body, trailer) = rest.split_at(body_len);
        let (tag, word) = match self.profile {
            Profile::Aes128CmSha1_80 => {
                let (word, tag) = trailer.split_at(INDEX_LEN);
                (tag, word)
            }
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                trailer.split_at(trailer.len() - INDEX_LEN)
            }
        };
        Some(Parts {
            clear,
            body,
            tag,
            word: word.try_into().ok()?,
        })
    }

    /// Seals a packet under an index below 2^31, which no other packet of its SSRC may have.
    pub(super) fn seal(
        &self,
        index: u32,
        clear: &[u8; CLEAR_LEN],
        body: &[u8],
    ) -> Result<Vec<u8>, SrtpError> {
        let word = (index | ENCRYPTED_FLAG).to_be_bytes();
        let mut out = vec![0; CLEAR_LEN + body.len() + self.overhead()];
        let (head, rest) = out.split_at_mut(CLEAR_LEN);
        head.copy_from_slice(clear);
        let (sealed, trailer) = rest.split_at_mut(body.len());
        match self.profile {
            Profile::Aes128CmSha1_80 => {
                let (trailing_word, tag) = trailer.split_at_mut(INDEX_LEN);
                self.apply_keystream(id(clear, index), body, sealed)?;
                trailing_word.copy_from_slice(&word);
                let whole = self.authenticate(clear, sealed, word);
                tag.copy_from_slice(&whole.as_ref()[..tag.len()]);
            }
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                let (tag, trailing_word) = trailer.split_at_mut(self.profile.tag_len());
                trailing_word.copy_from_slice(&word);
                let packet = Outgoing {
                    id: id(clear, index),
                    header: &additional_data(clear, word),
                    body: sealed,
                    tag,
                };
                self.gcm()?.seal(packet, body)?;
            }
        }
        Ok(out)
    }

    /// Opens a packet that [`claims`](Self::claims) to have this index.
    pub(super) fn open(&self, index: u32, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let Parts {
            clear,
            body,
            tag,
            word,
        } = self.cut(packet).ok_or(SrtpError::MalformedRtcp)?;
        let mut out = vec![0; CLEAR_LEN + body.len()];
        let (head, plain) = out.split_at_mut(CLEAR_LEN);
        head.copy_from_slice(clear);
        match self.profile {
            Profile::Aes128CmSha1_80 => {
                let whole = self.authenticate(clear, body, word);
                verify_slices_are_equal(&whole.as_ref()[..tag.len()], tag)
                    .map_err(|_| SrtpError::AuthenticationFailed)?;
                self.apply_keystream(id(clear, index), body, plain)?;
            }
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                let packet = Incoming {
                    id: id(clear, index),
                    header: &additional_data(clear, word),
                    body,
                    tag,
                };
                self.gcm()?.open(&packet, plain)?;
            }
        }
        Ok(out)
    }

    fn gcm(&self) -> Result<Gcm, SrtpError> {
        let salt = self.salt.0.first_chunk::<GCM_SALT_LEN>();
        let salt = salt.expect("the longest salt is longer");
        Gcm::from_session_keys(&self.key.0[..self.profile.key_len()], *salt)
    }

    // RFC 3711 4.1.1: as for RTP, with the SRTCP index.
    fn apply_keystream(&self, id: PacketId, from: &[u8], to: &mut [u8]) -> Result<(), SrtpError> {
        let key = self.key.0.first_chunk().expect("the longest key is longer");
        let packet = Outgoing {
            id,
            header: &[],
            body: to,
            tag: &mut [],
        };
        CmSha1::from_session_keys(key, &self.auth_key.0, self.salt.0)?.encrypt(packet, from)
    }

    // RFC 3711 3.4: over all that precedes the tag.
    fn authenticate(
        &self,
        clear: &[u8; CLEAR_LEN],
        sealed: &[u8],
        word: [u8; INDEX_LEN],
    ) -> hmac::Tag {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.auth_key.0);
        let mut mac = hmac::Context::with_key(&key);
        mac.update(clear);
        mac.update(sealed);
        mac.update(&word);
        mac.sign()
    }
}

/// What tells the packet from others, in the form RTP has it: the SRTCP index takes the place of
/// the 48-bit index (RFC 3711 4.1.1, RFC 7714 9.1).
fn id(clear: &[u8; CLEAR_LEN], index: u32) -> PacketId {
    let [i0, i1, i2, i3] = index.to_be_bytes();
    let [_, _, _, _, s0, s1, s2, s3] = *clear;
    PacketId {
        ssrc: [s0, s1, s2, s3],
        index: [0, 0, i0, i1, i2, i3],
    }
}

// RFC 7714 9.2.
fn additional_data(clear: &[u8; CLEAR_LEN], word: [u8; INDEX_LEN]) -> [u8; CLEAR_LEN + INDEX_LEN] {
    let mut data = [0; CLEAR_LEN + INDEX_LEN];
    data[..CLEAR_LEN].copy_from_slice(clear);
    data[CLEAR_LEN..].copy_from_slice(&word);
    data
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    // RFC 7714 17.1 and 17.2, which begin with session keys.
    #[test]
    fn the_packets_of_rfc_7714_are_sealed_and_opened() {
        let plain = bytes(
            "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 \
             deadbeef deadbeef deadbeef deadbeef deadbeef",
        );
        let sealed_128 = "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 \
             6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 \
             45d9eade 800005d4";
        let sealed_256 = "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d \
             bffe0a50 a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c \
             b26ac3be 800005d4";
        for (profile, sealed) in [
            (Profile::AeadAes128Gcm, sealed_128),
            (Profile::AeadAes256Gcm, sealed_256),
        ] {
            let mut salt = Secret([0; CM_SALT_LEN]);
            salt.0[..GCM_SALT_LEN].copy_from_slice(b"Quid pro quo");
            let cipher = RtcpCipher {
                profile,
                key: Secret(std::array::from_fn(|at| at as u8)),
                salt,
                auth_key: Secret([0; AUTH_KEY_LEN]),
            };
            let sealed = bytes(sealed);
            let (clear, body) = plain.split_first_chunk().unwrap();
            assert_eq!(cipher.seal(0x5d4, clear, body), Ok(sealed.clone()));
            assert_eq!(cipher.claims(&sealed), Some((0x4d61_7273, 0x5d4)));
            assert_eq!(cipher.open(0x5d4, &sealed), Ok(plain.clone()));
        }
    }
}
