//! G.711, the telephone's logarithmic samples (ITU-T G.711), to linear ones.

/// Which of the two laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Law {
    Mu,
    A,
}

/// Replaces `pcm` by the samples of a packet.
pub(super) fn decode(law: Law, packet: &[u8], pcm: &mut Vec<f32>) {
    let linear = match law {
        Law::Mu => mu,
        Law::A => a,
    };
    pcm.clear();
    pcm.extend(
        packet
            .iter()
            .map(|&byte| f32::from(linear(byte)) / 32_768.0),
    );
}

fn mu(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 0x0f) << 3) + 0x84) << (byte >> 4 & 7);
    match byte & 0x80 {
        0 => magnitude - 0x84,
        _ => 0x84 - magnitude,
    }
}

fn a(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let mantissa = i16::from(byte & 0x0f) << 4;
    let magnitude = match byte >> 4 & 7 {
        0 => mantissa + 8,
        segment => (mantissa + 0x108) << (segment - 1),
    };
    match byte & 0x80 {
        0 => -magnitude,
        _ => magnitude,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_laws_have_the_values_of_the_recommendation() {
        // Tables 1a to 2b of G.711, scaled to 16 bits.
        for (byte, expected) in [
            (0xff, 0),
            (0x7f, 0),
            (0x80, 32_124),
            (0x00, -32_124),
            (0x8f, 16_764),
        ] {
            assert_eq!(mu(byte), expected, "mu {byte:#x}");
        }
        for (byte, expected) in [
            (0xd5, 8),
            (0x55, -8),
            (0xaa, 32_256),
            (0x2a, -32_256),
            (0xa5, 16_896),
        ] {
            assert_eq!(a(byte), expected, "A {byte:#x}");
        }
    }
}
