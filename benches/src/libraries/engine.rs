//! The engine's own, on aws-lc.

use fanmill_engine::srtp::{MasterKey, Opener, Profile, Sealer};

use super::Session;
use crate::packets::{HEADER_BYTES, Master};

struct Engine {
    sealer: Sealer,
    opener: Opener,
}

pub(super) fn session(profile: Profile, master: &Master) -> Option<Box<dyn Session>> {
    let key = MasterKey::new(profile, &master.key, &master.salt).ok()?;
    let sealer = Sealer::new(profile, &key).ok()?;
    let opener = Opener::new(profile, &key).ok()?;
    Some(Box::new(Engine { sealer, opener }))
}

impl Session for Engine {
    fn seal(&mut self, index: u64, plain: &[u8], out: &mut [u8]) -> usize {
        let (header, payload) = plain.split_at(HEADER_BYTES);
        let sealed = self.sealer.seal(index, header, payload, out);
        sealed.expect("the buffer is large enough")
    }

    fn open(&mut self, index: u64, sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        self.opener.open(index, HEADER_BYTES, sealed, out).ok()
    }
}
