//! A simulated network with a virtual clock, for tests of the whole shard loop.
//!
//! A [`SimNetwork`] connects shards ([`SimIo`], an [`Io`]) and hand-driven peers ([`SimPeer`])
//! over links that lose, duplicate, reorder and delay as told. Time passes only in
//! [`SimNetwork::advance`], and all chance comes from the seed: the same calls give the same
//! result, bit for bit. It touches no real network and no real clock, and never sleeps; it is
//! slow where the real backend is fast (it allocates every datagram).

mod network;
mod prng;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Datagram, Io, IoError, MAX_STRETCH_BYTES, MAX_TRAIN_BYTES, MAX_TRAIN_SEGMENTS, Rx, Tx,
};

pub use network::{LinkConditions, SimStats};

use network::{Envelope, Network};

/// The network. Clones are the same network.
#[derive(Debug, Clone)]
pub struct SimNetwork {
    shared: Arc<Mutex<Network>>,
}

impl SimNetwork {
    /// An empty network at time 0, whose links are perfect and immediate.
    pub fn new(seed: u64) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Network::new(seed))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        // A test that panicked elsewhere has failed already; what is in here is still consistent.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket bound to `address`, for a shard.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn socket(&self, address: SocketAddr) -> SimIo {
        self.lock().bind(address);
        let binding = Arc::new(Binding {
            network: self.clone(),
            address,
        });
        SimIo {
            rx: SimRx {
                collected: VecDeque::new(),
            },
            tx: SimTx {
                binding,
                stretch: Vec::new(),
                committed: Vec::new(),
                least_train: Some(2),
                datagram_cost_ns: 0,
                busy_until_us: 0,
                spent_ns: 0,
            },
            coalesce: false,
        }
    }

    /// A socket bound to `address`, for a test's own hands.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn peer(&self, address: SocketAddr) -> SimPeer {
        self.lock().bind(address);
        SimPeer {
            binding: Binding {
                network: self.clone(),
                address,
            },
        }
    }

    /// Lets time pass; what is due by then arrives.
    pub fn advance(&self, us: u64) {
        self.lock().advance(us);
    }

    /// The virtual time in microseconds.
    pub fn now_us(&self) -> u64 {
        self.lock().now_us()
    }

    /// When the next datagram on its way arrives; `None` when there is none. A test may advance
    /// just so far.
    pub fn next_arrival_us(&self) -> Option<u64> {
        self.lock().next_arrival_us()
    }

    /// Sets the conditions of every link that has none of its own.
    ///
    /// # Panics
    /// When a probability is not between 0 and 1.
    pub fn set_default_conditions(&self, conditions: LinkConditions) {
        conditions.check();
        self.lock().set_default_conditions(conditions);
    }

    /// Sets the conditions of the way from one address to another, for what is sent from now on.
    ///
    /// # Panics
    /// When a probability is not between 0 and 1.
    pub fn set_conditions(&self, from: SocketAddr, to: SocketAddr, conditions: LinkConditions) {
        conditions.check();
        self.lock().set_conditions(from, to, conditions);
    }

    /// What has happened to datagrams so far.
    pub fn stats(&self) -> SimStats {
        self.lock().stats()
    }
}

/// An address held in the network; released with its owner.
#[derive(Debug)]
struct Binding {
    network: SimNetwork,
    address: SocketAddr,
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.network.lock().unbind(self.address);
    }
}

/// A client driven by a test's own hands.
#[derive(Debug)]
pub struct SimPeer {
    binding: Binding,
}

impl SimPeer {
    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.binding.address
    }

    /// Sends one datagram.
    pub fn send(&self, to: SocketAddr, payload: &[u8]) {
        self.binding
            .network
            .lock()
            .send(self.binding.address, to, payload);
    }

    /// The next datagram that has arrived by now, with its sender.
    pub fn receive(&self) -> Option<(SocketAddr, Vec<u8>)> {
        let envelope = self.binding.network.lock().receive(self.binding.address)?;
        Some((envelope.from, envelope.payload))
    }
}

/// A shard's socket in the simulated network.
#[derive(Debug)]
pub struct SimIo {
    rx: SimRx,
    tx: SimTx,
    coalesce: bool,
}

impl SimIo {
    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.tx.binding.address
    }

    /// What a datagram costs whoever sends it through this socket, in nanoseconds: so much of its
    /// time passes, and until the others' time has caught up it neither receives nor sends. Nothing
    /// by default: an infinitely fast machine.
    pub fn set_datagram_cost_ns(&mut self, cost_ns: u64) {
        self.tx.datagram_cost_ns = cost_ns;
    }

    /// From how many packets on trains are worth forming; 2 unless told, `None`: never.
    pub fn set_least_train(&mut self, packets: Option<usize>) {
        self.tx.least_train = packets;
    }

    /// Until when its owner is at work on what it sent; not after the network's time: it is idle.
    pub fn busy_until_us(&self) -> u64 {
        self.tx.now_us()
    }

    /// Whether consecutive datagrams from one sender are handed over as trains, as the kernel does
    /// with `UDP_GRO`. They are not, unless told so.
    pub fn set_coalescing(&mut self, coalesce: bool) {
        self.coalesce = coalesce;
    }
}

impl Io for SimIo {
    type Rx = SimRx;
    type Tx = SimTx;

    fn now_us(&self) -> u64 {
        self.tx.now_us()
    }

    /// Collects what has arrived by now. Never waits: the test lets time pass.
    fn poll(&mut self, _deadline_us: Option<u64>) -> Result<(), IoError> {
        let binding = &self.tx.binding;
        let mut network = binding.network.lock();
        self.tx.busy_until_us = self.tx.busy_until_us.max(network.now_us());
        while let Some(envelope) = network.receive(binding.address) {
            self.rx.collect(envelope, self.coalesce);
        }
        Ok(())
    }

    /// As [`Io::poll`]: the test lets time pass.
    fn nap(&mut self, _us: u64) -> Result<(), IoError> {
        self.poll(None)
    }

    fn split(&mut self) -> (&mut SimRx, &mut SimTx) {
        (&mut self.rx, &mut self.tx)
    }
}

/// What a [`SimIo`] has collected.
#[derive(Debug)]
pub struct SimRx {
    collected: VecDeque<Train>,
}

/// A datagram, or several coalesced.
#[derive(Debug)]
struct Train {
    from: SocketAddr,
    payload: Vec<u8>,
    segment_bytes: usize,
    segments: usize,
    arrival_us: u64,
}

impl Train {
    /// Whether `next` may join: same sender, no longer than the others, and only behind full ones
    /// (net/ipv4/udp_offload.c `udp_gro_receive_segment`).
    fn takes(&self, next: &Envelope) -> bool {
        let full = self.payload.len() == self.segments * self.segment_bytes;
        self.from == next.from
            && full
            && (1..=self.segment_bytes).contains(&next.payload.len())
            && self.segments < MAX_TRAIN_SEGMENTS
            && self.payload.len() + next.payload.len() <= MAX_TRAIN_BYTES
    }
}

impl SimRx {
    fn collect(&mut self, envelope: Envelope, coalesce: bool) {
        if coalesce
            && let Some(train) = self.collected.back_mut()
            && train.takes(&envelope)
        {
            train.payload.extend_from_slice(&envelope.payload);
            train.segments += 1;
            return;
        }
        let Envelope {
            from,
            payload,
            arrival_us,
        } = envelope;
        let segment_bytes = payload.len();
        self.collected.push_back(Train {
            from,
            payload,
            segment_bytes,
            segments: 1,
            arrival_us,
        });
    }
}

impl Rx for SimRx {
    fn drain(&mut self, mut handle: impl FnMut(Datagram<'_>)) {
        for mut train in self.collected.drain(..) {
            handle(Datagram {
                source: train.from,
                payload: &mut train.payload,
                segment_bytes: train.segment_bytes,
                received_us: train.arrival_us,
            });
        }
    }
}

/// The sending half of a [`SimIo`].
#[derive(Debug)]
pub struct SimTx {
    binding: Arc<Binding>,
    stretch: Vec<u8>,
    committed: Vec<(SocketAddr, Vec<u8>)>,
    least_train: Option<usize>,
    datagram_cost_ns: u64,
    busy_until_us: u64,
    /// Less than a microsecond.
    spent_ns: u64,
}

impl SimTx {
    fn spend(&mut self, datagrams: u64) {
        self.spent_ns += datagrams * self.datagram_cost_ns;
        self.busy_until_us += self.spent_ns / 1000;
        self.spent_ns %= 1000;
    }
}

impl Tx for SimTx {
    fn reserve(&mut self, len: usize) -> &mut [u8] {
        assert!(
            len <= MAX_STRETCH_BYTES,
            "a reservation is larger than any stretch"
        );
        self.stretch.clear();
        self.stretch.resize(len, 0);
        &mut self.stretch
    }

    fn commit_part(
        &mut self,
        destination: SocketAddr,
        start: usize,
        len: usize,
        segment_bytes: Option<u16>,
    ) {
        assert!(
            len <= MAX_TRAIN_BYTES && start + len <= self.stretch.len(),
            "more is committed than was reserved, or than a datagram holds"
        );
        let segments = segment_bytes.map_or(1, |bytes| len.div_ceil(usize::from(bytes.max(1))));
        self.spend(segments as u64);
        let payload = &self.stretch[start..start + len];
        match segment_bytes.map(usize::from) {
            Some(bytes) if (1..len).contains(&bytes) => {
                let segments = payload
                    .chunks(bytes)
                    .map(|chunk| (destination, chunk.to_vec()));
                self.committed.extend(segments);
            }
            _ => self.committed.push((destination, payload.to_vec())),
        }
    }

    fn now_us(&self) -> u64 {
        self.binding.network.now_us().max(self.busy_until_us)
    }

    fn untaken(&self) -> u64 {
        0
    }

    fn least_train(&self) -> Option<usize> {
        self.least_train
    }

    fn flush(&mut self) {
        let mut network = self.binding.network.lock();
        for (destination, payload) in self.committed.drain(..) {
            network.send(self.binding.address, destination, &payload);
        }
    }
}
