//! Browsers publish to the server and others watch: what the server is for.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeSet;

use fanmill_tests::browser::keep_screenshot;
use fanmill_tests::scene::{
    LIMIT, picture, plays, publish, publish_sized, session, shard_port, watch, watched,
};
use fanmill_tests::{Browser, Server, ServerOptions, wait};
use futures_util::future::try_join_all;

const SMALL: (u32, u32) = (320, 180);

/// One publisher, three viewers, both shards.
async fn three_viewers_see_and_hear(codec: &str) {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = publish(&browser, &server, "main", codec).await.unwrap();
    let viewers = (0..3).map(|_| watch(&browser, &server, "main"));
    let viewers = try_join_all(viewers).await.unwrap();
    for seen in try_join_all(viewers.iter().map(|viewer| plays(viewer, 5)))
        .await
        .unwrap()
    {
        assert_eq!(seen.codec.as_deref(), Some(codec));
        assert_eq!((seen.frame_width, seen.frame_height), (640, 360));
        assert_eq!(seen.packets_lost, 0, "the loopback loses nothing: {seen:?}");
    }
    // Frames come in packets that differ by a byte or so, and leave as trains of equal ones. (Those
    // of AV1 are equal but for the last one, which is the shortest: they need no padding.)
    let (padded, packets, sends) = server.trains().await.unwrap();
    assert!(sends < packets, "{packets} in {sends}");
    assert!(padded > 0 || codec == "AV1", "{padded} of {packets}");

    let ports = try_join_all(viewers.iter().map(shard_port)).await.unwrap();
    let shards = BTreeSet::from([server.udp(0).port().into(), server.udp(1).port().into()]);
    assert_eq!(
        BTreeSet::from_iter(ports),
        shards,
        "the viewers are on both shards"
    );

    let stream = server.stream("main").await.unwrap();
    assert_eq!(
        (&stream["live"], &stream["viewers"]),
        (&true.into(), &3.into()),
        "{stream}"
    );
    keep_screenshot(
        &format!("live-{codec}"),
        &viewers[0].screenshot().await.unwrap(),
    )
    .unwrap();
    keep_screenshot(
        &format!("publish-{codec}"),
        &publisher.screenshot().await.unwrap(),
    )
    .unwrap();
    for page in viewers.iter().chain([&publisher]) {
        assert_eq!(page.console(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn three_viewers_see_and_hear_a_vp8_publisher() {
    three_viewers_see_and_hear("VP8").await;
}

#[tokio::test]
async fn three_viewers_see_and_hear_a_vp9_publisher() {
    three_viewers_see_and_hear("VP9").await;
}

#[tokio::test]
async fn three_viewers_see_and_hear_an_h264_publisher() {
    three_viewers_see_and_hear("H264").await;
}

#[tokio::test]
async fn three_viewers_see_and_hear_an_av1_publisher() {
    three_viewers_see_and_hear("AV1").await;
}

#[tokio::test]
async fn sound_in_trains_of_padded_packets_is_heard() {
    let options = ServerOptions {
        arguments: ["--audio-train-wait-us", "20000"].map(Into::into).to_vec(),
        ..ServerOptions::default()
    };
    let server = Server::start_with(options).await.unwrap();
    let browser = Browser::start().await.unwrap();
    // So small that a frame is one packet, and all trains are of sound.
    let publisher = publish_sized(&browser, &server, "main", "VP8", SMALL);
    let _publisher = publisher.await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    plays(&viewer, 5).await.unwrap();
    let (padded, packets, sends) = server.trains().await.unwrap();
    assert!(
        padded > 30 && sends < packets,
        "{padded}, {packets}, {sends}"
    );
    let lost = "fanmill.pc.getStats().then((all) => [...all.values()].find(
        (one) => one.type === 'inbound-rtp' && one.kind === 'audio').packetsLost)";
    assert_eq!(viewer.evaluate(lost).await.unwrap(), 0);
}

#[tokio::test]
async fn three_who_publish_all_see_each_other() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let names = ["ann", "bob", "cid"];
    let publish = names.map(|name| publish_sized(&browser, &server, name, "VP8", SMALL));
    let _publishers = try_join_all(publish).await.unwrap();
    // Each has a page per other person.
    let others = names
        .iter()
        .flat_map(|me| names.iter().filter(move |other| *other != me));
    let pages = try_join_all(others.map(|name| watch(&browser, &server, name)))
        .await
        .unwrap();
    assert_eq!(pages.len(), 6);
    try_join_all(pages.iter().map(|page| plays(page, 3)))
        .await
        .unwrap();
    for name in names {
        assert_eq!(server.stream(name).await.unwrap()["viewers"], 2, "{name}");
    }
}

#[tokio::test]
async fn a_viewer_may_come_before_the_publisher() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let viewer = watch(&browser, &server, "later").await.unwrap();
    viewer
        .wait_for("fanmill.state === 'waiting'", LIMIT)
        .await
        .unwrap();
    let _publisher = publish(&browser, &server, "later", "VP8").await.unwrap();
    plays(&viewer, 3).await.unwrap();
}

#[tokio::test]
async fn viewers_go_on_by_themselves_when_the_publisher_returns() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = publish_sized(&browser, &server, "main", "VP8", SMALL)
        .await
        .unwrap();
    let viewers = [0, 1].map(|_| watch(&browser, &server, "main"));
    let viewers = try_join_all(viewers).await.unwrap();
    try_join_all(viewers.iter().map(|viewer| plays(viewer, 2)))
        .await
        .unwrap();
    let before = try_join_all(viewers.iter().map(session)).await.unwrap();

    publisher.close().await.unwrap();
    for viewer in &viewers {
        viewer
            .wait_for("fanmill.text.includes('publisher is gone')", LIMIT)
            .await
            .unwrap();
    }
    assert_eq!(server.stream("main").await.unwrap()["live"], false);

    // Another codec and another size than before.
    let _publisher = publish(&browser, &server, "main", "H264").await.unwrap();
    for seen in try_join_all(viewers.iter().map(|viewer| plays(viewer, 3)))
        .await
        .unwrap()
    {
        assert_eq!(
            (seen.frame_width, seen.codec.as_deref()),
            (640, Some("H264"))
        );
    }
    let after = try_join_all(viewers.iter().map(session)).await.unwrap();
    assert_eq!(before, after, "the viewers kept their sessions");
}

#[tokio::test]
async fn a_late_viewer_sees_a_picture_at_once() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let _publisher = publish(&browser, &server, "main", "VP8").await.unwrap();
    let first = watch(&browser, &server, "main").await.unwrap();
    plays(&first, 5).await.unwrap();
    let late = watch(&browser, &server, "main").await.unwrap();
    late.wait_for("fanmill.state === 'playing'", LIMIT)
        .await
        .unwrap();
    assert!(picture(&late).await.unwrap().variance() > 1000.0);
    plays(&late, 2).await.unwrap();
}

#[tokio::test]
async fn ice_restarts_keep_the_sessions_and_the_media() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = publish_sized(&browser, &server, "main", "VP8", SMALL)
        .await
        .unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    plays(&viewer, 2).await.unwrap();
    for page in [&viewer, &publisher] {
        let before = session(page).await.unwrap();
        let ufrag = "fanmill.pc.remoteDescription.sdp.match(/a=ice-ufrag:(.*)/)[1]";
        let old = page.evaluate(ufrag).await.unwrap();
        page.evaluate("fanmill.session.restart()").await.unwrap();
        assert_ne!(
            page.evaluate(ufrag).await.unwrap(),
            old,
            "the server has new credentials"
        );
        plays(&viewer, 3).await.unwrap();
        assert_eq!(session(page).await.unwrap(), before);
    }
}

#[tokio::test]
async fn a_viewer_who_leaves_is_gone_from_the_server_and_nobody_else_notices() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let _publisher = publish_sized(&browser, &server, "main", "VP8", SMALL)
        .await
        .unwrap();
    let [stays, leaves] = [0, 1].map(|_| watch(&browser, &server, "main"));
    let (stays, leaves) = (stays.await.unwrap(), leaves.await.unwrap());
    plays(&leaves, 1).await.unwrap();
    leaves.close().await.unwrap();
    let viewers = async || Ok(server.stream("main").await?["viewers"].clone());
    wait::until("one viewer", LIMIT, viewers, |viewers| *viewers == 1)
        .await
        .unwrap();
    plays(&stays, 2).await.unwrap();
    assert_eq!(watched(&stays).await.unwrap().packets_lost, 0);
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_in_words() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let _publisher = publish_sized(&browser, &server, "main", "VP8", SMALL)
        .await
        .unwrap();
    let url = server.url("/publish/main?source=testcard&autostart=1&width=320&height=180");
    let second = browser.open(&url).await.unwrap();
    second
        .wait_for("fanmill.state === 'failed'", LIMIT)
        .await
        .unwrap();
    let text = second.evaluate("fanmill.text").await.unwrap();
    assert!(
        text.as_str().unwrap().contains("already publishing"),
        "{text}"
    );
}
