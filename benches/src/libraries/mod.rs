//! SRTP by one library after the other, all doing the same job: the header authenticated, the
//! payload encrypted, header, payload and tag written into a buffer of the caller's. So an engineer
//! who asks "why not that one" sees it beside the engine; a test holds all against each other.
//!
//! Some libraries speak SRTP, others only its ciphers. The latter are given the session keys of
//! `SessionKeys` and what RFC 3711 and RFC 7714 make of SSRC and index.

mod engine;
#[cfg(feature = "openssl")]
mod openssl;
mod ring;
mod rust_crypto;
mod session_keys;
mod webrtc_srtp;

use fanmill_engine::srtp::Profile;

use crate::packets::Master;
use session_keys::{Id, SessionKeys};

/// One direction of one SRTP session. Packets have a header of
/// [`HEADER_BYTES`](crate::packets::HEADER_BYTES).
pub trait Session {
    /// Seals a packet into `out` and returns its length.
    ///
    /// # Panics
    /// When the library refuses it.
    fn seal(&mut self, index: u64, plain: &[u8], out: &mut [u8]) -> usize;

    /// Opens a packet into `out`, which has room for all of it, and returns the length of the
    /// plaintext; `None` if it is not authentic.
    fn open(&mut self, index: u64, sealed: &[u8], out: &mut [u8]) -> Option<usize>;
}

/// A way to do SRTP.
pub struct Library {
    /// As the report names it.
    pub name: &'static str,
    new: fn(Profile, &Master) -> Option<Box<dyn Session>>,
}

impl Library {
    /// A session under this master key; `None` if the library does not have the profile's
    /// algorithms.
    #[must_use]
    pub fn session(&self, profile: Profile, master: &Master) -> Option<Box<dyn Session>> {
        (self.new)(profile, master)
    }
}

/// The engine first, then what it could have been built on.
pub const LIBRARIES: &[Library] = &[
    Library {
        name: "engine",
        new: engine::session,
    },
    Library {
        name: "webrtc-srtp",
        new: webrtc_srtp::session,
    },
    Library {
        name: "ring",
        new: ring::session,
    },
    Library {
        name: "RustCrypto",
        new: rust_crypto::session,
    },
    #[cfg(feature = "openssl")]
    Library {
        name: "OpenSSL",
        new: openssl::session,
    },
];
