//! PES packets (ISO/IEC 13818-1 2.4.3.6): the pieces of a stream that bear times.

use super::MAX_PES_BYTES;

/// A whole one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pes {
    /// 33 bits.
    pub(super) pts: Option<u64>,
    /// 33 bits, where it differs from `pts`.
    pub(super) dts: Option<u64>,
    bytes: Vec<u8>,
    payload: usize,
}

impl Pes {
    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[self.payload..]
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let &[0, 0, 1, _, _, _, marks, flags, header] = bytes.first_chunk()? else {
            return None;
        };
        (marks >> 6 == 2).then_some(())?;
        let payload = 9 + usize::from(header);
        let fields = bytes.get(9..payload)?;
        let pts = (flags & 0x80 != 0).then(|| time(fields)).flatten();
        let dts = (flags & 0xc0 == 0xc0)
            .then(|| time(fields.get(5..)?))
            .flatten();
        Some(Self {
            pts,
            dts,
            bytes,
            payload,
        })
    }
}

/// Five bytes with marker bits between.
fn time(field: &[u8]) -> Option<u64> {
    let &[high, upper, middle, lower, low] = field.first_chunk()?;
    let part = |byte: u8, mask: u8, shift: u32| u64::from(byte & mask) << shift;
    Some(
        part(high, 0x0e, 29)
            | part(upper, 0xff, 22)
            | part(middle, 0xfe, 14)
            | part(lower, 0xff, 7)
            | part(low, 0xfe, 0) >> 1,
    )
}

/// Joins the payloads of one identifier.
#[derive(Debug, Default)]
pub(super) struct PesAssembler {
    open: Option<Vec<u8>>,
}

impl PesAssembler {
    pub(super) fn abandon(&mut self) {
        self.open = None;
    }

    /// Takes a payload. `false`: the packet it belongs to is too large.
    pub(super) fn push(&mut self, payload: &[u8], starts: bool) -> bool {
        if starts {
            self.open = Some(Vec::new());
        }
        let Some(open) = &mut self.open else {
            return true;
        };
        if open.len() + payload.len() > MAX_PES_BYTES {
            self.open = None;
            return false;
        }
        open.extend_from_slice(payload);
        true
    }

    /// Whether it has the length that it announced; video need announce none.
    pub(super) fn is_complete(&self) -> bool {
        let length = |open: &Vec<u8>| {
            let field = open.get(4..6)?.first_chunk()?;
            Some((usize::from(u16::from_be_bytes(*field)), open.len()))
        };
        let known = self.open.as_ref().and_then(length);
        known.is_some_and(|(length, has)| length != 0 && has >= 6 + length)
    }

    /// What was joined, if it is a PES packet with a payload.
    pub(super) fn take(&mut self) -> Option<Pes> {
        let mut bytes = self.open.take()?;
        let length = usize::from(u16::from_be_bytes(*bytes.get(4..6)?.first_chunk()?));
        if length != 0 {
            bytes.truncate(6 + length);
        }
        Pes::parse(bytes)
    }
}
