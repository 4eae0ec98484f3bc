//! Streams over HTTP, as players without WebRTC read them: ffmpeg, VLC, hls.js.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use fanmill_tests::clients::vlc::{self, Played};
use fanmill_tests::clients::{mpv, node};
use fanmill_tests::scene::{LIMIT, plays, publish, watch};
use fanmill_tests::{Browser, Server, ServerOptions, wait};
use reqwest::{Client, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

const CODECS: [&str; 4] = ["H264", "VP8", "VP9", "AV1"];

/// What ffmpeg says of `seconds` of an address, decoding all of it: nothing, if all is well.
async fn ffmpeg(url: &str, seconds: u32) {
    // Of HLS it says that it reads initialization sections again, which it does with each reload.
    let level = if url.ends_with("m3u8") {
        "error"
    } else {
        "warning"
    };
    // The time base is the file's: by default ffmpeg rounds to its guess of the frame rate, and
    // complains of pictures that are closer.
    let output = Command::new("ffmpeg")
        .args(["-v", level, "-nostdin", "-xerror", "-err_detect", "explode"])
        .args(["-i", url, "-t", &seconds.to_string()])
        .args(["-enc_time_base:v", "-1", "-f", "null", "-"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{url}: {said}");
}

/// Asks for a stream and takes nothing of it.
async fn stalled(server: &Server, path: &str) -> TcpStream {
    let address = server
        .url("")
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn outputs(server: &Server, stream: &str, kind: &str) -> anyhow::Result<Value> {
    let list = server.admin("output.list", json!({})).await?;
    let mut list = list.as_array().unwrap().iter();
    let found = list.find(|one| one["stream"] == stream && one["kind"] == kind);
    Ok(found.cloned().unwrap_or_default())
}

/// Serves a page with hls.js on another origin than the streams'.
async fn hls_page() -> String {
    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/test-clients");
    let library = PathBuf::from(FOLDER).join("node_modules/hls.js/dist/hls.min.js");
    let library = std::fs::read_to_string(&library)
        .unwrap_or_else(|_| panic!("no {}; run tools/install-test-clients", library.display()));
    let script = |text: String| get(async move || ([(CONTENT_TYPE, "text/javascript")], text));
    let card = include_str!("../../control/src/web/pages/testcard.js").to_owned();
    let router = Router::new()
        .route("/", get(Html(include_str!("../clients/hls.html"))))
        .route("/favicon.ico", get(()))
        .route("/hls.js", script(library))
        .route("/testcard.js", script(card));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/")
}

/// What the page with hls.js says.
#[derive(Debug, Deserialize)]
struct Seen {
    time_s: f64,
    frames: u64,
    width: u32,
    loudest: f64,
    delay_ms: Option<f64>,
    latency_s: f64,
    low_latency: bool,
    errors: Vec<String>,
}

async fn hls_js(browser: &Browser, page: &str, source: &str) -> Seen {
    let page = browser
        .open(&format!("{page}?source={source}"))
        .await
        .unwrap();
    let seen = async || {
        Ok(serde_json::from_value::<Seen>(
            page.evaluate("seen()").await?,
        )?)
    };
    let first = wait::until("a picture by hls.js", LIMIT, seen, |seen| seen.frames > 0);
    let first = first.await.unwrap();
    let plays = |seen: &Seen| {
        seen.time_s >= first.time_s + 5.0 && seen.loudest > 0.01 && seen.delay_ms.is_some()
    };
    let seen = wait::until("five seconds by hls.js", LIMIT, seen, plays);
    let seen = seen.await.unwrap();
    println!("{source}: {seen:?}");
    assert_eq!((seen.errors.len(), seen.width), (0, 640), "{seen:?}");
    assert!(seen.low_latency, "{seen:?}");
    assert!(seen.frames > first.frames + 30, "{seen:?}");
    assert_eq!(page.console(), Vec::<String>::new());
    seen
}

#[tokio::test]
async fn players_read_what_chromium_publishes_and_a_stalled_one_is_dropped_alone() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    for codec in CODECS {
        publish(&browser, &server, codec, codec).await.unwrap();
    }
    let stalled = stalled(&server, "/H264/live.mp4").await;
    let viewer = watch(&browser, &server, "H264").await.unwrap();
    let before = plays(&viewer, 1).await.unwrap();
    let urls = CODECS.map(|codec| server.url(&format!("/{codec}/live.mp4")));
    let packets = server.url("/H264/live.ts");
    let files = async {
        let urls = urls.iter().chain([&packets]);
        futures_util::future::join_all(urls.map(|url| ffmpeg(url, 3))).await;
    };
    let refused = ask(&server, "/VP8/live.ts").await;
    assert_eq!(refused.status(), 406);
    assert!(refused.text().await.unwrap().contains("live.mp4"));
    let refused = ask(&server, "/H264/live.mp4?audio=aac").await;
    assert_eq!(refused.status(), 406, "this server has no AAC encoder");
    let why = refused.text().await.unwrap();
    assert!(why.contains("--features fdk-aac"), "{why}");
    let playlist = server.url("/VP9/index.m3u8");
    let vlc = async {
        let urls = [&urls[0], &packets];
        futures_util::future::join_all(urls.map(|url| vlc::play(url, 5))).await
    };
    let page = hls_page().await;
    let source = server.url("/H264/index.m3u8");
    let mpv = async {
        // After the others: all at once are more than some machines decode in time.
        files.await;
        let urls = [&urls[3], &source];
        futures_util::future::join_all(urls.map(|url| mpv::play(url, 3))).await
    };
    let (_, vlc, mpv, seen) = tokio::join!(
        ffmpeg(&playlist, 5),
        vlc,
        mpv,
        hls_js(&browser, &page, &source)
    );
    for (played, codec) in mpv.into_iter().zip(["av1", "h264"]) {
        let played = played.unwrap();
        println!("{played:?}");
        assert_eq!((&played.video[..], &played.audio[..]), (codec, "opus"));
        assert!(played.pictures >= 10, "{played:?}");
        assert!(played.loudest_db.is_some_and(|db| db > -40.0), "{played:?}");
    }
    for played in vlc {
        let Played { pictures, loudest } = played.unwrap();
        assert!(loudest > 0.01, "{loudest} in VLC");
        assert!(pictures.len() >= 2, "{} pictures in VLC", pictures.len());
        let moved = pictures[pictures.len() - 1].changed_pixels(&pictures[0]);
        assert!(moved > 0, "the picture stands still in VLC");
    }
    println!("latency of hls.js: {:.2} s", seen.latency_s);
    assert!(
        seen.delay_ms.is_some_and(|delay| delay < 8_000.0),
        "{seen:?}"
    );

    let list = async || outputs(&server, "H264", "mp4").await;
    wait::until("the stalled reader to be dropped", LIMIT, list, |mp4| {
        mp4["dropped"] == 1
    })
    .await
    .unwrap();
    // The page names the addresses.
    let named = "document.getElementById('addresses-toggle').click();
                 [...document.querySelectorAll('#addresses input')].map((field) => field.value)";
    let named = viewer.evaluate(named).await.unwrap();
    assert_eq!(named, json!([&urls[0], &packets, &source]));
    // Its connection was closed, though it takes nothing.
    drop(stalled);
    let after = plays(&viewer, 1).await.unwrap();
    assert_eq!((before.packets_lost, after.packets_lost), (0, 0));
    let readers = wait::until("the readers to leave", LIMIT, list, |mp4| {
        mp4["readers"] == 0
    });
    assert!(readers.await.unwrap()["bytes"].as_u64().unwrap() > 100_000);
}

/// Makes a file of H.264 and Opus with a keyframe a second.
fn make(folder: &Path, name: &str, size: &str) {
    let picture = format!("testsrc2=size={size}:rate=25:duration=8");
    let output = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &picture])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:duration=8"])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
        ])
        .args(["-bf", "0", "-g", "25", "-b:v", "600k"])
        .args(["-c:a", "libopus", "-ar", "48000", "-ac", "2"])
        .arg(folder.join(name))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

async fn play(server: &Server, file: &str) {
    let create = json!({"stream": "film", "path": file});
    server.admin("player.create", create).await.unwrap();
    let stream = json!({"stream": "film"});
    server.admin("player.play", stream).await.unwrap();
}

async fn stop(server: &Server) {
    let stream = json!({"stream": "film"});
    server.admin("player.stop", stream).await.unwrap();
}

async fn ask(server: &Server, path: &str) -> Response {
    Client::new().get(server.url(path)).send().await.unwrap()
}

/// Presentation times in seconds of what a file has of a kind, as ffprobe reads it.
fn times(file: &Path, kind: &str) -> Vec<f64> {
    let output = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", kind])
        .args(["-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let time = |line: &str| line.trim_end_matches(',').parse().unwrap();
    text.lines().map(time).collect()
}

#[tokio::test]
async fn a_reader_goes_on_when_its_publisher_returns() {
    let folder = TempDir::new().unwrap();
    make(folder.path(), "small.mp4", "320x180");
    let options = ServerOptions {
        arguments: vec!["--recordings".into(), folder.path().into()],
        ..ServerOptions::default()
    };
    let server = Server::start_with(options).await.unwrap();
    for path in ["/film/live.mp4", "/film/index.m3u8"] {
        let response = ask(&server, path).await;
        assert_eq!(response.status(), 404, "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains("no stream film"), "{path}: {text}");
    }
    play(&server, "small.mp4").await;
    let mut response = ask(&server, "/film/live.mp4").await;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "video/mp4");
    assert_eq!(headers["access-control-allow-origin"], "*");
    // Its pictures come 25 a second, as regularly as no camera's: its playlists are as the drafts ask.
    let checked = node::check_hls(&server.url("/film/index.m3u8"), 8).await;
    println!("{}", checked.unwrap());
    let mut file = Vec::new();
    // The stream leaves and returns in the middle.
    for again in [true, false] {
        let enough = file.len() + 150_000;
        while file.len() < enough {
            file.extend(response.chunk().await.unwrap().expect("the stream goes on"));
        }
        stop(&server).await;
        if again {
            tokio::time::sleep(Duration::from_secs(2)).await;
            play(&server, "small.mp4").await;
        }
    }
    drop(response);
    let path = folder.path().join("read.mp4");
    std::fs::write(&path, &file).unwrap();
    for kind in ["v", "a"] {
        let times = times(&path, kind);
        assert!(times.is_sorted(), "{kind}: {times:?}");
        assert!(times.len() > 40, "{} of {kind}", times.len());
        let gap = times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .fold(0.0, f64::max);
        assert!(gap < 0.5, "{gap} s without {kind}");
    }
}
