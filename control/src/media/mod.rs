//! What media looks like inside its packets: from access units to RTP payloads, and from one sound
//! format to another.
//!
//! Used by everything that makes or takes media itself instead of passing it on. Nothing here knows
//! of files, sockets or clocks, and none of it runs on a shard.

pub mod audio;
pub mod packetize;
