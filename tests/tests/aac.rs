//! What a browser shares, heard by programs that take AAC only. For a server that was built with an AAC
//! encoder, which those of the other tests are not: `docs/operating/outputs.md` has the commands.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use fanmill_tests::clients::nginx::Nginx;
use fanmill_tests::clients::{mpv, vlc};
use fanmill_tests::scene::{LIMIT, publish};
use fanmill_tests::{Browser, Server, wait};
use serde_json::{Value, json};
use tokio::process::Command;

/// ffmpeg of Debian, which knows no Opus in RTMP: pictures and sound of two seconds, without a complaint.
async fn ffmpeg(url: &str, video: &str, audio: &str) -> Result<()> {
    let arguments = [
        "-hide_banner",
        "-nostdin",
        "-i",
        url,
        "-t",
        "2",
        "-af",
        "volumedetect",
    ];
    let output = Command::new("ffmpeg")
        .args(arguments)
        .args(["-enc_time_base:v", "-1", "-f", "null", "-"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, output).await;
    let output = output.with_context(|| format!("ffmpeg does not end: {url}"))??;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{url}: {text}");
    let codecs = [format!("Video: {video}"), format!("Audio: {audio}")];
    ensure!(
        codecs.iter().all(|codec| text.contains(codec)),
        "{url}: {text}"
    );
    ensure!(!text.contains("non monoton"), "{url}: {text}");
    let volume = text
        .split("max_volume: ")
        .nth(1)
        .context(text.to_string())?;
    let volume: f64 = volume.split(' ').next().unwrap_or_default().parse()?;
    ensure!(volume > -40.0, "{url}: {volume} dB");
    Ok(())
}

async fn vlc_hears(url: &str) -> Result<()> {
    let played = vlc::play(url, 5).await?;
    ensure!(played.loudest > 0.01, "{url}: {} in VLC", played.loudest);
    ensure!(played.pictures.len() >= 2, "{url}: no pictures in VLC");
    Ok(())
}

async fn mpv_hears(url: &str) -> Result<()> {
    let played = mpv::play(url, 3).await?;
    let is_heard = played.loudest_db.is_some_and(|db| db > -40.0);
    ensure!(played.audio == "aac" && is_heard, "{url}: {played:?}");
    ensure!(played.pictures >= 10, "{url}: {played:?}");
    Ok(())
}

#[tokio::test]
async fn opus_of_a_browser_is_heard_as_aac_over_rtmp_ts_mp4_and_hls_and_on_nginx() -> Result<()> {
    let server = Server::start().await?;
    let nginx = Nginx::start().await?;
    let browser = Browser::start().await?;
    let _h264 = publish(&browser, &server, "cam", "H264").await?;
    let _vp9 = publish(&browser, &server, "web", "VP9").await?;
    let there = nginx.url("copy");
    let push = json!({ "stream": "cam", "url": there });
    server.admin("push.create", push).await?;
    let list = async || Ok(server.admin("push.list", json!({})).await?[0].clone());
    let is_pushing = |push: &Value| push["state"] == "pushing";
    let push = wait::until("the push", LIMIT, list, is_pushing).await?;
    ensure!(push["left_out"].is_null(), "{push}");

    let rtmp = server.rtmp("live/cam");
    let http = |path: &str| server.url(path);
    let (ts, hls) = (http("/cam/live.ts"), http("/cam/index.m3u8"));
    let (mp4, vp9) = (
        http("/cam/live.mp4?audio=aac"),
        http("/web/live.mp4?audio=aac"),
    );
    let (opus, opus_hls) = (http("/cam/live.mp4"), http("/cam/index.m3u8?audio=source"));
    let heard = tokio::try_join!(
        ffmpeg(&rtmp, "h264", "aac"),
        ffmpeg(&there, "h264", "aac"),
        ffmpeg(&ts, "h264", "aac"),
        ffmpeg(&mp4, "h264", "aac"),
        ffmpeg(&vp9, "vp9", "aac"),
        ffmpeg(&hls, "h264", "aac"),
        // What asks for nothing else, or for that, gets it as it is.
        ffmpeg(&opus, "h264", "opus"),
        ffmpeg(&opus_hls, "h264", "opus"),
        vlc_hears(&rtmp),
        vlc_hears(&ts),
        mpv_hears(&rtmp),
        mpv_hears(&hls),
    );
    heard.with_context(|| server.log().join("\n"))?;
    let outputs = server.admin("output.list", json!({})).await?;
    let mut sounds: Vec<_> = outputs
        .as_array()
        .context("a list")?
        .iter()
        .filter(|output| output["stream"] == "cam")
        .map(|output| (output["kind"].to_string(), output["audio"].to_string()))
        .collect();
    sounds.sort();
    let expected = [
        ("hls", "aac"),
        ("hls", "source"),
        ("mp4", "aac"),
        ("mp4", "source"),
        ("ts", "aac"),
    ];
    let expected = expected.map(|(kind, audio)| (format!("\"{kind}\""), format!("\"{audio}\"")));
    ensure!(sounds == expected, "{outputs}");
    Ok(())
}
