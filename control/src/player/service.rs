//! The threads that all players of the process share: one that paces and two that read.
//!
//! The pacing thread never touches a file and is never made to wait by a player; the reading threads
//! read, packetize and transcode ahead. Started with the first player, they stay.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::pacer::{Command, Done, NewPlayer, Pacer, PlayerId, Work};
use crate::clock::now_us;

/// One that waits for a slow disk leaves one for the others.
const READERS: usize = 2;

/// How often streams that were ended are noticed by players that send nothing.
const SWEEP_EVERY: Duration = Duration::from_millis(200);

/// How long the answer to a request waits for what was asked to be done.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

enum Message {
    Command(Command),
    Done(Box<Done>),
    /// Whatever was sent before is done.
    Reached(Sender<()>),
}

/// A way to the pacing thread.
pub(super) struct Service {
    messages: Sender<Message>,
    ids: AtomicU64,
}

impl Service {
    /// That of this process.
    ///
    /// # Errors
    /// If its threads cannot be started.
    pub(super) fn get() -> std::io::Result<&'static Self> {
        static SERVICE: OnceLock<Service> = OnceLock::new();
        if let Some(service) = SERVICE.get() {
            return Ok(service);
        }
        let service = Self::start()?;
        // Of two that came first together one's threads end at once, for want of senders.
        Ok(SERVICE.get_or_init(|| service))
    }

    fn start() -> std::io::Result<Self> {
        let (messages, inbox) = unbounded();
        let (work, jobs) = unbounded::<Work>();
        for index in 0..READERS {
            let (jobs, back) = (jobs.clone(), messages.clone());
            std::thread::Builder::new()
                .name(format!("player-read-{index}"))
                .spawn(move || read(&jobs, &back))?;
        }
        std::thread::Builder::new()
            .name("player-pace".to_owned())
            .spawn(move || pace(&inbox, &work))?;
        Ok(Self {
            messages,
            ids: AtomicU64::new(0),
        })
    }

    pub(super) fn add(&self, new: NewPlayer) -> PlayerId {
        let id = PlayerId(self.ids.fetch_add(1, Ordering::Relaxed));
        self.send(Command::Add(id, Box::new(new)));
        id
    }

    pub(super) fn send(&self, command: Command) {
        // The pacing thread ends with the process only.
        let _ = self.messages.send(Message::Command(command));
    }

    /// Waits until the commands sent before are carried out.
    pub(super) fn settle(&self) {
        let (reply, answer) = bounded(1);
        let _ = self.messages.send(Message::Reached(reply));
        // The answer is but a report: on a machine that busy it may be an old one.
        let _ = answer.recv_timeout(SETTLE_PATIENCE);
    }
}

fn read(jobs: &Receiver<Work>, back: &Sender<Message>) {
    for work in jobs {
        if back.send(Message::Done(Box::new(work.run()))).is_err() {
            return;
        }
    }
}

fn pace(inbox: &Receiver<Message>, work: &Sender<Work>) {
    let mut pacer = Pacer::default();
    let mut swept = Instant::now();
    loop {
        let wait = match pacer.next_due_us() {
            Some(due_us) => {
                let left_us = (due_us - now_us()).max(0);
                Duration::from_micros(left_us.unsigned_abs()).min(SWEEP_EVERY)
            }
            None => SWEEP_EVERY,
        };
        match inbox.recv_timeout(wait) {
            Ok(message) => {
                take(&mut pacer, message);
                // All that is there, before the clock is looked at again.
                inbox
                    .try_iter()
                    .for_each(|message| take(&mut pacer, message));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        pacer.advance(now_us());
        if swept.elapsed() >= SWEEP_EVERY {
            swept = Instant::now();
            pacer.sweep(now_us());
        }
        for job in pacer.take_work() {
            if work.send(job).is_err() {
                return;
            }
        }
    }
}

fn take(pacer: &mut Pacer, message: Message) {
    match message {
        Message::Command(command) => pacer.handle(command, now_us()),
        Message::Done(done) => pacer.done(*done, now_us()),
        Message::Reached(reply) => {
            // Who asked may have given up.
            let _ = reply.try_send(());
        }
    }
}
