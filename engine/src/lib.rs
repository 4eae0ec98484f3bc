//! The data plane of Fanmill.
//!
//! One shard is one pinned thread with one io_uring and one UDP socket. It receives, opens, routes,
//! seals and sends media, and answers STUN; everything that is a conversation (DTLS, SDP, HTTP)
//! happens in the control plane, which talks to the shards only through [`Engine`].
//!
//! Invariant: a packet slot has exactly one writer, and only before it is shared.

pub mod bandwidth;
pub mod command;
pub mod counters;
mod engine;
pub mod event;
mod forwarding;
pub mod ids;
pub mod io;
pub mod levels;
pub mod limits;
pub mod packet;
pub mod pool;
pub mod producer;
mod route;
pub mod shard;
pub mod signal;
pub mod sim;
pub mod srtp;
pub mod stun;
mod subscriptions;
mod sys;
pub mod tap;
pub mod transit;

pub use engine::{Engine, EngineConfig, EngineError, EngineStartError, Events, ShardReport};
pub use forwarding::Forwarding;
#[doc(hidden)]
pub use route::train::Trains;
