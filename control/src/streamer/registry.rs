//! All sessions of plain RTP, and how one begins and ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::medium::{Medium, ReceiverInfo, SharedInfo};
use super::output::{Output, SenderState, Shared as OutputShared};
use super::security::Guard;
use super::session::Session;
use super::sockets::{Interface, Pair, sending};
use super::source::Source;
use super::{MediaDescription, ReceiveSpec, SendSpec, StreamerError};
use crate::broadcast::Broadcast;
use crate::clock::random_u32;
use crate::ingest::Ingests;

/// Sessions at most: each has a few sockets and a task.
const MAX_SESSIONS: usize = 256;

/// How long a packet that others have overtaken is waited for, in microseconds.
const REORDER_WAIT_US: u64 = 50_000;

/// How long a new session's description is waited for.
const DESCRIPTION_WAIT: Duration = Duration::from_secs(3);

/// A session in a list.
#[derive(Debug, Clone, Serialize)]
pub struct StreamerInfo {
    /// Its name.
    pub id: u64,
    /// The stream.
    pub stream: String,
    /// `in` or `out`.
    pub direction: &'static str,
    /// What it receives.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub receives: Option<ReceiverInfo>,
    /// What it sends.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub sends: Option<SenderState>,
    /// The description of what it sends, in the answer to who made it, if it is known by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdp: Option<String>,
    /// Seconds since it was made.
    pub age_s: u64,
}

enum Side {
    In(SharedInfo),
    Out(Arc<OutputShared>),
}

struct Entry {
    stream: String,
    side: Side,
    stop: CancellationToken,
    task: JoinHandle<()>,
    created: Instant,
}

struct Registry {
    ingests: Ingests,
    ports: Option<RangeInclusive<u16>>,
    sessions: Mutex<(u64, BTreeMap<u64, Entry>)>,
}

/// The sessions of plain RTP; clones share them.
#[derive(Clone)]
pub struct Streamers(Arc<Registry>);

impl Streamers {
    /// None yet. Where a session leaves the port to the system, it is one out of `ports`, if any.
    #[must_use]
    pub fn new(ingests: Ingests, ports: Option<RangeInclusive<u16>>) -> Self {
        Self(Arc::new(Registry {
            ingests,
            ports,
            sessions: Mutex::default(),
        }))
    }

    /// Receives what is described, as a stream. Call it inside the runtime.
    ///
    /// # Errors
    /// [`StreamerError`]; nothing is left behind.
    pub fn receive(&self, spec: ReceiveSpec) -> Result<StreamerInfo, StreamerError> {
        // The name is checked now and not when the first packet comes.
        self.broadcast().follow(&spec.stream)?;
        let interface = interface(spec.interface.as_deref())?;
        let media: Result<Vec<_>, _> = spec
            .media
            .iter()
            .map(|media| self.medium(media, &spec, &interface))
            .collect();
        let shared = SharedInfo::default();
        let session = Session::new(
            spec.stream.clone(),
            self.0.ingests.clone(),
            media?,
            Arc::clone(&shared),
        );
        let stop = CancellationToken::new();
        let run = session.run(stop.clone());
        self.enter(spec.stream, Side::In(shared), stop, run)
    }

    fn medium(
        &self,
        media: &MediaDescription,
        spec: &ReceiveSpec,
        interface: &Interface,
    ) -> Result<Medium, StreamerError> {
        let described = media.address;
        let group = described.filter(IpAddr::is_multicast);
        let address = group.or(spec.address).or(described);
        let address = address.ok_or(StreamerError::NoAddress)?;
        let ports = self.0.ports.as_ref();
        let pair = Pair::open(address, media.port, media.rtcp, interface, ports)?;
        let guard = media.key.as_ref().map(Guard::new).transpose()?;
        let source = Source::new(
            media.formats.clone(),
            spec.remote,
            guard,
            REORDER_WAIT_US,
            random_u32(),
        );
        Ok(Medium::new(
            source,
            pair,
            SocketAddr::new(address, media.port),
        ))
    }

    /// Sends a stream, which need not be live yet, and returns when it is known what it sends, or a
    /// little later. Call it inside the runtime.
    ///
    /// # Errors
    /// [`StreamerError`].
    pub async fn send(&self, spec: SendSpec) -> Result<StreamerInfo, StreamerError> {
        let mut follower = self.broadcast().follow(&spec.stream)?;
        let is_live = follower.current().is_some();
        let interface = interface(spec.interface.as_deref())?;
        let (to, ttl) = (spec.to.ip(), spec.ttl);
        let shared = Arc::new(OutputShared::default());
        let stream = spec.stream.clone();
        let open = || sending(to, ttl, &interface);
        let session = u64::from(random_u32());
        let output = Output::new(spec, session, open, Arc::clone(&shared))?;
        let follower = self.broadcast().follow(&stream)?;
        let stop = CancellationToken::new();
        let run = output.run(follower, stop.clone());
        let made = self.enter(stream, Side::Out(Arc::clone(&shared)), stop, run)?;
        if is_live {
            shared.wait_for_sdp(DESCRIPTION_WAIT).await;
        }
        let info = self.info(made.id).unwrap_or(made);
        Ok(StreamerInfo {
            sdp: shared.sdp(),
            ..info
        })
    }

    /// Ends a session; returns when its ports are free.
    ///
    /// # Errors
    /// [`StreamerError::Unknown`].
    pub async fn stop(&self, id: u64) -> Result<StreamerInfo, StreamerError> {
        let info = self.info(id).ok_or(StreamerError::Unknown(id))?;
        let entry = self.lock().1.remove(&id);
        let entry = entry.ok_or(StreamerError::Unknown(id))?;
        entry.stop.cancel();
        // One that panicked has ended, too.
        let _ = entry.task.await;
        Ok(info)
    }

    /// All sessions, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<StreamerInfo> {
        let mut sessions = self.lock();
        forget_ended(&mut sessions.1);
        let all = sessions.1.iter().map(|(&id, entry)| entry.info(id));
        all.collect()
    }

    /// The description of what a session sends.
    ///
    /// # Errors
    /// [`StreamerError::Unknown`], [`StreamerError::NoOutput`], [`StreamerError::NotLive`].
    pub fn sdp(&self, id: u64) -> Result<String, StreamerError> {
        let sessions = self.lock();
        let entry = sessions.1.get(&id).ok_or(StreamerError::Unknown(id))?;
        match &entry.side {
            Side::In(_) => Err(StreamerError::NoOutput(id)),
            Side::Out(shared) => {
                let stream = || StreamerError::NotLive(entry.stream.clone());
                shared.sdp().ok_or_else(stream)
            }
        }
    }

    fn broadcast(&self) -> &Broadcast {
        self.0.ingests.broadcast()
    }

    fn info(&self, id: u64) -> Option<StreamerInfo> {
        self.lock().1.get(&id).map(|entry| entry.info(id))
    }

    fn enter(
        &self,
        stream: String,
        side: Side,
        stop: CancellationToken,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> Result<StreamerInfo, StreamerError> {
        let mut sessions = self.lock();
        let (last, all) = &mut *sessions;
        forget_ended(all);
        if all.len() >= MAX_SESSIONS {
            return Err(StreamerError::TooMany(MAX_SESSIONS));
        }
        *last += 1;
        let entry = Entry {
            stream,
            side,
            stop,
            task: tokio::spawn(run),
            created: Instant::now(),
        };
        let info = entry.info(*last);
        all.insert(*last, entry);
        Ok(info)
    }

    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Entry>)> {
        self.0
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn info(&self, id: u64) -> StreamerInfo {
        let (mut receives, mut sends) = (None, None);
        let direction = match &self.side {
            Side::In(shared) => {
                let info = shared.lock().unwrap_or_else(PoisonError::into_inner);
                receives = Some(info.clone());
                "in"
            }
            Side::Out(shared) => {
                sends = Some(shared.state());
                "out"
            }
        };
        StreamerInfo {
            id,
            stream: self.stream.clone(),
            direction,
            receives,
            sends,
            sdp: None,
            age_s: self.created.elapsed().as_secs(),
        }
    }
}

/// Those whose stream was stopped.
fn forget_ended(sessions: &mut BTreeMap<u64, Entry>) {
    sessions.retain(|_, entry| !entry.task.is_finished());
}

fn interface(name: Option<&str>) -> Result<Interface, StreamerError> {
    let found = name.map(Interface::find).transpose()?;
    Ok(found.unwrap_or_default())
}
