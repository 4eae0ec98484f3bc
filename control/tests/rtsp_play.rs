//! Streams read by RTSP: what readers get, and what they cannot do to each other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use common::media::{Rtp, audio, byes, keyframe};
use common::rtsp::Client;
use common::server::{Options, Server};
use common::{soon, until};
use fanmill_control::ingest::Ingests;
use fanmill_control::media::audio::AudioOptions;
use fanmill_control::model::ProducedTrack;
use fanmill_control::rtsp::{Rtsp, RtspLimits};
use fanmill_engine::producer::{ProduceError, ProducedPacket};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::interval;
use tokio_util::sync::{CancellationToken, DropGuard};

const TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=";

/// A server with an RTSP door.
struct Door {
    server: Server,
    rtsp: Rtsp,
    address: SocketAddr,
}

impl Door {
    async fn open(limits: RtspLimits) -> Self {
        let server = Server::start(Options::default()).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ingests = Ingests::new(server.broadcast.clone(), AudioOptions::default());
        let rtsp = Rtsp::start(ingests, Some(listener), limits).unwrap();
        let address = rtsp.address().unwrap();
        Self {
            server,
            rtsp,
            address,
        }
    }

    /// Publishes `stage`: Opus, and VP8 of which each picture is a keyframe, 50 a second; a picture
    /// is followed by `filler` packets of 1100 bytes in it.
    fn publish(&self, filler: usize) -> DropGuard {
        let tracks = vec![ProducedTrack::opus(40), ProducedTrack::vp8(41)];
        let media = &self.server.media;
        let (stream, mut producer) = media
            .create_incoming_stream("player", tracks, None)
            .unwrap();
        self.server
            .broadcast
            .publish_stream("stage", &stream)
            .unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let mut pause = interval(Duration::from_millis(20));
            let (mut number, mut sequence_number) = (0u16, 0u16);
            while !stopped.is_cancelled() {
                pause.tick().await;
                number = number.wrapping_add(1);
                let mut send = |track, number: u16, marker, timestamp, payload: &[u8]| {
                    let packet = ProducedPacket {
                        ssrc: 1,
                        payload_type: 40 + track as u8,
                        sequence_number: number,
                        timestamp,
                        marker,
                        payload,
                    };
                    match producer.send(track, &packet) {
                        // The machine is busy; readers see a gap.
                        Ok(()) | Err(ProduceError::Full | ProduceError::Closed) => {}
                        Err(error) => panic!("{error}"),
                    }
                };
                let timestamp = u32::from(number);
                send(0, number, false, timestamp * 960, &audio(number)[12..]);
                for part in 0..=filler {
                    sequence_number = sequence_number.wrapping_add(1);
                    let payload = match part {
                        0 => keyframe(number)[12..].to_vec(),
                        _ => vec![0; 1100],
                    };
                    send(
                        1,
                        sequence_number,
                        part == filler,
                        timestamp * 1800,
                        &payload,
                    );
                }
            }
        });
        stop.drop_guard()
    }

    /// A reader that has set up both tracks on its connection.
    async fn reader(&self, receive: Option<u32>) -> Client {
        let mut client = Client::connect_with(self.address, "stage", receive).await;
        client.granted("DESCRIBE", "", "").await;
        client
            .granted("SETUP", "/trackID=0", &format!("{TCP}0-1\r\n"))
            .await;
        client
            .granted("SETUP", "/trackID=1", &format!("{TCP}2-3\r\n"))
            .await;
        client
    }
}

/// Both tracks' packets go on without a gap.
fn assert_continuous(packets: &[Rtp]) {
    for pair in packets.windows(2) {
        let step = pair[1]
            .sequence_number
            .wrapping_sub(pair[0].sequence_number);
        assert_eq!(step, 1);
        let later = pair[1]
            .timestamp
            .wrapping_sub(pair[0].timestamp)
            .cast_signed();
        assert!(later >= 0, "{later} ticks back");
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
    }
}

/// Reads until there are so many packets of both kinds.
async fn read(client: &mut Client, count: usize) -> [Vec<Rtp>; 2] {
    let (mut sound, mut pictures) = (Vec::new(), Vec::new());
    while sound.len() < count || pictures.len() < count {
        let (channel, bytes) = client.packet().await;
        match channel {
            0 => sound.push(Rtp::parse(&bytes)),
            2 => pictures.push(Rtp::parse(&bytes)),
            1 | 3 => assert_eq!(bytes[1], 200, "a sender report"),
            other => panic!("channel {other}"),
        }
    }
    [sound, pictures]
}

#[tokio::test]
async fn a_reader_is_told_of_the_stream_and_gets_it_on_its_connection() {
    let door = Door::open(RtspLimits::default()).await;
    let mut early = Client::connect(door.address, "stage").await;
    let refused = early.ask("DESCRIBE", "", "", "").await;
    assert_eq!(refused.status, 404);
    assert!(
        refused.reason.contains("stage has no publisher now"),
        "{refused:?}"
    );

    let _publishing = door.publish(0);
    // The connection that was refused is as good as any.
    let options = early.granted("OPTIONS", "", "").await;
    assert!(options.field("public").contains("DESCRIBE"));
    let described = early
        .granted("DESCRIBE", "", "Accept: application/sdp\r\n")
        .await;
    assert_eq!(described.field("content-type"), "application/sdp");
    let base = format!("rtsp://{}/stage/", door.address);
    assert_eq!(described.field("content-base"), base);
    for line in [
        "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n",
        "m=video 0 RTP/AVP 97\r\na=rtpmap:97 VP8/90000\r\na=control:trackID=1\r\n",
    ] {
        assert!(described.body.contains(line), "{}", described.body);
    }

    let mut readers = [door.reader(None).await, door.reader(None).await];
    for reader in &mut readers {
        let playing = reader.granted("PLAY", "", "Range: npt=0.000-\r\n").await;
        assert!(
            playing.field("rtp-info").contains("/stage/trackID=1;seq="),
            "{playing:?}"
        );
        assert_eq!(playing.field("range"), "npt=now-");
        let (channel, first) = reader.packet().await;
        assert_eq!((channel, first[1]), (1, 200), "the clock comes first");
        let [sound, pictures] = read(reader, 20).await;
        assert_continuous(&sound);
        assert_continuous(&pictures);
        assert_eq!((sound[0].payload_type, pictures[0].payload_type), (96, 97));
        assert_eq!(
            pictures[0].payload[4..7],
            [0x9D, 0x01, 0x2A],
            "a keyframe first"
        );
    }
    let info = door.rtsp.info();
    assert_eq!(info.sessions.len(), 2, "{info:?}");
    assert_eq!(
        (info.sessions[0].stream.as_str(), info.sessions[0].transport),
        ("stage", "tcp")
    );
    assert!(info.sessions[0].packets >= 40);

    let [mut one, other] = readers;
    assert_eq!(one.ask("GET_PARAMETER", "", "", "").await.status, 200);
    assert_eq!(one.ask("TEARDOWN", "", "", "").await.status, 200);
    one.is_closed().await;
    drop(other);
    until(|| door.rtsp.info().sessions.is_empty()).await;
}

#[tokio::test]
async fn a_reader_gets_datagrams_and_reports_its_losses() {
    let door = Door::open(RtspLimits::default()).await;
    let _publishing = door.publish(0);
    let mut client = Client::connect(door.address, "stage").await;
    client.granted("DESCRIBE", "", "").await;
    let rtp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rtcp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let ports = format!("{}-{}", port(&rtp), port(&rtcp));
    let transport = format!("Transport: RTP/AVP;unicast;client_port={ports}\r\n");
    let set_up = client.granted("SETUP", "/trackID=1", &transport).await;
    let granted = set_up.field("transport").to_owned();
    let (_, server_ports) = granted.split_once("server_port=").unwrap();
    let (server_rtp, server_rtcp) = server_ports.split_once('-').unwrap();
    let server_rtp: u16 = server_rtp.parse().unwrap();
    let server_rtcp: u16 = server_rtcp.parse().unwrap();
    assert_eq!((server_rtp % 2, server_rtcp), (0, server_rtp + 1));
    client.granted("PLAY", "", "").await;

    let mut buffer = [0; 2000];
    let mut pictures = Vec::new();
    while pictures.len() < 20 {
        let (len, from) = soon(rtp.recv_from(&mut buffer)).await.unwrap();
        assert_eq!(from.port(), server_rtp);
        pictures.push(Rtp::parse(&buffer[..len]));
    }
    assert_continuous(&pictures);
    let (_, from) = soon(rtcp.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((from.port(), buffer[1]), (server_rtcp, 200));
    let ssrc = u32::from_be_bytes(buffer[4..8].try_into().unwrap());
    assert_eq!(ssrc, pictures[0].ssrc);

    // A receiver report that a quarter was lost (RFC 3550 6.4.2).
    let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 1];
    report.extend(ssrc.to_be_bytes());
    report.extend([64, 0, 0, 5]);
    report.extend([0; 16]);
    rtcp.send_to(&report, from).await.unwrap();
    until(|| door.rtsp.info().sessions[0].loss_percent == 25.0).await;
}

#[tokio::test]
async fn a_reader_pauses_and_goes_on_and_cannot_ask_what_makes_no_sense() {
    let door = Door::open(RtspLimits::default()).await;
    let _publishing = door.publish(0);
    let mut client = Client::connect(door.address, "stage").await;
    assert_eq!(client.ask("PLAY", "", "", "").await.status, 455);
    for (transport, status) in [
        ("Transport: RTP/AVP;multicast\r\n", 461),
        ("", 461),
        ("Require: com.example.feature\r\n", 551),
    ] {
        let refused = client.ask("SETUP", "/trackID=0", transport, "").await;
        assert_eq!(refused.status, status, "{refused:?}");
    }
    let tcp = format!("{TCP}0-1\r\n");
    assert_eq!(
        client.ask("SETUP", "/trackID=7", &tcp, "").await.status,
        404
    );
    assert_eq!(client.ask("FLY", "", "", "").await.status, 501);
    client.granted("SETUP", "/trackID=0", &tcp).await;
    assert_eq!(
        client.ask("SETUP", "/trackID=0", &tcp, "").await.status,
        455
    );
    let own = client.session.replace("0000000000000000".to_owned());
    assert_eq!(client.ask("PLAY", "", "", "").await.status, 454);
    client.session = own;

    client.granted("PLAY", "", "").await;
    let last = loop {
        if let (0, bytes) = client.packet().await {
            break Rtp::parse(&bytes);
        }
    };
    client.granted("PAUSE", "", "").await;
    until(|| door.rtsp.info().sessions.is_empty()).await;
    client.granted("PLAY", "", "").await;
    let next = loop {
        if let (0, bytes) = client.packet().await {
            break Rtp::parse(&bytes);
        }
    };
    assert_eq!(next.ssrc, last.ssrc);
    assert!(next.sequence_number.wrapping_sub(last.sequence_number) > 0);
    client.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.is_closed().await;
}

#[tokio::test]
async fn readers_see_the_next_publisher_in_the_same_session() {
    let limits = RtspLimits {
        reader_linger: Duration::from_secs(1),
        ..RtspLimits::default()
    };
    let door = Door::open(limits).await;
    let publishing = door.publish(0);
    let mut client = door.reader(None).await;
    client.granted("PLAY", "", "").await;
    let [mut sound, mut pictures] = read(&mut client, 10).await;
    drop(publishing);
    until(|| door.server.broadcast.live_names().is_empty()).await;
    // Its numbers begin anew; those that readers see go on.
    let publishing = door.publish(0);
    let mut rest = read(&mut client, 30).await;
    sound.append(&mut rest[0]);
    pictures.append(&mut rest[1]);
    assert_continuous(&sound);
    assert_continuous(&pictures);
    drop(publishing);
    // When nobody comes, they are told that it is over.
    let mut told = Vec::new();
    while let Some((channel, bytes)) = client.packet_or_end().await {
        if channel % 2 == 1 {
            told.extend(byes(&bytes));
        }
    }
    assert_eq!(told, [sound[0].ssrc, pictures[0].ssrc]);
}

#[tokio::test]
async fn a_reader_that_reads_nothing_is_dropped_alone() {
    let door = Door::open(RtspLimits::default()).await;
    // 2000 packets a second.
    let _publishing = door.publish(40);
    let mut stuck = door.reader(Some(4096)).await;
    stuck.granted("PLAY", "", "").await;
    let mut other = door.reader(None).await;
    other.granted("PLAY", "", "").await;
    let reading = async {
        loop {
            other.packet().await;
            let info = door.rtsp.info();
            if info.readers_dropped == 1 && info.sessions.len() == 1 {
                break;
            }
        }
        read(&mut other, 100).await
    };
    let [sound, _] = soon(reading).await;
    assert_continuous(&sound);
    stuck.is_closed().await;
}

#[tokio::test]
async fn a_thousand_half_open_connections_disturb_nobody() {
    let limits = RtspLimits {
        // All are there before the first is closed.
        request_timeout: Duration::from_secs(8),
        ..RtspLimits::default()
    };
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: files.maximum,
        ..files
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let door = Door::open(limits).await;
    let _publishing = door.publish(0);
    let mut half_open = Vec::new();
    for number in 0..1000 {
        let stream = soon(TcpStream::connect(door.address)).await.unwrap();
        if number % 2 == 0 {
            stream
                .try_write(b"DESCRIBE rtsp://h/stage RTSP/1.0\r\nCS")
                .unwrap();
        }
        half_open.push(stream);
    }
    until(|| door.rtsp.info().connections == 1000).await;
    let mut client = door.reader(None).await;
    client.granted("PLAY", "", "").await;
    let [sound, pictures] = read(&mut client, 30).await;
    assert_continuous(&sound);
    assert_continuous(&pictures);
    // They are closed in their time; who reads stays.
    until(|| door.rtsp.info().connections == 1).await;
    read(&mut client, 10).await;
}
