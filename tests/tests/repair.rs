//! What browsers make of what the server says and leaves out: playout delays and redundant audio.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use fanmill_tests::browser::Page;
use fanmill_tests::scene::{FPS, LIMIT, plays, publish, watch};
use fanmill_tests::{Browser, Server, ServerOptions, wait};
use serde_json::json;

/// What a page's connection counts of what it receives of a kind.
async fn received(page: &Page, kind: &str, name: &str) -> f64 {
    let script = format!(
        "fanmill.pc.getStats().then((stats) => {{\
           for (const one of stats.values())\
             if (one.type === 'inbound-rtp' && one.kind === '{kind}') return one.{name} ?? 0;\
           return 0; }})"
    );
    page.evaluate(&script).await.unwrap().as_f64().unwrap()
}

/// How long the frames of the next second are kept in the jitter buffer, in milliseconds.
async fn buffered_ms(page: &Page) -> f64 {
    let counts = async || {
        let delay_s = received(page, "video", "jitterBufferDelay").await;
        (
            delay_s,
            received(page, "video", "jitterBufferEmittedCount").await,
        )
    };
    let (delay_s, frames) = counts().await;
    let second = f64::from(FPS);
    let (later_s, later_frames) = wait::until(
        "a second of frames",
        LIMIT,
        async || Ok(counts().await),
        |now| now.1 >= frames + second,
    )
    .await
    .unwrap();
    (later_s - delay_s) / (later_frames - frames) * 1000.0
}

#[tokio::test]
async fn a_browser_holds_the_picture_as_long_as_the_stream_is_set_to() {
    let server = Server::start_with(ServerOptions {
        arguments: vec!["--playout-delay".into(), "ma*=700-900".into()],
        ..ServerOptions::default()
    })
    .await
    .unwrap();
    let browser = Browser::start().await.unwrap();
    let _publisher = publish(&browser, &server, "main", "VP8").await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    plays(&viewer, 1).await.unwrap();
    let held = async || Ok(buffered_ms(&viewer).await);
    let ms = wait::until("the picture to be held", LIMIT, held, |ms| *ms > 550.0).await;
    let ms = ms.unwrap();
    let get = json!({ "stream": "main" });
    let stream = server.admin("stream.get", get).await.unwrap();
    assert_eq!(stream["playout_delay"], "700-900");

    let set = json!({ "stream": "main", "playout_delay": "0-100" });
    server.admin("stream.set", set).await.unwrap();
    let shorter = wait::until("it to be held less", LIMIT, held, |now| *now < 250.0).await;
    let shorter = shorter.unwrap();
    println!("held {ms:.0} ms, then {shorter:.0} ms");
    plays(&viewer, 1).await.unwrap();
}

/// A script that lets the page's offers name audio codecs in this order, as an expression of all.
fn preferring(codecs: &str) -> String {
    format!(
        "const describe = RTCPeerConnection.prototype.setLocalDescription;\
         RTCPeerConnection.prototype.setLocalDescription = function (...given) {{\
           const all = RTCRtpReceiver.getCapabilities('audio').codecs;\
           const red = all.filter((codec) => codec.mimeType === 'audio/red');\
           const others = all.filter((codec) => codec.mimeType !== 'audio/red');\
           for (const one of this.getTransceivers())\
             if (one.receiver.track.kind === 'audio') one.setCodecPreferences({codecs});\
           return describe.apply(this, given);\
         }};"
    )
}

/// Opens a page whose offers name audio codecs in this order.
async fn open_preferring(browser: &Browser, url: &str, codecs: &str) -> Page {
    let page = browser.blank().await.unwrap();
    page.before_load(&preferring(codecs)).await.unwrap();
    page.goto(url).await.unwrap();
    page
}

#[tokio::test]
async fn redundant_audio_is_heard_by_those_who_take_it_and_by_those_who_do_not() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let path = format!(
        "/publish/main?source=testcard&codec=VP8&width=320&height=180&fps={FPS}&autostart=1"
    );
    let publisher = open_preferring(&browser, &server.url(&path), "[...red, ...others]").await;
    publisher
        .wait_for("fanmill.state === 'connected'", LIMIT)
        .await
        .unwrap();
    let taking = watch(&browser, &server, "main").await.unwrap();
    let url = server.url("/watch/main?stats=1");
    let plain = open_preferring(&browser, &url, "others").await;
    for viewer in [&taking, &plain] {
        plays(viewer, 3).await.unwrap();
    }
    // The redundant part of a packet is discarded where nothing was lost.
    let redundant = async || Ok(received(&taking, "audio", "packetsDiscarded").await);
    let count = wait::until("redundant packets", LIMIT, redundant, |count| *count > 50.0).await;
    let bytes = async |page: &Page| {
        let packets = received(page, "audio", "packetsReceived").await;
        received(page, "audio", "bytesReceived").await / packets
    };
    let (with, without) = (bytes(&taking).await, bytes(&plain).await);
    println!("{} redundant packets", count.unwrap());
    println!("{with:.0} bytes a packet with redundancy, {without:.0} without");
    assert!(with > without * 1.6, "{with} and {without} bytes");
    let plain = async |name| received(&plain, "audio", name).await;
    assert!(plain("packetsDiscarded").await < 10.0);
    let (concealed, samples) = (plain("concealedSamples"), plain("totalSamplesReceived"));
    let (concealed, samples) = (concealed.await, samples.await);
    assert!(
        concealed < samples / 4.0,
        "{concealed} of {samples} concealed"
    );
}
