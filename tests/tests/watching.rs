//! The watch page: what it says of the stream and of its connection, and how it helps itself.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use fanmill_tests::browser::{BrowserOptions, Page, keep_screenshot};
use fanmill_tests::clients::console::Console;
use fanmill_tests::scene::{LIMIT, plays, publish, publish_sized, session, watch, watched};
use fanmill_tests::{Browser, Namespace, Server, ServerOptions};
use serde_json::json;

const SMALL: (u32, u32) = (320, 180);

async fn says(page: &Page, state: &str, text: &str) {
    let so = format!(
        "fanmill.state === '{state}' &&
         document.getElementById('status').textContent.includes('{text}')"
    );
    page.wait_for(&so, LIMIT).await.unwrap();
}

async fn counts(page: &Page, viewers: &str) {
    let so = format!("document.getElementById('viewers').textContent === '{viewers}'");
    page.wait_for(&so, LIMIT).await.unwrap();
}

/// A page that is loaded again loses the mark.
async fn mark(page: &Page) {
    page.evaluate("window.marked = true").await.unwrap();
}

async fn is_marked(page: &Page) -> bool {
    page.evaluate("window.marked === true").await.unwrap() == true
}

#[tokio::test]
async fn a_viewer_sees_whether_somebody_publishes_and_how_many_watch() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    says(&viewer, "waiting", "has not begun").await;
    counts(&viewer, "1 viewer").await;
    let publisher = publish_sized(&browser, &server, "main", "VP8", SMALL);
    let publisher = publisher.await.unwrap();
    plays(&viewer, 1).await.unwrap();
    says(&viewer, "playing", "").await;
    let second = watch(&browser, &server, "main").await.unwrap();
    counts(&viewer, "2 viewers").await;
    counts(&second, "2 viewers").await;
    keep_screenshot("watch-counted", &viewer.screenshot().await.unwrap()).unwrap();

    // The server is asked nothing meanwhile.
    let requests = "performance.getEntriesByType('resource').length";
    let before = viewer.evaluate(requests).await.unwrap();
    plays(&viewer, 5).await.unwrap();
    assert_eq!(viewer.evaluate(requests).await.unwrap(), before);

    second.close().await.unwrap();
    counts(&viewer, "1 viewer").await;
    publisher.close().await.unwrap();
    says(&viewer, "waiting", "publisher is gone").await;
    let publisher = publish_sized(&browser, &server, "main", "VP8", SMALL);
    let _publisher = publisher.await.unwrap();
    plays(&viewer, 1).await.unwrap();
    assert_eq!(viewer.console(), Vec::<String>::new());
}

#[tokio::test]
async fn many_pages_of_one_browser_leave_connections_for_each_other() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let mut viewers = Vec::new();
    // A browser has six connections to a server.
    for _ in 0..8 {
        let viewer = watch(&browser, &server, "main").await.unwrap();
        says(&viewer, "waiting", "has not begun").await;
        viewers.push(viewer);
    }
    counts(&viewers[0], "8 viewers").await;
    let reading = "fanmill.viewers !== null";
    assert_eq!(viewers[7].evaluate(reading).await.unwrap(), false);
    // Whoever goes makes place for another.
    for viewer in viewers.drain(..5) {
        viewer.close().await.unwrap();
    }
    for viewer in &viewers {
        counts(viewer, "3 viewers").await;
    }
}

#[tokio::test]
async fn a_viewer_whose_network_fails_says_so_and_plays_again_by_itself() {
    let namespace = Namespace::new().unwrap();
    let options = ServerOptions {
        ip: namespace.host().into(),
        ..ServerOptions::default()
    };
    let server = Server::start_with(options).await.unwrap();
    let here = Browser::start().await.unwrap();
    let options = BrowserOptions {
        namespace: Some(&namespace),
        flags: &[],
    };
    let there = Browser::start_with(options).await.unwrap();
    let publisher = publish_sized(&here, &server, "main", "VP8", SMALL);
    let _publisher = publisher.await.unwrap();
    let viewer = watch(&there, &server, "main").await.unwrap();
    plays(&viewer, 2).await.unwrap();
    counts(&viewer, "1 viewer").await;
    mark(&viewer).await;

    // For a moment: the session goes on.
    let before = session(&viewer).await.unwrap();
    namespace.disconnect().unwrap();
    says(&viewer, "restoring", "interrupted; restoring it").await;
    keep_screenshot("watch-restoring", &viewer.screenshot().await.unwrap()).unwrap();
    namespace.reconnect().unwrap();
    plays(&viewer, 2).await.unwrap();
    assert_eq!(session(&viewer).await.unwrap(), before);
    counts(&viewer, "1 viewer").await;

    // For long: a new one is made.
    namespace.disconnect().unwrap();
    says(&viewer, "restoring", "interrupted; restoring it").await;
    says(&viewer, "retrying", "Trying again in").await;
    keep_screenshot("watch-retrying", &viewer.screenshot().await.unwrap()).unwrap();
    namespace.reconnect().unwrap();
    plays(&viewer, 2).await.unwrap();
    assert_ne!(session(&viewer).await.unwrap(), before);
    counts(&viewer, "1 viewer").await;
    assert!(is_marked(&viewer).await, "it was not loaded again");
}

#[tokio::test]
async fn pages_go_on_by_themselves_when_the_server_is_started_again() {
    let mut server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = publish_sized(&browser, &server, "main", "VP8", SMALL);
    let publisher = publisher.await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    plays(&viewer, 1).await.unwrap();
    for page in [&viewer, &publisher] {
        mark(page).await;
    }

    // It says goodbye, so the pages know at once.
    assert!(server.halt().await.unwrap().success());
    for page in [&viewer, &publisher] {
        says(page, "retrying", "server").await;
        says(page, "retrying", "cannot be reached").await;
    }
    server.resume().await.unwrap();
    plays(&viewer, 2).await.unwrap();
    counts(&viewer, "1 viewer").await;

    // It does not, so they must notice.
    server.crash().await.unwrap();
    for page in [&viewer, &publisher] {
        says(page, "retrying", "").await;
        says(page, "retrying", "cannot be reached").await;
    }
    server.resume().await.unwrap();
    plays(&viewer, 2).await.unwrap();
    counts(&viewer, "1 viewer").await;
    for page in [&viewer, &publisher] {
        assert!(is_marked(page).await, "it was not loaded again");
    }
}

#[tokio::test]
async fn a_stream_of_sound_alone_is_heard() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = Console::open(&browser, &server).await.unwrap();
    let options = json!({ "kinds": ["audio"] });
    let url = server.url("/whip/main");
    publisher.publish(&url, &options).await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    says(&viewer, "playing", "no picture; press Unmute to hear it").await;
    viewer
        .evaluate("document.getElementById('mute').click()")
        .await
        .unwrap();
    says(&viewer, "playing", "only sound").await;
    // The element plays what the statistics count, and is not muted.
    let before = watched(&viewer).await.unwrap().total_audio_energy;
    let heard = format!(
        "fanmill.stats().then((s) => s.totalAudioEnergy > {before} + 1e-4) &&
         (({{ muted, paused, currentTime }}) => !muted && !paused && currentTime > 1)(
           document.getElementById('sound'))"
    );
    viewer.wait_for(&heard, LIMIT).await.unwrap();
    keep_screenshot("watch-sound", &viewer.screenshot().await.unwrap()).unwrap();
}

#[tokio::test]
async fn a_stream_of_pictures_alone_is_seen() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = Console::open(&browser, &server).await.unwrap();
    let options = json!({ "kinds": ["video"] });
    let url = server.url("/whip/main");
    publisher.publish(&url, &options).await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    says(&viewer, "playing", "").await;
    let moves = "document.getElementById('video').currentTime > 1";
    viewer.wait_for(moves, LIMIT).await.unwrap();
    assert!(watched(&viewer).await.unwrap().frames_decoded > 0);
}

async fn all_spatial_layers_are_shown(codec: &str, mode: &str) {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = Console::open(&browser, &server).await.unwrap();
    let options = json!({
        "codec": codec,
        "size": [960, 540],
        "encodings": [{ "scalabilityMode": mode, "maxBitrate": 1_200_000 }],
    });
    let url = server.url("/whip/main");
    publisher.publish(&url, &options).await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    let whole = "fanmill.stats().then((s) => s.frameWidth === 960 && s.frameHeight === 540)";
    viewer.wait_for(whole, LIMIT).await.unwrap();
    let seen = plays(&viewer, 3).await.unwrap();
    assert_eq!(seen.codec.as_deref(), Some(codec));
    // The menu has three sizes at three rates, and the best.
    let menu = "document.getElementById('quality')";
    let listed = format!("!{menu}.hidden && {menu}.options.length === 10");
    viewer.wait_for(&listed, LIMIT).await.unwrap();
    for (choice, width) in [("1/2", 480), ("0/2", 240)] {
        let choose =
            format!("{menu}.value = '{choice}'; {menu}.dispatchEvent(new Event('change'))");
        viewer.evaluate(&choose).await.unwrap();
        let chosen = format!("document.getElementById('video').videoWidth === {width}");
        viewer.wait_for(&chosen, LIMIT).await.unwrap();
    }
}

#[tokio::test]
async fn all_spatial_layers_of_av1_are_shown() {
    all_spatial_layers_are_shown("AV1", "L3T3").await;
}

#[tokio::test]
async fn all_spatial_layers_of_av1_with_key_pictures_of_their_own_are_shown() {
    all_spatial_layers_are_shown("AV1", "L3T3_KEY").await;
}

#[tokio::test]
async fn all_spatial_layers_of_vp9_are_shown() {
    all_spatial_layers_are_shown("VP9", "L3T3").await;
}

#[tokio::test]
async fn a_picture_that_the_browser_cannot_decode_is_told_of() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = Console::open(&browser, &server).await.unwrap();
    let options = json!({
        "codec": "AV1",
        "size": [960, 540],
        "encodings": [{ "scalabilityMode": "L3T3_KEY", "maxBitrate": 1_200_000 }],
    });
    let url = server.url("/whip/main");
    publisher.publish(&url, &options).await.unwrap();
    // A browser that cannot be told to receive the dependency descriptor.
    let viewer = browser.blank().await.unwrap();
    let script = "delete RTCRtpTransceiver.prototype.getHeaderExtensionsToNegotiate";
    viewer.before_load(script).await.unwrap();
    viewer.goto(&server.url("/watch/main")).await.unwrap();
    says(&viewer, "waiting", "cannot decode the picture that comes").await;
}

#[tokio::test]
async fn the_delay_from_glass_to_glass_is_shown_as_the_test_card_has_it() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let _publisher = publish(&browser, &server, "main", "VP8").await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    plays(&viewer, 3).await.unwrap();
    let row = "[...document.querySelectorAll('#stats div')].some((row) =>
        /^Delay, glass to glass[0-9]+ ms$/.test(row.textContent))";
    viewer.wait_for(row, LIMIT).await.unwrap();
    // What the page says without looking at the picture is what is seen in it, also when the
    // browser is told to hold it back. A machine with too much to do shows pictures late, so one
    // reading may be off.
    for target_ms in [0, 600] {
        let agree = format!(
            "(async () => {{
               const {{ readDelay }} = await import('/assets/testcard.js');
               const {{ capturedDelay_ms, playedDelay_ms }} = await import('/assets/delay.js');
               for (const receiver of fanmill.pc.getReceivers()) {{
                 receiver.jitterBufferTarget = {target_ms};
               }}
               const scratch = document.createElement('canvas');
               const card_ms = readDelay(document.getElementById('video'), scratch);
               const captured_ms = capturedDelay_ms(fanmill.pc);
               const played_ms = playedDelay_ms(await fanmill.stats());
               const near = (ms) => ms !== null && Math.abs(card_ms - ms) < 150;
               window.delays = {{ card_ms, captured_ms, played_ms }};
               return card_ms !== null && card_ms >= {target_ms} / 2 && near(captured_ms)
                 && near(played_ms);
             }})()"
        );
        let agreed = viewer.wait_for(&agree, LIMIT).await;
        let delays = viewer.evaluate("delays").await.unwrap();
        agreed.unwrap_or_else(|error| panic!("{delays}: {error:#}"));
    }
}
