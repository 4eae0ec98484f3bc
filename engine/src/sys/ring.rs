//! The io_uring of one shard: one receive that never ends, one wait for the wake-up counter, and
//! batches of sends.
//!
//! Everything the kernel touches on its own lies in a [`Region`] that the ring keeps mapped until
//! it is closed, so no caller can free memory under a request in flight.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::buf_ring::{BufRing, Filled};
use super::eventfd::EventFd;
use super::received;
use super::region::{PAGE_BYTES, Region};
use super::send_table::{self, SendTable};

const SOCKET: Fixed = Fixed(0);
const WAKE: Fixed = Fixed(1);
const BUFFER_GROUP: u16 = 0;

/// `user_data` of the requests; sends add their index.
const DATA_RECEIVE: u64 = 1 << 32;
const DATA_WAKE: u64 = 2 << 32;
const DATA_SEND: u64 = 3 << 32;

/// Where the wake-up counter is read to; the `msghdr` of the receive lies before it.
const COUNTER_OFFSET: usize = 256;
const _: () = assert!(size_of::<libc::msghdr>() <= COUNTER_OFFSET);

/// How the ring was set up: the flags that this kernel granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingSetup {
    /// `IORING_SETUP_SINGLE_ISSUER` (6.0): only the opening thread submits; no locking.
    pub single_issuer: bool,
    /// `IORING_SETUP_DEFER_TASKRUN` (6.1): completions run when the shard asks, in batches.
    pub defer_taskrun: bool,
    /// `IORING_SETUP_COOP_TASKRUN` (5.19): no inter-processor interrupt for a completion.
    pub coop_taskrun: bool,
    /// `IORING_SETUP_SUBMIT_ALL` (5.18): a refused send does not hold up those behind it.
    pub submit_all: bool,
}

/// From the best set-up to the plainest; the first that the kernel takes is used.
const SETUPS: [RingSetup; 4] = [
    RingSetup {
        single_issuer: true,
        defer_taskrun: true,
        coop_taskrun: true,
        submit_all: true,
    },
    RingSetup {
        single_issuer: true,
        defer_taskrun: false,
        coop_taskrun: true,
        submit_all: true,
    },
    RingSetup {
        single_issuer: false,
        defer_taskrun: false,
        coop_taskrun: true,
        submit_all: true,
    },
    RingSetup {
        single_issuer: false,
        defer_taskrun: false,
        coop_taskrun: false,
        submit_all: false,
    },
];

/// What a completion says.
#[derive(Debug)]
pub(crate) enum Event {
    /// A datagram lies in a buffer; `armed` tells whether the receive goes on.
    Received { filled: Filled, armed: bool },
    /// The receive met an error (a positive errno); `armed` tells whether it goes on.
    ReceiveFailed { errno: i32, armed: bool },
    /// The wake-up counter was raised, or its read failed; it must be armed again.
    Woken,
    /// A send ended with a byte count or a negative errno.
    Sent { index: u16, result: i32 },
}

/// Which step of opening a ring failed.
#[derive(Debug)]
pub(crate) struct OpenError {
    /// The step, in words.
    pub(crate) step: &'static str,
    /// The kernel's answer.
    pub(crate) source: io::Error,
}

/// The ring with what is registered in it.
pub(crate) struct Ring {
    // Closed first, before the memory below is released.
    uring: IoUring,
    sends: Arc<Region>,
    send_count: u16,
    scratch: Arc<Region>,
    _receive: Arc<Region>,
}

impl Ring {
    /// Opens a ring and registers `socket`, `wake`, `buffers` and `sends` with it. The calling
    /// thread is the only one that may use the ring.
    pub(crate) fn open(
        socket: &impl AsRawFd,
        wake: &EventFd,
        buffers: &BufRing,
        sends: &SendTable,
    ) -> Result<(Self, RingSetup), OpenError> {
        let failed = |step| move |source| OpenError { step, source };
        // One slot for every send of a flush, the receive and the wake-up, with room to spare.
        let submissions = u32::from(sends.count()) * 2;
        // A completion for each of those and for each buffer: it can never overflow.
        let completions = (submissions + u32::from(buffers.count()) + 8).next_power_of_two();
        let (uring, setup) = build(submissions, completions).map_err(failed("io_uring_setup"))?;
        let scratch = Region::map(PAGE_BYTES).map_err(failed("mmap"))?;
        let submitter = uring.submitter();
        submitter
            .register_files(&[socket.as_raw_fd(), wake.as_raw_fd()])
            .map_err(failed("IORING_REGISTER_FILES"))?;
        let ring_address = buffers.region().start().as_ptr() as u64;
        // SAFETY: the region begins with `count` ring entries and is kept mapped by the ring.
        unsafe {
            submitter.register_buf_ring_with_flags(ring_address, buffers.count(), BUFFER_GROUP, 0)
        }
        .map_err(failed("IORING_REGISTER_PBUF_RING"))?;
        write_receive_message(&scratch);
        let ring = Self {
            uring,
            sends: Arc::clone(sends.region()),
            send_count: sends.count(),
            scratch,
            _receive: Arc::clone(buffers.region()),
        };
        Ok((ring, setup))
    }

    /// Queues the receive that goes on until the kernel ends it; `false` when the queue is full.
    pub(crate) fn arm_receive(&mut self) -> bool {
        let message = self.scratch.start().as_ptr().cast::<libc::msghdr>();
        let entry = opcode::RecvMsgMulti::new(SOCKET, message, BUFFER_GROUP).build();
        self.push(&entry.user_data(DATA_RECEIVE))
    }

    /// Queues the read of the wake-up counter; `false` when the queue is full.
    pub(crate) fn arm_wake(&mut self) -> bool {
        // SAFETY: the offset lies inside the one page of the scratch region.
        let counter = unsafe { self.scratch.start().add(COUNTER_OFFSET) };
        let entry = opcode::Read::new(WAKE, counter.as_ptr(), size_of::<u64>() as u32).build();
        self.push(&entry.user_data(DATA_WAKE))
    }

    /// Queues send `index` of the table; `false` when the queue is full.
    ///
    /// # Panics
    /// When the table has no such send.
    pub(crate) fn push_send(&mut self, index: u16) -> bool {
        assert!(index < self.send_count, "a send leaves the table");
        let message = send_table::message(&self.sends, index);
        // With MSG_DONTWAIT the send ends while it is submitted: a full socket buffer is an error
        // to count, not a request that stays.
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
        let entry = opcode::SendMsg::new(SOCKET, message).flags(flags).build();
        self.push(&entry.user_data(DATA_SEND | u64::from(index)))
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every request points into `scratch` or `sends`, which outlive the ring; the
        // kernel writes only to the counter in `scratch`, which nothing else accesses.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    /// Whether completions wait in the kernel for an [`Ring::enter`].
    pub(crate) fn has_deferred(&mut self) -> bool {
        let submission = self.uring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Whether requests were queued but not submitted.
    pub(crate) fn has_queued(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Submits what is queued, and waits for `want` completions but no longer than `timeout`.
    /// Being interrupted, running into the timeout and a momentary lack of memory are no errors.
    pub(crate) fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let submitter = self.uring.submitter();
        let result = match timeout {
            Some(timeout) if want > 0 => {
                let timespec = Timespec::from(timeout);
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&timespec))
            }
            _ => submitter.submit_and_wait(want),
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes every completion that is there, in order. Does not enter the kernel.
    pub(crate) fn reap(&mut self, mut handle: impl FnMut(Event)) {
        for completion in self.uring.completion() {
            if let Some(event) = event(&completion) {
                handle(event);
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing a ring cancels its requests and releases its files in the background, so that
        // the port would stay taken for a while, and a receive could still pick a buffer. Asked
        // for one by one these steps are done on return. Where the kernel does not know the first
        // (before 6.0), or another thread drops the ring, closing alone has to do.
        let submitter = self.uring.submitter();
        let _ = submitter.register_sync_cancel(None, CancelBuilder::any());
        // SAFETY: the call has no argument to point to. It submits nothing: a broken ring may still
        // hold requests that lead to memory since used otherwise.
        let reaped =
            unsafe { submitter.enter::<libc::sigset_t>(0, 0, EnterFlags::GETEVENTS.bits(), None) };
        if reaped.is_ok() {
            let _ = submitter.unregister_files();
        }
    }
}

fn event(completion: &cqueue::Entry) -> Option<Event> {
    let (data, result, flags) = (
        completion.user_data(),
        completion.result(),
        completion.flags(),
    );
    match data & !0xffff_ffff {
        DATA_RECEIVE => {
            let armed = cqueue::more(flags);
            Some(match (cqueue::buffer_select(flags), result) {
                // An error with a buffer hands the buffer over all the same: it comes out empty.
                (Some(index), _) => {
                    let len = u32::try_from(result).unwrap_or(0);
                    Event::Received {
                        filled: Filled::new(index, len),
                        armed,
                    }
                }
                (None, result) => Event::ReceiveFailed {
                    errno: result.min(0).saturating_neg(),
                    armed,
                },
            })
        }
        DATA_WAKE => Some(Event::Woken),
        DATA_SEND => Some(Event::Sent {
            index: data as u16,
            result,
        }),
        // The completion of a cancellation.
        _ => None,
    }
}

fn build(submissions: u32, completions: u32) -> io::Result<(IoUring, RingSetup)> {
    let mut refusal = io::Error::from_raw_os_error(libc::EINVAL);
    for setup in SETUPS {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions);
        if setup.single_issuer {
            builder.setup_single_issuer();
        }
        if setup.defer_taskrun {
            builder.setup_defer_taskrun();
        }
        if setup.coop_taskrun {
            // The flag that tells of deferred completions comes with either of the two.
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        if setup.submit_all {
            builder.setup_submit_all();
        }
        match builder.build(submissions) {
            Ok(uring) => return Ok((uring, setup)),
            // EINVAL: a flag that this kernel does not know.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = error,
            Err(error) => return Err(error),
        }
    }
    Err(refusal)
}

/// What the receive is to leave room for; addresses and lengths of data come from the buffer.
fn write_receive_message(scratch: &Region) {
    let message = scratch.start().as_ptr().cast::<libc::msghdr>();
    // SAFETY: the region is a page, larger and better aligned than a `msghdr`, freshly mapped and
    // known to nobody else; all-zero bytes are a valid `msghdr`.
    let message = unsafe { &mut *message };
    message.msg_namelen = received::NAME_BYTES as libc::socklen_t;
    message.msg_controllen = received::CONTROL_BYTES as _;
}
