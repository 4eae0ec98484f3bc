#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

const ANSWER: &str = "v=0\r\no=- 4611686018427387904 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    a=group:BUNDLE 0 1\r\na=ice-lite\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
    a=candidate:2 1 tcp 2130706999 192.0.2.9 9 typ host tcptype active\r\n\
    a=candidate:2 2 udp 2130706998 192.0.2.9 9 typ host\r\n\
    a=candidate:2 1 udp 2130706175 2001:db8::1 50000 typ host\r\n\
    a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host\r\n\
    a=candidate:3 1 udp 2130706999 f00.local 50000 typ host\r\n\
    a=ice-ufrag:fanm\r\na=ice-pwd:0123456789abcdefghijkl\r\n\
    a=fingerprint:sha-1 00:01\r\n\
    a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:\
    17:18:19:1A:1B:1C:1D:1E:1F\r\n\
    a=setup:passive\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:fanm\r\na=ice-pwd:0123456789abcdefghijkl\r\na=setup:passive\r\na=mid:1\r\n\
    a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc:1001 cname:x\r\n";

#[test]
fn an_answer_gives_what_the_client_needs() {
    let answer = Answer::parse(ANSWER).unwrap();
    assert_eq!(answer.ice.ufrag, "fanm");
    assert_eq!(answer.ice.pwd, "0123456789abcdefghijkl");
    assert_eq!(answer.fingerprint, std::array::from_fn(|i| i as u8));
    let expected: [SocketAddr; 2] = [
        "192.0.2.1:50000".parse().unwrap(),
        "[2001:db8::1]:50000".parse().unwrap(),
    ];
    assert_eq!(answer.candidates, expected);
    assert_eq!(answer.format(111), Some(Format::Audio));
    assert_eq!(answer.format(96), Some(Format::Video(VideoCodec::Vp8)));
    assert_eq!(answer.format(97), Some(Format::Rtx(96)));
    assert_eq!(answer.format(98), None);
}

#[test]
fn what_every_answer_needs_is_missed_by_name() {
    for (line, error) in [
        ("a=ice-ufrag:fanm", AnswerError::Missing("a=ice-ufrag")),
        (
            "a=fingerprint:sha-256",
            AnswerError::Missing("a=fingerprint:sha-256"),
        ),
        ("a=candidate", AnswerError::Missing("a=candidate of UDP")),
        ("a=rtpmap:96 VP8", AnswerError::NoVideo),
    ] {
        let without = ANSWER.replace(line, "a=x");
        assert_eq!(Answer::parse(&without), Err(error));
    }
}

#[test]
fn a_server_that_wants_to_be_the_dtls_client_is_refused() {
    let active = ANSWER.replace("a=setup:passive", "a=setup:active");
    let error = Answer::parse(&active);
    assert_eq!(error, Err(AnswerError::Setup("active".to_owned())));
}

#[test]
fn a_rejected_video_section_is_no_video() {
    let rejected = ANSWER.replace("m=video 9", "m=video 0");
    assert_eq!(Answer::parse(&rejected), Err(AnswerError::NoVideo));
}

#[test]
fn offers_have_the_sections_they_say() {
    let ice = Credentials {
        ufrag: "abcd".to_owned(),
        pwd: "0123456789abcdefghijkl".to_owned(),
    };
    let mut offer = Offer {
        ssrcs: None,
        slots: Slots { audio: 1, video: 1 },
        levels: false,
        video: VideoCodec::H264,
        extensions: false,
        ice: &ice,
        fingerprint: "00:11",
        candidate: "127.0.0.1:4000".parse().unwrap(),
    };
    let view = offer.to_sdp();
    assert_eq!(view.matches("\r\na=recvonly\r\n").count(), 2);
    assert!(view.contains("a=group:BUNDLE 0 1\r\n"));
    assert!(view.contains("m=video 4000 UDP/TLS/RTP/SAVPF 107 108\r\n"));
    assert!(!view.contains("a=ssrc") && !view.contains("a=extmap"));
    assert!(view.lines().all(|line| line.len() < 200));

    offer.slots = Slots { audio: 3, video: 2 };
    let slots = offer.to_sdp();
    assert!(slots.contains("a=group:BUNDLE 0 1 2 3 4\r\n"));
    assert_eq!(slots.matches("m=audio").count(), 3);
    assert_eq!(slots.matches("m=video").count(), 2);
    assert!(slots.contains("a=mid:4\r\n"));

    offer.slots = Slots { audio: 1, video: 1 };
    offer.levels = true;
    assert!(
        offer
            .to_sdp()
            .contains("a=extmap:5 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n")
    );
    offer.slots.audio = 0;
    offer.extensions = true;
    offer.ssrcs = Some(Ssrcs {
        audio: None,
        video: 5,
        rtx: 6,
    });
    let publish = offer.to_sdp();
    assert!(publish.contains("a=group:BUNDLE 1\r\n") && !publish.contains("m=audio"));
    assert!(publish.contains("a=ssrc-group:FID 5 6\r\n"));
    assert_eq!(publish.matches("a=extmap").count(), 3);
    assert_eq!(publish.matches("a=sendonly").count(), 1);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,300}") {
        let _ = Answer::parse(&text);
    }

    #[test]
    fn an_answer_with_arbitrary_values_never_panics(
        lines in prop::collection::vec(
            ("(a=candidate|a=rtpmap|a=fmtp|a=fingerprint|a=setup|m=|a=ice-pwd):?", "[ -~]{0,60}"),
            0..40,
        )
    ) {
        let text: String = lines.iter().map(|(name, value)| format!("{name}{value}\r\n")).collect();
        let _ = Answer::parse(&(ANSWER.to_owned() + &text));
    }
}
