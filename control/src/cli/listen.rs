//! Sockets of the servers that a user may do without.

use tokio::net::TcpListener;

use super::serve::ServeError;
use crate::config::Listen;

/// Binds what `--key` says. A usual address that cannot be had is done without, with a warning:
/// nobody asked for it.
pub(super) async fn bind(
    key: &'static str,
    listen: Listen,
) -> Result<Option<TcpListener>, ServeError> {
    let address = match listen {
        Listen::Off => return Ok(None),
        Listen::At(address) | Listen::Usually(address) => address,
    };
    match (TcpListener::bind(address).await, listen) {
        (Ok(listener), _) => Ok(Some(listener)),
        (Err(error), Listen::Usually(_)) => {
            tracing::warn!(
                %address,
                %error,
                "the usual address of --{key} cannot be had: the server goes on without; name \
                 another, or --{key} off"
            );
            Ok(None)
        }
        (Err(source), _) => Err(ServeError::Listen {
            key,
            address,
            source,
        }),
    }
}
