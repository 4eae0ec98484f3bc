//! Pushes to other servers, in TLS and to those that take nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::media::{audio, keyframe};
use common::server::{Options, Server};
use common::{soon, until};
use fanmill_control::ingest::Ingests;
use fanmill_control::media::audio::AudioOptions;
use fanmill_control::model::ProducedTrack;
use fanmill_control::rtmp::session::{Event, ServerSession};
use fanmill_control::rtmp::{PushInfo, PushState, Rtmp, RtmpLimits, TlsFiles};
use fanmill_engine::producer::ProducedPacket;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

fn rtmp(server: &Server) -> Rtmp {
    let ingests = Ingests::new(server.broadcast.clone(), AudioOptions::default());
    let limits = RtmpLimits {
        write_timeout: Duration::from_millis(300),
        ..RtmpLimits::default()
    };
    Rtmp::new(ingests, limits, CancellationToken::new())
}

/// Publishes `stage`: Opus and VP8, of which each picture is a keyframe with `filler` packets in it.
fn publish(server: &Server, filler: u16) -> DropGuard {
    let tracks = vec![ProducedTrack::opus(40), ProducedTrack::vp8(41)];
    let made = server.media.create_incoming_stream("player", tracks, None);
    let (stream, mut producer) = made.unwrap();
    server.broadcast.publish_stream("stage", &stream).unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        let (mut number, mut sequence_number) = (0u16, 0u16);
        while !stopped.is_cancelled() {
            pause.tick().await;
            number = number.wrapping_add(1);
            let at = u32::from(number);
            let mut send = |track: usize, sequence_number, timestamp, marker, payload: &[u8]| {
                let packet = ProducedPacket {
                    ssrc: 1,
                    payload_type: 40 + track as u8,
                    sequence_number,
                    timestamp,
                    marker,
                    payload,
                };
                // The machine may be busy, and the stream over.
                let _ = producer.send(track, &packet);
            };
            send(0, number, at * 960, false, &audio(number)[12..]);
            for part in 0..=filler {
                sequence_number = sequence_number.wrapping_add(1);
                let payload = match part {
                    0 => keyframe(number)[12..].to_vec(),
                    _ => vec![0; 1100],
                };
                send(1, sequence_number, at * 1800, part == filler, &payload);
            }
        }
    });
    stop.drop_guard()
}

/// A server that lets a client publish, and takes nothing from then on.
async fn stuck() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = socket.listen(1).unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut session = ServerSession::new();
        loop {
            let mut buffer = [0; 512];
            let read = socket.read(&mut buffer).await.unwrap();
            session.link().receive(&buffer[..read]);
            while let Some(event) = session.next_event().unwrap() {
                if let Event::Publish(wish) = event {
                    session.published(&wish);
                    let output = session.link().take_output();
                    socket.write_all(&output).await.unwrap();
                    std::future::pending::<()>().await;
                }
            }
            let output = session.link().take_output();
            socket.write_all(&output).await.unwrap();
        }
    });
    address
}

/// What the rtmp server lists of a push.
fn push(rtmp: &Rtmp, id: u64) -> PushInfo {
    let list = rtmp.pushes().list();
    list.into_iter().find(|push| push.id == id).unwrap()
}

async fn listen(rtmp: &Rtmp, tls: Option<&TlsFiles>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    match tls {
        Some(files) => rtmp.listen_tls(listener, files).unwrap(),
        None => rtmp.listen(listener),
    }
    address
}

#[tokio::test]
async fn a_push_whose_server_takes_nothing_is_ended_alone_and_begins_again() {
    let (near, far) = (
        Server::start(Options::default()).await,
        Server::start(Options::default()).await,
    );
    let (near_rtmp, far_rtmp) = (rtmp(&near), rtmp(&far));
    let _publishing = publish(&near, 40);
    let good = listen(&far_rtmp, None).await;
    let create = |address: SocketAddr| {
        let url = format!("rtmp://{address}/live/copy");
        let made = near_rtmp.pushes().create("stage", &url, None);
        made.unwrap().id
    };
    let (stalled, good) = (create(stuck().await), create(good));
    soon(until(|| push(&near_rtmp, stalled).failures > 0)).await;
    let seen = push(&near_rtmp, stalled);
    assert_eq!(
        seen.last_error.as_deref(),
        Some("the other server is too slow")
    );
    let before = push(&near_rtmp, good).sent_bytes;
    soon(until(|| {
        push(&near_rtmp, good).sent_bytes > before + 100_000
    }))
    .await;
    let seen = push(&near_rtmp, good);
    assert_eq!((seen.state, seen.failures), (PushState::Pushing, 0));
    near.stop().await;
    far.stop().await;
}

/// Certificate and key of a server at 127.0.0.1, and the file with whom to trust for it: an authority
/// that has issued it, or itself.
fn certify(folder: &Path, by_authority: bool) -> (TlsFiles, PathBuf) {
    let name = |of: &str| folder.join(format!("{by_authority}-{of}.pem"));
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, trusted) = match by_authority {
        true => {
            let mut authority = CertificateParams::new([]).unwrap();
            authority
                .distinguished_name
                .push(DnType::CommonName, "authority");
            authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let issuer =
                CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), issuer.pem())
        }
        false => {
            let own = params.self_signed(&key).unwrap().pem();
            (own.clone(), own)
        }
    };
    let files = TlsFiles {
        certificate: name("certificate"),
        key: name("key"),
    };
    std::fs::write(&files.certificate, certificate).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    std::fs::write(name("trusted"), trusted).unwrap();
    (files, name("trusted"))
}

#[tokio::test]
async fn a_stream_is_pushed_in_tls_to_a_server_that_is_trusted_and_to_no_other() {
    let folder = TempDir::new().unwrap();
    let (near, far) = (
        Server::start(Options::default()).await,
        Server::start(Options::default()).await,
    );
    let (near_rtmp, far_rtmp) = (rtmp(&near), rtmp(&far));
    let _publishing = publish(&near, 1);
    let (own, trusts_own) = certify(folder.path(), false);
    let (issued, trusts_issuer) = certify(folder.path(), true);
    let at = [
        listen(&far_rtmp, Some(&own)).await,
        listen(&far_rtmp, Some(&issued)).await,
    ];
    let create = |at: SocketAddr, name: &str, ca_file: Option<&Path>| {
        let url = format!("rtmps://{at}/live/{name}");
        near_rtmp.pushes().create("stage", &url, ca_file)
    };
    let strange = create(at[0], "a", None).unwrap().id;
    // That of another server is as good as none.
    let wrong = create(at[1], "b", Some(&trusts_own)).unwrap().id;
    for id in [strange, wrong] {
        soon(until(|| push(&near_rtmp, id).failures > 0)).await;
        let seen = push(&near_rtmp, id);
        let why = seen.last_error.unwrap_or_default();
        assert!(
            why.contains("UnknownIssuer") && why.contains("ca_file"),
            "{why}"
        );
    }
    assert!(far.broadcast.live_names().is_empty());
    for (at, name, trusted) in [(at[0], "c", &trusts_own), (at[1], "d", &trusts_issuer)] {
        create(at, name, Some(trusted)).unwrap();
    }
    soon(until(|| {
        let mut names = far.broadcast.live_names();
        names.sort();
        names == ["c", "d"]
    }))
    .await;
    let none = create(at[0], "e", Some(&own.key)).unwrap_err().to_string();
    assert!(none.contains("no PEM file with certificates"), "{none}");
    near.stop().await;
    far.stop().await;
}
