//! A network without a kernel: what a shard sends is counted and forgotten, what it receives is
//! put there by the benchmark. So only the shard's own work is measured.

use std::net::SocketAddr;

use fanmill_engine::io::{Datagram, Io, IoError, MAX_TRAIN_BYTES, Rx, Tx};

/// The send buffer's size: as that of the io_uring backend, so that the caches see the same.
pub(crate) const ARENA_BYTES: usize = 256 * 1024;

/// A network that swallows everything.
pub struct SinkIo {
    now_us: u64,
    rx: SinkRx,
    tx: SinkTx,
}

/// Datagrams waiting for the shard.
#[derive(Default)]
pub struct SinkRx {
    waiting: Vec<(SocketAddr, Vec<u8>)>,
}

/// Where sends end.
pub struct SinkTx {
    arena: Box<[u8]>,
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
            arena,
            used: 0,
            last: 0,
            packets: 0,
            sends: 0,
        };
        Self {
            now_us: 0,
            rx: SinkRx::default(),
            tx,
        }
    }

    /// Puts a datagram before the shard.
    pub fn arrive(&mut self, source: SocketAddr, datagram: Vec<u8>) {
        self.rx.waiting.push((source, datagram));
    }

    /// Lets time pass.
    pub fn advance(&mut self, us: u64) {
        self.now_us += us;
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
        self.now_us
    }

    fn poll(&mut self, _: Option<u64>) -> Result<(), IoError> {
        Ok(())
    }

    fn split(&mut self) -> (&mut SinkRx, &mut SinkTx) {
        (&mut self.rx, &mut self.tx)
    }
}

impl Rx for SinkRx {
    fn drain(&mut self, mut handle: impl FnMut(Datagram<'_>)) {
        for (source, payload) in &mut self.waiting {
            let segment_bytes = payload.len();
            handle(Datagram {
                source: *source,
                payload,
                segment_bytes,
            });
        }
        self.waiting.clear();
    }
}

impl Tx for SinkTx {
    fn reserve(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= MAX_TRAIN_BYTES, "a stretch longer than a train");
        if self.used + len > self.arena.len() {
            self.flush();
        }
        &mut self.arena[self.used..self.used + len]
    }

    fn commit(&mut self, _: SocketAddr, len: usize, segment_bytes: Option<u16>) {
        self.last = self.used;
        self.used += len;
        self.sends += 1;
        self.packets += segment_bytes.map_or(1, |segment| len.div_ceil(segment.into()) as u64);
    }

    fn segmentation(&self) -> bool {
        true
    }

    fn flush(&mut self) {
        self.used = 0;
    }
}
