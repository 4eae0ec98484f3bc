//! Session descriptions: reads the offers of WHIP and WHEP clients, decides what both sides can do
//! and writes the answer (RFC 9725, RFC 8829), and reads and writes the ICE fragments that follow
//! it (RFC 8840).
//!
//! The HTTP handlers call it with a body and hand the [`Negotiated`] description on to the engine.
//! It owns no socket, no clock and no key: everything local comes in as [`LocalParameters`].
//! Offers are hostile input. Nothing here panics on one, and no table grows past the bounds in
//! [`limits`].
//!
//! The order of work: [`Offer::parse`], then [`answer_publisher`] or [`answer_viewer`]; later
//! [`IceFragment::parse`] for trickled candidates and restarts, answered with
//! [`restart_fragment`].

mod answer;
mod codec;
mod error;
mod extension;
mod fragment;
mod ice;
pub mod limits;
mod media;
mod negotiate;
mod offer;
mod payload;
mod security;
mod source;

pub use answer::{Answer, LocalParameters, answer_publisher, answer_viewer};
pub use codec::{
    Codec, CodecParameters, CodecProfile, H264Profile, ProfileLevelId, ProfileTierLevel,
    Redundancy, RtcpFeedback, best_match, compatible,
};
pub use error::{ErrorClass, SdpError};
pub use extension::{ExtensionMapping, HeaderExtension, OfferedExtension};
pub use fragment::{FragmentMedia, IceFragment, restart_fragment};
pub use ice::{CandidateType, IceCandidate, IceCredentials};
pub use media::{Direction, MediaKind, OfferedMedia};
pub use negotiate::{
    LocalTrack, Negotiated, NegotiatedMedia, RejectReason, RejectedMedia, RemoteTransport,
    TrackLimits,
};
pub use offer::Offer;
pub use payload::{FmtpParameter, OfferedCodec};
pub use security::{Fingerprint, HashAlgorithm, Setup};
pub use source::{EncodingSsrc, Msid, Rid, SsrcGroup, SsrcGroupSemantics, SsrcSource};
