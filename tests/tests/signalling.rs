//! What the pages say over WHIP and WHEP (RFC 9725), with another browser as the peer: the test
//! passes the HTTP bodies on, the media flows between the two for real.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use fanmill_tests::browser::BrowserOptions;
use fanmill_tests::{Browser, Page, wait};

const LIMIT: Duration = Duration::from_secs(20);
const SESSION: &str = "/session/7";

/// The peer: answers offers, sends the test card if asked for media, restarts ICE.
const PEER: &str = r#"
  import('/assets/testcard.js').then(({ TestCard }) => {
    let remote = '';
    const local = async () => {
      await pc.setLocalDescription();
      if (pc.iceGatheringState !== 'complete') {
        await new Promise((resolve) => (pc.onicegatheringstatechange = () =>
          pc.iceGatheringState === 'complete' && resolve()));
      }
      return pc.localDescription.sdp;
    };
    window.answer = async (sdp) => {
      window.pc = new RTCPeerConnection();
      remote = sdp;
      await pc.setRemoteDescription({ type: 'offer', sdp });
      if (sdp.includes('a=recvonly')) {
        window.card = new TestCard(320, 180, 15);
        card.stream.getTracks().forEach((track) => pc.addTrack(track, card.stream));
      }
      return local();
    };
    window.restart = async (fragment) => {
      for (const name of ['ice-ufrag', 'ice-pwd']) {
        const line = fragment.match(new RegExp(`^a=${name}:.*$`, 'm'))[0];
        remote = remote.replace(new RegExp(`^a=${name}:.*$`, 'gm'), line);
      }
      const sdp = remote.replace(/^a=(candidate|end-of-candidates).*\r\n/gm, '');
      await pc.setRemoteDescription({ type: 'offer', sdp });
      const lines = (await local()).split('\r\n');
      const first = lines.slice(lines.findIndex((line) => line.startsWith('m=')));
      return first.filter((line) => /^a=(ice-ufrag|ice-pwd|candidate)/.test(line)).join('\r\n');
    };
    window.decoded = async () => [...(await pc.getStats()).values()]
      .find((s) => s.type === 'inbound-rtp' && s.kind === 'video')?.framesDecoded ?? 0;
  })
"#;

#[derive(Debug, Clone)]
struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

#[derive(Clone)]
struct Door {
    peer: Arc<tokio::sync::OnceCell<Page>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Door {
    async fn open() -> (Door, String) {
        let door = Door {
            peer: Arc::default(),
            requests: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/whip/{stream}", any(Door::serve))
            .route("/whep/{stream}", any(Door::serve))
            .route(SESSION, any(Door::serve))
            .with_state(door.clone())
            .merge(fanmill_control::web::router());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (door, at)
    }

    async fn serve(
        State(door): State<Door>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: String,
    ) -> Response {
        let request = Request {
            method,
            path: uri.path().to_owned(),
            headers,
            body,
        };
        door.requests.lock().unwrap().push(request.clone());
        let peer = door.peer.get().unwrap();
        let call = async |function: &str| {
            let argument = serde_json::to_string(&request.body).unwrap();
            let text = peer
                .evaluate(&format!("{function}({argument})"))
                .await
                .unwrap();
            text.as_str().unwrap().to_owned()
        };
        match (request.method.as_str(), request.header("if-match")) {
            ("POST", _) => {
                let fields = [
                    ("content-type", "application/sdp"),
                    ("location", SESSION),
                    ("etag", "\"1\""),
                ];
                (StatusCode::CREATED, fields, call("answer").await).into_response()
            }
            ("PATCH", "*") => {
                let fields = [
                    ("content-type", "application/trickle-ice-sdpfrag"),
                    ("etag", "\"2\""),
                ];
                (fields, call("restart").await).into_response()
            }
            ("PATCH", _) => StatusCode::NO_CONTENT.into_response(),
            _ => StatusCode::OK.into_response(),
        }
    }

    /// The requests so far that `wanted` holds of, once there is one.
    async fn requests(&self, what: &str, wanted: impl Fn(&Request) -> bool) -> Vec<Request> {
        let probe = async || {
            let requests = self.requests.lock().unwrap().clone();
            Ok(requests.into_iter().filter(&wanted).collect::<Vec<_>>())
        };
        wait::until(what, LIMIT, probe, |found| !found.is_empty())
            .await
            .unwrap()
    }
}

/// A browser that tells its addresses, as one does that was given the camera, and its peer page.
async fn set_up() -> (Browser, Door, String) {
    let flags: &[&str] = &["--disable-features=WebRtcHideLocalIpsWithMdns"];
    let options = BrowserOptions {
        flags,
        ..BrowserOptions::default()
    };
    let browser = Browser::start_with(options).await.unwrap();
    let (door, at) = Door::open().await;
    let peer = browser.open(&at).await.unwrap();
    peer.evaluate(PEER).await.unwrap();
    assert!(door.peer.set(peer).is_ok());
    (browser, door, at)
}

async fn decoded(page: &Page) -> u64 {
    page.evaluate("decoded()").await.unwrap().as_u64().unwrap()
}

#[tokio::test]
async fn the_publish_page_speaks_whip() {
    let (browser, door, at) = set_up().await;
    let query = "source=testcard&codec=VP8&autostart=1&width=320&height=180&fps=15";
    let page = browser
        .open(&format!("{at}/publish/a%20b?{query}"))
        .await
        .unwrap();
    page.wait_for("fanmill.state === 'connected'", LIMIT)
        .await
        .unwrap();
    let peer = door.peer.get().unwrap();
    peer.wait_for("decoded().then((frames) => frames > 15)", LIMIT)
        .await
        .unwrap();

    let offer = &door
        .requests("the offer", |r| r.method == Method::POST)
        .await[0];
    assert_eq!(offer.path, "/whip/a%20b");
    assert_eq!(offer.header("content-type"), "application/sdp");
    assert!(offer.body.contains("a=sendonly") && offer.body.contains("a=group:BUNDLE 0 1"));
    let video = offer.body.split("m=video").nth(1).unwrap();
    assert!(
        video.contains("VP8/90000") && !video.contains("VP9"),
        "{video}"
    );

    // RFC 9725 4.3.1: candidates go by PATCH, for the session's present generation.
    let ended = |r: &Request| r.method == Method::PATCH && r.body.contains("end-of-candidates");
    let trickled = &door.requests("the end of candidates", ended).await[0];
    assert_eq!(trickled.path, SESSION);
    assert_eq!(
        trickled.header("content-type"),
        "application/trickle-ice-sdpfrag"
    );
    assert_eq!(trickled.header("if-match"), "\"1\"");
    for line in [
        "a=group:BUNDLE 0 1\r\n",
        "m=audio 9 ",
        "a=mid:0\r\n",
        "a=ice-ufrag:",
        "a=ice-pwd:",
    ] {
        assert!(
            trickled.body.contains(line),
            "{line} is not in {}",
            trickled.body
        );
    }
    let candidate = |r: &Request| r.body.contains("a=candidate:");
    door.requests("a candidate", candidate).await;

    let stats = page.evaluate("fanmill.stats()").await.unwrap();
    assert_eq!(stats["codec"], "VP8");
    assert!(stats["packetsSent"].as_u64().unwrap() > 0, "{stats}");

    page.evaluate("fanmill.stop()").await.unwrap();
    let ends = door
        .requests("the end", |r| r.method == Method::DELETE)
        .await;
    assert_eq!((ends.len(), ends[0].path.as_str()), (1, SESSION));
    assert_eq!(page.console(), Vec::<String>::new());
}

#[tokio::test]
async fn the_publish_page_restarts_ice_and_media_goes_on() {
    let (browser, door, at) = set_up().await;
    let query = "source=testcard&autostart=1&width=320&height=180&fps=15";
    let page = browser
        .open(&format!("{at}/publish/a?{query}"))
        .await
        .unwrap();
    page.wait_for("fanmill.state === 'connected'", LIMIT)
        .await
        .unwrap();
    let ufrag = "fanmill.pc.localDescription.sdp.match(/a=ice-ufrag:(.*)/)[1]";
    let before = page.evaluate(ufrag).await.unwrap();
    page.evaluate("fanmill.session.restart()").await.unwrap();

    let restart = &door
        .requests("a restart", |r| r.header("if-match") == "*")
        .await[0];
    let after = page.evaluate(ufrag).await.unwrap();
    assert_ne!(before, after);
    assert!(
        restart
            .body
            .contains(&format!("a=ice-ufrag:{}\r\n", after.as_str().unwrap()))
    );
    // RFC 9725 4.3.3: the new generation has a new entity tag.
    let next = door
        .requests("new candidates", |r| r.header("if-match") == "\"2\"")
        .await;
    assert!(
        next[0]
            .body
            .contains(&format!("a=ice-ufrag:{}\r\n", after.as_str().unwrap()))
    );

    let peer = door.peer.get().unwrap();
    let frames = decoded(peer).await;
    peer.wait_for(
        &format!("decoded().then((now) => now > {frames} + 15)"),
        LIMIT,
    )
    .await
    .unwrap();
    let posts = door
        .requests("the offer", |r| r.method == Method::POST)
        .await;
    assert_eq!(posts.len(), 1, "the session was kept");
    assert_eq!(page.evaluate("fanmill.state").await.unwrap(), "connected");
}

#[tokio::test]
async fn the_watch_page_speaks_whep_and_ends_its_session_when_it_is_closed() {
    let (browser, door, at) = set_up().await;
    let page = browser
        .open(&format!("{at}/watch/a?stats=1"))
        .await
        .unwrap();
    page.wait_for("fanmill.state === 'playing'", LIMIT)
        .await
        .unwrap();
    let offer = &door
        .requests("the offer", |r| r.method == Method::POST)
        .await[0];
    assert_eq!(offer.path, "/whep/a");
    assert!(offer.body.contains("a=recvonly") && !offer.body.contains("a=sendonly"));

    page.evaluate("document.getElementById('mute').click()")
        .await
        .unwrap();
    let heard = "fanmill.stats().then((s) => s.totalAudioEnergy > 0.0001 && s.currentTime > 1)";
    page.wait_for(heard, LIMIT).await.unwrap();
    page.wait_for("fanmill.delay_ms() !== null", LIMIT)
        .await
        .unwrap();
    let picture = page
        .picture("document.getElementById('video')")
        .await
        .unwrap();
    assert!(
        picture.variance() > 1000.0,
        "the picture is flat: {}",
        picture.variance()
    );
    fanmill_tests::browser::keep_screenshot("watch", &page.screenshot().await.unwrap()).unwrap();
    assert_eq!(page.console(), Vec::<String>::new());

    page.close().await.unwrap();
    let ends = door
        .requests("the end", |r| r.method == Method::DELETE)
        .await;
    assert_eq!((ends.len(), ends[0].path.as_str()), (1, SESSION));
}

#[tokio::test]
async fn the_watch_page_says_so_when_the_media_stops_and_goes_on_when_it_returns() {
    let (browser, door, at) = set_up().await;
    let page = browser.open(&format!("{at}/watch/a")).await.unwrap();
    page.wait_for("fanmill.state === 'playing'", LIMIT)
        .await
        .unwrap();
    let peer = door.peer.get().unwrap();
    let pause = |active: bool| {
        format!(
            "Promise.all(pc.getSenders().map((sender) => {{
               const parameters = sender.getParameters();
               parameters.encodings.forEach((encoding) => (encoding.active = {active}));
               return sender.setParameters(parameters);
             }}))"
        )
    };
    peer.evaluate(&pause(false)).await.unwrap();
    page.wait_for("fanmill.text.includes('publisher is gone')", LIMIT)
        .await
        .unwrap();
    peer.evaluate(&pause(true)).await.unwrap();
    page.wait_for("fanmill.state === 'playing'", LIMIT)
        .await
        .unwrap();
}
