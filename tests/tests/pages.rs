//! The pages without the media server: how they are served, that the test card moves and sounds,
//! and what they say when a server refuses.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use fanmill_tests::browser::keep_screenshot;
use fanmill_tests::picture::Picture;
use fanmill_tests::{Browser, wait};
use reqwest::Client;

const LIMIT: Duration = Duration::from_secs(20);

const STREAMS: &str = r#"[
  {"name": "main-stage", "live": true, "viewers": 1284, "uptime_s": 4521, "tracks": [
    {"kind": "audio", "codec": "opus", "bitrate_bps": 64000},
    {"kind": "video", "codec": "VP8", "bitrate_bps": 2480000, "width": 1280, "height": 720}]},
  {"name": "<b>lobby</b>", "live": false, "viewers": 1, "uptime_s": 0, "tracks": []}
]"#;

/// The stream above comes from an encoder.
const INGESTS: &str = r#"[
  {"id": 1, "stream": "main-stage", "source": "rtmp", "remote": "192.0.2.7:50112", "tracks": [
    {"kind": "video", "codec": "H264", "lost": 3, "dropped": 0},
    {"kind": "audio", "codec": "AAC", "lost": 1, "dropped": 0}],
   "drift_ppm": 87.4, "warnings": ["the video has <B>-frames"]}
]"#;

const ROOMS: &str = r#"[
  {"room": "kitchen", "members": 3, "viewers": 2, "speaker": "<b>ann</b>", "uptime_s": 7}
]"#;

/// Serves the pages on a free port, with these further routes; returns the address.
async fn serve(more: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = fanmill_control::web::router().merge(more);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn streams(json: &'static str) -> Router {
    Router::new()
        .route("/api/streams", get(move || async move { json }))
        .route("/api/recorders", get(|| async { "[]" }))
        .route("/api/rooms", get(|| async { ROOMS }))
        .route("/api/ingests", get(|| async { INGESTS }))
        .route(
            "/{stream}/thumbnail.jpg",
            get(|| async { [("content-type", "image/svg+xml")] }),
        )
}

fn refuse(status: u16, text: &'static str) -> Router {
    let answer = post(move || async move { (StatusCode::from_u16(status).unwrap(), text) });
    Router::new()
        .route("/whip/{stream}", answer.clone())
        .route("/whep/{stream}", answer)
}

#[tokio::test]
async fn pages_are_served_with_types_tags_and_a_policy() {
    let at = serve(Router::new()).await;
    let client = Client::new();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/publish/a.b", "text/html; charset=utf-8"),
        ("/watch/a.b", "text/html; charset=utf-8"),
        ("/room/a.b", "text/html; charset=utf-8"),
        ("/assets/webrtc.js", "text/javascript; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
    ] {
        let first = client.get(format!("{at}{path}")).send().await.unwrap();
        assert_eq!(first.status(), 200, "{path}");
        let headers = first.headers().clone();
        assert_eq!(headers["content-type"], kind, "{path}");
        assert!(
            headers["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'none'")
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert!(!first.bytes().await.unwrap().is_empty(), "{path}");

        let held = client
            .get(format!("{at}{path}"))
            .header("if-none-match", &headers["etag"]);
        let held = held.send().await.unwrap();
        assert_eq!(held.status(), 304, "{path}");
        assert!(held.bytes().await.unwrap().is_empty());

        let head = client.head(format!("{at}{path}")).send().await.unwrap();
        assert_eq!(
            (head.status().as_u16(), &head.headers()["etag"]),
            (200, &headers["etag"])
        );
    }
    for path in [
        "/assets/",
        "/assets/none.js",
        "/assets/../Cargo.toml",
        "/publish/",
        "/watch/a/b",
    ] {
        assert_eq!(
            client
                .get(format!("{at}{path}"))
                .send()
                .await
                .unwrap()
                .status(),
            404,
            "{path}"
        );
    }
    assert_eq!(
        client.post(format!("{at}/")).send().await.unwrap().status(),
        405
    );
}

#[tokio::test]
async fn the_front_page_lists_streams_and_keeps_names_as_text() {
    let at = serve(streams(STREAMS)).await;
    let browser = Browser::start().await.unwrap();
    let page = browser.open(&at).await.unwrap();
    page.wait_for(
        "document.querySelectorAll('#streams li').length === 2",
        LIMIT,
    )
    .await
    .unwrap();
    let text = page
        .evaluate("document.getElementById('streams').innerText")
        .await
        .unwrap();
    let text = text.as_str().unwrap();
    for expected in [
        "main-stage",
        "1284 viewers",
        "1280×720",
        "2.5 Mbit/s",
        "<b>lobby</b>",
        "by RTMP from 192.0.2.7:50112 · 4 packets lost · clock 87 ppm",
        "the video has <B>-frames",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    let rooms = page
        .evaluate("document.getElementById('rooms').innerText")
        .await
        .unwrap();
    let rooms = rooms.as_str().unwrap();
    assert!(
        rooms.contains("kitchen") && rooms.contains("3 members · <b>ann</b> speaks"),
        "{rooms}"
    );
    page.evaluate("document.getElementById('name').value = 'my-show'")
        .await
        .unwrap();
    keep_screenshot("index-light", &page.screenshot().await.unwrap()).unwrap();
    page.prefer_dark(true).await.unwrap();
    keep_screenshot("index-dark", &page.screenshot().await.unwrap()).unwrap();
    page.resize(380, 700).await.unwrap();
    keep_screenshot("index-narrow", &page.screenshot().await.unwrap()).unwrap();
    assert_eq!(page.console(), Vec::<String>::new());
    page.evaluate("document.querySelector('button[value=publish]').click()")
        .await
        .unwrap();
    page.wait_for("location.pathname === '/publish/my-show'", LIMIT)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_front_page_says_when_the_list_is_out_of_date() {
    let down = get(|| async { StatusCode::SERVICE_UNAVAILABLE });
    let at = serve(Router::new().route("/api/streams", down)).await;
    let browser = Browser::start().await.unwrap();
    let page = browser.open(&at).await.unwrap();
    let note = "document.getElementById('note').textContent";
    page.wait_for(&format!("{note}.includes('not up to date')"), LIMIT)
        .await
        .unwrap();
    let text = page.evaluate(note).await.unwrap();
    assert!(
        text.as_str().unwrap().contains("full or shutting down"),
        "{text}"
    );
}

#[tokio::test]
async fn the_publish_page_says_why_the_server_refused_and_can_start_again() {
    let at = serve(refuse(409, "main is taken")).await;
    let browser = Browser::start().await.unwrap();
    let url = format!("{at}/publish/main?source=testcard&autostart=1&width=640&height=360&fps=15");
    let page = browser.open(&url).await.unwrap();
    page.wait_for("fanmill.state === 'failed'", LIMIT)
        .await
        .unwrap();
    let text = page
        .evaluate("document.getElementById('status').textContent")
        .await
        .unwrap();
    let text = text.as_str().unwrap();
    assert!(
        text.contains("already publishing") && text.contains("main is taken"),
        "{text}"
    );
    assert_eq!(
        page.evaluate("document.getElementById('toggle').textContent")
            .await
            .unwrap(),
        "Start"
    );
    assert_eq!(
        page.evaluate("document.getElementById('choices').disabled")
            .await
            .unwrap(),
        false
    );
    // And how encoders do it, unless the name would put words into a line for a shell.
    let lines = "[...document.querySelectorAll('#encoders input')].map((field) => field.value)";
    let first = page.evaluate(&format!("{lines}[0]")).await.unwrap();
    let first = first.as_str().unwrap();
    assert!(
        first.ends_with("-f flv rtmp://127.0.0.1/live/main"),
        "{first}"
    );
    let other = browser.open(&format!("{at}/publish/a;ls")).await.unwrap();
    assert_eq!(other.evaluate(&format!("{lines}.length")).await.unwrap(), 0);
    keep_screenshot("publish-refused", &page.screenshot().await.unwrap()).unwrap();
}

#[tokio::test]
async fn the_watch_page_waits_for_a_stream_that_has_not_begun() {
    let at = serve(refuse(404, "")).await;
    let browser = Browser::start().await.unwrap();
    let page = browser.open(&format!("{at}/watch/main")).await.unwrap();
    page.wait_for("fanmill.state === 'waiting'", LIMIT)
        .await
        .unwrap();
    let text = page
        .evaluate("document.getElementById('status').textContent")
        .await
        .unwrap();
    assert!(text.as_str().unwrap().contains("has not begun"), "{text}");
    keep_screenshot("watch-waiting", &page.screenshot().await.unwrap()).unwrap();
}

#[tokio::test]
async fn the_watch_page_tries_again_after_a_failure_that_may_pass() {
    let at = serve(refuse(503, "")).await;
    let browser = Browser::start().await.unwrap();
    let page = browser.open(&format!("{at}/watch/main")).await.unwrap();
    page.wait_for("fanmill.state === 'retrying'", LIMIT)
        .await
        .unwrap();
    let text = page.evaluate("fanmill.text").await.unwrap();
    assert!(text.as_str().unwrap().contains("Trying again in"), "{text}");
    let first = page
        .evaluate("performance.getEntriesByType('resource').length")
        .await
        .unwrap();
    let more = format!("performance.getEntriesByType('resource').length > {first}");
    page.wait_for(&more, LIMIT).await.unwrap();
}

/// Sends the test card from one connection of a page to another, and looks at what arrives.
#[tokio::test]
async fn the_test_card_moves_sounds_and_carries_its_clock() {
    let at = serve(streams("[]")).await;
    let browser = Browser::start().await.unwrap();
    let page = browser.open(&at).await.unwrap();
    let script = "(async () => {
      const { TestCard, readDelay } = await import('/assets/testcard.js');
      const { receivingStats } = await import('/assets/stats.js');
      const card = new TestCard(640, 360, 30);
      const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
      from.onicecandidate = (e) => to.addIceCandidate(e.candidate);
      to.onicecandidate = (e) => from.addIceCandidate(e.candidate);
      const video = document.createElement('video');
      video.srcObject = new MediaStream();
      to.ontrack = (e) => (video.srcObject.addTrack(e.track), video.play());
      card.stream.getTracks().forEach((track) => from.addTrack(track, card.stream));
      await from.setLocalDescription();
      await to.setRemoteDescription(from.localDescription);
      await to.setLocalDescription();
      await from.setRemoteDescription(to.localDescription);
      const scratch = document.createElement('canvas');
      window.loop = {
        card, video, stats: () => receivingStats(to), delay: () => readDelay(video, scratch),
      };
    })()";
    page.evaluate(script).await.unwrap();
    let energetic = "loop.stats().then((s) => s.framesDecoded > 30 && s.totalAudioEnergy > 0.0005)";
    page.wait_for(energetic, LIMIT).await.unwrap();

    let first = page.picture("loop.video").await.unwrap();
    assert!(
        first.variance() > 1000.0,
        "the picture is flat: {}",
        first.variance()
    );
    let probe = async || Ok(page.picture("loop.video").await?.changed_pixels(&first));
    wait::until("the picture to move", LIMIT, probe, |&changed| changed > 20)
        .await
        .unwrap();

    page.wait_for("loop.delay() !== null", LIMIT).await.unwrap();
    page.evaluate("document.body.replaceChildren(loop.video)")
        .await
        .unwrap();
    let image = page.screenshot().await.unwrap();
    keep_screenshot("testcard", &image).unwrap();
    assert!(Picture::from_png(&image).unwrap().variance() > 1000.0);
}
