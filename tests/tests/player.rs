//! Files that ffmpeg made, played as streams and watched in Chromium: every frame bears its number,
//! so that what is seen can be told from what should be.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;
use std::process::Command;

use fanmill_tests::browser::Page;
use fanmill_tests::browser::keep_screenshot;
use fanmill_tests::scene::{LIMIT, picture, watch, watched};
use fanmill_tests::{Browser, Server, ServerOptions, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const FPS: u32 = 25;
const SECONDS: u32 = 10;

/// Columns of the picture, one for each bit of the frame's number.
const BITS: usize = 8;

/// Makes a file whose frames are eight columns, black or white by the bits of their number, with a
/// tone.
fn make(folder: &Path, name: &str, options: &str) {
    let picture = format!(
        "color=size=320x180:rate={FPS}:duration={SECONDS},format=yuv420p,\
         geq=lum='if(mod(floor(N/pow(2,floor(X*{BITS}/W))),2),235,16)':cb=128:cr=128"
    );
    let tone = format!("sine=frequency=440:sample_rate=44100:duration={SECONDS}");
    let output = Command::new("ffmpeg")
        .args([
            "-v", "error", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &tone,
        ])
        .args(["-ac", "2", "-g", "50"])
        .args(options.split(' '))
        .arg(folder.join(name))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// The number of the frame that the page shows.
async fn shown(page: &Page) -> anyhow::Result<u32> {
    let picture = picture(page).await?;
    let row = picture.height / 2 * picture.width;
    let bit = |bit: usize| {
        let column = (2 * bit + 1) * picture.width / (2 * BITS);
        u32::from(picture.grey[row + column] > 128) << bit
    };
    Ok((0..BITS).map(bit).sum())
}

async fn player(server: &Server) -> Value {
    let players = server.admin("player.list", json!({})).await.unwrap();
    players[0].clone()
}

async fn start(folder: &TempDir) -> Server {
    let options = ServerOptions {
        arguments: vec!["--recordings".into(), folder.path().into()],
        ..ServerOptions::default()
    };
    Server::start_with(options).await.unwrap()
}

/// Plays, pauses, seeks and ends a file before a viewer.
async fn a_viewer_sees_what_is_played(name: &str, options: &str) {
    let folder = TempDir::new().unwrap();
    make(folder.path(), name, options);
    let server = start(&folder).await;
    let stream = json!({"stream": "film"});
    let create = json!({"stream": "film", "path": name});
    let made = server.admin("player.create", create).await.unwrap();
    assert_eq!(made["state"], "ready", "{made}");
    let browser = Browser::start().await.unwrap();
    let page = watch(&browser, &server, "film").await.unwrap();
    page.wait_for("fanmill.state === 'waiting'", LIMIT)
        .await
        .unwrap();
    server.admin("player.play", stream.clone()).await.unwrap();
    page.wait_for("fanmill.state === 'playing'", LIMIT)
        .await
        .unwrap();
    page.evaluate("document.getElementById('video').muted = false")
        .await
        .unwrap();

    // Frames go by in their order, and the tone is heard.
    let first = shown(&page).await.unwrap();
    wait::until(
        "later frames",
        LIMIT,
        async || shown(&page).await,
        |&now| now > first + 10,
    )
    .await
    .unwrap();
    wait::until(
        "the tone",
        LIMIT,
        async || watched(&page).await,
        |now| now.total_audio_energy > 1e-3,
    )
    .await
    .unwrap();

    server.admin("player.pause", stream.clone()).await.unwrap();
    let paused = player(&server).await;
    assert_eq!(paused["state"], "paused", "{paused}");
    let expected = (paused["position_s"].as_f64().unwrap() * f64::from(FPS)).round() as u32;
    wait::until(
        "the frame of the pause",
        LIMIT,
        async || shown(&page).await,
        |now| now.abs_diff(expected) <= 1,
    )
    .await
    .unwrap();

    // Between two keyframes, backwards and forwards: the very frame.
    for (position_s, frame) in [(1.22, 30), (7.7, 192), (0.0, 0), (3.999, 99), (4.0, 100)] {
        let seek = json!({"stream": "film", "position_s": position_s});
        server.admin("player.seek", seek).await.unwrap();
        wait::until(
            "the frame sought",
            LIMIT,
            async || shown(&page).await,
            |&now| now == frame,
        )
        .await
        .unwrap_or_else(|error| panic!("{position_s} s: {error}"));
    }
    let still = player(&server).await;
    assert_eq!(still["state"], "paused", "{still}");
    keep_screenshot(&format!("player-{name}"), &page.screenshot().await.unwrap()).unwrap();
    assert_eq!(shown(&page).await.unwrap(), 100, "it stands still");

    server.admin("player.resume", stream.clone()).await.unwrap();
    wait::until(
        "it to go on",
        LIMIT,
        async || shown(&page).await,
        |&now| now > 110,
    )
    .await
    .unwrap();
    let late = json!({"stream": "film", "position_s": 9.2});
    server.admin("player.seek", late).await.unwrap();
    wait::until(
        "the end",
        LIMIT,
        async || Ok(player(&server).await),
        |now| now["state"] == "ended",
    )
    .await
    .unwrap();
    wait::until(
        "the last frame",
        LIMIT,
        async || shown(&page).await,
        |&now| now == FPS * SECONDS - 1,
    )
    .await
    .unwrap();
    let seen = watched(&page).await.unwrap();
    assert_eq!(seen.packets_lost, 0, "the loopback loses nothing: {seen:?}");

    server.admin("player.stop", stream).await.unwrap();
    let none = server.admin("player.list", json!({})).await.unwrap();
    assert_eq!(none, json!([]));
    let left = server.stream("film").await.unwrap();
    assert_eq!(
        (&left["live"], &left["viewers"]),
        (&false.into(), &1.into())
    );
}

#[tokio::test]
async fn a_viewer_sees_an_h264_file_with_aac() {
    let options = "-c:v libx264 -preset veryfast -profile:v baseline -c:a aac -b:a 96k";
    a_viewer_sees_what_is_played("h264.mp4", options).await;
}

#[tokio::test]
async fn a_viewer_sees_a_fragmented_h264_file_of_high_profile() {
    let options = "-c:v libx264 -preset veryfast -bf 0 -c:a aac -b:a 96k \
                   -movflags frag_keyframe+delay_moov+default_base_moof";
    a_viewer_sees_what_is_played("fragmented.mp4", options).await;
}

#[tokio::test]
async fn a_viewer_sees_a_vp9_file_with_opus() {
    let options = "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime -c:a libopus -ar 48000";
    a_viewer_sees_what_is_played("vp9.mp4", options).await;
}

#[tokio::test]
async fn a_viewer_sees_an_av1_file_with_opus() {
    let options = "-c:v libaom-av1 -cpu-used 8 -usage realtime -c:a libopus -ar 48000";
    a_viewer_sees_what_is_played("av1.mp4", options).await;
}

#[tokio::test]
async fn the_recordings_page_plays_a_file_itself_and_as_a_stream() {
    let folder = TempDir::new().unwrap();
    // VP9: what every build of Chromium plays from a file.
    let options = "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime -c:a libopus -ar 48000";
    std::fs::create_dir(folder.path().join("day one")).unwrap();
    make(folder.path(), "day one/talk.mp4", options);
    let server = start(&folder).await;
    let browser = Browser::start().await.unwrap();
    let page = browser.open(&server.url("/recordings")).await.unwrap();
    let click = |label: &str| format!("document.querySelector('[aria-label=\"{label}\"]').click()");
    let has = |label: &str| format!("document.querySelector('[aria-label=\"{label}\"]') !== null");

    let here = "Play day one/talk.mp4 here";
    page.wait_for(&has(here), LIMIT).await.unwrap();
    page.evaluate("document.getElementById('video').muted = true")
        .await
        .unwrap();
    page.evaluate(&click(here)).await.unwrap();
    page.wait_for("document.getElementById('video').currentTime > 0.2", LIMIT)
        .await
        .unwrap();
    // A seek needs a part of the file.
    page.evaluate("void (document.getElementById('video').currentTime = 6)")
        .await
        .unwrap();
    page.wait_for("document.getElementById('video').currentTime > 6.1", LIMIT)
        .await
        .unwrap();

    page.evaluate(&click("Play day one/talk.mp4 as a stream"))
        .await
        .unwrap();
    let toggle = "Pause or play day-one-talk";
    page.wait_for(&has(toggle), LIMIT).await.unwrap();
    let viewer = watch(&browser, &server, "day-one-talk").await.unwrap();
    viewer
        .wait_for("fanmill.state === 'playing'", LIMIT)
        .await
        .unwrap();
    page.evaluate(&click(toggle)).await.unwrap();
    wait::until(
        "the pause",
        LIMIT,
        async || Ok(player(&server).await),
        |now| now["state"] == "paused",
    )
    .await
    .unwrap();
    viewer
        .wait_for("fanmill.state === 'paused'", LIMIT)
        .await
        .unwrap();
    let text = viewer.evaluate("fanmill.text").await.unwrap();
    assert_eq!(text, "Paused by whoever shows this.");
    keep_screenshot("recordings", &page.screenshot().await.unwrap()).unwrap();
    page.evaluate(&click("Stop day-one-talk")).await.unwrap();
    page.wait_for(
        "document.getElementById('players').children.length === 0",
        LIMIT,
    )
    .await
    .unwrap();
    // There is no picture of a file in VP9, which the browser says by itself.
    let mut said = page.console();
    said.retain(|line| !line.contains("/recordings/thumbnails/day%20one/talk.mp4"));
    assert_eq!(said, Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_played_is_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    make(
        folder.path(),
        "b.mp4",
        "-c:v libx264 -bf 2 -b_strategy 0 -c:a aac",
    );
    std::fs::write(folder.path().join("text.mp4"), "no film").unwrap();
    let server = start(&folder).await;
    for (path, expected) in [
        ("b.mp4", "-bf 0"),
        ("text.mp4", "no MP4"),
        ("../secret.mp4", "no path within"),
        ("none.mp4", "there is no recording"),
    ] {
        let create = json!({"stream": "film", "path": path});
        let refused = server
            .admin("player.create", create)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains(expected), "{path}: {refused}");
    }
    let live = server.admin("stream.list", json!({})).await.unwrap();
    assert_eq!(live, json!([]));
}
