//! aiortc, ffmpeg and GStreamer publish; clients of other makes watch what they can decode.

use anyhow::{Context, Result};
use fanmill_tests::Namespace;
use fanmill_tests::clients::node::{RtpClient, libwebrtc_watch};
use fanmill_tests::clients::{Stage, aiortc_publish, aiortc_sees, ffmpeg_publish_with, gstreamer};

const SECONDS: u32 = 5;

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
