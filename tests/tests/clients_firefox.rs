//! Firefox publishes and watches through the server's own pages, in a namespace of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fanmill_tests::clients::firefox::Firefox;
use fanmill_tests::clients::{Stage, node};
use fanmill_tests::{Browser, Namespace, scene, wait};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(40);
const SECONDS: u32 = 5;

/// Publishes by the page and waits until video of the codec comes in.
async fn publish(firefox: &mut Firefox, stage: &Stage, source: &str, codec: &str) -> Result<()> {
    let size = "width=640&height=360&fps=30";
    let query = format!("?source={source}&codec={codec}&{size}&autostart=1");
    firefox.goto(&stage.page("/publish", &query)).await?;
    firefox
        .wait_for("fanmill.state", LIMIT, |state| state == "connected")
        .await
        .with_context(|| stage.log())?;
    let probe = async || stage.server().stream("stage").await;
    let coming = |stream: &Value| {
        let tracks = stream["tracks"].as_array();
        tracks.is_some_and(|tracks| tracks.iter().any(|track| track["codec"] == codec))
    };
    wait::until("video", LIMIT, probe, coming).await.map(drop)
}

#[tokio::test]
async fn libwebrtc_watches_firefox_publish() -> Result<()> {
    let namespace = Namespace::new()?;
    let stage = Stage::facing(&namespace).await?;
    let mut firefox = Firefox::start(Some(&namespace)).await?;
    // Its fake camera hardly moves but comes with sound; its test card moves, but on a machine
    // without a sound card Firefox runs no oscillator.
    publish(&mut firefox, &stage, "camera", "VP8").await?;
    let seen = node::libwebrtc_watch(&stage.whep(), SECONDS).await?;
    seen.check_sound(SECONDS)?;
    for codec in ["VP8", "VP9", "AV1"] {
        publish(&mut firefox, &stage, "testcard", codec).await?;
        let seen = node::libwebrtc_watch(&stage.whep(), SECONDS).await?;
        // It may not have risen to the full size yet.
        seen.check_picture(SECONDS, seen.width, seen.width * 9 / 16)
            .with_context(|| format!("{codec}\n{}", stage.log()))?;
    }
    stage.check_unspoiled().await
}

/// Watches by the page: `SECONDS` of pictures and of sound.
async fn watches(firefox: &mut Firefox, stage: &Stage) -> Result<()> {
    firefox.goto(&stage.page("/watch", "")).await?;
    firefox
        .wait_for("fanmill.state", LIMIT, |state| state == "playing")
        .await
        .with_context(|| stage.log())?;
    let enough = |stats: &Value| {
        stats["framesDecoded"].as_u64() >= Some(10 * u64::from(SECONDS))
            && stats["currentTime"].as_f64() >= Some(SECONDS.into())
            && stats["totalAudioEnergy"].as_f64() > Some(1e-5)
    };
    let stats = firefox.wait_for("fanmill.stats()", LIMIT, enough).await?;
    ensure!(stats["packetsLost"] == 0, "nothing was lost: {stats}");
    Ok(())
}

#[tokio::test]
async fn firefox_watches_chromium_publish() -> Result<()> {
    let namespace = Namespace::new()?;
    let stage = Stage::facing(&namespace).await?;
    let mut firefox = Firefox::start(Some(&namespace)).await?;
    let browser = Browser::start().await?;
    for codec in ["VP8", "VP9", "AV1"] {
        let publisher = scene::publish(&browser, stage.server(), "stage", codec).await?;
        watches(&mut firefox, &stage).await.context(codec)?;
        publisher.evaluate("fanmill.stop()").await?;
        publisher.close().await?;
        let probe = async || stage.server().stream("stage").await;
        wait::until("the publisher to go", LIMIT, probe, |stream| {
            stream["live"] != true
        })
        .await?;
    }
    stage.check_unspoiled().await
}

/// Publishes the fake camera in three encodings.
const SIMULCAST: &str = "(async () => {
    const media = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 720 } });
    const pc = (window.publisher = new RTCPeerConnection());
    pc.addTransceiver(media.getVideoTracks()[0], {
        direction: 'sendonly',
        sendEncodings: [
            { rid: 'f', maxBitrate: 900_000 },
            { rid: 'h', maxBitrate: 400_000, scaleResolutionDownBy: 2 },
            { rid: 'q', maxBitrate: 150_000, scaleResolutionDownBy: 4 },
        ],
    });
    await pc.setLocalDescription();
    while (pc.iceGatheringState !== 'complete') {
        await new Promise((resolve) => pc.addEventListener('icegatheringstatechange', resolve));
    }
    const response = await fetch(URL, {
        method: 'POST',
        headers: { 'Content-Type': 'application/sdp' },
        body: pc.localDescription.sdp,
    });
    await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
    return response.status;
})()";

#[tokio::test]
async fn all_encodings_of_firefox_simulcast_come() -> Result<()> {
    let namespace = Namespace::new()?;
    let stage = Stage::facing(&namespace).await?;
    let mut firefox = Firefox::start(Some(&namespace)).await?;
    firefox.goto(&stage.page("/publish", "")).await?;
    let publish = SIMULCAST.replace("URL", &format!("'{}'", stage.whip()));
    assert_eq!(firefox.evaluate(&publish).await?, 201);
    let probe = async || stage.server().stream("stage").await;
    let sizes = |stream: &Value| {
        let tracks = stream["tracks"].as_array().into_iter().flatten();
        let encodings =
            tracks.flat_map(|track| track["encodings"].as_array().into_iter().flatten());
        let active = encodings.filter(|encoding| encoding["active"] == true);
        let widths = active.map(|one| one["width"].as_u64().unwrap_or_default());
        widths.collect::<std::collections::BTreeSet<_>>()
    };
    let all = |stream: &Value| sizes(stream).range(1..).count() == 3;
    let come = wait::until("three encodings", LIMIT, probe, all);
    // What nobody watches is not asked for.
    let address = stage.whep();
    let watch = node::libwebrtc_watch(&address, 2 * SECONDS);
    let (stream, seen) = tokio::join!(come, watch);
    let (stream, seen) = (stream.with_context(|| stage.log())?, seen?);
    ensure!(
        seen.video_frames > 0 && sizes(&stream).contains(&seen.width),
        "{seen:?} of {stream}"
    );
    stage.check_unspoiled().await
}
