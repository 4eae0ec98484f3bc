//! What the publishing page offers to copy, run as it stands there.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use fanmill_tests::clients::whip_ffmpeg;
use fanmill_tests::process::Process;
use fanmill_tests::{Browser, Server, ServerOptions, Wall};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{ffmpeg, is_live};

/// The film of the lines, longer than they are watched.
async fn film(folder: &Path) {
    let input = "-f lavfi -i testsrc2=size=640x360:rate=30 -f lavfi -i sine=frequency=440";
    let output = "-t 40 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac";
    let mut made = ffmpeg(Path::new("ffmpeg"), input, output);
    let made = made.arg(folder.join("film.mp4")).status().await.unwrap();
    assert!(made.success());
}

/// The lines by their titles, on the page of this stream.
async fn lines(browser: &Browser, server: &Server, stream: &str) -> Value {
    let url = server.url(&format!("/publish/{stream}"));
    let page = browser.open(&url).await.unwrap();
    let script = "Object.fromEntries([...document.querySelectorAll('#encoders label')]
        .map((row) => [row.firstChild.textContent, row.querySelector('input').value]))";
    let lines = page.evaluate(script).await.unwrap();
    page.close().await.unwrap();
    lines
}

fn shell(folder: &Path, line: &str) -> Process {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", folder.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Process::spawn(line, &mut command).unwrap()
}

#[tokio::test]
async fn what_the_publishing_page_offers_to_copy_works_as_it_stands() {
    let folder = TempDir::new().unwrap();
    // The page takes the ports to be the usual ones, so the server is where nobody else is.
    let options = ServerOptions {
        ip: Ipv4Addr::new(127, 0, 19, 35).into(),
        rtsp: true,
        usual_ports: true,
        ..ServerOptions::default()
    };
    let server = Server::start_with(options).await.unwrap();
    let browser = Browser::start().await.unwrap();
    let wall = Wall::open(&browser, &server).await.unwrap();
    film(folder.path()).await;
    // The line of WHIP says which ffmpeg it is for.
    let recent = folder.path().join("8");
    std::fs::create_dir(&recent).unwrap();
    let program = whip_ffmpeg().await.unwrap();
    std::os::unix::fs::symlink(program, recent.join("ffmpeg")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("film.mp4"), recent.join("film.mp4")).unwrap();

    let here = folder.path();
    let programs = [
        ("ffmpeg", "rtmp", here),
        ("ffmpeg 8, WHIP", "whip", &recent),
        ("ffmpeg, RTSP", "rtsp", here),
        ("GStreamer", "gstreamer", here),
    ];
    let mut running = Vec::new();
    for (title, stream, folder) in programs {
        let lines = lines(&browser, &server, stream).await;
        let line = lines[title].as_str().unwrap_or_else(|| panic!("{lines}"));
        println!("{line}");
        running.push((stream, shell(folder, line)));
    }
    // OBS has no lines to copy but fields.
    let lines = lines(&browser, &server, "obs").await;
    let field = |title: &str| lines[title].as_str().unwrap_or_else(|| panic!("{lines}"));
    let obs = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/try-obs");
    let mut command = Command::new(obs);
    command
        .args([field("OBS, RTMP server"), field("OBS, stream key")])
        .env("OBS_SIZE", "640x360")
        .stdin(Stdio::null());
    running.push(("obs", Process::spawn("OBS", &mut command).unwrap().polite()));

    let seen = running.iter().map(async |(stream, process)| {
        is_live(&server, stream, process).await;
        wall.watch(stream).await.unwrap();
        let seen = wall.plays(stream, "H264").await;
        let seen = seen.unwrap_or_else(|error| {
            let said = process.log().lines().join("\n");
            panic!("{error:#}\n{said}\n{}", server.log().join("\n"))
        });
        println!("{stream}: {seen:?}");
    });
    join_all(seen).await;
    let list = server.admin("ingest.list", json!({})).await.unwrap();
    for ingest in list.as_array().unwrap() {
        assert_eq!(ingest["warnings"], json!([]), "{ingest}");
    }
}
