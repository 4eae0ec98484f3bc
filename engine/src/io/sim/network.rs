//! The inside of the simulated network: who is bound, what is on its way, and what chance does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;

use super::prng::SplitMix64;

/// Datagrams that may wait at one address; more are dropped, as a full socket buffer would.
const INBOX_DATAGRAMS: usize = 65_536;

/// How much longer than its link's delay a reordered datagram takes at most.
const REORDER_HOLD_US: u64 = 5_000;

/// How one direction of a link treats datagrams. The default is perfect and immediate.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkConditions {
    /// Probability that a datagram is lost.
    pub loss: f64,
    /// Probability that it arrives twice.
    pub duplicate: f64,
    /// Probability that it is held back by up to 5 ms more, so that later ones overtake it. The
    /// others keep their order.
    pub reorder: f64,
    /// Time it takes at least.
    pub delay_us: u64,
    /// Additional time, uniform from 0 to this.
    pub jitter_us: u64,
    /// Bits of datagrams that pass in a second, one after the other; 0: all at once.
    pub bandwidth_bps: u64,
    /// With a bandwidth: for how long a datagram may have to wait for others; it is lost otherwise.
    pub max_queue_us: u64,
}

impl LinkConditions {
    pub(super) fn check(&self) {
        for probability in [self.loss, self.duplicate, self.reorder] {
            assert!(
                (0.0..=1.0).contains(&probability),
                "no probability: {probability}"
            );
        }
    }
}

/// What has happened to datagrams, each segment of a train counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimStats {
    /// Sent by someone.
    pub sent: u64,
    /// Put where their receiver finds them, duplicates included.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Doubled by chance.
    pub duplicated: u64,
    /// Held back by chance.
    pub reordered: u64,
    /// Dropped because nobody was bound to the destination when they arrived.
    pub unreachable: u64,
    /// Dropped because the receiver had let too many pile up.
    pub overflowed: u64,
}

/// A datagram with its sender.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) from: SocketAddr,
    pub(super) payload: Vec<u8>,
    pub(super) arrival_us: u64,
}

/// A datagram on its way. Ordered by arrival, then by the order of sending.
#[derive(Debug)]
struct Flight {
    number: u64,
    to: SocketAddr,
    envelope: Envelope,
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |flight: &Self| (flight.envelope.arrival_us, flight.number);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flight {}

/// From whom to whom.
type Link = (SocketAddr, SocketAddr);

/// Everything behind the lock. Hash maps are only looked into by key: their order is random.
#[derive(Debug)]
pub(super) struct Network {
    now_us: u64,
    chance: SplitMix64,
    default_conditions: LinkConditions,
    conditions: HashMap<Link, LinkConditions>,
    /// Arrival of the last datagram in order, by link: the next one may not come before it.
    last_arrival_us: HashMap<Link, u64>,
    /// When all that was sent over a link with a bandwidth has passed.
    passed_us: HashMap<Link, u64>,
    flights: BinaryHeap<Reverse<Flight>>,
    next_number: u64,
    inboxes: HashMap<SocketAddr, VecDeque<Envelope>>,
    stats: SimStats,
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now_us: 0,
            chance: SplitMix64::new(seed),
            default_conditions: LinkConditions::default(),
            conditions: HashMap::new(),
            last_arrival_us: HashMap::new(),
            passed_us: HashMap::new(),
            flights: BinaryHeap::new(),
            next_number: 0,
            inboxes: HashMap::new(),
            stats: SimStats::default(),
        }
    }

    pub(super) fn bind(&mut self, address: SocketAddr) {
        let taken = self.inboxes.insert(address, VecDeque::new()).is_some();
        assert!(
            !taken,
            "the address {address} is in use in the simulated network"
        );
    }

    pub(super) fn unbind(&mut self, address: SocketAddr) {
        self.inboxes.remove(&address);
    }

    pub(super) fn now_us(&self) -> u64 {
        self.now_us
    }

    pub(super) fn stats(&self) -> SimStats {
        self.stats
    }

    pub(super) fn set_default_conditions(&mut self, conditions: LinkConditions) {
        self.default_conditions = conditions;
    }

    pub(super) fn set_conditions(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        conditions: LinkConditions,
    ) {
        self.conditions.insert((from, to), conditions);
    }

    pub(super) fn next_arrival_us(&self) -> Option<u64> {
        let first = self.flights.peek();
        first.map(|Reverse(flight)| flight.envelope.arrival_us)
    }

    pub(super) fn advance(&mut self, us: u64) {
        self.now_us += us;
        self.deliver();
    }

    pub(super) fn receive(&mut self, address: SocketAddr) -> Option<Envelope> {
        self.inboxes.get_mut(&address)?.pop_front()
    }

    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        self.stats.sent += 1;
        let link = (from, to);
        let conditions = *self
            .conditions
            .get(&link)
            .unwrap_or(&self.default_conditions);
        let lost = self.chance.chance(conditions.loss);
        let duplicated = self.chance.chance(conditions.duplicate);
        let queued_us = self.queue(link, &conditions, payload.len());
        let Some(queued_us) = queued_us.filter(|_| !lost) else {
            self.stats.lost += 1;
            return;
        };
        self.stats.duplicated += u64::from(duplicated);
        for _ in 0..1 + u8::from(duplicated) {
            let arrival_us = self.arrival_us(link, &conditions, queued_us);
            let envelope = Envelope {
                from,
                payload: payload.to_vec(),
                arrival_us,
            };
            let number = self.next_number;
            self.next_number += 1;
            self.flights.push(Reverse(Flight {
                number,
                to,
                envelope,
            }));
        }
        // What takes no time is there at once.
        self.deliver();
    }

    /// How long a datagram takes to pass a link's bandwidth, behind those before it; `None` if there
    /// is no room for it.
    fn queue(&mut self, link: Link, conditions: &LinkConditions, bytes: usize) -> Option<u64> {
        if conditions.bandwidth_bps == 0 {
            return Some(0);
        }
        let passed_us = self.passed_us.entry(link).or_insert(0);
        let begins_us = self.now_us.max(*passed_us);
        if begins_us - self.now_us > conditions.max_queue_us {
            return None;
        }
        *passed_us = begins_us + bytes as u64 * 8_000_000 / conditions.bandwidth_bps;
        Some(*passed_us - self.now_us)
    }

    fn arrival_us(&mut self, link: Link, conditions: &LinkConditions, queued_us: u64) -> u64 {
        let jitter_us = self.chance.up_to(conditions.jitter_us);
        let arrival_us = self.now_us + queued_us + conditions.delay_us + jitter_us;
        let hold_us = 1 + self.chance.up_to(REORDER_HOLD_US - 1);
        if self.chance.chance(conditions.reorder) {
            self.stats.reordered += 1;
            return arrival_us + hold_us;
        }
        // Jitter stretches the gaps between datagrams; only reordering changes their order.
        let last_us = self.last_arrival_us.entry(link).or_insert(0);
        *last_us = arrival_us.max(*last_us);
        *last_us
    }

    fn deliver(&mut self) {
        while self
            .next_arrival_us()
            .is_some_and(|arrival_us| arrival_us <= self.now_us)
        {
            let Some(Reverse(flight)) = self.flights.pop() else {
                return;
            };
            let (inbox, stats) = (self.inboxes.get_mut(&flight.to), &mut self.stats);
            match inbox {
                None => stats.unreachable += 1,
                Some(inbox) if inbox.len() >= INBOX_DATAGRAMS => stats.overflowed += 1,
                Some(inbox) => {
                    inbox.push_back(flight.envelope);
                    stats.delivered += 1;
                }
            }
        }
    }
}
