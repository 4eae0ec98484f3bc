//! The memory of outgoing packets: one contiguous arena of payloads, and one prepared `msghdr`
//! (with its `iovec`, address and control message) for each send of a flush.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use super::gso;
use super::region::{PAGE_BYTES, Region};
use super::sockaddr::{SOCKADDR_BYTES, SockAddr};

/// One send as sendmsg(2) reads it. The pointers inside lead to the other fields of the same
/// entry, which therefore never moves.
#[repr(C)]
struct Entry {
    msg: libc::msghdr,
    iov: libc::iovec,
    control: Control,
    name: [u8; SOCKADDR_BYTES],
}

/// A control message wants the alignment of its header.
#[repr(C, align(8))]
struct Control([u8; gso::CONTROL_BYTES]);

/// Arena and entries.
#[derive(Debug)]
pub(crate) struct SendTable {
    region: Arc<Region>,
    count: u16,
    arena_bytes: usize,
}

impl SendTable {
    /// A table of `count` sends over `arena_bytes` of payload.
    pub(crate) fn new(count: u16, arena_bytes: usize) -> io::Result<Self> {
        let region = Region::map(Self::arena_offset(count) + arena_bytes)?;
        Ok(Self {
            region,
            count,
            arena_bytes,
        })
    }

    /// How many sends fit.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// The memory, for the ring to keep mapped.
    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn arena_offset(count: u16) -> usize {
        (usize::from(count) * size_of::<Entry>()).next_multiple_of(PAGE_BYTES)
    }

    /// `len` bytes of the arena from `offset`.
    ///
    /// # Panics
    /// When the stretch leaves the arena: the caller keeps the cursor.
    pub(crate) fn arena(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let start = self.stretch(offset, len);
        // SAFETY: the stretch is inside the arena, zeroed by mmap(2), and exclusively borrowed
        // with the table; the kernel only reads it, and only during a flush.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    fn stretch(&self, offset: usize, len: usize) -> NonNull<u8> {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.arena_bytes),
            "a stretch leaves the arena"
        );
        // SAFETY: the arena lies behind the entries, and `offset` inside the arena, as asserted.
        unsafe {
            self.region
                .start()
                .add(Self::arena_offset(self.count) + offset)
        }
    }

    /// Prepares send `index`: `len` bytes of the arena from `offset` to `address`, in segments of
    /// `segment_bytes` if given.
    ///
    /// # Panics
    /// When the index or the stretch does not exist.
    pub(crate) fn prepare(
        &mut self,
        index: u16,
        address: &SockAddr,
        offset: usize,
        len: usize,
        segment_bytes: Option<u16>,
    ) {
        assert!(index < self.count, "a send leaves the table");
        let payload = self.stretch(offset, len);
        let entry = entry(&self.region, index).as_ptr();
        let (control, control_len) = segment_bytes.map_or(([0; gso::CONTROL_BYTES], 0), |bytes| {
            gso::control_message(bytes)
        });
        // SAFETY: `entry` is inside the mapping and aligned; the table is exclusively borrowed, so
        // no other reference to the entry exists, and the kernel does not read it between
        // flushes. All-zero bytes, as mapped, are a valid `Entry`.
        let entry = unsafe { &mut *entry };
        entry.name = *address.storage();
        entry.control.0 = control;
        entry.iov = libc::iovec {
            iov_base: payload.as_ptr().cast(),
            iov_len: len,
        };
        entry.msg.msg_name = (&raw mut entry.name).cast();
        entry.msg.msg_namelen = address.len() as libc::socklen_t;
        entry.msg.msg_iov = &raw mut entry.iov;
        entry.msg.msg_iovlen = 1;
        entry.msg.msg_control = match control_len {
            0 => std::ptr::null_mut(),
            _ => (&raw mut entry.control).cast(),
        };
        entry.msg.msg_controllen = control_len as _;
    }
}

/// The `msghdr` of send `index` of the table in `region`.
pub(super) fn message(region: &Region, index: u16) -> *const libc::msghdr {
    // The `msghdr` is the first field of the entry.
    entry(region, index).as_ptr().cast()
}

fn entry(region: &Region, index: u16) -> NonNull<Entry> {
    let offset = usize::from(index) * size_of::<Entry>();
    assert!(
        offset + size_of::<Entry>() <= region.len(),
        "a send leaves the table"
    );
    // SAFETY: the entry lies inside the mapping, as asserted.
    unsafe { region.start().add(offset).cast() }
}

const _: () = assert!(align_of::<Entry>() <= PAGE_BYTES);
