//! What protects media against loss: redundant audio is taken as offered, and forward error
//! correction, which names packets by numbers that viewers do not see, never.

use fanmill_control::sdp::{MediaKind, Redundancy};

use crate::fixtures::{Fixture, all, answer, sections, values};

/// The payload types of a section that have this name.
fn formats<'a>(section: &[&'a str], name: &str) -> Vec<&'a str> {
    let rtpmaps = values(section, "rtpmap").into_iter();
    let named = rtpmaps.filter(|rtpmap| {
        let encoding = rtpmap.split(' ').nth(1).unwrap();
        encoding.to_lowercase().starts_with(&format!("{name}/"))
    });
    named
        .map(|rtpmap| rtpmap.split(' ').next().unwrap())
        .collect()
}

#[test]
fn forward_error_correction_is_in_no_answer_whoever_offers_it() {
    let mut offering = 0;
    for fixture in all() {
        let Ok(answer) = fixture.answer() else {
            continue;
        };
        let (offered, answered) = (sections(&fixture.text), sections(&answer.sdp));
        for (offered, answered) in offered.iter().zip(&answered) {
            for name in ["ulpfec", "flexfec-03", "flexfec"] {
                offering += formats(offered, name).len();
                assert!(formats(answered, name).is_empty(), "{}", fixture.name);
            }
            // Of video, the redundant format is what carries ULPFEC (RFC 5109 14.2).
            if answered.iter().any(|line| line.starts_with("m=video")) {
                assert!(formats(answered, "red").is_empty(), "{}", fixture.name);
            }
            let groups = values(answered, "ssrc-group");
            assert!(groups.iter().all(|group| group.starts_with("FID ")));
        }
        // What is not answered is not named to the engine either.
        let media = answer.negotiated.media.iter();
        for section in media.filter(|media| media.kind == MediaKind::Video) {
            assert!(
                section
                    .codecs
                    .iter()
                    .all(|codec| codec.redundancy.is_none())
            );
        }
    }
    assert!(offering > 20, "{offering} formats were offered");
}

#[test]
fn redundant_audio_is_taken_where_it_is_offered_in_the_order_offered() {
    let mut offering = 0;
    for fixture in all() {
        let Ok(answer) = fixture.answer() else {
            continue;
        };
        let (offered, answered) = (sections(&fixture.text), sections(&answer.sdp));
        for (offered, answered) in offered.iter().zip(&answered) {
            if !answered[0].starts_with("m=audio 9 ") {
                continue;
            }
            let (red, opus) = (formats(answered, "red"), formats(answered, "opus"));
            assert_eq!(red, formats(offered, "red"), "{}", fixture.name);
            for red in red {
                offering += 1;
                let fmtp = format!("{red} {0}/{0}", opus[0]);
                assert!(values(answered, "fmtp").contains(&fmtp.as_str()));
                assert!(answered[0].ends_with(&format!(" {} {red}", opus[0])));
            }
        }
    }
    assert!(offering > 10, "{offering} formats were offered");
}

#[test]
fn a_publisher_that_prefers_redundant_audio_is_asked_for_it() {
    for name in ["chromium-whip-default", "chromium-whep-recvonly"] {
        let fixture = Fixture::load(name);
        let offer = fixture.text.replacen("SAVPF 111 63 ", "SAVPF 63 111 ", 1);
        assert_ne!(offer, fixture.text);
        let answer = answer(&offer, fixture.is_publisher()).unwrap();
        let media = answer.negotiated.media.iter();
        let audio = media.clone().find(|media| media.kind == MediaKind::Audio);
        let expected = Redundancy {
            payload_type: 63,
            is_preferred: true,
        };
        assert_eq!(audio.unwrap().codecs[0].redundancy, Some(expected));
        assert!(
            answer
                .sdp
                .contains("m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\n")
        );
    }
}

#[test]
fn in_band_error_correction_of_opus_is_welcome_unless_the_client_says_otherwise() {
    let fixture = Fixture::load("chromium-whip-default");
    assert!(fixture.answer().unwrap().sdp.contains("useinbandfec=1"));
    let offer = fixture.text.replacen("useinbandfec=1", "useinbandfec=0", 1);
    assert_ne!(offer, fixture.text);
    let answer = answer(&offer, true).unwrap().sdp;
    assert!(answer.contains("useinbandfec=0"));
}
