//! A table of a file, however long, seen through a window of a few kilobytes.

use super::boxes::BoxAt;
use super::error::DemuxError;
use super::source::Source;

/// Bytes of a table held in memory: a disk's page.
const WINDOW_BYTES: usize = 4096;

/// Entries of equal size, somewhere in a file.
pub(super) struct Table {
    source: Source,
    first_at: u64,
    count: u32,
    stride: usize,
    window: Vec<u8>,
    window_first: u32,
}

impl Table {
    /// The entries of `stride` bytes that begin `header` bytes into the box's content.
    pub(super) fn new(
        source: &Source,
        of: &BoxAt,
        header: u64,
        count: u32,
        stride: usize,
    ) -> Result<Self, DemuxError> {
        let bytes = u64::from(count) * stride as u64;
        if header + bytes > of.len() {
            return Err(of.damaged("it counts more entries than it has"));
        }
        Ok(Self {
            source: source.clone(),
            first_at: of.content + header,
            count,
            stride,
            window: Vec::new(),
            window_first: 0,
        })
    }

    /// A table in the usual form: version and flags, number of entries, entries.
    pub(super) fn counted(source: &Source, of: &BoxAt, stride: usize) -> Result<Self, DemuxError> {
        let head: [u8; 8] = of.head(source)?;
        let count = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        Self::new(source, of, 8, count, stride)
    }

    fn entry(&mut self, index: u32) -> Result<Option<&[u8]>, DemuxError> {
        if index >= self.count {
            return Ok(None);
        }
        let held = (self.window.len() / self.stride) as u32;
        let is_held = index >= self.window_first && index - self.window_first < held;
        if !is_held {
            let left = (self.count - index) as usize;
            let entries = left.min(WINDOW_BYTES / self.stride);
            self.window.resize(entries * self.stride, 0);
            let at = self.first_at + u64::from(index) * self.stride as u64;
            if let Err(error) = self.source.read_exact(&mut self.window, at) {
                self.window.clear();
                return Err(error);
            }
            self.window_first = index;
        }
        let from = (index - self.window_first) as usize * self.stride;
        Ok(Some(&self.window[from..from + self.stride]))
    }

    /// The `field`th 32-bit number of an entry.
    pub(super) fn u32(&mut self, index: u32, field: usize) -> Result<Option<u32>, DemuxError> {
        let entry = self.entry(index)?;
        Ok(entry.map(|entry| {
            let part = &entry[4 * field..4 * field + 4];
            u32::from_be_bytes([part[0], part[1], part[2], part[3]])
        }))
    }

    /// An entry of 64 or 32 bits as a number.
    pub(super) fn offset(&mut self, index: u32) -> Result<Option<u64>, DemuxError> {
        let entry = self.entry(index)?;
        Ok(entry.map(|entry| {
            entry
                .iter()
                .fold(0_u64, |value, &byte| value << 8 | u64::from(byte))
        }))
    }
}
