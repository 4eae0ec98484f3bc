//! RustCrypto: `aes-gcm`, and `aes`, `ctr`, `hmac` and `sha1`. All choose the processor's own
//! instructions at run time.

use aes::Aes128;
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ctr::cipher::{InnerIvInit, KeyInit, StreamCipher};
use ctr::{Ctr128BE, CtrCore};
use fanmill_engine::srtp::Profile;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{Id, Session, SessionKeys};
use crate::packets::{HEADER_BYTES, Master};

struct Gcm<A> {
    cipher: A,
    keys: SessionKeys,
}

struct CmSha1 {
    cipher: Aes128,
    /// With the key's block taken in already.
    mac: Hmac<Sha1>,
    keys: SessionKeys,
}

pub(super) fn session(profile: Profile, master: &Master) -> Option<Box<dyn Session>> {
    let keys = SessionKeys::new(profile, master);
    Some(match profile {
        Profile::AeadAes128Gcm => Box::new(Gcm {
            cipher: Aes128Gcm::new_from_slice(&keys.encryption).ok()?,
            keys,
        }),
        Profile::AeadAes256Gcm => Box::new(Gcm {
            cipher: Aes256Gcm::new_from_slice(&keys.encryption).ok()?,
            keys,
        }),
        Profile::Aes128CmSha1_80 => Box::new(CmSha1 {
            cipher: Aes128::new_from_slice(&keys.encryption).ok()?,
            mac: Hmac::new_from_slice(&keys.authentication).ok()?,
            keys,
        }),
    })
}

const GCM_TAG: usize = Profile::AeadAes128Gcm.tag_len();
const SHA1_TAG: usize = Profile::Aes128CmSha1_80.tag_len();

impl<A: AeadInOut<NonceSize = aes_gcm::aead::consts::U12, TagSize = aes_gcm::aead::consts::U16>>
    Session for Gcm<A>
{
    fn seal(&mut self, index: u64, plain: &[u8], out: &mut [u8]) -> usize {
        let nonce = self.keys.gcm_nonce(Id::new(index, plain));
        let (header, payload) = plain.split_at(HEADER_BYTES);
        let (head, rest) = out.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(header);
        let (body, rest) = rest.split_at_mut(payload.len());
        let buffers = InOutBuf::new(payload, body).expect("equal lengths");
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce.into(), header, buffers)
            .expect("a packet is not too long");
        rest[..GCM_TAG].copy_from_slice(&tag);
        plain.len() + GCM_TAG
    }

    fn open(&mut self, index: u64, sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let nonce = self.keys.gcm_nonce(Id::new(index, sealed));
        let (packet, tag) = sealed.split_at(sealed.len() - GCM_TAG);
        let (header, body) = packet.split_at(HEADER_BYTES);
        let (head, rest) = out.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(header);
        let buffers = InOutBuf::new(body, &mut rest[..body.len()]).ok()?;
        let tag = tag.try_into().ok()?;
        self.cipher
            .decrypt_inout_detached(&nonce.into(), header, buffers, tag)
            .ok()?;
        Some(packet.len())
    }
}

impl CmSha1 {
    fn keystream(&self, id: Id, from: &[u8], into: &mut [u8]) {
        let counter = self.keys.counter(id);
        Ctr128BE::from_core(CtrCore::inner_iv_init(&self.cipher, &counter.into()))
            .apply_keystream_b2b(from, into);
    }

    fn mac(&self, id: Id, packet: &[u8]) -> Hmac<Sha1> {
        let mut mac = self.mac.clone();
        mac.update(packet);
        mac.update(&id.rollover_counter());
        mac
    }
}

impl Session for CmSha1 {
    fn seal(&mut self, index: u64, plain: &[u8], out: &mut [u8]) -> usize {
        let id = Id::new(index, plain);
        let (packet, rest) = out.split_at_mut(plain.len());
        let (header, body) = packet.split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&plain[..HEADER_BYTES]);
        self.keystream(id, &plain[HEADER_BYTES..], body);
        let tag = self.mac(id, packet).finalize().into_bytes();
        rest[..SHA1_TAG].copy_from_slice(&tag[..SHA1_TAG]);
        plain.len() + SHA1_TAG
    }

    fn open(&mut self, index: u64, sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let id = Id::new(index, sealed);
        let (packet, tag) = sealed.split_at(sealed.len() - SHA1_TAG);
        self.mac(id, packet).verify_truncated_left(tag).ok()?;
        let (header, body) = packet.split_at(HEADER_BYTES);
        out[..HEADER_BYTES].copy_from_slice(header);
        self.keystream(id, body, &mut out[HEADER_BYTES..packet.len()]);
        Some(packet.len())
    }
}
