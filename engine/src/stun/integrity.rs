//! MESSAGE-INTEGRITY and FINGERPRINT over the front of a message (RFC 8489 14.5 and 14.7).
//!
//! Used by the parser to verify and by the writers to sign.

use super::{ATTRIBUTE_HEADER_LEN, FINGERPRINT_LEN, HEADER_LEN, INTEGRITY_LEN};
use aws_lc_rs::{constant_time, digest, hmac};
use std::fmt;

/// SHA-1's block: HMAC replaces longer keys by their digest (RFC 2104 2).
const BLOCK_LEN: usize = 64;

/// A short-term credential's password, as MESSAGE-INTEGRITY uses it (RFC 8489 9.1.1).
///
/// Kept as one cache line rather than as hash states: a shard holds one for every viewer, and to
/// hash a key is cheaper than to fetch a kilobyte that was last used seconds ago.
#[derive(Clone)]
pub struct IntegrityKey {
    key: [u8; BLOCK_LEN],
    len: usize,
}

impl IntegrityKey {
    /// Takes an ICE password. ICE passwords are ASCII, which SASLprep leaves as it is.
    pub fn new(password: &str) -> Self {
        let mut key = [0; BLOCK_LEN];
        let password = password.as_bytes();
        let digest;
        let used = if password.len() <= BLOCK_LEN {
            password
        } else {
            digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
            digest.as_ref()
        };
        key[..used.len()].copy_from_slice(used);
        Self {
            key,
            len: used.len(),
        }
    }

    /// Whether `tag` is the MESSAGE-INTEGRITY of the message up to `covered`.
    pub(super) fn matches(&self, covered: &[u8], tag: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.sign(covered), tag).is_ok()
    }

    /// The MESSAGE-INTEGRITY value that is to follow `covered`, which starts at the message's
    /// header and ends before the attribute.
    // RFC 8489 14.5: the length field counts up to and including MESSAGE-INTEGRITY, whatever
    // follows it.
    pub(super) fn sign(&self, covered: &[u8]) -> [u8; INTEGRITY_LEN] {
        let (kind_and_length, rest) = covered
            .split_first_chunk::<4>()
            .expect("a message is longer than its header");
        let length = covered.len() + ATTRIBUTE_HEADER_LEN + INTEGRITY_LEN - HEADER_LEN;
        let [high, low] = (length as u16).to_be_bytes();
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.key[..self.len]);
        let mut mac = hmac::Context::with_key(&key);
        mac.update(&[kind_and_length[0], kind_and_length[1], high, low]);
        mac.update(rest);
        *mac.sign()
            .as_ref()
            .first_chunk()
            .expect("an HMAC-SHA1 is 20 bytes")
    }
}

impl fmt::Debug for IntegrityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntegrityKey").finish_non_exhaustive()
    }
}

/// The FINGERPRINT value that is to follow `covered`, a message up to the attribute whose length
/// field already counts it.
pub(super) fn fingerprint(covered: &[u8]) -> [u8; FINGERPRINT_LEN] {
    const XOR: u32 = 0x5354_554e;
    (crc32fast::hash(covered) ^ XOR).to_be_bytes()
}
