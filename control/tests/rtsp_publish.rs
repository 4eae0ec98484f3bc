//! Streams published by RTSP: what is refused, when a name is free again, and packets that are none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use common::media::{audio, keyframe};
use common::rtsp::Client;
use common::server::{Options, Server};
use common::until;
use fanmill_control::ingest::Ingests;
use fanmill_control::media::audio::AudioOptions;
use fanmill_control::rtsp::{Rtsp, RtspLimits};

const SDP: &str = "Content-Type: application/sdp\r\n";
const HEAD: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n";

/// What is published: payload types as in the packets of the tests.
const MEDIA: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=control:streamid=0\r\n\
     m=audio 0 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\na=control:streamid=1\r\n";

async fn open(limits: RtspLimits) -> (Server, Rtsp, SocketAddr) {
    let server = Server::start(Options::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ingests = Ingests::new(server.broadcast.clone(), AudioOptions::default());
    let rtsp = Rtsp::start(ingests, Some(listener), limits).unwrap();
    let address = rtsp.address().unwrap();
    (server, rtsp, address)
}

fn description() -> String {
    use common::offer::{AUDIO_PT, VIDEO_PT};
    format!("{HEAD}{MEDIA}")
        .replace("96", &VIDEO_PT.to_string())
        .replace("111", &AUDIO_PT.to_string())
}

fn channels(track: u8) -> String {
    let (rtp, rtcp) = (2 * track, 2 * track + 1);
    format!("Transport: RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp};mode=record\r\n")
}

/// A client that has announced and set up everything.
async fn ready(address: SocketAddr, stream: &str) -> Client {
    let mut client = Client::connect(address, stream).await;
    let announced = client.ask("ANNOUNCE", "", SDP, &description()).await;
    assert_eq!(announced.status, 200, "{announced:?}");
    for track in 0..2 {
        let part = format!("/streamid={track}");
        client.granted("SETUP", &part, &channels(track)).await;
    }
    client
}

async fn send(client: &mut Client, channel: u8, packet: &[u8]) {
    let mut bytes = vec![b'$', channel];
    bytes.extend((packet.len() as u16).to_be_bytes());
    bytes.extend(packet);
    client.write(&bytes).await;
}

fn is_live(server: &Server, stream: &str) -> bool {
    server
        .broadcast
        .live_names()
        .iter()
        .any(|name| name == stream)
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_the_reason() {
    let (server, _rtsp, address) = open(RtspLimits::default()).await;
    let mut client = Client::connect(address, "stage").await;
    assert_eq!(client.ask("RECORD", "", "", "").await.status, 455);
    for (part, body, status, reason) in [
        (
            "",
            description().replace("VP8", "H261"),
            415,
            "H261 is not received",
        ),
        ("", HEAD.to_owned(), 415, "no track"),
        ("/deeper", description(), 400, "a stream name has"),
    ] {
        let refused = client.ask("ANNOUNCE", part, SDP, &body).await;
        assert_eq!(refused.status, status, "{refused:?}");
        assert!(refused.reason.contains(reason), "{refused:?}");
    }
    let announced = client.ask("ANNOUNCE", "", SDP, &description()).await;
    assert_eq!(announced.status, 200);
    let unknown = client.ask("SETUP", "/streamid=7", &channels(0), "").await;
    assert_eq!(unknown.status, 404);
    client.granted("SETUP", "/streamid=0", &channels(0)).await;
    let half = client.ask("RECORD", "", "", "").await;
    assert_eq!(half.status, 455);
    assert!(half.reason.contains("set up every track"), "{half:?}");
    assert_eq!(client.ask("PLAY", "", "", "").await.status, 455);
    client.granted("SETUP", "/streamid=1", &channels(1)).await;
    client.granted("RECORD", "", "").await;
    assert!(is_live(&server, "stage"), "its codecs are known");

    let mut second = ready(address, "stage").await;
    let refused = second.ask("RECORD", "", "", "").await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.reason.contains("already has a publisher"),
        "{refused:?}"
    );
    // Ended by the operator, its connection ends, too.
    server.broadcast.stop("stage").unwrap();
    client.is_closed().await;
    second.granted("RECORD", "", "").await;
    assert!(is_live(&server, "stage"));
}

#[tokio::test]
async fn a_name_is_free_when_its_publisher_hangs_up_or_falls_silent() {
    let limits = RtspLimits {
        publisher_silence: Duration::from_secs(1),
        ..RtspLimits::default()
    };
    let (server, rtsp, address) = open(limits).await;
    let mut silent = ready(address, "silent").await;
    silent.granted("RECORD", "", "").await;
    let mut gone = ready(address, "gone").await;
    gone.granted("RECORD", "", "").await;
    assert!(is_live(&server, "silent") && is_live(&server, "gone"));
    drop(gone);
    until(|| !is_live(&server, "gone")).await;
    silent.is_closed().await;
    until(|| !is_live(&server, "silent")).await;
    until(|| rtsp.info().connections == 0).await;
}

#[tokio::test]
async fn packets_that_are_none_harm_nothing() {
    let (server, rtsp, address) = open(RtspLimits::default()).await;
    let mut client = ready(address, "stage").await;
    client.granted("RECORD", "", "").await;
    for number in 0..200u16 {
        // Cut at every length, on every channel, those of nobody included.
        for (channel, packet) in [(0, keyframe(number)), (2, audio(number))] {
            let cut = usize::from(number) % packet.len();
            for channel in [channel, channel + 1, 4, 255] {
                send(&mut client, channel, &packet[..cut]).await;
            }
            let mut other = packet.clone();
            other[usize::from(number) % packet.len()] ^= 0xff;
            send(&mut client, channel + 1, &other).await;
            send(&mut client, channel, &packet).await;
        }
    }
    until(|| {
        let tracks = &server.broadcast.streams()[0].tracks;
        tracks[0].codec == Some("VP8") && tracks[0].width == 320 && tracks[1].codec == Some("opus")
    })
    .await;
    let sessions = rtsp.info().sessions;
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(client.ask("TEARDOWN", "", "", "").await.status, 200);
    until(|| !is_live(&server, "stage")).await;
}
