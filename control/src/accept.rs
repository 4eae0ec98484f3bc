//! Accepting TCP connections: what every listener does when accept(2) fails.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// Pause after a failed accept, which the next one would most likely fail too (EMFILE).
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection and its other end. `protocol` is for the log. Nothing is lost when the future
/// is dropped.
pub(crate) async fn next(listener: &TcpListener, protocol: &str) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(protocol, %error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Errors that say nothing about the next connection.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
