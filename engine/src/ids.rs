//! The names by which the control plane and the shards speak of things. All are chosen by the
//! control plane and never reused while the process lives.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A shard: one thread, one socket. Counted from zero; shard `n` listens on `base + n`.
    ShardId(u16)
);
id!(
    /// One peer's ICE, DTLS and SRTP association.
    TransportId(u64)
);
id!(
    /// One source of renditions in this process.
    ProducerId(u64)
);
id!(
    /// One continuous series of packets that comes in and can be subscribed to: a track, or one
    /// simulcast encoding of it.
    RenditionId(u64)
);
id!(
    /// One media section that a peer shares: holds one rendition per simulcast encoding.
    IncomingTrackId(u64)
);
id!(
    /// One media section that a peer watches.
    OutgoingTrackId(u64)
);
