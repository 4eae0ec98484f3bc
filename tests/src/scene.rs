//! Publishers and viewers in browsers, through the server's own pages: what the end-to-end tests
//! are made of, and what it means that one watches the other.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::browser::{Browser, Page};
use crate::picture::Picture;
use crate::server::Server;
use crate::wait;

/// Long enough for a machine whose cores encode and decode everything at once.
pub const LIMIT: Duration = Duration::from_secs(40);

/// Frames per second of the test card in the tests.
pub const FPS: u32 = 15;

/// Of the 2304 grey values of a picture, how many the moving parts of a test card change.
pub(crate) const MOVED_PIXELS: usize = 20;

/// The grey variance that only a picture with content has.
pub(crate) const CONTENT_VARIANCE: f64 = 1000.0;

/// What a watch page says of itself (`fanmill.stats()`); counts since its session began.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names of the W3C statistics")]
pub struct Watched {
    pub codec: Option<String>,
    pub frame_width: u32,
    pub frame_height: u32,
    pub frames_decoded: u64,
    pub frames_dropped: u64,
    pub key_frames_decoded: u64,
    pub freeze_count: u64,
    pub packets_received: u64,
    pub packets_lost: i64,
    pub retransmitted_packets_received: u64,
    pub nack_count: u64,
    pub pli_count: u64,
    pub total_audio_energy: f64,
    pub current_time: f64,
}

/// Publishes a 640×360 test card to `stream` in `codec` (`auto`, `VP8`, `VP9`, `H264`, `AV1`).
///
/// # Errors
/// If the page does not get as far as being connected.
pub async fn publish(browser: &Browser, at: &Server, stream: &str, codec: &str) -> Result<Page> {
    publish_sized(browser, at, stream, codec, (640, 360)).await
}

/// Publishes a test card of this width and height.
///
/// # Errors
/// If the page does not get as far as being connected.
pub async fn publish_sized(
    browser: &Browser,
    at: &Server,
    stream: &str,
    codec: &str,
    (width, height): (u32, u32),
) -> Result<Page> {
    let size = format!("width={width}&height={height}&fps={FPS}");
    let path = format!("/publish/{stream}?source=testcard&codec={codec}&{size}&autostart=1");
    let page = browser.open(&at.url(&path)).await?;
    page.wait_for("fanmill.state === 'connected'", LIMIT)
        .await?;
    Ok(page)
}

/// Opens the watch page of `stream`; it may have to wait for the publisher.
///
/// # Errors
/// If the page cannot be loaded.
pub async fn watch(browser: &Browser, at: &Server, stream: &str) -> Result<Page> {
    browser
        .open(&at.url(&format!("/watch/{stream}?stats=1")))
        .await
}

/// The watch page's statistics now.
///
/// # Errors
/// If the page has no session.
pub async fn watched(page: &Page) -> Result<Watched> {
    let stats = page.evaluate("fanmill.stats()").await?;
    let text = stats.to_string();
    serde_json::from_value(stats).with_context(|| text)
}

/// The picture a watch page shows now.
///
/// # Errors
/// If it has none.
pub async fn picture(page: &Page) -> Result<Picture> {
    page.picture("document.getElementById('video')").await
}

/// Proves that the page plays: over `seconds` of media time, frames are decoded, the picture has
/// content and moves, and sound is heard. Returns what was seen at the end.
///
/// # Errors
/// If any of this does not come about.
pub async fn plays(page: &Page, seconds: u32) -> Result<Watched> {
    page.wait_for("fanmill.state === 'playing'", LIMIT).await?;
    // A muted player reports no audio energy.
    page.evaluate("document.getElementById('video').muted = false")
        .await?;
    let before = watched(page).await?;
    let first = picture(page).await?;
    let limit = LIMIT + Duration::from_secs(seconds.into());
    // Half the rate: the machine may be too busy to encode each frame.
    let frames = before.frames_decoded + u64::from(seconds * FPS / 2);
    let after = wait::until(
        "moving video and sound",
        limit,
        async || watched(page).await,
        |now| {
            now.current_time >= before.current_time + f64::from(seconds)
                && now.frames_decoded >= frames
                && now.total_audio_energy > before.total_audio_energy + 1e-5
        },
    );
    let after = after.await?;
    let variance = picture(page).await?.variance();
    if variance < CONTENT_VARIANCE {
        bail!("the picture is flat: its variance is {variance}");
    }
    let moved = async || Ok(picture(page).await?.changed_pixels(&first));
    wait::until("the picture to move", LIMIT, moved, |&moved| {
        moved >= MOVED_PIXELS
    })
    .await?;
    let image = Picture::from_png(&page.screenshot().await?)?;
    ensure!(
        image.variance() > CONTENT_VARIANCE,
        "the page does not show the picture"
    );
    Ok(after)
}

/// The address of the page's session on the server: it stays the same as long as the session.
///
/// # Errors
/// If the page has no session.
pub async fn session(page: &Page) -> Result<String> {
    let location = page.evaluate("fanmill.session.location").await?;
    Ok(location
        .as_str()
        .context("the page has no session")?
        .to_owned())
}

/// The UDP port the server gave the page's session: that of its shard.
///
/// # Errors
/// If the page has no session.
pub async fn shard_port(page: &Page) -> Result<u64> {
    let script = "Number(fanmill.pc.remoteDescription.sdp\
                  .match(/^a=candidate:\\S+ 1 udp \\d+ \\S+ (\\d+) /im)[1])";
    page.evaluate(script)
        .await?
        .as_u64()
        .context("the answer has a candidate")
}
