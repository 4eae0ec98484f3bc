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
    let input = "-f lavfi -i testsrc2=size=320x180:rate=15 -f lavfi -i sine=frequency=440";
    let output = "-t 40 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac";
    let mut made = ffmpeg(Path::new("ffmpeg"), input, output);
    let made = made.arg(folder.join("film.mp4")).status().await.unwrap();
    assert!(made.success());
}

/// A program that publishes, and what.
type Running = (&'static str, Process);

/// The lines by their titles, on the page of this stream.
async fn lines(browser: &Browser, server: &Server, stream: &str, token: &str) -> Value {
    let token = match token {
        "" => String::new(),
        token => format!("#token={token}"),
    };
    let url = server.url(&format!("/publish/{stream}{token}"));
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

/// A server where the lines of its pages lead: at the usual ports, so at an address that no other is at,
/// nor one of this test somewhere else.
async fn at_usual_ports(network: u8, arguments: &[&str]) -> Server {
    let [.., high, low] = std::process::id().to_be_bytes();
    let options = ServerOptions {
        ip: Ipv4Addr::new(127, network, high, low).into(),
        rtsp: true,
        usual_ports: true,
        arguments: arguments.iter().map(Into::into).collect(),
        ..ServerOptions::default()
    };
    Server::start_with(options).await.unwrap()
}

/// Runs the lines for programs that a page of the server offers to whoever has the token.
async fn run(browser: &Browser, server: &Server, folder: &Path, token: &str) -> Vec<Running> {
    let recent = folder.join("8");
    let programs = [
        ("ffmpeg", "rtmp", folder),
        // Its title says which ffmpeg it is for.
        ("ffmpeg 8, WHIP", "whip", &recent),
        ("ffmpeg, RTSP", "rtsp", folder),
        ("GStreamer", "gstreamer", folder),
    ];
    let mut running = Vec::new();
    for (title, stream, folder) in programs {
        let lines = lines(browser, server, stream, token).await;
        let line = lines[title].as_str().unwrap_or_else(|| panic!("{lines}"));
        assert_eq!(line.contains("TOKEN"), !token.is_empty(), "{line}");
        println!("{line}");
        running.push((stream, shell(folder, &line.replace("TOKEN", token))));
    }
    running
}

/// Sees and hears all that was begun.
async fn are_seen(browser: &Browser, server: &Server, running: &[Running]) {
    let wall = Wall::open(browser, server).await.unwrap();
    let seen = running.iter().map(async |(stream, process)| {
        is_live(server, stream, process).await;
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

#[tokio::test]
async fn what_the_publishing_page_offers_to_copy_works_as_it_stands() {
    const TOKEN: &str = "1f0c9a7be5d24863";
    let folder = TempDir::new().unwrap();
    film(folder.path()).await;
    let recent = folder.path().join("8");
    std::fs::create_dir(&recent).unwrap();
    let program = whip_ffmpeg().await.unwrap();
    std::os::unix::fs::symlink(program, recent.join("ffmpeg")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("film.mp4"), recent.join("film.mp4")).unwrap();
    let open = at_usual_ports(19, &[]).await;
    let closed = at_usual_ports(20, &["--publish-token", TOKEN]).await;
    let browser = Browser::start().await.unwrap();

    let at_open = run(&browser, &open, folder.path(), "").await;
    let mut at_closed = run(&browser, &closed, folder.path(), TOKEN).await;
    // OBS has no lines to copy but fields.
    let lines = lines(&browser, &closed, "obs", TOKEN).await;
    let field = |title: &str| lines[title].as_str().unwrap_or_else(|| panic!("{lines}"));
    let key = field("OBS, stream key").replace("TOKEN", TOKEN);
    let obs = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/try-obs");
    let mut command = Command::new(obs);
    command
        .args([field("OBS, RTMP server"), &key])
        .env("OBS_SIZE", "320x180")
        .stdin(Stdio::null());
    at_closed.push(("obs", Process::spawn("OBS", &mut command).unwrap().polite()));

    tokio::join!(
        are_seen(&browser, &open, &at_open),
        are_seen(&browser, &closed, &at_closed)
    );
}
