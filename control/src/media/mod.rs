//! Media between RTP and files: packets put in order, made into access units, and set in time.
//!
//! What takes packets out of the engine (the recorder, and other doors that need whole pictures)
//! uses it on threads of its own. Nothing here knows a socket, a file or a clock: the caller says
//! what arrived and when. It must never trust a payload: every length is checked.

pub mod clock;
pub mod depacketize;
pub mod reorder;
