//! Memory that the kernel reads and writes on its own while requests are in flight.
//!
//! An anonymous private mapping: page-aligned, zeroed, and backed by real memory only where it
//! was touched, so that large receive buffers cost what they are used for. It is shared by
//! reference count between its user and the ring, which keeps it mapped until the ring is closed.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment and granularity of a mapping. Larger pages only waste the rest of a page.
pub(crate) const PAGE_BYTES: usize = 4096;

/// One mapping; unmapped when the last reference goes.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is an address range and owns no thread-bound state; whoever dereferences
// `start` answers for exclusive access.
unsafe impl Send for Region {}
// SAFETY: as above; the methods of `Region` itself read only its immutable fields.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` zeroed bytes.
    pub(crate) fn map(len: usize) -> io::Result<Arc<Self>> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>())
            .ok_or_else(|| io::Error::other("mmap returned a null address"))?;
        Ok(Arc::new(Self { start, len }))
    }

    /// First byte of the mapping.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes, as asked of [`Region::map`].
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are what mmap(2) gave, and the last user is gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
