//! Which of a viewer's codecs takes what a publisher sends. The subscription tables ask whenever a
//! viewer or a publisher comes, or a publisher changes its codec; packets are never transcoded.

use super::{CodecParameters, CodecProfile};

/// Whether a viewer who negotiated `offered` can be sent what a publisher sends as `published`.
pub fn compatible(published: &CodecParameters, offered: &CodecParameters) -> bool {
    rank(published, offered).is_some()
}

/// The index of the codec in `offered` that takes `published` best: the same profile before one
/// that includes it before any other of the codec, and the first among equals.
pub fn best_match(published: &CodecParameters, offered: &[CodecParameters]) -> Option<usize> {
    offered
        .iter()
        .enumerate()
        .filter_map(|(index, codec)| Some((rank(published, codec)?, index)))
        .min()
        .map(|(_, index)| index)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ProfileRank {
    Same,
    Includes,
    // Decoders in browsers take any profile whatever the description says of them.
    Other,
}

// Lower is better; `None` is no match. The flag: whether H.264's way of packing differs, or H.265's
// tier is beyond the one offered.
fn rank(published: &CodecParameters, offered: &CodecParameters) -> Option<(ProfileRank, bool)> {
    let same_stream = published.codec == offered.codec
        && published.clock_rate == offered.clock_rate
        && published.channels == offered.channels;
    if !same_stream {
        return None;
    }
    match (published.profile, offered.profile) {
        (
            CodecProfile::H264 {
                profile_level_id: sent,
                packetization_mode: sent_mode,
            },
            CodecProfile::H264 {
                profile_level_id: taken,
                packetization_mode: taken_mode,
            },
        ) => {
            // RFC 6184 6.2, 6.3: mode 1 takes the packets of mode 0, not the other way round.
            // The level is not compared: level asymmetry lets each side send what it likes.
            if sent_mode > taken_mode {
                return None;
            }
            let (sent, taken) = (sent.profile(), taken.profile());
            let packing_differs = sent_mode != taken_mode;
            let profile = if sent == taken {
                ProfileRank::Same
            } else if taken.decodes(sent) {
                ProfileRank::Includes
            } else {
                ProfileRank::Other
            };
            (profile != ProfileRank::Other || !packing_differs)
                .then_some((profile, packing_differs))
        }
        (CodecProfile::H265(sent), CodecProfile::H265(taken)) => {
            // Decoders are hardware for the most part, which takes no other profile. Levels and tiers
            // bound sizes and rates, which encoders rarely come near: they keep nobody from watching.
            let profile = if sent.profile_id == taken.profile_id {
                ProfileRank::Same
            } else if taken.decodes(sent) {
                ProfileRank::Includes
            } else {
                return None;
            };
            Some((profile, sent.is_high_tier && !taken.is_high_tier))
        }
        (sent, taken) => (sent == taken).then_some((ProfileRank::Same, false)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use super::super::{Codec, ProfileLevelId, ProfileTierLevel, RtcpFeedback};
    use super::*;

    fn codec(codec: Codec, profile: CodecProfile) -> CodecParameters {
        CodecParameters {
            payload_type: 96,
            codec,
            clock_rate: 90_000,
            channels: 1,
            profile,
            rtx_payload_type: None,
            redundancy: None,
            feedback: RtcpFeedback::default(),
            fmtp: None,
        }
    }

    fn h264(profile_level_id: &str, packetization_mode: u8) -> CodecParameters {
        let profile_level_id = ProfileLevelId::parse(profile_level_id).unwrap();
        codec(
            Codec::H264,
            CodecProfile::H264 {
                profile_level_id,
                packetization_mode,
            },
        )
    }

    fn vp9(profile_id: u8) -> CodecParameters {
        codec(Codec::Vp9, CodecProfile::Vp9 { profile_id })
    }

    #[test]
    fn fragmented_h264_never_goes_to_a_viewer_of_single_nal_units() {
        assert!(!compatible(&h264("42e01f", 1), &h264("42e01f", 0)));
        assert!(compatible(&h264("42e01f", 0), &h264("42e01f", 1)));
    }

    #[test]
    fn the_same_h264_profile_wins_over_one_that_includes_it() {
        let offered = [h264("64001f", 1), h264("42001f", 1), h264("42e01f", 1)];
        assert_eq!(best_match(&h264("42c01e", 1), &offered), Some(2));
        assert_eq!(best_match(&h264("4d001f", 1), &offered), Some(0));
    }

    #[test]
    fn the_same_packetization_mode_wins_among_equal_profiles() {
        let offered = [h264("42e01f", 1), h264("42e01f", 0)];
        assert_eq!(best_match(&h264("42e01f", 0), &offered), Some(1));
    }

    #[test]
    fn a_profile_beyond_the_offer_still_goes_to_the_same_packetization_mode() {
        let offered = [h264("42e01f", 0), h264("42e01f", 1)];
        assert_eq!(best_match(&h264("640028", 1), &offered), Some(1));
        assert_eq!(best_match(&h264("640028", 0), &offered), Some(0));
        assert_eq!(best_match(&h264("640028", 0), &offered[1..]), None);
    }

    #[test]
    fn levels_do_not_keep_anyone_from_watching() {
        assert_eq!(
            best_match(&h264("42e034", 1), &[h264("42e00a", 1)]),
            Some(0)
        );
    }

    #[test]
    fn vp9_and_av1_need_the_same_profile() {
        assert_eq!(best_match(&vp9(2), &[vp9(0), vp9(2)]), Some(1));
        assert_eq!(best_match(&vp9(0), &[vp9(2)]), None);
        let av1 = |profile| codec(Codec::Av1, CodecProfile::Av1 { profile });
        assert!(compatible(&av1(0), &av1(0)));
        assert!(!compatible(&av1(1), &av1(0)));
    }

    #[test]
    fn an_h265_decoder_takes_the_profiles_that_its_own_includes() {
        let h265 = |profile_id, is_high_tier| {
            let profile = ProfileTierLevel {
                profile_id,
                is_high_tier,
                level_id: 93,
            };
            codec(Codec::H265, CodecProfile::H265(profile))
        };
        let (main, main10) = (h265(1, false), h265(2, false));
        let both = [main10.clone(), main.clone()];
        assert_eq!(best_match(&main, &both), Some(1));
        assert_eq!(best_match(&main10, &both), Some(0));
        assert_eq!(best_match(&main, &both[..1]), Some(0));
        assert_eq!(best_match(&main10, &both[1..]), None);
        assert_eq!(best_match(&h265(4, false), &both), None);
        let tiers = [main, h265(1, true)];
        assert_eq!(best_match(&h265(1, true), &tiers), Some(1));
        assert_eq!(best_match(&h265(1, true), &tiers[..1]), Some(0));
    }

    #[test]
    fn codecs_do_not_mix() {
        assert_eq!(
            best_match(&vp9(0), &[codec(Codec::Vp8, CodecProfile::None)]),
            None
        );
        assert_eq!(best_match(&vp9(0), &[]), None);
    }
}
