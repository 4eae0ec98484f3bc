//! Clients that were not written for this server: aiortc and the ffmpeg of `imageio-ffmpeg`, from
//! the Python environment that `tools/install-test-clients` makes, GStreamer, Firefox, VLC, mpv, nginx, and
//! those of Node.js.
//!
//! Each is a program in `tests/clients`: a publisher publishes until it gets SIGTERM, a viewer
//! watches for a while and prints what it saw as JSON.

pub mod console;
pub mod firefox;
pub mod gstreamer;
pub mod mpv;
pub mod nginx;
pub mod node;
mod seen;
mod stage;
pub mod vlc;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::process::Command;

use crate::netns::Namespace;
use crate::process::{Process, command};

pub use seen::{ReceivedRtp, Seen, StreamCounts};
pub use stage::Stage;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/test-clients");

/// The Python that has the clients.
///
/// # Errors
/// If it was not installed.
pub fn python() -> Result<PathBuf> {
    let path = PathBuf::from(FOLDER).join("venv/bin/python");
    if !path.exists() {
        bail!(
            "{} is missing; run tools/install-test-clients",
            path.display()
        );
    }
    Ok(path)
}

/// The ffmpeg that speaks WHIP (version 8 or later).
///
/// # Errors
/// If it was not installed.
pub async fn whip_ffmpeg() -> Result<PathBuf> {
    let script = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
    let output = Command::new(python()?)
        .args(["-c", script])
        .output()
        .await?;
    if !output.status.success() {
        bail!(
            "imageio-ffmpeg: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

/// Publishes a moving test picture and a tone with aiortc until the value is dropped.
/// `codec` is `VP8` or `H264`.
///
/// # Errors
/// If aiortc is not installed.
pub fn aiortc_publish(url: &str, codec: &str, namespace: Option<&Namespace>) -> Result<Process> {
    let mut command = command(python()?, namespace);
    command
        .arg(script("aiortc_whip.py"))
        .args([url, codec])
        .stdin(Stdio::null());
    Ok(Process::spawn("aiortc", &mut command)?.polite())
}

/// Watches with aiortc for `seconds` of decoded video and tells what was seen: `video_frames`,
/// `changed_frames`, `width`, `height`, `audio_frames`, `audio_rms` (0 to 32767).
///
/// # Errors
/// If aiortc is not installed or fails; the error holds what it printed.
pub async fn aiortc_watch(url: &str, seconds: u32, namespace: Option<&Namespace>) -> Result<Value> {
    let mut command = command(python()?, namespace);
    command
        .arg(script("aiortc_whep.py"))
        .args([url, &seconds.to_string()]);
    report("aiortc", command, seconds).await
}

/// Watches a stage with aiortc for `seconds`: a moving picture of 640x360, and sound.
///
/// # Errors
/// If that is not what it sees and hears.
pub async fn aiortc_sees(stage: &Stage, seconds: u32) -> Result<()> {
    let seen: Seen = serde_json::from_value(aiortc_watch(&stage.whep(), seconds, None).await?)?;
    seen.check(seconds, 640, 360).context("aiortc")
}

/// Publishes H264 and Opus with ffmpeg's WHIP output until the value is dropped.
///
/// # Errors
/// If ffmpeg is not installed.
pub async fn ffmpeg_publish(url: &str, namespace: Option<&Namespace>) -> Result<Process> {
    ffmpeg_publish_with(&[], url, namespace).await
}

/// The same, with `options` for the WHIP output.
///
/// # Errors
/// If ffmpeg is not installed.
pub async fn ffmpeg_publish_with(
    options: &[&str],
    url: &str,
    namespace: Option<&Namespace>,
) -> Result<Process> {
    let mut command = command(whip_ffmpeg().await?, namespace);
    command
        .args(["-hide_banner", "-loglevel", "info", "-re"])
        .args(["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
        ])
        .args([
            "-profile:v",
            "baseline",
            "-pix_fmt",
            "yuv420p",
            "-g",
            "30",
            "-b:v",
            "800k",
        ])
        .args(["-c:a", "libopus", "-ac", "2", "-ar", "48000", "-b:a", "64k"])
        .args(options)
        .args(["-f", "whip", url])
        .stdin(Stdio::null());
    Ok(Process::spawn("ffmpeg", &mut command)?.polite())
}

/// Runs a viewer that watches for `seconds` and prints its report as JSON.
async fn report<T: DeserializeOwned>(name: &str, mut command: Command, seconds: u32) -> Result<T> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    // It waits up to 30 seconds for the first packet.
    let limit = Duration::from_secs(u64::from(seconds) + 60);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("{name} still runs after {limit:?}"))??;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{name}: {printed}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_str(&printed).with_context(|| format!("{name} printed {printed:?}"))
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}
