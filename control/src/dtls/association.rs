//! One association: where datagrams go in and results come out.
//!
//! Owned by the session the transport belongs to. Dropping [`Association`] ends its task and frees
//! everything the handshake holds. Nothing here depends on a backend.
//!
//! While the handshake runs, a task of the backend's is behind it. Once there are keys, no task is:
//! what is left to do — to open the peer's alerts, to repeat the last flight, to say goodbye — is
//! done in the calls, and takes a few hundred bytes.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::SendDatagram;
use super::client_hello::ClientHello;
use super::counters::{Counters, DropReason};
use super::error::{AlertDescription, DtlsError};
use super::guard::{Guard, Inspection};
use super::protection::Protection;
use super::record::Records;
use super::srtp::Keys;

/// Queue places that only handshake messages may take: they are delivered once, so there must
/// always be room for the sixteen a peer can send and for the note of its ClientHello.
const RESERVED_PLACES: usize = 24;
/// Deliveries the handshake task may lag behind.
const QUEUE_LEN: usize = 64;

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
pub struct Association {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Association {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Association").finish_non_exhaustive()
    }
}

/// What the reactor's side and the handshake task have in common.
pub(super) struct Shared {
    pub(super) send: SendDatagram,
    pub(super) counters: Arc<Counters>,
    state: Mutex<State>,
}

struct State {
    guard: Guard,
    stage: Stage,
}

enum Stage {
    Handshaking(Handshaking),
    Established(Established),
    Over,
}

/// What the handshake task is told by.
struct Handshaking {
    queue: mpsc::Sender<Inbound>,
    stop: CancellationToken,
    /// Not there before the task is.
    task: Option<AbortHandle>,
    closing: bool,
}

struct Established {
    protection: Protection,
    ended: oneshot::Sender<Ending>,
}

/// What the reactor's side queues for the handshake task.
#[derive(Debug)]
pub(super) enum Inbound {
    /// The first ClientHello is complete; its records follow.
    ClientHello(Box<ClientHello>),
    /// Whole records.
    Records(Bytes),
}

/// What the handshake task listens to.
pub(super) struct Orders {
    pub(super) inbound: mpsc::Receiver<Inbound>,
    /// The handshake is to stop: it is unwanted, or its budget is spent.
    pub(super) stop: CancellationToken,
}

impl Association {
    /// An association whose handshake is about to begin. The backend must spawn a task for it and
    /// [note](Self::runs_as) it.
    pub(super) fn new(
        guard: Guard,
        counters: Arc<Counters>,
        send: SendDatagram,
    ) -> (Self, Arc<Shared>, Orders) {
        let (queue, inbound) = mpsc::channel(QUEUE_LEN);
        let stop = CancellationToken::new();
        let handshaking = Handshaking {
            queue,
            stop: stop.clone(),
            task: None,
            closing: false,
        };
        let shared = Arc::new(Shared {
            send,
            counters,
            state: Mutex::new(State {
                guard,
                stage: Stage::Handshaking(handshaking),
            }),
        });
        let association = Self {
            shared: Arc::clone(&shared),
        };
        (association, shared, Orders { inbound, stop })
    }

    /// Notes the task to end if the association is dropped during its handshake.
    pub(super) fn runs_as(&self, task: AbortHandle) {
        if let Stage::Handshaking(handshaking) = &mut self.shared.lock().stage {
            handshaking.task = Some(task);
        }
    }

    /// Takes one datagram that carries DTLS (RFC 7983 7). Never blocks; what is not fit for the
    /// handshake is dropped and counted.
    pub fn handle_datagram(&self, datagram: &[u8]) {
        let now = tokio::time::Instant::now().into_std();
        let mut answers = Vec::new();
        {
            let mut state = self.shared.lock();
            let mut inspection = state.guard.inspect(datagram, now);
            answers.extend(inspection.repeat.take().map(|flight| flight.to_vec()));
            match &state.stage {
                Stage::Handshaking(handshaking) => {
                    handshaking.take(inspection, &self.shared.counters);
                }
                Stage::Established(_) => {
                    answers.extend(state.take_alerts(&inspection.alerts, &self.shared.counters));
                }
                Stage::Over => {}
            }
        }
        for answer in answers {
            (self.shared.send)(&answer);
        }
    }

    /// Ends the association: with a close_notify if its handshake is done, silently otherwise.
    /// Returns at once; [`Ended`] resolves when it is over. The handle may be dropped meanwhile.
    pub fn close(&self) {
        let farewell = {
            let mut state = self.shared.lock();
            if let Stage::Handshaking(handshaking) = &mut state.stage {
                handshaking.closing = true;
                handshaking.stop.cancel();
            }
            state.finish(Ending::Local)
        };
        if let Some(farewell) = farewell {
            (self.shared.send)(&farewell);
        }
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Stage::Handshaking(handshaking) = &state.stage {
            // A closing task ends by itself and soon.
            if handshaking.closing {
                return;
            }
            if let Some(task) = &handshaking.task {
                task.abort();
            }
        }
        state.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // It keeps no invariant across calls that a panic could break.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes and sends a datagram of the backend's.
    pub(super) fn send_noted(&self, datagram: &[u8]) {
        self.lock().guard.note_outgoing(datagram);
        (self.send)(datagram);
    }

    /// The last unprotected alert of the handshake.
    pub(super) fn plaintext_alert(&self) -> Option<AlertDescription> {
        self.lock().guard.plaintext_alert()
    }

    /// Whether the handshake stops because [`Association::close`] was called.
    pub(super) fn is_closing(&self) -> bool {
        matches!(&self.lock().stage, Stage::Handshaking(handshaking) if handshaking.closing)
    }

    /// Number of the next record this side protects.
    pub(super) fn next_protected(&self) -> u64 {
        self.lock().guard.next_protected()
    }

    /// The handshake is done: from here on the backend is not needed any more.
    pub(super) fn establish(&self, protection: Protection, ended: oneshot::Sender<Ending>) {
        let farewell = {
            let mut state = self.lock();
            let Stage::Handshaking(handshaking) = &state.stage else {
                return;
            };
            let closing = handshaking.closing;
            let alerts = state.guard.establish();
            state.stage = Stage::Established(Established { protection, ended });
            if closing {
                state.finish(Ending::Local)
            } else {
                state.take_alerts(&alerts, &self.counters)
            }
        };
        if let Some(farewell) = farewell {
            (self.send)(&farewell);
        }
    }

    /// There is no association any more, or never was.
    pub(super) fn end(&self) {
        self.lock().end();
    }
}

impl Handshaking {
    fn take(&self, inspection: Inspection, counters: &Counters) {
        if inspection.flooded {
            self.stop.cancel();
        }
        if let Some(hello) = inspection.client_hello {
            self.enqueue(Inbound::ClientHello(Box::new(hello)), counters);
        }
        if inspection.deliver.is_empty() {
            return;
        }
        if inspection.has_message || self.queue.capacity() > RESERVED_PLACES {
            self.enqueue(Inbound::Records(inspection.deliver.into()), counters);
        } else {
            counters.count_drop(DropReason::QueueFull);
        }
    }

    fn enqueue(&self, inbound: Inbound, counters: &Counters) {
        match self.queue.try_send(inbound) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => counters.count_drop(DropReason::QueueFull),
            Err(mpsc::error::TrySendError::Closed(_)) => counters.count_drop(DropReason::Ended),
        }
    }
}

impl State {
    /// Looks at protected alerts; returns what to answer.
    fn take_alerts(&mut self, records: &[u8], counters: &Counters) -> Option<Vec<u8>> {
        for record in Records::new(records).map_while(Result::ok) {
            let Stage::Established(established) = &self.stage else {
                return None;
            };
            match established.protection.open_alert(&record) {
                Some(alert) if alert.ends() => {
                    let farewell = self.finish(Ending::ByPeer);
                    // RFC 5246 7.2.1: a close_notify is answered with one; a fatal alert is not.
                    return farewell
                        .filter(|_| alert.description == AlertDescription::CLOSE_NOTIFY);
                }
                Some(alert) => tracing::debug!(?alert, "the peer warns"),
                None => counters.count_drop(DropReason::AlertAuthentication),
            }
        }
        None
    }

    /// Ends an association that has keys; returns the close_notify.
    fn finish(&mut self, ending: Ending) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Established(Established {
                mut protection,
                ended,
            }) => {
                self.guard.end();
                // Nobody may be interested.
                let _ = ended.send(ending);
                protection.close_notify()
            }
            other => {
                self.stage = other;
                None
            }
        }
    }

    fn end(&mut self) {
        self.guard.end();
        self.stage = Stage::Over;
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::dtls::Role;
    use crate::dtls::guard::Budget;
    use crate::dtls::protection::Secrets;

    const BUDGET: Budget = Budget {
        datagrams: 512,
        bytes: 256 * 1024,
    };

    fn protection(role: Role) -> Protection {
        let secrets = Secrets {
            master_secret: &[1; 48],
            client_random: &[2; 32],
            server_random: &[3; 32],
        };
        Protection::derive(role, &secrets, 1).unwrap()
    }

    type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

    fn association() -> (Association, Arc<Shared>, Orders, Sent) {
        let counters = Arc::<Counters>::default();
        let guard = Guard::new(Role::Server, BUDGET, Arc::clone(&counters));
        let sent = Sent::default();
        let to = Arc::clone(&sent);
        let send = Arc::new(move |datagram: &[u8]| to.lock().unwrap().push(datagram.to_vec()));
        let (association, shared, orders) = Association::new(guard, counters, send);
        (association, shared, orders, sent)
    }

    /// The close_notify that the peer sees.
    fn is_close_notify(datagram: &[u8]) -> bool {
        let record = Records::new(datagram).next().unwrap().unwrap();
        let alert = protection(Role::Client).open_alert(&record).unwrap();
        alert.description == AlertDescription::CLOSE_NOTIFY
    }

    #[test]
    fn a_farewell_that_overtakes_the_keys_is_heard_and_answered() {
        let (association, shared, _orders, sent) = association();
        association.handle_datagram(&protection(Role::Client).close_notify().unwrap());
        let (sender, mut ended) = oneshot::channel();
        shared.establish(protection(Role::Server), sender);
        assert_eq!(ended.try_recv(), Ok(Ending::ByPeer));
        let sent = sent.lock().unwrap();
        assert_eq!(sent.len(), 1);
        assert!(is_close_notify(&sent[0]));
    }

    #[test]
    fn one_that_is_closed_just_before_its_keys_come_says_goodbye() {
        let (association, shared, orders, sent) = association();
        association.close();
        assert!(orders.stop.is_cancelled() && shared.is_closing());
        drop(association);
        let (sender, mut ended) = oneshot::channel();
        shared.establish(protection(Role::Server), sender);
        assert_eq!(ended.try_recv(), Ok(Ending::Local));
        assert!(is_close_notify(&sent.lock().unwrap()[0]));
    }

    #[test]
    fn one_that_was_dropped_says_nothing_when_its_keys_come() {
        let (association, shared, _orders, sent) = association();
        drop(association);
        let (sender, mut ended) = oneshot::channel();
        shared.establish(protection(Role::Server), sender);
        assert!(ended.try_recv().is_err());
        assert!(sent.lock().unwrap().is_empty());
    }

    #[test]
    fn a_forged_alert_is_counted_and_a_goodbye_is_said_once() {
        let (association, shared, _orders, sent) = association();
        let (sender, mut ended) = oneshot::channel();
        shared.establish(protection(Role::Server), sender);
        // Sealed with this side's keys: as good as forged.
        association.handle_datagram(&protection(Role::Server).close_notify().unwrap());
        let counters = &shared.counters;
        assert_eq!(counters.dropped(DropReason::AlertAuthentication), 1);
        assert!(ended.try_recv().is_err());
        association.close();
        association.close();
        assert_eq!(ended.try_recv(), Ok(Ending::Local));
        association.handle_datagram(&protection(Role::Client).close_notify().unwrap());
        assert_eq!(counters.dropped(DropReason::Ended), 1);
        assert_eq!(sent.lock().unwrap().len(), 1);
    }
}
