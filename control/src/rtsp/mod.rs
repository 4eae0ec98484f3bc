//! RTSP (RFC 2326): a server that streams are read from (DESCRIBE, SETUP, PLAY) and published to
//! (ANNOUNCE, SETUP, RECORD), over UDP or on its connection; and pulls from cameras and other servers.
//!
//! The program starts it; it is a door onto the broadcast: what is read is tapped ([`play`]), what is
//! published or pulled becomes a stream by the [ingest layer](crate::ingest). It runs on threads of its
//! own, so that the control plane waits for no packet of it.
//! It must never trust a message, and a client that hangs or is slow must harm nobody else.

mod access;
mod connection;
mod description;
pub mod limits;
pub mod message;
pub mod play;
mod publish;
mod pull;
mod reading;
mod receive;
mod requests;
mod server;
mod sessions;
pub mod transport;
mod udp;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use serde::Serialize;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

use self::play::Feeds;
use self::pull::Pulls;
pub use self::pull::{PullError, PullInfo, PullSpec, PullState, PullTransport};
use self::sessions::Sessions;
pub use self::sessions::{Direction, SessionInfo};
use crate::broadcast::Broadcast;
use crate::ingest::Ingests;

/// Threads for all RTSP sessions: they copy packets, and nothing else.
const THREADS: usize = 2;

/// What RTSP connections may cost.
#[derive(Debug, Clone, Copy)]
pub struct RtspLimits {
    /// Connections at once; further ones wait in the listener's backlog.
    pub max_connections: usize,
    /// How long a client that has no session may say nothing.
    pub request_timeout: Duration,
    /// How long a session may be silent.
    pub session_timeout: Duration,
    /// How long a publisher may send nothing.
    pub publisher_silence: Duration,
    /// How long readers wait for the next publisher of their stream.
    pub reader_linger: Duration,
}

impl Default for RtspLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            request_timeout: limits::REQUEST_TIMEOUT,
            session_timeout: limits::SESSION_TIMEOUT,
            publisher_silence: limits::PUBLISHER_SILENCE,
            reader_linger: limits::READER_LINGER,
        }
    }
}

/// What `rtsp.list` tells.
#[derive(Debug, Clone, Serialize)]
pub struct RtspInfo {
    /// Where clients connect to, if anywhere.
    pub address: Option<SocketAddr>,
    /// Connections at once.
    pub connections: usize,
    /// Who reads and who publishes.
    pub sessions: Vec<SessionInfo>,
    /// Readers that lost their place because they were behind.
    pub readers_dropped: u64,
    /// What is pulled.
    pub pulls: Vec<PullInfo>,
}

/// The RTSP server; clones are the same one. It ends with the last of them, or by
/// [`stop`](Self::stop).
#[derive(Clone)]
pub struct Rtsp(Arc<Inner>);

struct Inner {
    address: Option<SocketAddr>,
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
    stop: CancellationToken,
}

/// What all connections share.
struct Shared {
    broadcast: Broadcast,
    ingests: Ingests,
    feeds: Feeds,
    pulls: Pulls,
    runtime: Handle,
    sessions: Sessions,
    limits: RtspLimits,
    stop: CancellationToken,
}

impl Rtsp {
    /// Serves on this listener, if there is one.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub fn start(
        ingests: Ingests,
        listener: Option<TcpListener>,
        limits: RtspLimits,
    ) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("rtsp")
            .enable_all()
            .build()?;
        let stop = CancellationToken::new();
        let broadcast = ingests.broadcast().clone();
        let shared = Arc::new(Shared {
            feeds: Feeds::new(broadcast.clone(), limits.reader_linger),
            broadcast,
            ingests,
            pulls: Pulls::default(),
            runtime: runtime.handle().clone(),
            sessions: Sessions::default(),
            limits,
            stop: stop.clone(),
        });
        let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        if let Some(listener) = listener {
            listener.set_nonblocking(true)?;
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            runtime.spawn(server::serve(listener, Arc::clone(&shared)));
        }
        Ok(Self(Arc::new(Inner {
            address,
            shared,
            runtime: Mutex::new(Some(runtime)),
            stop,
        })))
    }

    /// Where it listens, if it does.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address
    }

    /// Who is connected.
    #[must_use]
    pub fn info(&self) -> RtspInfo {
        let shared = &self.0.shared;
        RtspInfo {
            address: self.0.address,
            connections: shared.sessions.connections(),
            sessions: shared.sessions.list(),
            readers_dropped: shared.feeds.readers_dropped(),
            pulls: shared.pulls.list(),
        }
    }

    /// Begins to pull a stream, and goes on until it is stopped.
    ///
    /// # Errors
    /// [`PullError`]. What goes wrong later is in [`PullInfo`].
    pub fn pull(&self, spec: PullSpec) -> Result<PullInfo, PullError> {
        let shared = &self.0.shared;
        shared
            .pulls
            .start(spec, &shared.ingests, &shared.runtime, &shared.stop)
    }

    /// Ends a pull.
    ///
    /// # Errors
    /// [`PullError::Unknown`].
    pub async fn stop_pull(&self, stream: &str) -> Result<PullInfo, PullError> {
        let shared = &self.0.shared;
        shared.pulls.stop(stream, &shared.ingests).await
    }

    /// Ends all connections.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        let runtime = self
            .runtime
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        // It may be dropped inside another runtime, which must not wait.
        if let Some(runtime) = runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// For identifiers that nobody shall guess, and numbers that begin anywhere (RFC 3550 5.1).
fn random() -> u64 {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).expect("the system has a random source");
    u64::from_ne_bytes(bytes)
}
