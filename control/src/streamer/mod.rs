//! Plain RTP in and out: for ffmpeg, VLC, GStreamer, encoders and cameras that push RTP to an address
//! and port, with a description (SDP) instead of a negotiation.
//!
//! [`Streamers`] is the registry that the admin socket and the program use. A session that receives
//! ([`Streamers::receive`]) makes a live stream of what comes, by the ingest layer; it may be silent
//! and come back, and its stream stays. One that sends ([`Streamers::send`]) follows a stream and
//! sends its packets on. Neither is on the way of viewers: each session is a task of its own that
//! reads bounded queues, and drops what it cannot keep up with.

mod description;
mod format;
mod inflow;
mod inlet;
mod medium;
mod output;
mod reader;
mod reception;
mod registry;
mod security;
mod session;
mod sockets;
mod source;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use description::{
    DescriptionError, MAX_DESCRIPTION_BYTES, MAX_MEDIA, MediaDescription, RtcpPort, parse,
};
pub(crate) use format::video_track;
pub use format::{FormatError, RtpFormat};
pub(crate) use inflow::Inflow;
pub use inlet::{Inlet, InletError, PortRange};
pub use medium::{MediaInfo, ReceiverInfo};
pub use output::{SenderState, SentTrack};
pub(crate) use reader::Read;
pub use registry::{StreamerInfo, Streamers};
pub use security::{SdesError, SdesKey};
pub use sockets::SocketError;
pub(crate) use source::Source;
pub use source::{Dropped, Remote};

use crate::broadcast::BroadcastError;

/// What a session receives.
#[derive(Debug, Clone)]
pub struct ReceiveSpec {
    /// The stream that it becomes.
    pub stream: String,
    /// What comes: from [`parse`], or made up.
    pub media: Vec<MediaDescription>,
    /// Where to receive, in place of what the media say; of no consequence for multicast groups.
    pub address: Option<IpAddr>,
    /// The network interface on which multicast groups are joined.
    pub interface: Option<String>,
    /// Whose packets are taken.
    pub remote: Remote,
}

/// What a session sends.
#[derive(Debug, Clone)]
pub struct SendSpec {
    /// The stream.
    pub stream: String,
    /// Where to: the first track to this port, each further one two ports higher.
    pub to: SocketAddr,
    /// Hops that a packet to a multicast group may take.
    pub ttl: u8,
    /// The network interface to send by.
    pub interface: Option<String>,
    /// Whether RTCP goes to the port of RTP.
    pub rtcp_mux: bool,
    /// The key to seal it with; the description holds it.
    pub key: Option<SdesKey>,
}

/// Why a session was not made, or cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamerError {
    /// The description.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// A port or an interface.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A description's file.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The name of the stream.
    #[error(transparent)]
    Stream(#[from] BroadcastError),
    /// The description does not say where, and nobody else did.
    #[error("the SDP has no address (c= line); say where to receive (address)")]
    NoAddress,
    /// Where to send.
    #[error("cannot send to {to}: {source}")]
    Send {
        /// The address.
        to: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key is refused by the cryptographic library.
    #[error("the key cannot be used: {0}")]
    Key(#[from] fanmill_engine::srtp::SrtpError),
    /// The ports of the tracks would be beyond the last one.
    #[error("port {0} leaves no room for RTCP and further tracks; name one below 65520")]
    Port(u16),
    /// Too many sessions.
    #[error("there are {0} sessions of plain RTP; stop one first")]
    TooMany(usize),
    /// No such session.
    #[error("there is no streamer {0}; streamer.list names them")]
    Unknown(u64),
    /// It does not send.
    #[error("streamer {0} receives; only one that sends has an SDP")]
    NoOutput(u64),
    /// The stream that it sends is not there.
    #[error("the stream {0:?} is not live: what is sent can be told once it is")]
    NotLive(String),
}
