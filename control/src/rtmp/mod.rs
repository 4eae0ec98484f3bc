//! RTMP: what ffmpeg, OBS and GStreamer publish by, seen in browsers.
//!
//! [`Rtmp`] listens; a task for each connection (`connection`) moves bytes between the socket and a
//! [`session`], which knows the protocol and no socket, and gives what a client publishes to an
//! [ingest](crate::ingest) (`publish`). The protocol is written here because no crate has all of
//! Enhanced RTMP, playing, and a bound on everything a peer can make us hold; it is small. It must
//! never trust a length, nor let one connection wait for another.

pub mod amf0;
pub mod chunk;
mod connection;
pub mod flv;
mod handshake;
mod link;
mod play;
mod publish;
mod push;
mod server;
pub mod session;
mod status;
mod tls;

pub use handshake::{Handshake, NoRtmp};
pub use link::{Link, LinkError};
pub use push::{CaFileError, PushError, PushInfo, PushState, Pushes, TargetError};
pub use server::{Rtmp, RtmpLimits};
pub use status::{RtmpConnection, RtmpInfo};
pub use tls::{TlsError, TlsFiles};
