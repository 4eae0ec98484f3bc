//! All ingests of a server, and how one begins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::line::{FIRST_PAYLOAD_TYPE, Line};
use super::report::Report;
use super::session::{Parts, Session};
use super::threads::Threads;
use super::{Ingest, IngestError, IngestInfo, IngestSpec, TrackFormat};
use crate::broadcast::Broadcast;
use crate::clock::now_us;
use crate::media::audio::AudioOptions;
use crate::model::CloseReason;

/// What all clones share.
pub(super) struct Shared {
    broadcast: Broadcast,
    audio: AudioOptions,
    threads: OnceLock<Threads>,
    ids: AtomicU64,
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
    /// Rung when one of them was forgotten.
    forgotten: Notify,
}

/// The ingests of a broadcast; clones share them. Its threads start with the first ingest.
#[derive(Clone)]
pub struct Ingests(Arc<Shared>);

impl Ingests {
    /// None yet; their sound is encoded as `audio` says.
    #[must_use]
    pub fn new(broadcast: Broadcast, audio: AudioOptions) -> Self {
        Self(Arc::new(Shared {
            broadcast,
            audio,
            threads: OnceLock::new(),
            ids: AtomicU64::new(1),
            sessions: Mutex::default(),
            forgotten: Notify::new(),
        }))
    }

    /// What its streams are published in.
    #[must_use]
    pub fn broadcast(&self) -> &Broadcast {
        &self.0.broadcast
    }

    /// Makes the stream of an ingest with these tracks, and publishes it under the rule for all: one
    /// publisher a name. Call it inside the runtime, on a thread that may wait for the data plane.
    ///
    /// # Errors
    /// [`IngestError`]; nothing is left behind.
    pub fn start(&self, spec: IngestSpec, tracks: Vec<TrackFormat>) -> Result<Ingest, IngestError> {
        let shared = &self.0;
        let threads = shared.threads()?;
        let payload_types = FIRST_PAYLOAD_TYPE..;
        let produced = tracks.iter().zip(payload_types);
        let produced: Result<Vec<_>, _> = produced
            .map(|(track, payload_type)| track.produced(payload_type))
            .collect();
        let server = shared.broadcast.server();
        let events = shared.broadcast.events().clone();
        let report = Arc::new(Report::new(&spec, tracks.len(), now_us(), events));
        let (stream, producer) = server.create_incoming_stream(spec.source, produced?, None)?;
        let line = Line::new(producer, &tracks, shared.audio, Arc::clone(&report))?;
        shared.broadcast.publish_stream(&spec.stream, &stream)?;
        let id = shared.ids.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session::new(Parts {
            id,
            spec,
            produced: stream,
            formats: tracks,
            line,
            report,
            threads,
            registry: Arc::downgrade(shared),
        }));
        shared.sessions().insert(id, Arc::clone(&session));
        Ok(Ingest::new(session))
    }

    /// Waits until the ingests of a stream that were closed have left it, so that the name is free.
    pub async fn settled(&self, stream: &str) {
        loop {
            let forgotten = self.0.forgotten.notified();
            tokio::pin!(forgotten);
            // Told of all that are forgotten from here on.
            forgotten.as_mut().enable();
            let leaves =
                |session: &Arc<Session>| session.spec.stream == stream && session.is_closing();
            if !self.0.sessions().values().any(leaves) {
                return;
            }
            forgotten.await;
        }
    }

    /// All ingests that run, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<IngestInfo> {
        let sessions: Vec<_> = self.0.sessions().values().cloned().collect();
        let running = sessions.iter().filter(|session| !session.is_ending());
        let mut all: Vec<_> = running.map(|session| session.info()).collect();
        all.sort_by_key(|info| info.id);
        all
    }

    /// Those of one protocol.
    #[must_use]
    pub fn list_of(&self, source: &str) -> Vec<IngestInfo> {
        let mut all = self.list();
        all.retain(|info| info.source == source);
        all
    }
}

impl Shared {
    fn threads(&self) -> Result<Threads, IngestError> {
        if let Some(threads) = self.threads.get() {
            return Ok(threads.clone());
        }
        let threads = Threads::start().map_err(IngestError::Threads)?;
        // Of two that came first together one's threads end at once, for want of senders.
        Ok(self.threads.get_or_init(|| threads).clone())
    }

    /// Takes an ingest that ends from name and list.
    pub(super) fn forget(&self, session: &Session) {
        session.produced.close_for(CloseReason::SourceEnded);
        self.broadcast
            .withdraw(&session.spec.stream, &session.produced);
        self.sessions().remove(&session.id);
        self.forgotten.notify_waiters();
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
