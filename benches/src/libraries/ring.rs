//! `ring`: AES-GCM in place, so the payload is copied first. It has no counter mode.

use fanmill_engine::srtp::Profile;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{Id, Session, SessionKeys};
use crate::packets::{HEADER_BYTES, Master};

struct Gcm {
    key: LessSafeKey,
    keys: SessionKeys,
}

pub(super) fn session(profile: Profile, master: &Master) -> Option<Box<dyn Session>> {
    let algorithm = match profile {
        Profile::AeadAes128Gcm => &AES_128_GCM,
        Profile::AeadAes256Gcm => &AES_256_GCM,
        Profile::Aes128CmSha1_80 => return None,
    };
    let keys = SessionKeys::new(profile, master);
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &keys.encryption).ok()?);
    Some(Box::new(Gcm { key, keys }))
}

impl Gcm {
    fn nonce(&self, index: u64, packet: &[u8]) -> Nonce {
        Nonce::assume_unique_for_key(self.keys.gcm_nonce(Id::new(index, packet)))
    }
}

impl Session for Gcm {
    fn seal(&mut self, index: u64, plain: &[u8], out: &mut [u8]) -> usize {
        let nonce = self.nonce(index, plain);
        let (packet, rest) = out.split_at_mut(plain.len());
        packet.copy_from_slice(plain);
        let (header, body) = packet.split_at_mut(HEADER_BYTES);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*header), body)
            .expect("a packet is not too long");
        rest[..tag.as_ref().len()].copy_from_slice(tag.as_ref());
        plain.len() + tag.as_ref().len()
    }

    fn open(&mut self, index: u64, sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let nonce = self.nonce(index, sealed);
        let packet = &mut out[..sealed.len()];
        packet.copy_from_slice(sealed);
        let (header, body) = packet.split_at_mut(HEADER_BYTES);
        let opened = self.key.open_in_place(nonce, Aad::from(&*header), body);
        Some(HEADER_BYTES + opened.ok()?.len())
    }
}
