//! A whole server in this process, and a client that shares none of its code: ICE by the `stun`
//! crate, DTLS by the `dtls` crate, SRTP by `webrtc-srtp`, over real UDP sockets.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod events;
pub mod media;
pub mod offer;
pub mod peer;
pub mod rtsp;
pub mod server;

use std::time::Duration;

/// Longer than anything here takes on a busy machine: reached only when something hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a future that must resolve.
#[track_caller]
pub fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        tokio::time::timeout(PATIENCE, future)
            .await
            .unwrap_or_else(|_| panic!("it does not resolve: {caller}"))
    }
}

/// Looks again and again until it is so.
#[track_caller]
pub fn until(mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let look = async move {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(look)
}
