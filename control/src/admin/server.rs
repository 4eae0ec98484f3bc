//! The admin server: accepts connections, refuses those it must, and ends them all at shutdown.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::methods::Methods;
use super::peer::{PeerCredentials, PeerPolicy, SameUserOrRoot};
use super::rpc::{self, Reason, RpcError};
use super::socket::{self, AdminError, SocketFile};

/// After a failed accept (usually: out of file descriptors), wait before the next.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The bounds of an admin server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; operators and a few agents, not a public.
    pub connections: usize,
    /// Requests (lines) running at once, and answers queued, for each connection.
    pub requests: usize,
    /// Longest line read, in bytes.
    pub line_bytes: usize,
    /// How long a method may run.
    pub request_timeout: Duration,
    /// How long one line may take to be written before its reader is given up.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 32,
            requests: 16,
            line_bytes: 64 * 1024,
            request_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// A bound admin socket, not serving yet.
pub struct AdminServer {
    listener: UnixListener,
    file: SocketFile,
    methods: Arc<Methods>,
    policy: Arc<dyn PeerPolicy>,
    limits: Limits,
}

impl AdminServer {
    /// Creates the socket at `path`, mode 0600, for this process's user and root. Must be called
    /// in a tokio runtime.
    ///
    /// # Errors
    /// [`AdminError`]: a live server, or something that is no socket, is at `path`; or the system
    /// refuses.
    pub fn bind(path: &Path, methods: Methods) -> Result<Self, AdminError> {
        let (listener, file) = socket::listen(path)?;
        let listener = UnixListener::from_std(listener).map_err(|source| AdminError::Io {
            action: "listen on",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            listener,
            file,
            methods: Arc::new(methods),
            policy: Arc::new(SameUserOrRoot::of_this_process()),
            limits: Limits::default(),
        })
    }

    /// Replaces the decision who is served.
    #[must_use]
    pub fn with_policy(mut self, policy: impl PeerPolicy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves until `stop`; then reads no more, answers what is running, and removes the socket.
    pub async fn run(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an admin connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let peer = match self.admit(&stream) {
                Ok(peer) => peer,
                Err(error) => {
                    refuse(stream, error);
                    continue;
                }
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                let message = format!(
                    "{} connections are open, which is the limit: close one",
                    self.limits.connections
                );
                refuse(stream, RpcError::new(Reason::TooManyConnections, message));
                continue;
            };
            tracing::debug!(?peer, "admin connection");
            let serving = connection::serve(
                stream,
                peer,
                self.methods.clone(),
                self.limits,
                stop.child_token(),
            );
            connections.spawn(async move {
                serving.await;
                drop(slot);
            });
        }
        // No more connections before the last ones are served out: a new server may start.
        drop((self.listener, self.file));
        connections.close();
        connections.wait().await;
    }

    fn admit(&self, stream: &UnixStream) -> Result<PeerCredentials, RpcError> {
        let peer = PeerCredentials::of(stream).map_err(|error| {
            tracing::warn!(%error, "the kernel does not say who connected");
            RpcError::new(Reason::NotPermitted, "the kernel does not say who you are")
        })?;
        self.policy.admit(&peer).map_err(|why| {
            tracing::warn!(?peer, "refused an admin connection");
            RpcError::new(Reason::NotPermitted, why)
        })?;
        Ok(peer)
    }
}

/// Says why and hangs up. Never waits: one short line fits any new socket's buffer.
fn refuse(stream: UnixStream, error: RpcError) {
    let line = format!("{}\n", rpc::error_response(error));
    // Written through std, still non-blocking: tokio has not asked yet whether it is writable.
    let written = stream
        .into_std()
        .and_then(|mut stream| stream.write_all(line.as_bytes()));
    if let Err(error) = written {
        tracing::debug!(%error, "a refused admin client was already gone");
    }
}
