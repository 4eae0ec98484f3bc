//! One stream on a server of its own: somebody publishes it, others watch, and afterwards nothing
//! may have been spoiled on the way.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::netns::Namespace;
use crate::process::Process;
use crate::server::{Server, ServerOptions};
use crate::wait;

const LIMIT: Duration = Duration::from_secs(30);

/// Reasons for dropping a packet that no healthy client on a healthy path gives.
const SPOILED: &[&str] = &[
    "stun_malformed",
    "stun_integrity",
    "rtp_malformed",
    "rtcp_malformed",
    "srtp_authentication",
    "srtp_replayed",
    "srtcp_authentication",
    "unknown_ssrc",
    "unknown_payload_type",
    "too_late",
    "pool_exhausted",
    "event_ring_full",
    "shard_ring_full",
    "seal_failed",
];

/// A server with one stream.
pub struct Stage {
    server: Server,
}

impl Stage {
    /// Starts a server on the loopback address.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn new() -> Result<Stage> {
        Stage::with(Vec::new()).await
    }

    /// The same, with arguments for the server.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn with(arguments: Vec<OsString>) -> Result<Stage> {
        let options = ServerOptions {
            arguments,
            ..ServerOptions::default()
        };
        let server = Server::start_with(options).await?;
        Ok(Stage { server })
    }

    /// Starts a server where a namespace reaches it.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn facing(namespace: &Namespace) -> Result<Stage> {
        Stage::facing_with(namespace, Vec::new()).await
    }

    /// The same, with arguments for the server.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn facing_with(namespace: &Namespace, arguments: Vec<OsString>) -> Result<Stage> {
        let options = ServerOptions {
            ip: namespace.host().into(),
            arguments,
            ..ServerOptions::default()
        };
        let server = Server::start_with(options).await?;
        Ok(Stage { server })
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Where to publish the stream.
    pub fn whip(&self) -> String {
        self.server.url("/whip/stage")
    }

    /// Where to watch the stream.
    pub fn whep(&self) -> String {
        self.server.url("/whep/stage")
    }

    /// The address of a page about the stream: `/publish` or `/watch`, with a query.
    pub fn page(&self, path: &str, query: &str) -> String {
        self.server.url(&format!("{path}/stage{query}"))
    }

    /// Waits until video of `codec` and audio come in.
    ///
    /// # Errors
    /// If they do not, or the publisher ends; with its log and the server's.
    pub async fn live(&self, codec: &str, publisher: &mut Process) -> Result<()> {
        let probe = async || {
            publisher.check_alive()?;
            self.server.stream("stage").await
        };
        let live = wait::until("video and audio", LIMIT, probe, |stream| {
            coming(stream, "video") == Some(codec) && coming(stream, "audio") == Some("opus")
        });
        let live = live.await.map(drop);
        live.with_context(|| format!("publisher:\n{}", publisher.log().lines().join("\n")))
            .with_context(|| self.log())
    }

    /// Checks that no packet was dropped for a reason that a good path does not give, ends the
    /// publisher, and checks that the server noticed.
    ///
    /// # Errors
    /// If one was, or it did not.
    pub async fn finish(self, publisher: Process) -> Result<()> {
        self.check_unspoiled().await?;
        drop(publisher);
        let probe = async || self.server.stream("stage").await;
        let gone = wait::until("the stream to end", LIMIT, probe, |stream| {
            stream["live"] != true
        });
        gone.await.map(drop).with_context(|| self.log())
    }

    /// Checks that no packet was dropped for a reason that a good path does not give.
    ///
    /// # Errors
    /// If one was.
    pub async fn check_unspoiled(&self) -> Result<()> {
        let info = self.server.admin("server.info", json!({})).await?;
        let shards = info["shards"].as_array().context("there are shards")?;
        for shard in shards {
            let dropped = shard["counters"]["dropped"]
                .as_object()
                .context("drops are counted")?;
            let spoiled = SPOILED.iter().any(|reason| dropped.contains_key(*reason));
            ensure!(
                !spoiled,
                "packets were spoiled: {dropped:?}\n{}",
                self.log()
            );
        }
        Ok(())
    }

    /// What the server printed, for error messages.
    pub fn log(&self) -> String {
        format!("server:\n{}", self.server.log().join("\n"))
    }
}

/// The codec of the first track of a kind, once its packets come.
fn coming<'a>(stream: &'a Value, kind: &str) -> Option<&'a str> {
    let tracks = stream["tracks"].as_array()?;
    let track = tracks.iter().find(|track| track["kind"] == kind)?;
    track["codec"].as_str()
}
