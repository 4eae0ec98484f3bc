//! Boxes (ISO/IEC 14496-12 4.2): where each begins and ends, read from the file without loading it.

use super::error::DemuxError;
use super::source::Source;

/// Children one container may have: real ones have some ten.
const MAX_CHILDREN: usize = 4096;

/// A box: its name, and where its content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BoxAt {
    pub(super) name: [u8; 4],
    /// Where the header begins.
    pub(super) at: u64,
    /// Where the content begins.
    pub(super) content: u64,
    /// Where the box ends, at most at its container's end.
    pub(super) end: u64,
    /// The header said more than the container has.
    pub(super) is_cut: bool,
}

impl BoxAt {
    pub(super) fn len(&self) -> u64 {
        self.end - self.content
    }

    pub(super) fn damaged(&self, what: &'static str) -> DemuxError {
        DemuxError::damaged(what, self.name, self.at)
    }

    /// All of the content, of at most `limit` bytes.
    pub(super) fn read(&self, source: &Source, limit: u64) -> Result<Vec<u8>, DemuxError> {
        let len = self.len();
        if len > limit {
            return Err(DemuxError::TooMuch {
                what: "a box",
                value: len,
                limit,
            });
        }
        source.read_vec(self.content, len as usize)
    }

    /// The first `N` bytes of the content.
    pub(super) fn head<const N: usize>(&self, source: &Source) -> Result<[u8; N], DemuxError> {
        if self.len() < N as u64 {
            return Err(self.damaged("too short"));
        }
        let mut head = [0; N];
        source.read_exact(&mut head, self.content)?;
        Ok(head)
    }
}

/// The box at `at` within a container that ends at `end`; `None` where less than a header is left.
pub(super) fn box_at(source: &Source, at: u64, end: u64) -> Result<Option<BoxAt>, DemuxError> {
    if end.saturating_sub(at) < 8 {
        return Ok(None);
    }
    let mut header = [0; 16];
    source.read_exact(&mut header[..8], at)?;
    let name = [header[4], header[5], header[6], header[7]];
    let short = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let (header_bytes, size) = match short {
        0 => (8, end - at),
        1 => {
            if end - at < 16 {
                return Ok(None);
            }
            source.read_exact(&mut header[8..], at + 8)?;
            let mut long = [0; 8];
            long.copy_from_slice(&header[8..]);
            (16, u64::from_be_bytes(long))
        }
        size => (8, u64::from(size)),
    };
    if size < header_bytes {
        return Err(DemuxError::damaged("shorter than its header", name, at));
    }
    let says = at.checked_add(size);
    let is_cut = says.is_none_or(|says| says > end);
    Ok(Some(BoxAt {
        name,
        at,
        content: at + header_bytes,
        end: if is_cut { end } else { at + size },
        is_cut,
    }))
}

/// The boxes inside a container whose first child begins at `from`.
pub(super) fn children(source: &Source, from: u64, end: u64) -> Result<Vec<BoxAt>, DemuxError> {
    let mut all = Vec::new();
    let mut at = from;
    while let Some(child) = box_at(source, at, end)? {
        if child.is_cut {
            return Err(child.damaged("longer than what it is in"));
        }
        if all.len() == MAX_CHILDREN {
            return Err(DemuxError::TooMuch {
                what: "a number of boxes in one",
                value: all.len() as u64 + 1,
                limit: MAX_CHILDREN as u64,
            });
        }
        at = child.end;
        all.push(child);
    }
    Ok(all)
}

/// The first child of this name.
pub(super) fn find(children: &[BoxAt], name: &[u8; 4]) -> Option<BoxAt> {
    children.iter().find(|child| &child.name == name).copied()
}

/// Boxes in memory, for small containers that were read whole: name and content.
pub(super) struct InMemory<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for InMemory<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let size = read_u32(self.0, 0)? as usize;
        let name = [
            *self.0.get(4)?,
            *self.0.get(5)?,
            *self.0.get(6)?,
            *self.0.get(7)?,
        ];
        let (content, rest) = match size {
            0 => (self.0.get(8..)?, &self.0[self.0.len()..]),
            1 => {
                let size = usize::try_from(read_u64(self.0, 8)?).ok()?;
                (self.0.get(16..size)?, &self.0[size..])
            }
            size => (self.0.get(8..size)?, &self.0[size..]),
        };
        self.0 = rest;
        Some((name, content))
    }
}

pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let part = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(part.try_into().ok()?))
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(part.try_into().ok()?))
}

pub(super) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(part.try_into().ok()?))
}
