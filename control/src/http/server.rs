//! The TCP side of HTTP: accepts connections, and lets none of them stay for nothing.
//!
//! A client that opens connections and says nothing, or says it byte by byte, holds a descriptor
//! each; so connections are counted, a request head must come within a time, and no connection
//! lives for ever. What requests mean is the router's business alone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::accept;

/// A connection whose peer takes nothing of what was sent for this long is given up: the only way
/// to notice of a viewer that it is not there to read its events.
const PEER_PATIENCE_MS: u32 = 30_000;

/// What waits in the kernel to be sent: beyond it is seen that a peer takes too little.
const MAX_UNSENT_BYTES: u32 = 128 << 10;

/// What HTTP connections may cost.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at once; further ones wait in the listener's backlog. Those on which events are
    /// read do not count.
    pub max_connections: usize,
    /// Connections on which events are read, at once.
    pub max_event_streams: usize,
    /// As long as there are more than this, new ones end after their first answer: when many
    /// viewers come at once, each from elsewhere, those who were answered must not hold the places
    /// (and 15 KiB each) until their next request, which mostly never comes.
    pub max_kept: usize,
    /// Time for the head of a request, from the opening of the connection or the end of the
    /// request before: also how long an idle connection is kept.
    pub head_timeout: Duration,
    /// Age at which a connection ends after the request it is at, if no events are read on it.
    pub max_age: Duration,
    /// Time for that request, and for those running when the server ends.
    pub drain: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_event_streams: 16_384,
            max_kept: 256,
            head_timeout: Duration::from_secs(10),
            max_age: Duration::from_secs(300),
            drain: Duration::from_millis(500),
        }
    }
}

/// Serves until told to stop; returns when the last connection is closed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: HttpLimits,
    stop: CancellationToken,
) {
    let max_connections = limits.max_connections.min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(max_connections));
    let event_streams = limits.max_event_streams.min(Semaphore::MAX_PERMITS);
    let event_streams = Arc::new(Semaphore::new(event_streams));
    let connections = TaskTracker::new();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async { (place.await, accept::next(&listener, "HTTP").await) } => accepted,
        };
        // The semaphore is never closed.
        let (Ok(place), (stream, peer)) = accepted else {
            break;
        };
        let keep = max_connections - places.available_permits() <= limits.max_kept;
        let place = Place::new(place, Arc::clone(&event_streams));
        let router = router.clone();
        connections.spawn(connection(
            (stream, peer),
            router,
            limits,
            keep,
            place,
            stop.clone(),
        ));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The place of a connection among those there may be. Handlers find it in the request.
#[derive(Clone)]
pub(super) struct Place(Arc<PlaceOf>);

struct PlaceOf {
    held: Mutex<OwnedSemaphorePermit>,
    event_streams: Arc<Semaphore>,
    stays: AtomicBool,
    /// Events are not read any more.
    over: CancellationToken,
}

impl Place {
    fn new(held: OwnedSemaphorePermit, event_streams: Arc<Semaphore>) -> Self {
        Self(Arc::new(PlaceOf {
            held: Mutex::new(held),
            event_streams,
            stays: AtomicBool::new(false),
            over: CancellationToken::new(),
        }))
    }

    /// Makes the connection one on which events are read, as long as the guard is there; others
    /// have its former place. `None` if there are as many of these as may be.
    pub(super) fn stay(&self) -> Option<DropGuard> {
        let held = Arc::clone(&self.0.event_streams).try_acquire_owned().ok()?;
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.0.stays.store(true, Ordering::Relaxed);
        Some(self.0.over.clone().drop_guard())
    }

    /// Waits until the connection should end.
    async fn outstayed(&self, max_age: Duration) {
        let over = self.0.over.cancelled();
        tokio::pin!(over);
        tokio::select! {
            () = &mut over => {}
            () = sleep(max_age) => {
                if self.0.stays.load(Ordering::Relaxed) {
                    over.await;
                }
            }
        }
    }
}

async fn connection(
    (stream, peer): (TcpStream, SocketAddr),
    router: Router,
    limits: HttpLimits,
    keep: bool,
    place: Place,
    stop: CancellationToken,
) {
    // Answers are short and awaited; without it they are only later, not wrong.
    let _ = stream.set_nodelay(true);
    // Without it megabytes of a stream wait for a peer that does not take them.
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
    // Without it the system gives up after a quarter of an hour.
    let _ = set_tcp_user_timeout(&stream, PEER_PATIENCE_MS);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .keep_alive(keep);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(place.clone());
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        result = connection.as_mut() => return log_end(result),
        () = stop.cancelled() => {}
        () = place.outstayed(limits.max_age) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(result) = timeout(limits.drain, connection).await {
        log_end(result);
    }
}

fn log_end(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "HTTP connection broke off");
    }
}
