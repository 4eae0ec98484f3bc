//! Redundant audio (RFC 2198): a payload that repeats what earlier packets carried before what it
//! carries itself.
//!
//! The shard cuts a received one where its own part begins, so that whoever did not negotiate the
//! format is sent that part alone, and writes the headers anew for those who did. Blocks refer to
//! each other by timestamp, so they stay right whatever becomes of sequence numbers.

/// Most blocks of a payload: browsers send two or three, and fewer than ten.
pub const MAX_BLOCKS: usize = 12;

/// Longest headers of all blocks together.
pub const MAX_HEADERS_BYTES: usize = 4 * (MAX_BLOCKS - 1) + 1;

/// Where the parts of a payload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedLayout {
    /// Bytes of the headers of all blocks.
    pub headers_len: usize,
    /// Where the primary block, the packet's own, begins; it goes to the end.
    pub primary_start: usize,
}

/// Finds the primary block of a payload all of whose blocks are of one format. `None` when it is cut
/// short, has too many blocks, or holds another format.
#[must_use]
pub fn parse(payload: &[u8], block_payload_type: u8) -> Option<RedLayout> {
    let (mut at, mut redundant_len) = (0, 0);
    for _ in 0..MAX_BLOCKS {
        let first = *payload.get(at)?;
        if first & 0x7f != block_payload_type {
            return None;
        }
        // RFC 2198 3: the F bit says that another header follows.
        if first & 0x80 == 0 {
            let headers_len = at + 1;
            let primary_start = headers_len + redundant_len;
            return (primary_start <= payload.len()).then_some(RedLayout {
                headers_len,
                primary_start,
            });
        }
        let length = u16::from_be_bytes([*payload.get(at + 2)?, *payload.get(at + 3)?]);
        redundant_len += usize::from(length & 0x3ff);
        at += 4;
    }
    None
}

/// Length of the headers of a payload that [`parse`] has found whole.
#[must_use]
pub fn headers_len(payload: &[u8]) -> usize {
    let redundant = payload
        .iter()
        .step_by(4)
        .take_while(|first| **first & 0x80 != 0);
    (4 * redundant.count() + 1).min(payload.len())
}

/// Names the blocks of such headers by another payload type.
pub fn rename_blocks(headers: &mut [u8], block_payload_type: u8) {
    for first in headers.iter_mut().step_by(4) {
        *first = *first & 0x80 | block_payload_type & 0x7f;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two redundant blocks of three and two bytes, and the primary one.
    const PAYLOAD: [u8; 9 + 5 + 4] = [
        0x80 | 111,
        0x0f,
        0x00,
        3,
        0x80 | 111,
        0x07,
        0x80,
        2,
        111, // headers
        1,
        1,
        1,
        2,
        2, // redundant
        9,
        9,
        9,
        9,
    ];

    #[test]
    fn the_primary_block_is_what_the_others_leave() {
        let layout = RedLayout {
            headers_len: 9,
            primary_start: 14,
        };
        assert_eq!(parse(&PAYLOAD, 111), Some(layout));
        assert_eq!(headers_len(&PAYLOAD), 9);
        let alone = RedLayout {
            headers_len: 1,
            primary_start: 1,
        };
        assert_eq!(parse(&[111, 5, 6], 111), Some(alone));
        assert_eq!(headers_len(&[111, 5, 6]), 1);
    }

    #[test]
    fn what_is_cut_short_or_of_another_format_is_refused() {
        for len in 0..14 {
            assert_eq!(parse(&PAYLOAD[..len], 111), None, "{len}");
        }
        assert_eq!(parse(&PAYLOAD, 112), None);
        let endless = [0x80 | 111, 0, 0, 0].repeat(MAX_BLOCKS + 1);
        assert_eq!(parse(&endless, 111), None);
    }

    #[test]
    fn blocks_take_another_name_and_nothing_else() {
        let mut payload = PAYLOAD;
        rename_blocks(&mut payload[..9], 96);
        assert!(parse(&payload, 111).is_none());
        assert_eq!(parse(&payload, 96), parse(&PAYLOAD, 111));
        rename_blocks(&mut payload[..9], 111);
        assert_eq!(payload, PAYLOAD);
    }

    proptest! {
        #[test]
        fn what_is_found_lies_within(payload: Vec<u8>, payload_type in 0u8..128) {
            if let Some(layout) = parse(&payload, payload_type) {
                prop_assert!(layout.headers_len <= layout.primary_start);
                prop_assert!(layout.primary_start <= payload.len());
                prop_assert!(layout.headers_len <= MAX_HEADERS_BYTES);
                prop_assert_eq!(headers_len(&payload), layout.headers_len);
            }
        }
    }
}
