//! RTSP with programs that everybody has: streams read by ffmpeg and GStreamer, published by ffmpeg
//! and seen and heard in Chromium, and pulled from one server by another.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use fanmill_tests::clients::{gstreamer, mpv};
use fanmill_tests::process::Process;
use fanmill_tests::scene::{LIMIT, plays, publish, session, watch, watched};
use fanmill_tests::{Browser, Server, ServerOptions, wait};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

const VIDEO: &str = "testsrc2=size=320x180:rate=15";
const AUDIO: &str = "sine=frequency=440:sample_rate=44100";
const H264: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 15";
const AAC: &str = "-c:a aac -ac 2";
const OPUS: &str = "-c:a libopus -ar 48000 -ac 2";

async fn start(folder: &Path) -> Server {
    let options = ServerOptions {
        rtsp: true,
        arguments: vec!["--recordings".into(), folder.into()],
        ..ServerOptions::default()
    };
    Server::start_with(options).await.unwrap()
}

/// ffmpeg with a moving picture and a tone; `output` is the rest of its arguments.
fn ffmpeg(output: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "error"])
        .args(["-re", "-f", "lavfi", "-i", VIDEO])
        .args(["-re", "-f", "lavfi", "-i", AUDIO])
        .args(output.split_ascii_whitespace())
        .stdin(Stdio::null());
    command
}

/// ffmpeg that publishes by RTSP, until it is dropped.
fn publisher(url: &str, transport: &str, sound: &str) -> Process {
    let output = format!("{H264} {sound} -f rtsp -rtsp_transport {transport} {url}");
    Process::spawn("ffmpeg", &mut ffmpeg(&output)).unwrap()
}

/// So many packets of a stream, decoded by ffmpeg without a complaint: pictures of this codec, and
/// sound.
async fn decodes(url: &str, transport: &str, (codec, packets): (&str, u32)) {
    let mut command = Command::new("ffprobe");
    command
        .args(["-v", "error", "-rtsp_transport", transport])
        .args(["-read_intervals", &format!("%+#{packets}"), "-count_frames"])
        .args(["-show_entries", "stream=codec_name,nb_read_frames"])
        .args(["-of", "json", url])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.expect("ffprobe ends").unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "{transport} {url}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let frames = |codec: &str| {
        let streams = seen["streams"].as_array().unwrap();
        let stream = streams.iter().find(|stream| stream["codec_name"] == codec);
        let count = stream.and_then(|stream| stream["nb_read_frames"].as_str());
        count.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    assert!(frames(codec) >= 15, "{transport} {url}: {seen}");
    assert!(frames("opus") >= 40, "{transport} {url}: {seen}");
}

/// Thirty pictures and packets of sound, decoded by GStreamer.
async fn plays_in_gstreamer(url: &str, transport: &str) {
    let source = format!("rtspsrc name=s location={url} protocols={transport} latency=50");
    let video = "s. ! rtph264depay ! avdec_h264 ! fakesink num-buffers=30";
    let audio = "s. ! rtpopusdepay ! opusdec ! fakesink num-buffers=30";
    let mut command = Command::new("gst-launch-1.0");
    command
        .arg("-q")
        .args([source.as_str(), video, audio].join(" ").split(' '))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.expect("GStreamer has its pictures").unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{transport}: {errors}");
}

#[tokio::test]
async fn a_stream_is_read_by_ffmpeg_and_gstreamer_over_udp_and_tcp() {
    let folder = TempDir::new().unwrap();
    let film = format!("-t 8 -g 50 {H264} {OPUS}");
    let made = Command::new("ffmpeg")
        .args([
            "-v", "error", "-f", "lavfi", "-i", VIDEO, "-f", "lavfi", "-i", AUDIO,
        ])
        .args(film.split_ascii_whitespace())
        .arg(folder.path().join("film.mp4"))
        .status();
    assert!(made.await.unwrap().success());
    let server = start(folder.path()).await;
    let url = server.rtsp("film");
    let refused = Command::new("ffprobe").args(["-v", "error", &url]).output();
    let refused = refused.await.unwrap();
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        reason.contains("stream film has no publisher now"),
        "{reason}"
    );

    let create = json!({"stream": "film", "path": "film.mp4", "repeat": true});
    server.admin("player.create", create).await.unwrap();
    let play = json!({"stream": "film"});
    server.admin("player.play", play).await.unwrap();
    // All at once: they share one tap, and nobody is in the other's way.
    let (.., mpv) = tokio::join!(
        decodes(&url, "udp", ("h264", 150)),
        decodes(&url, "tcp", ("h264", 150)),
        plays_in_gstreamer(&url, "udp"),
        plays_in_gstreamer(&url, "tcp"),
        mpv::play(&url, 2),
    );
    let mpv = mpv.unwrap();
    assert_eq!((&mpv.video[..], &mpv.audio[..]), ("h264", "opus"));
    assert!(mpv.pictures >= 10, "{mpv:?}");
    assert!(mpv.loudest_db.is_some_and(|db| db > -40.0), "{mpv:?}");
    let listed = server.admin("rtsp.list", json!({})).await.unwrap();
    assert_eq!(listed["readers_dropped"], 0, "{listed}");
}

/// What a server says of a pull.
async fn pull_of(server: &Server, stream: &str) -> anyhow::Result<Value> {
    let list = server.admin("rtsp.list", json!({})).await?;
    let pulls = list["pulls"].as_array().cloned().unwrap_or_default();
    let found = pulls.into_iter().find(|pull| pull["stream"] == stream);
    Ok(found.unwrap_or_default())
}

/// The page goes on to show more pictures.
async fn shows_more(page: &fanmill_tests::Page) {
    let before = watched(page).await.unwrap().frames_decoded;
    let probe = async || watched(page).await;
    let shown = wait::until("more pictures", LIMIT, probe, |now| {
        now.frames_decoded > before + 5
    });
    shown.await.unwrap();
}

#[tokio::test]
async fn what_ffmpeg_publishes_is_seen_and_heard_and_pulled_by_another_server() {
    let folder = TempDir::new().unwrap();
    let mut server = start(folder.path()).await;
    let other = start(folder.path()).await;
    let browser = Browser::start().await.unwrap();
    let tcp = publisher(&server.rtsp("tcp"), "tcp", AAC);
    let _udp = publisher(&server.rtsp("udp"), "udp", OPUS);
    // A stream of the browser's own, for RTSP readers.
    let camera = publish(&browser, &server, "camera", "VP8").await.unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    // It is pulled before it is there, by one who knows the password and one who does not.
    for (stream, password) in [("door", "se%3Acret"), ("shut", "secret")] {
        let url = format!("rtsp://viewer:{password}@127.0.0.1:{port}/stream1");
        let pull = json!({"stream": stream, "url": url});
        other.admin("rtsp.pull", pull).await.unwrap();
    }
    let _camera = gstreamer::rtsp_camera(port, "viewer", "se:cret").unwrap();
    let pull = json!({"stream": "far", "url": server.rtsp("tcp")});
    other.admin("rtsp.pull", pull.clone()).await.unwrap();
    let twice = other
        .admin("rtsp.pull", pull)
        .await
        .unwrap_err()
        .to_string();
    assert!(twice.contains("pulled already"), "{twice}");

    let far = watch(&browser, &other, "far").await.unwrap();
    for stream in ["tcp", "udp"] {
        let page = watch(&browser, &server, stream).await.unwrap();
        let seen = plays(&page, 1).await;
        let seen =
            seen.unwrap_or_else(|error| panic!("{stream}: {error:#}\n{}", server.log().join("\n")));
        assert_eq!(seen.codec.as_deref(), Some("H264"));
        page.close().await.unwrap();
    }
    let second = format!("{H264} -f rtsp -rtsp_transport tcp {}", server.rtsp("tcp"));
    let refused = ffmpeg(&second).output().await.unwrap();
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(reason.contains("already has a publisher"), "{reason}");
    plays(&far, 1).await.unwrap();
    decodes(&server.rtsp("camera"), "udp", ("vp8", 300)).await;
    camera.close().await.unwrap();

    // A camera, with the sound of a telephone.
    let door = watch(&browser, &other, "door").await.unwrap();
    let seen = plays(&door, 1).await;
    let seen = seen.unwrap_or_else(|error| panic!("{error:#}\n{}", other.log().join("\n")));
    assert_eq!(seen.codec.as_deref(), Some("H264"));
    door.close().await.unwrap();
    let shut = wait::until(
        "the refusal",
        LIMIT,
        async || pull_of(&other, "shut").await,
        |pull| {
            let error = pull["last_error"].as_str();
            error.is_some_and(|error| error.contains("user or the password"))
        },
    );
    let shut = shut.await.unwrap();
    assert_eq!(shut["url"], format!("rtsp://127.0.0.1:{port}/stream1"));

    // The far side is restarted: its stream is pulled again, into the same viewer's session.
    let before = session(&far).await.unwrap();
    drop(tcp);
    server.halt().await.unwrap();
    let state = async || pull_of(&other, "far").await;
    let gone = wait::until("the interruption", LIMIT, state, |pull| {
        pull["state"] != "live"
    });
    let gone = gone.await.unwrap();
    assert!(gone["last_error"].is_string(), "{gone}");
    server.resume().await.unwrap();
    let _tcp = publisher(&server.rtsp("tcp"), "tcp", AAC);
    let back = wait::until("the stream", LIMIT, state, |pull| pull["state"] == "live");
    back.await.unwrap();
    shows_more(&far).await;
    assert_eq!(session(&far).await.unwrap(), before);
    let stop = json!({"stream": "far"});
    let stopped = other.admin("rtsp.stop", stop).await.unwrap();
    assert_eq!(stopped["state"], "ended");
    assert_eq!(other.stream("far").await.unwrap()["live"], false);
}
