//! The object model: what a media server is made of, under the names Medooze gave the parts.
//!
//! A [`MediaServer`] runs the data plane and has [`Endpoint`]s; an endpoint makes a [`Transport`]
//! from a peer's offer; a transport holds the [`IncomingStream`] the peer shares or the
//! [`OutgoingStream`] it watches, each with tracks. `outgoing.attach_to(&incoming)` connects them,
//! on whatever shards they are, and a [`Transponder`] chooses among simulcast encodings and their layers. WHIP,
//! WHEP and the admin socket are doors onto this model; it knows none of them and can be used
//! without. A [`ProducedStream`] is an incoming stream that this process makes; a tap
//! ([`Encoding::create_tap`]) gives it the packets of one.
//!
//! No object here touches media: they own the names and the tables, the shards own the packets.

mod audience;
mod endpoint;
mod fitting;
mod hearing;
mod incoming;
mod layers;
mod media_server;
mod outgoing;
mod produced;
mod slow_stun;
mod tap;
mod transponder;
mod transport;
mod traversal;

pub use audience::Unshown;
pub(crate) use audience::{attach_all, attach_pairs};
pub use endpoint::{Endpoint, OfferError};
pub use fitting::Viewing;
pub(crate) use hearing::Heard;
pub use incoming::{Encoding, IncomingStream, IncomingTrack};
pub use layers::{Chosen, LayerInfo};
pub use media_server::{MediaServer, MediaServerConfig, MediaServerError};
pub use outgoing::{AttachError, OutgoingStream, OutgoingTrack};
pub use produced::{CreateStreamError, ProducedInfo, ProducedStream, ProducedTrack, Producer};
pub use tap::TapSignal;
pub use transponder::{Bounds, Selection, Target, Transponder};
pub use transport::{CloseReason, Transport, TransportInfo, TransportKind, TransportState};
pub use traversal::Traversal;
