//! What the admin socket tells by itself: of a real publisher, recorder and player, and of clients
//! that read slowly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::media::{audio, keyframe};
use common::offer::{Kind, Offer};
use common::peer::Peer;
use common::server::{Options, Server};
use common::{PATIENCE, soon};
use fanmill_control::admin::{
    AdminClient, AdminServer, Methods, add_broadcast_methods, add_event_methods,
    add_player_methods, add_recorder_methods,
};
use fanmill_control::events::{Events, MISSED};
use fanmill_control::player::{Players, Recordings};
use fanmill_control::recorder::{RecorderConfig, Recorders, StreamRecorders};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

fn serve(dir: &Path, methods: Methods) -> PathBuf {
    let socket = dir.join("admin.sock");
    let admin = AdminServer::bind(&socket, methods).unwrap();
    tokio::spawn(admin.run(CancellationToken::new()));
    socket
}

async fn call(socket: &Path, method: &'static str, params: Value) -> Value {
    let socket = socket.to_owned();
    let called = move || AdminClient::connect(&socket)?.call(method, Some(params));
    let called = soon(tokio::task::spawn_blocking(called)).await.unwrap();
    called.unwrap_or_else(|error| panic!("{method}: {error}"))
}

/// What a subscriber is told.
struct Told(UnboundedReceiver<Value>);

impl Told {
    async fn subscribe(socket: &Path, filter: Value) -> Self {
        let (told, events) = unbounded_channel();
        let (ready, subscribed) = tokio::sync::oneshot::channel();
        let mut client = AdminClient::connect(socket).unwrap();
        std::thread::spawn(move || {
            client.call("events.subscribe", Some(filter)).unwrap();
            ready.send(()).unwrap();
            while let Ok((method, event)) = client.notification() {
                assert_eq!(method, "event");
                if told.send(event).is_err() {
                    return;
                }
            }
        });
        soon(subscribed).await.unwrap();
        Self(events)
    }

    /// The next event, which must be of this kind and stream.
    async fn next(&mut self, kind: &str, stream: &str) -> Value {
        let event = soon(self.0.recv()).await.unwrap();
        assert_eq!(
            (&event["event"], &event["stream"]),
            (&json!(kind), &json!(stream)),
            "{event}"
        );
        assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");
        event
    }
}

#[tokio::test]
async fn what_happens_to_streams_recorders_and_players_is_told() {
    let server = Server::start(Options::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let broadcast = &server.broadcast;
    let recorders = Recorders::start(RecorderConfig {
        events: broadcast.events().clone(),
        ..RecorderConfig::new(dir.path().join("recordings"))
    });
    let recorders = StreamRecorders::new(broadcast.clone(), recorders.unwrap(), Vec::new());
    let recordings = Recordings::new(dir.path().join("recordings"));
    let players = Players::new(broadcast.clone(), recordings);
    let mut methods = Methods::new();
    add_broadcast_methods(&mut methods, broadcast);
    add_event_methods(&mut methods, broadcast.events());
    add_recorder_methods(&mut methods, &recorders);
    add_player_methods(&mut methods, &players);
    let socket = serve(dir.path(), methods);
    let mut all = Told::subscribe(&socket, json!({})).await;
    let filter = json!({ "kinds": ["*.ended", "player.*"], "stream": "fil?" });
    let mut some = Told::subscribe(&socket, filter).await;

    let offer = Offer::new(Kind::Publish, "actpass");
    let (_, answer) = server.create("/whip/cam", &offer.text).await;
    let publisher = Peer::connect(&offer, &answer).await;
    let published = all.next("stream.published", "cam").await;
    assert_eq!(published["source"], "whip", "{published}");
    assert_eq!(published["role"], "primary", "{published}");

    let record = json!({ "stream": "cam", "path": "a/film" });
    let recorder = call(&socket, "recorder.create", record).await["id"].clone();
    all.next("recorder.created", "cam").await;
    let mut number = 0;
    let started = loop {
        publisher.send_rtp(&keyframe(number)).await;
        publisher.send_rtp(&audio(number)).await;
        number += 1;
        tokio::select! {
            started = all.next("recorder.started", "cam") => break started,
            () = tokio::time::sleep(Duration::from_millis(30)) => {}
        }
    };
    assert_eq!(started["recorder"], recorder);
    assert_eq!(started["path"], "a/film.mp4");
    call(&socket, "recorder.stop", json!({ "recorder": recorder })).await;
    let stopped = all.next("recorder.stopped", "cam").await;
    assert_eq!(stopped["parts"], 1, "{stopped}");

    let film = json!({ "stream": "film" });
    let create = json!({ "stream": "film", "path": "a/film.mp4" });
    call(&socket, "player.create", create).await;
    assert_eq!(
        all.next("stream.published", "film").await["source"],
        "player"
    );
    call(&socket, "player.play", film.clone()).await;
    let playing = some.next("player.playing", "film").await;
    assert_eq!(playing["path"], "a/film.mp4", "{playing}");
    let mut at_s = -1.0;
    loop {
        let event = soon(some.0.recv()).await.unwrap();
        let position_s = event["position_s"].as_f64().unwrap();
        assert!(position_s >= at_s, "{event}");
        at_s = position_s;
        if event["event"] == "player.ended" {
            break;
        }
        assert_eq!(event["event"], "player.position");
    }
    call(&socket, "player.stop", film).await;
    // In whatever order.
    let mut last = [some.0.recv().await.unwrap(), some.0.recv().await.unwrap()];
    last.sort_by_key(|event| event["event"].to_string());
    assert_eq!(last[0]["event"], "player.stopped");
    assert_eq!(last[1]["event"], "stream.ended");

    publisher.close().await;
    let ended = loop {
        let event = soon(all.0.recv()).await.unwrap();
        if event["stream"] == "cam" {
            break event;
        }
    };
    assert_eq!(ended["event"], "stream.ended");
    assert_eq!(ended["reason"], "the peer closed the connection");
    assert_eq!(ended["publisher"], published["publisher"]);
    server.stop().await;
}

struct Client(BufReader<UnixStream>);

impl Client {
    async fn connect(socket: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(socket).await.unwrap()))
    }

    async fn receive(&mut self) -> Value {
        let mut line = String::new();
        soon(self.0.read_line(&mut line)).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let line = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.0
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        self.receive().await
    }
}

#[tokio::test]
async fn a_subscriber_that_reads_slowly_is_told_how_much_it_missed() {
    const EVENTS: u64 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let events = Events::new();
    let mut methods = Methods::new();
    add_event_methods(&mut methods, &events);
    let socket = serve(dir.path(), methods);
    let mut slow = Client::connect(&socket).await;
    let subscribed = slow.ask("events.subscribe", json!({})).await;
    let subscription = subscribed["result"]["subscription"].clone();
    let mut quick = Client::connect(&socket).await;
    quick
        .ask("events.subscribe", json!({ "kinds": ["last"] }))
        .await;
    // More than socket and queues hold.
    let padding = "x".repeat(2000);
    for n in 0..EVENTS {
        events.emit("test", Some("s"), json!({ "n": n, "padding": padding }));
    }
    events.emit("last", None, json!({}));
    assert_eq!(quick.receive().await["params"]["event"], "last");
    let mut received = 0;
    let missed = loop {
        let event = slow.receive().await;
        assert_eq!(event["method"], "event");
        assert_eq!(event["params"]["subscription"], subscription);
        if event["params"]["event"] == MISSED {
            break event["params"]["missed"].as_u64().unwrap();
        }
        assert_eq!(event["params"]["n"], received, "in order");
        received += 1;
    };
    assert!(received > 0);
    assert_eq!(received + missed, EVENTS + 1);
    // And it is told again from then on.
    events.emit("test", Some("s"), json!({ "n": "more" }));
    assert_eq!(slow.receive().await["params"]["n"], "more");
}

#[tokio::test]
async fn a_connection_ends_its_own_subscriptions_and_has_a_bounded_number() {
    let dir = tempfile::tempdir().unwrap();
    let events = Events::new();
    let mut methods = Methods::new();
    add_event_methods(&mut methods, &events);
    let socket = serve(dir.path(), methods);
    let mut client = Client::connect(&socket).await;
    let mut other = Client::connect(&socket).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        let answer = client.ask("events.subscribe", json!({})).await;
        ids.push(answer["result"]["subscription"].clone());
    }
    let refused = client.ask("events.subscribe", json!({})).await;
    assert_eq!(refused["error"]["code"], -32_007, "{refused}");
    let own = json!({ "subscription": ids[0] });
    let refused = other.ask("events.unsubscribe", own.clone()).await;
    assert_eq!(refused["error"]["code"], -32_004, "{refused}");
    for id in &ids[1..] {
        let ended = client
            .ask("events.unsubscribe", json!({ "subscription": id }))
            .await;
        assert_eq!(ended["result"]["subscription"], *id);
    }
    events.emit("test", None, json!({}));
    assert_eq!(client.receive().await["params"]["subscription"], ids[0]);
    let again = client.ask("events.unsubscribe", own.clone()).await;
    assert_eq!(again["result"], own);
    let refused = client
        .ask("events.subscribe", json!({ "kinds": vec!["x"; 33] }))
        .await;
    assert_eq!(refused["error"]["data"]["parameter"], "kinds", "{refused}");
    // With the connection its subscriptions go.
    client.ask("events.subscribe", json!({})).await;
    drop(client);
    let gone = async {
        while format!("{events:?}") != "Events(0 readers)" {
            events.emit("test", None, json!({}));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}
