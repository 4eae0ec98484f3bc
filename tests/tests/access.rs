//! Tokens, as real programs show them: ffmpeg by RTMP, RTSP and HLS, and the pages in Chromium.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::process::{Output, Stdio};

use fanmill_tests::browser::keep_screenshot;
use fanmill_tests::clients::vlc;
use fanmill_tests::process::Process;
use fanmill_tests::scene::{LIMIT, plays};
use fanmill_tests::{Browser, Server, ServerOptions, wait};
use serde_json::json;
use tokio::process::Command;

const PUBLISH: &str = "publish-0123456789";
const WATCH: &str = "watch-0123456789";

/// ffmpeg with a moving picture and a tone; `output` is the rest of its arguments.
fn ffmpeg(output: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "error"])
        .args(["-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15"])
        .args([
            "-re",
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=44100",
        ])
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 15".split(' '))
        .args("-c:a aac -ac 2".split(' '))
        .args(output.split(' '))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(mut command: Command) -> Output {
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    output.expect("it ends").unwrap()
}

/// A second of a stream, decoded.
async fn reads(url: &str, options: &str) -> Output {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-nostdin"])
        .args(options.split_ascii_whitespace())
        .args(["-i", url, "-t", "1", "-f", "null", "-"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    run(command).await
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn programs_and_pages_show_their_token_or_are_refused() {
    let tokens = ["--publish-token", PUBLISH, "--watch-token", WATCH];
    let server = Server::start_with(ServerOptions {
        rtsp: true,
        arguments: tokens.map(Into::into).to_vec(),
        ..ServerOptions::default()
    });
    let server = server.await.unwrap();
    let rtsp = |user: &str, stream: &str| {
        server
            .rtsp(stream)
            .replace("rtsp://", &format!("rtsp://{user}"))
    };

    let rtmp = |query: &str| format!("-f flv {}{query}", server.rtmp("live/encoder"));
    let good = ffmpeg(&rtmp(&format!("?token={PUBLISH}")));
    let encoder = Process::spawn("ffmpeg", &mut { good }).unwrap();
    let refusals = async {
        let tcp = "-f rtsp -rtsp_transport tcp";
        let (bare, wrong, bare_rtsp, wrong_rtsp) = tokio::join!(
            run(ffmpeg(&rtmp(""))),
            run(ffmpeg(&rtmp("?token=wrong"))),
            run(ffmpeg(&format!("{tcp} {}", rtsp("", "door")))),
            run(ffmpeg(&format!("{tcp} {}", rtsp("x:wrong@", "door")))),
        );
        for (output, reason) in [
            (&bare, "a token is needed to publish"),
            (&wrong, "the token is not known"),
            (&bare_rtsp, "401"),
            (&wrong_rtsp, "401"),
        ] {
            assert!(!output.status.success());
            assert!(said(output).contains(reason), "{}", said(output));
        }
    };
    let browser = async {
        let browser = Browser::start().await.unwrap();
        let path = format!(
            "/publish/page?source=testcard&width=640&height=360&fps=15&autostart=1#token={PUBLISH}"
        );
        let publisher = browser.open(&server.url(&path)).await.unwrap();
        let connected = publisher.wait_for("fanmill.state === 'connected'", LIMIT);
        connected.await.unwrap();
        let lines = "[...document.querySelectorAll('#encoders input')].map((f) => f.value)";
        let lines = publisher.evaluate(lines).await.unwrap().to_string();
        // What others see on a screen that is shown.
        assert!(lines.contains("live/page?token=TOKEN"), "{lines}");
        assert!(!lines.contains(PUBLISH), "{lines}");
        (browser, publisher)
    };
    let ((), (browser, _publisher)) = tokio::join!(refusals, browser);

    // Who has none is asked for one.
    let page = browser
        .open(&server.url("/watch/page?stats=1"))
        .await
        .unwrap();
    let asked = "document.querySelector('#token input') !== null";
    page.wait_for(asked, LIMIT).await.unwrap();
    assert_eq!(page.evaluate("fanmill.state").await.unwrap(), "failed");
    let give = format!(
        "document.querySelector('#token input').value = '{WATCH}';
         document.querySelector('#token form').requestSubmit()"
    );
    page.evaluate(&give).await.unwrap();

    let (by_user, by_query) = (rtsp(&format!("x:{WATCH}@"), "encoder"), rtsp("", "encoder"));
    let by_query = format!("{by_query}?token={WATCH}");
    let hls = server.url(&format!("/encoder/index.m3u8?token={WATCH}"));
    let mp4 = server.url("/encoder/live.mp4");
    let by_rtmp = format!("{}?token={WATCH}", server.rtmp("live/encoder"));
    let by_password = mp4.replace("http://", &format!("http://x:{WATCH}@"));
    let (played, by_user, by_query, hls, by_password, by_rtmp, bare, vlc) = tokio::join!(
        plays(&page, 1),
        reads(&by_user, "-rtsp_transport tcp"),
        reads(&by_query, "-rtsp_transport udp"),
        reads(&hls, ""),
        reads(&by_password, ""),
        reads(&by_rtmp, ""),
        reads(&mp4, ""),
        // It finds the parts of a playlist by what the playlist says.
        vlc::play(&hls, 3),
    );
    assert!(vlc.unwrap().pictures.len() >= 2);
    played.unwrap_or_else(|error| panic!("{error:#}\n{}", server.log().join("\n")));
    for output in [by_user, by_query, hls, by_password, by_rtmp] {
        assert!(output.status.success(), "{}", said(&output));
    }
    assert!(said(&bare).contains("401"), "{}", said(&bare));
    // The addresses to copy let in who has them.
    let addresses = "[...document.querySelectorAll('#addresses input')].map((f) => f.value)[0]";
    let address = page.evaluate(addresses).await.unwrap();
    assert_eq!(
        address,
        server.url(&format!("/page/live.mp4?token={WATCH}"))
    );
    // A phone that looks at the code has it as well.
    page.evaluate("document.getElementById('addresses-toggle').click()")
        .await
        .unwrap();
    let code = "document.getElementById('code').naturalWidth > 0 && !document.getElementById('code-figure').hidden";
    page.wait_for(code, LIMIT).await.unwrap();
    let shown = page.screenshot().await.unwrap();
    keep_screenshot("watch-code", &shown).unwrap();
    // The front page, in the same tab, has the token too.
    let list = "fetch('/api/streams').then((answer) => answer.status)";
    assert_eq!(page.evaluate(list).await.unwrap(), 401);
    page.evaluate(&format!("location.href = '{}'", server.url("/")))
        .await
        .unwrap();
    let listed = "document.querySelectorAll('#streams li').length === 2";
    page.wait_for(listed, LIMIT).await.unwrap();

    // One that is made while it runs, and taken back.
    let create = json!({"streams": "encoder", "watch": true, "ttl_s": 600});
    let made = server.admin("access.create", create).await.unwrap();
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].clone());
    let endless = server.url(&format!("/encoder/live.mp4?token={token}"));
    let mut reading = reqwest::get(&endless).await.unwrap();
    assert_eq!(reading.status(), 200);
    assert!(reading.chunk().await.unwrap().is_some());
    let revoked = server
        .admin("access.revoke", json!({"id": id}))
        .await
        .unwrap();
    assert_eq!(revoked["sessions_ended"], 1, "{revoked}");
    while let Ok(Some(_)) = reading.chunk().await {}
    assert_eq!(reqwest::get(&endless).await.unwrap().status(), 401);
    let encoded = server.admin("stream.get", json!({"stream": "encoder"}));
    assert_eq!(encoded.await.unwrap()["live"], true);
    drop(encoder);

    let info = async || Ok(server.admin("server.info", json!({})).await?["access"].clone());
    let counted = wait::until("the counts", LIMIT, info, |access| {
        access["refused"]["unknown"].as_u64() >= Some(3)
    });
    let access = counted.await.unwrap();
    assert!(access["granted"].as_u64() >= Some(8), "{access}");
    let log = server.log().join("\n");
    assert!(log.contains("a token was refused"), "{log}");
    for secret in [PUBLISH, WATCH, token] {
        assert!(!log.contains(secret), "a token is in the log");
    }
}
