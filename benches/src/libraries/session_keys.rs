//! What a library that knows only the ciphers must be told of SRTP: session keys, nonces, counters.

use aes::{Aes128, Aes256};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use fanmill_engine::srtp::Profile;

use crate::packets::Master;

/// Session keys of one direction (RFC 3711 4.3).
pub(super) struct SessionKeys {
    pub(super) encryption: Vec<u8>,
    pub(super) authentication: [u8; 20],
    salt: [u8; 14],
}

impl SessionKeys {
    pub(super) fn new(profile: Profile, master: &Master) -> Self {
        let mut encryption = vec![0; profile.key_len()];
        derive(master, 0, &mut encryption);
        let mut authentication = [0; 20];
        derive(master, 1, &mut authentication);
        let mut salt = [0; 14];
        derive(master, 2, &mut salt[..profile.salt_len()]);
        Self {
            encryption,
            authentication,
            salt,
        }
    }

    // RFC 7714 8.1
    pub(super) fn gcm_nonce(&self, id: Id) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&id.ssrc);
        nonce[6..].copy_from_slice(&id.index);
        xor(&mut nonce, &self.salt[..12]);
        nonce
    }

    // RFC 3711 4.1.1
    pub(super) fn counter(&self, id: Id) -> [u8; 16] {
        let mut counter = [0; 16];
        counter[4..8].copy_from_slice(&id.ssrc);
        counter[8..14].copy_from_slice(&id.index);
        xor(&mut counter, &self.salt);
        counter
    }
}

/// What a packet is called under its key.
#[derive(Clone, Copy)]
pub(super) struct Id {
    ssrc: [u8; 4],
    index: [u8; 6],
}

impl Id {
    pub(super) fn new(index: u64, packet: &[u8]) -> Self {
        let [_, _, index @ ..] = index.to_be_bytes();
        let ssrc = [packet[8], packet[9], packet[10], packet[11]];
        Self { ssrc, index }
    }

    /// What the tag covers beyond the packet (RFC 3711 4.2).
    pub(super) fn rollover_counter(&self) -> [u8; 4] {
        [self.index[0], self.index[1], self.index[2], self.index[3]]
    }
}

// RFC 3711 4.3.3, RFC 6188 3.1; with a derivation rate of zero the label is all that varies.
fn derive(master: &Master, label: u8, out: &mut [u8]) {
    let mut counter = [0; 16];
    counter[..master.salt.len()].copy_from_slice(&master.salt);
    counter[7] ^= label;
    if master.key.len() == 32 {
        keystream::<Ctr128BE<Aes256>>(&master.key, &counter, out);
    } else {
        keystream::<Ctr128BE<Aes128>>(&master.key, &counter, out);
    }
}

fn keystream<C: KeyIvInit + StreamCipher>(key: &[u8], counter: &[u8], out: &mut [u8]) {
    C::new_from_slices(key, counter)
        .expect("the profile's lengths")
        .apply_keystream(out);
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte ^= with;
    }
}
