//! Plain RTP from ffmpeg and VLC, seen and heard in Chromium; and a stream sent as plain RTP, read by
//! ffmpeg.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fanmill_tests::process::Process;
use fanmill_tests::scene::{LIMIT, plays, session, watch, watched};
use fanmill_tests::{Browser, Server, wait};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// A key of AES_CM_128_HMAC_SHA1_80, with its salt.
const KEY: &str = "WUw/gbjX4DNKo1aG8TFzpPDLSJQ0WKYYKBVGMUTZ";

const VIDEO: &str = "testsrc2=size=320x180:rate=15";
const AUDIO: &str = "sine=frequency=440:sample_rate=44100";
const H264: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 15";

/// Ports that nobody uses: an even one, and the three above it.
fn free_ports(ip: &str) -> u16 {
    let is_free = |port: u16| UdpSocket::bind((ip, port)).is_ok();
    let mut candidates = std::iter::repeat_with(|| {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.local_addr().unwrap().port() & !1
    });
    candidates
        .find(|&first| first < 65_000 && (first..first + 4).all(is_free))
        .unwrap()
}

/// ffmpeg with a moving picture and a tone, in real time; `output` is the rest of its arguments.
fn ffmpeg(output: &str) -> Process {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "error", "-re"])
        .args(["-f", "lavfi", "-i", VIDEO])
        .args(["-re", "-f", "lavfi", "-i", AUDIO])
        .args(output.split_ascii_whitespace())
        .stdin(Stdio::null());
    Process::spawn("ffmpeg", &mut command).unwrap()
}

/// ffmpeg that sends H.264 and AAC to a pair of ports and writes what it sends to `sdp`.
fn ffmpeg_plain(port: u16, sdp: &Path) -> Process {
    let audio = port + 2;
    ffmpeg(&format!(
        "-map 0:v {H264} -f rtp rtp://127.0.0.1:{port} \
         -map 1:a -c:a aac -ac 2 -f rtp rtp://127.0.0.1:{audio} -sdp_file {}",
        sdp.display()
    ))
}

/// VLC, which does not run as root, playing a file to an output of its own.
fn vlc(file: &Path, output: &str) -> Process {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    let mut command = match is_root {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cvlc"]);
            command
        }
        false => Command::new("cvlc"),
    };
    command
        .env("HOME", file.parent().unwrap())
        .args([
            "--no-color",
            "--quiet",
            "--intf",
            "dummy",
            "--repeat",
            "--miface=lo",
        ])
        .arg(file)
        .args(["--sout", output])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Process::spawn("vlc", &mut command).unwrap()
}

/// A file that VLC plays, where everybody may read it.
async fn film(folder: &TempDir) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), all).unwrap();
    let path = folder.path().join("film.ts");
    let arguments = format!("-t 20 {H264} -c:a aac -ac 2");
    let made = Command::new("ffmpeg")
        .args([
            "-v", "error", "-f", "lavfi", "-i", VIDEO, "-f", "lavfi", "-i", AUDIO,
        ])
        .args(arguments.split_ascii_whitespace())
        .arg(&path)
        .stdin(Stdio::null())
        .status();
    assert!(made.await.unwrap().success());
    path
}

async fn until_written(path: &Path) {
    let probe = async || Ok(std::fs::read_to_string(path).unwrap_or_default());
    wait::until("the SDP", LIMIT, probe, |sdp| sdp.contains("m=audio"))
        .await
        .unwrap();
}

async fn state(server: &Server, streamer: &Value) -> anyhow::Result<Value> {
    let all = server.admin("streamer.list", json!({})).await?;
    let all = all.as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|one| one["id"] == streamer["id"]);
    Ok(found.unwrap_or_default())
}

async fn create(server: &Server, params: Value) -> Value {
    server.admin("streamer.create", params).await.unwrap()
}

/// What ffmpeg decodes of a description within some seconds: frames of video, and its complaints.
async fn received(sdp: &Path, seconds: u32) -> (u64, u64, String) {
    let mut command = Command::new("ffprobe");
    command
        .args(["-v", "error", "-protocol_whitelist", "file,udp,rtp"])
        .args(["-analyzeduration", "3000000", "-probesize", "4000000"])
        .args(["-read_intervals", &format!("%+{seconds}"), "-count_frames"])
        .args([
            "-show_entries",
            "stream=codec_type,nb_read_frames",
            "-of",
            "json",
        ])
        .arg(sdp)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.expect("ffprobe ends").unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let frames = |kind: &str| {
        let streams = seen["streams"].as_array().cloned().unwrap_or_default();
        let stream = streams.into_iter().find(|s| s["codec_type"] == kind);
        let count = stream.and_then(|s| s["nb_read_frames"].as_str()?.parse().ok());
        count.unwrap_or(0)
    };
    (frames("video"), frames("audio"), errors)
}

#[tokio::test]
async fn what_ffmpeg_sends_is_shown_through_a_restart_and_sent_on() {
    let folder = TempDir::new().unwrap();
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();
    let port = free_ports("127.0.0.1");
    let sdp = folder.path().join("cam.sdp");
    let sender = ffmpeg_plain(port, &sdp);
    until_written(&sdp).await;
    let streamer = create(&server, json!({"stream": "cam", "sdp_file": sdp})).await;
    let page = watch(&browser, &server, "cam").await.unwrap();
    let seen = plays(&page, 2).await;
    let seen = seen.unwrap_or_else(|error| panic!("{error:#}\n{}", server.log().join("\n")));
    assert_eq!(seen.codec.as_deref(), Some("H264"));
    let listed = server.admin("ingest.list", json!({})).await.unwrap();
    assert_eq!(listed[0]["source"], "rtp", "{listed}");

    // Sent on: what ffmpeg reads of it is what it sent.
    let to = free_ports("127.0.0.1");
    let out = json!({"stream": "cam", "direction": "out", "to": format!("127.0.0.1:{to}")});
    let out = create(&server, out).await;
    let sdp_out = folder.path().join("out.sdp");
    std::fs::write(&sdp_out, out["sdp"].as_str().expect("an SDP")).unwrap();
    let (video, audio, errors) = received(&sdp_out, 2).await;
    assert!(video >= 10 && audio >= 40, "{video} {audio} {errors} {out}");
    let sent = state(&server, &out).await.unwrap();
    assert_eq!(sent["state"], "sending", "{sent}");
    // Sealed and to a group, it is heard by whoever has the description: here, by this server.
    let group = json!({"stream": "cam", "direction": "out", "to": format!("239.255.77.8:{}", to + 8),
                       "interface": "lo", "srtp": true});
    let group = create(&server, group).await;
    let copy = json!({"stream": "copy", "sdp": group["sdp"], "interface": "lo"});
    let copy = create(&server, copy).await;
    let probe = async || state(&server, &copy).await;
    let live = wait::until("the copy", LIMIT, probe, |now| now["state"] == "live");
    let live = live.await.unwrap();
    assert_eq!(live["media"][0]["dropped"]["unauthenticated"], 0, "{live}");
    let probe = async || Ok(server.stream("copy").await?["tracks"].to_string());
    let both = wait::until("picture and sound", LIMIT, probe, |tracks| {
        tracks.contains("H264") && tracks.contains("opus")
    });
    both.await.unwrap();

    let stopped = server
        .admin("streamer.stop", json!({"streamer": out["id"]}))
        .await;
    assert_eq!(stopped.unwrap()["direction"], "out");

    // A restarted sender, with ports, numbers and times of its own: the same session sees it.
    let before = session(&page).await.unwrap();
    drop(sender);
    let probe = async || state(&server, &streamer).await;
    let silent = wait::until("silence", LIMIT, probe, |now| now["state"] == "silent");
    silent.await.unwrap();
    assert_eq!(server.stream("cam").await.unwrap()["live"], true);
    let frames = watched(&page).await.unwrap().frames_decoded;
    let _sender = ffmpeg_plain(port, &folder.path().join("again.sdp"));
    let probe = async || watched(&page).await;
    let shown = wait::until("more pictures", LIMIT, probe, |now| {
        now.frames_decoded > frames + 5
    });
    shown.await.unwrap();
    plays(&page, 1).await.unwrap();
    assert_eq!(session(&page).await.unwrap(), before);
    let heard = state(&server, &streamer).await.unwrap();
    assert_eq!(heard["media"][0]["lost"], 0, "{heard}");

    server
        .admin("streamer.stop", json!({"streamer": streamer["id"]}))
        .await
        .unwrap();
    assert_eq!(server.stream("cam").await.unwrap()["live"], false);
    assert!(
        UdpSocket::bind(("127.0.0.1", port)).is_ok(),
        "the port is free"
    );
}

#[tokio::test]
async fn vlc_in_mpeg_ts_and_sealed_rtp_are_shown() {
    let folder = TempDir::new().unwrap();
    let film = film(&folder).await;
    let server = Server::start().await.unwrap();
    let browser = Browser::start().await.unwrap();

    // VLC's way: all in one stream of MPEG-TS, to a multicast group on this machine.
    let group = "239.255.77.7";
    let media = json!([{"codec": "MP2T", "address": group}]);
    let ts = json!({"stream": "vlc", "media": media, "interface": "lo"});
    let ts = create(&server, ts).await;
    let port = ts["media"][0]["address"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap()
        .1;
    // And its other way: a stream each for picture and sound, with an SDP.
    let plain = free_ports("127.0.0.1");
    let (audio, sdp) = (plain + 2, folder.path().join("vlc.sdp"));
    let output = format!(
        "#duplicate{{dst=rtp{{dst={group},port={port},mux=ts,ttl=1}},dst=rtp{{dst=127.0.0.1,\
         port-video={plain},port-audio={audio},sdp=file://{}}}}}",
        sdp.display()
    );
    let _vlc = vlc(&film, &output);

    // Sealed, over IPv6, described by its codecs, on ports that the server chose: VP8, and AAC in LATM.
    let crypto = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
    let medium = |codec: &str, rate: u32, payload_type: u8| {
        json!({"codec": codec, "clock_rate": rate, "payload_type": payload_type,
               "address": "::1", "crypto": crypto, "fmtp": "cpresent=0;config=400024203fc0"})
    };
    let media = json!([medium("VP8", 90_000, 96), medium("MP4A-LATM", 44_100, 97)]);
    let sealed = create(&server, json!({"stream": "sealed", "media": media})).await;
    let address = |media: usize| {
        sealed["media"][media]["address"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let seal = format!("-srtp_out_suite AES_CM_128_HMAC_SHA1_80 -srtp_out_params {KEY}");
    let _ffmpeg = ffmpeg(&format!(
        "-map 0:v -c:v libvpx -deadline realtime -cpu-used 8 -b:v 300k -g 15 \
         -f rtp -payload_type 96 {seal} srtp://{} \
         -map 1:a -c:a aac -ac 2 -f rtp -payload_type 97 -rtpflags latm {seal} srtp://{}",
        address(0),
        address(1)
    ));

    until_written(&sdp).await;
    let apart = create(&server, json!({"stream": "vlc-apart", "sdp_file": sdp})).await;

    for (stream, codec, streamer) in [
        ("sealed", "VP8", &sealed),
        ("vlc", "H264", &ts),
        ("vlc-apart", "H264", &apart),
    ] {
        let page = watch(&browser, &server, stream).await.unwrap();
        let seen = plays(&page, 2).await;
        let heard = state(&server, streamer).await.unwrap();
        let log = || format!("{heard}\n{}", server.log().join("\n"));
        let seen = seen.unwrap_or_else(|error| panic!("{stream}: {error:#}\n{}", log()));
        assert_eq!(seen.codec.as_deref(), Some(codec));
        page.close().await.unwrap();
    }
    let refused = json!({"stream": "x", "sdp": "m=video 5004 RTP/AVP 31"});
    let refused = server.admin("streamer.create", refused).await.unwrap_err();
    assert!(refused.to_string().contains("is not received"), "{refused}");
}
