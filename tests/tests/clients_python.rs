//! aiortc, ffmpeg and GStreamer publish; clients of other makes watch what they can decode.

use std::time::Duration;

use anyhow::{Context, Result};
use fanmill_tests::clients::node::{RtpClient, libwebrtc_watch};
use fanmill_tests::clients::{Stage, aiortc_publish, aiortc_sees, ffmpeg_publish_with, gstreamer};
use fanmill_tests::{Namespace, mp4, wait};
use serde_json::json;
use tempfile::TempDir;

const SECONDS: u32 = 5;

const LIMIT: Duration = Duration::from_secs(30);

async fn rtp_arrives(stage: &Stage, client: RtpClient, codec: &str) -> Result<()> {
    let received = client.watch(&stage.whep(), codec, SECONDS).await?;
    received
        .check(SECONDS)
        .with_context(|| format!("{client:?}"))
}

#[tokio::test]
async fn clients_of_four_makes_watch_aiortc_publish_vp8() -> Result<()> {
    let stage = Stage::new().await?;
    let mut publisher = aiortc_publish(&stage.whip(), "VP8", None)?;
    stage.live("VP8", &mut publisher).await?;
    let libwebrtc = async {
        let seen = libwebrtc_watch(&stage.whep(), SECONDS).await?;
        seen.check(SECONDS, 640, 360).context("libwebrtc")
    };
    let watched = tokio::try_join!(
        aiortc_sees(&stage, SECONDS),
        libwebrtc,
        rtp_arrives(&stage, RtpClient::Werift, "VP8"),
        rtp_arrives(&stage, RtpClient::Libdatachannel, "VP8"),
    );
    watched.with_context(|| stage.log())?;
    stage.finish(publisher).await
}

#[tokio::test]
async fn clients_of_three_makes_watch_aiortc_publish_h264() -> Result<()> {
    let stage = Stage::new().await?;
    let mut publisher = aiortc_publish(&stage.whip(), "H264", None)?;
    stage.live("H264", &mut publisher).await?;
    let watched = tokio::try_join!(
        aiortc_sees(&stage, SECONDS),
        rtp_arrives(&stage, RtpClient::Werift, "H264"),
        rtp_arrives(&stage, RtpClient::Libdatachannel, "H264"),
    );
    watched.with_context(|| stage.log())?;
    stage.finish(publisher).await
}

/// ffmpeg answers no picture loss indication: a viewer's picture begins with its next keyframe,
/// or at once if the server kept the last one.
async fn aiortc_watches_ffmpeg(options: &[&str]) -> Result<()> {
    let stage = Stage::new().await?;
    let mut publisher = ffmpeg_publish_with(options, &stage.whip(), None).await?;
    stage.live("H264", &mut publisher).await?;
    aiortc_sees(&stage, SECONDS)
        .await
        .with_context(|| stage.log())?;
    publisher.check_alive()?;
    stage.finish(publisher).await
}

#[tokio::test]
async fn aiortc_watches_ffmpeg_that_waits_for_the_client_hello() -> Result<()> {
    aiortc_watches_ffmpeg(&[]).await
}

#[tokio::test]
async fn aiortc_watches_ffmpeg_that_sends_the_client_hello() -> Result<()> {
    aiortc_watches_ffmpeg(&["-whip_flags", "dtls_active"]).await
}

/// GStreamer publishes from a namespace of its own and watches from there.
async fn gstreamer_watches_gstreamer(codec: &str, with_aiortc: bool) -> Result<()> {
    let namespace = Namespace::new()?;
    let stage = Stage::facing(&namespace).await?;
    let mut publisher = gstreamer::publish(&stage.whip(), codec, Some(&namespace))?;
    stage.live(codec, &mut publisher).await?;
    let aiortc = async {
        if with_aiortc {
            aiortc_sees(&stage, SECONDS).await
        } else {
            Ok(())
        }
    };
    let gstreamer = async {
        let seen = gstreamer::watch(&stage.whep(), codec, SECONDS, Some(&namespace)).await?;
        seen.check(SECONDS, 640, 360).context("GStreamer")
    };
    let watched = tokio::try_join!(aiortc, gstreamer);
    watched.with_context(|| stage.log())?;
    stage.finish(publisher).await
}

#[tokio::test]
async fn gstreamer_and_aiortc_watch_gstreamer_publish_vp8() -> Result<()> {
    gstreamer_watches_gstreamer("VP8", true).await
}

#[tokio::test]
async fn gstreamer_and_aiortc_watch_gstreamer_publish_h264() -> Result<()> {
    gstreamer_watches_gstreamer("H264", true).await
}

#[tokio::test]
async fn gstreamer_watches_gstreamer_publish_vp9() -> Result<()> {
    gstreamer_watches_gstreamer("VP9", false).await
}

/// H.265, which few browsers have: published, watched, recorded, and played again from the file.
#[tokio::test]
async fn gstreamer_watches_gstreamer_publish_h265_and_its_recording() -> Result<()> {
    const SECONDS: u32 = 3;
    let folder = TempDir::new()?;
    let namespace = Namespace::new()?;
    let arguments = vec!["--recordings".into(), folder.path().into()];
    let stage = Stage::facing_with(&namespace, arguments).await?;
    let server = stage.server();
    let mut publisher = gstreamer::publish(&stage.whip(), "H265", Some(&namespace))?;
    stage.live("H265", &mut publisher).await?;
    let create = json!({"stream": "stage", "path": "h265"});
    let recorder = server.admin("recorder.create", create).await?;
    let sees = async |url: String| {
        let seen = gstreamer::watch(&url, "H265", SECONDS, Some(&namespace)).await?;
        seen.check(SECONDS, 640, 360).with_context(|| stage.log())
    };
    sees(stage.whep()).await?;
    let list = async || server.admin("recorder.list", json!({})).await;
    let enough = |list: &serde_json::Value| list[0]["duration_ms"].as_u64() >= Some(3_000);
    wait::until("three seconds recorded", LIMIT, list, enough).await?;
    let stop = json!({"recorder": recorder["id"]});
    server.admin("recorder.stop", stop).await?;
    mp4::check(&folder.path().join("h265.mp4"))?;

    let create = json!({"stream": "again", "path": "h265.mp4", "repeat": true});
    server.admin("player.create", create).await?;
    server
        .admin("player.play", json!({"stream": "again"}))
        .await?;
    sees(server.url("/whep/again")).await?;
    stage.finish(publisher).await
}
