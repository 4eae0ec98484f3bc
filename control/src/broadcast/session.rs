//! One session: its name in URLs, its ICE session's entity tag, and whether its peer is alive.
//!
//! Made and kept by [`Broadcast`](super::Broadcast); the doors hold it while they serve a request.
//! It never touches the tables it stands in.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;

use tokio::sync::watch;

use super::publishers::LOST_AFTER;
use super::{BroadcastError, Role, Subscription, lock};
use crate::access::Held;
use crate::model::{CloseReason, Heard, Transport, TransportKind};
use crate::rooms::Seat;
use crate::sdp::IceFragment;

/// A publisher that nothing is heard of for this long is taken for dead when another comes:
/// most often it is the same one, after a crash or a reload. One that shares anything sends media;
/// one that is paused sends RTCP and, every few seconds (RFC 7675 5.1), checks.
const PUBLISHER_SILENCE: Duration = Duration::from_secs(3);

/// How often publishers are listened for, and looked at.
const LISTEN_EVERY: Duration = Duration::from_millis(200);

/// One publisher's or viewer's session, as WHIP and WHEP know it.
pub struct Session {
    pub(super) id: String,
    pub(super) kind: TransportKind,
    pub(super) role: Role,
    pub(super) stream: String,
    pub(super) transport: Transport,
    /// Counts ICE sessions: one more with each restart.
    ice_generation: Mutex<u64>,
    last_heard: Mutex<LastHeard>,
    /// The stream a viewer is shown; another than its own if an operator said so.
    shown: Mutex<Option<String>>,
    /// What a viewer wants to be told of it.
    subscriptions: Mutex<Vec<Arc<Subscription>>>,
    /// That its token is not revoked.
    held: Mutex<Option<Held>>,
    /// The place of a viewer of a room.
    pub(super) seat: Option<Seat>,
}

/// When a peer was last heard of.
struct LastHeard {
    /// What its transport had counted then.
    count: u64,
    at: Instant,
}

/// The answer to an ICE restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceRestart {
    /// The fragment to send back.
    pub answer: String,
    /// Entity tag of the new ICE session, quotes included.
    pub etag: String,
}

impl Session {
    pub(super) fn new(
        kind: TransportKind,
        role: Role,
        stream: &str,
        transport: Transport,
        seat: Option<Seat>,
    ) -> Self {
        Self {
            id: random_id(),
            kind,
            role,
            stream: stream.to_owned(),
            transport,
            ice_generation: Mutex::new(1),
            last_heard: Mutex::new(LastHeard {
                count: 0,
                at: Instant::now(),
            }),
            shown: Mutex::new(Some(stream.to_owned())),
            subscriptions: Mutex::default(),
            held: Mutex::default(),
            seat,
        }
    }

    /// Its name in URLs: 128 random bits, so that it cannot be guessed.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it publishes or views.
    pub fn kind(&self) -> TransportKind {
        self.kind
    }

    /// What it is to its stream if it publishes.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The stream it was made for.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Its connection.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Keeps what tells of its token as long as it lasts.
    pub fn hold(&self, held: Held) {
        *lock(&self.held) = Some(held);
    }

    /// Entity tag of the present ICE session (RFC 9725 4.3.1), quotes included.
    pub fn etag(&self) -> String {
        etag(*lock(&self.ice_generation))
    }

    /// Takes what the client says of its side of ICE, if it is about the present ICE session:
    /// `is_expected` is asked with the entity tag. Credentials that are new restart ICE; anything
    /// else is of no use to this side, and gives `None`.
    ///
    /// # Errors
    /// [`BroadcastError::OtherIceSession`], or that the connection has gone.
    pub fn update_ice(
        &self,
        fragment: &IceFragment,
        is_expected: impl FnOnce(&str) -> bool,
    ) -> Result<Option<IceRestart>, BroadcastError> {
        // Held to the end: of two restarts at once, the second is not for the present session.
        let mut generation = lock(&self.ice_generation);
        if !is_expected(&etag(*generation)) {
            return Err(BroadcastError::OtherIceSession);
        }
        if !self.transport.is_restart(fragment) {
            return Ok(None);
        }
        let answer = self.transport.restart_ice(fragment)?;
        *generation += 1;
        Ok(Some(IceRestart {
            answer,
            etag: etag(*generation),
        }))
    }

    /// Notes whether anything came from the peer since the last time; returns for how long
    /// nothing has.
    fn listen(&self) -> Duration {
        let mut heard = lock(&self.last_heard);
        let count = self.transport.heard_count();
        if heard.count != count {
            *heard = LastHeard {
                count,
                at: Instant::now(),
            };
        }
        heard.at.elapsed()
    }

    /// Whether nothing can be expected of the peer any more.
    pub(super) fn is_dead(&self) -> bool {
        self.transport.is_ending() || self.listen() >= PUBLISHER_SILENCE
    }

    /// Waits for the end of a publisher, or until it falls silent, is heard again, or is to be looked
    /// at anyway; says why it ended if it did. It is listened for meanwhile.
    pub(super) async fn listen_until_news(
        &self,
        hearing: &mut watch::Receiver<Heard>,
    ) -> Option<CloseReason> {
        // Soon again after a change, which may have to last to mean something.
        let lately = self.transport.unchanged_for() < LOST_AFTER;
        let pause = if lately { LOST_AFTER } else { LISTEN_EVERY };
        let ended = tokio::select! {
            reason = self.transport.closed() => Some(reason),
            // The other end lives in the transport.
            _ = hearing.changed() => None,
            () = tokio::time::sleep(pause) => None,
        };
        self.listen();
        ended
    }

    /// Whether it watches a room, or did before it was shown something else.
    pub fn is_of_room(&self) -> bool {
        self.seat.is_some()
    }

    /// Has a viewer watch its room, if that is the name of it.
    pub(super) fn take_seat(&self, stream: &str) -> bool {
        let seat = self.seat.as_ref().filter(|_| stream == self.stream);
        seat.map(Seat::take).is_some()
    }

    /// The tracks of a viewer of a room are to show something else.
    pub(super) fn leave_seat(&self) {
        if let Some(seat) = &self.seat {
            seat.leave();
        }
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.shown)
    }

    pub(super) fn subscriptions(&self) -> MutexGuard<'_, Vec<Arc<Subscription>>> {
        lock(&self.subscriptions)
    }
}

fn etag(ice_generation: u64) -> String {
    format!("\"{ice_generation}\"")
}

/// A name that cannot be guessed.
pub(super) fn random_id() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the system has a random source");
    format!("{:032x}", u128::from_le_bytes(bytes))
}
