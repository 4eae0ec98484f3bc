//! Threads that look after their taps every few milliseconds, for consumers that are many: recorders,
//! outputs.
//!
//! They are neither shards nor tokio's threads, so what is done on them delays nobody else.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use super::EngineClock;

/// How often a thread looks after what it has: taps hold what comes meanwhile.
const TURN: Duration = Duration::from_millis(10);

/// What one thread does.
pub(crate) trait Work: Send + 'static {
    /// What it is told.
    type Command: Send + 'static;
    /// Whether there is nothing to look after.
    fn is_idle(&self) -> bool;
    /// Does what it is told.
    fn obey(&mut self, command: Self::Command, clock: &mut EngineClock);
    /// Looks after everything once.
    fn turn(&mut self, clock: &mut EngineClock);
    /// The program ends, and nobody told it to end anything.
    fn end(self, clock: &mut EngineClock);
}

/// The threads of one kind.
#[derive(Debug)]
pub(crate) struct Threads<C>(Vec<Sender<C>>);

impl<C: Send + 'static> Threads<C> {
    /// Starts so many, at least one, named `name` and a number.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start<W: Work<Command = C>>(
        name: &str,
        threads: usize,
        work: impl Fn() -> W,
    ) -> io::Result<Self> {
        let start = |number| {
            let (sender, commands) = mpsc::channel();
            let work = work();
            std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || run(work, &commands))?;
            Ok(sender)
        };
        let threads = (0..threads.max(1)).map(start);
        Ok(Self(threads.collect::<io::Result<_>>()?))
    }

    /// Tells the thread that has `id`, always the same; `false` if it has ended.
    pub(crate) fn tell(&self, id: u64, command: C) -> bool {
        let thread = usize::try_from(id).unwrap_or(0) % self.0.len();
        self.0[thread].send(command).is_ok()
    }
}

fn run<W: Work>(mut work: W, commands: &Receiver<W::Command>) {
    let mut clock = EngineClock::default();
    loop {
        if work.is_idle() {
            match commands.recv() {
                Ok(command) => work.obey(command, &mut clock),
                Err(_) => return,
            }
        }
        loop {
            match commands.try_recv() {
                Ok(command) => work.obey(command, &mut clock),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return work.end(&mut clock),
            }
        }
        let began = Instant::now();
        work.turn(&mut clock);
        std::thread::sleep(TURN.saturating_sub(began.elapsed()));
    }
}
