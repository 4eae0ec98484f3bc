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
use fanmill_control::player::demux::{Coding, Kind, Mp4, Source};
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

fn wait_until(receiver: &mut Child, port: u16, what: &str, is_so: impl Fn(Option<u64>) -> bool) {
    let begun = Instant::now();
    while !is_so(waiting_bytes(port)) {
        assert!(
            receiver.try_wait().unwrap().is_none(),
            "ffmpeg ended before {what}"
        );
        assert!(begun.elapsed() < LIMIT, "no {what}");
        std::thread::sleep(PAUSE);
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

    let port = free_port();
    let description = folder.path().join("film.sdp");
    let sdp = format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=video {port} RTP/AVP 96\r\na=rtpmap:96 {name}/90000\r\n"
    );
    std::fs::write(&description, sdp).unwrap();
    let mut receiver = Command::new("ffmpeg")
        .args(["-v", "error", "-protocol_whitelist", "file,udp,rtp", "-i"])
        .arg(&description)
        .args(["-fps_mode", "passthrough", "-f", "framemd5", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(&mut receiver, port, "socket", |waiting| waiting.is_some());
    send(&path, port, &mut receiver);
    wait_until(&mut receiver, port, "end of the queue", |waiting| {
        waiting == Some(0)
    });
    let list = say_goodbye(receiver, port);
    let received = hashes(&list);
    assert_eq!(received.len(), expected.len(), "{name}");
    assert_eq!(received, expected, "{name}");
}

fn send(path: &Path, port: u16, receiver: &mut Child) {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let mp4 = Mp4::open(Source::new(file, len)).unwrap();
    let track = mp4
        .tracks()
        .iter()
        .position(|track| track.kind == Kind::Video)
        .unwrap();
    let Coding::Direct { format, .. } = &mp4.tracks()[track].coding else {
        panic!("the video is not sent as it is");
    };
    let mut packetizer = Packetizer::new(format.clone(), 0x7ff0);
    let mut reader = mp4.reader().unwrap();
    let (mut buffer, mut payloads, mut sequence_number) = (Vec::new(), Payloads::default(), 0_u16);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    while let Some(sample) = reader.next_sample().unwrap() {
        reader.read(&sample, &mut buffer).unwrap();
        packetizer
            .packetize(&buffer, sample.is_keyframe, &mut payloads)
            .unwrap();
        let timestamp = (sample.pts_us * 9 / 100) as u32;
        let count = payloads.len();
        for (index, payload) in payloads.iter().enumerate() {
            assert!(payload.len() <= MAX_PAYLOAD_BYTES);
            let marker = u8::from(index + 1 == count) << 7;
            let mut packet = vec![0x80, marker | 96];
            packet.extend(sequence_number.to_be_bytes());
            packet.extend(timestamp.to_be_bytes());
            packet.extend(7_u32.to_be_bytes());
            packet.extend_from_slice(payload);
            socket.send_to(&packet, ("127.0.0.1", port)).unwrap();
            sequence_number = sequence_number.wrapping_add(1);
        }
        // Nothing may be lost for want of room.
        wait_until(receiver, port, "room", |waiting| {
            waiting.is_some_and(|bytes| bytes < 40_000)
        });
    }
}

/// Sends RTCP BYE until ffmpeg ends, and gives what it wrote.
fn say_goodbye(mut receiver: Child, port: u16) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    while receiver.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < LIMIT, "ffmpeg does not end");
        let _ = socket.send_to(&[0x81, 203, 0, 1, 0, 0, 0, 7], ("127.0.0.1", port + 1));
        std::thread::sleep(PAUSE);
    }
    let mut list = String::new();
    receiver
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut list)
        .unwrap();
    list
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
