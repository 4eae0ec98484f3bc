//! What viewers see when a publisher is in trouble: its backup takes over, it leaves and returns, it
//! changes the size of its picture. They keep their connections, and none is negotiated anew.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Instant;

use fanmill_tests::scene::{FPS, LIMIT, plays, publish_sized, session, watch, watched};
use fanmill_tests::{Browser, Page, Server};

/// The primary publisher's picture, and the backup's, which is another scene by its size.
const SCENE_A: (u32, u32) = (640, 360);
const SCENE_B: (u32, u32) = (320, 180);

/// Notes for each frame shown when that was and how wide it is, and every negotiation.
const NOTES: &str = "(() => {
    window.frames_shown = [];
    window.negotiations = 0;
    const video = document.getElementById('video');
    const note = (now) => {
        window.frames_shown.push([now, video.videoWidth]);
        video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
    fanmill.pc.addEventListener('signalingstatechange', () => window.negotiations += 1);
})()";

/// A second publisher of a stream, for when the first is lost.
async fn publish_backup(browser: &Browser, at: &Server, stream: &str) -> Page {
    let (width, height) = SCENE_B;
    let size = format!("width={width}&height={height}&fps={FPS}");
    let path =
        format!("/publish/{stream}?role=backup&source=testcard&codec=VP8&{size}&autostart=1");
    let page = browser.open(&at.url(&path)).await.unwrap();
    page.wait_for("fanmill.state === 'connected'", LIMIT)
        .await
        .unwrap();
    page
}

/// Waits until the page shows a picture of this size.
async fn shows(page: &Page, (width, _): (u32, u32)) {
    let script = format!("document.getElementById('video').videoWidth === {width}");
    page.wait_for(&script, LIMIT).await.unwrap();
}

/// The longest time in milliseconds between two frames of different sizes.
async fn freeze_ms(page: &Page) -> f64 {
    let script = "frames_shown.slice(1).reduce((most, [at, width], i) =>
        width === frames_shown[i][1] ? most : Math.max(most, at - frames_shown[i][0]), 0)";
    page.evaluate(script).await.unwrap().as_f64().unwrap()
}

/// Checks that the viewer has the session it had, without a new negotiation.
async fn kept(viewer: &Page, before: &str) {
    assert_eq!(session(viewer).await.unwrap(), before);
    assert_eq!(viewer.evaluate("negotiations").await.unwrap(), 0);
    assert_eq!(viewer.console(), Vec::<String>::new());
}

struct Stage {
    server: Server,
    primary: Browser,
    _pages: [Page; 2],
    _browsers: [Browser; 2],
    viewer: Page,
    session: String,
}

/// A primary that plays to a viewer, and a backup, each in a browser of its own.
async fn stage() -> Stage {
    let server = Server::start().await.unwrap();
    let [primary, backup, watching] = [
        Browser::start().await.unwrap(),
        Browser::start().await.unwrap(),
        Browser::start().await.unwrap(),
    ];
    let main = publish_sized(&primary, &server, "main", "VP8", SCENE_A);
    let main = main.await.unwrap();
    let spare = publish_backup(&backup, &server, "main").await;
    let viewer = watch(&watching, &server, "main").await.unwrap();
    let seen = plays(&viewer, 3).await.unwrap();
    assert_eq!(seen.frame_width, SCENE_A.0);
    viewer.evaluate(NOTES).await.unwrap();
    let noted = "frames_shown.length > 0";
    viewer.wait_for(noted, LIMIT).await.unwrap();
    let session = session(&viewer).await.unwrap();
    Stage {
        server,
        primary,
        _pages: [main, spare],
        _browsers: [backup, watching],
        viewer,
        session,
    }
}

/// Who is on air.
async fn on_air(server: &Server) -> String {
    let stream = server.stream("main").await.unwrap();
    let publishers = stream["publishers"].as_array().unwrap();
    let on_air = publishers.iter().find(|one| one["on_air"] == true);
    on_air.unwrap()["role"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn viewers_see_the_backup_when_the_publisher_is_killed() {
    let stage = stage().await;
    assert_eq!(on_air(&stage.server).await, "primary");
    let killed = Instant::now();
    stage.primary.kill();
    shows(&stage.viewer, SCENE_B).await;
    let noticed_ms = killed.elapsed().as_millis();
    assert_eq!(on_air(&stage.server).await, "backup");
    let seen = plays(&stage.viewer, 3).await.unwrap();
    assert_eq!(seen.frame_width, SCENE_B.0);
    assert_eq!(seen.packets_lost, 0, "no number is missing: {seen:?}");
    let freeze = freeze_ms(&stage.viewer).await;
    println!("killed: another scene after {noticed_ms} ms, {freeze:.0} ms between the two frames");
    kept(&stage.viewer, &stage.session).await;
}

#[tokio::test]
async fn viewers_see_the_backup_while_the_publisher_is_frozen_and_the_publisher_after_that() {
    let stage = stage().await;
    let frozen = Instant::now();
    stage.primary.freeze();
    shows(&stage.viewer, SCENE_B).await;
    let noticed_ms = frozen.elapsed().as_millis();
    plays(&stage.viewer, 2).await.unwrap();
    let away = freeze_ms(&stage.viewer).await;
    assert_eq!(on_air(&stage.server).await, "backup");

    stage.viewer.evaluate("frames_shown = []").await.unwrap();
    stage.primary.thaw();
    shows(&stage.viewer, SCENE_A).await;
    assert_eq!(on_air(&stage.server).await, "primary");
    let seen = plays(&stage.viewer, 3).await.unwrap();
    assert_eq!(seen.frame_width, SCENE_A.0);
    assert_eq!(seen.packets_lost, 0, "no number is missing: {seen:?}");
    let back = freeze_ms(&stage.viewer).await;
    println!(
        "frozen: another scene after {noticed_ms} ms, {away:.0} ms between the two frames, {back:.0} ms on the way back"
    );
    kept(&stage.viewer, &stage.session).await;
}

#[tokio::test]
async fn viewers_follow_a_publisher_that_changes_its_resolution() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = publish_sized(&browser, &server, "main", "VP8", SCENE_A);
    let publisher = publisher.await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    plays(&viewer, 2).await.unwrap();
    viewer.evaluate(NOTES).await.unwrap();
    let before = session(&viewer).await.unwrap();
    let scale = |by: u32| {
        format!(
            "(() => {{
                const video = fanmill.pc.getSenders().find((sender) => sender.track.kind === 'video');
                const parameters = video.getParameters();
                parameters.encodings[0].scaleResolutionDownBy = {by};
                return video.setParameters(parameters);
            }})()"
        )
    };
    for (by, size) in [(2, SCENE_B), (1, SCENE_A)] {
        publisher.evaluate(&scale(by)).await.unwrap();
        shows(&viewer, size).await;
        let seen = plays(&viewer, 2).await.unwrap();
        assert_eq!((seen.frame_width, seen.packets_lost), (size.0, 0));
    }
    // It is told how large the picture is now, within the second in which that is counted.
    let told = async || {
        let stream = server.stream("main").await?;
        Ok(stream["tracks"]
            .as_array()
            .unwrap()
            .iter()
            .any(|track| track["width"] == SCENE_A.0))
    };
    fanmill_tests::wait::until("the new size", LIMIT, told, |&told| told)
        .await
        .unwrap();
    kept(&viewer, &before).await;
}

#[tokio::test]
async fn a_viewer_keeps_its_last_frame_while_nobody_publishes() {
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let publisher = publish_sized(&browser, &server, "main", "VP8", SCENE_A);
    let publisher = publisher.await.unwrap();
    let viewer = watch(&browser, &server, "main").await.unwrap();
    plays(&viewer, 2).await.unwrap();
    viewer.evaluate(NOTES).await.unwrap();
    let before = session(&viewer).await.unwrap();
    publisher.close().await.unwrap();
    let gone = "fanmill.text.includes('publisher is gone')";
    viewer.wait_for(gone, LIMIT).await.unwrap();
    let last = fanmill_tests::scene::picture(&viewer).await.unwrap();
    assert!(last.variance() > 1000.0, "the last frame is shown");
    let received = watched(&viewer).await.unwrap().packets_received;

    let publisher = publish_sized(&browser, &server, "main", "VP8", SCENE_B);
    let _publisher = publisher.await.unwrap();
    shows(&viewer, SCENE_B).await;
    let seen = plays(&viewer, 2).await.unwrap();
    assert!(seen.packets_received > received);
    assert_eq!(seen.packets_lost, 0, "no number is missing: {seen:?}");
    kept(&viewer, &before).await;
}
