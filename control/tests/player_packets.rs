//! Packets made of files, received by ffmpeg over loopback: every picture comes out as it does when
//! ffmpeg reads the file itself.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanmill_control::media::packetize::{MAX_PAYLOAD_BYTES, Packetizer, Payloads};
use fanmill_control::player::demux::{Coding, Mp4, Source};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

fn make(path: &Path, options: &str) {
    let source = "testsrc2=size=480x270:rate=25:duration=3";
    let status = Command::new("ffmpeg")
        .args([
            "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p",
        ])
        .args(options.split(' '))
        .arg(path)
        .status();
    assert!(status.unwrap().success(), "ffmpeg {options}");
}

/// The hashes in ffmpeg's list of frames.
fn hashes(list: &str) -> Vec<String> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit(',').next().unwrap().trim().to_owned())
        .collect()
}

/// An even port that is free, as is the next one.
fn free_port() -> u16 {
    loop {
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
            & !1;
        let is_free = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
}

/// Bytes that wait in the socket on a port; `None`: there is no such socket.
fn waiting_bytes(port: u16) -> Option<u64> {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    sockets.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_ours = fields[1].ends_with(&format!(":{port:04X}"));
        let (_, received) = fields[4].split_once(':').unwrap();
        is_ours.then(|| u64::from_str_radix(received, 16).unwrap())
    })
}

/// ffmpeg as a receiver, which does not outlive its test.
struct Receiver {
    process: Child,
    port: u16,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Receiver {
    fn start(folder: &Path, name: &str, frames: usize) -> Self {
        let port = free_port();
        let description = folder.join("film.sdp");
        let sdp = format!(
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=video {port} RTP/AVP 96\r\na=rtpmap:96 {name}/90000\r\n"
        );
        std::fs::write(&description, sdp).unwrap();
        let process = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-threads",
                "1",
                "-protocol_whitelist",
                "file,udp,rtp",
                "-i",
            ])
            .arg(&description)
            .args(["-fps_mode", "passthrough", "-frames:v", &frames.to_string()])
            .args(["-f", "framemd5", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut receiver = Self { process, port };
        receiver.wait_until("socket", |waiting| waiting.is_some());
        receiver
    }

    fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(Option<u64>) -> bool) {
        let begun = Instant::now();
        while !is_so(waiting_bytes(self.port)) && !self.has_ended() {
            assert!(begun.elapsed() < LIMIT, "no {what}");
            std::thread::sleep(PAUSE);
        }
    }

    fn written(&mut self) -> String {
        let mut list = String::new();
        let mut output = self.process.stdout.take().unwrap();
        output.read_to_string(&mut list).unwrap();
        list
    }
}

struct Sender {
    socket: UdpSocket,
    port: u16,
    packetizer: Packetizer,
    payloads: Payloads,
    sequence_number: u16,
}

impl Sender {
    fn send(&mut self, unit: &[u8], is_keyframe: bool, timestamp: u32) {
        self.packetizer
            .packetize(unit, is_keyframe, &mut self.payloads)
            .unwrap();
        let count = self.payloads.len();
        for (index, payload) in self.payloads.iter().enumerate() {
            assert!(payload.len() <= MAX_PAYLOAD_BYTES);
            let marker = u8::from(index + 1 == count) << 7;
            let mut packet = vec![0x80, marker | 96];
            packet.extend(self.sequence_number.to_be_bytes());
            packet.extend(timestamp.to_be_bytes());
            packet.extend(7_u32.to_be_bytes());
            packet.extend_from_slice(payload);
            // Refused when the receiver has had enough.
            let _ = self.socket.send_to(&packet, ("127.0.0.1", self.port));
            self.sequence_number = self.sequence_number.wrapping_add(1);
        }
    }
}

fn received_as_read(name: &str, options: &str) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("film.mp4");
    make(&path, options);
    let listed = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-i",
            path.to_str().unwrap(),
            "-f",
            "framemd5",
            "-",
        ])
        .output()
        .unwrap();
    let expected = hashes(&String::from_utf8(listed.stdout).unwrap());
    assert_eq!(expected.len(), 75);
    let mut receiver = Receiver::start(folder.path(), name, expected.len());
    send(&path, &mut receiver);
    let received = hashes(&receiver.written());
    assert_eq!(received, expected, "{name}");
}

/// Sends a file, and then its first frame until the receiver has seen enough: it holds each frame
/// back until another comes.
fn send(path: &Path, receiver: &mut Receiver) {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let mp4 = Mp4::open(Source::new(file, len)).unwrap();
    let Coding::Direct { format, .. } = &mp4.tracks()[0].coding else {
        panic!("the video is not sent as it is");
    };
    let mut sender = Sender {
        socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
        port: receiver.port,
        packetizer: Packetizer::new(format.clone(), 0x7ff0),
        payloads: Payloads::default(),
        sequence_number: 0,
    };
    let mut reader = mp4.reader().unwrap();
    let (mut unit, mut first, mut timestamp) = (Vec::new(), Vec::new(), 0);
    while let Some(sample) = reader.next_sample().unwrap() {
        reader.read(&sample, &mut unit).unwrap();
        if first.is_empty() {
            first.clone_from(&unit);
        }
        timestamp = (sample.pts_us * 9 / 100) as u32;
        sender.send(&unit, sample.is_keyframe, timestamp);
        // Nothing may be lost for want of room.
        receiver.wait_until("room", |waiting| {
            waiting.is_some_and(|bytes| bytes < 40_000)
        });
    }
    let begun = Instant::now();
    while !receiver.has_ended() {
        assert!(begun.elapsed() < LIMIT, "ffmpeg has not seen enough");
        timestamp += 3600;
        sender.send(&first, true, timestamp);
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn h264_is_received_as_read() {
    received_as_read("H264", "-c:v libx264 -preset veryfast -bf 0 -g 25 -b:v 2M");
}

#[test]
fn h264_in_slices_is_received_as_read() {
    received_as_read(
        "H264",
        "-c:v libx264 -preset veryfast -bf 0 -g 25 -slices 6",
    );
}

#[test]
fn h265_is_received_as_read() {
    let options = "-c:v libx265 -preset ultrafast -x265-params bframes=0:keyint=25:log-level=error";
    received_as_read("H265", options);
}

#[test]
fn vp9_is_received_as_read() {
    let options = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -g 25 -b:v 2M";
    received_as_read("VP9", options);
}
