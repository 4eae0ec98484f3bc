//! How one who waits for a shard's work is told to look: without a system call while it is busy.
//!
//! A [`Signal`] belongs to one waiter, a thread or a task, and is rung by any number of taps and
//! producers of its. The waiter looks at all of them until nothing is left, then waits, by
//! [`Signal::wait`] or, in a reactor, by [`Signal::arm`] and its descriptor. Whoever rings pays one
//! atomic exchange, and one write of an eventfd for each time the waiter has armed it; why no ring
//! is lost is written in `io/uring/waker.rs`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::io::uring::{WakeState, Waker};
use crate::sys::eventfd::EventFd;

/// The end of a wait. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Signal(Arc<WakeState>);

impl Signal {
    /// A signal that nobody has rung.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(WakeState::new(EventFd::nonblocking()?)))
    }

    /// What shards ring it by.
    pub(crate) fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.0))
    }

    /// Announces that the waiter is about to wait for the descriptor to become readable. `false`
    /// when it was rung since the last look: look again instead.
    pub fn arm(&self) -> bool {
        let armed = self.0.fall_asleep();
        if !armed {
            self.0.look();
        }
        armed
    }

    /// Ends a wait: call it after the descriptor was readable and before looking.
    pub fn clear(&self) {
        self.0.eventfd().clear();
        self.0.look();
    }

    /// Waits until it is rung, at most for `timeout`; `true` when it was. At once when it was rung
    /// since the last look. Blocks the thread: tasks use [`arm`](Self::arm).
    pub fn wait(&self, timeout: Duration) -> bool {
        if !self.arm() {
            return true;
        }
        let rung = self.0.eventfd().wait(timeout);
        self.clear();
        rung
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.eventfd().as_fd()
    }
}

impl AsRawFd for Signal {
    fn as_raw_fd(&self) -> RawFd {
        self.0.eventfd().as_raw_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_ring_before_the_wait_ends_it_at_once_and_only_that_one() {
        let signal = Signal::new().unwrap();
        signal.waker().wake();
        assert!(signal.wait(LONG));
        assert!(!signal.wait(Duration::ZERO));
    }

    #[test]
    fn a_ring_from_another_thread_ends_the_wait() {
        let signal = Signal::new().unwrap();
        let waker = signal.waker();
        std::thread::scope(|scope| {
            scope.spawn(move || waker.wake());
            assert!(signal.wait(LONG));
        });
    }

    #[test]
    fn a_wait_that_was_given_up_loses_no_ring() {
        let signal = Signal::new().unwrap();
        assert!(signal.arm(), "nobody rang");
        assert!(!signal.arm(), "armed twice: look again");
        assert!(signal.arm());
        signal.waker().wake();
        assert!(!signal.arm(), "it was rung meanwhile");
        // The descriptor still stands from that ring: one look too many, never one too few.
        assert!(signal.wait(LONG));
        assert!(!signal.wait(Duration::ZERO));
    }

    #[test]
    fn every_ring_is_followed_by_a_look() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let signal = Signal::new().unwrap();
        let waker = signal.waker();
        let work = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    work.fetch_add(1, Ordering::Release);
                    waker.wake();
                }
            });
            let mut done = 0;
            while done < 50_000 {
                assert!(signal.wait(LONG), "a ring was lost after {done}");
                done += work.swap(0, Ordering::Acquire);
            }
        });
    }
}
