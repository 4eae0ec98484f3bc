//! Every codec of every door that no other test has from a real sender.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use fanmill_tests::clients::{gstreamer, whip_ffmpeg};
use fanmill_tests::picture::Picture;
use fanmill_tests::process::Process;
use fanmill_tests::scene::LIMIT;
use fanmill_tests::server::{free_udp_ports, lan_ip};
use fanmill_tests::{Browser, Server, ServerOptions, Wall};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{AAC, H264, ffmpeg, is_live, until_written};

const FILM: &str = "-re -f lavfi -i testsrc2=size=320x180:rate=15 \
    -re -f lavfi -i sine=frequency=440:sample_rate=48000";

const H265: &str = "-c:v libx265 -preset ultrafast -tune zerolatency -x265-params log-level=error \
    -bf 0 -pix_fmt yuv420p -b:v 300k -g 15";
const VP8: &str = "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 300k -g 15";
/// By RTP, ffmpeg calls VP9 and AV1 experimental.
const VP9: &str =
    "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 300k -g 15 -strict experimental";
const AV1: &str =
    "-c:v libsvtav1 -preset 11 -crf 45 -g 15 -svtav1-params pred-struct=1 -strict experimental";

const PCMU: &str = "-c:a pcm_mulaw -ar 8000 -ac 1";
const PCMA: &str = "-c:a pcm_alaw -ar 8000 -ac 1";
const G722: &str = "-c:a g722 -ar 16000 -ac 1";
const OPUS: &str = "-c:a libopus -b:a 64k -ar 48000 -ac 2";

/// A stream on its way, and as what it is expected.
struct Sent {
    stream: &'static str,
    /// What the pictures are when they are seen; that of the sound is Opus.
    codec: &'static str,
    process: Process,
}

fn spawn(program: &Path, output: &str) -> Process {
    let name = program.display().to_string();
    Process::spawn(&name, &mut ffmpeg(program, FILM, output)).unwrap()
}

async fn create(server: &Server, streamer: Value) {
    server.admin("streamer.create", streamer).await.unwrap();
}

/// GStreamer with H.264 and sound of this kind, each into what is named after it.
fn gst_launch(first: &str, video: &str, sound: &str, audio: &str) -> Process {
    let pipeline = format!(
        "{first} videotestsrc is-live=true horizontal-speed=5 \
         ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! {video} \
         audiotestsrc is-live=true volume=0.5 ! audio/x-raw,rate=48000,channels=2 \
         ! {sound} ! {audio}"
    );
    let mut command = Command::new("gst-launch-1.0");
    command
        .arg("-q")
        .args(pipeline.split_ascii_whitespace())
        .stdin(Stdio::null());
    Process::spawn("GStreamer", &mut command).unwrap()
}

/// Twenty pictures that ffmpeg decodes of an address are not flat, and move.
async fn is_decoded(stream: &str, input: String) {
    let output = "-map 0:v -frames:v 20 -vf scale=64:36 -pix_fmt gray -f rawvideo pipe:1";
    let mut command = ffmpeg(Path::new("ffmpeg"), &input, output);
    let decoded = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output()).await;
    let decoded = decoded.unwrap_or_else(|_| panic!("{stream}: {input} does not end"));
    let decoded = decoded.unwrap();
    let errors = String::from_utf8_lossy(&decoded.stderr);
    let pictures = decoded.stdout.chunks_exact(64 * 36).map(|grey| Picture {
        width: 64,
        height: 36,
        grey: grey.to_vec(),
    });
    let pictures: Vec<Picture> = pictures.collect();
    assert_eq!(pictures.len(), 20, "{stream} by {input}: {errors}");
    assert!(pictures[19].variance() > 1000.0, "{stream} is flat");
    assert!(pictures[19].changed_pixels(&pictures[0]) >= 20, "{stream}");
}

#[tokio::test]
async fn every_codec_of_every_door_is_seen_and_heard() {
    let folder = TempDir::new().unwrap();
    // GStreamer looks for viewers' paths at no loopback address.
    let options = ServerOptions {
        ip: lan_ip().unwrap(),
        rtsp: true,
        ..ServerOptions::default()
    };
    let server = Server::start_with(options).await.unwrap();
    let (debian, recent) = (PathBuf::from("ffmpeg"), whip_ffmpeg().await.unwrap());
    let first = free_udp_ports([127, 0, 0, 1].into(), 20).unwrap();
    let sdp = |stream: &str| folder.path().join(format!("{stream}.sdp"));
    let rtp = |stream, codec, program: &Path, options: [&str; 2], port: u16| Sent {
        stream,
        codec,
        process: spawn(
            program,
            &format!(
                "-map 0:v {} -f rtp rtp://127.0.0.1:{port} \
                 -map 1:a {} -f rtp rtp://127.0.0.1:{} -sdp_file {}",
                options[0],
                options[1],
                port + 2,
                sdp(stream).display()
            ),
        ),
    };
    let rtmp = |stream, codec, program: &Path, options: [&str; 2]| Sent {
        stream,
        codec,
        process: spawn(
            program,
            &format!(
                "{} -f flv {}",
                options.join(" "),
                server.rtmp(&format!("live/{stream}"))
            ),
        ),
    };
    let rtsp = |stream, codec, program: &Path, options: [&str; 2], more: &str| Sent {
        stream,
        codec,
        process: spawn(
            program,
            &format!(
                "{} {more} -f rtsp {}",
                options.join(" "),
                server.rtsp(stream)
            ),
        ),
    };
    let by_sdp = [
        rtp("rtp-vp9", "VP9", &debian, [VP9, PCMU], first),
        rtp("rtp-av1", "AV1", &recent, [AV1, G722], first + 4),
        rtp("rtp-h265", "H265", &debian, [H265, PCMA], first + 8),
    ];
    let (plain, ts) = (first + 12, first + 16);
    let described = [
        Sent {
            stream: "rtp-gstreamer",
            codec: "H264",
            process: gst_launch(
                "",
                &format!(
                    "rtph264pay pt=96 config-interval=-1 ! udpsink host=127.0.0.1 port={plain}"
                ),
                "opusenc",
                &format!(
                    "rtpopuspay pt=97 ! udpsink host=127.0.0.1 port={}",
                    plain + 2
                ),
            ),
        },
        Sent {
            stream: "rtp-ts",
            codec: "H264",
            process: spawn(
                &debian,
                &format!("{H264} {OPUS} -f rtp_mpegts rtp://127.0.0.1:{ts}"),
            ),
        },
        Sent {
            stream: "rtsp-gstreamer",
            codec: "H264",
            // Its AAC is in LATM.
            process: gst_launch(
                &format!(
                    "rtspclientsink name=to location={}",
                    server.rtsp("rtsp-gstreamer")
                ),
                "to.sink_0",
                "avenc_aac",
                "to.sink_1",
            ),
        },
    ];
    let media = json!([{"codec": "H264", "port": plain, "payload_type": 96},
        {"codec": "OPUS", "port": plain + 2, "payload_type": 97, "channels": 2}]);
    create(&server, json!({"stream": "rtp-gstreamer", "media": media})).await;
    let media = json!([{"codec": "MP2T", "port": ts}]);
    create(&server, json!({"stream": "rtp-ts", "media": media})).await;
    let by_address = [
        rtmp("rtmp-h264", "H264", &debian, [H264, PCMA]),
        rtmp("rtmp-h265", "H265", &recent, [H265, OPUS]),
        rtmp("rtmp-av1", "AV1", &recent, [AV1, PCMU]),
        rtsp("rtsp-vp8", "VP8", &debian, [VP8, AAC], "-rtpflags latm"),
        rtsp("rtsp-vp9", "VP9", &debian, [VP9, G722], ""),
        rtsp(
            "rtsp-av1",
            "AV1",
            &recent,
            [AV1, PCMA],
            "-rtsp_transport tcp",
        ),
        rtsp("rtsp-h265", "H265", &debian, [H265, PCMU], ""),
    ];
    let browser = Browser::start().await.unwrap();
    let wall = Wall::open(&browser, &server).await.unwrap();
    for sent in &by_sdp {
        let sdp = sdp(sent.stream);
        until_written(&sdp).await;
        create(&server, json!({"stream": sent.stream, "sdp_file": sdp})).await;
    }

    let sent: Vec<Sent> = by_sdp
        .into_iter()
        .chain(described)
        .chain(by_address)
        .collect();
    // Another way for each.
    let h265_of = |stream: &str| match stream {
        "rtp-h265" => format!("-i {}", server.url("/rtp-h265/live.mp4")),
        "rtmp-h265" => format!("-i {}", server.url("/rtmp-h265/live.ts")),
        _ => format!("-rtsp_transport tcp -i {}", server.rtsp(stream)),
    };
    let proven = sent.iter().map(async |sent| {
        let stream = sent.stream;
        is_live(&server, stream, &sent.process).await;
        wall.watch(stream).await.unwrap();
        let seen = match sent.codec {
            // Chromium decodes it by hardware alone.
            "H265" => {
                is_decoded(stream, h265_of(stream)).await;
                wall.hears(stream).await
            }
            codec => wall.plays(stream, codec).await,
        };
        let seen = seen.unwrap_or_else(|error| {
            let said = sent.process.log().lines().join("\n");
            panic!("{error:#}\n{said}\n{}", server.log().join("\n"))
        });
        println!("{stream}: {seen:?}");
    });
    join_all(proven).await;
    let whep = server.url("/whep/rtmp-h265");
    let seen = gstreamer::watch(&whep, "H265", 1, None).await.unwrap();
    seen.check(1, 320, 180).unwrap();

    let list = server.admin("ingest.list", json!({})).await.unwrap();
    for ingest in list.as_array().unwrap() {
        assert_eq!(ingest["warnings"], json!([]), "{ingest}");
        assert_eq!(ingest["leaps"], 0, "{ingest}");
    }
    assert_eq!(list.as_array().unwrap().len(), 13, "{list}");
}
