//! Tokens at every door: who has none, or the wrong one, is refused and told how to do it right; who has
//! the right one goes in; and what was begun with one ends when it is revoked.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "../common/mod.rs"]
mod common;

mod http;
mod rtsp;
mod sessions;

use common::server::Server;
use fanmill_control::access::{Access, NewToken, Rights};

/// A token for these streams, and its id.
fn token(access: &Access, streams: &str, rights: &str) -> (String, u64) {
    let has = |right| rights.contains(right);
    let made = access.create(NewToken {
        streams: streams.to_owned(),
        rights: Rights {
            publish: has("publish"),
            watch: has("watch"),
            operate: has("operate"),
        },
        expires: None,
        label: None,
    });
    let (token, info) = made.unwrap();
    (token, info.id)
}

/// How often somebody was refused, by reason.
fn refused(server: &Server, reason: &str) -> u64 {
    server.broadcast.access().info().refused[reason]
}
