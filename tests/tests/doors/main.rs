//! Streams through every door (plain RTP, RTMP, RTSP) from the programs that people have: each codec,
//! how old the pictures are when they are seen, and the very lines that the publishing page offers.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;
use std::process::Stdio;

use fanmill_tests::process::Process;
use fanmill_tests::scene::LIMIT;
use fanmill_tests::{Server, wait};
use tokio::process::Command;

mod codecs;
mod delay;
mod lines;

const H264: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -bf 0 -pix_fmt yuv420p -g 15";
const AAC: &str = "-c:a aac -ar 44100 -ac 2";

/// ffmpeg with `input` and `output` as the rest of its arguments.
fn ffmpeg(program: &Path, input: &str, output: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-hide_banner", "-loglevel", "error"])
        .args(input.split_ascii_whitespace())
        .args(output.split_ascii_whitespace())
        .env("SVT_LOG", "1")
        .stdin(Stdio::null());
    command
}

/// Waits until a stream has a publisher whose picture comes.
async fn is_live(server: &Server, stream: &str, sender: &Process) {
    let live = async || Ok(server.stream(stream).await?["live"] == true);
    let live = wait::until(stream, LIMIT, live, |&live| live).await;
    live.unwrap_or_else(|error| {
        let said = sender.log().lines().join("\n");
        panic!("{error:#}\n{said}\n{}", server.log().join("\n"))
    });
}

async fn until_written(path: &Path) {
    let probe = async || Ok(std::fs::read_to_string(path).unwrap_or_default());
    let written = wait::until("the SDP", LIMIT, probe, |sdp| sdp.contains("m=audio"));
    written.await.unwrap();
}
