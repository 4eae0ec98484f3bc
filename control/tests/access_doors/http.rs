//! What pages, players and programs ask for over HTTP.

use fanmill_control::broadcast::Broadcast;
use fanmill_control::http::{
    ingests_router, outputs_router, recorders_router, recordings_router, router, thumbnails_router,
};
use fanmill_control::ingest::Ingests;
use fanmill_control::media::audio::AudioOptions;
use fanmill_control::output::Outputs;
use fanmill_control::player::{Players, Recordings};
use fanmill_control::recorder::{RecorderConfig, Recorders, StreamRecorders};
use fanmill_control::thumbnail::Thumbnails;
use reqwest::{Client, Method};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::common::offer::{Kind, Offer};
use super::common::server::{Options, Server};
use super::token;

/// All that the program serves.
async fn serve(broadcast: &Broadcast, folder: &TempDir) -> String {
    let recordings = Recordings::new(folder.path());
    let recorders = Recorders::start(RecorderConfig::new(folder.path().into())).unwrap();
    let recorders = StreamRecorders::new(broadcast.clone(), recorders, Vec::new());
    let app = router(broadcast.clone(), &[])
        .merge(recordings_router(Players::new(
            broadcast.clone(),
            recordings.clone(),
        )))
        .merge(recorders_router(recorders))
        .merge(thumbnails_router(Thumbnails::new(
            broadcast.clone(),
            recordings,
        )))
        .merge(ingests_router(Ingests::new(
            broadcast.clone(),
            AudioOptions::default(),
        )))
        .merge(outputs_router(Outputs::start(broadcast.clone()).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

/// What is asked for, and whether a token for the stream `stage`, for all streams, or for nothing less
/// than the server is needed.
const ASKED: [(&str, &str, Needs); 19] = [
    ("GET", "/stage/live.mp4", Needs::Stage),
    ("GET", "/stage/live.ts", Needs::Stage),
    ("GET", "/stage/index.m3u8", Needs::Stage),
    ("GET", "/st%61ge/media.m3u8", Needs::Stage),
    ("GET", "/stage/hls/1/init0.mp4", Needs::Stage),
    ("GET", "/stage/thumbnail.jpg", Needs::Stage),
    ("HEAD", "/stage/live.mp4", Needs::Stage),
    ("GET", "/recordings/files/film.mp4", Needs::All),
    ("GET", "/recordings/thumbnails/film.mp4", Needs::All),
    ("GET", "/api/recordings", Needs::All),
    ("GET", "/api/players", Needs::All),
    ("GET", "/api/ingests", Needs::Server),
    ("GET", "/api/recorders", Needs::Server),
    ("POST", "/api/recorders/create", Needs::Server),
    ("POST", "/api/recorders/stop", Needs::Server),
    ("POST", "/api/recorders/flush", Needs::Server),
    ("POST", "/api/players/create", Needs::Server),
    ("POST", "/api/players/stop", Needs::Server),
    ("GET", "/", Needs::Nothing),
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    Nothing,
    Stage,
    All,
    Server,
}

#[tokio::test]
async fn every_route_asks_for_the_right_it_needs() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(Options::default()).await;
    let at = serve(&server.broadcast, &folder).await;
    let client = Client::new();
    let ask = async |method: &str, path: &str, token: Option<&str>| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = client.request(method, format!("{at}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    };
    for (method, path, _) in ASKED {
        let status = ask(method, path, None).await.status().as_u16();
        assert!(
            ![401, 403].contains(&status),
            "{path} asks although nothing is closed"
        );
    }
    let access = server.broadcast.access();
    let (other, _) = token(access, "other", "publish watch");
    let (stage, _) = token(access, "stage", "watch");
    let (all, _) = token(access, "*", "publish watch");
    let (operate, _) = token(access, "*", "operate");
    let tokens = [
        (&other, Needs::Nothing),
        (&stage, Needs::Stage),
        (&all, Needs::All),
        (&operate, Needs::Server),
    ];
    for (method, path, needs) in ASKED {
        let bare = ask(method, path, None).await;
        assert_eq!(bare.status() == 401, needs != Needs::Nothing, "{path}");
        let wrong = ask(method, path, Some("wrong")).await;
        assert_eq!(wrong.status() == 401, needs != Needs::Nothing, "{path}");
        for (token, has) in tokens {
            let status = ask(method, path, Some(token)).await.status();
            assert_ne!(status, 401, "{path}");
            assert_eq!(status == 403, has < needs, "{path}");
        }
    }
    // Players show a password when they are asked for one.
    let bare = ask("GET", "/stage/live.mp4", None).await;
    let mut offers = bare.headers().get_all("www-authenticate").iter();
    assert!(offers.any(|offer| offer.to_str().unwrap().starts_with("Basic ")));
    let player = client.get(format!("{at}/stage/live.mp4"));
    let player = player.basic_auth("x", Some(&stage)).send().await.unwrap();
    assert_eq!(player.status(), 404, "no such stream");
    // Browsers of pages elsewhere ask first.
    let asked = ask("OPTIONS", "/stage/index.m3u8", None).await;
    assert_eq!(asked.status(), 204);
    assert!(
        asked.headers()["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("Authorization")
    );
    server.stop().await;
}

#[tokio::test]
async fn the_list_has_the_streams_that_a_token_is_for() {
    let server = Server::start(Options::default()).await;
    for stream in ["open", "vip"] {
        let offer = Offer::new(Kind::View, "actpass").text;
        server.create(&format!("/whep/{stream}"), &offer).await;
    }
    let list = async |query: &str| {
        let response = server
            .request("GET", &format!("/api/streams{query}"), &[], "")
            .await;
        let status = response.status().as_u16();
        let list: Value = response.json().await.unwrap_or_default();
        let names = list.as_array().cloned().unwrap_or_default();
        let name = |stream: &Value| stream["name"].as_str().unwrap().to_owned();
        let mut names: Vec<_> = names.iter().map(name).collect();
        names.sort();
        (status, names.join(" "))
    };
    let access = server.broadcast.access();
    assert_eq!(list("").await, (200, "open vip".to_owned()));
    let (vip, _) = token(access, "vip", "watch");
    assert_eq!(list("").await, (200, "open".to_owned()));
    assert_eq!(list("?token=wrong").await, (200, "open".to_owned()));
    assert_eq!(
        list(&format!("?token={vip}")).await,
        (200, "open vip".to_owned())
    );
    let (all, id) = token(access, "*", "watch");
    assert_eq!(list("").await.0, 401);
    assert_eq!(list("?token=wrong").await.0, 401);
    assert_eq!(
        list(&format!("?token={vip}")).await,
        (200, "vip".to_owned())
    );
    assert_eq!(
        list(&format!("?token={all}")).await,
        (200, "open vip".to_owned())
    );
    access.revoke(id).unwrap();
    assert_eq!(list("").await.0, 401, "a closed door opens by itself");
    server.stop().await;
}
