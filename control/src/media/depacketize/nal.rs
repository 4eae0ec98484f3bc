//! What H.264 and H.265 payloads have in common: NAL units, whole, aggregated and in fragments.

use super::Malformed;

/// NAL units of one picture, each after four bytes of length.
#[derive(Debug, Default)]
pub(super) struct Nals {
    bytes: Vec<u8>,
    /// Where the length of the fragmented unit stands that is not complete yet.
    open: Option<usize>,
}

impl Nals {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.open = None;
    }

    /// Adds a whole unit.
    pub(super) fn add(&mut self, nal: &[u8]) -> Result<(), Malformed> {
        if self.open.is_some() {
            return Err(Malformed);
        }
        let len = u32::try_from(nal.len()).map_err(|_| Malformed)?;
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(nal);
        Ok(())
    }

    /// Adds a fragment of a unit; the first one brings the unit's header.
    pub(super) fn add_fragment(
        &mut self,
        header: &[u8],
        fragment: &[u8],
        (starts, ends): (bool, bool),
    ) -> Result<(), Malformed> {
        if starts != self.open.is_none() {
            return Err(Malformed);
        }
        if starts {
            self.open = Some(self.bytes.len());
            self.bytes.extend_from_slice(&[0; 4]);
            self.bytes.extend_from_slice(header);
        }
        self.bytes.extend_from_slice(fragment);
        if ends {
            let at = self.open.take().ok_or(Malformed)?;
            let len = u32::try_from(self.bytes.len() - at - 4).map_err(|_| Malformed)?;
            self.bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
        }
        Ok(())
    }

    /// All units with their lengths, if none is incomplete.
    pub(super) fn take(&mut self) -> Result<Vec<u8>, Malformed> {
        if self.open.take().is_some() {
            self.bytes.clear();
            return Err(Malformed);
        }
        Ok(std::mem::take(&mut self.bytes))
    }
}

/// The units of an aggregation packet: each after two bytes of length.
pub(super) struct Aggregated<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Aggregated<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let parts = self
            .0
            .split_first_chunk::<2>()
            .and_then(|(len, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*len))));
        match parts {
            Some((nal, rest)) => {
                self.0 = rest;
                Some(Ok(nal))
            }
            None => {
                self.0 = &[];
                Some(Err(Malformed))
            }
        }
    }
}

/// The units of a picture that [`Nals`] made.
pub(crate) fn nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (nal, after) = after.split_at_checked(len)?;
        rest = after;
        Some(nal)
    })
}
