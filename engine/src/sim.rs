//! The whole data plane in the simulated network, on the caller's thread and in virtual time.
//!
//! [`SimEngine`] runs the very shards that [`Engine::start`] runs, over [`SimNetwork`] instead of
//! sockets, and is commanded through the same [`Engine`]. Tests of the engine and of the control
//! plane use it; it never sleeps, and the same calls give the same packets. It is not for
//! production: the network it runs on allocates every datagram.

use std::net::SocketAddr;

use crate::engine::{Engine, Events};
use crate::forwarding::Forwarding;
use crate::ids::ShardId;
use crate::io::sim::{SimIo, SimNetwork};
use crate::shard::{Flow, Shard};

/// Turns after which shards that still have something to do at one moment count as spinning.
const MAX_TURNS_AT_ONCE: usize = 10_000;

/// An engine whose time passes only when told.
pub struct SimEngine {
    network: SimNetwork,
    addresses: Vec<SocketAddr>,
    engine: Engine,
    events: Events,
    /// `None` once a shard was told to stop.
    shards: Vec<Option<Shard<SimIo>>>,
}

impl SimEngine {
    /// An engine with one shard at each address.
    ///
    /// # Panics
    /// When an address is taken, or there are more than [`MAX_SHARDS`](crate::limits::MAX_SHARDS).
    pub fn new(network: &SimNetwork, addresses: &[SocketAddr], forwarding: Forwarding) -> Self {
        let sockets = addresses.iter().map(|address| network.socket(*address));
        let (engine, events, shards) = Engine::assemble(sockets.collect(), forwarding);
        Self {
            network: network.clone(),
            addresses: addresses.to_vec(),
            engine,
            events,
            shards: shards.into_iter().map(Some).collect(),
        }
    }

    /// What commands the shards. A command is carried out at the next [`settle`](Self::settle) or
    /// [`run_for`](Self::run_for).
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the shards tell; ask it with [`Events::try_recv`].
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Where a shard is reached.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn address(&self, shard: ShardId) -> SocketAddr {
        self.addresses[usize::from(shard.0)]
    }

    /// A shard's socket; `None` once it has stopped.
    pub fn socket(&mut self, shard: ShardId) -> Option<&mut SimIo> {
        Some(self.shards.get_mut(usize::from(shard.0))?.as_mut()?.io())
    }

    /// Turns every shard until none has anything left to do at the present moment.
    ///
    /// # Panics
    /// When they never come to an end.
    pub fn settle(&mut self) {
        for _ in 0..MAX_TURNS_AT_ONCE {
            self.turn();
            let now_us = self.network.now_us();
            let mut shards = self.shards.iter().flatten();
            if !shards.any(|shard| shard.has_work_waiting() && !is_busy(shard, now_us)) {
                return;
            }
        }
        panic!("the shards give each other work for ever");
    }

    /// Lets `us` microseconds pass, turning the shards whenever a datagram arrives anywhere or a
    /// timer is due.
    pub fn run_for(&mut self, us: u64) {
        let end_us = self.network.now_us() + us;
        self.settle();
        while self.network.now_us() < end_us {
            let timers = self
                .shards
                .iter()
                .flatten()
                .filter_map(Shard::next_timer_us);
            let now_us = self.network.now_us();
            // One that is at work looks at nothing else before it is done.
            let timers = timers.filter(|us| *us > now_us);
            let next_us = timers
                .chain(self.network.next_arrival_us())
                .chain(self.busy_until_us())
                .fold(end_us, u64::min);
            self.network.advance(next_us.saturating_sub(now_us));
            self.settle();
        }
    }

    /// When the first of the shards that are at work is done.
    fn busy_until_us(&self) -> Option<u64> {
        let now_us = self.network.now_us();
        let shards = self.shards.iter().flatten();
        let busy = shards.filter(|shard| is_busy(shard, now_us));
        busy.map(|shard| shard.io_ref().busy_until_us()).min()
    }

    /// Turns every shard once that is not at work still, whether there is anything left to do or
    /// not.
    pub fn turn(&mut self) {
        let now_us = self.network.now_us();
        for place in &mut self.shards {
            let Some(shard) = place else { continue };
            if is_busy(shard, now_us) {
                continue;
            }
            let flow = shard.turn().expect("the simulated network does not break");
            if flow == Flow::Stop {
                shard.report_stop(None);
                *place = None;
            }
        }
    }
}

/// Whether a shard is still at work on what it sent (see [`SimIo::set_datagram_cost_ns`]).
fn is_busy(shard: &Shard<SimIo>, now_us: u64) -> bool {
    shard.io_ref().busy_until_us() > now_us
}
