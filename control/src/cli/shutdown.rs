//! When to stop: SIGTERM, SIGINT, or a part of the server that cannot go on.
//!
//! Whoever runs the server makes one [`Shutdown`] and gives clones (or its token) to the parts.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// The signal to stop. Clones are the same signal.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A shutdown begun by the first SIGTERM or SIGINT. A second one ends the process at once,
    /// with the exit code a shell expects (128 + signal), for when stopping hangs. Must be called
    /// in a tokio runtime.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::default();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(shutdown.clone().watch(terminate, interrupt));
        Ok(shutdown)
    }

    async fn watch(self, mut terminate: Signal, mut interrupt: Signal) {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => ("SIGTERM", SignalKind::terminate()),
                _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
            }
        };
        let (name, _) = next().await;
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        self.begin();
        let (name, kind) = next().await;
        tracing::warn!(signal = name, "stopped at once");
        std::process::exit(128 + kind.as_raw_value());
    }

    /// Begins the shutdown. Further calls change nothing.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Completes when the shutdown has begun; at once if it has already.
    pub fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// The same signal for a part of the server.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
