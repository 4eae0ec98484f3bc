//! What H.264 and H.265 share: NAL units with lengths before them, several small ones in one
//! payload, large ones cut.

use super::{MAX_PAYLOAD_BYTES, PacketizeError, Payloads};

/// What differs between RFC 6184 and RFC 7798.
pub(super) trait Packing {
    /// Bytes of a NAL unit's header.
    const HEADER_BYTES: usize;
    /// The header of an aggregation packet of these units.
    fn aggregation_header(nals: &[&[u8]], header: &mut Vec<u8>);
    /// The headers of one fragment of `nal`.
    fn fragment_header(nal: &[u8], first: bool, last: bool, header: &mut Vec<u8>);
}

/// The NAL units of an access unit.
pub(super) fn split(unit: &[u8], length_bytes: u8) -> Result<Vec<&[u8]>, PacketizeError> {
    let damaged = PacketizeError::Damaged(unit.len());
    let length_bytes = usize::from(length_bytes);
    let mut nals = Vec::new();
    let mut rest = unit;
    while !rest.is_empty() {
        let (length, after) = rest.split_at_checked(length_bytes).ok_or(damaged)?;
        let length = length
            .iter()
            .fold(0_usize, |value, &byte| value << 8 | usize::from(byte));
        let (nal, after) = after.split_at_checked(length).ok_or(damaged)?;
        if !nal.is_empty() {
            nals.push(nal);
        }
        rest = after;
    }
    Ok(nals)
}

/// Adds the payloads of `nals`: small neighbours share one, large ones are cut.
pub(super) fn pack<P: Packing>(nals: &[&[u8]], payloads: &mut Payloads) {
    let mut from = 0;
    while from < nals.len() {
        if nals[from].len() > MAX_PAYLOAD_BYTES {
            fragment::<P>(nals[from], payloads);
            from += 1;
            continue;
        }
        let mut to = from;
        let mut bytes = P::HEADER_BYTES;
        while to < nals.len() && bytes + 2 + nals[to].len() <= MAX_PAYLOAD_BYTES {
            bytes += 2 + nals[to].len();
            to += 1;
        }
        // One alone goes as it is, also one that would fit by itself only.
        if to <= from + 1 {
            payloads.push(&[nals[from]]);
            from += 1;
            continue;
        }
        let together = &nals[from..to];
        let mut header = Vec::with_capacity(P::HEADER_BYTES);
        P::aggregation_header(together, &mut header);
        payloads.extend(&header);
        for nal in together {
            // Below MAX_PAYLOAD_BYTES, checked above.
            payloads.extend(&(nal.len() as u16).to_be_bytes());
            payloads.extend(nal);
        }
        payloads.end_payload();
        from = to;
    }
}

fn fragment<P: Packing>(nal: &[u8], payloads: &mut Payloads) {
    let body = &nal[P::HEADER_BYTES..];
    // A fragment has one byte of header more than a unit (RFC 6184 5.8, RFC 7798 4.4.3).
    let room = MAX_PAYLOAD_BYTES - P::HEADER_BYTES - 1;
    let count = body.len().div_ceil(room);
    let mut header = Vec::with_capacity(P::HEADER_BYTES + 1);
    for (index, part) in body.chunks(room).enumerate() {
        header.clear();
        P::fragment_header(nal, index == 0, index + 1 == count, &mut header);
        payloads.push(&[&header, part]);
    }
}
