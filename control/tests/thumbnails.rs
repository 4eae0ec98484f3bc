//! Thumbnails over HTTP and into files, of a live stream and of recordings; recorders over HTTP; and
//! what is refused.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::path::Path;
use std::process::Command;

use common::server::{Options, Server};
use common::{PATIENCE, soon};
use fanmill_control::admin::{
    AdminClient, AdminServer, ClientError, Methods, add_thumbnail_methods,
};
use fanmill_control::http::{recorders_router, recordings_router, thumbnails_router};
use fanmill_control::player::{Players, Recordings};
use fanmill_control::recorder::{Directory, RecorderConfig, Recorders, StreamRecorders};
use fanmill_control::thumbnail::Thumbnails;
use reqwest::{Client, Response, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Stage {
    folder: TempDir,
    server: Server,
    thumbnails: Thumbnails,
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
    let router = recordings_router(players).merge(thumbnails_router(thumbnails.clone()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Stage {
        folder,
        server,
        thumbnails,
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

#[tokio::test]
async fn thumbnails_are_written_beside_the_recordings_and_replace_nothing() {
    let stage = stage().await;
    let folder = stage.folder.path();
    let directory = Directory::new(folder);
    let mut methods = Methods::new();
    add_thumbnail_methods(&mut methods, &stage.thumbnails, &directory);
    let socket = folder.join("admin.sock");
    let admin = AdminServer::bind(&socket, methods).unwrap();
    tokio::spawn(admin.run(CancellationToken::new()));
    let call = async |method: &'static str, params: serde_json::Value| {
        let socket = socket.clone();
        let called = move || AdminClient::connect(&socket)?.call(method, Some(params));
        let called = soon(tokio::task::spawn_blocking(called)).await.unwrap();
        called.map_err(|error: ClientError| error.to_string())
    };
    let ask = json!({ "path": "a b/c.mp4", "to": "stills/x", "at_s": 3, "width": 64 });
    let written = call("recording.thumbnail", ask.clone()).await.unwrap();
    assert_eq!(written["path"], "stills/x.jpg");
    let jpeg = std::fs::read(folder.join("stills/x.jpg")).unwrap();
    assert_eq!(jpeg.len() as u64, written["bytes"].as_u64().unwrap());
    assert_eq!(jpeg[..2], [0xff, 0xd8]);
    let again = call("recording.thumbnail", ask).await.unwrap_err();
    assert!(again.contains("cannot write \"stills/x.jpg\""), "{again}");
    let out = json!({ "path": "a b/c.mp4", "to": "../x" });
    assert!(
        call("recording.thumbnail", out)
            .await
            .unwrap_err()
            .contains("`to`")
    );
    let nowhere = json!({ "stream": "nowhere", "to": "y" });
    let refused = call("stream.thumbnail", nowhere).await.unwrap_err();
    assert!(refused.contains("not live"), "{refused}");
    assert!(!folder.join("y.jpg").exists());
    stage.server.stop().await;
}

#[tokio::test]
async fn recorders_are_commanded_by_json_of_the_same_origin_only() {
    let server = Server::start(Options::default()).await;
    let folder = TempDir::new().unwrap();
    let recorders = Recorders::start(RecorderConfig::new(folder.path().to_owned())).unwrap();
    let recorders = StreamRecorders::new(server.broadcast.clone(), recorders, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}/api/recorders", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, recorders_router(recorders)).await });
    let client = Client::new();
    // What a form or a script of another origin can send without being asked about.
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let request = client
            .post(format!("{at}/create"))
            .header("content-type", kind);
        let answer = soon(request.body(r#"{"stream": "cam"}"#).send())
            .await
            .unwrap();
        assert_eq!(
            answer.status(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{kind}"
        );
    }
    let post = async |command: &str, request: serde_json::Value| {
        let request = client.post(format!("{at}/{command}")).json(&request);
        let answer = soon(request.send()).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let list = async || -> Vec<serde_json::Value> {
        soon(soon(client.get(&at).send()).await.unwrap().json())
            .await
            .unwrap()
    };
    assert!(list().await.is_empty());
    let (status, made) = post("create", json!({ "stream": "cam" })).await;
    assert_eq!(status, 200, "{made}");
    let listed = list().await;
    assert_eq!(listed[0]["stream"], "cam");
    assert_eq!(listed[0]["state"], "waiting");
    for (command, request, expected) in [
        ("create", json!({ "stream": "cam", "path": "../x" }), 400),
        ("create", json!({ "stream": "no name" }), 400),
        ("create", json!({ "stream": "cam", "hold_s": 0 }), 400),
        ("create", json!({ "stream": "cam", "rule": true }), 422),
        ("flush", json!({ "recorder": listed[0]["id"] }), 409),
        ("stop", json!({ "recorder": 77 }), 404),
        ("stop", json!({ "recorder": listed[0]["id"] }), 200),
    ] {
        let (status, said) = post(command, request.clone()).await;
        assert_eq!(status, expected, "{command} {request}: {said}");
    }
    assert!(list().await.is_empty());
    server.stop().await;
}
