//! The receiving half: filled buffers, until the shard has looked into them.

use crate::io::{Datagram, Rx};
use crate::sys::buf_ring::{BufRing, Filled};
use crate::sys::received::{self, Unreadable};
use crate::sys::timestamp::Clocks;

use super::counters::ReceiveCounters;

/// Datagrams collected by the last poll, in the buffers the kernel filled.
#[derive(Debug)]
pub struct UringRx {
    buffers: BufRing,
    /// Never holds more than there are buffers, for which it was allocated.
    collected: Vec<Filled>,
    /// As the last poll read them.
    clocks: Clocks,
    pub(super) counters: ReceiveCounters,
}

impl UringRx {
    pub(super) fn new(buffers: BufRing) -> Self {
        let collected = Vec::with_capacity(usize::from(buffers.count()));
        Self {
            buffers,
            collected,
            clocks: Clocks::read(0),
            counters: ReceiveCounters::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.collected.is_empty()
    }

    /// How many datagrams or trains were collected.
    pub(super) fn len(&self) -> usize {
        self.collected.len()
    }

    /// How many could be.
    pub(super) fn slots(&self) -> u16 {
        self.buffers.count()
    }

    /// Takes over what the ring has reaped.
    pub(super) fn collect(&mut self, arrived: &mut Vec<Filled>) {
        self.collected.append(arrived);
    }

    /// Reads the clocks by which the next datagrams' times are told.
    pub(super) fn read_clocks(&mut self, now_us: u64) {
        self.clocks = Clocks::read(now_us);
    }
}

impl Rx for UringRx {
    fn drain(&mut self, mut handle: impl FnMut(Datagram<'_>)) {
        let Self {
            buffers,
            collected,
            clocks,
            counters,
        } = self;
        for filled in collected.drain(..) {
            let bytes = buffers.bytes(&filled);
            match received::parse(bytes) {
                Ok(datagram) => {
                    counters.count(datagram.payload.len(), datagram.segment_bytes);
                    handle(Datagram {
                        source: datagram.source,
                        payload: &mut bytes[datagram.payload],
                        segment_bytes: datagram.segment_bytes,
                        received_us: clocks.monotonic_us(datagram.realtime_us),
                    });
                }
                Err(Unreadable::Truncated) => counters.truncated += 1,
                Err(Unreadable::Malformed) => counters.malformed += 1,
            }
            buffers.give_back(filled);
        }
    }
}

impl ReceiveCounters {
    fn count(&mut self, len: usize, segment_bytes: usize) {
        let segments = len.div_ceil(segment_bytes.max(1)).max(1) as u64;
        self.datagrams += segments;
        self.bytes += len as u64;
        self.trains += u64::from(segments > 1);
    }
}
