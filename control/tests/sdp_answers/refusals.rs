//! Offers that cannot be answered, and what the client is told.

use fanmill_control::sdp::{ErrorClass, RejectReason, SdpError};

use crate::conformance::check;
use crate::fixtures::{Fixture, answer};

fn publisher() -> Fixture {
    Fixture::load("libdatachannel-whip")
}

fn refusal(offer: &str) -> SdpError {
    answer(offer, true).unwrap_err()
}

fn without(fixture: &Fixture, prefix: &str) -> String {
    fixture
        .text
        .lines()
        .filter(|line| !line.starts_with(prefix))
        .map(|l| format!("{l}\r\n"))
        .collect()
}

#[test]
fn missing_transport_attributes_are_named() {
    let publisher = publisher();
    for (prefix, word) in [
        ("a=ice-ufrag", "a=ice-ufrag"),
        ("a=ice-pwd", "a=ice-pwd"),
        ("a=fingerprint", "a=fingerprint"),
        ("a=rtcp-mux", "a=rtcp-mux"),
        ("a=group:BUNDLE", "a=group:BUNDLE"),
        ("a=mid", "a=group:BUNDLE"),
    ] {
        let error = refusal(&without(&publisher, prefix));
        assert_eq!(error.class(), ErrorClass::Unprocessable, "{prefix}");
        assert!(error.to_string().contains(word), "{prefix}: {error}");
        assert!(
            error.to_string().contains("m="),
            "names the m-section: {error}"
        );
    }
}

#[test]
fn a_client_without_bundle_may_have_one_m_section_even_without_a_mid() {
    let text = publisher().text;
    let video = text.find("m=video").unwrap();
    let one: String = text[..video]
        .lines()
        .filter(|line| !line.starts_with("a=group") && !line.starts_with("a=mid"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let answer = answer(&one, true).unwrap();
    assert!(!answer.sdp.contains("a=group") && !answer.sdp.contains("a=mid"));
    assert!(answer.sdp.contains("a=candidate:"));
    assert_eq!(answer.negotiated.media[0].mid, None);
}

#[test]
fn an_offer_without_a_common_codec_is_told_what_it_offered() {
    let text = publisher()
        .text
        .replace("opus/48000/2", "PCMU/8000")
        .replace("VP8/", "H261/");
    let error = refusal(&text);
    assert_eq!(error.class(), ErrorClass::NotAcceptable);
    let words = error.to_string();
    for word in ["PCMU for audio", "H261 for video", "Opus", "AV1"] {
        assert!(words.contains(word), "{words}");
    }
}

#[test]
fn plain_rtp_is_refused_by_name() {
    let error = refusal(&publisher().text.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"));
    assert_eq!(error.class(), ErrorClass::Unprocessable);
    assert!(
        error.to_string().contains("m=audio (mid 0) uses RTP/AVP"),
        "{error}"
    );
}

#[test]
fn one_m_section_without_a_common_codec_does_not_spoil_the_other() {
    let mut fixture = publisher();
    fixture.text = fixture.text.replace("VP8/", "H261/");
    let answer = fixture.answer().unwrap();
    assert_eq!(
        answer.negotiated.rejected[0].reason,
        RejectReason::NoCommonCodec
    );
    assert!(answer.sdp.contains("m=video 0 UDP/TLS/RTP/SAVPF 96\r\n"));
    check(&fixture, &answer.sdp);
}

#[test]
fn the_next_m_section_speaks_for_the_bundle_when_the_first_is_rejected() {
    let mut fixture = publisher();
    fixture.text = fixture.text.replace("opus/48000/2", "PCMU/8000");
    let answer = fixture.answer().unwrap();
    assert_eq!(answer.negotiated.bundle, ["1"]);
    let sections = crate::fixtures::sections(&answer.sdp);
    assert!(
        sections[2]
            .iter()
            .any(|line| line.starts_with("a=candidate:"))
    );
    check(&fixture, &answer.sdp);
}

#[test]
fn a_weak_fingerprint_is_refused_by_name() {
    let error = refusal(&publisher().text.replace("sha-256", "sha-1"));
    assert!(error.to_string().contains("sha-1"), "{error}");
    assert_eq!(error.class(), ErrorClass::Unprocessable);
}

#[test]
fn a_viewer_at_the_door_of_publishers_is_told_so() {
    let viewer = Fixture::load("libdatachannel-whep");
    assert_eq!(refusal(&viewer.text), SdpError::NothingSent);
    assert_eq!(
        answer(&publisher().text, false).unwrap_err(),
        SdpError::NothingReceived
    );
}

#[test]
fn m_sections_that_say_nothing_are_inactive_beside_those_that_send() {
    let text = publisher().text.replacen("a=sendonly", "a=inactive", 1);
    let answer = answer(&text, true).unwrap();
    assert!(!answer.negotiated.media[0].is_active());
    assert!(answer.negotiated.media[1].is_active());
}

#[test]
fn a_lite_client_is_refused() {
    let text = publisher().text.replace("t=0 0", "t=0 0\r\na=ice-lite");
    assert_eq!(refusal(&text), SdpError::RemoteIceLite);
}

#[test]
fn wrong_values_are_quoted() {
    for (from, to, word) in [
        ("a=setup:actpass", "a=setup:holdconn", "holdconn"),
        ("a=mid:1", "a=mid:0", "a=mid:0"),
        ("a=mid:1", "a=mid:one two", "one two"),
        ("a=ice-ufrag:", "a=ice-ufrag:\u{e9}", "ice-ufrag"),
        (
            "a=fingerprint:sha-256 ",
            "a=fingerprint:sha-256 G",
            "fingerprint",
        ),
    ] {
        let error = refusal(&publisher().text.replace(from, to));
        assert_eq!(error.class(), ErrorClass::Malformed, "{to}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn bodies_that_are_no_description_are_refused() {
    for body in [
        "",
        "\r\n",
        "hello",
        "{\"sdp\": \"v=0\"}",
        "v=1\r\n",
        "v=0\r\nm=audio\r\n",
    ] {
        assert_eq!(refusal(body).class(), ErrorClass::Malformed, "{body:?}");
    }
    assert_eq!(
        refusal("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"),
        SdpError::NoMedia
    );
}

#[test]
fn an_extension_identifier_means_one_thing_in_the_whole_bundle() {
    let mid = "urn:ietf:params:rtp-hdrext:sdes:mid";
    let level = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    let text = publisher()
        .text
        .replace("a=mid:0", &format!("a=mid:0\r\na=extmap:3 {mid}"))
        .replace(
            "a=mid:1",
            &format!("a=mid:1\r\na=extmap:3 {level}\r\na=extmap:4 {mid}"),
        );
    let media = answer(&text, true).unwrap().negotiated.media;
    let ids = |i: usize| media[i].extensions.iter().map(|e| e.id).collect::<Vec<_>>();
    assert_eq!((ids(0), ids(1)), (vec![3], vec![4]));
}

#[test]
fn a_layer_restricted_to_formats_that_are_gone_is_not_answered() {
    let fixture = Fixture::load("chromium-whip-simulcast3-vp8");
    let text = fixture
        .text
        .replace("a=rid:l send", "a=rid:l send pt=118")
        .replace("a=rid:m send", "a=rid:m send pt=118,96;max-width=640");
    let answer = answer(&text, true).unwrap();
    assert!(answer.sdp.contains("a=rid:m recv pt=96\r\n"));
    assert!(answer.sdp.contains("a=simulcast:recv m;h\r\n"));
    assert!(!answer.sdp.contains("a=rid:l"));
}
