//! The control plane's handle on the shards: starts them, commands them, hears from them.
//!
//! [`Engine`] also keeps the subscription table: which rendition is served on which shards. It
//! may take locks and wait for room in a ring; the shards know nothing of either.

mod commands;
mod local;

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam::channel;
use rtrb::{Consumer, PushError};

use crate::command::Command;
use crate::counters::ShardCounters;
use crate::event::Event;
use crate::forwarding::Forwarding;
use crate::ids::{OutgoingTrackId, ProducerId, RenditionId, ShardId, TransportId};
use crate::io::Io;
use crate::io::uring::{Grants, StartError, UringConfig, UringIo, Waker, cores, pin_to_core};
use crate::limits::{MAX_LAYER_RENDITIONS, MAX_SHARDS, MAX_TAPS_PER_SHARD};
use crate::producer::Entrance;
use crate::shard::Shard;
use crate::shard::links::{ControlEnds, Links, ShardWaker, connect};
use crate::subscriptions::{Step, Subscriptions};

/// How long a command may wait for room in a shard's ring before the shard counts as stuck.
const COMMAND_PATIENCE: Duration = Duration::from_secs(1);

/// How long a shard that has ended tries to say so to a control plane that does not listen.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How an engine is started.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Address the sockets are bound to; `::` serves IPv4 too.
    pub address: IpAddr,
    /// Port of the first shard; shard `n` has this plus `n`. 0 lets the kernel choose each.
    pub base_port: u16,
    /// How many shards to run.
    pub shards: usize,
    /// Size asked for each socket's receive buffer, in bytes.
    pub receive_buffer_bytes: usize,
    /// Size asked for each socket's send buffer, in bytes.
    pub send_buffer_bytes: usize,
    /// How the shards forward.
    pub forwarding: Forwarding,
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineStartError {
    /// A number of shards that makes no sense.
    #[error("{0} shards asked for; choose 1 to {MAX_SHARDS}")]
    ShardCount(usize),
    /// The ports run out of the 16 bits they have.
    #[error("shard {shard} would need a port above 65535; choose a lower base port")]
    PortRange {
        /// The first shard without a port.
        shard: usize,
    },
    /// A shard could not open its network.
    #[error("shard {shard} on {address}: {source}")]
    Shard {
        /// Which shard.
        shard: usize,
        /// What it tried to bind.
        address: SocketAddr,
        /// What was in the way.
        source: StartError,
    },
    /// The operating system gave no thread.
    #[error("cannot start a thread for shard {shard}: {source}; raise the limit of processes")]
    Thread {
        /// Which shard.
        shard: usize,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a command was not given.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineError {
    /// The shard has taken no command for a second.
    #[error("shard {0} does not take commands; it is overloaded or has stopped")]
    ShardStuck(ShardId),
    /// No such shard.
    #[error("there is no shard {0}")]
    UnknownShard(ShardId),
    /// No such transport.
    #[error("there is no transport {0}")]
    UnknownTransport(TransportId),
    /// No such rendition.
    #[error("there is no rendition {0}; its publisher has gone")]
    UnknownRendition(RenditionId),
    /// No such producer.
    #[error("there is no producer {0}; it was removed before")]
    UnknownProducer(ProducerId),
    /// The rendition's shard has as many taps as it may have.
    #[error("shard {0} has {MAX_TAPS_PER_SHARD} taps and takes no more; end one first")]
    TooManyTaps(ShardId),
    /// The rendition has as many renditions of its layers as it may have.
    #[error("rendition {0} has {MAX_LAYER_RENDITIONS} renditions of its layers and gets no more")]
    TooManyLayers(RenditionId),
    /// No such outgoing track.
    #[error("there is no outgoing track {0}; its viewer has gone")]
    UnknownOutgoingTrack(OutgoingTrackId),
}

/// What a shard runs on.
#[derive(Debug, Clone)]
pub struct ShardReport {
    /// Which shard.
    pub shard: ShardId,
    /// The core it is pinned to, if that was possible.
    pub core: Option<usize>,
    /// What the kernel granted.
    pub grants: Grants,
}

struct ShardHandle {
    commands: Mutex<rtrb::Producer<Command>>,
    entrance: Entrance,
    counters: Arc<ShardCounters>,
    /// Of the renditions at home there.
    taps: Arc<AtomicUsize>,
}

struct Inner {
    shards: Vec<ShardHandle>,
    reports: Vec<ShardReport>,
    subscriptions: Mutex<Subscriptions>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A running data plane; clones share it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("shards", &self.0.shards.len())
            .finish_non_exhaustive()
    }
}

/// Ends the wait of the thread that receives events.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventWaker(Arc<OnceLock<Thread>>);

impl EventWaker {
    /// Never blocks: unparking is an atomic swap, and a futex wake if the thread sleeps.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// What the shards tell. Belongs to one thread.
pub struct Events {
    rings: Vec<Consumer<Event>>,
    waker: EventWaker,
    next: usize,
}

impl Events {
    /// The next event, waiting at most until `deadline`. Always call it from the same thread: the
    /// shards wake the one that called first.
    pub fn recv_deadline(&mut self, deadline: Instant) -> Option<Event> {
        self.waker.0.get_or_init(std::thread::current);
        loop {
            if let Some(event) = self.try_recv() {
                return Some(event);
            }
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            std::thread::park_timeout(deadline - now);
        }
    }

    /// The next event if there is one; takes the shards in turn.
    pub fn try_recv(&mut self) -> Option<Event> {
        for _ in 0..self.rings.len() {
            let shard = self.next;
            self.next = (self.next + 1) % self.rings.len();
            if let Ok(event) = self.rings[shard].pop() {
                return Some(event);
            }
        }
        None
    }
}

/// What a shard's thread says when its network is open, or is not.
type Opened = Result<(Waker, Option<usize>, Grants), StartError>;

impl Engine {
    /// Starts the shards, each on a thread of its own.
    ///
    /// # Errors
    /// [`EngineStartError`]; nothing keeps running then.
    pub fn start(config: &EngineConfig) -> Result<(Self, Events), EngineStartError> {
        if config.shards == 0 || config.shards > MAX_SHARDS {
            return Err(EngineStartError::ShardCount(config.shards));
        }
        let cores = cores();
        let mut threads = Vec::new();
        let mut starting = Vec::new();
        for shard in 0..config.shards {
            let address = shard_address(config, shard)?;
            let core = cores.get(shard % cores.len().max(1)).copied();
            let (opened_tx, opened) = channel::bounded::<Opened>(1);
            let (links_tx, links) = channel::bounded::<Links>(1);
            let network = UringConfig {
                receive_buffer_bytes: config.receive_buffer_bytes,
                send_buffer_bytes: config.send_buffer_bytes,
                ..UringConfig::new(address)
            };
            let forwarding = config.forwarding.of_shard(shard);
            let thread = std::thread::Builder::new()
                .name(format!("shard-{shard}"))
                .spawn(move || shard_thread(network, core, &opened_tx, &links, forwarding))
                .map_err(|source| EngineStartError::Thread { shard, source })?;
            threads.push(thread);
            starting.push((address, opened, links_tx));
        }
        let mut wakers = Vec::new();
        let mut reports = Vec::new();
        for (shard, (address, opened, _)) in starting.iter().enumerate() {
            let opened = opened.recv().unwrap_or_else(|_| {
                let source = std::io::Error::other("it ended");
                Err(StartError::Other {
                    step: "shard thread",
                    source,
                })
            });
            let (waker, core, grants) = opened.map_err(|source| EngineStartError::Shard {
                shard,
                address: *address,
                source,
            })?;
            wakers.push(ShardWaker::Network(waker));
            reports.push(ShardReport {
                shard: ShardId(shard as u16),
                core,
                grants,
            });
        }
        let events_waker = EventWaker::default();
        let (links, ends) = connect(wakers, &events_waker);
        for ((_, _, to_thread), links) in starting.iter().zip(links) {
            // A thread that died meanwhile is noticed by its commands not being taken.
            let _ = to_thread.send(links);
        }
        Ok(Self::over(ends, events_waker, reports, threads))
    }

    /// Shards over networks of the caller's, who turns them: for the simulated network
    /// ([`SimEngine`](crate::sim::SimEngine)) and for measuring. No thread is started and no kernel
    /// asked, so there are no [`reports`](Self::reports).
    ///
    /// A command waits in its shard's ring until the shard is turned. When
    /// [`COMMAND_RING_MESSAGES`](crate::limits::COMMAND_RING_MESSAGES) wait, the next one is
    /// refused after a second, for nobody turns the shard meanwhile.
    ///
    /// # Panics
    /// When there are more than [`MAX_SHARDS`] networks.
    pub fn assemble<I: Io>(
        networks: Vec<I>,
        forwarding: Forwarding,
    ) -> (Self, Events, Vec<Shard<I>>) {
        assert!(
            networks.len() <= MAX_SHARDS,
            "an engine has {MAX_SHARDS} shards at most"
        );
        let events_waker = EventWaker::default();
        let wakers = networks.iter().map(|_| ShardWaker::Turned).collect();
        let (links, ends) = connect(wakers, &events_waker);
        let shards = networks.into_iter().zip(links).enumerate();
        let shards = shards
            .map(|(shard, (io, links))| Shard::new(io, links, forwarding.of_shard(shard)))
            .collect();
        let (engine, events) = Self::over(ends, events_waker, Vec::new(), Vec::new());
        (engine, events, shards)
    }

    fn over(
        ends: Vec<ControlEnds>,
        events_waker: EventWaker,
        reports: Vec<ShardReport>,
        threads: Vec<JoinHandle<()>>,
    ) -> (Self, Events) {
        let (shards, rings) = ends
            .into_iter()
            .map(|end| {
                let commands = Mutex::new(end.commands);
                (
                    ShardHandle {
                        commands,
                        entrance: end.entrance,
                        counters: end.counters,
                        taps: Arc::default(),
                    },
                    end.events,
                )
            })
            .unzip();
        let inner = Inner {
            shards,
            reports,
            subscriptions: Mutex::new(Subscriptions::default()),
            threads: Mutex::new(threads),
        };
        let events = Events {
            rings,
            waker: events_waker,
            next: 0,
        };
        (Self(Arc::new(inner)), events)
    }

    /// What each shard runs on; empty when it was [assembled](Self::assemble).
    pub fn reports(&self) -> &[ShardReport] {
        &self.0.reports
    }

    /// The counters of a shard.
    pub fn counters(&self, shard: ShardId) -> Option<&ShardCounters> {
        self.0
            .shards
            .get(usize::from(shard.0))
            .map(|shard| &*shard.counters)
    }

    fn table(&self) -> MutexGuard<'_, Subscriptions> {
        lock(&self.0.subscriptions)
    }

    fn send(&self, shard: ShardId, mut command: Command) -> Result<(), EngineError> {
        let handle = self.0.shards.get(usize::from(shard.0));
        let handle = handle.ok_or(EngineError::UnknownShard(shard))?;
        let mut ring = lock(&handle.commands);
        let deadline = Instant::now() + COMMAND_PATIENCE;
        while let Err(PushError::Full(back)) = ring.push(command) {
            if Instant::now() > deadline || ring.is_abandoned() {
                return Err(EngineError::ShardStuck(shard));
            }
            command = back;
            handle.entrance.waker.wake();
            std::thread::sleep(Duration::from_micros(200));
        }
        handle.entrance.waker.wake();
        Ok(())
    }

    /// Sends a command about a peer to its shard. The table is held meanwhile, so that the peer is
    /// not removed before the command.
    fn send_to_transport(&self, id: TransportId, command: Command) -> Result<(), EngineError> {
        let table = self.table();
        self.send(table.shard_of(id)?, command)
    }

    /// Carries out a change of the table. The caller holds the table meanwhile, so that two
    /// changes reach the shards in the order in which they were made.
    fn send_all(&self, steps: Vec<Step>) -> Result<(), EngineError> {
        // A shard that is stuck must not keep the others from being told.
        let results = steps
            .into_iter()
            .map(|(shard, command)| self.send(shard, command));
        results.fold(Ok(()), Result::and)
    }

    /// Says BYE to every peer and ends the shards. What is left of `patience` when a shard does
    /// not end is not waited for.
    pub fn stop(&self, patience: Duration) {
        for shard in 0..self.0.shards.len() {
            // A shard that takes no commands any more needs no telling.
            let _ = self.send(ShardId(shard as u16), Command::Stop);
        }
        let deadline = Instant::now() + patience;
        for thread in std::mem::take(&mut *lock(&self.0.threads)) {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // A panic was already printed by the thread.
                let _ = thread.join();
            }
        }
    }
}

fn shard_address(config: &EngineConfig, shard: usize) -> Result<SocketAddr, EngineStartError> {
    let port = match config.base_port {
        0 => Some(0),
        base => u16::try_from(shard)
            .ok()
            .and_then(|shard| base.checked_add(shard)),
    };
    let port = port.ok_or(EngineStartError::PortRange { shard })?;
    Ok(SocketAddr::new(config.address, port))
}

fn shard_thread(
    network: UringConfig,
    core: Option<usize>,
    opened: &channel::Sender<Opened>,
    links: &channel::Receiver<Links>,
    forwarding: Forwarding,
) {
    let core = core.filter(|core| pin_to_core(*core).is_ok());
    let io = match UringIo::open(network) {
        Ok((io, grants)) => {
            let _ = opened.send(Ok((io.waker(), core, grants)));
            io
        }
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    // No links come when another shard failed to start.
    let Ok(links) = links.recv() else { return };
    let mut shard = Shard::new(io, links, forwarding);
    // A panic is a bug; the control plane must hear of it all the same, to end the process.
    let error = match catch_unwind(AssertUnwindSafe(|| shard.run())) {
        Ok(ended) => ended.err().map(|error| error.to_string()),
        Err(_) => Some("it panicked".to_owned()),
    };
    let mut told = shard.report_stop(error);
    let deadline = Instant::now() + STOP_PATIENCE;
    while !told && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
        told = shard.flush_events();
    }
}

/// The lock, whatever a thread that held it did: no invariant spans a panic here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
