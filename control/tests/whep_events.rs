//! Server-sent events of WHEP sessions (draft-ietf-wish-whep-02), as a client sees them over HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::events::{ALL, Events, subscribe};
use common::offer::{Kind, Offer};
use common::server::{Options, Server, header, recorded};
use fanmill_control::broadcast::{EventKind, StreamEvent};
use fanmill_control::http::HttpLimits;
use fanmill_control::model::TransportKind;
use serde_json::json;

const WITH_TYPE: &[(&str, &str)] = &[("content-type", "application/json")];

fn viewing() -> String {
    Offer::new(Kind::View, "actpass").text
}

fn publishing() -> String {
    Offer::new(Kind::Publish, "actpass").text
}

fn viewers(count: u64) -> serde_json::Value {
    json!({ "viewercount": count })
}

#[tokio::test]
async fn a_viewer_is_told_of_publishers_and_viewers_who_come_and_go() {
    let server = Server::start(Options::default()).await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    let stream = subscribe(&server, &session, ALL).await;
    let mut events = Events::open(&server, &stream).await;
    // That nobody publishes is no event at first.
    events.expect("viewercount", viewers(1)).await;
    for _ in 0..2 {
        let (publisher, _) = server.create("/whip/stage", &publishing()).await;
        events.expect("active", json!({})).await;
        assert_eq!(server.delete(&publisher).await, 200);
        events.expect("inactive", json!({})).await;
    }
    let (second, _) = server.create("/whep/stage", &viewing()).await;
    events.expect_viewers(2).await;
    assert_eq!(server.delete(&second).await, 200);
    events.expect_viewers(1).await;

    assert_eq!(server.delete(&session).await, 200);
    assert_eq!(events.next().await, None, "it ends with the session");
    let response = server.request("GET", &stream, &[], "").await;
    assert_eq!(response.status(), 404);
    server.stop().await;
}

#[tokio::test]
async fn a_viewer_is_told_only_what_it_asked_for() {
    let server = Server::start(Options::default()).await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    // What later drafts have is let pass.
    let stream = subscribe(&server, &session, r#"["inactive", "reconnect"]"#).await;
    let mut events = Events::open(&server, &stream).await;
    let (publisher, _) = server.create("/whip/stage", &publishing()).await;
    // Another reader, to know that the publisher was told of.
    let other = format!("{session}/sse");
    let response = server.request("POST", &other, &[], "").await;
    assert_eq!(response.status(), 201, "no body asks for all");
    let mut all = Events::open(&server, header(&response, "location")).await;
    all.expect("active", json!({})).await;
    assert_eq!(server.delete(&publisher).await, 200);
    events.expect("inactive", json!({})).await;
    server.stop().await;
}

#[tokio::test]
async fn the_layers_of_simulcast_are_told_by_the_viewers_media_section() {
    let server = Server::start(Options::default()).await;
    let offer = recorded("chromium-whip-simulcast3-vp8");
    server.create("/whip/stage", &offer).await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    let stream = subscribe(&server, &session, r#"["layers"]"#).await;
    let mut events = Events::open(&server, &stream).await;
    // Without a bitrate, for nothing was sent; its video is the second section of the offer.
    let layers = json!({ "1": [{ "rid": "l" }, { "rid": "m" }, { "rid": "h" }] });
    events.expect("layers", layers).await;
    server.stop().await;
}

#[tokio::test]
async fn a_reader_takes_the_place_of_the_one_before_and_misses_no_state() {
    let server = Server::start(Options::default()).await;
    let (publisher, _) = server.create("/whip/stage", &publishing()).await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    let stream = subscribe(&server, &session, r#"["active", "inactive"]"#).await;
    let mut first = Events::open(&server, &stream).await;
    first.expect("active", json!({})).await;
    let mut second = Events::open(&server, &stream).await;
    assert_eq!(first.next().await, None);
    second.expect("active", json!({})).await;
    drop(second);
    assert_eq!(server.delete(&publisher).await, 200);
    let mut third = Events::open(&server, &stream).await;
    third.expect("inactive", json!({})).await;
    assert_eq!(server.delete(&stream).await, 200);
    assert_eq!(third.next().await, None);
    assert_eq!(server.request("GET", &stream, &[], "").await.status(), 404);
    assert_eq!(server.delete(&stream).await, 404);
    server.stop().await;
}

#[tokio::test]
async fn a_viewer_who_is_shown_another_stream_is_told_of_that() {
    let server = Server::start(Options::default()).await;
    let (publisher, _) = server.create("/whip/other", &publishing()).await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    let stream = subscribe(&server, &session, r#"["active", "inactive"]"#).await;
    let mut events = Events::open(&server, &stream).await;
    let id = session.rsplit('/').next().unwrap();
    let viewer = server.broadcast.session(TransportKind::View, "stage", id);
    let viewer = viewer.unwrap();
    server.broadcast.attach(&viewer, "other").unwrap();
    events.expect("active", json!({})).await;
    server.broadcast.detach(&viewer).unwrap();
    events.expect("inactive", json!({})).await;
    server.broadcast.attach(&viewer, "other").unwrap();
    events.expect("active", json!({})).await;
    assert_eq!(server.delete(&publisher).await, 200);
    events.expect("inactive", json!({})).await;
    server.stop().await;
}

#[tokio::test]
async fn many_who_come_at_once_are_counted_once_a_second() {
    let server = Server::start(Options::default()).await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    let stream = subscribe(&server, &session, r#"["viewercount"]"#).await;
    let mut events = Events::open(&server, &stream).await;
    let begun = Instant::now();
    for _ in 0..100 {
        server.create("/whep/stage", &viewing()).await;
    }
    let mut told = 0;
    while events.next().await.unwrap().1 != viewers(101) {
        told += 1;
    }
    let at_most = begun.elapsed().as_secs() + 2;
    assert!(told <= at_most, "{told} counts in {at_most} s");
    server.stop().await;
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_told_the_last_state_only() {
    let server = Server::start(Options::default()).await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    let id = session.rsplit('/').next().unwrap();
    let viewer = server.broadcast.session(TransportKind::View, "stage", id);
    let viewer = viewer.unwrap();
    let wanted = [EventKind::Active, EventKind::Inactive];
    let subscription = viewer.subscribe(&wanted).unwrap();
    let mut reader = server
        .broadcast
        .read_events(&viewer, subscription.id())
        .unwrap();
    for _ in 0..20 {
        let (publisher, _) = server.create("/whip/stage", &publishing()).await;
        assert_eq!(server.delete(&publisher).await, 200);
    }
    let (publisher, _) = server.create("/whip/stage", &publishing()).await;
    let told = common::soon(reader.next()).await;
    assert!(matches!(told, Some(StreamEvent::Active)), "{told:?}");
    assert_eq!(server.delete(&publisher).await, 200);
    let told = common::soon(reader.next()).await;
    assert!(matches!(told, Some(StreamEvent::Inactive)), "{told:?}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_request_for_events_is_refused_in_words() {
    let server = Server::start(Options::default()).await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    let (publisher, _) = server.create("/whip/stage", &publishing()).await;
    let path = format!("{session}/sse");
    let id = session.rsplit('/').next().unwrap();
    for (path, body, status) in [
        (&path, "{}", 422),
        (&path, "active", 422),
        (&path, r#"["scte35"]"#, 422),
        (&path, "[]", 422),
        (&format!("/whep/other/{id}/sse"), ALL, 404),
        (&format!("{publisher}/sse"), ALL, 404),
        (&format!("/whep/stage/{}/sse", "0".repeat(32)), ALL, 404),
    ] {
        let response = server.request("POST", path, WITH_TYPE, body).await;
        assert_eq!(response.status(), status, "{path} {body}");
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        assert!(!response.text().await.unwrap().trim().is_empty());
    }
    let response = server.request("POST", &path, &[], ALL).await;
    assert_eq!(response.status(), 415);
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(subscribe(&server, &session, ALL).await);
    }
    let response = server.request("POST", &path, WITH_TYPE, ALL).await;
    assert_eq!(response.status(), 429, "one more than a session may have");
    assert_eq!(server.delete(&streams[0]).await, 200);
    subscribe(&server, &session, ALL).await;

    for (path, allowed, methods) in [
        (&path, "OPTIONS, POST", ["GET", "PUT", "DELETE"]),
        (
            &streams[1],
            "OPTIONS, GET, DELETE",
            ["POST", "PUT", "PATCH"],
        ),
    ] {
        for method in methods {
            let response = server.request(method, path, WITH_TYPE, "").await;
            assert_eq!(response.status(), 405, "{method} {path}");
            assert_eq!(header(&response, "allow"), allowed);
        }
        let preflight = server.request("OPTIONS", path, &[], "").await;
        assert_eq!(preflight.status(), 204);
        let methods = header(&preflight, "access-control-allow-methods");
        assert!(methods.contains("GET"), "{methods}");
    }
    // Nobody else's stream, and none that never was.
    let stranger = streams[1].replace(id, &"0".repeat(32));
    let never = format!("{path}/{}", "0".repeat(32));
    for path in [stranger, never] {
        assert_eq!(server.request("GET", &path, &[], "").await.status(), 404);
    }
    server.stop().await;
}

#[tokio::test]
async fn readers_of_events_neither_take_the_places_of_others_nor_grow_old() {
    let http = HttpLimits {
        max_connections: 2,
        max_event_streams: 2,
        max_kept: 0,
        head_timeout: Duration::from_millis(300),
        max_age: Duration::from_millis(300),
        ..HttpLimits::default()
    };
    let server = Server::start(Options {
        http,
        ..Options::default()
    })
    .await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    let mut readers = Vec::new();
    for _ in 0..2 {
        let stream = subscribe(&server, &session, r#"["viewercount"]"#).await;
        readers.push(Events::open(&server, &stream).await);
    }
    let stream = subscribe(&server, &session, ALL).await;
    let response = server.request("GET", &stream, &[], "").await;
    assert_eq!(response.status(), 503, "one more than the server may have");
    assert_eq!(header(&response, "retry-after"), "5");
    // Counts come a second apart.
    for count in 2..5 {
        server.create("/whep/stage", &viewing()).await;
        for reader in &mut readers {
            reader.expect_viewers(count).await;
        }
    }
    drop(readers.pop());
    // The server notices when it next looks at the connection.
    loop {
        let response = server.request("GET", &stream, &[], "").await;
        if response.status() == 200 {
            break;
        }
        assert_eq!(response.status(), 503);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_does_not_wait_for_readers() {
    let http = HttpLimits {
        drain: 2 * common::PATIENCE,
        ..HttpLimits::default()
    };
    let server = Server::start(Options {
        http,
        ..Options::default()
    })
    .await;
    let (session, _) = server.create("/whep/stage", &viewing()).await;
    let stream = subscribe(&server, &session, ALL).await;
    let mut events = Events::open(&server, &stream).await;
    events.expect("viewercount", viewers(1)).await;
    server.stop().await;
    assert_eq!(events.next().await, None);
}
