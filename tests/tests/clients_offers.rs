//! Offers that the server's own pages do not make, from publishers and from viewers.

use anyhow::{Context, Result, ensure};
use fanmill_tests::clients::Stage;
use fanmill_tests::clients::console::{Console, Received};
use fanmill_tests::{Browser, Namespace};
use serde_json::{Value, json};

const SECONDS: u64 = 3;

struct Pair {
    stage: Stage,
    publisher: Console,
    viewer: Console,
    _browser: Browser,
}

/// Publishes and watches with these offers.
async fn pair(stage: Stage, publish: &Value, watch: &Value) -> Result<Pair> {
    let browser = Browser::start().await?;
    let publisher = Console::open(&browser, stage.server()).await?;
    publisher.publish(&stage.whip(), publish).await?;
    let viewer = Console::open(&browser, stage.server()).await?;
    viewer.watch(&stage.whep(), watch).await?;
    let pair = Pair {
        stage,
        publisher,
        viewer,
        _browser: browser,
    };
    Ok(pair)
}

impl Pair {
    async fn plays(&self) -> Result<Received> {
        let played = self.viewer.plays(SECONDS).await;
        played.with_context(|| self.stage.log())
    }

    /// Says whether the offer or answer of a side has this text.
    async fn says(&self, of: &Console, expression: &str, text: &str) -> Result<bool> {
        let sdp = of.evaluate(expression).await?;
        Ok(sdp
            .as_str()
            .context("a description is text")?
            .contains(text))
    }

    async fn finish(self) -> Result<()> {
        self.publisher.end().await?;
        self.viewer.end().await?;
        self.stage.check_unspoiled().await
    }
}

#[tokio::test]
async fn a_data_channel_is_declined_and_the_media_flow() -> Result<()> {
    let first = json!({ "datachannel": "first" });
    let last = json!({ "datachannel": "last" });
    let pair = pair(Stage::new().await?, &first, &last).await?;
    pair.plays().await?;
    for (console, side) in [(&pair.publisher, "publisher"), (&pair.viewer, "viewer")] {
        let answer = format!("clients.{side}.answered");
        ensure!(
            pair.says(console, &answer, "m=application 0 ").await?,
            "nobody reads the data channel, so it must be refused"
        );
    }
    pair.finish().await
}

#[tokio::test]
async fn video_alone_is_published_to_a_viewer_of_both() -> Result<()> {
    let publish = json!({ "kinds": ["video"] });
    let pair = pair(Stage::new().await?, &publish, &json!({})).await?;
    let seen = pair
        .viewer
        .receives("video", |seen| seen.frames >= 30)
        .await?;
    ensure!(seen.energy == 0.0, "nobody speaks: {seen:?}");
    pair.finish().await
}

#[tokio::test]
async fn audio_alone_is_published_to_a_viewer_of_both() -> Result<()> {
    let publish = json!({ "kinds": ["audio"] });
    let pair = pair(Stage::new().await?, &publish, &json!({})).await?;
    let heard = |seen: &Received| seen.samples >= SECONDS * 48_000 && seen.energy > 1e-5;
    let seen = pair.viewer.receives("sound", heard).await?;
    ensure!(seen.frames == 0, "nobody shows anything: {seen:?}");
    pair.finish().await
}

#[tokio::test]
async fn viewers_of_video_alone_and_of_audio_alone_get_that() -> Result<()> {
    let video = json!({ "kinds": ["video"] });
    let pair = pair(Stage::new().await?, &json!({}), &video).await?;
    let seen = pair
        .viewer
        .receives("video", |seen| seen.frames >= 30)
        .await?;
    ensure!(seen.samples == 0, "no audio was asked for: {seen:?}");
    pair.viewer.end().await?;
    let audio = json!({ "kinds": ["audio"] });
    pair.viewer.watch(&pair.stage.whep(), &audio).await?;
    let heard = |seen: &Received| seen.samples >= SECONDS * 48_000 && seen.energy > 1e-5;
    let seen = pair.viewer.receives("sound", heard).await?;
    ensure!(seen.frames == 0, "no video was asked for: {seen:?}");
    pair.finish().await
}

#[tokio::test]
async fn sections_may_come_in_either_order() -> Result<()> {
    let video_first = json!({ "kinds": ["video", "audio"] });
    let audio_first = json!({ "kinds": ["audio", "video"] });
    let pair = pair(Stage::new().await?, &video_first, &audio_first).await?;
    pair.plays().await?;
    pair.finish().await
}

#[tokio::test]
async fn a_bundle_of_one_transport_is_enough() -> Result<()> {
    let options = json!({ "bundlePolicy": "max-bundle" });
    let pair = pair(Stage::new().await?, &options, &options).await?;
    pair.plays().await?;
    // The second section has the first one's transport, hence no port of its own.
    for (console, side) in [(&pair.publisher, "publisher"), (&pair.viewer, "viewer")] {
        let offer = format!("clients.{side}.offered");
        ensure!(pair.says(console, &offer, "m=video 9 ").await?);
    }
    pair.finish().await
}

#[tokio::test]
async fn candidates_may_hide_behind_mdns_names() -> Result<()> {
    // A page that is not secure may not use cameras, and then Chromium tells it no addresses:
    // one from another address than 127.0.0.1 is not secure.
    let namespace = Namespace::new()?;
    let stage = Stage::facing(&namespace).await?;
    let pair = pair(stage, &json!({}), &json!({})).await?;
    pair.plays().await?;
    for (console, side) in [(&pair.publisher, "publisher"), (&pair.viewer, "viewer")] {
        let offer = format!("clients.{side}.offered");
        ensure!(pair.says(console, &offer, ".local ").await?);
    }
    pair.finish().await
}

#[tokio::test]
async fn an_offer_without_candidates_needs_none_later() -> Result<()> {
    let options = json!({ "trickle": true });
    let pair = pair(Stage::new().await?, &options, &options).await?;
    pair.plays().await?;
    for (console, side) in [(&pair.publisher, "publisher"), (&pair.viewer, "viewer")] {
        let offer = format!("clients.{side}.offered");
        ensure!(!pair.says(console, &offer, "a=candidate").await?);
    }
    pair.finish().await
}
