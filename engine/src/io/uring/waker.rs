//! Waking a shard that waits, without a system call when it does not.
//!
//! # Why no wake-up is lost
//!
//! A producer first publishes its work (pushes to a ring), then calls [`Waker::wake`]. The shard
//! calls `poll`, then looks at its rings. One word holds one of three states: `AWAKE`, `ASLEEP`,
//! `NOTIFIED`; both sides change it with read-modify-writes, which are totally ordered.
//!
//! - The shard goes to sleep only by changing `AWAKE` to `ASLEEP`. A wake-up that came since its
//!   last look has made the word `NOTIFIED`: the change fails, and it does not sleep.
//! - A wake-up that comes after that change finds `ASLEEP` and writes the eventfd, whose read is
//!   already in the ring (or is submitted with the very call that waits; the counter keeps its
//!   value): the wait ends.
//! - Before every look at its rings, `poll` swaps the word back to `AWAKE`. If that swap comes
//!   after the producer's in the order, it has acquired what the producer released, and the look
//!   sees the work. If it comes before, the producer's swap leaves `NOTIFIED` or finds `ASLEEP`, and
//!   one of the two cases above holds for the next `poll`.
//!
//! At most one write of the eventfd happens for each sleep, because the producer that finds
//! `ASLEEP` replaces it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crossbeam::utils::CachePadded;

use crate::sys::eventfd::EventFd;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

#[derive(Debug)]
pub(crate) struct WakeState {
    // Producers on other cores write it; nothing else of the shard may share its cache line.
    word: CachePadded<AtomicU8>,
    eventfd: EventFd,
}

impl WakeState {
    pub(crate) fn new(eventfd: EventFd) -> Arc<Self> {
        Arc::new(Self {
            word: CachePadded::new(AtomicU8::new(AWAKE)),
            eventfd,
        })
    }

    pub(crate) fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    /// The shard means to wait: `false` if it was notified and must look at its rings instead.
    pub(crate) fn fall_asleep(&self) -> bool {
        let change = self
            .word
            .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        change.is_ok()
    }

    /// The shard is about to look at its rings; `true` if someone called for it.
    pub(crate) fn look(&self) -> bool {
        self.word.swap(AWAKE, Ordering::AcqRel) == NOTIFIED
    }
}

/// Ends the wait of one shard, or of one who waits for shards, from any thread. Cheap to clone; when the shard is not waiting, a
/// call costs one atomic exchange.
#[derive(Debug, Clone)]
pub struct Waker {
    state: Arc<WakeState>,
}

impl Waker {
    pub(crate) fn new(state: Arc<WakeState>) -> Self {
        Self { state }
    }

    /// Makes the current or the next wait ([`crate::io::Io::poll`]) return. Call it after the work
    /// is visible to the one who waits.
    pub fn wake(&self) {
        if self.state.word.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP {
            // A write of 8 bytes to an eventfd fails only when the counter is full, and then the
            // shard is being woken already.
            let _ = self.state.eventfd.signal();
        }
    }
}
