//! What the benchmarks share: a network that swallows what is sent, a shard with one publisher
//! and many viewers over it, and packets and keys for what is measured piece by piece.
//!
//! Each file in `benches/` measures one part of the packet path beside the alternative it was
//! chosen over. `cargo bench -p fanmill-benches -- --quick` gives a first impression; figures worth
//! keeping need an idle machine.

pub mod libraries;
pub mod packets;
mod sink;
mod studio;

pub use sink::SinkIo;
pub use studio::{FramePattern, Studio};
