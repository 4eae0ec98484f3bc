//! VLC without a window, as Debian has it: what it decodes goes to files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::picture::Picture;

/// How long it may take beyond what it plays.
const LIMIT: Duration = Duration::from_secs(30);

/// Every so many pictures one is kept.
const KEPT: &str = "10";

/// What VLC made of an address.
#[derive(Debug)]
pub struct Played {
    /// Some of the pictures, in order.
    pub pictures: Vec<Picture>,
    /// The loudest sample, of 1.
    pub loudest: f32,
}

/// Plays `seconds` of an address.
///
/// # Errors
/// If VLC is not installed, does not end by itself, or shows nothing.
pub async fn play(url: &str, seconds: u32) -> Result<Played> {
    let folder = TempDir::with_prefix("fanmill-vlc-")?;
    // It does not run as root, and is nobody then.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777))?;
    let sound = folder.path().join("sound.wav");
    let mut command = if fs::metadata("/proc/self")?.uid() == 0 {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cvlc"]);
        command
    } else {
        Command::new("cvlc")
    };
    let scene = format!("--scene-path={}", folder.path().display());
    command
        .args(["-I", "dummy", "-q", "--vout", "dummy", "--aout", "afile"])
        .args(["--no-drop-late-frames", "--no-skip-frames"])
        .args(["--video-filter", "scene", "--scene-format", "png"])
        .args(["--scene-ratio", KEPT, &scene])
        .arg("--audiofile-file")
        .arg(&sound)
        .args(["--run-time", &seconds.to_string(), "--play-and-exit"])
        .args([url, "vlc://quit"])
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let limit = LIMIT + Duration::from_secs(seconds.into());
    let output = tokio::time::timeout(limit, command.output()).await;
    let output = output.context("VLC does not end")?.context("cvlc")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "VLC: {}: {said}", output.status);
    let mut files: Vec<_> = fs::read_dir(folder.path())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "png"))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("VLC has shown nothing: {said}");
    }
    let pictures = files.iter().map(|file| Picture::from_png(&fs::read(file)?));
    // Floats or 16 bits, behind a header.
    let wav = fs::read(&sound).unwrap_or_default();
    let samples = wav.get(44..).unwrap_or_default();
    let bits = wav
        .get(34..36)
        .map(|bits| u16::from_le_bytes([bits[0], bits[1]]));
    let loudest = match bits {
        Some(32) => samples
            .chunks_exact(4)
            .map(|s| f32::from_le_bytes([s[0], s[1], s[2], s[3]]).abs())
            .fold(0.0, f32::max),
        _ => samples
            .chunks_exact(2)
            .map(|s| f32::from(i16::from_le_bytes([s[0], s[1]])).abs() / 32768.0)
            .fold(0.0, f32::max),
    };
    Ok(Played {
        pictures: pictures.collect::<Result<_>>()?,
        loudest,
    })
}
