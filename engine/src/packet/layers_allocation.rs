//! The header extension *video layers allocation* (webrtc.org, version 00): what bitrate a publisher gives
//! to each of its simulcast encodings and layers. Read by the shard for publishers that negotiated it;
//! written by nobody.

/// Simulcast encodings of which it can tell.
pub const MAX_STREAMS: usize = 4;

/// Spatial layers of an encoding, and temporal layers of each.
const MAX_LAYERS: usize = 4;

/// The bitrates that a publisher's encodings may take, in bits per second, in the order of its offer; 0:
/// none is sent. `None` if the bytes are no such extension.
#[must_use]
pub fn targets_bps(bytes: &[u8]) -> Option<[u64; MAX_STREAMS]> {
    let mut targets = [0; MAX_STREAMS];
    let (&first, mut rest) = bytes.split_first()?;
    if first == 0 && rest.is_empty() {
        return Some(targets);
    }
    let streams = usize::from(first >> 4 & 3) + 1;
    let mut layers = [first & 0x0f; MAX_STREAMS];
    if first & 0x0f == 0 {
        let masks = rest.split_off(..streams.div_ceil(2))?;
        for (stream, mask) in layers.iter_mut().enumerate().take(streams) {
            *mask = masks[stream / 2] >> (4 * (1 - stream % 2)) & 0x0f;
        }
    }
    let spatial: u32 = layers[..streams].iter().map(|mask| mask.count_ones()).sum();
    let counts = rest.split_off(..(spatial as usize).div_ceil(MAX_LAYERS))?;
    let mut place = 0;
    for (target, mask) in targets.iter_mut().zip(&layers[..streams]) {
        for _ in 0..mask.count_ones() {
            let temporal = (counts[place / 4] >> (2 * (3 - place % 4)) & 3) + 1;
            place += 1;
            let mut kbps = 0;
            for _ in 0..temporal {
                // Each includes those before it.
                kbps = leb128(&mut rest)?;
            }
            *target += kbps * 1_000;
        }
    }
    Some(targets)
}

/// A number of up to 32 bits.
fn leb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bitrates_of_three_encodings_are_read() {
        // Stream 0 of 3, one spatial layer each; 1, 2 and 3 temporal layers.
        let bytes = [
            0x21,
            0b0001_1000,
            150,
            1,
            200,
            1,
            144,
            3,
            100,
            200,
            1,
            132,
            7,
        ];
        assert_eq!(targets_bps(&bytes), Some([150_000, 400_000, 900_000, 0]));
    }

    #[test]
    fn an_encoding_that_is_not_sent_takes_nothing() {
        // Masks of their own: the first has a layer, the others none.
        let bytes = [0x20, 0x10, 0x00, 0x00, 150, 1];
        assert_eq!(targets_bps(&bytes), Some([150_000, 0, 0, 0]));
        assert_eq!(targets_bps(&[0]), Some([0; 4]));
    }

    #[test]
    fn the_spatial_layers_of_an_encoding_are_added_up() {
        let bytes = [0x03, 0b0101_0000, 50, 100, 60, 120, 2, 100, 0, 100, 0];
        assert_eq!(targets_bps(&bytes), Some([220_000, 0, 0, 0]));
    }

    #[test]
    fn what_ends_too_early_is_refused() {
        for bytes in [&[][..], &[0x21], &[0x20, 0x10], &[0x21, 0, 0x80, 0x80]] {
            assert_eq!(targets_bps(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = targets_bps(&bytes);
        }
    }
}
