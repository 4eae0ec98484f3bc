//! What the publisher sends: payloads that a server takes for VP8, H.264 and Opus, cut into packets
//! as browsers cut them, each with a stamp by which a viewer can tell that it is whole and how old
//! it is.

pub mod packetize;
pub mod source;
pub mod stamp;
