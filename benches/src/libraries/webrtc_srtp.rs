//! `webrtc-srtp`, of the WebRTC stack in Rust. It finds the index by itself, and returns each
//! packet in memory of its own, from where it is copied to where it must be.

use fanmill_engine::srtp::Profile;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

use super::Session;
use crate::packets::Master;

struct WebrtcSrtp {
    sealing: Context,
    opening: Context,
}

pub(super) fn session(profile: Profile, master: &Master) -> Option<Box<dyn Session>> {
    let name = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let context = || Context::new(&master.key, &master.salt, name, None, None).ok();
    Some(Box::new(WebrtcSrtp {
        sealing: context()?,
        opening: context()?,
    }))
}

impl Session for WebrtcSrtp {
    fn seal(&mut self, _: u64, plain: &[u8], out: &mut [u8]) -> usize {
        let sealed = self.sealing.encrypt_rtp(plain).expect("a valid packet");
        out[..sealed.len()].copy_from_slice(&sealed);
        sealed.len()
    }

    fn open(&mut self, _: u64, sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let plain = self.opening.decrypt_rtp(sealed).ok()?;
        out[..plain.len()].copy_from_slice(&plain);
        Some(plain.len())
    }
}
