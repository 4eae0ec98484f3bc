//! Streams and transports as an operator sees and moves them: over the real admin socket, with
//! real clients connected.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::media::{audio, keyframe};
use common::offer::{AUDIO_PT, Kind, Offer};
use common::peer::Peer;
use common::server::{Options, Server};
use common::{soon, until};
use fanmill_control::admin::{AdminClient, AdminServer, Methods, add_broadcast_methods};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The server and its admin socket.
struct Operated {
    server: Server,
    socket: PathBuf,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Operated {
    async fn start() -> Self {
        let server = Server::start(Options {
            shards: 2,
            ..Options::default()
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let mut methods = Methods::new();
        add_broadcast_methods(&mut methods, &server.broadcast);
        let stop = CancellationToken::new();
        let admin = AdminServer::bind(&socket, methods).unwrap();
        tokio::spawn(admin.run(stop.clone()));
        Self {
            server,
            socket,
            stop,
            _dir: dir,
        }
    }

    async fn try_call(&self, method: &'static str, params: Value) -> Result<Value, String> {
        let socket = self.socket.clone();
        let call = move || call(&socket, method, params);
        soon(tokio::task::spawn_blocking(call)).await.unwrap()
    }

    async fn call(&self, method: &'static str, params: Value) -> Value {
        let result = self.try_call(method, params).await;
        result.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn join(&self, path: &str, kind: Kind) -> (Peer, String) {
        let offer = Offer::new(kind, "actpass");
        let (session, answer) = self.server.create(path, &offer.text).await;
        (Peer::connect(&offer, &answer).await, session)
    }

    /// The transports, when all are connected on our side too.
    async fn transports(&self, count: usize) -> Vec<Value> {
        loop {
            let all = self.call("transport.list", json!({})).await;
            let all = all.as_array().unwrap();
            let is_connected = |transport: &&Value| transport["dtls_state"] == "connected";
            if all.iter().filter(is_connected).count() == count {
                assert_eq!(all.len(), count);
                return all.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.server.stop().await;
    }
}

fn call(socket: &Path, method: &str, params: Value) -> Result<Value, String> {
    let mut client = AdminClient::connect(socket).unwrap();
    let result = client.call(method, Some(params));
    result.map_err(|error| error.to_string())
}

/// Publishes audio with the given first payload byte pair until the viewer gets some of it.
async fn hears(publisher: &Peer, viewer: &mut Peer, mark: u16) {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    let mut number = mark;
    soon(async {
        loop {
            tokio::select! {
                packet = viewer.recv_rtp() => {
                    let payload = &packet.payload;
                    if packet.payload_type == AUDIO_PT
                        && u16::from_be_bytes([payload[1], payload[2]]) >> 8 == mark >> 8
                    {
                        return;
                    }
                }
                _ = pause.tick() => {
                    publisher.send_rtp(&audio(number)).await;
                    publisher.send_rtp(&keyframe(number)).await;
                    number = mark | (number + 1) & 0xFF;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_viewer_is_moved_between_streams_and_none_without_doing_anything() {
    let operated = Operated::start().await;
    let (red, _) = operated.join("/whip/red", Kind::Publish).await;
    let (blue, _) = operated.join("/whip/blue", Kind::Publish).await;
    let (mut viewer, _) = operated.join("/whep/red", Kind::View).await;
    let transports = operated.transports(3).await;
    let id = |at: usize| transports[at]["id"].as_u64().unwrap();
    assert_eq!(transports[2]["kind"], "view");
    assert_eq!(transports[2]["stream"], "red");
    hears(&red, &mut viewer, 0x0100).await;

    let to_blue = json!({ "transport": id(2), "stream": "blue" });
    operated.call("stream.attach", to_blue.clone()).await;
    hears(&blue, &mut viewer, 0x0200).await;
    let viewers = async |stream: &str| {
        let found = operated
            .call("stream.get", json!({ "stream": stream }))
            .await;
        (
            found["viewers"].as_u64().unwrap(),
            found["viewer_list"].clone(),
        )
    };
    assert_eq!(viewers("red").await.0, 0);
    let (count, list) = viewers("blue").await;
    assert_eq!((count, &list[0]["transport"]), (1, &json!(id(2))));

    let detach = json!({ "transport": id(2) });
    operated.call("stream.detach", detach.clone()).await;
    assert_eq!(viewers("blue").await.0, 0);
    let found = operated
        .call("transport.get", json!({ "transport": id(2) }))
        .await;
    assert_eq!(found["transport"]["stream"], Value::Null);
    assert_eq!(found["tracks"][0]["attached"], false);
    operated.call("stream.attach", to_blue.clone()).await;
    hears(&blue, &mut viewer, 0x0300).await;

    // What cannot be is refused, and changes nothing.
    for (method, params, reason) in [
        (
            "stream.attach",
            json!({ "transport": id(2), "stream": "none" }),
            "no stream none",
        ),
        (
            "stream.attach",
            json!({ "transport": id(0), "stream": "blue" }),
            "no such session",
        ),
        (
            "stream.attach",
            json!({ "transport": 999, "stream": "blue" }),
            "no such session",
        ),
        (
            "stream.detach",
            json!({ "transport": id(1) }),
            "no such session",
        ),
        ("stream.get", json!({ "stream": "none" }), "no stream none"),
        (
            "transport.get",
            json!({ "transport": 999 }),
            "no transport 999",
        ),
        (
            "transport.close",
            json!({ "transport": 999 }),
            "no transport 999",
        ),
    ] {
        let error = operated.try_call(method, params).await.unwrap_err();
        assert!(error.contains(reason), "{method}: {error}");
    }
    hears(&blue, &mut viewer, 0x0400).await;
    operated.stop().await;
}

#[tokio::test]
async fn a_transport_that_an_operator_closes_is_told_and_gone() {
    let operated = Operated::start().await;
    let (publisher, session) = operated.join("/whip/stage", Kind::Publish).await;
    let (mut viewer, watching) = operated.join("/whep/stage", Kind::View).await;
    let transports = operated.transports(2).await;
    hears(&publisher, &mut viewer, 0x0100).await;

    let params = json!({ "transport": transports[1]["id"] });
    operated.call("transport.close", params.clone()).await;
    viewer.closed().await;
    assert!(!viewer.recv_byes().await.is_empty());
    let media = operated.server.media.clone();
    until(|| media.transport_count() == 1).await;
    assert!(operated.try_call("transport.get", params).await.is_err());

    let params = json!({ "transport": transports[0]["id"] });
    operated.call("transport.close", params).await;
    // It is dead already, so nobody has to wait for its place.
    let offer = Offer::new(Kind::Publish, "actpass");
    operated.server.create("/whip/stage", &offer.text).await;
    publisher.closed().await;
    let broadcast = operated.server.broadcast.clone();
    until(|| {
        broadcast
            .stream("stage")
            .is_ok_and(|stream| stream.viewer_list.is_empty())
    })
    .await;
    for gone in [session, watching] {
        assert_eq!(operated.server.delete(&gone).await, 404);
    }
    operated.stop().await;
}

#[tokio::test]
async fn a_stopped_stream_loses_its_publisher_and_keeps_its_viewers() {
    let operated = Operated::start().await;
    let (publisher, _) = operated.join("/whip/stage", Kind::Publish).await;
    let (mut viewer, _) = operated.join("/whep/stage", Kind::View).await;
    hears(&publisher, &mut viewer, 0x0100).await;
    let stage = json!({ "stream": "stage" });
    let stream = operated.call("stream.get", stage.clone()).await;
    assert_eq!(stream["source"], "whip");
    assert_eq!(stream["publisher"]["source"], "whip");
    operated.call("stream.stop", stage.clone()).await;
    publisher.closed().await;
    let stream = operated.call("stream.get", stage).await;
    assert_eq!(
        (&stream["live"], &stream["viewers"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(
        (&stream["source"], &stream["publisher"]),
        (&Value::Null, &Value::Null)
    );
    // The name is free, and the viewer sees who comes next.
    let (next, _) = operated.join("/whip/stage", Kind::Publish).await;
    hears(&next, &mut viewer, 0x0200).await;
    operated.stop().await;
}

#[tokio::test]
async fn reports_say_what_is_connected_and_what_flows() {
    let operated = Operated::start().await;
    let (publisher, _) = operated.join("/whip/stage", Kind::Publish).await;
    let (mut viewer, _) = operated.join("/whep/stage", Kind::View).await;
    let transports = operated.transports(2).await;
    hears(&publisher, &mut viewer, 0x0100).await;

    // Shards publish what they count once a second.
    let (stream, transport, info) = soon(async {
        loop {
            let stream = operated
                .call("stream.get", json!({ "stream": "stage" }))
                .await;
            let params = json!({ "transport": transports[1]["id"] });
            let transport = operated.call("transport.get", params).await;
            let info = operated.call("server.info", json!({})).await;
            let counted = |value: &Value| value.as_u64().expect("a count of that name") > 0;
            let shards = info["shards"].as_array().unwrap();
            if counted(&stream["tracks"][0]["packets_received"])
                && counted(&stream["tracks"][1]["keyframes"])
                && counted(&transport["transport"]["packets_sent"])
                && counted(&transport["tracks"][0]["counters"]["packets"])
                && shards
                    .iter()
                    .any(|shard| counted(&shard["counters"]["packets_routed"]))
            {
                return (stream, transport, info);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(stream["live"], true);
    assert_eq!(stream["viewers"], 1);
    assert_eq!(stream["publisher"]["id"], transports[0]["id"]);
    assert_eq!(stream["tracks"][0]["codec"], "opus");
    assert_eq!(stream["tracks"][1]["codec"], "VP8");
    assert_eq!(stream["tracks"][1]["width"], 320);
    assert_eq!(stream["tracks"][1]["height"], 180);
    let found = &transport["transport"];
    assert_eq!(found["ice_state"], "connected");
    assert_eq!(found["dtls_state"], "connected");
    assert_eq!(found["srtp_profile"], "SRTP_AEAD_AES_128_GCM");
    assert_eq!(transport["tracks"][0]["direction"], "out");
    assert_eq!(transport["tracks"][0]["attached"], true);
    assert_eq!(info["transports"], 2);
    assert_eq!(info["streams"], 1);
    assert_eq!(info["handshakes"]["completed"], 2);
    assert_eq!(info["shards"].as_array().unwrap().len(), 2);
    assert_eq!(info["fingerprint_sha256"], viewer.answer.fingerprint);
    operated.stop().await;
}
