//! What real encoders publish by RTMP, seen and heard in Chromium.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use fanmill_tests::clients::{gstreamer, whip_ffmpeg};
use fanmill_tests::process::Process;
use fanmill_tests::scene::{LIMIT, plays, watch};
use fanmill_tests::{Browser, Server, ServerOptions, wait};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

const SECONDS: u32 = 3;

const H264: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-pix_fmt",
    "yuv420p",
    "-g",
    "30",
    "-b:v",
    "800k",
];
const LIVE: &[&str] = &["-tune", "zerolatency"];
const B_FRAMES: &[&str] = &["-bf", "2", "-b_strategy", "0"];
const AAC: &[&str] = &["-c:a", "aac", "-ac", "2"];
const VP9_OPUS: &[&str] = &[
    "-c:v",
    "libvpx-vp9",
    "-deadline",
    "realtime",
    "-cpu-used",
    "8",
    "-b:v",
    "800k",
    "-g",
    "30",
    "-c:a",
    "libopus",
    "-ar",
    "48000",
    "-ac",
    "2",
];

/// ffmpeg, publishing a test card and a tone until the value is dropped.
fn ffmpeg(program: &Path, options: &[&[&str]], url: &str) -> Result<Process> {
    let mut command = Command::new(program);
    command
        .args(["-hide_banner", "-loglevel", "warning", "-re"])
        .args(["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"])
        .args(options.concat())
        .args(["-f", "flv", url])
        .stdin(Stdio::null());
    Ok(Process::spawn("ffmpeg", &mut command)?.polite())
}

/// A certificate for this machine and its key, in files.
fn certificate(folder: &Path) -> Result<[String; 2]> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    Ok([cert, key].map(|path| path.display().to_string()))
}

async fn is_live(server: &Server, stream: &str) -> Result<()> {
    let live = async || Ok(server.stream(stream).await?["live"] == true);
    wait::until(stream, LIMIT, live, |&live| live)
        .await
        .map(drop)
        .with_context(|| server.log().join("\n"))
}

fn ingest<'a>(list: &'a Value, stream: &str) -> &'a Value {
    let all = list.as_array().into_iter().flatten();
    all.into_iter()
        .find(|ingest| ingest["stream"] == stream)
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn what_encoders_publish_by_rtmp_is_seen_and_heard_in_browsers() -> Result<()> {
    let folder = TempDir::new()?;
    let [cert, key] = certificate(folder.path())?;
    let rtmps = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let options = [
        "--rtmps",
        &rtmps.to_string(),
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    let server = Server::start_with(ServerOptions {
        arguments: options.map(Into::into).to_vec(),
        ..ServerOptions::default()
    })
    .await?;
    let browser = Browser::start().await?;
    let (debian, recent) = (Path::new("ffmpeg"), whip_ffmpeg().await?);
    let url = |stream: &str| server.rtmp(&format!("live/{stream}"));
    let publishers = [
        ffmpeg(debian, &[H264, LIVE, AAC], &url("card"))?,
        ffmpeg(&recent, &[VP9_OPUS], &url("enhanced?token=none"))?,
        ffmpeg(
            debian,
            &[H264, B_FRAMES, AAC],
            &format!("rtmps://{rtmps}/live/reordered"),
        )?,
        gstreamer::rtmp_publish(&url("gstreamer"))?,
    ];
    let seen = async |stream: &str, codec: &str| -> Result<()> {
        let page = watch(&browser, &server, stream).await?;
        let seen = plays(&page, SECONDS)
            .await
            .with_context(|| stream.to_owned())?;
        let has = seen.codec.as_deref().unwrap_or_default();
        ensure!(has.contains(codec), "{stream} is {has}");
        Ok(())
    };
    let seen = tokio::try_join!(
        seen("card", "H264"),
        seen("enhanced", "VP9"),
        seen("gstreamer", "H264"),
        // Its pictures are shown in their order by decoders that know the order.
        seen("reordered", "H264"),
    );
    seen.with_context(|| server.log().join("\n"))?;

    let list = server.admin("ingest.list", json!({})).await?;
    let card = ingest(&list, "card");
    ensure!(
        card["tracks"][0]["codec"] == "H264" && card["tracks"][1]["codec"] == "AAC",
        "{card}"
    );
    ensure!(card["warnings"] == json!([]), "{card}");
    ensure!(
        card["tracks"][0]["bitrate_bps"].as_u64() > Some(100_000),
        "{card}"
    );
    let reordered = ingest(&list, "reordered");
    let warning = reordered["warnings"][0].as_str().unwrap_or_default();
    ensure!(warning.contains("-bf 0"), "{reordered}");
    let log = server.log().join("\n");
    ensure!(log.contains("B-frames"), "{log}");

    // One publisher a name, whoever comes second.
    let second = ffmpeg(debian, &[H264, LIVE, AAC], &url("card"))?;
    let refused = async || Ok(second.log().lines().join("\n"));
    let told = wait::until("a refusal", LIMIT, refused, |log| {
        log.contains("already has a publisher")
    });
    told.await?;

    let info = server.admin("rtmp.list", json!({})).await?;
    let connections = info["connections"].as_array().context("connections")?;
    let of = |stream: &str| connections.iter().find(|one| one["stream"] == stream);
    ensure!(
        of("reordered").is_some_and(|one| one["tls"] == true),
        "{info}"
    );
    let card = of("card").context("the connection")?;
    ensure!(card["ingest"]["stream"] == "card", "{info}");

    // What is stopped on the admin socket is over, and the encoder is told.
    let stop = json!({ "connection": card["id"] });
    server.admin("rtmp.stop", stop).await?;
    let over = async || Ok(server.stream("card").await?["live"] == false);
    wait::until("the end", LIMIT, over, |&over| over).await?;
    server
        .admin("stream.stop", json!({ "stream": "gstreamer" }))
        .await?;
    let counted = async || {
        let info = server.admin("rtmp.list", json!({})).await?;
        Ok(info["ended"].clone())
    };
    let ended = wait::until("the count", LIMIT, counted, |ended| ended["stopped"] == 1).await?;
    ensure!(ended["refused"] == 1 && ended["cancelled"] == 1, "{ended}");
    is_live(&server, "enhanced").await?;
    drop(publishers);
    Ok(())
}
