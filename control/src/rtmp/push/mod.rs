//! Pushing: a stream of this server published on another one by RTMP, as an encoder would.
//!
//! Each push is a task that waits for its stream to be live, connects, and sends what a reader of
//! [`play`](super::play) is given. Whatever fails, it begins again after a while: longer each time.
//! It never holds up the stream or another push.

mod client;
mod target;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::play::Hubs;
use crate::broadcast::{Broadcast, BroadcastError};

use client::PushEnded;
use target::Target;
pub use target::{CaFileError, TargetError};

/// Pushes at once.
const MAX_PUSHES: usize = 1000;

/// Wait after the first failure, and at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What went on for so long was no failure from the start: the wait is short again.
const GOOD: Duration = Duration::from_secs(30);

/// Why a push was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The address.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The file with those whose certificates are trusted.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// The stream's name.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    /// Too many.
    #[error("there are {MAX_PUSHES} pushes, and no more than that; stop one first")]
    TooMany,
}

/// What a push is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PushState {
    /// The stream has no publisher.
    Waiting,
    /// On its way to the other server.
    Connecting,
    /// It sends.
    Pushing,
    /// It failed, and will begin again.
    Retrying,
}

/// A push in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PushInfo {
    /// Its name, for `push.stop`.
    pub id: u64,
    /// The stream.
    pub stream: String,
    /// Where to, the stream key left out.
    pub url: String,
    /// What it is doing.
    pub state: PushState,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// What of the stream is not sent, and why.
    pub left_out: Option<String>,
    /// How often it connected.
    pub connects: u64,
    /// How often it failed.
    pub failures: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Seconds since it was made.
    pub age_s: u64,
}

struct Doing {
    state: PushState,
    last_error: Option<String>,
    left_out: Option<String>,
}

/// A push, as its task and lists know it.
struct Push {
    id: u64,
    stream: String,
    target: Target,
    stop: CancellationToken,
    created: Instant,
    doing: Mutex<Doing>,
    connects: AtomicU64,
    failures: AtomicU64,
    sent: AtomicU64,
}

impl Push {
    fn set(&self, state: PushState) {
        lock(&self.doing).state = state;
    }

    fn connected(&self) {
        self.connects.fetch_add(1, Relaxed);
        let mut doing = lock(&self.doing);
        doing.state = PushState::Pushing;
        doing.left_out = None;
        drop(doing);
        tracing::info!(stream = self.stream, to = self.target.shown(), "pushing");
    }

    fn leave_out(&self, why: &str) {
        let mut doing = lock(&self.doing);
        if doing.left_out.is_none() {
            tracing::warn!(stream = self.stream, to = self.target.shown(), "{why}");
            doing.left_out = Some(why.to_owned());
        }
    }

    fn failed(&self, why: &PushEnded) {
        self.failures.fetch_add(1, Relaxed);
        let why = why.to_string();
        let mut doing = lock(&self.doing);
        // The same again is in the list, and once in the log.
        if doing.last_error.as_ref() != Some(&why) {
            tracing::warn!(
                stream = self.stream,
                to = self.target.shown(),
                why,
                "push failed; it begins again"
            );
        }
        doing.state = PushState::Retrying;
        doing.last_error = Some(why);
    }

    fn info(&self) -> PushInfo {
        let doing = lock(&self.doing);
        PushInfo {
            id: self.id,
            stream: self.stream.clone(),
            url: self.target.shown().to_owned(),
            state: doing.state,
            last_error: doing.last_error.clone(),
            left_out: doing.left_out.clone(),
            connects: self.connects.load(Relaxed),
            failures: self.failures.load(Relaxed),
            sent_bytes: self.sent.load(Relaxed),
            age_s: self.created.elapsed().as_secs(),
        }
    }
}

struct Shared {
    broadcast: Broadcast,
    hubs: Hubs,
    write_timeout: Duration,
    stop: CancellationToken,
    ids: AtomicU64,
    pushes: Mutex<BTreeMap<u64, Arc<Push>>>,
}

/// The pushes of a broadcast; clones share them.
#[derive(Clone)]
pub struct Pushes(Arc<Shared>);

impl Pushes {
    /// A server that takes nothing for `write_timeout` has gone, or is too slow.
    pub(super) fn new(
        broadcast: Broadcast,
        hubs: Hubs,
        write_timeout: Duration,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            broadcast,
            hubs,
            write_timeout,
            stop,
            ids: AtomicU64::new(1),
            pushes: Mutex::default(),
        }))
    }

    /// Publishes a stream, whenever it is live, at `rtmp://HOST[:PORT]/APP/KEY` or `rtmps://...`.
    /// The certificates in `ca_file` (PEM) are trusted, and those they have issued, beside those of the
    /// system. Call it inside the runtime.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn create(
        &self,
        stream: &str,
        url: &str,
        ca_file: Option<&Path>,
    ) -> Result<PushInfo, PushError> {
        let shared = &self.0;
        let mut target = Target::parse(url)?;
        if let Some(file) = ca_file {
            target.trust(file)?;
        }
        // Whether it is a name.
        shared.broadcast.follow(stream)?;
        let push = Arc::new(Push {
            id: shared.ids.fetch_add(1, Relaxed),
            stream: stream.to_owned(),
            target,
            stop: shared.stop.child_token(),
            created: Instant::now(),
            doing: Mutex::new(Doing {
                state: PushState::Waiting,
                last_error: None,
                left_out: None,
            }),
            connects: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        });
        let mut pushes = lock(&shared.pushes);
        if pushes.len() >= MAX_PUSHES {
            return Err(PushError::TooMany);
        }
        pushes.insert(push.id, Arc::clone(&push));
        drop(pushes);
        let info = push.info();
        let (broadcast, hubs) = (shared.broadcast.clone(), shared.hubs.clone());
        let write_timeout = shared.write_timeout;
        tokio::spawn(async move {
            tokio::select! {
                () = push.stop.cancelled() => {}
                () = run(&push, &broadcast, &hubs, write_timeout) => {}
            }
        });
        Ok(info)
    }

    /// All pushes, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<PushInfo> {
        lock(&self.0.pushes)
            .values()
            .map(|push| push.info())
            .collect()
    }

    /// Ends a push. Whether it was there.
    pub fn stop(&self, id: u64) -> bool {
        let push = lock(&self.0.pushes).remove(&id);
        push.inspect(|push| push.stop.cancel()).is_some()
    }
}

/// Pushes again and again.
async fn run(push: &Push, broadcast: &Broadcast, hubs: &Hubs, write_timeout: Duration) {
    let mut wait = FIRST_WAIT;
    // The name was checked.
    let Ok(mut follower) = broadcast.follow(&push.stream) else {
        return;
    };
    loop {
        if follower.current().is_none() {
            push.set(PushState::Waiting);
            while follower.changed().await.is_none() {}
        }
        push.set(PushState::Connecting);
        let began = Instant::now();
        let ended = client::push(push, broadcast, hubs, write_timeout).await;
        if matches!(ended, PushEnded::Over) {
            wait = FIRST_WAIT;
            continue;
        }
        push.failed(&ended);
        if began.elapsed() >= GOOD {
            wait = FIRST_WAIT;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
