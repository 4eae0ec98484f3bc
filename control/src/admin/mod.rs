//! The admin socket: JSON-RPC 2.0, one message a line, on a Unix socket for the server's own user.
//!
//! [`AdminServer`] owns the socket and the connections; [`Methods`] is the table of what can be
//! called, filled at start by whoever has something to offer; [`AdminClient`] is the other end,
//! used by `fanmill ctl`. Handlers reach the media engine only through its command rings, so
//! nothing that happens here can delay a packet.
//!
//! The protocol:
//! - A line is one request or one batch. A line longer than [`Limits::line_bytes`] is answered with
//!   [`Reason::LineTooLong`], the rest of it is discarded, and the connection goes on. Blank lines
//!   are ignored.
//! - Requests on separate lines run concurrently and may be answered in any order; those of one
//!   batch run in order and are answered together. A server out of [`Limits::requests`] stops
//!   reading until an answer has been written.
//! - After the end of input, requests already read are answered, then the connection is closed.
//! - Lines with a `method` and without an `id`, from the server, are notifications.

mod access;
mod broadcast;
mod client;
mod connection;
mod events;
mod ingest;
mod methods;
mod output;
mod peer;
mod player;
mod push;
mod recorder;
mod rooms;
mod rpc;
mod rtmp;
mod rtsp;
mod selection;
mod server;
mod socket;
mod standard;
mod streamer;
mod thumbnail;

pub use access::add_access_methods;
pub use broadcast::add_broadcast_methods;
pub use client::{AdminClient, ClientError};
pub use connection::{Caller, Notifier, NotifyError};
pub use events::add_event_methods;
pub use ingest::add_ingest_methods;
pub use methods::{MethodInfo, Methods};
pub use output::add_output_methods;
pub use peer::{PeerCredentials, PeerPolicy, SameUserOrRoot};
pub use player::add_player_methods;
pub use push::add_push_methods;
pub use recorder::add_recorder_methods;
pub use rooms::add_room_methods;
pub use rpc::{Reason, RpcError};
pub use rtmp::add_rtmp_methods;
pub use rtsp::add_rtsp_methods;
pub use server::{AdminServer, Limits};
pub use socket::AdminError;
pub use standard::add_log_methods;
pub use streamer::add_streamer_methods;
pub use thumbnail::add_thumbnail_methods;
