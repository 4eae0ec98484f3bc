//! Sessions from the first check to their end, with a client that shares no code with the server:
//! media in both DTLS roles, ICE restarts, and every way in which a session can end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::media::{Rtp, audio, keyframe};
use common::offer::{AUDIO_PT, Kind, Offer, VIDEO_PT};
use common::peer::Peer;
use common::server::{FRAGMENT, Options, Server};
use common::{soon, until};
use tokio::time::interval;

/// A connected client and the path of its session.
async fn join(server: &Server, path: &str, kind: Kind, setup: &str) -> (Peer, String) {
    let offer = Offer::new(kind, setup);
    let (session, answer) = server.create(path, &offer.text).await;
    (Peer::connect(&offer, &answer).await, session)
}

/// Sends keyframes and audio until the viewer has had some of both; gives the first of each.
async fn watch(publisher: &Peer, viewer: &mut Peer, first: u16) -> (Rtp, Rtp) {
    let mut pause = interval(Duration::from_millis(20));
    let (mut sound, mut picture) = (None, None);
    let mut number = first;
    soon(async {
        loop {
            tokio::select! {
                packet = viewer.recv_rtp() => match packet.payload_type {
                    AUDIO_PT => sound = sound.or(Some(packet)),
                    VIDEO_PT => picture = picture.or(Some(packet)),
                    other => panic!("payload type {other}"),
                },
                _ = pause.tick() => {
                    publisher.send_rtp(&audio(number)).await;
                    publisher.send_rtp(&keyframe(number)).await;
                    number += 1;
                }
            }
            if let (Some(sound), Some(picture)) = (&sound, &picture) {
                return (sound.clone(), picture.clone());
            }
        }
    })
    .await
}

#[tokio::test]
async fn media_flows_whoever_begins_the_dtls_handshake() {
    let server = Server::start(Options {
        shards: 2,
        ..Options::default()
    })
    .await;
    // As in the offer; the answer to `actpass` is `passive`, to `passive` it is `active`.
    for (name, publisher, viewer) in [
        ("a", "actpass", "actpass"),
        ("b", "passive", "passive"),
        ("c", "active", "passive"),
    ] {
        let (publisher, _) =
            join(&server, &format!("/whip/{name}"), Kind::Publish, publisher).await;
        let path = format!("/whep/{name}");
        let (mut first, _) = join(&server, &path, Kind::View, viewer).await;
        // On the other shard.
        let (mut second, _) = join(&server, &path, Kind::View, viewer).await;
        assert_ne!(first.answer.candidate, second.answer.candidate);
        for viewer in [&mut first, &mut second] {
            let (sound, picture) = watch(&publisher, viewer, 1).await;
            assert_eq!(viewer.answer.ssrcs[0][0], sound.ssrc);
            assert_eq!(viewer.answer.ssrcs[1][0], picture.ssrc);
            assert_eq!(sound.payload[0], 0xFC, "Opus as it was sent");
            assert_eq!(
                picture.payload[4..7],
                [0x9D, 0x01, 0x2A],
                "VP8 as it was sent"
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_viewer_may_come_before_the_publisher_and_stay_after_it() {
    let server = Server::start(Options::default()).await;
    let (mut viewer, _) = join(&server, "/whep/stage", Kind::View, "actpass").await;
    for round in 0..2 {
        let (publisher, session) = join(&server, "/whip/stage", Kind::Publish, "actpass").await;
        watch(&publisher, &mut viewer, round * 100).await;
        assert_eq!(server.delete(&session).await, 200);
        publisher.closed().await;
    }
    assert_eq!(server.media.transport_count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn media_flows_on_across_an_ice_restart() {
    let server = Server::start(Options::default()).await;
    let (publisher, _) = join(&server, "/whip/stage", Kind::Publish, "actpass").await;
    let (mut viewer, session) = join(&server, "/whep/stage", Kind::View, "actpass").await;
    watch(&publisher, &mut viewer, 1).await;
    let headers = [("content-type", FRAGMENT), ("if-match", "*")];
    let body = format!("a=ice-ufrag:anew\r\na=ice-pwd:{}\r\n", "p".repeat(22));
    let response = server.request("PATCH", &session, &headers, body).await;
    assert_eq!(response.status(), 200);
    watch(&publisher, &mut viewer, 100).await;
    viewer.restarted("anew", &response.text().await.unwrap());
    viewer.check().await;
    watch(&publisher, &mut viewer, 200).await;
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_certificate_ends_the_session_and_frees_everything() {
    let server = Server::start(Options::default()).await;
    for (path, kind, setup) in [
        ("/whip/stage", Kind::Publish, "actpass"),
        ("/whep/stage", Kind::View, "passive"),
    ] {
        let offer = Offer::with_fingerprint(kind, setup, &["00"; 32].join(":"));
        let (session, answer) = server.create(path, &offer.text).await;
        let connected = soon(Peer::try_connect(&offer, &answer)).await;
        // As DTLS server the client may be done before it is refused.
        assert!(connected.is_err() || setup == "passive");
        let (media, broadcast) = (server.media.clone(), server.broadcast.clone());
        until(|| media.transport_count() == 0 && broadcast.stream_count() == 0).await;
        assert_eq!(server.delete(&session).await, 404);
        assert_eq!(server.media.dtls_counters().completed(), 0);
    }
    until(|| server.engine_transports() == 0).await;
    assert_eq!(server.media.dtls_counters().failed(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_or_never_comes_is_given_up() {
    let server = Server::start(Options {
        consent_timeout: Duration::from_secs(1),
        ..Options::default()
    })
    .await;
    let (silent, first) = join(&server, "/whip/stage", Kind::Publish, "actpass").await;
    let offer = Offer::new(Kind::View, "actpass");
    let (second, _) = server.create("/whep/stage", &offer.text).await;
    let (media, broadcast) = (server.media.clone(), server.broadcast.clone());
    until(|| media.transport_count() == 0 && broadcast.stream_count() == 0).await;
    silent.closed().await;
    for session in [first, second] {
        assert_eq!(server.delete(&session).await, 404);
    }
    until(|| server.engine_transports() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_keeps_its_consent_stays() {
    let server = Server::start(Options {
        consent_timeout: Duration::from_secs(1),
        ..Options::default()
    })
    .await;
    let (mut viewer, session) = join(&server, "/whep/stage", Kind::View, "actpass").await;
    let mut pause = interval(Duration::from_millis(250));
    for _ in 0..12 {
        pause.tick().await;
        viewer.check().await;
    }
    assert_eq!(server.delete(&session).await, 200);
    viewer.closed().await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_says_goodbye_to_everybody() {
    let server = Server::start(Options {
        shards: 2,
        ..Options::default()
    })
    .await;
    let (publisher, _) = join(&server, "/whip/stage", Kind::Publish, "actpass").await;
    let mut viewers = Vec::new();
    for _ in 0..8 {
        viewers.push(join(&server, "/whep/stage", Kind::View, "actpass").await.0);
    }
    watch(&publisher, &mut viewers[7], 1).await;
    // Half a minute of consent would be the other way for them to notice.
    let patience = Duration::from_secs(2);
    let ended = tokio::time::timeout(2 * patience, server.media.terminate(patience));
    ended.await.expect("within its patience");
    assert_eq!(server.media.transport_count(), 0);
    publisher.closed().await;
    for viewer in &mut viewers {
        viewer.closed().await;
        let mut byes = viewer.recv_byes().await;
        byes.sort_unstable();
        let mut announced = vec![viewer.answer.ssrcs[0][0], viewer.answer.ssrcs[1][0]];
        announced.sort_unstable();
        assert_eq!(byes, announced);
    }
    server.stop().await;
}
