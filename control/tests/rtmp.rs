//! RTMP from a client in this process: what it publishes is received by viewers, what cannot be is
//! refused with a reason, and clients that waste the server's time are none of the others' business.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use common::offer::{AUDIO_PT, Kind, Offer, VIDEO_PT};
use common::peer::Peer;
use common::server::{Options, Server};
use common::{soon, until};
use fanmill_control::access::{NewToken, Rights};
use fanmill_control::ingest::Ingests;
use fanmill_control::media::audio::AudioOptions;
use fanmill_control::media::configuration;
use fanmill_control::rtmp::amf0::{self, Value};
use fanmill_control::rtmp::chunk::{Message, kind};
use fanmill_control::rtmp::flv::{self, VideoCodec, VideoTag};
use fanmill_control::rtmp::{Link, Rtmp, RtmpLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A keyframe of VP8 (RFC 6386 9.1), 320 by 180.
const KEYFRAME: [u8; 10] = [0x50, 1, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xb4, 0];

/// Opus of 20 ms.
const SOUND: [u8; 3] = [0xfc, 1, 2];

async fn rtmp(server: &Server, limits: RtmpLimits) -> (Rtmp, SocketAddr) {
    let ingests = Ingests::new(server.broadcast.clone(), AudioOptions::default());
    let rtmp = Rtmp::new(ingests, limits, CancellationToken::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    rtmp.listen(listener);
    (rtmp, address)
}

struct Client {
    socket: TcpStream,
    link: Link,
    sent: u32,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self::connect_to(address, "live", "").await
    }

    /// Connects to an application by the address of the server, as it is told.
    async fn connect_to(address: SocketAddr, app: &str, url: &str) -> Self {
        let socket = soon(TcpStream::connect(address)).await.unwrap();
        let link = Link::client();
        let mut client = Self {
            socket,
            link,
            sent: 0,
        };
        while !client.link.is_open() {
            client.turn().await;
        }
        let about = Value::object([("app", Value::text(app)), ("tcUrl", Value::text(url))]);
        client.call("connect", 1.0, about).await;
        client.call("createStream", 2.0, Value::Null).await;
        client
    }

    async fn flush(&mut self) {
        let output = self.link.take_output();
        soon(self.socket.write_all(&output)).await.unwrap();
    }

    /// Writes, reads, and gives what came; `None` after the end.
    async fn turn(&mut self) -> Option<Vec<Message>> {
        self.flush().await;
        let mut buffer = [0; 4096];
        let read = soon(self.socket.read(&mut buffer)).await.unwrap_or(0);
        self.link.receive(&buffer[..read]);
        let mut messages = Vec::new();
        while let Some(message) = self.link.next_message().unwrap() {
            messages.push(message);
        }
        (read > 0).then_some(messages)
    }

    async fn call(&mut self, command: &str, id: f64, about: Value) {
        let values = [Value::text(command), Value::Number(id), about];
        self.link.command(0, &values);
        self.answer(|values| {
            values[0].as_str() == Some("_result") && values[1].as_number() == Some(id)
        })
        .await;
    }

    async fn answer(&mut self, is_it: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        loop {
            for message in self.turn().await.expect("the connection lasts") {
                if message.kind == kind::COMMAND {
                    let values = amf0::decode(&message.payload).unwrap();
                    if is_it(&values) {
                        return values;
                    }
                }
            }
        }
    }

    /// Asks to publish; code and description of the answer.
    async fn publish(&mut self, name: &str) -> (String, String) {
        self.wish("publish", name).await
    }

    /// Asks to `publish` or `play`, likewise.
    async fn wish(&mut self, command: &str, name: &str) -> (String, String) {
        let values = [
            Value::text(command),
            Value::Number(3.0),
            Value::Null,
            Value::text(name),
            Value::text("live"),
        ];
        self.link.command(1, &values);
        let status = self
            .answer(|values| values[0].as_str() == Some("onStatus"))
            .await;
        let field = |name| status[3].get(name).unwrap().as_str().unwrap().to_owned();
        (field("code"), field("description"))
    }

    /// Sends a picture and a packet of sound.
    async fn send(&mut self) {
        self.send_picture(VideoCodec::Vp8, &KEYFRAME).await;
    }

    async fn send_picture(&mut self, codec: VideoCodec, picture: &[u8]) {
        self.sent += 1;
        for (kind, payload) in [
            (kind::VIDEO, flv::write_video(codec, true, picture)),
            (kind::AUDIO, flv::write_opus(&SOUND)),
        ] {
            self.link.media(&Message {
                kind,
                stream_id: 1,
                timestamp: self.sent * 20,
                payload,
            });
        }
        self.flush().await;
    }

    /// Sends until the viewer has received pictures and sound.
    async fn is_seen_by(&mut self, viewer: &mut Peer) {
        let (mut pictures, mut sounds) = (0, 0);
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        let watching = async {
            while pictures < 5 || sounds < 5 {
                tokio::select! {
                    packet = viewer.recv_rtp() => match packet.payload_type {
                        VIDEO_PT => pictures += 1,
                        AUDIO_PT => sounds += 1,
                        other => panic!("payload type {other}"),
                    },
                    _ = pause.tick() => self.send().await,
                }
            }
        };
        soon(watching).await;
    }
}

async fn viewer(server: &Server, stream: &str) -> Peer {
    let offer = Offer::new(Kind::View, "actpass");
    let (_, answer) = server.create(&format!("/whep/{stream}"), &offer.text).await;
    Peer::connect(&offer, &answer).await
}

#[tokio::test]
async fn a_publisher_is_seen_leaves_and_comes_again() {
    let server = Server::start(Options::default()).await;
    let (rtmp, address) = rtmp(&server, RtmpLimits::default()).await;
    let mut viewer = viewer(&server, "stage").await;
    for _ in 0..2 {
        let mut client = Client::connect(address).await;
        let (code, _) = client.publish("stage?token=none").await;
        assert_eq!(code, "NetStream.Publish.Start");
        client.is_seen_by(&mut viewer).await;
        let listed = rtmp.info().connections;
        assert_eq!(
            (listed[0].state, listed[0].stream.as_str()),
            ("publishing", "stage")
        );
        assert!(listed[0].ingest.as_ref().unwrap().tracks[0].units > 0);
        drop(client);
        until(|| rtmp.info().connections.is_empty()).await;
        until(|| !server.broadcast.streams()[0].live).await;
    }
    assert_eq!(rtmp.info().ended["left"], 2);
    server.stop().await;
}

#[tokio::test]
async fn a_refused_publisher_is_told_why() {
    let server = Server::start(Options::default()).await;
    let (rtmp, address) = rtmp(&server, RtmpLimits::default()).await;
    let mut first = Client::connect(address).await;
    // The name is kept before anything is sent.
    assert_eq!(first.publish("stage").await.0, "NetStream.Publish.Start");
    for (name, expected) in [
        ("stage", "already has a publisher"),
        ("", "a stream name has"),
        ("no spaces", "a stream name has"),
    ] {
        let mut client = Client::connect(address).await;
        let (code, why) = client.publish(name).await;
        assert_eq!(code, "NetStream.Publish.BadName", "{name}");
        assert!(why.contains(expected), "{name}: {why}");
        while client.turn().await.is_some() {}
    }
    // Pictures that no viewer can be sent.
    let sorenson = Bytes::from_static(&[0x22, 0, 0, 0]);
    first.link.media(&Message {
        kind: kind::VIDEO,
        stream_id: 1,
        timestamp: 0,
        payload: sorenson,
    });
    let status = first
        .answer(|values| values[0].as_str() == Some("onStatus"))
        .await;
    let why = status[3].get("description").unwrap().as_str().unwrap();
    assert!(why.contains("flv1") && why.contains("libx264"), "{why}");
    until(|| rtmp.info().ended.get("refused") == Some(&4)).await;
    server.stop().await;
}

#[tokio::test]
async fn who_has_no_token_neither_publishes_nor_plays() {
    let server = Server::start(Options::default()).await;
    let (rtmp, address) = rtmp(&server, RtmpLimits::default()).await;
    let access = server.broadcast.access();
    let token = |publish| {
        let made = access.create(NewToken {
            streams: "cam*".to_owned(),
            rights: Rights {
                publish,
                watch: !publish,
                operate: false,
            },
            expires: None,
            label: None,
        });
        made.unwrap()
    };
    let ((publish, info), (watch, _)) = (token(true), token(false));
    for (command, name, expected) in [
        ("publish", "cam1".to_owned(), "a token is needed"),
        ("publish", "cam1?token=wrong".to_owned(), "not known here"),
        (
            "publish",
            format!("cam1?token={watch}"),
            "not one to publish",
        ),
        (
            "publish",
            format!("stage?token={publish}"),
            "not one to publish",
        ),
        ("play", "cam1".to_owned(), "a token is needed"),
        ("play", format!("cam1?token={publish}"), "not one to watch"),
    ] {
        let mut client = Client::connect(address).await;
        let (code, why) = client.wish(command, &name).await;
        let expected_code = match command {
            "publish" => "NetStream.Publish.Denied",
            _ => "NetStream.Play.Failed",
        };
        assert_eq!(code, expected_code, "{name}");
        assert!(why.contains(expected), "{name}: {why}");
        while client.turn().await.is_some() {}
    }
    // Encoders have it in the stream key, or wherever they can put it.
    let (query, watched) = (format!("?token={publish}"), format!("?token={watch}"));
    let server_url = format!("rtmp://127.0.0.1/live{query}");
    let mut publishers = Vec::new();
    for (name, app, url) in [
        (format!("cam1{query}"), "live", ""),
        ("cam2?x=y".to_owned(), &*format!("live{query}"), ""),
        ("cam3".to_owned(), "live", &*server_url),
    ] {
        let mut client = Client::connect_to(address, app, url).await;
        let (code, why) = client.publish(&name).await;
        assert_eq!(code, "NetStream.Publish.Start", "{name}: {why}");
        client.send().await;
        publishers.push(client);
    }
    let is_live = |name: &str| server.broadcast.live_names().contains(&name.to_owned());
    until(|| ["cam1", "cam2", "cam3"].into_iter().all(is_live)).await;
    let mut player = Client::connect(address).await;
    let (code, why) = player.wish("play", &format!("cam1{watched}")).await;
    assert_eq!(code, "NetStream.Play.Reset", "{why}");
    // A token that is revoked takes its publishers with it.
    assert_eq!(access.revoke(info.id), Ok(3));
    until(|| server.broadcast.live_names().is_empty()).await;
    for mut publisher in publishers {
        while publisher.turn().await.is_some() {}
    }
    let refused = access.info().refused;
    let counts = ["missing", "unknown", "forbidden"].map(|reason| refused[reason]);
    assert_eq!(counts, [2, 1, 3]);
    until(|| rtmp.info().connections.len() <= 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_half_open_connections_disturb_nobody() {
    let server = Server::start(Options::default()).await;
    let (rtmp, address) = rtmp(&server, RtmpLimits::default()).await;
    let mut viewer = viewer(&server, "stage").await;
    let mut client = Client::connect(address).await;
    client.publish("stage").await;
    client.is_seen_by(&mut viewer).await;
    let mut half_open = Vec::new();
    for index in 0..1000 {
        let mut socket = soon(TcpStream::connect(address)).await.unwrap();
        // Some say nothing, some a part of the handshake, some that and nothing more.
        let begun = vec![3; [0, 700, 1537][index % 3]];
        let _ = socket.write_all(&begun).await;
        half_open.push(socket);
    }
    client.is_seen_by(&mut viewer).await;
    let mut other = Client::connect(address).await;
    assert_eq!(other.publish("other").await.0, "NetStream.Publish.Start");
    until(|| rtmp.info().accepted == 1002).await;
    let held = rtmp.info().connections.len();
    assert!(held <= 258, "{held} connections are kept");
    server.stop().await;
}

#[tokio::test]
async fn who_does_nothing_or_sends_no_rtmp_is_ended_and_counted() {
    let server = Server::start(Options::default()).await;
    let limits = RtmpLimits {
        connect_timeout: Duration::from_millis(300),
        silence_timeout: Duration::from_millis(300),
        ..RtmpLimits::default()
    };
    let (rtmp, address) = rtmp(&server, limits).await;
    let mut silent = Client::connect(address).await;
    silent.publish("stage").await;
    let mut nothing = TcpStream::connect(address).await.unwrap();
    let mut http = TcpStream::connect(address).await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut huge = Client::connect(address).await;
    // A message that says it has 16 MB.
    let header = [5, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0, 0];
    huge.socket.write_all(&header).await.unwrap();

    let mut rest = Vec::new();
    for socket in [
        &mut nothing,
        &mut http,
        &mut huge.socket,
        &mut silent.socket,
    ] {
        let _ = soon(socket.read_to_end(&mut rest)).await;
    }
    until(|| rtmp.info().connections.is_empty()).await;
    let ended = rtmp.info().ended;
    assert_eq!(ended["timed_out"], 2, "{ended:?}");
    assert_eq!(ended["protocol_error"], 2, "{ended:?}");
    let mut again = Client::connect(address).await;
    assert_eq!(again.publish("stage").await.0, "NetStream.Publish.Start");
    server.stop().await;
}

/// A keyframe of H.264 of this many bytes, with lengths before its NAL units.
fn h264(bytes: u32) -> Vec<u8> {
    let mut picture = bytes.to_be_bytes().to_vec();
    picture.push(0x65);
    picture.resize(4 + bytes as usize, 0x11);
    picture
}

impl Client {
    /// Publishes H.264: its parameter sets.
    async fn send_parameter_sets(&mut self) {
        let sets: [&[u8]; 2] = [&[0x67, 0x42, 0xc0, 0x1f, 9], &[0x68, 7]];
        let record = configuration::write_h264(sets.into_iter()).unwrap();
        self.link.media(&Message {
            kind: kind::VIDEO,
            stream_id: 1,
            timestamp: 0,
            payload: flv::write_video_configuration(VideoCodec::H264, &record),
        });
        self.flush().await;
    }

    async fn play(&mut self, name: &str) {
        let name = Value::text(name);
        let values = [Value::text("play"), Value::Number(4.0), Value::Null, name];
        self.link.command(1, &values);
        self.flush().await;
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_ended_and_the_others_go_on() {
    let server = Server::start(Options::default()).await;
    let limits = RtmpLimits {
        write_timeout: Duration::from_millis(300),
        ..RtmpLimits::default()
    };
    let (rtmp, address) = rtmp(&server, limits).await;
    let mut publisher = Client::connect(address).await;
    publisher.publish("stage").await;
    publisher.send_parameter_sets().await;
    let picture = h264(100_000);
    publisher.send_picture(VideoCodec::H264, &picture).await;
    until(|| !server.broadcast.streams().is_empty() && server.broadcast.streams()[0].live).await;

    let mut lazy = Client::connect(address).await;
    lazy.play("stage").await;
    let mut eager = Client::connect(address).await;
    eager.play("stage").await;
    let mut none = Client::connect(address).await;
    none.play("nothing").await;
    let status = none
        .answer(|values| values[0].as_str() == Some("onStatus"))
        .await;
    let code = status[3].get("code").unwrap().as_str();
    assert_eq!(code, Some("NetStream.Play.StreamNotFound"));

    // What the sockets hold is soon full.
    let (mut configurations, mut pictures) = (0, 0);
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    let stalled = || rtmp.info().ended.get("stalled") == Some(&1);
    let watching = async {
        while !stalled() || pictures < 50 {
            tokio::select! {
                messages = eager.turn() => {
                    for message in messages.expect("it goes on") {
                        let is_video = message.kind == kind::VIDEO;
                        match is_video.then(|| flv::video(message.payload).unwrap()) {
                            Some(VideoTag::Configuration(..)) => configurations += 1,
                            Some(VideoTag::Frame { data, is_keyframe: true, .. }) => {
                                // The parameter sets, and the picture as it was published.
                                assert!(data.ends_with(&picture));
                                pictures += 1;
                            }
                            _ => {}
                        }
                    }
                }
                _ = pause.tick() => publisher.send_picture(VideoCodec::H264, &picture).await,
            }
        }
    };
    soon(watching).await;
    assert_eq!(configurations, 1);
    server.stop().await;
}
