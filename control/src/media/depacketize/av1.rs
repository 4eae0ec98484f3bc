//! AV1 (RTP Payload Format For AV1): OBU elements joined, and given sizes.

use super::{Coded, Malformed};

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

#[derive(Debug, Default)]
pub(super) struct Picture {
    data: Vec<u8>,
    /// An OBU whose rest comes with the next packet.
    open: Option<Vec<u8>>,
    keyframe: bool,
}

impl Picture {
    pub(super) fn len(&self) -> usize {
        self.data.len() + self.open.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (&aggregation, mut rest) = payload.split_first().ok_or(Malformed)?;
        // 4.4: Z continues an OBU, Y leaves one open, W counts the elements, N begins a sequence.
        let (continues, stays_open) = (aggregation & 0x80 != 0, aggregation & 0x40 != 0);
        let count = usize::from(aggregation >> 4 & 3);
        if continues != self.open.is_some() {
            return Err(Malformed);
        }
        if aggregation & 0x08 != 0 && self.data.is_empty() {
            self.keyframe = true;
        }
        let mut position = 0;
        while !rest.is_empty() {
            position += 1;
            let element = if count != 0 && position == count {
                std::mem::take(&mut rest)
            } else {
                let (len, after) = leb128(rest).ok_or(Malformed)?;
                let (element, after) = after.split_at_checked(len).ok_or(Malformed)?;
                rest = after;
                element
            };
            match self.open.take() {
                Some(mut obu) => {
                    obu.extend_from_slice(element);
                    self.open = Some(obu);
                }
                None => self.open = Some(element.to_vec()),
            }
            if !(rest.is_empty() && stays_open) {
                self.close()?;
            }
        }
        (position > 0).then_some(()).ok_or(Malformed)
    }

    /// Adds the open OBU with its size.
    fn close(&mut self) -> Result<(), Malformed> {
        let Some(obu) = self.open.take() else {
            return Ok(());
        };
        let (&header, rest) = obu.split_first().ok_or(Malformed)?;
        let (extension, mut body) = match header & HAS_EXTENSION {
            0 => (None, rest),
            _ => {
                let (&extension, body) = rest.split_first().ok_or(Malformed)?;
                (Some(extension), body)
            }
        };
        if header & HAS_SIZE != 0 {
            let (len, after) = leb128(body).ok_or(Malformed)?;
            body = after.get(..len).ok_or(Malformed)?;
        }
        if matches!(header >> 3 & 0x0f, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            return Ok(());
        }
        self.data.push(header | HAS_SIZE);
        self.data.extend(extension);
        append_leb128(&mut self.data, body.len());
        self.data.extend_from_slice(body);
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<Option<Coded>, Malformed> {
        let keyframe = std::mem::take(&mut self.keyframe);
        let data = std::mem::take(&mut self.data);
        if self.open.take().is_some() {
            return Err(Malformed);
        }
        if data.is_empty() {
            return Ok(None);
        }
        // A sequence may begin only with its header; else a decoder could not begin there.
        let keyframe = keyframe && sequence_header(&data).is_some();
        Ok(Some(Coded { keyframe, data }))
    }

    pub(super) fn abandon(&mut self) {
        self.data.clear();
        self.open = None;
        self.keyframe = false;
    }
}

/// The sequence header OBU, with header and size, of a unit made here.
pub(crate) fn sequence_header(data: &[u8]) -> Option<&[u8]> {
    let mut rest = data;
    while let Some((&header, after)) = rest.split_first() {
        let after = if header & HAS_EXTENSION != 0 {
            after.get(1..)?
        } else {
            after
        };
        let (len, body) = leb128(after)?;
        let (_, next) = body.split_at_checked(len)?;
        if header >> 3 & 0x0f == SEQUENCE_HEADER {
            return rest.get(..rest.len() - next.len());
        }
        rest = next;
    }
    None
}

/// AV1 4.10.5: a number in groups of seven bits, and what follows it.
pub(crate) fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}

fn append_leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
