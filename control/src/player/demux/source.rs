//! Bytes of a file by their place: all reads are positioned, bounded, and of what is asked for only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::error::DemuxError;

/// Something that can be read anywhere: a file, or memory in tests.
pub trait ReadAt: Send + Sync {
    /// Reads up to `buffer.len()` bytes from `at` on; 0 at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        let part = &self[from..];
        let len = part.len().min(buffer.len());
        buffer[..len].copy_from_slice(&part[..len]);
        Ok(len)
    }
}

/// A file with its length at the time of opening. Clones share it.
#[derive(Clone)]
pub struct Source {
    bytes: Arc<dyn ReadAt>,
    len: u64,
}

impl Source {
    /// Of something that has `len` bytes.
    pub fn new(bytes: impl ReadAt + 'static, len: u64) -> Self {
        Self {
            bytes: Arc::new(bytes),
            len,
        }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buffer` from `at` on.
    ///
    /// # Errors
    /// If the file ends before, or cannot be read.
    pub fn read_exact(&self, buffer: &mut [u8], at: u64) -> Result<(), DemuxError> {
        let mut done = 0;
        while done < buffer.len() {
            let place = at.saturating_add(done as u64);
            match self.bytes.read_at(&mut buffer[done..], place) {
                Ok(0) => return Err(DemuxError::Cut { at: place }),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DemuxError::Read(error)),
            }
        }
        Ok(())
    }

    /// `len` bytes from `at` on, which the caller has bounded.
    pub(super) fn read_vec(&self, at: u64, len: usize) -> Result<Vec<u8>, DemuxError> {
        // What a damaged length asks for beyond the file's end is not even allocated.
        if at.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(DemuxError::Cut { at: self.len });
        }
        let mut bytes = vec![0; len];
        self.read_exact(&mut bytes, at)?;
        Ok(bytes)
    }
}
