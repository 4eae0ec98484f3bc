//! Provided buffers: a ring of empty buffers from which the kernel takes one for each datagram it
//! receives. Linux 5.19, io_uring_register_buf_ring(3).
//!
//! A buffer has exactly one owner: the kernel, or whoever holds its [`Filled`].

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::received;
use super::region::{PAGE_BYTES, Region};

/// Bytes of one buffer: the header and the largest UDP payload, which a train may also reach
/// (65,527 bytes over IPv6), so that nothing is ever truncated. Untouched pages cost nothing: a
/// 1200-byte packet uses one page of the seventeen.
///
/// The size is chosen so that consecutive buffers start 1344 bytes apart modulo 64 KiB: the
/// beginnings, which are all that single packets touch, then spread over the cache's sets instead
/// of meeting in the few that page-aligned buffers would share.
pub(crate) const BUFFER_BYTES: usize = 65_536 + 1_344;

const _: () = assert!(BUFFER_BYTES >= received::PAYLOAD_OFFSET + 65_527);
const _: () = assert!(BUFFER_BYTES.is_multiple_of(64));

/// Most buffers of a ring: 64 Ki descriptors are not needed, and 4096 buffers already map 270 MB.
pub(crate) const MAX_BUFFERS: u16 = 4096;

const ENTRY_BYTES: usize = size_of::<BufRingEntry>();

/// A buffer that the kernel has filled and handed over. Not copyable: it stands for ownership.
#[derive(Debug)]
pub(crate) struct Filled {
    index: u16,
    len: u32,
}

impl Filled {
    /// Buffer `index` as a completion reports it, filled with `len` bytes. Only the ring's reaper
    /// makes these, one for each completion that carries a buffer.
    pub(super) fn new(index: u16, len: u32) -> Self {
        Self { index, len }
    }
}

/// The buffers and the ring through which the kernel gets them.
#[derive(Debug)]
pub(crate) struct BufRing {
    region: Arc<Region>,
    count: u16,
    tail: u16,
}

impl BufRing {
    /// `count` empty buffers; rounded up to a power of two, as the kernel wants it, and to at
    /// most [`MAX_BUFFERS`].
    pub(crate) fn new(count: u16) -> io::Result<Self> {
        let count = count.clamp(1, MAX_BUFFERS).next_power_of_two();
        let len = Self::buffers_offset(count) + usize::from(count) * BUFFER_BYTES;
        let mut ring = Self {
            region: Region::map(len)?,
            count,
            tail: 0,
        };
        for index in 0..count {
            ring.put(index);
        }
        ring.publish();
        Ok(ring)
    }

    /// How many buffers there are.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// The memory, which begins with the ring to register.
    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn buffers_offset(count: u16) -> usize {
        (usize::from(count) * ENTRY_BYTES).next_multiple_of(PAGE_BYTES)
    }

    fn buffer_start(&self, index: u16) -> NonNull<u8> {
        assert!(
            index < self.count,
            "the kernel names only buffers it was given"
        );
        let offset = Self::buffers_offset(self.count) + usize::from(index) * BUFFER_BYTES;
        // SAFETY: the region was mapped with room for `count` buffers behind the entries.
        unsafe { self.region.start().add(offset) }
    }

    /// What the kernel wrote into a buffer.
    pub(crate) fn bytes(&mut self, filled: &Filled) -> &mut [u8] {
        let start = self.buffer_start(filled.index);
        let len = (filled.len as usize).min(BUFFER_BYTES);
        // SAFETY: `len` bytes from `start` lie inside one buffer of the mapping. `Filled` is
        // unique for the buffer, so the kernel does not hold it; the exclusive borrow of the ring
        // keeps it from being given back while the slice lives.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    /// Gives a buffer back to the kernel.
    pub(crate) fn give_back(&mut self, filled: Filled) {
        self.put(filled.index);
        self.publish();
    }

    /// Writes the entry of an empty buffer behind the last one.
    fn put(&mut self, index: u16) {
        let address = self.buffer_start(index).as_ptr() as u64;
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is below `count`, so the entry lies in the mapping, aligned to its 16
        // bytes. The kernel reads an entry only between head and tail, and at most `count` buffers
        // exist, so this one is ours until `publish`.
        let entry = unsafe {
            &mut *self
                .region
                .start()
                .cast::<BufRingEntry>()
                .add(slot)
                .as_ptr()
        };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see the entries written so far.
    fn publish(&self) {
        let base = self.region.start().cast::<BufRingEntry>();
        // SAFETY: `base` is the first entry of the ring; its reserved field is the tail, aligned
        // to its two bytes, mapped as long as `self`, and accessed atomically from our side.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base.as_ptr()).cast_mut()) };
        // Release: the entries are written before the kernel sees the tail that covers them.
        tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A panic is the failure report.

    use super::*;

    #[test]
    fn the_count_is_a_power_of_two_within_bounds() {
        assert_eq!(BufRing::new(0).unwrap().count(), 1);
        assert_eq!(BufRing::new(9).unwrap().count(), 16);
        assert_eq!(BufRing::new(u16::MAX).unwrap().count(), MAX_BUFFERS);
    }

    #[test]
    fn buffers_do_not_overlap_and_keep_what_is_written() {
        let mut ring = BufRing::new(4).unwrap();
        let filled: Vec<_> = (0..4)
            .map(|index| Filled::new(index, BUFFER_BYTES as u32))
            .collect();
        for (value, filled) in filled.iter().enumerate() {
            ring.bytes(filled).fill(value as u8 + 1);
        }
        for (value, filled) in filled.iter().enumerate() {
            assert!(
                ring.bytes(filled)
                    .iter()
                    .all(|&byte| byte == value as u8 + 1)
            );
        }
    }

    #[test]
    fn a_length_beyond_the_buffer_is_cut() {
        let mut ring = BufRing::new(1).unwrap();
        assert_eq!(ring.bytes(&Filled::new(0, u32::MAX)).len(), BUFFER_BYTES);
    }
}
