//! The harness of the end-to-end tests: the built server as a process, and the real clients that
//! publish to it and watch from it.
//!
//! The tests in `tests/*.rs` are its only callers. It starts processes and network namespaces and
//! takes them down again; it must never leave one behind, and never stands in for a part of the
//! server, a client, the network or the cryptography.

pub mod browser;
pub mod cdp;
pub mod clients;
pub mod impair;
pub mod mp4;
pub mod netns;
pub mod picture;
pub mod plot;
pub mod process;
pub mod scene;
pub mod server;
pub mod wait;
pub mod wall;

pub use browser::{Browser, Page};
pub use netns::Namespace;
pub use server::{Server, ServerOptions};
pub use wall::Wall;
