//! One publisher a stream: who may, who must wait, and who may take over from whom.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::media::{audio, keyframe};
use common::offer::{Kind, Offer};
use common::peer::Peer;
use common::server::{Options, Server};
use tokio::time::interval;

#[tokio::test]
async fn a_second_publisher_is_refused_while_the_first_is_there() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::Publish, "actpass");
    server.create("/whip/stage", &offer.text).await;
    let response = server.post("/whip/stage", &offer.text).await;
    assert_eq!(response.status(), 409);
    let reason = response.text().await.unwrap();
    assert!(
        reason.contains("stage") && reason.contains("publisher"),
        "{reason}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_stream_is_free_as_soon_as_its_deletion_is_answered() {
    let server = Server::start(Options::default()).await;
    for round in 0..20 {
        let offer = Offer::new(Kind::Publish, "actpass");
        let (session, answer) = server.create("/whip/stage", &offer.text).await;
        // Connected sessions take longer to end: a close_notify has to get out.
        let peer = match round % 4 {
            0 => Some(Peer::connect(&offer, &answer).await),
            _ => None,
        };
        assert_eq!(server.delete(&session).await, 200);
        assert_eq!(server.broadcast.stream_count(), 0);
        if let Some(peer) = peer {
            peer.closed().await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn of_many_publishers_at_once_one_wins() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::Publish, "actpass");
    let posts = (0..32).map(|_| server.post("/whip/stage", &offer.text));
    let responses = futures_util::future::join_all(posts).await;
    let count = |status: u16| responses.iter().filter(|r| r.status() == status).count();
    assert_eq!((count(201), count(409)), (1, 31));
    assert_eq!(server.media.transport_count(), 1);
    server.stop().await;
}

/// POSTs until the stream is free.
async fn publish_again(server: &Server, offer: &Offer) -> (String, u32) {
    let mut refused = 0;
    let mut pause = interval(Duration::from_millis(100));
    common::soon(async {
        loop {
            pause.tick().await;
            let response = server.post("/whip/stage", &offer.text).await;
            match response.status().as_u16() {
                201 => return (response.text().await.unwrap(), refused),
                409 => refused += 1,
                other => panic!("{other}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_publisher_that_vanished_is_replaced_and_its_viewers_see_the_next_one() {
    // Consent alone would keep the dead one for longer than any test waits.
    let server = Server::start(Options {
        consent_timeout: Duration::from_secs(3600),
        ..Options::default()
    })
    .await;
    let offer = Offer::new(Kind::Publish, "actpass");
    let view = Offer::new(Kind::View, "actpass");
    let (_, answer) = server.create("/whep/stage", &view.text).await;
    let mut viewer = Peer::connect(&view, &answer).await;
    let (_, answer) = server.create("/whip/stage", &offer.text).await;
    let first = Peer::connect(&offer, &answer).await;
    first.send_rtp(&audio(1)).await;
    viewer.recv_rtp().await;
    drop(first);

    let (answer, refused) = publish_again(&server, &offer).await;
    assert!(refused > 0, "nobody is dead at once");
    let second = Peer::connect(&offer, &answer).await;
    let mut number = 100;
    let mut pause = interval(Duration::from_millis(20));
    let seen = common::soon(async {
        loop {
            tokio::select! {
                packet = viewer.recv_rtp() => break packet,
                _ = pause.tick() => {
                    second.send_rtp(&keyframe(number)).await;
                    number += 1;
                }
            }
        }
    });
    assert_eq!(seen.await.payload_type, 96);
    let media = server.media.clone();
    common::until(|| media.transport_count() == 2).await;
    server.stop().await;
}

#[tokio::test]
async fn a_publisher_that_only_answers_for_its_life_is_not_replaced() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::Publish, "actpass");
    let (_, answer) = server.create("/whip/stage", &offer.text).await;
    let mut publisher = Peer::connect(&offer, &answer).await;
    let mut pause = interval(Duration::from_millis(500));
    for _ in 0..12 {
        pause.tick().await;
        publisher.check().await;
        let response = server.post("/whip/stage", &offer.text).await;
        assert_eq!(response.status(), 409);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_publisher_whose_association_ended_leaves_the_stream_free() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::Publish, "actpass");
    let (session, answer) = server.create("/whip/stage", &offer.text).await;
    let publisher = Peer::connect(&offer, &answer).await;
    publisher.close().await;
    let broadcast = server.broadcast.clone();
    common::until(|| broadcast.stream_count() == 0).await;
    assert_eq!(server.delete(&session).await, 404);
    server.create("/whip/stage", &offer.text).await;
    server.stop().await;
}
