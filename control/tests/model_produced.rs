//! Streams that this process makes, watched by real clients, and consumers in this process of
//! whatever is live under a name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::media::{audio, keyframe};
use common::offer::{AUDIO_PT, Kind, Offer, VIDEO_PT};
use common::peer::Peer;
use common::server::{Options, Server};
use common::{soon, until};
use fanmill_control::broadcast::{BroadcastError, Live};
use fanmill_control::model::{
    CloseReason, CreateStreamError, MediaServer, ProducedStream, ProducedTrack, Producer, TapSignal,
};
use fanmill_control::sdp::MediaKind;
use fanmill_engine::producer::{ProduceError, ProducedPacket};
use fanmill_engine::tap::{Tap, TapItem, TapSpec};
use serde_json::Value;
use tokio::time::interval;

const PAUSE: Duration = Duration::from_millis(20);

/// Payload types of the source; viewers know the codecs by others.
const SOURCE_AUDIO: u8 = 40;
const SOURCE_VIDEO: u8 = 41;

fn source(media: &MediaServer) -> (ProducedStream, Producer) {
    let tracks = vec![
        ProducedTrack::opus(SOURCE_AUDIO),
        ProducedTrack::vp8(SOURCE_VIDEO),
    ];
    media
        .create_incoming_stream("player", tracks, None)
        .unwrap()
}

/// Sends one packet of audio and a keyframe of one packet.
fn produce(producer: &mut Producer, number: u16) {
    for (track, plain, payload_type) in [
        (0, audio(number), SOURCE_AUDIO),
        (1, keyframe(number), SOURCE_VIDEO),
    ] {
        let packet = ProducedPacket {
            ssrc: 1,
            payload_type,
            sequence_number: number,
            timestamp: u32::from_be_bytes(plain[4..8].try_into().unwrap()),
            marker: track == 1,
            payload: &plain[12..],
        };
        producer.send(track, &packet).unwrap();
    }
}

/// Produces until the viewer sees pictures and hears sound.
async fn seen_and_heard(viewer: &mut Peer, producer: &mut Producer, number: &mut u16) {
    let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
    let mut pause = interval(PAUSE);
    let watching = async {
        while pictures.len() < 5 || sounds.len() < 5 {
            tokio::select! {
                packet = viewer.recv_rtp() => match packet.payload_type {
                    VIDEO_PT => pictures.push(packet),
                    AUDIO_PT => sounds.push(packet),
                    other => panic!("payload type {other}"),
                },
                _ = pause.tick() => {
                    *number += 1;
                    produce(producer, *number);
                }
            }
        }
    };
    soon(watching).await;
    for packets in [&pictures, &sounds] {
        for pair in packets.windows(2) {
            let (one, other) = (pair[0].sequence_number, pair[1].sequence_number);
            assert_eq!(other.wrapping_sub(one), 1);
        }
    }
    assert_eq!(pictures[0].payload[4..7], [0x9D, 0x01, 0x2A]);
}

async fn streams(server: &Server) -> Value {
    let response = server.client.get(server.url("/api/streams")).send();
    let text = soon(response).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn viewers_who_came_before_and_after_watch_a_produced_stream_and_the_next_one() {
    let server = Server::start(Options {
        shards: 2,
        ..Options::default()
    })
    .await;
    let offer = Offer::new(Kind::View, "actpass");
    let (_, answer) = server.create("/whep/stage", &offer.text).await;
    let mut early = Peer::connect(&offer, &answer).await;

    let (stream, mut producer) = source(&server.media);
    server.broadcast.publish_stream("stage", &stream).unwrap();
    let mut number = 0;
    seen_and_heard(&mut early, &mut producer, &mut number).await;
    let offer = Offer::new(Kind::View, "actpass");
    let (_, answer) = server.create("/whep/stage", &offer.text).await;
    let mut late = Peer::connect(&offer, &answer).await;
    seen_and_heard(&mut late, &mut producer, &mut number).await;

    // In reports it is what it is.
    let listed = streams(&server).await;
    assert_eq!(listed[0]["name"], "stage");
    assert_eq!(listed[0]["live"], true);
    assert_eq!(listed[0]["source"], "player");
    assert_eq!(listed[0]["viewers"], 2);
    let details = server.broadcast.stream("stage").unwrap();
    let details = serde_json::to_value(details).unwrap();
    assert_eq!(details["publisher"]["source"], "player");
    assert_eq!(details["publisher"]["id"], stream.id().0);
    until(|| {
        let tracks = &server.broadcast.streams()[0].tracks;
        let codecs: Vec<_> = tracks.iter().map(|track| track.codec).collect();
        codecs == [Some("opus"), Some("VP8")] && tracks[1].width == 320
    })
    .await;

    // The source ends, and another one takes its place, for the same viewers.
    drop(producer);
    assert_eq!(soon(stream.closed()).await, CloseReason::SourceEnded);
    until(|| !server.broadcast.streams()[0].live).await;
    assert_eq!(streams(&server).await[0]["source"], Value::Null);
    let (stream, mut producer) = source(&server.media);
    server.broadcast.publish_stream("stage", &stream).unwrap();
    seen_and_heard(&mut early, &mut producer, &mut number).await;
    server.stop().await;
    assert_eq!(soon(stream.closed()).await, CloseReason::Shutdown);
    assert!(producer.is_closed());
}

#[tokio::test]
async fn a_name_has_one_publisher_whatever_kind_it_is() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::Publish, "actpass");
    let (stream, mut producer) = source(&server.media);
    server.broadcast.publish_stream("stage", &stream).unwrap();
    let refused = server.post("/whip/stage", &offer.text).await;
    assert_eq!(refused.status(), 409);
    let (other, _other_producer) = source(&server.media);
    let refused = server.broadcast.publish_stream("stage", &other);
    assert!(matches!(refused, Err(BroadcastError::Occupied(_))));
    assert!(!other.is_ending(), "it can be published elsewhere");

    // Stopped, its name is free at once, and its producer knows.
    server.broadcast.stop("stage").unwrap();
    assert_eq!(server.broadcast.stream_count(), 0);
    assert_eq!(soon(stream.closed()).await, CloseReason::Requested);
    assert!(producer.is_closed());
    let plain = audio(1);
    let packet = ProducedPacket {
        ssrc: 1,
        payload_type: SOURCE_AUDIO,
        sequence_number: 1,
        timestamp: 0,
        marker: false,
        payload: &plain[12..],
    };
    let closed = async {
        // The shard takes the command a little later.
        while producer.send(0, &packet) != Err(ProduceError::Closed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(closed).await;
    let gone = server.broadcast.publish_stream("stage", &stream);
    assert!(matches!(gone, Err(BroadcastError::SourceEnded)));
    let stopped = server.broadcast.stop("stage");
    assert!(matches!(stopped, Err(BroadcastError::UnknownStream(_))));

    // A peer holds the name against it, and is stopped just so.
    let (_, answer) = server.create("/whip/stage", &offer.text).await;
    let peer = Peer::connect(&offer, &answer).await;
    let refused = server.broadcast.publish_stream("stage", &other);
    assert!(matches!(refused, Err(BroadcastError::Occupied(_))));
    server.broadcast.stop("stage").unwrap();
    peer.closed().await;
    server.broadcast.publish_stream("stage", &other).unwrap();
    assert_eq!(streams(&server).await[0]["source"], "player");
    server.stop().await;
}

fn tap(live: &Live, kind: MediaKind, signal: &TapSignal) -> Tap {
    let track = live.incoming.track(kind, 0).unwrap();
    let spec = TapSpec::new(signal.signal());
    track.best_encoding().create_tap(spec).unwrap()
}

/// Waits for a packet of each tap.
async fn tapped(taps: &mut [Tap], signal: &TapSignal) {
    let mut counts = vec![0; taps.len()];
    let taking = async {
        loop {
            for (tap, count) in taps.iter_mut().zip(&mut counts) {
                while let Some(item) = tap.pop() {
                    if let TapItem::Packet(packet) = item {
                        assert!(!packet.payload().is_empty());
                        *count += 1;
                    }
                }
            }
            if counts.iter().all(|count| *count > 0) {
                break;
            }
            signal.rung().await;
        }
    };
    soon(taking).await;
}

async fn ended(taps: &mut [Tap], signal: &TapSignal) {
    let ending = async {
        loop {
            taps.iter_mut().for_each(|tap| while tap.pop().is_some() {});
            if taps.iter().all(Tap::has_ended) {
                break;
            }
            signal.rung().await;
        }
    };
    soon(ending).await;
}

#[tokio::test]
async fn a_name_is_followed_through_publishers_that_come_and_go_and_each_is_tapped() {
    let server = Server::start(Options::default()).await;
    let mut follower = server.broadcast.follow("stage").unwrap();
    assert!(follower.current().is_none());
    assert_eq!(server.broadcast.stream_count(), 0, "it is not a stream");
    let signal = TapSignal::new().unwrap();

    let (stream, mut producer) = source(&server.media);
    server.broadcast.publish_stream("stage", &stream).unwrap();
    let first = soon(follower.changed()).await.unwrap();
    assert_eq!((first.source, first.id), ("player", stream.id().0));
    let mut taps = [MediaKind::Audio, MediaKind::Video].map(|kind| tap(&first, kind, &signal));
    let mut pause = interval(PAUSE);
    let producing = async {
        for number in 0.. {
            pause.tick().await;
            produce(&mut producer, number);
        }
    };
    tokio::select! {
        () = tapped(&mut taps, &signal) => {}
        () = producing => unreachable!("it has no end"),
    }
    drop(producer);
    assert!(soon(follower.changed()).await.is_none());
    ended(&mut taps, &signal).await;

    let offer = Offer::new(Kind::Publish, "actpass");
    let (session, answer) = server.create("/whip/stage", &offer.text).await;
    let second = soon(follower.changed()).await.unwrap();
    assert_eq!(second.source, "whip");
    assert_ne!(second.id, first.id);
    // One who comes later finds what is live.
    let mut later = server.broadcast.follow("stage").unwrap();
    assert_eq!(later.current().map(|live| live.id), Some(second.id));
    let mut taps = [MediaKind::Audio, MediaKind::Video].map(|kind| tap(&second, kind, &signal));
    let peer = Peer::connect(&offer, &answer).await;
    let mut pause = interval(PAUSE);
    let publishing = async {
        for number in 0.. {
            pause.tick().await;
            peer.send_rtp(&audio(number)).await;
            peer.send_rtp(&keyframe(number)).await;
        }
    };
    tokio::select! {
        () = tapped(&mut taps, &signal) => {}
        () = publishing => unreachable!("it has no end"),
    }
    assert_eq!(server.delete(&session).await, 200);
    assert!(soon(follower.changed()).await.is_none());
    assert!(soon(later.changed()).await.is_none());
    ended(&mut taps, &signal).await;
    let gone = second.incoming.tracks()[0].best_encoding();
    assert!(gone.create_tap(TapSpec::new(signal.signal())).is_err());
    server.stop().await;
}

#[tokio::test]
async fn streams_of_nothing_and_of_a_server_that_ends_are_not_made() {
    let server = Server::start(Options::default()).await;
    let media = server.media.clone();
    let none = media.create_incoming_stream("player", Vec::new(), None);
    assert!(matches!(none, Err(CreateStreamError::NoTracks)));
    let (stream, _producer) = source(&media);
    assert_eq!(media.produced_streams().len(), 1);
    server.stop().await;
    assert_eq!(stream.closed().await, CloseReason::Shutdown);
    assert!(media.produced_streams().is_empty());
    let tracks = vec![ProducedTrack::opus(SOURCE_AUDIO)];
    let late = media.create_incoming_stream("player", tracks, None);
    assert!(matches!(late, Err(CreateStreamError::Shutdown)));
}

#[tokio::test]
async fn a_source_that_is_withdrawn_frees_its_place_and_leaves_the_backup_on_air() {
    let server = Server::start(Options::default()).await;
    let (stream, _producer) = source(&server.media);
    server.broadcast.publish_stream("stage", &stream).unwrap();
    let offer = Offer::new(Kind::Publish, "actpass");
    let (_, answer) = server.create("/whip/stage?role=backup", &offer.text).await;
    let _backup = Peer::connect(&offer, &answer).await;

    server.broadcast.withdraw("stage", &stream);
    let details = server.broadcast.stream("stage").unwrap();
    assert_eq!(details.stream.source, Some("whip"));
    assert_eq!(soon(stream.closed()).await, CloseReason::Requested);
    let (next, _producer) = source(&server.media);
    server.broadcast.publish_stream("stage", &next).unwrap();
    let details = server.broadcast.stream("stage").unwrap();
    assert_eq!(details.stream.publishers.len(), 2);
    server.stop().await;
}
