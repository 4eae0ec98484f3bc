//! Clients that are not browsers publish and watch.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use fanmill_tests::clients::{aiortc_publish, aiortc_watch, ffmpeg_publish};
use fanmill_tests::scene::{LIMIT, plays, publish, watch};
use fanmill_tests::server::lan_ip;
use fanmill_tests::{Browser, Server, ServerOptions, wait};
use serde_json::{Value, json};

/// These clients send no connectivity check to a loopback address.
async fn server() -> Server {
    let options = ServerOptions {
        ip: lan_ip().unwrap(),
        ..ServerOptions::default()
    };
    Server::start_with(options).await.unwrap()
}

async fn live(server: &Server, stream: &str) {
    let probe = async || server.stream(stream).await;
    wait::until("the stream to be live", LIMIT, probe, |stream| {
        stream["live"] == true
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", server.log().join("\n")));
}

fn assert_decoded(seen: &Value) {
    let count = |name: &str| seen[name].as_f64().unwrap();
    assert!(
        count("video_frames") > 30.0 && count("changed_frames") > 10.0,
        "{seen}"
    );
    assert!(
        count("audio_frames") > 50.0 && count("audio_rms") > 300.0,
        "{seen}"
    );
}

#[tokio::test]
async fn aiortc_watches_a_browser() {
    let server = server().await;
    let browser = Browser::start().await.unwrap();
    for codec in ["VP8", "H264"] {
        let _publisher = publish(&browser, &server, codec, codec).await.unwrap();
        let seen = aiortc_watch(&server.url(&format!("/whep/{codec}")), 5, None)
            .await
            .unwrap();
        assert_decoded(&seen);
        assert_eq!(
            (&seen["width"], &seen["height"]),
            (&640.into(), &360.into())
        );
    }
}

#[tokio::test]
async fn a_browser_and_aiortc_watch_aiortc() {
    let server = server().await;
    let browser = Browser::start().await.unwrap();
    for codec in ["VP8", "H264"] {
        let _publisher =
            aiortc_publish(&server.url(&format!("/whip/{codec}")), codec, None).unwrap();
        live(&server, codec).await;
        let viewer = watch(&browser, &server, codec).await.unwrap();
        let seen = plays(&viewer, 4).await.unwrap();
        assert_eq!(seen.codec.as_deref(), Some(codec));
        let seen = aiortc_watch(&server.url(&format!("/whep/{codec}")), 4, None)
            .await
            .unwrap();
        assert_decoded(&seen);
    }
}

#[tokio::test]
async fn a_browser_watches_ffmpeg() {
    let server = server().await;
    let browser = Browser::start().await.unwrap();
    let mut publisher = ffmpeg_publish(&server.url("/whip/ffmpeg"), None)
        .await
        .unwrap();
    live(&server, "ffmpeg").await;
    let viewer = watch(&browser, &server, "ffmpeg").await.unwrap();
    let seen = plays(&viewer, 5).await;
    publisher.check_alive().unwrap();
    assert_eq!(seen.unwrap().codec.as_deref(), Some("H264"));
    // Keyframes alone: one picture a second, and not one in between.
    let details = json!({"stream": "ffmpeg"});
    let details = server.admin("stream.get", details).await.unwrap();
    let transport = &details["viewer_list"][0]["transport"];
    let choice = json!({"transport": transport, "keyframes_only": true});
    server.admin("transport.select", choice).await.unwrap();
    viewer.wait_for(THREE_KEYFRAMES, LIMIT).await.unwrap();
    let choice = json!({"transport": transport});
    server.admin("transport.select", choice).await.unwrap();
    plays(&viewer, 2).await.unwrap();
}

/// The page has decoded three keyframes, and nothing else since it began to count.
const THREE_KEYFRAMES: &str = "fanmill.stats().then(({ framesDecoded, keyFramesDecoded }) => {
    const now = framesDecoded - keyFramesDecoded;
    if (window.others !== now) [window.others, window.from] = [now, keyFramesDecoded];
    return keyFramesDecoded >= window.from + 3;
})";
