//! H.265 formats as RFC 7798 7.1 writes them: profile, tier and level in three parameters. The codec
//! matching compares profiles by what a decoder can do.

use super::super::payload::OfferedCodec;

/// `profile-id`, `tier-flag` and `level-id`: the general ones of H.265's profile_tier_level (7.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileTierLevel {
    /// general_profile_idc, 1 to 31: 1 is Main, 2 Main 10.
    pub profile_id: u8,
    /// general_tier_flag.
    pub is_high_tier: bool,
    /// general_level_idc: thirty times the level, 93 for 3.1.
    pub level_id: u8,
}

impl ProfileTierLevel {
    /// RFC 7798 7.1: without the parameters, Main at level 3.1 of the main tier.
    pub const DEFAULT: Self = Self {
        profile_id: 1,
        is_high_tier: false,
        level_id: 93,
    };

    /// Reads the parameters of an offered format. `None` if its packets or its profile are of a kind
    /// that this server does not carry.
    pub(super) fn of(offered: &OfferedCodec) -> Option<Self> {
        let number = |name, default| match offered.parameter(name) {
            Some(value) => value.parse::<u8>().ok(),
            None => Some(default),
        };
        let default = Self::DEFAULT;
        let profile_id = number("profile-id", default.profile_id)?;
        let tier_flag = number("tier-flag", 0)?;
        let level_id = number("level-id", default.level_id)?;
        // Other spaces are not defined. Decoding order numbers in packets (DONL) and several RTP
        // streams for one picture are beyond WebRTC (draft-ietf-avtcore-hevc-webrtc).
        let is_carried = number("profile-space", 0)? == 0
            && offered
                .parameter("sprop-max-don-diff")
                .is_none_or(|diff| diff == "0")
            && offered
                .parameter("tx-mode")
                .is_none_or(|mode| mode.eq_ignore_ascii_case("SRST"));
        (is_carried && (1..=31).contains(&profile_id) && tier_flag <= 1).then_some(Self {
            profile_id,
            is_high_tier: tier_flag == 1,
            level_id,
        })
    }

    /// Whether a decoder of this profile decodes every stream of `stream`'s (H.265 A.3): Main 10
    /// decodes Main, and both decode Main Still Picture.
    pub(super) const fn decodes(self, stream: Self) -> bool {
        matches!((self.profile_id, stream.profile_id), (2, 1 | 3) | (1, 3))
            || self.profile_id == stream.profile_id
    }
}
