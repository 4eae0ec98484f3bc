//! mpv without a window, as Debian has it: what it has played, it says itself.

use std::collections::HashSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// How long it may take beyond what it plays.
const LIMIT: Duration = Duration::from_secs(40);

/// What it says again and again.
const STATUS: &str = "played ${video-format} ${audio-codec-name}.";

/// What mpv has made of an address.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// The codec of the pictures, such as `h264`.
    pub video: String,
    /// The codec of the sound; `(unavailable)` if there is none.
    pub audio: String,
    /// Different pictures.
    pub pictures: usize,
    /// The loudest sample, in dB; `None` without sound.
    pub loudest_db: Option<f64>,
}

/// Plays `seconds` of an address, in real time.
///
/// # Errors
/// If mpv is not installed, fails, or plays nothing.
pub async fn play(url: &str, seconds: u32) -> Result<Played> {
    let status = format!("--term-status-msg={STATUS}");
    let mut command = Command::new("mpv");
    command
        .args(["--no-config", "--vo=null", "--ao=null"])
        .args(["--msg-level=all=warn,ffmpeg=v,statusline=status", &status])
        .args(["--af=lavfi=[volumedetect]", "--vf=lavfi=[showinfo]"])
        .args([&format!("--length={seconds}"), url])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let limit = LIMIT + Duration::from_secs(seconds.into());
    let output = tokio::time::timeout(limit, command.output()).await;
    let output = output.with_context(|| format!("mpv does not end: {url}"))?;
    let output = output.context("mpv")?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    ensure!(output.status.success(), "mpv {url}: {text}");
    let codecs = text
        .rsplit("played ")
        .find_map(|line| line.split_once('.')?.0.split_once(' '));
    let (video, audio) = codecs.with_context(|| format!("mpv {url}: {text}"))?;
    let sums = text.split(" checksum:").skip(1);
    let pictures: HashSet<_> = sums.filter_map(|rest| rest.split(' ').next()).collect();
    let loudest = text.split("max_volume: ").nth(1);
    let loudest = loudest.and_then(|rest| rest.split(' ').next()?.parse().ok());
    Ok(Played {
        video: video.to_owned(),
        audio: audio.to_owned(),
        pictures: pictures.len(),
        loudest_db: loudest,
    })
}
