//! A browser at the hands of a programmer: offers other than the server's own pages make.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::browser::{Browser, Page};
use crate::server::Server;
use crate::wait;

const SCRIPT: &str = include_str!("../../clients/browser.js");
const LIMIT: Duration = Duration::from_secs(40);

/// A page that publishes or watches by script.
pub struct Console {
    page: Page,
}

/// What a viewer decoded since its session began.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Received {
    /// Decoded pictures.
    pub frames: u64,
    /// Width of the last picture in pixels.
    pub width: u64,
    /// Height of the last picture in pixels.
    pub height: u64,
    /// Bytes of the video's payload.
    pub bytes: u64,
    /// Interruptions of the picture (W3C `freezeCount`).
    pub freezes: u64,
    /// How long they were together, in seconds (W3C `totalFreezesDuration`).
    pub frozen_s: f64,
    /// Pictures in the last second.
    pub fps: f64,
    /// Decoded key pictures.
    pub keyframes: u64,
    /// Requests for lost packets.
    pub nacks: u64,
    /// Requests for a key picture.
    pub plis: u64,
    /// Audio energy (W3C `totalAudioEnergy`): more than 0 is sound.
    pub energy: f64,
    /// Samples of audio, silence that the browser made up included.
    pub samples: u64,
}

impl Console {
    /// Opens a page of the server for scripts.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub async fn open(browser: &Browser, server: &Server) -> Result<Console> {
        let page = browser.open(&server.url("/")).await?;
        page.evaluate(&format!("void (window.clients = {SCRIPT})"))
            .await?;
        Ok(Console { page })
    }

    /// Publishes the test card with `options` as `tests/clients/browser.js` has them; resolves
    /// when connected.
    ///
    /// # Errors
    /// If the server refuses, or no connection comes about.
    pub async fn publish(&self, url: &str, options: &Value) -> Result<()> {
        self.call(&format!("clients.publish({url:?}, {options})"))
            .await
    }

    /// Watches; resolves when connected.
    ///
    /// # Errors
    /// If the server refuses, or no connection comes about.
    pub async fn watch(&self, url: &str, options: &Value) -> Result<()> {
        self.call(&format!("clients.watch({url:?}, {options})"))
            .await
    }

    /// Watches what `caller` sends, with no server between them.
    ///
    /// # Errors
    /// If the browsers do not come to terms.
    pub async fn watch_directly(&self, caller: &Console, options: &Value) -> Result<()> {
        let offer = caller.evaluate(&format!("clients.call({options})")).await?;
        let answer = self.evaluate(&format!("clients.answer({offer})")).await?;
        caller.call(&format!("clients.answered({answer})")).await
    }

    /// What the viewer decoded so far.
    ///
    /// # Errors
    /// If the page does not answer.
    pub async fn received(&self) -> Result<Received> {
        let received = self.page.evaluate("clients.received()").await?;
        Ok(serde_json::from_value(received)?)
    }

    async fn call(&self, expression: &str) -> Result<()> {
        let call = self.page.evaluate(expression);
        let done = tokio::time::timeout(LIMIT, call).await;
        done.with_context(|| format!("{expression} is not done after {LIMIT:?}"))?
            .map(drop)
    }

    /// A property of the connection that publishes or watches.
    ///
    /// # Errors
    /// If there is none.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        self.page.evaluate(expression).await
    }

    /// Waits until the viewer received what is `good`.
    ///
    /// # Errors
    /// If it does not in forty seconds, with what it did receive.
    pub async fn receives(&self, what: &str, good: impl Fn(&Received) -> bool) -> Result<Received> {
        wait::until(what, LIMIT, async || self.received().await, good).await
    }

    /// Waits until `seconds` more of video at fifteen frames a second and of sound are decoded.
    ///
    /// # Errors
    /// If they are not in forty seconds.
    pub async fn plays(&self, seconds: u64) -> Result<Received> {
        let before = self.receives("anything", |_| true).await?;
        // Half the rate: the machine may be too busy to encode each frame.
        let frames = before.frames + seconds * 15 / 2;
        let samples = before.samples + seconds * 48_000;
        self.receives("moving video and sound", |now| {
            now.frames >= frames && now.samples >= samples && now.energy > before.energy + 1e-5
        })
        .await
    }

    /// Ends the page's sessions.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn end(&self) -> Result<()> {
        self.call("clients.end()").await
    }
}
