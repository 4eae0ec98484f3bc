//! The listener: takes connections, within bounds, and knows all that are there.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Ended};
use super::play::Hubs;
use super::push::Pushes;
use super::status::{RtmpInfo, Status};
use super::{TlsError, TlsFiles};
use crate::accept;
use crate::broadcast::BroadcastError;
use crate::ingest::Ingests;

/// Bounds of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtmpLimits {
    /// Connections at once.
    pub max_connections: usize,
    /// Of these, such as do not publish or play yet: the one that came first makes room.
    pub max_connecting: usize,
    /// Until a client publishes or plays.
    pub connect_timeout: Duration,
    /// A publisher from whom nothing comes for so long has gone.
    pub silence_timeout: Duration,
    /// A peer that takes nothing for so long has gone, or is too slow.
    pub write_timeout: Duration,
}

impl Default for RtmpLimits {
    fn default() -> Self {
        Self {
            max_connections: 2048,
            max_connecting: 256,
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// What connections share.
pub(super) struct Shared {
    pub(super) ingests: Ingests,
    pub(super) limits: RtmpLimits,
    ids: AtomicU64,
    accepted: AtomicU64,
    connections: Mutex<BTreeMap<u64, Arc<Status>>>,
    ended: Mutex<BTreeMap<&'static str, u64>>,
    addresses: Mutex<Vec<String>>,
    /// Names whose streams are about to begin.
    reserved: Mutex<HashSet<String>>,
    pub(super) hubs: Hubs,
    pushes: OnceLock<Pushes>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The RTMP server; clones are the same one.
#[derive(Clone)]
pub struct Rtmp(Arc<Shared>);

impl Rtmp {
    /// A server that listens nowhere yet. `stop` ends it.
    #[must_use]
    pub fn new(ingests: Ingests, limits: RtmpLimits, stop: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            ingests,
            limits,
            ids: AtomicU64::new(1),
            accepted: AtomicU64::new(0),
            connections: Mutex::default(),
            ended: Mutex::default(),
            addresses: Mutex::default(),
            reserved: Mutex::default(),
            hubs: Hubs::default(),
            pushes: OnceLock::new(),
            stop,
            tasks: TaskTracker::new(),
        }))
    }

    /// Serves RTMP on a socket. Call it inside the runtime.
    pub fn listen(&self, listener: TcpListener) {
        self.accept(listener, None, "rtmp");
    }

    /// Serves RTMPS on a socket, likewise.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn listen_tls(&self, listener: TcpListener, files: &TlsFiles) -> Result<(), TlsError> {
        self.accept(listener, Some(files.acceptor()?), "rtmps");
        Ok(())
    }

    fn accept(&self, listener: TcpListener, tls: Option<TlsAcceptor>, scheme: &str) {
        if let Ok(address) = listener.local_addr() {
            lock(&self.0.addresses).push(format!("{scheme}://{address}"));
        }
        let shared = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            let stop = shared.stop.clone();
            loop {
                let (socket, remote) = tokio::select! {
                    accepted = accept::next(&listener, "RTMP") => accepted,
                    () = stop.cancelled() => return,
                };
                shared.take(socket, remote, tls.clone());
            }
        });
    }

    /// Its connections, and what became of those before.
    #[must_use]
    pub fn info(&self) -> RtmpInfo {
        let ingests = self.0.ingests.list_of("rtmp");
        let connections = lock(&self.0.connections);
        RtmpInfo {
            addresses: lock(&self.0.addresses).clone(),
            connections: connections.values().map(|one| one.info(&ingests)).collect(),
            accepted: self.0.accepted.load(Relaxed),
            ended: lock(&self.0.ended).clone(),
        }
    }

    /// Pushes of its streams to other servers.
    #[must_use]
    pub fn pushes(&self) -> Pushes {
        let shared = &self.0;
        let broadcast = shared.ingests.broadcast().clone();
        let pushes = || {
            let write_timeout = shared.limits.write_timeout;
            let stop = shared.stop.child_token();
            Pushes::new(broadcast, shared.hubs.clone(), write_timeout, stop)
        };
        shared.pushes.get_or_init(pushes).clone()
    }

    /// Ends a connection. Whether it was there.
    pub fn stop(&self, id: u64) -> bool {
        let connections = lock(&self.0.connections);
        let connection = connections.get(&id);
        connection.inspect(|one| one.stop.cancel()).is_some()
    }

    /// Waits until all connections have ended, after `stop`.
    pub async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Shared {
    fn take(self: &Arc<Self>, socket: TcpStream, remote: SocketAddr, tls: Option<TlsAcceptor>) {
        self.accepted.fetch_add(1, Relaxed);
        let id = self.ids.fetch_add(1, Relaxed);
        let status = Status::new(id, remote, tls.is_some(), self.stop.child_token());
        let status = Arc::new(status);
        {
            let mut connections = lock(&self.connections);
            if connections.len() >= self.limits.max_connections {
                drop(connections);
                self.count("too_many");
                return;
            }
            let connecting = || connections.values().filter(|one| one.is_connecting());
            if connecting().count() >= self.limits.max_connecting
                && let Some(oldest) = connecting().next()
            {
                oldest.stop.cancel();
                let oldest = oldest.id;
                connections.remove(&oldest);
            }
            connections.insert(id, Arc::clone(&status));
        }
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let ended = shared.serve(socket, tls, &status).await;
            lock(&shared.connections).remove(&id);
            shared.count(ended.reason());
            let info = status.info(&[]);
            tracing::info!(remote = %info.remote, stream = info.stream, %ended, "RTMP connection ended");
        });
    }

    async fn serve(
        self: &Arc<Self>,
        socket: TcpStream,
        tls: Option<TlsAcceptor>,
        status: &Arc<Status>,
    ) -> Ended {
        // Commands are small and waited for.
        let _ = socket.set_nodelay(true);
        let (shared, status) = (Arc::clone(self), Arc::clone(status));
        let Some(tls) = tls else {
            return Connection::new(socket, shared, status).run().await;
        };
        let stop = status.stop.clone();
        let handshake = timeout(self.limits.connect_timeout, tls.accept(socket));
        let handshake = tokio::select! {
            handshake = handshake => handshake,
            () = stop.cancelled() => return Ended::Cancelled,
        };
        match handshake {
            Ok(Ok(socket)) => Box::pin(Connection::new(socket, shared, status).run()).await,
            Ok(Err(error)) => Ended::Socket(error),
            Err(_) => Ended::TimedOut(self.limits.connect_timeout),
        }
    }

    fn count(&self, reason: &'static str) {
        *lock(&self.ended).entry(reason).or_default() += 1;
    }

    /// Keeps a name for a stream that will be published.
    pub(super) fn reserve(self: &Arc<Self>, name: &str) -> Result<Reservation, BroadcastError> {
        self.ingests.broadcast().check_publishable(name)?;
        let name = name.to_owned();
        if !lock(&self.reserved).insert(name.clone()) {
            return Err(BroadcastError::Occupied(name));
        }
        let shared = Arc::clone(self);
        Ok(Reservation { shared, name })
    }
}

/// A name that is kept until its stream has begun, or will not.
pub(super) struct Reservation {
    shared: Arc<Shared>,
    name: String,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        lock(&self.shared.reserved).remove(&self.name);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
