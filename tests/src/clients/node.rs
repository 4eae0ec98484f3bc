//! WebRTC clients of Node.js: libwebrtc (`@roamhq/wrtc`), which decodes, and werift and
//! libdatachannel (`node-datachannel`), which carry RTP that others encode and decode.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::{FOLDER, ReceivedRtp, Seen, report, script};
use crate::process::Process;
use crate::scene::LIMIT;

/// A client that carries RTP but has no codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtpClient {
    /// werift, all of it JavaScript.
    Werift,
    /// libdatachannel, in C++.
    Libdatachannel,
}

impl RtpClient {
    /// Both.
    pub const ALL: [RtpClient; 2] = [RtpClient::Werift, RtpClient::Libdatachannel];

    fn name(self) -> &'static str {
        match self {
            RtpClient::Werift => "werift",
            RtpClient::Libdatachannel => "libdatachannel",
        }
    }

    /// Publishes what the machine's ffmpeg encodes, `VP8` or `H264` of 640x360 and Opus, until
    /// the value is dropped.
    ///
    /// # Errors
    /// If the clients are not installed.
    pub fn publish(self, url: &str, codec: &str) -> Result<Process> {
        let mut command = node(&format!("{}_whip.cjs", self.name()))?;
        command.args([url, codec]).stdin(Stdio::null());
        Ok(Process::spawn(self.name(), &mut command)?.polite())
    }

    /// Watches a stream of `codec` for `seconds`.
    ///
    /// # Errors
    /// If the client is not installed or fails; the error holds what it printed.
    pub async fn watch(self, url: &str, codec: &str, seconds: u32) -> Result<ReceivedRtp> {
        let mut command = node(&format!("{}_whep.cjs", self.name()))?;
        command.args([url, codec, &seconds.to_string()]);
        report(self.name(), command, seconds).await
    }
}

/// Publishes a moving 640x360 picture in VP8 and a tone with libwebrtc until the value is dropped.
///
/// # Errors
/// If it is not installed.
pub fn libwebrtc_publish(url: &str) -> Result<Process> {
    let mut command = node("wrtc_whip.cjs")?;
    command.arg(url).stdin(Stdio::null());
    Ok(Process::spawn("libwebrtc", &mut command)?.polite())
}

/// Watches a stream of VP8, VP9 or AV1 with libwebrtc for `seconds` of decoded video.
///
/// # Errors
/// If it is not installed or fails; the error holds what it printed.
pub async fn libwebrtc_watch(url: &str, seconds: u32) -> Result<Seen> {
    let mut command = node("wrtc_whep.cjs")?;
    command.args([url, &seconds.to_string()]);
    report("libwebrtc", command, seconds).await
}

/// Reads HLS with so many blocking reloads, each playlist parsed strictly by hls-parser; returns what it
/// has seen.
///
/// # Errors
/// If the parser is not installed, or finds anything wrong; the error says what.
pub async fn check_hls(url: &str, reloads: u32) -> Result<String> {
    let mut command = node("hls_check.cjs")?;
    command
        .args([url, &reloads.to_string()])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.with_context(|| format!("{url} has no {reloads} parts"))??;
    if !output.status.success() {
        bail!("{url}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn node(name: &str) -> Result<Command> {
    Ok(program(name)?.into())
}

/// One of the programs for Node.js, with the packages it needs.
///
/// # Errors
/// If they are not installed.
pub fn program(name: &str) -> Result<std::process::Command> {
    let modules = PathBuf::from(FOLDER).join("node_modules");
    if !modules.exists() {
        bail!(
            "{} is missing; run tools/install-test-clients",
            modules.display()
        );
    }
    let mut command = std::process::Command::new("node");
    command.env("NODE_PATH", modules).arg(script(name));
    Ok(command)
}
