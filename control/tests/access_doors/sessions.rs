//! WHIP and WHEP.

use reqwest::Response;

use super::common::offer::{Kind, Offer};
use super::common::server::{FRAGMENT, Options, SDP, Server, header};
use super::common::until;
use super::{refused, token};

/// POSTs an offer with these fields.
async fn post(server: &Server, path: &str, kind: Kind, fields: &[(&str, &str)]) -> Response {
    let offer = Offer::new(kind, "actpass").text;
    let fields = [&[("content-type", SDP)], fields].concat();
    server.request("POST", path, &fields, offer).await
}

async fn status(server: &Server, method: &str, path: &str, fields: &[(&str, &str)]) -> u16 {
    let response = server.request(method, path, fields, "").await;
    response.status().as_u16()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn sessions_need_a_token_of_their_stream_at_every_step() {
    let server = Server::start(Options::default()).await;
    let access = server.broadcast.access();
    let (publish, _) = token(access, "stage", "publish");
    let (watch, _) = token(access, "stage", "watch");
    let (other, _) = token(access, "other", "publish watch");
    let (publish, watch, other) = (bearer(&publish), bearer(&watch), bearer(&other));

    for (path, kind, right) in [
        ("/whip/stage", Kind::Publish, &publish),
        ("/whep/stage", Kind::View, &watch),
    ] {
        let bare = post(&server, path, kind, &[]).await;
        assert_eq!(bare.status(), 401, "{path}");
        assert_eq!(
            header(&bare, "www-authenticate"),
            "Bearer realm=\"fanmill\""
        );
        assert_eq!(header(&bare, "access-control-allow-origin"), "*");
        assert!(header(&bare, "access-control-expose-headers").contains("WWW-Authenticate"));
        assert!(bare.text().await.unwrap().contains("a token is needed"));

        let wrong = [("authorization", "Bearer wrong")];
        let wrong = post(&server, path, kind, &wrong).await;
        assert_eq!(wrong.status(), 401, "{path}");
        assert!(header(&wrong, "www-authenticate").contains("invalid_token"));

        let foreign = post(&server, path, kind, &[("authorization", &other)]).await;
        assert_eq!(foreign.status(), 403, "{path}");
        assert!(header(&foreign, "www-authenticate").contains("insufficient_scope"));

        let asked = server.request("OPTIONS", path, &[], "").await;
        assert_eq!(asked.status(), 204, "{path}");
        assert!(header(&asked, "access-control-allow-headers").contains("Authorization"));

        let made = post(&server, path, kind, &[("authorization", right)]).await;
        assert_eq!(made.status(), 201, "{path}");
        // What came in a field is in no address.
        let session = header(&made, "location").to_owned();
        assert!(!session.contains('?'), "{session}");
        let fragment = ("content-type", FRAGMENT);
        assert_eq!(status(&server, "PATCH", &session, &[fragment]).await, 401);
        let foreign = [fragment, ("authorization", other.as_str())];
        assert_eq!(status(&server, "PATCH", &session, &foreign).await, 403);
        let own = [("authorization", right.as_str())];
        let patched = status(&server, "PATCH", &session, &[own[0], fragment]).await;
        assert!(![401, 403].contains(&patched), "{patched}");
        for below in ["/sse", "/layer"] {
            if kind == Kind::View {
                let address = format!("{session}{below}");
                let json = ("content-type", "application/json");
                assert_eq!(status(&server, "POST", &address, &[json]).await, 401);
                let asked = server
                    .request("POST", &address, &[own[0], json], "{}")
                    .await;
                assert!(![401, 403].contains(&asked.status().as_u16()), "{below}");
            }
        }
        assert_eq!(status(&server, "DELETE", &session, &[]).await, 401);
        assert_eq!(status(&server, "DELETE", &session, &own).await, 200);
    }
    assert!(refused(&server, "missing") >= 8);
    assert_eq!(
        (refused(&server, "unknown"), refused(&server, "forbidden")),
        (2, 4)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_token_in_the_address_is_in_all_addresses_that_follow() {
    let server = Server::start(Options::default()).await;
    let (watch, _) = token(server.broadcast.access(), "stage", "watch");
    let path = format!("/whep/stage?token={watch}");
    let made = post(&server, &path, Kind::View, &[]).await;
    assert_eq!(made.status(), 201);
    let session = header(&made, "location").to_owned();
    let (bare, query) = session.split_once('?').unwrap();
    assert_eq!(query, format!("token={watch}"));
    let links = made.headers().get_all("link").iter();
    let links: Vec<_> = links.map(|link| link.to_str().unwrap()).collect();
    for below in ["sse", "layer"] {
        let link = format!("<{bare}/{below}?{query}>");
        assert!(
            links.iter().any(|given| given.starts_with(&link)),
            "{links:?}"
        );
    }
    let address = format!("{bare}/sse?{query}");
    let events = server.request("POST", &address, &[], "").await;
    assert_eq!(events.status(), 201);
    let events = header(&events, "location").to_owned();
    assert!(events.ends_with(query), "{events}");
    assert_eq!(status(&server, "GET", &events, &[]).await, 200);
    assert_eq!(status(&server, "DELETE", bare, &[]).await, 401);
    assert_eq!(status(&server, "DELETE", &session, &[]).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn sessions_end_with_their_token_and_others_do_not() {
    let server = Server::start(Options::default()).await;
    let access = server.broadcast.access();
    let (first, id) = token(access, "stage", "publish watch");
    let (second, _) = token(access, "stage", "watch");
    for (path, kind, token) in [
        ("/whip/stage", Kind::Publish, &first),
        ("/whep/stage", Kind::View, &first),
        ("/whep/stage", Kind::View, &second),
    ] {
        let token = bearer(token);
        let made = post(&server, path, kind, &[("authorization", &token)]).await;
        assert_eq!(made.status(), 201, "{path}");
    }
    assert_eq!(server.media.transport_count(), 3);
    assert_eq!(access.list()[0].sessions, 2);
    assert_eq!(access.revoke(id), Ok(2));
    until(|| server.media.transport_count() == 1).await;
    assert_eq!(server.broadcast.streams()[0].viewers, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_wrong_tokens_is_counted_and_disturbs_nobody() {
    let server = Server::start(Options::default()).await;
    let (right, _) = token(server.broadcast.access(), "*", "publish watch");
    let right = bearer(&right);
    for number in 0..2000 {
        let wrong = format!("Bearer wrong-{number}");
        let fields = [("authorization", wrong.as_str())];
        assert_eq!(status(&server, "POST", "/whip/stage", &fields).await, 401);
    }
    let made = post(
        &server,
        "/whip/stage",
        Kind::Publish,
        &[("authorization", &right)],
    )
    .await;
    assert_eq!(made.status(), 201);
    assert_eq!(refused(&server, "unknown"), 2000);
    server.stop().await;
}
