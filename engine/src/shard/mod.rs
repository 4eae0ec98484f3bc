//! A shard: the loop that receives, opens, routes, seals and sends.
//!
//! One thread drives one [`Shard`]; nothing in it is shared but through the rings of
//! `links::Links`. The loop is generic over [`Io`], so the simulated network runs this very
//! code. A turn never waits for another thread, and does no system call but those of its [`Io`]
//! and the writes that wake a sleeping neighbour.

mod apply;
pub(crate) mod changes;
mod core;
mod demand;
pub(crate) mod estimates;
mod ice;
pub(crate) mod layers;
pub(crate) mod links;
mod newcomers;
mod outgoing;
mod overload;
pub(crate) mod peer;
mod periodic;
mod produced;
mod receive;
mod repair;
mod reports;
mod silence;
mod table;
mod taps;
mod transport;

use crate::counters::DropReason;
use crate::event::Event;
use crate::forwarding::Forwarding;
use crate::io::{Io, IoError, Rx, Tx};
use crate::limits::{COMMANDS_PER_TURN, GATHER_NAP_US, TICK_US};
use crate::shard::core::Core;
use crate::shard::links::{Links, Message};

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Turn again.
    Continue,
    /// The shard was told to stop and has said goodbye to its peers.
    Stop,
}

/// The data plane of one core.
pub struct Shard<I: Io> {
    io: I,
    core: Core,
    next_tick_us: u64,
    turns: u64,
}

impl<I: Io> Shard<I> {
    /// A shard without peers.
    pub(crate) fn new(io: I, links: Links, forwarding: Forwarding) -> Self {
        let next_tick_us = io.now_us() + TICK_US;
        Self {
            io,
            core: Core::new(links, forwarding),
            next_tick_us,
            turns: 0,
        }
    }

    /// Turns until told to stop.
    ///
    /// # Errors
    /// When the network backend is broken.
    pub fn run(&mut self) -> Result<(), IoError> {
        while self.turn()? == Flow::Continue {}
        Ok(())
    }

    /// Handles what is there, or waits for something to come.
    ///
    /// # Errors
    /// When the network backend is broken.
    pub fn turn(&mut self) -> Result<Flow, IoError> {
        match self.nap_us() {
            Some(us) => self.io.nap(us)?,
            None => self.io.poll(self.deadline())?,
        }
        let now_us = self.io.now_us();
        self.core.now_us = now_us;
        let core = &mut self.core;
        let (rx, tx) = self.io.split();
        // Commands come first: what a datagram or a neighbour's message is about may have been
        // commanded just before it was sent.
        let mut flow = Flow::Continue;
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = core.links.commands.pop() else {
                break;
            };
            core.unpublished = true;
            if core.apply(command, tx) == Flow::Stop {
                flow = Flow::Stop;
                break;
            }
        }
        if flow == Flow::Continue {
            rx.drain(|datagram| core.receive(datagram, tx));
            core.take_messages(tx);
            core.take_produced(tx);
            core.fan_out(tx);
            core.catch_up(tx);
        }
        if flow == Flow::Continue && now_us >= self.next_tick_us {
            core.drops.set(DropReason::NotTaken, tx.untaken());
            core.mind_overload(now_us);
            core.tick(tx);
            self.next_tick_us = now_us + TICK_US;
        }
        tx.flush();
        core.links.wake_others();
        core.wake_taps();
        self.turns += 1;
        core.links.counters.turns.set(self.turns);
        Ok(flow)
    }

    /// How long to sleep whatever comes: only while nothing is to be done but to wait for the rest
    /// of a frame.
    fn nap_us(&self) -> Option<u64> {
        let due_us = self.core.next_burst_us()?;
        let left_us = due_us.saturating_sub(self.io.now_us()).min(GATHER_NAP_US);
        (left_us > 0 && !self.core.has_work_waiting()).then_some(left_us)
    }

    fn deadline(&self) -> Option<u64> {
        if self.core.has_work_waiting() {
            return Some(0);
        }
        self.next_timer_us()
    }

    /// Tells the control plane that this shard has ended, and why if it was not told to. `false`
    /// when there was no room: [`flush_events`](Self::flush_events) tries again.
    pub(crate) fn report_stop(&mut self, error: Option<String>) -> bool {
        let event = Event::ShardStopped(self.core.links.id, error);
        self.core.tell_last(event);
        self.core.flush_events()
    }

    /// Tells the control plane what was kept back; `true` when nothing is left.
    pub(crate) fn flush_events(&mut self) -> bool {
        self.core.flush_events()
    }

    /// Whether the next turn has something to do that did not come by the network.
    pub(crate) fn has_work_waiting(&self) -> bool {
        self.core.has_work_waiting()
    }

    /// When the next turn has something to do if nothing comes before; `None`: never.
    pub(crate) fn next_timer_us(&self) -> Option<u64> {
        let tick_us = self.core.has_timers().then_some(self.next_tick_us);
        let bursts = self.core.next_burst_us();
        let catch_up = self.core.next_catch_up_us();
        tick_us.into_iter().chain(bursts).chain(catch_up).min()
    }

    /// The network, to be looked at.
    pub(crate) fn io_ref(&self) -> &I {
        &self.io
    }

    /// The network, for those who turn the shard themselves.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }
}

impl Core {
    /// Takes what other shards sent.
    fn take_messages<T: Tx>(&mut self, tx: &mut T) {
        for from in 0..self.links.inboxes.len() {
            // No more than what is there now: a busy neighbour cannot keep this loop going.
            for _ in 0..self.links.inboxes[from].slots() {
                let Ok(message) = self.links.inboxes[from].pop() else {
                    break;
                };
                self.take_message(message, tx);
            }
        }
    }

    fn take_message<T: Tx>(&mut self, message: Message, tx: &mut T) {
        match message {
            Message::Packet {
                rendition,
                packet,
                handed_over_us,
            } => {
                if let Some(place) = self.renditions.place(&rendition) {
                    self.route(place, packet, handed_over_us, tx);
                }
            }
            Message::Clock(rendition, clock) => {
                let place = self.renditions.place(&rendition);
                if let Some(rendition) = place.and_then(|place| self.renditions.get_mut(place)) {
                    rendition.clock = Some(clock);
                }
            }
            Message::KeyframeRequest(rendition) => {
                if let Some(source) = self.source_mut(&rendition) {
                    source.keyframes.want_once();
                }
            }
            Message::Cached(rendition, packets) => {
                let place = self.renditions.place(&rendition);
                if let Some(rendition) = place.and_then(|place| self.renditions.get_mut(place)) {
                    rendition.fill_cache(packets);
                }
            }
            Message::DropCache(rendition) => {
                let place = self.renditions.place(&rendition);
                if let Some(rendition) = place.and_then(|place| self.renditions.get_mut(place)) {
                    rendition.store.drop_cache();
                }
            }
        }
    }
}
