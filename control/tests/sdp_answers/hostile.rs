//! Offers made to hurt: nothing panics, nothing grows, and every refusal stays short.

use fanmill_control::sdp::limits::{MAX_DESCRIPTION_BYTES, MAX_MEDIA};
use fanmill_control::sdp::{Offer, SdpError, answer_publisher};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::fixtures::{self, Fixture, answer, local};

// Whatever the verdict, it comes without a panic; an answer is a description, a refusal is short.
fn judge(offer: &str) {
    for is_publisher in [true, false] {
        match answer(offer, is_publisher) {
            Ok(answer) => {
                let sections = offer.lines().filter(|line| line.starts_with("m=")).count();
                let answered = answer
                    .sdp
                    .lines()
                    .filter(|line| line.starts_with("m="))
                    .count();
                assert_eq!(sections, answered);
                let active = answer.negotiated.media.iter().filter(|m| m.is_active());
                assert!(active.clone().all(|media| !media.codecs.is_empty()));
                Offer::parse(&answer.sdp).expect("our answers can be read");
            }
            Err(error) => assert!(error.to_string().len() < 600, "{error}"),
        }
    }
}

#[test]
fn a_megabyte_is_refused_before_it_is_read() {
    let offer = "v=0\r\n".to_owned() + &"a=x\r\n".repeat(200_000);
    let error = Offer::parse(&offer).unwrap_err();
    let expected = SdpError::TooLarge {
        len: offer.len(),
        limit: MAX_DESCRIPTION_BYTES,
    };
    assert_eq!(error, expected);
}

#[test]
fn ten_thousand_m_sections_are_refused() {
    let offer = "v=0\n".to_owned() + &"m=a 9 x 0\n".repeat(6_000);
    assert!(offer.len() < MAX_DESCRIPTION_BYTES);
    let too_many = SdpError::TooMany {
        what: "m-sections",
        limit: MAX_MEDIA,
    };
    assert_eq!(Offer::parse(&offer).unwrap_err(), too_many);
    let larger = "v=0\n".to_owned() + &"m=a 9 x 0\n".repeat(10_000);
    assert!(matches!(
        Offer::parse(larger),
        Err(SdpError::TooLarge { .. })
    ));
}

#[test]
fn giant_values_are_not_repeated_in_refusals() {
    let base = Fixture::load("libdatachannel-whip").text;
    let giant = "Q".repeat(50_000);
    for (from, to) in [
        ("a=mid:0", format!("a=mid:{giant}")),
        ("a=setup:actpass", format!("a=setup:{giant}")),
        ("a=ice-ufrag:", format!("a=ice-ufrag:{giant}")),
        ("sha-256 ", format!("{giant} ")),
        ("v=0", format!("v={giant}")),
        ("opus/48000/2", format!("{giant}/48000/2")),
        ("a=candidate:2", format!("a=candidate:{giant}")),
        ("UDP/TLS/RTP/SAVPF", giant.chars().take(20_000).collect()),
    ] {
        assert!(base.contains(from), "{from}");
        judge(&base.replacen(from, &to, 1));
    }
}

#[test]
fn tables_are_bounded() {
    let base = Fixture::load("libdatachannel-whip").text;
    let flood = |line: &dyn Fn(usize) -> String| -> String {
        (0..1_000).map(|i| format!("{}\r\n", line(i))).collect()
    };
    let refused: [&dyn Fn(usize) -> String; 6] = [
        &|i| format!("a=ssrc:{i} cname:x"),
        &|i| format!("a=ssrc-group:FID {i} 7"),
        &|i| format!("a=rid:r{i} send"),
        &|i| format!("a=fmtp:96 x{i}=1;y=2"),
        &|_| "a=fingerprint:md5 AA".to_owned(),
        &|_| format!("a=fingerprint:sha-256 {}", ["AA"; 32].join(":")),
    ];
    for line in refused {
        let offer = base.clone() + &flood(line);
        let offer = &offer[..offer.len().min(MAX_DESCRIPTION_BYTES)];
        assert!(
            matches!(Offer::parse(offer), Err(SdpError::TooMany { .. })),
            "{}",
            line(0)
        );
    }

    let offer = base + &flood(&|i| format!("a=candidate:1 1 udp 1 192.0.2.9 {} typ host", i + 1));
    let video = &Offer::parse(&offer).unwrap().media[1];
    assert!(video.candidates.len() < 100 && video.ignored_candidates > 900);
}

#[test]
fn a_client_cannot_write_lines_into_our_answer() {
    let text = Fixture::load("libdatachannel-whip").text;
    for evil in ["a=mid:1\ra=evil", "a=mid:1\0a=evil", "a=mid:1 evil"] {
        assert!(
            answer(&text.replace("a=mid:1", evil), true).is_err(),
            "{evil:?}"
        );
    }
    let lone = text.replace("UDP/TLS/RTP/SAVPF 111", "a\u{2028}b 111");
    let answer = answer(&lone, true).unwrap();
    assert_eq!(answer.negotiated.rejected.len(), 1);
    assert!(
        answer
            .sdp
            .lines()
            .all(|line| line.as_bytes().get(1) == Some(&b'='))
    );
}

#[test]
fn any_number_of_sendable_sections_is_answered() {
    let section = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=sendonly\r\na=rtcp-mux\r\n\
                   a=rtpmap:96 VP8/90000\r\n";
    let mids: Vec<String> = (0..MAX_MEDIA).map(|i| i.to_string()).collect();
    let mut offer = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n\
         a=ice-ufrag:abcd\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\n",
        mids.join(" "),
        "p".repeat(22),
        ["AA"; 32].join(":")
    );
    mids.iter()
        .for_each(|mid| offer += &format!("{section}a=mid:{mid}\r\n"));
    let answer = answer_publisher(&Offer::parse(&offer).unwrap(), &local()).unwrap();
    assert_eq!(answer.negotiated.media.len(), MAX_MEDIA);
    assert_eq!(answer.negotiated.bundle, mids);
}

#[derive(Debug, Clone)]
enum Mutation {
    Drop(Index),
    Duplicate(Index),
    Swap(Index, Index),
    Replace(Index, String),
    Cut(Index, Index),
    Digits(Index, u64),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<Index>().prop_map(Mutation::Drop),
        any::<Index>().prop_map(Mutation::Duplicate),
        any::<(Index, Index)>().prop_map(|(a, b)| Mutation::Swap(a, b)),
        (any::<Index>(), "[a-z]=[a-z-]{0,12}:?\\PC{0,20}")
            .prop_map(|(i, s)| Mutation::Replace(i, s)),
        any::<(Index, Index)>().prop_map(|(a, b)| Mutation::Cut(a, b)),
        any::<(Index, u64)>().prop_map(|(i, number)| Mutation::Digits(i, number)),
    ]
}

fn mutate(lines: &mut Vec<String>, mutation: &Mutation) {
    if lines.is_empty() {
        return;
    }
    let len = lines.len();
    match mutation {
        Mutation::Drop(i) => drop(lines.remove(i.index(len))),
        Mutation::Duplicate(i) => lines.push(lines[i.index(len)].clone()),
        Mutation::Swap(a, b) => lines.swap(a.index(len), b.index(len)),
        Mutation::Replace(i, line) => lines[i.index(len)].clone_from(line),
        Mutation::Cut(i, at) => {
            let line = &mut lines[i.index(len)];
            let at = at.index(line.len() + 1);
            *line = line.chars().take(at).collect();
        }
        Mutation::Digits(i, number) => {
            let line = &mut lines[i.index(len)];
            let parts: Vec<&str> = line.split(|c: char| c.is_ascii_digit()).collect();
            *line = parts.join(&number.to_string());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn recorded_offers_with_mistakes_never_panic(
        which in any::<Index>(), mutations in proptest::collection::vec(mutation(), 1..12)) {
        static FIXTURES: std::sync::LazyLock<Vec<Fixture>> =
            std::sync::LazyLock::new(fixtures::all);
        let text = &FIXTURES[which.index(FIXTURES.len())].text;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        mutations.iter().for_each(|mutation| mutate(&mut lines, mutation));
        judge(&lines.join("\r\n"));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*", lines in
        proptest::collection::vec("[vostcma]=\\PC{0,40}", 0..40)) {
        judge(&text);
        judge(&format!("v=0\r\n{}", lines.join("\r\n")));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = Offer::parse(&bytes);
        let mut prefixed = b"v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\na=".to_vec();
        prefixed.extend(bytes);
        let _ = Offer::parse(&prefixed);
    }
}
