//! eventfd(2): a counter that another thread raises to end this thread's wait, in the ring or in
//! poll(2).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// An eventfd.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    /// Creates one at zero. It is blocking on purpose: io_uring answers a read of a nonblocking
    /// file with EAGAIN at once instead of waiting for the counter to rise.
    pub(crate) fn new() -> io::Result<Self> {
        Self::create(libc::EFD_CLOEXEC)
    }

    /// Creates one at zero for those who wait in a reactor or by [`wait`](Self::wait).
    pub(crate) fn nonblocking() -> io::Result<Self> {
        Self::create(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
    }

    fn create(flags: libc::c_int) -> io::Result<Self> {
        // SAFETY: eventfd(2) takes no pointers.
        let fd = unsafe { libc::eventfd(0, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and owned by nobody else.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Raises the counter by one, waking whoever reads it. It cannot block: the counter would have
    /// to stand at 2^64 - 2.
    pub(crate) fn signal(&self) -> io::Result<()> {
        (&self.0).write_all(&1u64.to_ne_bytes())
    }

    /// Lowers the counter of a nonblocking one to zero.
    pub(crate) fn clear(&self) {
        // It fails only when the counter is zero already.
        let _ = (&self.0).read(&mut [0; 8]);
    }

    /// Waits until the counter is above zero, at most for `timeout`; says whether it is.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left_ms = left.as_nanos().div_ceil(1_000_000);
            let left_ms = libc::c_int::try_from(left_ms).unwrap_or(libc::c_int::MAX);
            let mut entry = libc::pollfd {
                fd: self.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: poll(2) writes only to the one entry it is given, which outlives the call.
            let ready = unsafe { libc::poll(&raw mut entry, 1, left_ms) };
            if ready > 0 {
                return true;
            }
            // A signal handler may have ended it early.
            if Instant::now() >= deadline {
                return false;
            }
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
