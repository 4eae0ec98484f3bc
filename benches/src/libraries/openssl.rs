//! The system's OpenSSL: its ciphers by contexts that keep the key schedule, its SHA-1 without the
//! detour over EVP, which would allocate for each packet.

use fanmill_engine::srtp::Profile;
use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::memcmp;
use openssl::sha::Sha1;

use super::{Id, Session, SessionKeys};
use crate::packets::{HEADER_BYTES, Master};

const GCM_TAG: usize = Profile::AeadAes128Gcm.tag_len();
const SHA1_TAG: usize = Profile::Aes128CmSha1_80.tag_len();
const SHA1_BLOCK: usize = 64;

struct Gcm {
    sealing: CipherCtx,
    opening: CipherCtx,
    keys: SessionKeys,
}

struct CmSha1 {
    cipher: CipherCtx,
    /// HMAC's hashes, with the key's block taken in already (RFC 2104 4).
    inner: Sha1,
    outer: Sha1,
    keys: SessionKeys,
}

pub(super) fn session(profile: Profile, master: &Master) -> Option<Box<dyn Session>> {
    let keys = SessionKeys::new(profile, master);
    match profile {
        Profile::AeadAes128Gcm => gcm(Cipher::aes_128_gcm(), keys),
        Profile::AeadAes256Gcm => gcm(Cipher::aes_256_gcm(), keys),
        Profile::Aes128CmSha1_80 => cm_sha1(keys),
    }
}

fn gcm(cipher: &CipherRef, keys: SessionKeys) -> Option<Box<dyn Session>> {
    let (mut sealing, mut opening) = (CipherCtx::new().ok()?, CipherCtx::new().ok()?);
    let key = Some(&keys.encryption[..]);
    sealing.encrypt_init(Some(cipher), key, None).ok()?;
    opening.decrypt_init(Some(cipher), key, None).ok()?;
    Some(Box::new(Gcm {
        sealing,
        opening,
        keys,
    }))
}

fn cm_sha1(keys: SessionKeys) -> Option<Box<dyn Session>> {
    let mut cipher = CipherCtx::new().ok()?;
    let key = Some(&keys.encryption[..]);
    cipher
        .encrypt_init(Some(Cipher::aes_128_ctr()), key, None)
        .ok()?;
    let started = |pad: u8| {
        let mut block = [pad; SHA1_BLOCK];
        for (byte, key) in block.iter_mut().zip(keys.authentication) {
            *byte ^= key;
        }
        let mut hash = Sha1::new();
        hash.update(&block);
        hash
    };
    Some(Box::new(CmSha1 {
        cipher,
        inner: started(0x36),
        outer: started(0x5c),
        keys,
    }))
}

impl Session for Gcm {
    fn seal(&mut self, index: u64, plain: &[u8], out: &mut [u8]) -> usize {
        let nonce = self.keys.gcm_nonce(Id::new(index, plain));
        let (header, payload) = plain.split_at(HEADER_BYTES);
        let (head, rest) = out.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(header);
        let (body, rest) = rest.split_at_mut(payload.len());
        let context = &mut self.sealing;
        context
            .encrypt_init(None, None, Some(&nonce))
            .and_then(|()| context.cipher_update(header, None))
            .and_then(|_| context.cipher_update(payload, Some(body)))
            .and_then(|_| context.cipher_final(&mut []))
            .and_then(|_| context.tag(&mut rest[..GCM_TAG]))
            .expect("a valid packet");
        plain.len() + GCM_TAG
    }

    fn open(&mut self, index: u64, sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let nonce = self.keys.gcm_nonce(Id::new(index, sealed));
        let (packet, tag) = sealed.split_at(sealed.len() - GCM_TAG);
        let (header, body) = packet.split_at(HEADER_BYTES);
        let (head, rest) = out.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(header);
        let context = &mut self.opening;
        context
            .decrypt_init(None, None, Some(&nonce))
            .and_then(|()| context.cipher_update(header, None))
            .and_then(|_| context.cipher_update(body, Some(&mut rest[..body.len()])))
            .and_then(|_| context.set_tag(tag))
            .and_then(|()| context.cipher_final(&mut []))
            .ok()?;
        Some(packet.len())
    }
}

impl CmSha1 {
    fn keystream(&mut self, id: Id, from: &[u8], into: &mut [u8]) {
        let counter = self.keys.counter(id);
        let context = &mut self.cipher;
        context
            .encrypt_init(None, None, Some(&counter))
            .and_then(|()| context.cipher_update(from, Some(into)))
            .expect("a valid packet");
    }

    fn mac(&self, id: Id, packet: &[u8]) -> [u8; 20] {
        let mut inner = self.inner.clone();
        inner.update(packet);
        inner.update(&id.rollover_counter());
        let mut outer = self.outer.clone();
        outer.update(&inner.finish());
        outer.finish()
    }
}

impl Session for CmSha1 {
    fn seal(&mut self, index: u64, plain: &[u8], out: &mut [u8]) -> usize {
        let id = Id::new(index, plain);
        let (packet, rest) = out.split_at_mut(plain.len());
        let (header, body) = packet.split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&plain[..HEADER_BYTES]);
        self.keystream(id, &plain[HEADER_BYTES..], body);
        rest[..SHA1_TAG].copy_from_slice(&self.mac(id, packet)[..SHA1_TAG]);
        plain.len() + SHA1_TAG
    }

    fn open(&mut self, index: u64, sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let id = Id::new(index, sealed);
        let (packet, tag) = sealed.split_at(sealed.len() - SHA1_TAG);
        if !memcmp::eq(&self.mac(id, packet)[..SHA1_TAG], tag) {
            return None;
        }
        let (header, body) = packet.split_at(HEADER_BYTES);
        out[..HEADER_BYTES].copy_from_slice(header);
        self.keystream(id, body, &mut out[HEADER_BYTES..packet.len()]);
        Some(packet.len())
    }
}
