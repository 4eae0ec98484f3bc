//! The threads that packetize and transcode for all ingests of a server. Each ingest has its turn on
//! any of them, one at a time.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::session::Session;

/// More than these would take the shards' cores: one transcodes a hundred streams.
const MAX_THREADS: usize = 8;

/// A way to the threads, which end with the last clone.
#[derive(Clone)]
pub(super) struct Threads(Sender<Arc<Session>>);

impl Threads {
    /// One for each core.
    pub(super) fn start() -> std::io::Result<Self> {
        let (work, inbox) = unbounded::<Arc<Session>>();
        let count = std::thread::available_parallelism().map_or(1, NonZero::get);
        for index in 0..count.min(MAX_THREADS) {
            let inbox = inbox.clone();
            std::thread::Builder::new()
                .name(format!("ingest-{index}"))
                .spawn(move || run(&inbox))?;
        }
        Ok(Self(work))
    }

    /// Gives a session its turn, each once at a time: so no more wait than there are sessions.
    pub(super) fn run(&self, session: Arc<Session>) {
        // The threads end after the last sender only.
        let _ = self.0.send(session);
    }
}

fn run(inbox: &Receiver<Arc<Session>>) {
    for session in inbox {
        // What a decoder stumbles over ends its own ingest.
        if catch_unwind(AssertUnwindSafe(|| session.run())).is_err() {
            tracing::error!(
                stream = session.spec.stream,
                "an ingest panicked; it is ended"
            );
            session.close();
        }
    }
}
