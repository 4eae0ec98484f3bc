//! The control plane of Fanmill: handshakes, session descriptions, subscription tables, and the
//! doors (WHIP, WHEP, admin socket) that lead into them.

mod accept;
pub mod access;
pub mod admin;
pub mod broadcast;
pub mod cli;
mod clock;
pub mod config;
pub mod dtls;
pub mod events;
pub mod http;
pub mod ingest;
pub mod log;
pub mod media;
pub mod model;
pub mod output;
pub mod player;
pub mod recorder;
pub mod rooms;
pub mod rtmp;
pub mod rtsp;
pub mod sdp;
pub mod streamer;
pub mod taps;
pub mod thumbnail;
pub mod web;
