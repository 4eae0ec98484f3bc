//! The sessions there are, for reports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::Serialize;

use super::play::lock;

/// Which way media goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To a reader.
    Play,
    /// From a publisher.
    Record,
}

/// A session in a report.
#[derive(Debug, Clone, Serialize)]
pub struct SessionInfo {
    /// Counts sessions.
    pub id: u64,
    /// The stream's name.
    pub stream: String,
    /// Which way media goes.
    pub direction: Direction,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// The client.
    pub remote: SocketAddr,
    /// RTP and RTCP packets of it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets lost, in percent: of a reader lately, as it reports; of a publisher since it began.
    pub loss_percent: f64,
    /// Seconds since it began.
    pub age_s: u64,
}

/// What is counted of a session.
#[derive(Debug, Default)]
pub(super) struct Counts {
    packets: AtomicU64,
    bytes: AtomicU64,
    /// In thousandths of a percent.
    loss: AtomicU64,
}

impl Counts {
    pub(super) fn add(&self, bytes: usize) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn set_loss(&self, percent: f64) {
        self.loss
            .store((percent * 1000.0) as u64, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Sessions {
    all: Mutex<BTreeMap<u64, Entry>>,
    next: AtomicU64,
    connections: AtomicUsize,
}

struct Entry {
    stream: String,
    direction: Direction,
    transport: &'static str,
    remote: SocketAddr,
    counts: Arc<Counts>,
    began: Instant,
}

/// The entry of one session, as long as it lives.
pub(super) struct Entered {
    shared: Arc<super::Shared>,
    id: u64,
    pub(super) counts: Arc<Counts>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.shared.sessions.all).remove(&self.id);
    }
}

/// A connection among those there are, as long as it lives.
pub(super) struct Connected(Arc<super::Shared>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.sessions.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl super::Shared {
    pub(super) fn connected(self: &Arc<Self>) -> Connected {
        self.sessions.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    pub(super) fn enter(
        self: &Arc<Self>,
        stream: &str,
        direction: Direction,
        transport: &'static str,
        remote: SocketAddr,
    ) -> Entered {
        let id = self.sessions.next.fetch_add(1, Ordering::Relaxed) + 1;
        let counts = Arc::<Counts>::default();
        let entry = Entry {
            stream: stream.to_owned(),
            direction,
            transport,
            remote,
            counts: Arc::clone(&counts),
            began: Instant::now(),
        };
        lock(&self.sessions.all).insert(id, entry);
        Entered {
            shared: Arc::clone(self),
            id,
            counts,
        }
    }
}

impl Sessions {
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn list(&self) -> Vec<SessionInfo> {
        let all = lock(&self.all);
        let info = |(&id, entry): (&u64, &Entry)| SessionInfo {
            id,
            stream: entry.stream.clone(),
            direction: entry.direction,
            transport: entry.transport,
            remote: entry.remote,
            packets: entry.counts.packets.load(Ordering::Relaxed),
            bytes: entry.counts.bytes.load(Ordering::Relaxed),
            loss_percent: entry.counts.loss.load(Ordering::Relaxed) as f64 / 1000.0,
            age_s: entry.began.elapsed().as_secs(),
        };
        all.iter().map(info).collect()
    }
}
