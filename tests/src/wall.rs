//! Many streams in one page, as on a wall of screens: what proves of ten streams that they are seen
//! and heard, at the price of one page.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::browser::{Browser, Page};
use crate::scene::{CONTENT_VARIANCE, LIMIT, MOVED_PIXELS};
use crate::server::Server;
use crate::wait;

const SCRIPT: &str = include_str!("../clients/wall.js");

/// Pictures that are a stream, and not the one that a newcomer is given.
const FRAMES: u64 = 20;

/// Energy of a quiet tone (W3C `totalAudioEnergy`) within less than half a second.
const ENERGY: f64 = 1e-3;

/// The page.
pub struct Wall {
    page: Page,
}

/// What came of a stream.
#[derive(Debug, Clone, Deserialize)]
pub struct OnWall {
    /// That of the pictures.
    pub codec: Option<String>,
    /// Decoded pictures.
    pub frames: u64,
    /// Audio energy.
    pub energy: f64,
}

impl Wall {
    /// An empty one.
    ///
    /// # Errors
    /// If the page cannot be loaded.
    pub async fn open(browser: &Browser, server: &Server) -> Result<Wall> {
        let page = browser.open(&server.url("/")).await?;
        let begin = format!("document.body.replaceChildren(); window.wall = {SCRIPT}; undefined");
        page.evaluate(&begin).await?;
        Ok(Wall { page })
    }

    /// Hangs up a stream, which may begin later.
    ///
    /// # Errors
    /// If no connection comes about.
    pub async fn watch(&self, stream: &str) -> Result<()> {
        let watched = self.page.evaluate(&format!("wall.watch({stream:?})")).await;
        watched.map(drop).with_context(|| stream.to_owned())
    }

    /// Waits until a tone is heard.
    ///
    /// # Errors
    /// If none is.
    pub async fn hears(&self, stream: &str) -> Result<OnWall> {
        self.gets(stream, |now| now.energy > ENERGY).await
    }

    /// Waits until a picture in `codec` that moves is seen, and a tone heard.
    ///
    /// # Errors
    /// If either is not.
    pub async fn plays(&self, stream: &str, codec: &str) -> Result<OnWall> {
        self.gets(stream, |now| now.frames > 0).await?;
        let element = format!("wall.video({stream:?})");
        let first = self.page.picture(&element).await?;
        let good = |now: &OnWall| now.frames >= FRAMES && now.energy > ENERGY;
        let seen = self.gets(stream, good).await?;
        ensure!(seen.codec.as_deref() == Some(codec), "{stream}: {seen:?}");
        let picture = async || self.page.picture(&element).await;
        let moved = wait::until("the picture to move", LIMIT, picture, |now| {
            now.variance() > CONTENT_VARIANCE && now.changed_pixels(&first) >= MOVED_PIXELS
        });
        moved.await.with_context(|| stream.to_owned())?;
        Ok(seen)
    }

    async fn gets(&self, stream: &str, good: impl Fn(&OnWall) -> bool) -> Result<OnWall> {
        let script = format!("wall.seen({stream:?})");
        let probe = async || Ok(serde_json::from_value(self.page.evaluate(&script).await?)?);
        wait::until(
            &format!("picture and sound of {stream}"),
            LIMIT,
            probe,
            good,
        )
        .await
    }

    /// How old the next `count` pictures of a stream are when they are shown, in milliseconds: by the
    /// test card's clock in them.
    ///
    /// # Errors
    /// If no such pictures come.
    pub async fn ages_ms(&self, stream: &str, count: usize) -> Result<Vec<f64>> {
        let begin = format!("wall.readClock({stream:?})");
        self.page.evaluate(&begin).await?;
        let script = format!("wall.delays({stream:?})");
        let probe = async || {
            let ages = self.page.evaluate(&script).await?;
            let ages = ages.as_array().into_iter().flatten();
            Ok(ages.filter_map(Value::as_f64).collect::<Vec<_>>())
        };
        let what = format!("pictures of {stream} with a clock");
        wait::until(&what, LIMIT, probe, |ages: &Vec<f64>| ages.len() >= count).await
    }

    /// What it looks like, as PNG.
    ///
    /// # Errors
    /// If the browser cannot draw it.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        self.page.screenshot().await
    }
}
