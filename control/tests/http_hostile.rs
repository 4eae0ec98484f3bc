//! Clients that waste the server's time, its memory or its descriptors.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use common::offer::{Kind, Offer};
use common::server::{Options, SDP, Server, media_config};
use common::soon;
use fanmill_control::broadcast::Broadcast;
use fanmill_control::http::{self, HttpLimits};
use fanmill_control::model::MediaServer;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the server sends until it closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end like any other.
    let _ = soon(stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// The next answer, which has no body.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(soon(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

fn head(length: usize) -> String {
    format!(
        "POST /whep/stage HTTP/1.1\r\nHost: x\r\nContent-Type: {SDP}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_thousand_bad_requests_at_once_are_refused_and_leave_nothing() {
    let server = Server::start(Options::default()).await;
    let sound = Offer::new(Kind::Publish, "actpass").text;
    let bodies = [
        ("/whip/s", String::new(), 400),
        ("/whip/s", "v=0\r\n".repeat(100), 422),
        ("/whip/s", sound.replace("SAVPF", "AVP"), 422),
        (
            "/whip/s",
            sound.replace("VP8", "X").replace("opus", "Y"),
            406,
        ),
        ("/whep/s", sound.clone(), 422),
        ("/whip/%20", sound.clone(), 400),
        ("/whip/s", "a".repeat(65 * 1024), 413),
        ("/whep/s/0123", sound.clone(), 405),
    ];
    let requests = (0..1000).map(|number| {
        let (path, body, status) = &bodies[number % bodies.len()];
        let server = &server;
        async move { (server.post(path, body).await.status().as_u16(), *status) }
    });
    for (got, expected) in futures_util::future::join_all(requests).await {
        assert_eq!(got, expected);
    }
    assert_eq!(server.media.transport_count(), 0);
    assert_eq!(server.broadcast.stream_count(), 0);
    let offer = Offer::new(Kind::View, "actpass").text;
    server.create("/whep/stage", &offer).await;
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_silent_connections_do_not_keep_others_out() {
    // Fewer places than silent clients: they must be thrown out for anybody to be served.
    let http = HttpLimits {
        max_connections: 300,
        head_timeout: Duration::from_millis(300),
        ..HttpLimits::default()
    };
    let server = Server::start(Options {
        http,
        ..Options::default()
    })
    .await;
    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"POST /whip/stage HT").await.unwrap();
        }
        silent.push(stream);
    }
    let offer = Offer::new(Kind::View, "actpass").text;
    server.create("/whep/stage", &offer).await;
    for stream in &mut silent {
        assert!(!rest(stream).await.contains("200 OK"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request_but_not_for_ever() {
    let http = HttpLimits {
        head_timeout: Duration::from_millis(500),
        ..HttpLimits::default()
    };
    let server = Server::start(Options {
        http,
        ..Options::default()
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = b"OPTIONS /whep/stage HTTP/1.1\r\nHost: x\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(request).await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 204"));
    }
    assert_eq!(rest(&mut stream).await, "");
    server.stop().await;
}

#[tokio::test]
async fn among_many_connections_none_stays_for_nothing() {
    let http = HttpLimits {
        max_connections: 8,
        max_kept: 2,
        ..HttpLimits::default()
    };
    let server = Server::start(Options {
        http,
        ..Options::default()
    })
    .await;
    let request = b"OPTIONS /whep/stage HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 204"));
        kept.push(stream);
    }
    // Many more than there are places for, one after the other: each makes room.
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    for stream in &mut kept {
        stream.write_all(request).await.unwrap();
        assert!(answer(stream).await.starts_with("HTTP/1.1 204"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_ends_at_its_age_whatever_it_does() {
    let http = HttpLimits {
        max_age: Duration::from_millis(300),
        drain: Duration::from_millis(100),
        ..HttpLimits::default()
    };
    let server = Server::start(Options {
        http,
        ..Options::default()
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head(1000).as_bytes()).await.unwrap();
    stream.write_all(b"v=0\r\n").await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    server.stop().await;
}

// The clock stands still but for waits that nothing else can end.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let options = Options::default();
    let media = MediaServer::start(media_config(&options)).unwrap();
    let broadcast = Broadcast::new(media.clone(), options.broadcast);
    let service = TowerToHyperService::new(http::router(broadcast, &[]));
    let never = futures_util::stream::pending::<std::io::Result<Vec<u8>>>();
    let request = Request::post("/whep/stage")
        .header("content-type", SDP)
        .body(Body::from_stream(never))
        .unwrap();
    let response = service.call(request).await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    media.terminate(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn requests_that_break_off_leave_nothing() {
    let server = Server::start(Options::default()).await;
    let offer = Offer::new(Kind::View, "actpass").text;
    for cut in [0, 1, offer.len() / 2, offer.len() - 1] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(head(offer.len()).as_bytes())
            .await
            .unwrap();
        stream.write_all(&offer.as_bytes()[..cut]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(!rest(&mut stream).await.contains(" 201 "));
    }
    // Broken chunks are the client's fault, not a matter of size.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "POST /whep/stage HTTP/1.1\r\nHost: x\r\nContent-Type: {SDP}\r\n\
         Transfer-Encoding: chunked\r\n\r\nnot-a-size\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(server.media.transport_count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_http_are_refused() {
    let server = Server::start(Options::default()).await;
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS in clear\r\n\r\n".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 4096],
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let _ = stream.shutdown().await;
        let answer = rest(&mut stream).await;
        assert!(
            answer.is_empty() || answer.contains(" 4") || answer.contains(" 5"),
            "{answer}"
        );
    }
    let giant = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let _ = stream.write_all(giant.as_bytes()).await;
    assert!(!rest(&mut stream).await.contains("200 OK"));
    let offer = Offer::new(Kind::View, "actpass").text;
    server.create("/whep/stage", &offer).await;
    server.stop().await;
}
