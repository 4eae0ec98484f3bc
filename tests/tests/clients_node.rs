//! The WebRTC clients of Node.js publish, and others decode what the server made of it.

use anyhow::{Context, Result};
use fanmill_tests::clients::node::{RtpClient, libwebrtc_publish, libwebrtc_watch};
use fanmill_tests::clients::{Stage, aiortc_sees};

const SECONDS: u32 = 5;

#[tokio::test]
async fn libwebrtc_and_aiortc_watch_libwebrtc() -> Result<()> {
    let stage = Stage::new().await?;
    let mut publisher = libwebrtc_publish(&stage.whip())?;
    stage.live("VP8", &mut publisher).await?;
    let libwebrtc = async {
        let seen = libwebrtc_watch(&stage.whep(), SECONDS).await?;
        seen.check(SECONDS, 640, 360).context("libwebrtc")
    };
    let watched = tokio::try_join!(aiortc_sees(&stage, SECONDS), libwebrtc);
    watched.with_context(|| stage.log())?;
    stage.finish(publisher).await
}

/// aiortc decodes what a client sent that only carries RTP, and the other such client watches.
async fn an_rtp_client_publishes(client: RtpClient, codec: &str) -> Result<()> {
    let stage = Stage::new().await?;
    let mut publisher = client.publish(&stage.whip(), codec)?;
    stage.live(codec, &mut publisher).await?;
    let others = RtpClient::ALL.into_iter().filter(|other| *other != client);
    let others = others.map(async |other| {
        let received = other.watch(&stage.whep(), codec, SECONDS).await?;
        received
            .check(SECONDS)
            .with_context(|| format!("{other:?}"))
    });
    let watched = tokio::try_join!(
        aiortc_sees(&stage, SECONDS),
        futures_util::future::try_join_all(others)
    );
    watched.with_context(|| stage.log())?;
    stage.finish(publisher).await
}

#[tokio::test]
async fn others_watch_werift_publish_vp8() -> Result<()> {
    an_rtp_client_publishes(RtpClient::Werift, "VP8").await
}

#[tokio::test]
async fn others_watch_werift_publish_h264() -> Result<()> {
    an_rtp_client_publishes(RtpClient::Werift, "H264").await
}

#[tokio::test]
async fn others_watch_libdatachannel_publish_vp8() -> Result<()> {
    an_rtp_client_publishes(RtpClient::Libdatachannel, "VP8").await
}

#[tokio::test]
async fn others_watch_libdatachannel_publish_h264() -> Result<()> {
    an_rtp_client_publishes(RtpClient::Libdatachannel, "H264").await
}
