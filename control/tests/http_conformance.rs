//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) as HTTP shows them: status codes, header
//! fields and bodies, with recorded offers of real clients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::offer::{Answer, Kind, Offer};
use common::server::{FRAGMENT, Options, SDP, Server, header, recorded};
use fanmill_control::broadcast::BroadcastLimits;
use reqwest::Response;

const WITH_TYPE: &[(&str, &str)] = &[("content-type", SDP)];

fn fragment(ufrag: &str, pwd: &str) -> String {
    format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
    )
}

/// What a browser asks of a response before a script may see it.
#[track_caller]
fn assert_readable_from_anywhere(response: &Response) {
    assert_eq!(header(response, "access-control-allow-origin"), "*");
    let exposed = header(response, "access-control-expose-headers");
    for name in ["Location", "ETag", "Link", "Accept-Patch", "Retry-After"] {
        assert!(exposed.contains(name), "{name} in {exposed}");
    }
}

/// Status and reason of a refusal, which is text that a script may read.
async fn refusal(response: Response) -> (u16, String) {
    assert_readable_from_anywhere(&response);
    let (status, kind) = (
        response.status().as_u16(),
        header(&response, "content-type").to_owned(),
    );
    let reason = response.text().await.unwrap();
    assert!(kind.starts_with("text/plain"), "{kind}: {reason}");
    assert!(!reason.trim().is_empty(), "{status} without a reason");
    (status, reason)
}

#[tokio::test]
async fn an_offer_is_answered_with_everything_the_client_needs() {
    let ice_servers = vec![
        "stun:stun.example.org:3478".to_owned(),
        "turn:turn.example.org:3478?transport=udp".to_owned(),
    ];
    let server = Server::start(Options {
        ice_servers,
        ..Options::default()
    })
    .await;
    for (endpoint, offer) in [
        ("/whip/stage", "chromium-whip-default"),
        ("/whep/stage", "chromium-whep-recvonly"),
        ("/whip/other", "firefox-whip-default"),
        ("/whep/other", "firefox-whep-recvonly"),
    ] {
        let response = server.post(endpoint, &recorded(offer)).await;
        assert_eq!(response.status(), 201, "{offer}");
        assert_readable_from_anywhere(&response);
        assert_eq!(header(&response, "content-type"), SDP);
        assert_eq!(header(&response, "accept-patch"), FRAGMENT);
        let etag = header(&response, "etag");
        assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'));
        let links = response.headers().get_all("link");
        let links: Vec<_> = links.iter().map(|link| link.to_str().unwrap()).collect();
        let mut expected = vec![
            "<stun:stun.example.org:3478>; rel=\"ice-server\"".to_owned(),
            "<turn:turn.example.org:3478?transport=udp>; rel=\"ice-server\"".to_owned(),
        ];
        if endpoint.starts_with("/whep/") {
            expected.push(format!(
                "<{}/sse>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; \
                 events=\"active,inactive,paused,layers,viewercount\"",
                header(&response, "location")
            ));
        }
        assert_eq!(links, expected);
        let location = response.url().join(header(&response, "location")).unwrap();
        let session = location.path().strip_prefix(endpoint).unwrap();
        let session = session.strip_prefix('/').unwrap();
        assert!(session.len() >= 16 && !session.contains('/'), "{location}");
        let answer = response.text().await.unwrap();
        webrtc_sdp::parse_sdp(&answer, true).unwrap();
        let answer = Answer::parse(&answer);
        assert_ne!(answer.candidate.port(), 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_content_type_may_have_parameters_and_any_case() {
    let server = Server::start(Options::default()).await;
    let offer = recorded("werift-whep");
    for kind in [
        "application/sdp; charset=utf-8",
        "application/sdp;charset=UTF-8",
        "Application/SDP",
    ] {
        let response = server
            .request(
                "POST",
                "/whep/stage",
                &[("content-type", kind)],
                offer.clone(),
            )
            .await;
        assert_eq!(response.status(), 201, "{kind}");
    }
    for kind in [
        "application/json",
        "application/sdpx",
        "text/plain",
        "sdp",
        "",
    ] {
        let response = server
            .request(
                "POST",
                "/whep/stage",
                &[("content-type", kind)],
                offer.clone(),
            )
            .await;
        let (status, reason) = refusal(response).await;
        assert_eq!(status, 415, "{kind}");
        assert!(reason.contains(SDP), "{reason}");
    }
    let response = server.request("POST", "/whep/stage", &[], offer).await;
    assert_eq!(refusal(response).await.0, 415);
    server.stop().await;
}

#[tokio::test]
async fn an_offer_that_cannot_be_answered_is_refused_with_the_reason() {
    let server = Server::start(Options::default()).await;
    let sound = Offer::new(Kind::Publish, "actpass").text;
    let cases = [
        ("/whip/s", "".to_owned(), 400, "RFC 8866"),
        (
            "/whip/s",
            "{\"type\":\"offer\"}".to_owned(),
            400,
            "RFC 8866",
        ),
        ("/whip/s", sound.replace("a=mid:1", "a=mid:0"), 400, "mid"),
        (
            "/whip/s",
            sound.replace("sendonly", "recvonly"),
            422,
            "sendonly",
        ),
        ("/whep/s", sound.clone(), 422, "recvonly"),
        ("/whip/s", sound.replace("a=ice-pwd", "a=x"), 422, "ice-pwd"),
        (
            "/whip/s",
            sound.replace("a=fingerprint", "a=x"),
            422,
            "fingerprint",
        ),
        (
            "/whip/s",
            sound.replace("a=rtcp-mux", "a=x"),
            422,
            "rtcp-mux",
        ),
        (
            "/whip/s",
            sound.replace("VP8", "H263").replace("opus", "speex"),
            406,
            "H263",
        ),
        ("/whip/s%20x", sound.clone(), 400, "stream name"),
        ("/whip/...", sound.clone(), 400, "stream name"),
        ("/whip/%2e%2e%2fs", sound.clone(), 400, "stream name"),
        ("/whip/s%00", sound.clone(), 400, "stream name"),
    ];
    for (path, body, status, reason) in cases {
        let response = server.post(path, &body).await;
        let refused = refusal(response).await;
        assert_eq!(refused.0, status, "{path} {}", refused.1);
        assert!(refused.1.contains(reason), "{}", refused.1);
    }
    let long = format!("/whip/{}", "x".repeat(129));
    assert_eq!(refusal(server.post(&long, &sound).await).await.0, 400);
    assert_eq!(server.media.transport_count(), 0);
    assert_eq!(server.broadcast.stream_count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_unread() {
    let server = Server::start(Options::default()).await;
    let mut body = recorded("werift-whep");
    body += &"a=x:padding\r\n".repeat(64 * 1024 / 13);
    let (status, _) = refusal(server.post("/whep/stage", &body).await).await;
    assert_eq!(status, 413);
    server.stop().await;
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_there_are() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::View, "actpass").text;
    let (session, _) = server.create("/whep/stage", &offer).await;
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE"] {
        for endpoint in ["/whip/stage", "/whep/stage"] {
            let response = server.request(method, endpoint, WITH_TYPE, "").await;
            assert_eq!(response.status(), 405, "{method} {endpoint}");
            assert_eq!(header(&response, "allow"), "OPTIONS, POST");
            assert_readable_from_anywhere(&response);
        }
    }
    for method in ["GET", "HEAD", "PUT", "POST"] {
        let response = server.request(method, &session, WITH_TYPE, "").await;
        assert_eq!(response.status(), 405, "{method} {session}");
        assert_eq!(header(&response, "allow"), "OPTIONS, PATCH, DELETE");
        assert_readable_from_anywhere(&response);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_preflight_request_learns_what_is_allowed() {
    let server = Server::start(Options::default()).await;
    let preflight = [
        ("origin", "https://player.example"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    for (path, accept, media_type) in [
        ("/whip/stage", "accept-post", SDP),
        ("/whep/stage", "accept-post", SDP),
        ("/whep/stage/0123", "accept-patch", FRAGMENT),
    ] {
        let response = server.request("OPTIONS", path, &preflight, "").await;
        assert_eq!(response.status(), 204, "{path}");
        assert_eq!(header(&response, accept), media_type);
        assert_readable_from_anywhere(&response);
        let methods = header(&response, "access-control-allow-methods");
        for method in ["POST", "PATCH", "DELETE"] {
            assert!(methods.contains(method), "{methods}");
        }
        let headers = header(&response, "access-control-allow-headers").to_ascii_lowercase();
        for name in ["authorization", "content-type", "if-match"] {
            assert!(headers.contains(name), "{headers}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_path_that_leads_nowhere_says_so_to_scripts_too() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::View, "actpass").text;
    for path in [
        "/whip",
        "/whep/",
        "/whip/stage/session/more",
        "/whep/stage/",
    ] {
        let response = server.post(path, &offer).await;
        assert_eq!(response.status(), 404, "{path}");
        assert_readable_from_anywhere(&response);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_session_is_known_at_its_own_url_only() {
    let server = Server::start(Options::default()).await;
    let publish = Offer::new(Kind::Publish, "actpass").text;
    let view = Offer::new(Kind::View, "actpass").text;
    let (publisher, _) = server.create("/whip/stage", &publish).await;
    let (viewer, _) = server.create("/whep/stage", &view).await;
    let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    for path in [
        format!("/whip/stage/{}", id(&viewer)),
        format!("/whep/stage/{}", id(&publisher)),
        format!("/whip/other/{}", id(&publisher)),
        "/whip/stage/0123456789abcdef0123456789abcdef".to_owned(),
        "/whip/stage/%00".to_owned(),
    ] {
        let response = server.request("DELETE", &path, &[], "").await;
        assert_eq!(refusal(response).await.0, 404, "{path}");
        let headers = [("content-type", FRAGMENT), ("if-match", "*")];
        let response = server
            .request("PATCH", &path, &headers, fragment("abcd", &"x".repeat(22)))
            .await;
        assert_eq!(refusal(response).await.0, 404, "{path}");
    }
    for path in [publisher, viewer] {
        let response = server.request("DELETE", &path, &[], "").await;
        assert_eq!(response.status(), 200);
        assert_readable_from_anywhere(&response);
        assert_eq!(server.delete(&path).await, 404, "the second time");
    }
    server.stop().await;
}

#[tokio::test]
async fn trickled_candidates_and_restarts_are_for_one_ice_session() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::View, "actpass");
    let response = server.post("/whep/stage", &offer.text).await;
    let first_etag = header(&response, "etag").to_owned();
    let session = header(&response, "location").to_owned();
    let first = Answer::parse(&response.text().await.unwrap());
    let patch = async |if_match: &[&str], body: String| {
        let mut headers = vec![("content-type", FRAGMENT)];
        headers.extend(if_match.iter().map(|tag| ("if-match", *tag)));
        server.request("PATCH", &session, &headers, body).await
    };
    let trickle = fragment(&offer.ufrag, &offer.pwd);

    let response = patch(&[&first_etag], trickle.clone()).await;
    assert_eq!(response.status(), 204);
    assert_readable_from_anywhere(&response);
    assert_eq!(
        patch(&["\"x\"", &first_etag], trickle.clone())
            .await
            .status(),
        204
    );
    assert_eq!(refusal(patch(&[], trickle.clone()).await).await.0, 428);
    for wrong in ["\"999\"", "1", &format!("W/{first_etag}"), ""] {
        let refused = refusal(patch(&[wrong], trickle.clone()).await).await;
        assert_eq!(refused.0, 412, "{wrong}");
    }
    let garbage = patch(&[&first_etag], "v=0\r\n".to_owned()).await;
    assert_eq!(refusal(garbage).await.0, 400);
    let headers = [("content-type", SDP), ("if-match", "*")];
    let response = server.request("PATCH", &session, &headers, trickle).await;
    assert_eq!(refusal(response).await.0, 415);

    let mut latest = first_etag.clone();
    let mut ufrag = first.ufrag.clone();
    for (number, if_match) in [("*", true), ("etag", false)].iter().enumerate() {
        let tag = if if_match.1 { "*" } else { &latest };
        let body = fragment(&format!("new{number}"), &"y".repeat(22));
        let response = patch(&[tag], body.clone()).await;
        assert_eq!(response.status(), 200, "{if_match:?}");
        assert_eq!(header(&response, "content-type"), FRAGMENT);
        let etag = header(&response, "etag").to_owned();
        assert_ne!(etag, latest);
        let restarted = first.restarted(&response.text().await.unwrap());
        assert_ne!(restarted.ufrag, ufrag);
        assert_eq!(restarted.candidate, first.candidate);
        assert_eq!(
            refusal(patch(&[&latest], body).await).await.0,
            412,
            "the former tag"
        );
        (latest, ufrag) = (etag, restarted.ufrag);
    }
    server.stop().await;
}

#[tokio::test]
async fn of_two_restarts_at_once_one_is_answered() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::View, "actpass");
    let response = server.post("/whep/stage", &offer.text).await;
    let etag = header(&response, "etag").to_owned();
    let session = header(&response, "location").to_owned();
    let headers = [("content-type", FRAGMENT), ("if-match", etag.as_str())];
    let restarts = (0..8).map(|number| {
        let body = fragment(&format!("new{number}"), &"y".repeat(22));
        server.request("PATCH", &session, &headers, body)
    });
    let responses = futures_util::future::join_all(restarts).await;
    let mut statuses: Vec<_> = responses.iter().map(|r| r.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
    server.stop().await;
}

#[tokio::test]
async fn a_full_server_says_when_to_come_back() {
    let limits = BroadcastLimits {
        max_streams: 2,
        max_viewers_per_stream: 2,
    };
    let server = Server::start(Options {
        max_transports: 4,
        broadcast: limits,
        ..Options::default()
    })
    .await;
    let full = async |path: &str, offer: &Offer| {
        let response = server.post(path, &offer.text).await;
        let retry = header(&response, "retry-after").parse::<u32>().unwrap();
        assert!((1..=60).contains(&retry), "{retry}");
        refusal(response).await
    };
    let view = Offer::new(Kind::View, "actpass");
    let publish = Offer::new(Kind::Publish, "actpass");
    let (first, _) = server.create("/whep/a", &view.text).await;
    server.create("/whep/a", &view.text).await;
    let (status, reason) = full("/whep/a", &view).await;
    assert_eq!(status, 503);
    assert!(reason.contains("2 viewers"), "{reason}");
    server.create("/whip/b", &publish.text).await;
    let (status, reason) = full("/whip/c", &publish).await;
    assert_eq!(status, 503);
    assert!(reason.contains("2 streams"), "{reason}");
    server.create("/whip/a", &publish.text).await;
    let (status, reason) = full("/whep/b", &view).await;
    assert_eq!(status, 503);
    assert!(reason.contains("4 transports"), "{reason}");
    assert_eq!(server.delete(&first).await, 200);
    let media = server.media.clone();
    common::until(|| media.transport_count() == 3).await;
    server.create("/whep/b", &view.text).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_says_so_and_takes_nobody() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::View, "actpass").text;
    server.create("/whep/stage", &offer).await;
    server
        .media
        .terminate(std::time::Duration::from_secs(1))
        .await;
    let (status, reason) = refusal(server.post("/whep/stage", &offer).await).await;
    assert_eq!(status, 503);
    assert!(reason.contains("shutting down"), "{reason}");
    assert_eq!(server.media.transport_count(), 0);
    server.stop().await;
}
