//! How a shard meets the network.
//!
//! [`Io`] is the whole of it: a clock, a wait, the datagrams that came, and a send buffer. The
//! shard loop is generic over it, so the loop that runs on io_uring is the loop that
//! runs on the simulated network in tests. Nothing here knows what a datagram means.

pub mod sim;
pub mod uring;

use std::net::SocketAddr;

/// One received UDP payload, or a train of equal-sized ones that the kernel coalesced (UDP_GRO).
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Who sent it; IPv4 peers of a dual-stack socket appear as IPv4.
    pub source: SocketAddr,
    /// The payload. May be changed in place: SRTP is opened here.
    pub payload: &'a mut [u8],
    /// Size in bytes of each segment but the last; equals `payload.len()` when it is no train.
    pub segment_bytes: usize,
    /// When it came in, on the clock of [`Io::now_us`]: before it waited for the shard, where the
    /// kernel tells; never later than the poll that collected it.
    pub received_us: u64,
}

impl Datagram<'_> {
    /// The datagrams of the train, in order; none when the payload is empty.
    pub fn segments_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.payload.chunks_mut(self.segment_bytes.max(1))
    }
}

/// A network and a clock, driven by one thread.
pub trait Io {
    /// The receiving half.
    type Rx: Rx;
    /// The sending half.
    type Tx: Tx;

    /// Monotonic time in microseconds; the epoch is arbitrary but fixed.
    fn now_us(&self) -> u64;

    /// Collects what has arrived. Returns at once if anything has; otherwise waits until
    /// something arrives, the waker is used, or `deadline_us` (same clock as [`Io::now_us`])
    /// passes; `None` waits without end, a deadline in the past does not wait.
    ///
    /// # Errors
    /// Only when the backend itself is broken; network errors are counted, never returned.
    fn poll(&mut self, deadline_us: Option<u64>) -> Result<(), IoError>;

    /// Lets `us` microseconds pass whatever arrives, then collects it: cheaper than to be woken by
    /// each datagram of what is only of use as a whole. The waker may be heard as late as that.
    ///
    /// # Errors
    /// As [`Io::poll`].
    fn nap(&mut self, us: u64) -> Result<(), IoError>;

    /// Both halves at once, so that a reply can be staged while a datagram is borrowed.
    fn split(&mut self) -> (&mut Self::Rx, &mut Self::Tx);
}

/// The datagrams collected by the last [`Io::poll`].
pub trait Rx {
    /// Hands every collected datagram to `handle`, in order of arrival, then gives the buffers
    /// back.
    fn drain(&mut self, handle: impl FnMut(Datagram<'_>));
}

/// A send buffer. Packets are written straight into it and leave on [`Tx::flush`], or earlier
/// when it is full.
pub trait Tx {
    /// A writable stretch of exactly `len` bytes (at most [`MAX_STRETCH_BYTES`]); nothing of it is
    /// sent until it is committed. What it held is unspecified, and what was not committed of the
    /// last one is forgotten.
    fn reserve(&mut self, len: usize) -> &mut [u8];

    /// Queues `len` bytes (at most [`MAX_TRAIN_BYTES`]) of the reserved stretch from `start` to
    /// `destination`. With `segment_bytes` they are a train: segments of that size, the last one
    /// possibly shorter. Several parts of one stretch may be committed.
    fn commit_part(
        &mut self,
        destination: SocketAddr,
        start: usize,
        len: usize,
        segment_bytes: Option<u16>,
    );

    /// Queues the first `len` bytes of the reserved stretch, as [`Tx::commit_part`] does.
    fn commit(&mut self, destination: SocketAddr, len: usize, segment_bytes: Option<u16>) {
        self.commit_part(destination, 0, len, segment_bytes);
    }

    /// The time, on the clock of [`Io::now_us`].
    fn now_us(&self) -> u64;

    /// Datagrams that the network did not take, for want of room or any other reason, so far.
    fn untaken(&self) -> u64;

    /// Fewest packets that are cheaper to send as a train; `None` when trains are not cut up by the
    /// kernel or the device, so that it does not pay to form any.
    fn least_train(&self) -> Option<usize>;

    /// Sends all that was committed, and returns when the buffer may be reused.
    fn flush(&mut self);
}

/// Largest train in bytes: what one UDP datagram can carry over IPv4.
pub const MAX_TRAIN_BYTES: usize = 65_507;

/// Largest stretch of a send buffer that can be reserved: a ten-packet frame for sixteen viewers.
pub const MAX_STRETCH_BYTES: usize = 192 * 1024;

/// Most segments the kernel takes in one train (`UDP_MAX_SEGMENTS` was 64 before Linux 6.9).
pub const MAX_TRAIN_SEGMENTS: usize = 64;

/// What breaks a backend at run time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// The ring refused to be entered.
    #[error("io_uring_enter failed: {0}")]
    Enter(#[source] std::io::Error),
    /// The socket can no longer be received from.
    #[error("receiving failed for good: {0}")]
    Receive(#[source] std::io::Error),
}
