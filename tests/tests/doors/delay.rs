//! How old pictures are when they are seen: a sender is given frames with the time of day in them, as
//! the test card has it, and the page reads it in what it shows.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanmill_tests::browser::keep_screenshot;
use fanmill_tests::process::Process;
use fanmill_tests::server::free_udp_ports;
use fanmill_tests::{Browser, Server, ServerOptions, Wall};
use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::{AAC, H264, ffmpeg, is_live, until_written};

const WIDTH: usize = 640;
const HEIGHT: usize = 360;
const FPS: u32 = 30;

/// Pictures whose age is told, after those in which the player finds its pace.
const PICTURES: usize = 150;
const FIRST: usize = 30;

const LIMIT_MS: f64 = 1000.0;

/// Draws frames as `control/src/web/pages/testcard.js` does, in planes of Y, U and V.
struct Card {
    frame: Vec<u8>,
    drawn: usize,
}

impl Card {
    const CELLS: usize = 40;
    const MARK: u64 = 0b1011;
    const CLOCK_ROWS: usize = HEIGHT / 20;
    const DAY_MS: u128 = 86_400_000;

    fn new() -> Self {
        Self {
            frame: vec![128; WIDTH * HEIGHT * 3 / 2],
            drawn: 0,
        }
    }

    /// A picture of now.
    fn draw(&mut self) -> &[u8] {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let time_ms = (now_ms.as_millis() % Self::DAY_MS) as u32;
        let sum = (0..32).step_by(8).fold(0x5a_u32, |sum, shift| {
            (sum * 31 + ((time_ms >> shift) & 0xff)) & 0xff
        });
        let bits = (Self::MARK << 36) | (u64::from(time_ms) << 8) | u64::from(sum);
        for (row, line) in self.frame.chunks_exact_mut(WIDTH).take(HEIGHT).enumerate() {
            for (x, luma) in line.iter_mut().enumerate() {
                let cell = x * Self::CELLS / WIDTH;
                *luma = match row < Self::CLOCK_ROWS {
                    true if (bits >> (Self::CELLS - 1 - cell)) & 1 == 1 => 235,
                    true => 16,
                    false => 16 + ((x + row + 4 * self.drawn) % 200) as u8,
                };
            }
        }
        self.drawn += 1;
        &self.frame
    }
}

/// An encoder that is given frames as they are drawn, until it is dropped.
struct Live {
    process: Process,
    camera: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.camera.abort();
    }
}

/// ffmpeg with a camera and a tone; `output` is the rest of its arguments.
fn live(output: &str) -> Live {
    let input = format!(
        "-fflags nobuffer -probesize 32 -use_wallclock_as_timestamps 1 -f rawvideo -pix_fmt yuv420p \
         -video_size {WIDTH}x{HEIGHT} -framerate {FPS} -i pipe:0 \
         -re -f lavfi -i sine=frequency=440:sample_rate=44100"
    );
    let mut command = ffmpeg(Path::new("ffmpeg"), &input, output);
    let mut process = Process::spawn("ffmpeg", command.stdin(Stdio::piped())).unwrap();
    let mut frames = process.child().stdin.take().unwrap();
    let camera = tokio::spawn(async move {
        let mut card = Card::new();
        let mut tick = tokio::time::interval(Duration::from_secs(1) / FPS);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            if frames.write_all(card.draw()).await.is_err() {
                return;
            }
        }
    });
    Live { process, camera }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_glass_to_glass_every_door_is_faster_than_a_second() {
    let folder = TempDir::new().unwrap();
    let options = ServerOptions {
        rtsp: true,
        ..ServerOptions::default()
    };
    let server = Server::start_with(options).await.unwrap();
    let browser = Browser::start().await.unwrap();
    let wall = Wall::open(&browser, &server).await.unwrap();
    let port = free_udp_ports([127, 0, 0, 1].into(), 4).unwrap();
    let sdp = folder.path().join("rtp.sdp");
    let senders = [
        (
            "rtp",
            live(&format!(
                "-map 0:v {H264} -f rtp rtp://127.0.0.1:{port} -map 1:a {AAC} \
                 -f rtp rtp://127.0.0.1:{} -sdp_file {}",
                port + 2,
                sdp.display()
            )),
        ),
        (
            "rtmp",
            live(&format!("{H264} {AAC} -f flv {}", server.rtmp("live/rtmp"))),
        ),
        (
            // What of it is due to the sound.
            "rtmp-mute",
            live(&format!(
                "-map 0:v {H264} -f flv {}",
                server.rtmp("live/rtmp-mute")
            )),
        ),
        (
            "rtsp",
            live(&format!(
                "{H264} {AAC} -f rtsp -rtsp_transport tcp {}",
                server.rtsp("rtsp")
            )),
        ),
    ];
    until_written(&sdp).await;
    let streamer = json!({"stream": "rtp", "sdp_file": sdp});
    server.admin("streamer.create", streamer).await.unwrap();
    let told = senders.iter().map(async |(stream, sender)| {
        is_live(&server, stream, &sender.process).await;
        wall.watch(stream).await.unwrap();
        let ages_ms = wall.ages_ms(stream, FIRST + PICTURES).await;
        let ages_ms = ages_ms.unwrap_or_else(|error| {
            let said = sender.process.log().lines().join("\n");
            panic!("{stream}: {error:#}\n{said}\n{}", server.log().join("\n"))
        });
        let mut ages_ms = ages_ms[FIRST..].to_vec();
        ages_ms.sort_by(f64::total_cmp);
        let [least, median, most] = [0, PICTURES / 2, PICTURES * 99 / 100].map(|at| ages_ms[at]);
        println!("{stream}: {median} ms from glass to glass (least {least}, 99 % {most})");
        (*stream, median)
    });
    let told = join_all(told).await;
    let image = wall.screenshot().await.unwrap();
    keep_screenshot("doors-delay", &image).unwrap();
    for (stream, median_ms) in told {
        assert!(median_ms < LIMIT_MS, "{stream}: {median_ms} ms");
    }
}
