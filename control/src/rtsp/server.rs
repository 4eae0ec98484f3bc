//! The listener: accepts RTSP connections within their bound. What they say is
//! [`connection`](super::connection)'s affair.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::connection::Connection;
use crate::accept;

/// Serves until told to stop; returns when the last connection is closed.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let most = shared.limits.max_connections.min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(most));
    let connections = TaskTracker::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = async { (place.await, accept::next(&listener, "RTSP").await) } => accepted,
        };
        // The semaphore is never closed.
        let (Ok(place), (stream, peer)) = accepted else {
            break;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _place = place;
            let _connected = shared.connected();
            match Connection::new(stream, peer, shared) {
                Ok(connection) => connection.run().await,
                Err(error) => tracing::debug!(%error, "an RTSP connection was gone"),
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}
