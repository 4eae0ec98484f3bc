//! What is known of connections outside their tasks, and what became of those that ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::ingest::IngestInfo;

/// A connection in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RtmpConnection {
    /// Its name, for `rtmp.stop`.
    pub id: u64,
    /// The client's address.
    pub remote: SocketAddr,
    /// `connecting`, `publishing` or `playing`.
    pub state: &'static str,
    /// Whether it is encrypted.
    pub tls: bool,
    /// The application that the client named.
    pub app: String,
    /// The stream.
    pub stream: String,
    /// What the client calls itself.
    pub client: String,
    /// Bytes that came.
    pub received_bytes: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Seconds since it began.
    pub age_s: u64,
    /// Of a publisher: its tracks, bit rates, warnings.
    pub ingest: Option<IngestInfo>,
}

/// The state of the RTMP server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RtmpInfo {
    /// Addresses it listens on.
    pub addresses: Vec<String>,
    /// Connections that are there.
    pub connections: Vec<RtmpConnection>,
    /// Connections that came so far.
    pub accepted: u64,
    /// How connections ended, and how often.
    pub ended: BTreeMap<&'static str, u64>,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Publishing,
    Playing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Publishing => "publishing",
            Self::Playing => "playing",
        }
    }
}

#[derive(Debug)]
struct Doing {
    state: State,
    app: String,
    stream: String,
    client: String,
    ingest: Option<u64>,
}

/// A connection, as others see it.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) id: u64,
    pub(super) remote: SocketAddr,
    pub(super) tls: bool,
    pub(super) stop: CancellationToken,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    began: Instant,
    doing: Mutex<Doing>,
}

impl Status {
    pub(super) fn new(id: u64, remote: SocketAddr, tls: bool, stop: CancellationToken) -> Self {
        Self {
            id,
            remote,
            tls,
            stop,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            began: Instant::now(),
            doing: Mutex::new(Doing {
                state: State::Connecting,
                app: String::new(),
                stream: String::new(),
                client: String::new(),
                ingest: None,
            }),
        }
    }

    pub(super) fn set(&self, state: State, app: &str, stream: &str, client: &str) {
        let mut doing = self.doing();
        doing.state = state;
        app.clone_into(&mut doing.app);
        stream.clone_into(&mut doing.stream);
        client.clone_into(&mut doing.client);
        doing.ingest = None;
    }

    pub(super) fn set_ingest(&self, id: u64) {
        self.doing().ingest = Some(id);
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.doing().state == State::Connecting
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn info(&self, ingests: &[IngestInfo]) -> RtmpConnection {
        let doing = self.doing();
        let ingest = ingests.iter().find(|info| Some(info.id) == doing.ingest);
        RtmpConnection {
            id: self.id,
            remote: self.remote,
            state: doing.state.name(),
            tls: self.tls,
            app: doing.app.clone(),
            stream: doing.stream.clone(),
            client: doing.client.clone(),
            received_bytes: self.received.load(Relaxed),
            sent_bytes: self.sent.load(Relaxed),
            age_s: self.began.elapsed().as_secs(),
            ingest: ingest.cloned(),
        }
    }
}
