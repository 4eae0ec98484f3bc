//! Packet slots: the memory in which an opened RTP packet lives while it is routed.
//!
//! A [`PacketPool`] hands out [`PacketMut`] (one owner, writable); [`PacketMut::share`] turns it
//! into [`Packet`] (any number of owners on any threads, read-only). The last owner's drop puts
//! the slot back on its pool's free list, wherever that happens. Slots are allocated in the
//! first use of each, up to the pool's capacity, and then reused for ever: in steady state taking
//! and returning a slot allocates nothing and takes no lock.
//!
//! A pool belongs to one shard. Producers on other threads take slots too, by a `PoolHandle`, as
//! many as their rings hold; taps hold `TappedPacket`s, whose slots the pool counts apart, so that
//! the shard can bound them.
//!
//! Invariant: a slot is written only through its one `PacketMut`, never after it was shared.

use std::cell::UnsafeCell;
use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::limits::SLOT_BYTES;
use crate::packet::extension::{Extensions, PlayoutDelay};
use crate::packet::layer::LayerMark;

/// What routing knows about a packet. Once it is set, nothing reads the header bytes in the slot
/// again: a packet restored from RTX differs from its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct PacketInfo {
    /// Extended sequence number at the source (roll-overs << 16 | sequence number).
    pub index: u64,
    /// When the packet came in, in microseconds of the shard's clock.
    pub arrival_us: u64,
    /// The index it has at the source of its encoding: another than its own if it is one of a
    /// rendition of some layers.
    pub origin: u64,
    /// RTP timestamp at the source.
    pub timestamp: u32,
    /// Where the RTP payload starts in the slot.
    pub payload_start: u16,
    /// Length of the RTP payload without padding.
    pub payload_len: u16,
    /// So many bytes before it make it the redundant form (RFC 2198) in which it came; 0: it came
    /// plain. Both are of the one payload that was sent.
    pub redundancy_len: u16,
    /// Position of this packet's codec in its rendition's list.
    pub codec: u8,
    /// RTP marker bit.
    pub marker: bool,
    /// A decoder can begin with this packet: it starts a keyframe, or is audio.
    pub keyframe_start: bool,
    /// What it says of its layer.
    pub layer: LayerMark,
    /// Header extensions the engine knows, as positions in the slot.
    pub extensions: Extensions,
    /// NTP time of capture to tell viewers, where the publisher does not; none with most packets.
    pub capture_time: Option<NonZeroU64>,
    /// Bounds on the delay before playing to tell viewers; none with most packets.
    pub playout_delay: Option<PlayoutDelay>,
}

/// A slot's contents.
#[derive(Debug)]
pub struct Slot {
    /// What routing knows about the packet.
    pub info: PacketInfo,
    len: u16,
    bytes: [u8; SLOT_BYTES],
}

impl Slot {
    /// The packet as it was opened: header, payload, padding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The RTP payload without padding.
    pub fn payload(&self) -> &[u8] {
        let start = usize::from(self.info.payload_start);
        &self.bytes[start..start + usize::from(self.info.payload_len)]
    }

    /// The redundant form of the payload, as it came; the payload itself if it came plain.
    pub fn redundant_payload(&self) -> &[u8] {
        let info = &self.info;
        let end = usize::from(info.payload_start) + usize::from(info.payload_len);
        let start = info.payload_start.saturating_sub(info.redundancy_len);
        &self.bytes[usize::from(start)..end]
    }

    /// The whole slot, to be written; say how much of it counts with [`Slot::set_len`].
    pub fn buffer_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Becomes a copy of another.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.info = other.info;
        self.len = other.len;
        self.bytes[..usize::from(other.len)].copy_from_slice(other.bytes());
    }

    /// The RTP payload without padding, to be written.
    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        let start = usize::from(self.info.payload_start);
        &mut self.bytes[start..start + usize::from(self.info.payload_len)]
    }

    /// Declares the first `len` bytes the packet (at most [`SLOT_BYTES`]).
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= SLOT_BYTES, "a packet longer than its slot");
        self.len = len as u16;
    }
}

#[repr(align(64))]
struct Shared {
    references: AtomicU32,
    /// Of the references, those that taps hold.
    tapped: AtomicU32,
    home: Arc<Home>,
    slot: UnsafeCell<Slot>,
}

/// A free slot on its way between owners.
struct Free(NonNull<Shared>);

// SAFETY: a `Free` is the only handle to its slot, and everything in the slot may move between
// threads.
unsafe impl Send for Free {}

struct Home {
    free: ArrayQueue<Free>,
    capacity: u32,
    created: AtomicU32,
    closed: AtomicBool,
    /// Slots that taps hold, however many of them.
    tapped: CachePadded<AtomicU32>,
}

impl Home {
    fn take(self: &Arc<Self>) -> Option<PacketMut> {
        let shared = match self.free.pop() {
            Some(free) => free.0,
            None => self.create()?,
        };
        // SAFETY: the slot just left the free list or was just made: nobody else has it.
        let slot = unsafe { shared.as_ref() };
        slot.references.store(1, Ordering::Relaxed);
        Some(PacketMut(shared))
    }

    fn create(self: &Arc<Self>) -> Option<NonNull<Shared>> {
        if self.created.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            self.created.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let shared = Box::new(Shared {
            references: AtomicU32::new(0),
            tapped: AtomicU32::new(0),
            home: Arc::clone(self),
            slot: UnsafeCell::new(Slot {
                info: PacketInfo::default(),
                len: 0,
                bytes: [0; SLOT_BYTES],
            }),
        });
        NonNull::new(Box::into_raw(shared))
    }

    fn put(&self, slot: Free) {
        // The queue holds as many slots as can ever exist, so the push cannot fail; if it did,
        // the slot would merely be freed.
        if let Err(slot) = self.free.push(slot) {
            release(slot);
        }
        if self.closed.load(Ordering::SeqCst) {
            self.drain();
        }
    }

    fn drain(&self) {
        while let Some(slot) = self.free.pop() {
            release(slot);
        }
    }
}

fn release(slot: Free) {
    // SAFETY: every slot was made by `Box::into_raw` in `PacketPool::take`, and a `Free` is the
    // only handle left, so nobody can reach the memory after this.
    drop(unsafe { Box::from_raw(slot.0.as_ptr()) });
}

/// A bounded set of slots owned by one shard.
pub struct PacketPool {
    home: Arc<Home>,
}

impl PacketPool {
    /// A pool of at most `capacity` slots, the first `prepared` of which exist at once.
    pub fn new(capacity: usize, prepared: usize) -> Self {
        let capacity = capacity.clamp(1, u32::MAX as usize / 2);
        let home = Arc::new(Home {
            free: ArrayQueue::new(capacity),
            capacity: capacity as u32,
            created: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            tapped: CachePadded::default(),
        });
        let pool = Self { home };
        pool.prepare(prepared);
        pool
    }

    /// Makes slots that do not exist yet, so that so many are free or in use.
    pub(crate) fn prepare(&self, slots: usize) {
        let first: Vec<_> = (0..slots).map_while(|_| self.take()).collect();
        drop(first);
    }

    /// An empty slot, or `None` when all are in use.
    pub fn take(&self) -> Option<PacketMut> {
        self.home.take()
    }

    /// What other threads take slots by.
    pub(crate) fn handle(&self) -> PoolHandle {
        PoolHandle(Arc::clone(&self.home))
    }

    /// Slots that taps hold now.
    pub(crate) fn tapped(&self) -> usize {
        self.home.tapped.load(Ordering::Relaxed) as usize
    }

    /// Slots in use now; exact only while no other thread takes or drops one.
    pub fn in_use(&self) -> usize {
        (self.home.created.load(Ordering::Relaxed) as usize).saturating_sub(self.home.free.len())
    }
}

/// Takes slots of a shard's pool from another thread. After the end of the pool what was taken is
/// freed with its last owner.
#[derive(Clone)]
pub(crate) struct PoolHandle(Arc<Home>);

impl PoolHandle {
    /// An empty slot, or `None` when all are in use.
    pub(crate) fn take(&self) -> Option<PacketMut> {
        self.0.take()
    }
}

impl Drop for PacketPool {
    fn drop(&mut self) {
        // A slot dropped by another thread from now on is freed by that thread: either it sees
        // `closed` after its push, or its push is seen by this drain.
        self.home.closed.store(true, Ordering::SeqCst);
        self.home.drain();
    }
}

/// The only owner of a slot.
pub struct PacketMut(NonNull<Shared>);

// SAFETY: the slot has one owner and everything in it may move between threads.
unsafe impl Send for PacketMut {}

impl PacketMut {
    /// Gives up writing; the packet can now have many owners.
    pub fn share(self) -> Packet {
        let packet = Packet(self.0);
        std::mem::forget(self);
        packet
    }
}

impl Deref for PacketMut {
    type Target = Slot;
    fn deref(&self) -> &Slot {
        // SAFETY: this is the only handle to the slot, borrowed shared here.
        unsafe { &*self.0.as_ref().slot.get() }
    }
}

impl DerefMut for PacketMut {
    fn deref_mut(&mut self) -> &mut Slot {
        // SAFETY: this is the only handle to the slot, borrowed exclusively here.
        unsafe { &mut *self.0.as_ref().slot.get() }
    }
}

impl Drop for PacketMut {
    fn drop(&mut self) {
        drop(Packet(self.0));
    }
}

/// One of the owners of a packet that no longer changes.
pub struct Packet(NonNull<Shared>);

// SAFETY: a shared slot is only read, and its reference count is atomic.
unsafe impl Send for Packet {}
// SAFETY: as for `Send`.
unsafe impl Sync for Packet {}

impl Packet {
    fn shared(&self) -> &Shared {
        // SAFETY: the slot lives at least until the last `Packet` is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl Packet {
    /// Another owner, on behalf of a tap.
    pub(crate) fn tap(&self) -> TappedPacket {
        let shared = self.shared();
        // Relaxed: the counts bound memory and order nothing.
        if shared.tapped.fetch_add(1, Ordering::Relaxed) == 0 {
            shared.home.tapped.fetch_add(1, Ordering::Relaxed);
        }
        TappedPacket(self.clone())
    }
}

/// One of the owners of a packet, a tap: its pool knows.
#[derive(Debug)]
pub(crate) struct TappedPacket(Packet);

impl Deref for TappedPacket {
    type Target = Packet;
    fn deref(&self) -> &Packet {
        &self.0
    }
}

impl Drop for TappedPacket {
    fn drop(&mut self) {
        let shared = self.0.shared();
        if shared.tapped.fetch_sub(1, Ordering::Relaxed) == 1 {
            shared.home.tapped.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Clone for Packet {
    fn clone(&self) -> Self {
        // Relaxed is enough to add an owner: whoever clones has one already.
        self.shared().references.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Deref for Packet {
    type Target = Slot;
    fn deref(&self) -> &Slot {
        // SAFETY: after `share` nobody writes the slot until its last owner is gone.
        unsafe { &*self.shared().slot.get() }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // Release orders this owner's reads before the count; acquire lets the last owner, who
        // recycles the slot, come after all of them.
        if self.shared().references.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Once it is on the free list another thread may free the slot, and with it the last
            // handle to its home: hold one across the call.
            let home = Arc::clone(&self.shared().home);
            home.put(Free(self.0));
        }
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packet")
            .field("info", &self.info)
            .field("len", &self.len)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(pool: &PacketPool, fill: u8) -> Packet {
        let mut slot = pool.take().expect("the pool has a slot");
        slot.buffer_mut()[..4].fill(fill);
        slot.set_len(4);
        slot.info.index = u64::from(fill);
        slot.share()
    }

    #[test]
    fn a_slot_returns_when_its_last_owner_is_gone() {
        let pool = PacketPool::new(1, 1);
        let first = packet(&pool, 7);
        let second = first.clone();
        assert!(pool.take().is_none(), "the only slot is in use");
        drop(first);
        assert!(pool.take().is_none(), "a clone still owns it");
        assert_eq!(second.bytes(), [7; 4]);
        drop(second);
        assert!(pool.take().is_some());
    }

    #[test]
    fn an_unshared_slot_returns_when_dropped() {
        let pool = PacketPool::new(1, 0);
        drop(pool.take());
        assert!(pool.take().is_some());
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn packets_outlive_their_pool() {
        let pool = PacketPool::new(4, 4);
        let kept = packet(&pool, 9);
        drop(pool);
        assert_eq!(kept.bytes(), [9; 4]);
        drop(kept);
    }

    #[test]
    fn a_slot_that_taps_hold_counts_once_until_the_last_of_them_is_done() {
        let pool = PacketPool::new(4, 0);
        let (first, second) = (packet(&pool, 1), packet(&pool, 2));
        let taps = [first.tap(), first.tap(), second.tap()];
        drop(first);
        assert_eq!((pool.tapped(), pool.in_use()), (2, 2));
        let [one, two, three] = taps;
        assert_eq!(two.bytes(), [1; 4]);
        drop(one);
        assert_eq!(pool.tapped(), 2);
        drop(two);
        assert_eq!((pool.tapped(), pool.in_use()), (1, 1));
        drop(three);
        assert_eq!((pool.tapped(), pool.in_use()), (0, 1));
        drop(second);
    }

    #[test]
    fn other_threads_take_slots_up_to_the_same_bound_and_may_outlive_the_pool() {
        let pool = PacketPool::new(3, 0);
        let kept = pool.take();
        let handle = pool.handle();
        let taken = std::thread::scope(|scope| {
            let taking = scope.spawn(|| [handle.take(), handle.take(), handle.take()]);
            taking.join().expect("it does not panic")
        });
        assert!(taken[1].is_some() && taken[2].is_none());
        assert!(pool.take().is_none());
        drop(kept);
        let again = handle.take();
        assert!(again.is_some());
        drop(pool);
        drop((taken, again));
        assert!(handle.take().is_none(), "nothing is made any more");
    }

    #[test]
    fn owners_on_many_threads_return_every_slot() {
        const SLOTS: usize = 64;
        let pool = PacketPool::new(SLOTS, 0);
        std::thread::scope(|scope| {
            let (tx, rx) = crossbeam::channel::bounded::<Packet>(SLOTS);
            for _ in 0..4 {
                let rx = rx.clone();
                scope.spawn(move || {
                    for packet in rx {
                        assert_eq!(packet.bytes()[0], packet.info.index as u8);
                    }
                });
            }
            let mut sent = 0;
            while sent < 20_000u32 {
                if pool.in_use() < SLOTS {
                    let Some(mut slot) = pool.take() else {
                        continue;
                    };
                    slot.info.index = u64::from(sent as u8);
                    slot.buffer_mut()[0] = sent as u8;
                    slot.set_len(1);
                    let packet = slot.share();
                    tx.send(packet.clone()).expect("the readers live");
                    tx.send(packet).expect("the readers live");
                    sent += 1;
                }
            }
        });
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn dropping_the_pool_while_other_threads_drop_packets_frees_everything_once() {
        for _ in 0..200 {
            let pool = PacketPool::new(16, 16);
            let packets: Vec<_> = (0..16).map(|i| packet(&pool, i)).collect();
            std::thread::scope(|scope| {
                let (left, right): (Vec<_>, Vec<_>) =
                    packets.into_iter().partition(|p| p.info.index % 2 == 0);
                scope.spawn(move || drop(left));
                scope.spawn(move || drop(right));
                drop(pool);
            });
        }
    }
}
