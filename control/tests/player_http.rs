//! Recordings over HTTP: whole files, parts of them, and nothing beyond the directory.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::server::{Options, Server};
use fanmill_control::http::recordings_router;
use fanmill_control::player::{Players, Recordings};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

struct Stage {
    _folder: TempDir,
    _server: Server,
    client: Client,
    at: String,
}

/// A server with one file of 600,000 bytes, each the low byte of its place.
async fn stage() -> Stage {
    let folder = TempDir::new().unwrap();
    let inside = folder.path().join("recordings");
    std::fs::create_dir_all(inside.join("a b")).unwrap();
    let bytes: Vec<u8> = (0..600_000_u32).map(|at| at as u8).collect();
    std::fs::write(inside.join("a b/c.mp4"), bytes).unwrap();
    std::fs::write(folder.path().join("secret.mp4"), b"secret").unwrap();
    std::os::unix::fs::symlink("../secret.mp4", inside.join("link.mp4")).unwrap();
    let server = Server::start(Options::default()).await;
    let players = Players::new(server.broadcast.clone(), Recordings::new(inside));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let router = recordings_router(players);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Stage {
        _folder: folder,
        _server: server,
        client: Client::new(),
        at,
    }
}

const FILE: &str = "/recordings/files/a%20b/c.mp4";

#[tokio::test]
async fn a_file_is_sent_whole_and_in_parts() {
    let stage = stage().await;
    let url = format!("{}{FILE}", stage.at);
    let whole = stage.client.get(&url).send().await.unwrap();
    assert_eq!(whole.status(), StatusCode::OK);
    assert_eq!(whole.headers()["content-type"], "video/mp4");
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let etag = whole.headers()["etag"].clone();
    let whole = whole.bytes().await.unwrap();
    assert_eq!(whole.len(), 600_000);

    for (range, first, last) in [
        ("bytes=0-9", 0, 9),
        ("bytes=262140-300000", 262_140, 300_000),
        ("bytes=599990-", 599_990, 599_999),
        ("bytes=-3", 599_997, 599_999),
    ] {
        let part = stage
            .client
            .get(&url)
            .header("range", range)
            .send()
            .await
            .unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        let expected = format!("bytes {first}-{last}/600000");
        assert_eq!(part.headers()["content-range"], expected.as_str());
        assert_eq!(
            part.bytes().await.unwrap(),
            whole.slice(first..=last),
            "{range}"
        );
    }
    let beyond = stage
        .client
        .get(&url)
        .header("range", "bytes=600000-")
        .send()
        .await
        .unwrap();
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.headers()["content-range"], "bytes */600000");

    // A part of another version would not fit what the client has.
    let request = stage.client.get(&url).header("range", "bytes=0-9");
    let other = request
        .header("if-range", "\"another\"")
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), StatusCode::OK);
    let request = stage.client.get(&url).header("range", "bytes=0-9");
    let same = request.header("if-range", etag).send().await.unwrap();
    assert_eq!(same.status(), StatusCode::PARTIAL_CONTENT);

    let head = stage
        .client
        .request(Method::HEAD, &url)
        .send()
        .await
        .unwrap();
    assert_eq!(head.headers()["content-length"], "600000");
}

#[tokio::test]
async fn nothing_beyond_the_directory_is_sent() {
    let stage = stage().await;
    for path in [
        "link.mp4",
        "..%2Fsecret.mp4",
        "a%20b/..%2F..%2Fsecret.mp4",
        "%2Fetc%2Fpasswd",
        "a%00b",
    ] {
        let url = format!("{}/recordings/files/{path}", stage.at);
        let refused = stage.client.get(&url).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    let url = format!("{}/recordings/files/none.mp4", stage.at);
    assert_eq!(
        stage.client.get(&url).send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn the_list_names_the_files_and_commands_need_json() {
    let stage = stage().await;
    let list = stage
        .client
        .get(format!("{}/api/recordings", stage.at))
        .send()
        .await
        .unwrap();
    let list: Value = list.json().await.unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(
        (&list[0]["path"], &list[0]["bytes"]),
        (&json!("a b/c.mp4"), &json!(600_000))
    );

    let create = format!("{}/api/players/create", stage.at);
    let body = json!({"stream": "film", "path": "a b/c.mp4"});
    // What a page of another origin could send.
    let simple = stage
        .client
        .post(&create)
        .header("content-type", "text/plain");
    let simple = simple.body(body.to_string()).send().await.unwrap();
    assert_eq!(simple.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let refused = stage.client.post(&create).json(&body).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().await.unwrap().contains("no MP4"));
    let play = format!("{}/api/players/play", stage.at);
    let unknown = stage
        .client
        .post(&play)
        .json(&json!({"stream": "film"}))
        .send()
        .await
        .unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
}
