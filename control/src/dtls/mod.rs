//! DTLS 1.2 handshakes for SRTP keys (RFC 5764, RFC 6347, RFC 8827 6.5).
//!
//! A shard hands every DTLS datagram of a transport to the control plane's reactor; the reactor
//! calls [`Association::handle_datagram`]. What the handshake answers leaves by the
//! [`SendDatagram`] callback, and its result is the [`Outcome`]: SRTP keys bound to a certificate
//! whose fingerprint the peer's SDP announced, or an error. The handshake is a [`Backend`]'s work;
//! the one here is [`DtlsCrate`]. No backend sees a byte that the guard has not cleared, and none
//! is there any more once the handshake is done.
//!
//! This module must never touch a socket, know SDP, or keep anything for a peer once its
//! association is dropped.

use std::sync::Arc;
use std::time::Duration;

mod association;
mod backend;
mod certificate;
mod client_hello;
mod conn;
mod counters;
mod error;
mod fingerprint;
mod guard;
mod message;
mod protection;
mod reassembly;
mod record;
mod srtp;
mod wire;

pub use association::{Association, Ended, Ending, Outcome, Started};
pub use backend::DtlsCrate;
pub use certificate::Certificate;
pub use client_hello::ClientHello;
pub use counters::{Counters, DropReason};
pub use error::{AlertDescription, BoxError, DtlsError};
pub use fingerprint::{Fingerprint, FingerprintAlgorithm, FingerprintError};
pub use srtp::{Keys, MasterKey, SrtpProfile};

/// Which side of the handshake this server plays, from `a=setup` (RFC 5763 5, RFC 8842 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// We are `passive`: the peer sends the ClientHello.
    Server,
    /// We are `active`: the peer offered `passive`.
    Client,
}

/// Takes a datagram to send to the peer. Called from a handshake task or from
/// [`Association::handle_datagram`]; must not block.
pub type SendDatagram = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// What one handshake must achieve.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// Our side.
    pub role: Role,
    /// From the peer's SDP. Its certificate must match one of them (RFC 8122 5).
    pub peer_fingerprints: Vec<Fingerprint>,
    /// Acceptable SRTP profiles, best first. As a server the first one the client offers is taken;
    /// as a client all are offered in this order and the server chooses.
    pub srtp_profiles: Vec<SrtpProfile>,
    /// Time from [`Backend::start`] to both Finished messages, waiting for the peer's first
    /// datagram included.
    pub deadline: Duration,
}

impl Handshake {
    /// A handshake with the default profiles and a deadline of 15 s.
    pub fn new(role: Role, peer_fingerprints: Vec<Fingerprint>) -> Self {
        Self {
            role,
            peer_fingerprints,
            srtp_profiles: SrtpProfile::PREFERENCE.to_vec(),
            deadline: Duration::from_secs(15),
        }
    }
}

/// What handshakes may cost, all together and each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes at work at once. One costs about half a millisecond of CPU in all, but stays
    /// open for several round trips. Waiting for a client's first message does not count.
    ///
    /// By default 256 for each core: at a round trip of 100 ms, 800 handshakes a second. If all
    /// their datagrams came at once, a core would be done with them before the first peers repeat
    /// theirs.
    pub max_running: usize,
    /// Handshakes waiting for one of those places; more are refused. By default 1024 for each core.
    pub max_waiting: usize,
    /// Datagrams accepted during one handshake. GStreamer cuts a flight into eight.
    pub max_datagrams: usize,
    /// Bytes accepted during one handshake. A handshake with an RSA certificate takes 4 KB.
    pub max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            max_running: 256 * cores,
            max_waiting: 1024 * cores,
            max_datagrams: 512,
            max_bytes: 256 * 1024,
        }
    }
}

/// An implementation of the DTLS protocol.
pub trait Backend: Send + Sync {
    /// Our certificate's fingerprint for the SDP answer.
    fn fingerprint(&self) -> &Fingerprint;

    /// Starts an association. Call inside a tokio runtime.
    ///
    /// # Errors
    /// [`DtlsError::NoExpectedFingerprint`] when the handshake has no fingerprint to check, and
    /// [`DtlsError::NoCommonSrtpProfile`] when it accepts no profile. What depends on the peer is
    /// reported by the [`Outcome`].
    fn start(&self, handshake: Handshake, send: SendDatagram) -> Result<Started, DtlsError>;
}
