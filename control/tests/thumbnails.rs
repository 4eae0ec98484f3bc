//! Thumbnails over HTTP: of a live stream, of recordings, and what is refused.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::path::Path;
use std::process::Command;

use common::server::{Options, Server};
use common::{PATIENCE, soon};
use fanmill_control::http::{recordings_router, thumbnails_router};
use fanmill_control::player::{Players, Recordings};
use fanmill_control::thumbnail::Thumbnails;
use reqwest::{Client, Response, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

struct Stage {
    _folder: TempDir,
    server: Server,
    client: Client,
    at: String,
}

impl Stage {
    async fn get(&self, path: &str) -> Response {
        let url = format!("{}{path}", self.at);
        soon(self.client.get(url).send()).await.unwrap()
    }

    async fn command(&self, name: &str, request: serde_json::Value) {
        let url = format!("{}/api/players/{name}", self.at);
        let answer = soon(self.client.post(url).json(&request).send())
            .await
            .unwrap();
        assert_eq!(
            answer.status(),
            StatusCode::OK,
            "{}",
            answer.text().await.unwrap()
        );
    }
}

/// Four seconds that turn from red to blue after two.
fn film(path: &Path, codec: &[&str]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let half = |colour: &str| format!("color={colour}:s=320x180:r=10:d=2");
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &half("red")])
        .args(["-f", "lavfi", "-i", &half("blue")])
        .args(["-filter_complex", "[0][1]concat,format=yuv420p", "-g", "10"])
        .args(codec)
        .arg(path)
        .status();
    assert!(done.unwrap().success());
}

const VP9: &[&str] = &[
    "-c:v",
    "libvpx-vp9",
    "-deadline",
    "realtime",
    "-cpu-used",
    "8",
];
const H264: &[&str] = &["-c:v", "libx264", "-bf", "0", "-preset", "ultrafast"];

async fn stage() -> Stage {
    let folder = TempDir::new().unwrap();
    film(&folder.path().join("a b/c.mp4"), H264);
    film(&folder.path().join("vp9.mp4"), VP9);
    std::fs::write(folder.path().join("no.mp4"), b"no film").unwrap();
    let server = Server::start(Options::default()).await;
    let recordings = Recordings::new(folder.path());
    let players = Players::new(server.broadcast.clone(), recordings.clone());
    let thumbnails = Thumbnails::new(server.broadcast.clone(), recordings);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let router = recordings_router(players).merge(thumbnails_router(thumbnails));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Stage {
        _folder: folder,
        server,
        client: Client::new(),
        at,
    }
}

/// Size and mean colour of a JPEG.
async fn seen(answer: Response) -> (u32, u32, [u8; 3]) {
    let status = answer.status();
    let kind = answer.headers()["content-type"].clone();
    let jpeg = soon(answer.bytes()).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&jpeg));
    assert_eq!(kind, "image/jpeg");
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.jpg");
    std::fs::write(&path, &jpeg).unwrap();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(&path)
        .args(["-vf", "format=rgb24,scale=1:1:flags=area"])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    // ITU-T T.81 B.2.2: the frame header has the height and the width.
    let header = jpeg
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .unwrap();
    let side = |at: usize| {
        u32::from(u16::from_be_bytes([
            jpeg[header + at],
            jpeg[header + at + 1],
        ]))
    };
    let mean = output.stdout;
    (side(7), side(5), [mean[0], mean[1], mean[2]])
}

fn is_red([r, g, b]: [u8; 3]) -> bool {
    r > 220 && g < 40 && b < 40
}

fn is_blue([r, g, b]: [u8; 3]) -> bool {
    r < 40 && g < 40 && b > 220
}

#[tokio::test]
async fn recordings_are_shown_at_a_time_and_in_a_size() {
    let stage = stage().await;
    for (path, color, size) in [
        ("a%20b/c.mp4", "red", (320, 180)),
        ("a%20b/c.mp4?at_s=3.2&width=64", "blue", (64, 36)),
        ("a%20b/c.mp4?at_s=1e9", "blue", (320, 180)),
        ("a%20b/c.mp4?at_s=0.3", "red", (320, 180)),
        ("a%20b/c.mp4?at_s=2.5&width=640", "blue", (320, 180)),
    ] {
        let path = format!("/recordings/thumbnails/{path}");
        let (width, height, mean) = seen(stage.get(&path).await).await;
        assert_eq!((width, height), size, "{path}");
        let right = if color == "red" {
            is_red(mean)
        } else {
            is_blue(mean)
        };
        assert!(right, "{path}: {mean:?}");
    }
    for (path, status, text) in [
        ("vp9.mp4", StatusCode::NOT_IMPLEMENTED, "of H264 and VP8"),
        ("no.mp4", StatusCode::UNPROCESSABLE_ENTITY, ""),
        ("nowhere.mp4", StatusCode::NOT_FOUND, "no recording"),
        ("..%2Fx.mp4", StatusCode::BAD_REQUEST, "no path within"),
        (
            "a%20b/c.mp4?width=641",
            StatusCode::BAD_REQUEST,
            "16 to 640",
        ),
        ("a%20b/c.mp4?width=x", StatusCode::BAD_REQUEST, "16 to 640"),
        (
            "a%20b/c.mp4?at_s=-1",
            StatusCode::BAD_REQUEST,
            "a number of seconds",
        ),
        (
            "a%20b/c.mp4?at_s=NaN",
            StatusCode::BAD_REQUEST,
            "a number of seconds",
        ),
    ] {
        let answer = stage.get(&format!("/recordings/thumbnails/{path}")).await;
        assert_eq!(answer.status(), status, "{path}");
        let said = answer.text().await.unwrap();
        assert!(said.contains(text), "{path}: {said}");
    }
    stage.server.stop().await;
}

#[tokio::test]
async fn a_live_stream_shows_what_it_is_at() {
    let stage = stage().await;
    let missing = stage.get("/film/thumbnail.jpg").await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let create = json!({ "stream": "film", "path": "a b/c.mp4" });
    stage.command("create", create).await;
    let film = json!({ "stream": "film" });
    stage.command("play", film.clone()).await;
    let (width, height, mean) = seen(stage.get("/film/thumbnail.jpg?width=160").await).await;
    assert_eq!((width, height), (160, 90));
    assert!(is_red(mean), "{mean:?}");
    // It turns blue: what is shown follows, and many who ask at once are given the same.
    let turned = async {
        while !is_blue(seen(stage.get("/film/thumbnail.jpg").await).await.2) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, turned).await.unwrap();
    let all = (0..20).map(|_| stage.get("/film/thumbnail.jpg"));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.status(), StatusCode::OK);
    }
    // One that is paused still shows its frame.
    stage
        .command("seek", json!({ "stream": "film", "position_s": 1 }))
        .await;
    stage.command("pause", film.clone()).await;
    let back = async {
        while !is_red(
            seen(stage.get("/film/thumbnail.jpg?width=100").await)
                .await
                .2,
        ) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    stage.command("stop", film).await;
    assert_eq!(
        stage.get("/film/thumbnail.jpg?width=99").await.status(),
        StatusCode::NOT_FOUND
    );
    stage.server.stop().await;
}
