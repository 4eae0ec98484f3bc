//! What a browser shares, played by other programs over RTMP, and pushed to another server.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use fanmill_tests::clients::nginx::Nginx;
use fanmill_tests::clients::{mpv, vlc, whip_ffmpeg};
use fanmill_tests::process::Process;
use fanmill_tests::scene::{LIMIT, plays, publish, watch};
use fanmill_tests::{Browser, Server, wait};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// Runs a program to its end; what it printed.
async fn run(program: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.output()).await;
    let output = ended.with_context(|| format!("{program:?} does not end"))??;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(output.status.success(), "{program:?}: {text}");
    Ok(text)
}

/// ffprobe of Debian: pictures, and no sound, since it does not say that it hears Opus.
async fn ffprobe_sees(url: &str) -> Result<()> {
    let fields = "stream=codec_name,nb_read_frames";
    let arguments = [
        "-v",
        "error",
        "-read_intervals",
        "%+2",
        "-count_frames",
        "-show_entries",
        fields,
        "-of",
        "compact",
        url,
    ];
    let text = run(Path::new("ffprobe"), &arguments).await?;
    let frames = text
        .trim()
        .strip_prefix("stream|codec_name=h264|nb_read_frames=");
    let frames: u32 = frames.context(text.clone())?.parse()?;
    ensure!(frames > 10, "{text}");
    Ok(())
}

/// rtmpdump, until it has saved some seconds: of what is live it never comes to an end.
async fn rtmpdump_saves(url: &str, folder: &Path) -> Result<()> {
    let file = folder.join("dump.flv");
    let mut command = Command::new("rtmpdump");
    command
        .args(["-q", "-r", url, "--live", "-o"])
        .arg(&file)
        .stdin(Stdio::null());
    let mut process = Process::spawn("rtmpdump", &mut command)?.polite();
    let size = async || {
        process.check_alive()?;
        Ok(std::fs::metadata(&file).map_or(0, |file| file.len()))
    };
    wait::until("a file", LIMIT, size, |&bytes| bytes > 50_000).await?;
    drop(process);
    let file = file.to_str().context("a path")?;
    let fields = [
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name,width",
        "-of",
        "compact",
        file,
    ];
    let text = run(Path::new("ffprobe"), &fields).await?;
    ensure!(text.trim() == "stream|codec_name=h264|width=640", "{text}");
    Ok(())
}

/// mpv: pictures, and no sound, likewise.
async fn mpv_sees(url: &str) -> Result<()> {
    let played = mpv::play(url, 2).await?;
    ensure!(
        played.video == "h264" && played.pictures >= 10,
        "{played:?}"
    );
    ensure!(played.loudest_db.is_none(), "{played:?}");
    Ok(())
}

/// VLC: pictures that move.
async fn vlc_sees(url: &str) -> Result<()> {
    let pictures = vlc::play(url, 4).await?.pictures;
    let (Some(first), Some(last)) = (pictures.first(), pictures.last()) else {
        bail!("no picture in VLC");
    };
    ensure!(last.changed_pixels(first) > 0, "the picture stands still");
    Ok(())
}

/// A recent ffmpeg: VP9 and Opus, seen and heard.
async fn ffmpeg_sees_and_hears(url: &str) -> Result<()> {
    let arguments = [
        "-hide_banner",
        "-rtmp_enhanced_codecs",
        "vp09,Opus",
        "-i",
        url,
        "-t",
        "2",
        "-af",
        "volumedetect",
        "-f",
        "null",
        "-",
    ];
    let text = run(&whip_ffmpeg().await?, &arguments).await?;
    ensure!(
        text.contains("Video: vp9") && text.contains("Audio: opus"),
        "{text}"
    );
    let volume = text.split("max_volume: ").nth(1).context(text.clone())?;
    let volume: f64 = volume.split(' ').next().unwrap_or_default().parse()?;
    ensure!(volume > -40.0, "{volume} dB: {text}");
    Ok(())
}

/// Waits until a push is so; `place` is its place among those there are.
async fn pushed(
    server: &Server,
    place: usize,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let list = async || Ok(server.admin("push.list", json!({})).await?[place].clone());
    wait::until(what, LIMIT, list, is_so).await
}

#[tokio::test]
async fn what_browsers_share_is_played_over_rtmp_and_pushed_to_another_server() -> Result<()> {
    let folder = TempDir::new()?;
    let (server, mut other) = (Server::start().await?, Server::start().await?);
    let mut nginx = Nginx::start().await?;
    let browser = Browser::start().await?;
    let _h264 = publish(&browser, &server, "cam", "H264").await?;
    let _vp9 = publish(&browser, &server, "web", "VP9").await?;
    let push = json!({ "stream": "cam", "url": other.rtmp("live/copy") });
    server.admin("push.create", push).await?;
    let there = nginx.url("copy");
    let push = json!({ "stream": "cam", "url": there });
    server.admin("push.create", push).await?;
    let seen = async {
        let page = watch(&browser, &other, "copy").await?;
        plays(&page, 2).await.context("the copy")?;
        Ok(page)
    };
    let (cam, web) = (server.rtmp("live/cam"), server.rtmp("live/web"));
    let played = tokio::try_join!(
        ffprobe_sees(&cam),
        rtmpdump_saves(&cam, folder.path()),
        mpv_sees(&cam),
        vlc_sees(&cam),
        ffprobe_sees(&there),
        ffmpeg_sees_and_hears(&web),
        seen,
    );
    let (.., page) = played.with_context(|| [server.log(), other.log()].concat().join("\n"))?;

    // The other server goes away and comes again.
    let push = pushed(&server, 0, "the push", |push| push["state"] == "pushing").await?;
    ensure!(
        push["left_out"].is_null() && push["connects"] == 1,
        "{push}"
    );
    let shown = push["url"].as_str().unwrap_or_default();
    ensure!(shown.ends_with("/live/..."), "the key is shown: {shown}");
    // nginx takes no Opus, and says nothing of it.
    let push = pushed(&server, 1, "the push to nginx", |push| {
        push["state"] == "pushing"
    })
    .await?;
    let left_out = push["left_out"].as_str().unwrap_or_default();
    ensure!(left_out.contains("without sound"), "{push}");
    other.halt().await?;
    nginx.halt();
    for place in [0, 1] {
        let failed = pushed(&server, place, "a failure", |push| {
            push["state"] == "retrying"
        })
        .await?;
        ensure!(failed["last_error"].is_string(), "{failed}");
    }
    nginx.resume().await?;
    other.resume().await?;
    for place in [0, 1] {
        pushed(&server, place, "another connection", |push| {
            push["connects"] == 2
        })
        .await?;
    }
    ffprobe_sees(&there)
        .await
        .context("nginx, after the restart")?;
    plays(&page, 1)
        .await
        .context("the copy, after the restart")?;

    // The far side refuses: somebody publishes there already.
    let second = json!({ "stream": "cam", "url": other.rtmp("live/copy") });
    let made = server.admin("push.create", second).await?;
    let refused = async || Ok(server.admin("push.list", json!({})).await?[2].clone());
    let refused = wait::until("a refusal", LIMIT, refused, |push| {
        push["last_error"]
            .as_str()
            .is_some_and(|why| why.contains("already has a publisher"))
    });
    refused.await?;
    server
        .admin("push.stop", json!({ "push": made["id"] }))
        .await?;
    let Value::Array(left) = server.admin("push.list", json!({})).await? else {
        bail!("no list");
    };
    ensure!(left.len() == 2, "{left:?}");
    Ok(())
}
