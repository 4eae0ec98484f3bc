//! `fanmill serve`: starts the parts of the server in order, and stops them in reverse.

use std::io;
use std::time::Duration;

use super::ServeArgs;
use super::shutdown::Shutdown;
use crate::admin::{AdminError, AdminServer, Methods, add_log_methods};
use crate::config::{Config, ConfigError};
use crate::log::{self, LogControl, LogError};

/// How long running admin requests may hold up the end.
const DRAIN: Duration = Duration::from_secs(3);

pub(super) const EXAMPLES: &str = "\
Examples:
  fanmill serve
  fanmill serve --http 0.0.0.0:8080 --udp-ip 192.0.2.10 --shards 8
  fanmill serve --http 0.0.0.0:8080 --udp-ip 0.0.0.0 --public-ip 203.0.113.7
  fanmill serve --udp-ip :: --public-ip 203.0.113.7 --public-ip 2001:db8::7
  fanmill serve --config /etc/fanmill.toml --log info,fanmill_control=debug

The file has the same names:
  http = \"0.0.0.0:8080\"
  udp-ip = \"0.0.0.0\"
  public-ip = [\"203.0.113.7\"]";

/// Why the server did not start, or stopped. All are fatal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The admin socket could not be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The control plane's threads or signal handlers could not be made.
    #[error("cannot start the control plane: {0}; check the limits on threads and open files")]
    Runtime(#[source] io::Error),
}

/// Serves until a signal.
///
/// # Errors
/// [`ServeError`].
pub fn run(args: ServeArgs) -> Result<(), ServeError> {
    let config = args.load()?;
    let log = log::install(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    runtime.block_on(serve(config, log))
}

async fn serve(config: Config, log: LogControl) -> Result<(), ServeError> {
    let shutdown = Shutdown::on_signals().map_err(ServeError::Runtime)?;
    let mut methods = Methods::new();
    add_log_methods(&mut methods, log);

    // First of all sockets: a second server on the same admin socket stops here.
    let admin = AdminServer::bind(&config.admin, methods)?;
    tracing::info!(path = %config.admin.display(), "admin socket open");
    let mut admin = tokio::spawn(admin.run(shutdown.token()));

    shutdown.begun().await;
    if tokio::time::timeout(DRAIN, &mut admin).await.is_err() {
        tracing::warn!("admin requests were still running; abandoned");
        admin.abort();
    }
    tracing::info!("stopped");
    Ok(())
}
