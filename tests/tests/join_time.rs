//! How long a browser that joins waits for its first picture, at any time between two keyframes
//! that are ten seconds apart, of a publisher that answers no request for one.
//!
//! `FANMILL_PLOTS=FOLDER` keeps the distribution there as a picture.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanmill_tests::clients::ffmpeg_publish_with;
use fanmill_tests::plot::{self, Join};
use fanmill_tests::server::lan_ip;
use fanmill_tests::{Browser, Server, ServerOptions, wait};
use serde_json::{Value, json};

const JOINS: usize = 50;
/// Of ffmpeg's test picture.
const FPS: u64 = 30;
const INTERVAL: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(30);
const CONSOLE: &str = include_str!("../clients/browser.js");

async fn video(server: &Server) -> Value {
    let stream = server.admin("stream.get", json!({ "stream": "slow" }));
    let stream = stream.await.unwrap_or_default();
    let tracks = stream["tracks"].as_array().cloned().unwrap_or_default();
    let video = tracks.into_iter().find(|track| track["kind"] == "video");
    video.unwrap_or_default()
}

/// Waits until the stream's next keyframe has come in; when that was seen.
async fn next_keyframe(server: &Server) -> Instant {
    let before = video(server).await["keyframes"].as_u64().unwrap_or(0);
    let probe = async || Ok(video(server).await["keyframes"].as_u64().unwrap_or(0));
    wait::until("a keyframe", LIMIT, probe, |seen| *seen > before)
        .await
        .unwrap();
    Instant::now()
}

#[tokio::test]
async fn a_browser_sees_a_picture_at_once_whenever_it_joins() {
    let options = ServerOptions {
        // ffmpeg sends no connectivity check to a loopback address.
        ip: lan_ip().unwrap(),
        ..ServerOptions::default()
    };
    let server = Arc::new(Server::start_with(options).await.unwrap());
    let pictures = (FPS * INTERVAL.as_secs()).to_string();
    let slow = ["-g", &pictures, "-b:v", "2500k"];
    let _publisher = ffmpeg_publish_with(&slow, &server.url("/whip/slow"), None)
        .await
        .unwrap();
    let browser = Browser::start().await.unwrap();
    let page = browser.open(&server.url("/")).await.unwrap();
    page.evaluate(&format!("window.rtc = {CONSOLE}"))
        .await
        .unwrap();
    let mut keyframe = next_keyframe(&server).await;
    let asked = video(&server).await["keyframe_requests"].clone();

    let join = format!("rtc.join({}, {FPS})", json!(server.url("/whep/slow")));
    let mut joins = Vec::new();
    while joins.len() < JOINS {
        if keyframe.elapsed() > INTERVAL.mul_f64(0.9) {
            keyframe = next_keyframe(&server).await;
        }
        let age_ms = keyframe.elapsed().as_secs_f64() * 1000.0;
        let seen = page.evaluate(&join).await.unwrap();
        joins.push(Join {
            keyframe_age_ms: age_ms,
            first_picture_ms: seen["first_picture_ms"].as_f64().unwrap(),
            present_ms: seen["present_ms"].as_f64().unwrap(),
        });
    }
    assert_eq!(
        video(&server).await["keyframe_requests"],
        asked,
        "viewers who join ask the publisher for nothing"
    );
    let summary = plot::joins(&joins, "first-picture").unwrap();
    println!("{summary}");
    // Whoever had to wait for a keyframe would wait for half an interval on average.
    let mut waits: Vec<f64> = joins.iter().map(|join| join.first_picture_ms).collect();
    waits.sort_by(f64::total_cmp);
    let interval_ms = INTERVAL.as_secs_f64() * 1000.0;
    assert!(waits[JOINS / 2] < interval_ms / 5.0, "{waits:?}");
}
