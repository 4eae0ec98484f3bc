//! What the benchmarks share: a network that swallows what is sent, and a shard with one
//! publisher and many viewers over it.

mod sink;
mod studio;

pub use sink::SinkIo;
pub use studio::{FramePattern, Studio};
