//! What a shard tells the control plane.

use std::net::SocketAddr;

use crate::ids::{RenditionId, ShardId, TransportId};
use crate::packet::codec::Codec;
use crate::pool::Packet;

/// Something the control plane has to know or to do.
#[derive(Debug)]
pub enum Event {
    /// A DTLS datagram from a peer.
    Dtls(TransportId, Packet),
    /// A STUN message the fast path does not answer, addressed to a transport or to nobody known.
    Stun {
        /// The shard whose socket it came in on, and through which an answer leaves.
        shard: ShardId,
        /// Who sent it.
        source: SocketAddr,
        /// The transport whose name it bears.
        transport: Option<TransportId>,
        /// The message.
        packet: Packet,
    },
    /// A peer proved an address with a valid check, and media will go there.
    AddressSelected(TransportId, SocketAddr),
    /// No valid check for the consent timeout.
    ConsentExpired(TransportId),
    /// Nothing was heard of a publisher's media, on any of its tracks, for
    /// [`Forwarding::publisher_silence_us`](crate::forwarding::Forwarding::publisher_silence_us).
    PublisherSilent(TransportId),
    /// A publisher's media comes: for the first time, or again after a silence.
    PublisherHeard(TransportId),
    /// The estimate of a viewer's bandwidth fell below what it is sent.
    EstimateFell(TransportId),
    /// The peer said RTCP BYE for a rendition it publishes.
    Bye(TransportId, RenditionId),
    /// The first packet of a rendition came, after a silence too, or its codec changed.
    RenditionActive(RenditionId, Codec),
    /// A rendition has been silent for [`INACTIVE_AFTER_US`](crate::limits::INACTIVE_AFTER_US).
    RenditionInactive(RenditionId),
    /// The shard cannot keep up and withholds video from so many tracks that are watched; 0: it
    /// keeps up again, and from none.
    VideoWithheld(ShardId, u32),
    /// The shard's thread ended; `Some` says why if it was not told to.
    ShardStopped(ShardId, Option<String>),
}
