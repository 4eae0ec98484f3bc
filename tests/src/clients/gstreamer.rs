//! GStreamer's webrtcbin, rtmp2sink and RTSP server, through the distribution's Python. webrtcbin sends
//! no connectivity check to a loopback address.

use std::process::Stdio;

use anyhow::Result;
use tokio::process::Command;

use super::{Seen, report, script};
use crate::netns::Namespace;
use crate::process::{Process, command};

/// The bindings of GStreamer belong to this Python, not to the one that comes first in `PATH`.
const PYTHON: &str = "/usr/bin/python3";

/// Publishes a moving picture (`VP8`, `VP9`, `H264` or `H265`) and a tone until the value is dropped.
///
/// # Errors
/// If there is no Python.
pub fn publish(url: &str, codec: &str, namespace: Option<&Namespace>) -> Result<Process> {
    let mut command = python(namespace);
    command
        .arg(script("gst_whip.py"))
        .args([url, codec])
        .stdin(Stdio::null());
    Ok(Process::spawn("GStreamer", &mut command)?.polite())
}

/// Publishes a moving picture and a tone over RTMP until the value is dropped.
///
/// # Errors
/// If there is no Python.
pub fn rtmp_publish(url: &str) -> Result<Process> {
    let mut command = python(None);
    command
        .arg(script("gst_rtmp.py"))
        .arg(url)
        .stdin(Stdio::null());
    Ok(Process::spawn("GStreamer", &mut command)?.polite())
}

/// A camera: serves `/stream1` by RTSP on a port of this machine, to those who know user and password,
/// until the value is dropped.
///
/// # Errors
/// If there is no Python.
pub fn rtsp_camera(port: u16, user: &str, password: &str) -> Result<Process> {
    let mut command = python(None);
    command
        .arg(script("gst_camera.py"))
        .args([&port.to_string(), user, password])
        .stdin(Stdio::null());
    Ok(Process::spawn("camera", &mut command)?.polite())
}

/// Watches a stream of `codec` for `seconds` of decoded video.
///
/// # Errors
/// If GStreamer is not installed or fails; the error holds what it printed.
pub async fn watch(
    url: &str,
    codec: &str,
    seconds: u32,
    namespace: Option<&Namespace>,
) -> Result<Seen> {
    let mut command = python(namespace);
    command
        .arg(script("gst_whep.py"))
        .args([url, codec, &seconds.to_string()]);
    report("GStreamer", command, seconds).await
}

fn python(namespace: Option<&Namespace>) -> Command {
    let mut command = command(PYTHON, namespace);
    // The scripts share a module, whose compiled form would be left among the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
