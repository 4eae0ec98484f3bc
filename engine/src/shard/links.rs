//! The rings between shards, and between each shard and the control plane: single-producer,
//! single-consumer, bounded. Whoever finds one full drops or waits on its own side; nobody can
//! make a shard wait.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::command::Command;
use crate::counters::ShardCounters;
use crate::engine::EventWaker;
use crate::event::Event;
use crate::ids::{RenditionId, ShardId};
use crate::io::uring::Waker;
use crate::limits::{COMMAND_RING_MESSAGES, EVENT_RING_MESSAGES, POOL_SLOTS, SHARD_RING_MESSAGES};
use crate::pool::{Packet, PacketPool};
use crate::producer::{Entrance, Produced};
use crate::route::clock::SenderClock;

/// What shards tell each other.
#[derive(Debug)]
pub(crate) enum Message {
    /// A packet of a rendition, once per packet and shard.
    Packet {
        rendition: RenditionId,
        packet: Packet,
        /// From when on it waits for the shard that takes it.
        handed_over_us: u64,
    },
    /// What came of a rendition since its latest keyframe, for a shard that begins to serve it.
    Cached(RenditionId, Vec<Packet>),
    /// The frame cache of a rendition takes memory that is needed otherwise.
    DropCache(RenditionId),
    /// The publisher's clock.
    Clock(RenditionId, SenderClock),
    /// A viewer needs a keyframe.
    KeyframeRequest(RenditionId),
}

/// How a shard that waits is told to look at its rings.
#[derive(Debug, Clone)]
pub(crate) enum ShardWaker {
    /// It waits in its network's poll.
    Network(Waker),
    /// It never waits: whoever gives it work also turns it.
    Turned,
}

impl ShardWaker {
    /// Makes the current or the next poll return. Call it after the work is in the ring.
    pub(crate) fn wake(&self) {
        if let Self::Network(waker) = self {
            waker.wake();
        }
    }
}

/// One direction between two shards.
pub(crate) struct Outbox {
    pub(crate) ring: Producer<Message>,
    pub(crate) waker: ShardWaker,
    /// Something was pushed since the target was last woken.
    pub(crate) dirty: bool,
}

/// All a shard is connected to.
pub(crate) struct Links {
    pub(crate) id: ShardId,
    /// By shard number; `None` for the shard itself.
    pub(crate) outboxes: Vec<Option<Outbox>>,
    pub(crate) inboxes: Vec<Consumer<Message>>,
    pub(crate) commands: Consumer<Command>,
    pub(crate) events: Producer<Event>,
    pub(crate) events_waker: EventWaker,
    pub(crate) counters: Arc<ShardCounters>,
    /// Its packet slots, which producers take too.
    pub(crate) pool: PacketPool,
    pub(crate) produced: Arc<Produced>,
}

impl Links {
    /// Passes a message to another shard; `false` when its ring is full and the message lost.
    #[must_use]
    pub(crate) fn tell_shard(&mut self, shard: ShardId, message: Message) -> bool {
        let outbox = self.outboxes.get_mut(usize::from(shard.0));
        let Some(Some(outbox)) = outbox else {
            return true;
        };
        outbox.dirty = true;
        outbox.ring.push(message).is_ok()
    }

    /// Wakes the shards that have messages from this one.
    pub(crate) fn wake_others(&mut self) {
        for outbox in self.outboxes.iter_mut().flatten() {
            if std::mem::take(&mut outbox.dirty) {
                outbox.waker.wake();
            }
        }
    }
}

/// The control plane's ends of one shard's rings.
pub(crate) struct ControlEnds {
    pub(crate) commands: Producer<Command>,
    pub(crate) events: Consumer<Event>,
    pub(crate) counters: Arc<ShardCounters>,
    /// Where producers come in; with what wakes the shard.
    pub(crate) entrance: Entrance,
}

/// Connects one shard per waker with each other and with the control plane, which is woken by
/// `events_waker`.
pub(crate) fn connect(
    wakers: Vec<ShardWaker>,
    events_waker: &EventWaker,
) -> (Vec<Links>, Vec<ControlEnds>) {
    let count = wakers.len();
    let mut outboxes: Vec<Vec<Option<Outbox>>> = (0..count).map(|_| Vec::new()).collect();
    let mut inboxes: Vec<Vec<Consumer<Message>>> = (0..count).map(|_| Vec::new()).collect();
    for (from, outboxes) in outboxes.iter_mut().enumerate() {
        for (to, waker) in wakers.iter().enumerate() {
            if from == to {
                outboxes.push(None);
                continue;
            }
            let (ring, consumer) = RingBuffer::new(SHARD_RING_MESSAGES);
            outboxes.push(Some(Outbox {
                ring,
                waker: waker.clone(),
                dirty: false,
            }));
            inboxes[to].push(consumer);
        }
    }
    let ends = outboxes.into_iter().zip(inboxes).zip(wakers).enumerate();
    ends.map(|(number, ((outboxes, inboxes), waker))| {
        let (command_producer, commands) = RingBuffer::new(COMMAND_RING_MESSAGES);
        let (events, event_consumer) = RingBuffer::new(EVENT_RING_MESSAGES);
        let counters = Arc::new(ShardCounters::default());
        // Its slots are made by the shard's own thread.
        let pool = PacketPool::new(POOL_SLOTS, 0);
        let entrance = Entrance {
            pool: pool.handle(),
            produced: Arc::default(),
            waker,
        };
        let links = Links {
            id: ShardId(number as u16),
            outboxes,
            inboxes,
            commands,
            events,
            events_waker: events_waker.clone(),
            counters: Arc::clone(&counters),
            pool,
            produced: Arc::clone(&entrance.produced),
        };
        let control = ControlEnds {
            commands: command_producer,
            events: event_consumer,
            counters,
            entrance,
        };
        (links, control)
    })
    .unzip()
}
