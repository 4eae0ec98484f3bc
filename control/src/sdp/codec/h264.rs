//! H.264 profiles as RFC 6184 8.1 writes them, `profile-level-id`. The codec matching compares them
//! by what a decoder can do, not by their digits.

use std::fmt;

/// The three bytes of `profile-level-id`: profile_idc, profile-iop, level_idc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileLevelId(pub [u8; 3]);

impl ProfileLevelId {
    /// RFC 6184 8.1: without the parameter, Baseline at level 1.
    pub const DEFAULT: Self = Self([0x42, 0x00, 0x0A]);

    /// Reads six hexadecimal digits. `None` for anything else.
    pub fn parse(value: &str) -> Option<Self> {
        if value.len() != 6 || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let number = u32::from_str_radix(value, 16).ok()?;
        let [_, profile_idc, profile_iop, level_idc] = number.to_be_bytes();
        Some(Self([profile_idc, profile_iop, level_idc]))
    }

    /// The profile, by the constraint flags that matter for it (RFC 6184 8.1, table 5).
    pub const fn profile(self) -> H264Profile {
        let [profile_idc, profile_iop, _] = self.0;
        // The two low bits of profile-iop are reserved; constraint_set0_flag is the highest.
        match (profile_idc, profile_iop) {
            (0x42, iop) if iop & 0b0100_1111 == 0b0100_0000 => H264Profile::ConstrainedBaseline,
            (0x4D, iop) if iop & 0b1000_1111 == 0b1000_0000 => H264Profile::ConstrainedBaseline,
            (0x58, iop) if iop & 0b1100_1111 == 0b1100_0000 => H264Profile::ConstrainedBaseline,
            (0x42, iop) if iop & 0b0100_1111 == 0 => H264Profile::Baseline,
            (0x58, iop) if iop & 0b1100_1111 == 0b1000_0000 => H264Profile::Baseline,
            (0x4D, iop) if iop & 0b1010_1111 == 0 => H264Profile::Main,
            (0x58, iop) if iop & 0b1100_1111 == 0 => H264Profile::Extended,
            (0x64, 0b0000_1100) => H264Profile::ConstrainedHigh,
            (0x64, iop) if iop & 0b0000_1111 == 0 => H264Profile::High,
            (0xF4, iop) if iop & 0b0001_1111 == 0 => H264Profile::High444Predictive,
            (profile_idc, profile_iop) => H264Profile::Other {
                profile_idc,
                profile_iop,
            },
        }
    }
}

impl fmt::Display for ProfileLevelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [profile_idc, profile_iop, level_idc] = self.0;
        write!(f, "{profile_idc:02x}{profile_iop:02x}{level_idc:02x}")
    }
}

/// A profile of H.264.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum H264Profile {
    /// Constrained Baseline: what every WebRTC endpoint must decode.
    ConstrainedBaseline,
    /// Baseline.
    Baseline,
    /// Main.
    Main,
    /// Extended.
    Extended,
    /// High without interlacing and B frames.
    ConstrainedHigh,
    /// High.
    High,
    /// High 4:4:4 Predictive.
    High444Predictive,
    /// One that RTP clients do not use; equal to itself only.
    Other {
        /// First byte of `profile-level-id`.
        profile_idc: u8,
        /// Second byte.
        profile_iop: u8,
    },
}

impl H264Profile {
    /// Whether a decoder of this profile decodes every stream of `stream` (H.264 A.2).
    pub const fn decodes(self, stream: Self) -> bool {
        use H264Profile::{
            Baseline, ConstrainedBaseline, ConstrainedHigh, Extended, High, High444Predictive,
            Main, Other,
        };
        match (stream, self) {
            (
                Other {
                    profile_idc: a,
                    profile_iop: b,
                },
                Other {
                    profile_idc: c,
                    profile_iop: d,
                },
            ) => a == c && b == d,
            (_, Other { .. }) | (Other { .. }, _) => false,
            (ConstrainedBaseline, _) => true,
            (Baseline, Baseline | Extended) => true,
            (Main, Main | High | High444Predictive) => true,
            (Extended, Extended) => true,
            (ConstrainedHigh, ConstrainedHigh | High | High444Predictive) => true,
            (High, High | High444Predictive) => true,
            (High444Predictive, High444Predictive) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn profile(value: &str) -> H264Profile {
        ProfileLevelId::parse(value).unwrap().profile()
    }

    #[test]
    fn profiles_of_real_clients_are_told_apart() {
        use H264Profile::*;
        for (value, expected) in [
            ("42e01f", ConstrainedBaseline),
            ("42c01e", ConstrainedBaseline),
            ("42E01F", ConstrainedBaseline),
            ("4d801f", ConstrainedBaseline),
            ("42001f", Baseline),
            ("42000c", Baseline),
            ("4d001f", Main),
            ("58001f", Extended),
            ("640c1f", ConstrainedHigh),
            ("64001f", High),
            ("f4001f", High444Predictive),
        ] {
            assert_eq!(profile(value), expected, "{value}");
        }
    }

    #[test]
    fn a_high_decoder_decodes_main_and_constrained_baseline_but_not_baseline() {
        let high = H264Profile::High;
        assert!(high.decodes(H264Profile::Main));
        assert!(high.decodes(H264Profile::ConstrainedBaseline));
        assert!(!high.decodes(H264Profile::Baseline));
        assert!(!H264Profile::Main.decodes(high));
    }

    proptest! {
        #[test]
        fn a_profile_level_id_round_trips(bytes: [u8; 3]) {
            let id = ProfileLevelId(bytes);
            prop_assert_eq!(ProfileLevelId::parse(&id.to_string()), Some(id));
            prop_assert!(id.profile().decodes(id.profile()));
        }

        #[test]
        fn no_profile_level_id_panics(value in "\\PC{0,8}") {
            let _ = ProfileLevelId::parse(&value);
        }
    }
}
