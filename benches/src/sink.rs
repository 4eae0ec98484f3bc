//! A network without a kernel: what a shard sends is counted and forgotten, what it receives is
//! put there by the benchmark. So only the shard's own work is measured.

use std::net::SocketAddr;

use fanmill_engine::io::{Datagram, Io, IoError, MAX_STRETCH_BYTES, Rx, Tx};

/// The send buffer's size: as that of the io_uring backend, so that the caches see the same.
pub(crate) const ARENA_BYTES: usize = 256 * 1024;

/// A network that swallows everything.
pub struct SinkIo {
    rx: SinkRx,
    tx: SinkTx,
}

/// Datagrams waiting for the shard.
#[derive(Default)]
pub struct SinkRx {
    waiting: Vec<(SocketAddr, u64, Vec<u8>)>,
}

/// Where sends end.
pub struct SinkTx {
    now_us: u64,
    arena: Box<[u8]>,
    /// Where the last stretch begins, and how much of it was committed.
    start: usize,
    used: usize,
    /// Where in the arena the last send begins.
    last: usize,
    packets: u64,
    sends: u64,
}

impl SinkIo {
    /// An empty network at time zero.
    #[must_use]
    pub fn new() -> Self {
        let arena = vec![0; ARENA_BYTES].into_boxed_slice();
        let tx = SinkTx {
            now_us: 0,
            arena,
            start: 0,
            used: 0,
            last: 0,
            packets: 0,
            sends: 0,
        };
        Self {
            rx: SinkRx::default(),
            tx,
        }
    }

    /// Puts a datagram before the shard.
    pub fn arrive(&mut self, source: SocketAddr, datagram: Vec<u8>) {
        self.rx.waiting.push((source, self.tx.now_us, datagram));
    }

    /// Lets time pass.
    pub fn advance(&mut self, us: u64) {
        self.tx.now_us += us;
    }

    /// Packets and sends swallowed so far; a train of many packets is one send.
    #[must_use]
    pub fn swallowed(&self) -> (u64, u64) {
        (self.tx.packets, self.tx.sends)
    }

    /// The last send and, after it, whatever else is in the send buffer.
    #[must_use]
    pub fn last_sent(&self) -> &[u8] {
        &self.tx.arena[self.tx.last..]
    }
}

impl Default for SinkIo {
    fn default() -> Self {
        Self::new()
    }
}

impl Io for SinkIo {
    type Rx = SinkRx;
    type Tx = SinkTx;

    fn now_us(&self) -> u64 {
        self.tx.now_us
    }

    fn poll(&mut self, _: Option<u64>) -> Result<(), IoError> {
        Ok(())
    }

    fn nap(&mut self, _: u64) -> Result<(), IoError> {
        self.poll(None)
    }

    fn split(&mut self) -> (&mut SinkRx, &mut SinkTx) {
        (&mut self.rx, &mut self.tx)
    }
}

impl Rx for SinkRx {
    fn drain(&mut self, mut handle: impl FnMut(Datagram<'_>)) {
        for (source, received_us, payload) in &mut self.waiting {
            let segment_bytes = payload.len();
            handle(Datagram {
                source: *source,
                payload,
                segment_bytes,
                received_us: *received_us,
            });
        }
        self.waiting.clear();
    }
}

impl Tx for SinkTx {
    fn reserve(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= MAX_STRETCH_BYTES, "longer than any stretch");
        self.start += std::mem::take(&mut self.used).next_multiple_of(64);
        if self.start + len > self.arena.len() {
            self.flush();
        }
        &mut self.arena[self.start..self.start + len]
    }

    fn commit_part(&mut self, _: SocketAddr, start: usize, len: usize, segment_bytes: Option<u16>) {
        self.last = self.start + start;
        self.used = self.used.max(start + len);
        self.sends += 1;
        self.packets += segment_bytes.map_or(1, |segment| len.div_ceil(segment.into()) as u64);
    }

    fn now_us(&self) -> u64 {
        self.now_us
    }

    fn untaken(&self) -> u64 {
        0
    }

    fn least_train(&self) -> Option<usize> {
        Some(2)
    }

    fn flush(&mut self) {
        self.start = 0;
        self.used = 0;
    }
}
