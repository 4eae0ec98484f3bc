//! What each client's offer means for the engine: the details that one client has and others not.

use fanmill_control::sdp::{
    Codec, CodecProfile, Direction, HashAlgorithm, HeaderExtension, IceFragment, MediaKind,
    Negotiated, NegotiatedMedia, Offer, RejectReason, Setup, TrackLimits, answer_publisher,
    answer_viewer, restart_fragment,
};

use crate::fixtures::{Fixture, local, track};

fn negotiated(name: &str) -> Negotiated {
    Fixture::load(name).answer().unwrap().negotiated
}

fn media(negotiated: &Negotiated, kind: MediaKind) -> &NegotiatedMedia {
    negotiated
        .media
        .iter()
        .find(|media| media.kind == kind)
        .unwrap()
}

fn codecs(media: &NegotiatedMedia) -> Vec<(u8, Codec, Option<u8>)> {
    media
        .codecs
        .iter()
        .map(|c| (c.payload_type, c.codec, c.rtx_payload_type))
        .collect()
}

#[test]
fn ffmpeg_waits_for_our_client_hello_and_has_only_nack() {
    let negotiated = negotiated("ffmpeg9-whip-h264-opus");
    assert_eq!(negotiated.transport.setup, Setup::Active);
    assert!(negotiated.transport.candidates.is_empty());
    let video = media(&negotiated, MediaKind::Video);
    assert_eq!(codecs(video), [(106, Codec::H264, Some(105))]);
    let feedback = video.codecs[0].feedback;
    assert!(feedback.nack && !feedback.nack_pli && !feedback.transport_cc);
    assert_eq!(video.encodings[0].ssrc, 2_947_980_556);
    assert_eq!(video.encodings[0].rtx_ssrc, Some(2_947_980_557));
    assert_eq!(video.msid.as_ref().unwrap().stream_id, "FFmpeg");
}

#[test]
fn chromium_simulcast_is_answered_layer_by_layer() {
    let answer = Fixture::load("chromium-whip-simulcast3").answer().unwrap();
    let video = media(&answer.negotiated, MediaKind::Video);
    let rids: Vec<&str> = video.rids.iter().map(|rid| rid.id.as_str()).collect();
    assert_eq!(rids, ["l", "m", "h"]);
    for line in [
        "a=rid:l recv",
        "a=rid:m recv",
        "a=rid:h recv",
        "a=simulcast:recv l;m;h",
    ] {
        assert!(answer.sdp.contains(&format!("\r\n{line}\r\n")), "{line}");
    }
    assert_eq!(
        video.extension_id(HeaderExtension::DependencyDescriptor),
        Some(12)
    );
    assert_eq!(
        video.extension_id(HeaderExtension::VideoLayersAllocation),
        Some(9)
    );
    assert_eq!(video.extension_id(HeaderExtension::RtpStreamId), Some(10));
    assert!(
        video
            .codecs
            .iter()
            .all(|c| c.feedback.transport_cc && c.feedback.goog_remb)
    );
    assert!(video.encodings.is_empty());
}

#[test]
fn a_publisher_is_asked_for_fragmented_h264_first() {
    let negotiated = negotiated("chromium-whip-default");
    let video = media(&negotiated, MediaKind::Video);
    let modes: Vec<u8> = video
        .codecs
        .iter()
        .filter_map(|codec| match codec.profile {
            CodecProfile::H264 {
                packetization_mode, ..
            } => Some(packetization_mode),
            _ => None,
        })
        .collect();
    assert_eq!(modes, [1, 1, 1, 0, 0, 0]);
    assert_eq!(
        video.codecs[0].codec,
        Codec::Vp8,
        "the client's first choice stays the first"
    );
}

#[test]
fn a_publisher_is_told_that_stereo_is_welcome() {
    let negotiated = negotiated("chromium-whip-default");
    let audio = media(&negotiated, MediaKind::Audio);
    assert_eq!(
        audio.codecs[0].fmtp.as_deref(),
        Some("minptime=10;useinbandfec=1;stereo=1")
    );
}

#[test]
fn firefox_simulcast_uses_one_way_extensions_and_hides_its_addresses() {
    let answer = Fixture::load("firefox-whip-simulcast3-vp8")
        .answer()
        .unwrap();
    let negotiated = &answer.negotiated;
    assert!(
        negotiated.transport.candidates.is_empty(),
        "all of them are mDNS names"
    );
    let video = media(negotiated, MediaKind::Video);
    let rid = video
        .extensions
        .iter()
        .find(|e| e.extension == HeaderExtension::RtpStreamId);
    assert_eq!(rid.unwrap().direction, Direction::RecvOnly);
    assert_eq!(
        video.extension_id(HeaderExtension::PlayoutDelay),
        None,
        "the client won't send it"
    );
    assert!(
        answer
            .sdp
            .contains("a=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream")
    );
    let msid = video.msid.as_ref().unwrap();
    assert!(msid.stream_id.starts_with('{') && msid.stream_id.ends_with('}'));
    assert_eq!(video.encodings.len(), 3);
    assert_eq!(codecs(video), [(120, Codec::Vp8, Some(124))]);
}

#[test]
fn firefox_viewers_get_the_extensions_they_only_receive() {
    let negotiated = negotiated("firefox-whep-recvonly");
    let video = media(&negotiated, MediaKind::Video);
    let delay = video
        .extensions
        .iter()
        .find(|e| e.extension == HeaderExtension::PlayoutDelay);
    assert_eq!(delay.unwrap().direction, Direction::SendOnly);
}

#[test]
fn data_channels_are_rejected_and_nothing_else() {
    for name in [
        "chromium-whip-datachannel",
        "firefox-whep-recvonly-datachannel",
    ] {
        let fixture = Fixture::load(name);
        let answer = fixture.answer().unwrap();
        let [rejected] = &answer.negotiated.rejected[..] else {
            panic!("{name}")
        };
        assert_eq!(rejected.reason, RejectReason::Kind);
        assert_eq!(answer.negotiated.media.len(), 2, "{name}");
        assert!(
            answer
                .sdp
                .contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n")
        );
        assert!(answer.sdp.contains("a=group:BUNDLE 0 1\r\n"), "{name}");
    }
}

#[test]
fn port_zero_with_bundle_only_is_no_rejection() {
    let negotiated = negotiated("gstreamer-whip-h264");
    assert_eq!(negotiated.bundle, ["video0", "audio1"]);
    assert!(negotiated.rejected.is_empty());
    let audio = media(&negotiated, MediaKind::Audio);
    assert_eq!(codecs(audio), [(111, Codec::Opus, Some(98))]);
    assert_eq!(audio.encodings[0].rtx_ssrc, Some(4_183_159_687));
    assert_eq!(
        audio.msid.as_ref().unwrap().track_id.as_deref(),
        Some("webrtctransceiver1")
    );
    let video = media(&negotiated, MediaKind::Video);
    assert!(
        !video.codecs[0].feedback.transport_cc,
        "it offers no sequence number extension"
    );
    let fmtp = video.codecs[0].fmtp.as_deref().unwrap();
    assert_eq!(
        fmtp, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42c01e",
        "the parameter sets of the publisher are not repeated to it"
    );
}

#[test]
fn the_strongest_known_fingerprints_of_aiortc_are_kept_sha_256_first() {
    let negotiated = negotiated("aiortc-whip");
    let hashes: Vec<HashAlgorithm> = negotiated
        .transport
        .fingerprints
        .iter()
        .map(|f| f.algorithm)
        .collect();
    assert_eq!(
        hashes,
        [
            HashAlgorithm::Sha256,
            HashAlgorithm::Sha384,
            HashAlgorithm::Sha512
        ]
    );
    assert_eq!(negotiated.transport.setup, Setup::Passive);
}

#[test]
fn session_level_attributes_are_inherited() {
    let offer = Offer::parse(Fixture::load("libdatachannel-whep").text).unwrap();
    assert!(offer.trickle, "options parted by a comma");
    assert!(
        offer
            .media
            .iter()
            .all(|media| media.fingerprints.len() == 1)
    );
    let firefox = Offer::parse(Fixture::load("firefox-whep-recvonly").text).unwrap();
    assert!(
        firefox
            .media
            .iter()
            .all(|media| media.direction == Direction::RecvOnly)
    );
    assert!(
        firefox
            .media
            .iter()
            .all(|media| media.fingerprints.len() == 1)
    );
}

#[test]
fn only_candidates_that_can_be_reached_are_kept() {
    let offer = Offer::parse(Fixture::load("chromium-whip-default").text).unwrap();
    let audio = &offer.media[0];
    assert_eq!(audio.candidates.len(), 2);
    assert_eq!(audio.ignored_candidates, 2, "TCP");
}

#[test]
fn a_viewer_gets_every_codec_in_common_with_sources_of_ours() {
    let answer = Fixture::load("chromium-whep-recvonly").answer().unwrap();
    let video = media(&answer.negotiated, MediaKind::Video);
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264] {
        assert!(video.codecs.iter().any(|c| c.codec == codec), "{codec}");
    }
    assert_eq!(video.extension_id(HeaderExtension::RtpStreamId), None);
    for line in [
        "a=msid:stage video0",
        "a=ssrc-group:FID 1001 2001",
        "a=ssrc:1001 cname:fanmill",
        "a=ssrc:2001 cname:fanmill",
        "a=ssrc:1000 cname:fanmill",
    ] {
        assert!(answer.sdp.contains(&format!("\r\n{line}\r\n")), "{line}");
    }
    assert!(
        !answer.sdp.contains("2000"),
        "audio has no retransmissions here"
    );
}

#[test]
fn tracks_beyond_those_of_the_stream_are_inactive() {
    let offer = Offer::parse(Fixture::load("chromium-whep-recvonly").text).unwrap();
    let limits = TrackLimits { audio: 1, video: 0 };
    let answer = answer_viewer(&offer, &local(), limits, track).unwrap();
    let video = media(&answer.negotiated, MediaKind::Video);
    assert_eq!(
        (video.direction, video.track_index),
        (Direction::Inactive, None)
    );
    assert!(video.local.is_none());
    assert!(answer.sdp.contains("a=inactive\r\n"));
    assert_eq!(
        answer.negotiated.bundle,
        ["0", "1"],
        "still bundled, to be used later"
    );
}

#[test]
fn ffmpeg_finds_its_candidate_and_the_lite_flag_line_by_line() {
    let answer = Fixture::load("ffmpeg9-whip-h264-opus").answer().unwrap();
    let line = answer
        .sdp
        .lines()
        .find(|line| line.starts_with("a=candidate:"))
        .unwrap();
    assert_eq!(
        line,
        "a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host"
    );
    assert!(answer.sdp.lines().any(|line| line == "a=ice-lite"));
}

#[test]
fn a_restart_is_answered_with_new_credentials_for_the_tagged_m_section() {
    let offer = Offer::parse(Fixture::load("gstreamer-whip-vp8").text).unwrap();
    let answer = answer_publisher(&offer, &local()).unwrap();
    let body = restart_fragment(&answer.negotiated, &local());
    let fragment = IceFragment::parse(&body).unwrap();
    assert_eq!(fragment.credentials, Some(local().ice));
    assert_eq!(fragment.media.len(), 1);
    assert_eq!(fragment.media[0].mid.as_deref(), Some("video0"));
    let addresses: Vec<_> = fragment
        .candidates()
        .map(|candidate| candidate.address)
        .collect();
    assert_eq!(addresses, local().candidates);
    assert!(fragment.end_of_candidates());
    assert!(fragment.is_restart(&answer.negotiated.transport.ice));
}
