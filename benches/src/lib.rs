//! What the benchmarks share: a network that swallows what is sent, a shard with one publisher
//! and many viewers over it, the floor it is held against, and packets, keys and frames.
//!
//! Each file in `benches/` measures one part of the packet path beside the alternative it was
//! chosen over; `instructions/` counts what the path executes, independently of the machine.
//! `cargo bench -p fanmill-benches -- --quick` gives a first impression; figures worth keeping
//! need an idle machine.

mod cpu_time;
mod floor;
mod frames;
pub mod libraries;
pub mod links;
pub mod packets;
mod sink;
mod studio;

pub use cpu_time::cpu_time;
pub use floor::Floor;
pub use frames::{Frame, FramePattern};
pub use sink::SinkIo;
pub use studio::Studio;
