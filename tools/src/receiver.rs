//! The threads that receive: each waits for the sockets of its viewers and feeds them.
//!
//! One `epoll` a thread, level-triggered: one receiving call takes what a socket has, which with
//! `UDP_GRO` is a whole train. Everything periodic is spread over a second. A thread is told what
//! to do through a channel and an eventfd; it never waits for anyone.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Commands, Sender, channel};
use std::thread::JoinHandle;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use crate::client::join::Session;
use crate::clock::now_ns;
use crate::measure::totals::{Counts, Totals, histogram_us};
use crate::net::Receiver;
use crate::viewer::{Lent, MAX_PACKET_BYTES, Verify, Viewer};

/// Every viewer reports once in so many ticks.
const TICKS_PER_REPORT: usize = 100;
const TICK_NS: u64 = 10_000_000;
const EVENTS: usize = 512;
const WAKE: u64 = u64::MAX;

/// What a thread is told.
enum Command {
    Add(u64, Box<Session>),
    Remove(Vec<u64>),
    Report {
        reset_latency: bool,
        to: Sender<Totals>,
    },
    Stop,
}

/// The receiving threads.
pub struct Receivers {
    threads: Vec<Thread>,
}

struct Thread {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Receivers {
    /// Starts `threads` of them, each pinned to one of `cores` if there are any.
    ///
    /// # Errors
    /// When the system gives no thread or no descriptor.
    pub fn start(
        threads: usize,
        cores: &[core_affinity::CoreId],
        verify: Verify,
    ) -> io::Result<Self> {
        let start = |number: usize| {
            let core = (!cores.is_empty()).then(|| cores[number % cores.len()]);
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let wake = Arc::new(eventfd(0, flags)?);
            epoll::add(
                &epoll,
                &wake,
                epoll::EventData::new_u64(WAKE),
                epoll::EventFlags::IN,
            )?;
            let (commands, receiver) = channel();
            let mut worker = Worker {
                epoll,
                wake: Arc::clone(&wake),
                commands: receiver,
                viewers: Vec::new(),
                free: Vec::new(),
                places: HashMap::new(),
                missing: Vec::new(),
                tally: Totals::default(),
                departed: Counts::default(),
                receiver: Receiver::default(),
                scratch: Box::new([0; MAX_PACKET_BYTES]),
                verify,
                tick: 0,
            };
            let builder = std::thread::Builder::new().name(format!("receive-{number}"));
            let thread = builder.spawn(move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                worker.run();
            })?;
            Ok(Thread {
                commands,
                wake,
                thread: Some(thread),
            })
        };
        let threads = (0..threads.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    /// Gives a joined viewer to a thread.
    pub fn add(&self, id: u64, session: Session) {
        self.of(id).tell(Command::Add(id, Box::new(session)));
    }

    /// Ends viewers. Their counts remain.
    pub fn remove(&self, ids: &[u64]) {
        for (number, thread) in self.threads.iter().enumerate() {
            let of_thread = |id: &&u64| **id as usize % self.threads.len() == number;
            thread.tell(Command::Remove(
                ids.iter().filter(of_thread).copied().collect(),
            ));
        }
    }

    /// What all viewers have seen; latencies since the last call that reset them.
    #[must_use]
    pub fn report(&self, reset_latency: bool) -> Totals {
        let mut all = Totals::default();
        let (to, reports) = channel();
        for thread in &self.threads {
            thread.tell(Command::Report {
                reset_latency,
                to: to.clone(),
            });
        }
        drop(to);
        for totals in reports {
            all.add(&totals);
        }
        all
    }

    fn of(&self, id: u64) -> &Thread {
        &self.threads[id as usize % self.threads.len()]
    }
}

impl Thread {
    fn tell(&self, command: Command) {
        // The thread ends only when told to.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.tell(Command::Stop);
            if let Some(thread) = thread.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

struct Worker {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    commands: Commands<Command>,
    viewers: Vec<Option<Viewer>>,
    free: Vec<usize>,
    /// Where each viewer is, by its number.
    places: HashMap<u64, usize>,
    /// Viewers that miss something.
    missing: Vec<usize>,
    tally: Totals,
    /// What viewers that have left had expected and received.
    departed: Counts,
    receiver: Receiver,
    scratch: Box<[u8; MAX_PACKET_BYTES]>,
    verify: Verify,
    tick: usize,
}

impl Worker {
    fn run(&mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let mut next_tick_ns = now_ns();
        loop {
            let now = now_ns();
            if now >= next_tick_ns {
                self.tick(now);
                next_tick_ns = (next_tick_ns + TICK_NS).max(now);
            }
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: (next_tick_ns.saturating_sub(now_ns())).min(TICK_NS) as i64,
            };
            events.clear();
            if epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)).is_err() {
                continue;
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    WAKE => {
                        if self.obey() {
                            return;
                        }
                    }
                    place => self.receive(place as usize),
                }
            }
        }
    }

    fn receive(&mut self, place: usize) {
        let Some(Some(viewer)) = self.viewers.get_mut(place) else {
            return;
        };
        // Nothing there, or an ICMP error that the next call does not see again.
        let Ok(datagrams) = self.receiver.receive(viewer.socket()) else {
            return;
        };
        let now = now_ns();
        self.tally.counts.receives += 1;
        let mut lent = Lent {
            tally: &mut self.tally,
            scratch: &mut self.scratch,
            verify: self.verify,
        };
        let pending = viewer.nack_pending;
        for datagram in datagrams {
            viewer.receive(now, datagram, &mut lent);
        }
        if viewer.nack_pending && !pending {
            self.missing.push(place);
        }
    }

    fn tick(&mut self, now: u64) {
        self.tick = (self.tick + 1) % TICKS_PER_REPORT;
        let due = self
            .viewers
            .iter_mut()
            .skip(self.tick)
            .step_by(TICKS_PER_REPORT);
        for viewer in due.flatten() {
            viewer.report(now);
        }
        let viewers = &mut self.viewers;
        let counts = &mut self.tally.counts;
        self.missing.retain(|&place| match viewers.get_mut(place) {
            Some(Some(viewer)) => viewer.request_missing(now, counts),
            _ => false,
        });
    }

    /// Carries out what was asked. Whether to stop.
    fn obey(&mut self) -> bool {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Add(id, session) => self.add(id, *session),
                Command::Remove(ids) => ids.into_iter().for_each(|id| self.remove(id)),
                Command::Report { reset_latency, to } => {
                    let _ = to.send(self.report(reset_latency));
                }
                Command::Stop => return true,
            }
        }
        false
    }

    fn add(&mut self, id: u64, session: Session) {
        // The handshake has made these very keys: they fit.
        let Ok((mut viewer, early)) = Viewer::new(id, session) else {
            return;
        };
        let now = now_ns();
        let mut lent = Lent {
            tally: &mut self.tally,
            scratch: &mut self.scratch,
            verify: self.verify,
        };
        for datagram in early {
            viewer.receive(now, &datagram, &mut lent);
        }
        let place = self.free.pop().unwrap_or(self.viewers.len());
        let data = epoll::EventData::new_u64(place as u64);
        if epoll::add(&self.epoll, viewer.socket(), data, epoll::EventFlags::IN).is_err() {
            self.free
                .extend((place < self.viewers.len()).then_some(place));
            return;
        }
        if place == self.viewers.len() {
            self.viewers.push(None);
        }
        self.places.insert(id, place);
        self.viewers[place] = Some(viewer);
    }

    fn remove(&mut self, id: u64) {
        let Some(place) = self.places.remove(&id) else {
            return;
        };
        if let Some(viewer) = self.viewers[place].take() {
            self.departed = self.departed.plus(viewer.expectations());
            // Closing the socket takes it out of the epoll set.
            self.free.push(place);
        }
    }

    fn report(&mut self, reset_latency: bool) -> Totals {
        let now = now_ns();
        let mut totals = self.tally.clone();
        totals.counts = totals.counts.plus(self.departed);
        for viewer in self.viewers.iter().flatten() {
            viewer.add_to(&mut totals, now);
        }
        if reset_latency {
            self.tally.latency_us = histogram_us();
        }
        totals
    }
}
