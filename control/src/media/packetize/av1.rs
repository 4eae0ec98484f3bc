//! AV1 payloads (RTP Payload Format For AV1): OBUs without their size fields, aggregated and cut.

use super::{MAX_PAYLOAD_BYTES, PacketizeError, Payloads};

const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_TILE_LIST: u8 = 8;
const OBU_PADDING: u8 = 15;

const CONTINUES_PREVIOUS: u8 = 0x80;
const CONTINUED_BY_NEXT: u8 = 0x40;
const NEW_CODED_VIDEO_SEQUENCE: u8 = 0x08;

/// A length of two bytes of leb128 covers all that a payload can hold.
const LENGTH_BYTES: usize = 2;

/// An OBU without a size field: its header, and what follows.
struct Obu<'a> {
    /// One or two bytes, the size flag cleared.
    header: [u8; 2],
    header_bytes: usize,
    body: &'a [u8],
}

impl Obu<'_> {
    fn kind(&self) -> u8 {
        self.header[0] >> 3 & 0x0f
    }

    fn len(&self) -> usize {
        self.header_bytes + self.body.len()
    }
}

pub(super) fn packetize(
    unit: &[u8],
    is_keyframe: bool,
    configuration: &[u8],
    payloads: &mut Payloads,
) -> Result<(), PacketizeError> {
    let mut obus = Vec::new();
    split(unit, &mut obus)?;
    let has_header = obus.iter().any(|obu| obu.kind() == OBU_SEQUENCE_HEADER);
    if is_keyframe && !has_header {
        let own = std::mem::take(&mut obus);
        split(configuration, &mut obus)?;
        obus.extend(own);
    }
    // 5: these must not be sent, or carry nothing.
    obus.retain(|obu| {
        !matches!(
            obu.kind(),
            OBU_TEMPORAL_DELIMITER | OBU_TILE_LIST | OBU_PADDING
        )
    });
    pack(&obus, is_keyframe, payloads);
    Ok(())
}

fn split<'a>(unit: &'a [u8], obus: &mut Vec<Obu<'a>>) -> Result<(), PacketizeError> {
    let damaged = PacketizeError::Damaged(unit.len());
    let mut rest = unit;
    while let Some((&first, after)) = rest.split_first() {
        // 5.3.2: the forbidden bit is 0.
        if first & 0x80 != 0 {
            return Err(damaged);
        }
        let (has_extension, has_size) = (first & 0x04 != 0, first & 0x02 != 0);
        let mut header = [first & !0x02, 0];
        rest = after;
        if has_extension {
            let (&extension, after) = rest.split_first().ok_or(damaged)?;
            header[1] = extension;
            rest = after;
        }
        let body = if has_size {
            let (len, after) = read_leb128(rest).ok_or(damaged)?;
            let (body, after) = after.split_at_checked(len).ok_or(damaged)?;
            rest = after;
            body
        } else {
            std::mem::take(&mut rest)
        };
        obus.push(Obu {
            header,
            header_bytes: 1 + usize::from(has_extension),
            body,
        });
    }
    Ok(())
}

fn read_leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}

/// Fills payloads one after the other, an OBU going on in the next where one is full. Every element
/// has its length before it (W = 0), so that none need be counted beforehand.
fn pack(obus: &[Obu<'_>], is_keyframe: bool, payloads: &mut Payloads) {
    // Elements of the payload in the making.
    let mut elements: Vec<u8> = Vec::with_capacity(MAX_PAYLOAD_BYTES);
    let mut flags = if is_keyframe {
        NEW_CODED_VIDEO_SEQUENCE
    } else {
        0
    };
    for obu in obus {
        let mut sent = 0;
        while sent < obu.len() {
            let room = (MAX_PAYLOAD_BYTES - 1).saturating_sub(elements.len() + LENGTH_BYTES);
            // A header is not torn from its first byte for nothing.
            if room < obu.header_bytes + 1 {
                payloads.push(&[&[flags], &elements]);
                elements.clear();
                flags = if sent > 0 { CONTINUES_PREVIOUS } else { 0 };
                continue;
            }
            let part = room.min(obu.len() - sent);
            push_length(part, &mut elements);
            if sent == 0 {
                elements.extend_from_slice(&obu.header[..obu.header_bytes]);
                elements.extend_from_slice(&obu.body[..part - obu.header_bytes.min(part)]);
            } else {
                let from = sent - obu.header_bytes;
                elements.extend_from_slice(&obu.body[from..from + part]);
            }
            sent += part;
            if sent < obu.len() {
                payloads.push(&[&[flags | CONTINUED_BY_NEXT], &elements]);
                elements.clear();
                flags = CONTINUES_PREVIOUS;
            }
        }
    }
    if !elements.is_empty() {
        payloads.push(&[&[flags], &elements]);
    }
}

fn push_length(len: usize, to: &mut Vec<u8>) {
    debug_assert!(len < 1 << 14);
    if len < 0x80 {
        to.push(len as u8);
    } else {
        to.push((len & 0x7f) as u8 | 0x80);
        to.push((len >> 7) as u8);
    }
}
