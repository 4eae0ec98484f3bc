//! Media between RTP and files: packets put in order, made into access units and set in time; access
//! units made into packets; and sound turned from one format into another.
//!
//! What takes packets out of the engine (the recorder, outputs) or puts some in (players, ingests) uses it
//! on threads of its own. Nothing here knows a socket, a file or a clock: the caller says what arrived and when. It
//! must never trust a payload: every length is checked.

pub mod aac;
pub mod audio;
pub mod clock;
pub mod configuration;
pub mod depacketize;
pub mod mux;
pub mod packetize;
pub mod recording;
pub mod reorder;
pub(crate) mod rtp;
pub mod ts;
