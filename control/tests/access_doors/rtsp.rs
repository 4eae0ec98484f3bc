//! RTSP, read and published.

use std::net::TcpListener;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fanmill_control::ingest::Ingests;
use fanmill_control::media::audio::AudioOptions;
use fanmill_control::rtsp::{Rtsp, RtspLimits};

use super::common::rtsp::Client;
use super::common::server::{Options, Server};
use super::{refused, token};

const SDP: &str = "Content-Type: application/sdp\r\n";
const DESCRIPTION: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
     m=audio 0 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\na=control:streamid=0\r\n";
const TRANSPORT: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1";

#[tokio::test]
async fn rtsp_asks_for_a_password_and_takes_a_token_in_the_address() {
    let server = Server::start(Options::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ingests = Ingests::new(server.broadcast.clone(), AudioOptions::default());
    let rtsp = Rtsp::start(ingests, Some(listener), RtspLimits::default()).unwrap();
    let address = rtsp.address().unwrap();
    let access = server.broadcast.access();
    let (publish, id) = token(access, "stage", "publish");
    let (watch, _) = token(access, "stage", "watch");
    let basic = |token: &str| {
        let user = STANDARD.encode(format!("anybody:{token}"));
        format!("Authorization: Basic {user}\r\n")
    };

    let mut client = Client::connect(address, "stage").await;
    let asked = client.ask("ANNOUNCE", "", SDP, DESCRIPTION).await;
    assert_eq!(asked.status, 401);
    assert_eq!(asked.field("www-authenticate"), "Basic realm=\"fanmill\"");
    for (token, status) in [
        ("wrong", 401),
        (watch.as_str(), 403),
        (publish.as_str(), 200),
    ] {
        let fields = format!("{SDP}{}", basic(token));
        let answer = client.ask("ANNOUNCE", "", &fields, DESCRIPTION).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // The connection was granted it, whatever later requests show.
    let set_up = format!("{TRANSPORT};mode=record\r\n");
    client.granted("SETUP", "/streamid=0", &set_up).await;
    client.granted("RECORD", "", "").await;
    assert!(server.broadcast.live_names().contains(&"stage".to_owned()));

    // Nor may who described nothing read something.
    let play = format!("{TRANSPORT}\r\n");
    let mut reader = Client::connect(address, "stage").await;
    for (method, fields) in [("DESCRIBE", ""), ("SETUP", play.as_str())] {
        assert_eq!(reader.ask(method, "", fields, "").await.status, 401);
    }
    assert_eq!(
        reader
            .ask("DESCRIBE", "", &basic(&publish), "")
            .await
            .status,
        403
    );
    let in_address = format!("stage?token={watch}");
    let mut reader = Client::connect(address, &in_address).await;
    // Nothing was sent yet: the description does not come, but who asks may ask.
    let answer = reader.ask("SETUP", "/trackID=0", &play, "").await;
    assert!(![401, 403].contains(&answer.status), "{answer:?}");
    let mut other = Client::connect(address, &format!("other?token={watch}")).await;
    let status = other.ask("ANNOUNCE", "", SDP, DESCRIPTION).await.status;
    assert_eq!(status, 403);
    assert_eq!(
        (refused(&server, "unknown"), refused(&server, "missing")),
        (1, 3)
    );

    // What was begun with a token ends with it.
    assert_eq!(access.revoke(id), Ok(1));
    client.is_closed().await;
    super::common::until(|| !server.broadcast.live_names().contains(&"stage".to_owned())).await;
    server.stop().await;
}
