//! Firefox, driven by Marionette through a relay that runs where Firefox does. Firefox sends no
//! connectivity check to a loopback address and wants a default route: give it a namespace.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};

use super::script;
use crate::netns::Namespace;
use crate::process::{Process, command};
use crate::wait;

/// A Firefox with one page, which is thus always in the foreground.
pub struct Firefox {
    // Fields drop in order: the process must be gone before its profile is removed.
    process: Process,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    requests: u64,
    _profile: TempDir,
}

impl Firefox {
    /// Starts Firefox on a fresh profile.
    ///
    /// # Errors
    /// If it is not installed or does not come up.
    pub async fn start(namespace: Option<&Namespace>) -> Result<Firefox> {
        let profile = TempDir::with_prefix("fanmill-firefox-")?;
        let mut relay = command("python3", namespace);
        relay
            .arg(script("firefox.py"))
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn("Firefox", &mut relay)?;
        let child = process.child();
        let input = child.stdin.take().context("standard input is piped")?;
        let output = child.stdout.take().context("standard output is piped")?;
        let mut firefox = Firefox {
            process,
            input,
            output: BufReader::new(output).lines(),
            requests: 0,
            _profile: profile,
        };
        let hello = firefox.receive().await?;
        ensure!(
            hello["marionetteProtocol"] == 3,
            "Firefox speaks another Marionette: {hello}"
        );
        firefox.send("WebDriver:NewSession", json!({})).await?;
        Ok(firefox)
    }

    async fn receive(&mut self) -> Result<Value> {
        match self.output.next_line().await? {
            Some(line) => Ok(serde_json::from_str(&line)?),
            None => bail!(
                "Firefox is gone:\n{}",
                self.process.log().lines().join("\n")
            ),
        }
    }

    /// Sends a Marionette command and returns its result.
    ///
    /// # Errors
    /// If Firefox refuses it or is gone.
    pub async fn send(&mut self, name: &str, params: Value) -> Result<Value> {
        self.requests += 1;
        // Marionette protocol 3: [0, id, command, parameters] and [1, id, error, result].
        let request = json!([0, self.requests, name, params]);
        let line = format!("{request}\n");
        self.input.write_all(line.as_bytes()).await?;
        loop {
            let mut answer = self.receive().await?;
            if answer[0] != 1 || answer[1] != self.requests {
                continue;
            }
            let error = &answer[2];
            ensure!(error.is_null(), "{name}: {error}");
            return Ok(answer[3].take());
        }
    }

    /// Loads `url`.
    ///
    /// # Errors
    /// If nothing answers there.
    pub async fn goto(&mut self, url: &str) -> Result<()> {
        let params = json!({ "url": url });
        self.send("WebDriver:Navigate", params).await.map(drop)
    }

    /// Evaluates an expression in the page, awaits it if it is a promise, and returns what it
    /// became.
    ///
    /// # Errors
    /// If it throws.
    pub async fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let script = format!("return {expression}");
        let params = json!({ "script": script, "args": [], "sandbox": null });
        let mut result = self.send("WebDriver:ExecuteScript", params).await?;
        Ok(result["value"].take())
    }

    /// Waits until an expression has a value that is `good`, and returns that.
    ///
    /// # Errors
    /// If `limit` passes first, or it throws.
    pub async fn wait_for(
        &mut self,
        expression: &str,
        limit: Duration,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let waited = {
            let probe = async || self.evaluate(expression).await;
            wait::until(expression, limit, probe, good).await
        };
        match waited {
            Ok(value) => Ok(value),
            Err(error) => {
                let state = "window.fanmill ? `${fanmill.state}: ${fanmill.text}` : document.title";
                let state = self.evaluate(state).await.unwrap_or_default();
                Err(error.context(format!("page says {state}")))
            }
        }
    }
}
