//! Every answer to every recorded offer, read by `webrtc-sdp` and held against the offer's lines.

use webrtc_sdp::attribute_type::{
    SdpAttribute, SdpAttributeFingerprintHashType, SdpAttributeGroupSemantic, SdpAttributeSetup,
    SdpAttributeType,
};
use webrtc_sdp::media_type::{SdpFormatList, SdpMedia};

use crate::fixtures::{self, Fixture, sections, values};

fn formats(media: &SdpMedia) -> Vec<u32> {
    match media.get_formats() {
        SdpFormatList::Integers(formats) => formats.clone(),
        other => panic!("{other:?}"),
    }
}

fn mid(media: &SdpMedia) -> Option<String> {
    match media.get_attribute(SdpAttributeType::Mid) {
        Some(SdpAttribute::Mid(mid)) => Some(mid.clone()),
        _ => None,
    }
}

/// Checks what holds for the answer to any offer.
pub fn check(fixture: &Fixture, answer: &str) {
    let name = &fixture.name;
    let parsed = webrtc_sdp::parse_sdp(answer, true)
        .unwrap_or_else(|error| panic!("{name}: {error}\n{answer}"));
    let offered = sections(&fixture.text);
    assert_eq!(parsed.media.len() + 1, offered.len(), "{name}: m-sections");

    let mut accepted_mids = Vec::new();
    for (media, offered) in parsed.media.iter().zip(&offered[1..]) {
        let mut m_line = offered[0].split(' ');
        let media_type = m_line.next().unwrap();
        assert_eq!(format!("m={}", media.get_type()), media_type, "{name}");
        assert_eq!(
            mid(media).as_deref(),
            values(offered, "mid").first().copied(),
            "{name}"
        );
        if media.get_port() == 0 {
            continue;
        }
        accepted_mids.extend(mid(media));
        let offered_formats: Vec<u32> = m_line.skip(2).filter_map(|f| f.parse().ok()).collect();
        let formats = formats(media);
        assert!(!formats.is_empty(), "{name}");
        assert!(
            formats
                .iter()
                .all(|format| offered_formats.contains(format)),
            "{name}: formats"
        );
        check_formats(name, media, &formats);
        check_direction(name, media, offered, fixture.is_publisher());
        check_transport(name, media, answer);
        check_extensions(name, media, offered);
        check_simulcast(name, media, offered);
    }

    let bundles: Vec<Vec<String>> = parsed
        .attribute
        .iter()
        .filter_map(|attribute| match attribute {
            SdpAttribute::Group(group)
                if matches!(group.semantics, SdpAttributeGroupSemantic::Bundle) =>
            {
                Some(group.tags.clone())
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        bundles,
        [accepted_mids],
        "{name}: all of these offers are bundled"
    );
    assert!(
        parsed.get_attribute(SdpAttributeType::IceLite).is_some(),
        "{name}"
    );
}

fn check_formats(name: &str, media: &SdpMedia, formats: &[u32]) {
    for attribute in media.get_attributes() {
        match attribute {
            SdpAttribute::Fmtp(fmtp) => {
                assert!(
                    formats.contains(&u32::from(fmtp.payload_type)),
                    "{name}: fmtp"
                );
                if let Some(rtx) = fmtp.parameters.rtx {
                    assert!(
                        formats.contains(&u32::from(rtx.apt)),
                        "{name}: apt {}",
                        rtx.apt
                    );
                }
            }
            SdpAttribute::Rtpmap(rtpmap) => {
                assert!(
                    formats.contains(&u32::from(rtpmap.payload_type)),
                    "{name}: rtpmap"
                );
            }
            _ => {}
        }
    }
    let rtpmaps = media.get_attributes_of_type(SdpAttributeType::Rtpmap).len();
    assert_eq!(rtpmaps, formats.len(), "{name}: one rtpmap a format");
}

fn check_direction(name: &str, media: &SdpMedia, offered: &[&str], is_publisher: bool) {
    let offers = |direction| offered.contains(&direction);
    let wants_media = if is_publisher {
        !offers("a=recvonly")
    } else {
        !offers("a=sendonly")
    };
    let expected = match (wants_media && !offers("a=inactive"), is_publisher) {
        (false, _) => SdpAttributeType::Inactive,
        (true, true) => SdpAttributeType::Recvonly,
        (true, false) => SdpAttributeType::Sendonly,
    };
    assert!(
        media.get_attribute(expected.clone()).is_some(),
        "{name}: {expected} expected"
    );
    let sends = expected == SdpAttributeType::Sendonly;
    assert_eq!(
        media.get_attribute(SdpAttributeType::Msid).is_some(),
        sends,
        "{name}: msid"
    );
    assert_eq!(
        media.get_attribute(SdpAttributeType::Ssrc).is_some(),
        sends,
        "{name}: ssrc"
    );
}

fn check_transport(name: &str, media: &SdpMedia, answer: &str) {
    let fingerprints = media.get_attributes_of_type(SdpAttributeType::Fingerprint);
    let [SdpAttribute::Fingerprint(fingerprint)] = fingerprints[..] else {
        panic!("{name}: {} fingerprints", fingerprints.len());
    };
    assert!(matches!(
        fingerprint.hash_algorithm,
        SdpAttributeFingerprintHashType::Sha256
    ));
    let setup = media.get_attribute(SdpAttributeType::Setup);
    let is_passive = !name.starts_with("ffmpeg") || name.ends_with("dtls-active");
    match setup {
        Some(SdpAttribute::Setup(SdpAttributeSetup::Passive)) => assert!(is_passive, "{name}"),
        Some(SdpAttribute::Setup(SdpAttributeSetup::Active)) => assert!(!is_passive, "{name}"),
        other => panic!("{name}: {other:?}"),
    }
    assert!(
        media.get_attribute(SdpAttributeType::IceUfrag).is_some(),
        "{name}"
    );
    assert!(
        media.get_attribute(SdpAttributeType::IcePwd).is_some(),
        "{name}"
    );
    assert!(
        media.get_attribute(SdpAttributeType::RtcpMux).is_some(),
        "{name}"
    );
    // In the tagged m-section and nowhere else.
    assert_eq!(
        answer.matches("a=candidate:").count(),
        fixtures::local().candidates.len()
    );
    assert_eq!(answer.matches("a=end-of-candidates").count(), 1, "{name}");
}

fn check_extensions(name: &str, media: &SdpMedia, offered: &[&str]) {
    let offered: Vec<(u16, &str)> = values(offered, "extmap")
        .iter()
        .filter_map(|value| {
            let (id, uri) = value.split_once(' ')?;
            Some((id.split('/').next()?.parse().ok()?, uri))
        })
        .collect();
    for attribute in media.get_attributes_of_type(SdpAttributeType::Extmap) {
        let SdpAttribute::Extmap(extmap) = attribute else {
            panic!("{attribute:?}")
        };
        assert!(
            offered.contains(&(extmap.id, &extmap.url)),
            "{name}: {}",
            extmap.url
        );
    }
}

fn check_simulcast(name: &str, media: &SdpMedia, offered: &[&str]) {
    let Some(SdpAttribute::Simulcast(simulcast)) = media.get_attribute(SdpAttributeType::Simulcast)
    else {
        assert!(
            values(offered, "simulcast").is_empty(),
            "{name}: simulcast unanswered"
        );
        return;
    };
    assert!(simulcast.send.is_empty(), "{name}");
    let layers: Vec<&str> = simulcast
        .receive
        .iter()
        .map(|version| version.ids[0].id.as_str())
        .collect();
    assert_eq!(
        values(offered, "simulcast"),
        [format!("send {}", layers.join(";"))],
        "{name}"
    );
}

#[test]
fn every_recorded_offer_gets_an_answer_that_another_parser_reads() {
    for fixture in fixtures::all() {
        let answer = fixture
            .answer()
            .unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
        check(&fixture, &answer.sdp);
    }
}

#[test]
fn no_audio_or_video_of_a_recorded_offer_is_left_out() {
    for fixture in fixtures::all() {
        let answer = fixture.answer().unwrap();
        let media_lines = ["m=audio", "m=video"].map(|kind| fixture.text.matches(kind).count());
        let active = answer
            .negotiated
            .media
            .iter()
            .filter(|media| media.is_active())
            .count();
        assert_eq!(
            active,
            media_lines.iter().sum::<usize>(),
            "{}",
            fixture.name
        );
    }
}

#[test]
fn our_parser_reads_our_answers() {
    for fixture in fixtures::all() {
        let answer = fixture.answer().unwrap();
        let offer = fanmill_control::sdp::Offer::parse(&answer.sdp).unwrap();
        assert!(offer.ice_lite && offer.trickle);
        for media in &answer.negotiated.media {
            let read = &offer.media[media.index];
            assert_eq!(read.mid, media.mid);
            assert_eq!(read.direction, media.direction);
            let codecs: Vec<_> = read
                .codecs
                .iter()
                .filter(|c| c.encoding_name != "red")
                .map(|c| (c.payload_type, c.feedback, c.redundancy))
                .collect();
            let expected: Vec<_> = media
                .codecs
                .iter()
                .map(|c| (c.payload_type, c.feedback, c.redundancy))
                .collect();
            assert_eq!(codecs, expected, "{}", fixture.name);
        }
    }
}
