//! The sending half: packets are staged in an arena and leave together.
//!
//! It owns the ring, because a flush must be possible while received buffers are borrowed; what
//! the ring brings in meanwhile is kept for the next poll.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::io::{IoError, MAX_STRETCH_BYTES, MAX_TRAIN_BYTES, MAX_TRAIN_SEGMENTS, Tx};
use crate::sys::buf_ring::Filled;
use crate::sys::ring::{Event, Ring};
use crate::sys::send_table::SendTable;
use crate::sys::sockaddr::{Family, SockAddr};

use super::costs::SendCosts;
use super::counters::SendCounters;

/// Most sends of one flush.
pub(super) const SENDS: u16 = 256;

/// Bytes of the arena: it is written, sealed and read back by the kernel within microseconds, so
/// it should stay in a core's second-level cache (512 KiB or more on anything current).
pub(super) const ARENA_BYTES: usize = 256 * 1024;

/// Stretches begin on a cache line.
const STRETCH_ALIGNMENT: usize = 64;

/// Attempts to get a batch through a kernel that is momentarily out of memory.
const MAX_ATTEMPTS: u32 = 1000;

/// How long one such attempt waits.
const RETRY_WAIT: Option<Duration> = Some(Duration::from_micros(100));

// A reservation made after a flush always fits.
const _: () = assert!(ARENA_BYTES >= MAX_STRETCH_BYTES);

/// One send that was staged, as it must be repeated if the kernel refuses the train.
#[derive(Debug, Clone, Copy)]
struct Staged {
    address: SockAddr,
    offset: usize,
    len: usize,
    /// Present when it is a train.
    segment_bytes: Option<u16>,
}

impl Staged {
    fn datagrams(&self) -> u64 {
        self.segment_bytes
            .map_or(1, |bytes| self.len.div_ceil(usize::from(bytes)) as u64)
    }
}

/// What the ring reported besides the fate of sends.
#[derive(Debug)]
pub(super) struct Reaped {
    /// Received buffers, in order. Never more than there are, for which it was allocated.
    pub(super) arrived: Vec<Filled>,
    /// Whether the receive is (still) in the ring.
    pub(super) receive_armed: bool,
    /// Whether the read of the wake-up counter is in the ring.
    pub(super) wake_armed: bool,
    pub(super) no_buffers: u64,
    pub(super) receive_errors: u64,
    /// Errno of the last receive that failed.
    pub(super) receive_errno: i32,
}

/// The send buffer and the ring.
pub struct UringTx {
    ring: Ring,
    family: Family,
    table: SendTable,
    /// Sends staged in the table, in its order.
    staged: Vec<Staged>,
    /// Trains that the kernel refused in the current flush.
    refused: Vec<Staged>,
    /// Where in the arena the stretch begins that was last reserved.
    cursor: usize,
    /// Its length.
    reserved: usize,
    /// How far into it something was committed.
    used: usize,
    /// Whether trains are sent as such.
    gso: bool,
    least_train: usize,
    /// Errno that broke the ring. A broken ring is never entered again: requests that were not
    /// submitted still lead to the table, which is by then rewritten.
    pub(super) broken: Option<i32>,
    pub(super) reaped: Reaped,
    pub(super) counters: SendCounters,
    pub(super) enters: u64,
}

impl UringTx {
    pub(super) fn new(
        ring: Ring,
        table: SendTable,
        family: Family,
        gso: bool,
        receive_slots: u16,
    ) -> Self {
        let sends = usize::from(table.count());
        let reaped = Reaped {
            arrived: Vec::with_capacity(usize::from(receive_slots)),
            receive_armed: false,
            wake_armed: false,
            no_buffers: 0,
            receive_errors: 0,
            receive_errno: 0,
        };
        Self {
            ring,
            family,
            table,
            staged: Vec::with_capacity(sends),
            refused: Vec::with_capacity(sends),
            cursor: 0,
            reserved: 0,
            used: 0,
            gso,
            least_train: 2,
            broken: None,
            reaped,
            counters: SendCounters::default(),
            enters: 0,
        }
    }

    /// Whether trains are sent as such: the kernel knows `UDP_SEGMENT` and no device refused it.
    pub fn gso(&self) -> bool {
        self.gso
    }

    /// Takes over what was measured: how long trains must be, or that none is worth it. What was
    /// sent for that was nobody's.
    pub(super) fn heed(&mut self, costs: &SendCosts) {
        self.counters = SendCounters::default();
        match costs.least_train() {
            Some(packets) => self.least_train = packets,
            None => self.gso = false,
        }
    }

    /// Refuses to go on with a broken ring.
    pub(super) fn check(&self) -> Result<(), IoError> {
        match self.broken {
            Some(errno) => Err(IoError::Enter(io::Error::from_raw_os_error(errno))),
            None => Ok(()),
        }
    }

    pub(super) fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// Enters the kernel; see [`Ring::enter`].
    pub(super) fn enter(&mut self, want: usize, timeout: Option<Duration>) -> Result<(), IoError> {
        self.enters += 1;
        if let Err(error) = self.ring.enter(want, timeout) {
            self.broken = Some(error.raw_os_error().unwrap_or(libc::EIO));
        }
        self.check()
    }

    /// Puts the receive back into the ring if it has ended.
    pub(super) fn rearm_receive(&mut self) {
        let Self { ring, reaped, .. } = self;
        reaped.receive_armed = reaped.receive_armed || ring.arm_receive();
    }

    /// Puts back into the ring what it has ended.
    pub(super) fn rearm(&mut self) {
        self.rearm_receive();
        let Self { ring, reaped, .. } = self;
        reaped.wake_armed = reaped.wake_armed || ring.arm_wake();
    }

    /// Takes the completions that are there. Returns how many sends ended.
    pub(super) fn reap(&mut self) -> usize {
        let Self {
            ring,
            reaped,
            staged,
            refused,
            counters,
            ..
        } = self;
        let mut sent = 0;
        ring.reap(|event| match event {
            Event::Sent { index, result } => {
                sent += 1;
                // Completions of this flush only: each flush waits for all of its own.
                if let Some(send) = staged.get(usize::from(index)) {
                    counters.settle(send, result, refused);
                }
            }
            other => reaped.note(other),
        });
        sent
    }

    fn is_full(&self) -> bool {
        self.staged.len() == usize::from(self.table.count())
    }

    /// Puts one send into the table, which has room.
    fn put(&mut self, send: Staged) {
        let index = self.staged.len() as u16;
        self.table.prepare(
            index,
            &send.address,
            send.offset,
            send.len,
            send.segment_bytes,
        );
        self.staged.push(send);
    }

    fn stage(&mut self, send: Staged) {
        if self.is_full() {
            self.settle_staged();
        }
        self.put(send);
    }

    /// Sends what is staged, and the segments of refused trains after it.
    fn settle_staged(&mut self) {
        self.submit();
        // Singles are never refused as trains, so the list does not grow meanwhile.
        for index in 0..self.refused.len() {
            let train = self.refused[index];
            self.send_singly(&train);
        }
        self.refused.clear();
    }

    /// Submits the staged sends and waits for all of them, which end as they are submitted.
    /// Trains that were refused are collected in `refused`.
    fn submit(&mut self) {
        if !self.staged.is_empty()
            && self.broken.is_none()
            && let Err(errno) = self.submit_staged()
        {
            self.broken = Some(errno);
        }
        self.staged.clear();
    }

    fn submit_staged(&mut self) -> Result<(), i32> {
        let count = self.staged.len();
        for index in 0..count {
            if !self.ring.push_send(index as u16) {
                return Err(libc::EBUSY);
            }
        }
        let mut outstanding = count;
        for attempt in 0..MAX_ATTEMPTS {
            self.enters += 1;
            // The first call submits all and brings their completions; should one be late or the
            // kernel have had no memory to take it, wait for it.
            let entered = self.ring.enter(usize::from(attempt > 0), RETRY_WAIT);
            entered.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
            outstanding = outstanding.saturating_sub(self.reap());
            if outstanding == 0 {
                return Ok(());
            }
        }
        Err(libc::EAGAIN)
    }

    /// Sends the segments of a refused train one by one. If the kernel takes the first, full-sized
    /// one, it was the train that it could not take, and no more trains are sent; if not, the
    /// destination or the size is at fault, and trains to others are still fine.
    fn send_singly(&mut self, train: &Staged) {
        self.counters.trains_refused += 1;
        let taken = self.counters.sends;
        let segment = usize::from(train.segment_bytes.unwrap_or(u16::MAX));
        let mut singles = segments(train, segment);
        singles.next().into_iter().for_each(|first| self.put(first));
        self.submit();
        self.gso &= self.counters.sends == taken;
        for single in singles {
            if self.is_full() {
                self.submit();
            }
            self.put(single);
        }
        self.submit();
    }

    fn stage_stretch(
        &mut self,
        destination: SocketAddr,
        offset: usize,
        len: usize,
        segment: Option<u16>,
    ) {
        let segment = segment.filter(|&bytes| bytes > 0 && usize::from(bytes) < len);
        let Some(address) = SockAddr::encode(destination, self.family) else {
            let datagrams = segment.map_or(1, |bytes| len.div_ceil(usize::from(bytes)));
            self.counters
                .errors
                .add(libc::EAFNOSUPPORT, datagrams as u64);
            return;
        };
        let whole = Staged {
            address,
            offset,
            len,
            segment_bytes: segment,
        };
        match segment.map(usize::from) {
            Some(bytes) if self.gso => {
                // More segments than the kernel takes at once become several trains.
                for train in segments(&whole, bytes * MAX_TRAIN_SEGMENTS) {
                    let alone = train.len <= bytes;
                    self.stage(Staged {
                        segment_bytes: segment.filter(|_| !alone),
                        ..train
                    });
                }
            }
            Some(bytes) => segments(&whole, bytes).for_each(|single| self.stage(single)),
            None => self.stage(whole),
        }
    }
}

/// Cuts a send into sends of at most `bytes`, none of them a train.
fn segments(whole: &Staged, bytes: usize) -> impl Iterator<Item = Staged> + use<> {
    let whole = *whole;
    (0..whole.len)
        .step_by(bytes.max(1))
        .map(move |start| Staged {
            address: whole.address,
            offset: whole.offset + start,
            len: bytes.min(whole.len - start),
            segment_bytes: None,
        })
}

impl Tx for UringTx {
    fn reserve(&mut self, len: usize) -> &mut [u8] {
        assert!(
            len <= MAX_STRETCH_BYTES,
            "a reservation is larger than any stretch"
        );
        self.cursor += std::mem::take(&mut self.used).next_multiple_of(STRETCH_ALIGNMENT);
        if self.cursor + len > ARENA_BYTES {
            self.flush();
        }
        self.reserved = len;
        self.table.arena(self.cursor, len)
    }

    fn commit_part(
        &mut self,
        destination: SocketAddr,
        start: usize,
        len: usize,
        segment_bytes: Option<u16>,
    ) {
        assert!(
            len <= MAX_TRAIN_BYTES && start + len <= self.reserved,
            "more is committed than was reserved, or than a datagram holds"
        );
        self.used = self.used.max(start + len);
        self.stage_stretch(destination, self.cursor + start, len, segment_bytes);
    }

    fn now_us(&self) -> u64 {
        super::now_us()
    }

    fn untaken(&self) -> u64 {
        self.counters.errors.total()
    }

    fn least_train(&self) -> Option<usize> {
        self.gso.then_some(self.least_train)
    }

    fn flush(&mut self) {
        self.settle_staged();
        self.cursor = 0;
        self.used = 0;
        self.reserved = 0;
    }
}

impl Reaped {
    fn note(&mut self, event: Event) {
        match event {
            Event::Received { filled, armed } => {
                self.receive_armed = armed;
                self.arrived.push(filled);
            }
            Event::ReceiveFailed { errno, armed } => {
                self.receive_armed = armed;
                match errno {
                    0 => {}
                    libc::ENOBUFS => self.no_buffers += 1,
                    _ => {
                        self.receive_errors += 1;
                        self.receive_errno = errno;
                    }
                }
            }
            Event::Woken => self.wake_armed = false,
            Event::Sent { .. } => {}
        }
    }
}

impl SendCounters {
    /// Books the end of `send`.
    fn settle(&mut self, send: &Staged, result: i32, refused: &mut Vec<Staged>) {
        if let Ok(bytes) = u64::try_from(result) {
            self.sends += 1;
            self.datagrams += send.datagrams();
            self.bytes += bytes;
            self.trains += u64::from(send.segment_bytes.is_some());
            return;
        }
        let errno = result.saturating_neg();
        let refused_as_train = matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE);
        if send.segment_bytes.is_some() && refused_as_train {
            refused.push(*send);
        } else {
            self.errors.add(errno, send.datagrams());
        }
    }
}
