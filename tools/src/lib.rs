//! The load generator behind `fanmill-bench`: publishes and watches through real WHIP, WHEP, ICE,
//! DTLS and SRTP, counts what arrives, and says what it cost the server and the generator itself.
//!
//! [`run::run`] is the entry of `fanmill-bench`. A publisher or viewer is *joined* by async code
//! ([`client::join`]); from then on its socket belongs to one plain thread ([`publisher`] or
//! [`receiver`]) that never waits for anything but sockets and time. Nothing here links the
//! server: what it measures is another process, by its process id.
//!
//! [`compare::run`] is the entry of `compare-peers`, which runs the generator on several servers.

pub mod args;
pub mod client;
pub mod clock;
pub mod compare;
pub mod find_max;
pub mod floor;
pub mod measure;
pub mod media;
pub mod net;
pub mod publisher;
pub mod receiver;
pub mod report;
pub mod run;
pub mod server;
pub mod settle;
pub mod viewer;
