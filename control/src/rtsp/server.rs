//! The listener: accepts RTSP connections within their bound. What they say is
//! [`connection`](super::connection)'s affair.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::connection::Connection;

/// Pause after a failed accept, which the next one would most likely fail too (EMFILE).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop; returns when the last connection is closed.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let most = shared.limits.max_connections.min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(most));
    let connections = TaskTracker::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = async { (place.await, listener.accept().await) } => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, peer))) => {
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
            (_, Err(error)) if is_of_the_connection(&error) => {}
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept an RTSP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The semaphore is never closed.
            (Err(_), _) => break,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Errors of accept(2) that say nothing about the next connection.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
