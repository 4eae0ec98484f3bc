//! The handles of one association: where datagrams go in and results come out.
//!
//! Owned by the session the transport belongs to. Dropping [`Association`] ends its task and frees
//! everything the handshake holds. Nothing here depends on a backend.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::SendDatagram;
use super::conn::{Inbound, SharedGuard, lock};
use super::counters::{Counters, DropReason};
use super::error::DtlsError;
use super::srtp::Keys;

/// Queue places that only handshake messages may take: they are delivered once, so there must
/// always be room for the sixteen a peer can send and for the note of its ClientHello.
const RESERVED_PLACES: usize = 24;
/// Deliveries the handshake task may lag behind.
pub(super) const QUEUE_LEN: usize = 64;

/// A started association.
#[derive(Debug)]
pub struct Started {
    /// Takes datagrams; keeps the association alive.
    pub association: Association,
    /// Resolves once, with the keys or with why there are none.
    pub outcome: Outcome,
    /// Resolves when the association is over.
    pub ended: Ended,
}

/// A live association. Cheap to call from a reactor; dropping it frees everything without a word
/// to the peer, unless [`close`](Self::close) was called.
#[derive(Debug)]
pub struct Association {
    pub(super) inlet: Inlet,
    pub(super) closing: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// Where the reactor's side reaches the handshake task.
pub(super) struct Inlet {
    pub(super) guard: SharedGuard,
    pub(super) queue: mpsc::Sender<Inbound>,
    pub(super) flooded: CancellationToken,
    pub(super) counters: Arc<Counters>,
    pub(super) send: SendDatagram,
}

impl std::fmt::Debug for Inlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inlet").finish_non_exhaustive()
    }
}

impl Association {
    /// Takes one datagram that carries DTLS (RFC 7983 7). Never blocks; what is not fit for the
    /// handshake is dropped and counted.
    pub fn handle_datagram(&self, datagram: &[u8]) {
        let inlet = &self.inlet;
        let now = tokio::time::Instant::now().into_std();
        let inspection = lock(&inlet.guard).inspect(datagram, now);
        if inspection.flooded {
            inlet.flooded.cancel();
        }
        if let Some(hello) = inspection.client_hello {
            inlet.enqueue(Inbound::ClientHello(Box::new(hello)));
        }
        if !inspection.deliver.is_empty() {
            if inspection.has_message || inlet.queue.capacity() > RESERVED_PLACES {
                inlet.enqueue(Inbound::Records(Bytes::from(inspection.deliver)));
            } else {
                inlet.counters.count_drop(DropReason::QueueFull);
            }
        }
        if let Some(flight) = inspection.repeat {
            (inlet.send)(&flight);
        }
    }

    /// Ends the association: with a close_notify if its handshake is done, silently otherwise.
    /// Returns at once; [`Ended`] resolves when it is over. The handle may be dropped meanwhile.
    pub fn close(&self) {
        self.closing.cancel();
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        // A closing task ends by itself and soon.
        if !self.closing.is_cancelled() {
            self.task.abort();
        }
    }
}

impl Inlet {
    fn enqueue(&self, inbound: Inbound) {
        match self.queue.try_send(inbound) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.counters.count_drop(DropReason::QueueFull);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.counters.count_drop(DropReason::Ended);
            }
        }
    }
}

/// The result of a handshake; [`DtlsError::Abandoned`] if the [`Association`] was dropped first.
#[derive(Debug)]
pub struct Outcome(pub(super) oneshot::Receiver<Result<Keys, DtlsError>>);

impl Future for Outcome {
    type Output = Result<Keys, DtlsError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|result| result.unwrap_or(Err(DtlsError::Abandoned)))
    }
}

/// How an association ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The peer sent a protected close_notify or fatal alert.
    ByPeer,
    /// [`Association::close`] was called, or the handle dropped.
    Local,
    /// There never were keys; the [`Outcome`] says why.
    HandshakeFailed,
}

/// Resolves when the association is over.
#[derive(Debug)]
pub struct Ended(pub(super) oneshot::Receiver<Ending>);

impl Future for Ended {
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|ending| ending.unwrap_or(Ending::Local))
    }
}
