//! Recordings of real streams, judged by ffprobe and ffmpeg.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod capture;
mod disks;
mod sync;

use std::path::Path;
use std::process::Command;

use fanmill_engine::packet::codec::Codec;

use super::*;
use capture::{Heard, SECONDS, Stage, capture, stage};

const OPUS: (Codec, &[&str]) = (Codec::Opus, &["-c:a", "libopus", "-ac", "2", "-b:a", "64k"]);
const X264: (Codec, &[&str]) = (
    Codec::H264,
    &[
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-b:v",
        "400k",
    ],
);
const VP8: (Codec, &[&str]) = (
    Codec::Vp8,
    &[
        "-c:v",
        "libvpx",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-b:v",
        "400k",
    ],
);

fn recorders(dir: &Path) -> Recorders {
    Recorders::start(RecorderConfig::new(dir.to_owned())).unwrap()
}

fn spec(path: &str) -> RecorderSpec {
    RecorderSpec {
        stream: "cam".to_owned(),
        path: Some(path.to_owned()),
        ..RecorderSpec::default()
    }
}

/// Waits until all of it was taken.
async fn taken(stage: &Stage) {
    while stage.is_waiting() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Records what was heard to `path` in `dir`.
async fn record(
    dir: &Path,
    spec: RecorderSpec,
    heard: impl IntoIterator<Item = Heard>,
) -> RecorderInfo {
    record_with(&recorders(dir), spec, heard).await
}

async fn record_with(
    recorders: &Recorders,
    spec: RecorderSpec,
    heard: impl IntoIterator<Item = Heard>,
) -> RecorderInfo {
    let id = recorders.create(&spec).unwrap();
    let (sources, stage, _) = stage(heard);
    recorders.attach(id, sources);
    taken(&stage).await;
    let info = recorders.stop(id).await.unwrap();
    assert_eq!(info.error, None);
    info
}

fn run(program: &str, args: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(args).arg(file).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && errors.is_empty(),
        "{program} {args:?}: {errors}"
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Decodes all of it, without a word of complaint.
fn decode(file: &Path) {
    let args = ["-v", "warning", "-nostdin", "-xerror", "-i"];
    let output = Command::new("ffmpeg")
        .args(args)
        .arg(file)
        .args(["-enc_time_base:v", "-1", "-f", "null", "-"])
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Not of the file: PCM has no channel layout anywhere.
    let said: String = said
        .lines()
        .filter(|line| !line.contains("Guessed Channel Layout"))
        .collect();
    assert!(
        output.status.success() && said.is_empty(),
        "{}: {said}",
        file.display()
    );
}

/// Decoded frames of the first track of a kind.
fn frames(file: &Path, kind: &str) -> usize {
    let entries = [
        "-count_frames",
        "-show_entries",
        "stream=nb_read_frames",
        "-of",
        "csv=p=0",
    ];
    let select = ["-v", "error", "-select_streams", kind];
    run("ffprobe", &[&select[..], &entries].concat(), file)
        .trim_end_matches(',')
        .parse()
        .unwrap()
}

/// Presentation times in seconds of the first track of a kind.
fn times(file: &Path, kind: &str) -> Vec<f64> {
    let entries = ["-show_entries", "packet=pts_time", "-of", "csv=p=0"];
    let select = ["-v", "error", "-select_streams", kind];
    let text = run("ffprobe", &[&select[..], &entries].concat(), file);
    let mut times: Vec<f64> = text
        .lines()
        .map(|line| line.trim_end_matches(',').parse().unwrap())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

fn duration(file: &Path) -> f64 {
    let args = [
        "-v",
        "error",
        "-show_entries",
        "format=duration",
        "-of",
        "csv=p=0",
    ];
    run("ffprobe", &args, file).parse().unwrap()
}

async fn plays_as_it_came(video: (Codec, &[&str]), sound: (Codec, &[&str])) {
    let heard = capture(video, sound);
    let expected = [heard[0].units(), heard[1].units()];
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), spec("x.mp4"), heard).await;
    let file = dir.path().join("x.mp4");
    decode(&file);
    assert_eq!(
        expected[0],
        SECONDS as usize * 30,
        "ffmpeg sent all pictures"
    );
    assert_eq!([frames(&file, "v:0"), times(&file, "a:0").len()], expected);
    let (pictures, packets) = (times(&file, "v:0"), times(&file, "a:0"));
    assert!(pictures[0].min(packets[0]) < 0.001, "it begins at 0");
    // Each track by itself: a busy machine has ffmpeg begin one after the other.
    for track in [&pictures, &packets] {
        let lasts = track[track.len() - 1] - track[0];
        assert!(
            (lasts - f64::from(SECONDS)).abs() < 0.1,
            "it lasts {lasts} s"
        );
    }
    let spacing = (pictures[89] - pictures[30]) / 59.0;
    assert!(
        (spacing - 1.0 / 30.0).abs() < 0.002,
        "a picture each {spacing} s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_and_opus_play_as_they_came() {
    plays_as_it_came(X264, OPUS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_with_pictures_out_of_order_plays_as_it_came() {
    let args = [
        "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-b:v", "400k",
    ];
    plays_as_it_came((Codec::H264, &args), OPUS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h265_and_mu_law_play_as_they_came() {
    let args = [
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-b:v",
        "400k",
        "-x265-params",
        "log-level=error",
    ];
    let sound = ["-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1"];
    plays_as_it_came((Codec::H265, &args), (Codec::Pcmu, &sound)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vp8_and_a_law_play_as_they_came() {
    let sound = ["-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1"];
    plays_as_it_came(VP8, (Codec::Pcma, &sound)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vp9_and_opus_play_as_they_came() {
    let args = [
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-b:v",
        "400k",
    ];
    plays_as_it_came((Codec::Vp9, &args), OPUS).await;
}

/// ffmpeg 5 has no RTP muxer for AV1: the `rtp` crate's packetizer stands in.
#[tokio::test(flavor = "multi_thread")]
async fn av1_plays_as_it_came() {
    use rtp::packetizer::Payloader as _;

    let dir = tempfile::tempdir().unwrap();
    let obus = dir.path().join("x.obu");
    let args = [
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x180:rate=30:duration=1",
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libaom-av1",
        "-usage",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "15",
        "-f",
        "obu",
    ];
    run("ffmpeg", &args, &obus);
    let stream = std::fs::read(&obus).unwrap();
    // A temporal delimiter (AV1 5.6) begins each picture; every OBU says its size.
    let (mut starts, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        if stream[at] == 0x12 {
            starts.push(at);
        }
        let (len, body) = crate::media::depacketize::leb128(&stream[at + 1..]).unwrap();
        at = stream.len() - body.len() + len;
    }
    starts.push(stream.len());
    let mut heard = Heard {
        codec: Codec::Av1,
        items: Vec::new(),
    };
    for (number, unit) in (0u32..).zip(starts.windows(2)) {
        let unit = bytes::Bytes::copy_from_slice(&stream[unit[0] + 2..unit[1]]);
        let payloads = rtp::codecs::av1::Av1Payloader::default()
            .payload(1100, &unit)
            .unwrap();
        let count = payloads.len();
        for (position, payload) in payloads.into_iter().enumerate() {
            let packet = crate::media::reorder::Packet {
                index: heard.items.len() as u64,
                timestamp: number * 3000,
                marker: position + 1 == count,
                codec: Codec::Av1,
                payload: payload.to_vec(),
                arrival_us: u64::from(number) * 33_333,
            };
            heard.items.push(Item::Packet(packet, 90_000));
        }
    }
    assert_eq!(heard.units(), 30);
    record(dir.path(), spec("x.mp4"), [heard]).await;
    let file = dir.path().join("x.mp4");
    decode(&file);
    assert_eq!(frames(&file, "v:0"), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_file_begins_with_its_index_and_has_the_same_pictures() {
    let args = [
        "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-b:v", "400k",
    ];
    let heard = capture((Codec::H264, &args), OPUS);
    let expected = [heard[0].units(), heard[1].units()];
    let dir = tempfile::tempdir().unwrap();
    let progressive = RecorderSpec {
        progressive: true,
        ..spec("x.mp4")
    };
    record(dir.path(), progressive, heard).await;
    let file = dir.path().join("x.mp4");
    let bytes = std::fs::read(&file).unwrap();
    let position = |name: &[u8]| bytes.windows(4).position(|four| four == name);
    assert!(position(b"moov") < position(b"mdat"));
    assert_eq!(position(b"moof"), None);
    decode(&file);
    assert_eq!([frames(&file, "v:0"), times(&file, "a:0").len()], expected);
    let lasts = duration(&file);
    assert!(
        (lasts - f64::from(SECONDS)).abs() < 0.3,
        "it lasts {lasts} s"
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn late_packets_find_their_place_and_lost_ones_leave_a_gap() {
    let [mut video, sound] = capture(X264, OPUS);
    let expected = video.units();
    // Some packets come 300 ms late, as retransmissions do; then one picture is lost.
    for packet in video.packets() {
        if packet.index.is_multiple_of(17) {
            packet.arrival_us += 300_000;
        }
    }
    let arrival = |item: &Item| match item {
        Item::Packet(packet, _) => packet.arrival_us,
        _ => 0,
    };
    let first = arrival(&video.items[0]);
    video.items.sort_by_key(|item| arrival(item).max(first));
    let timestamps: Vec<u32> = {
        let mut all: Vec<u32> = video.packets().map(|packet| packet.timestamp).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let lost = timestamps[40];
    video
        .items
        .retain(|item| !matches!(item, Item::Packet(packet, _) if packet.timestamp == lost));
    let dir = tempfile::tempdir().unwrap();
    // Long enough for a machine that gives the recorder's thread no time now and then.
    let mut config = RecorderConfig::new(dir.path().to_owned());
    config.wait = Duration::from_secs(5);
    let recorders = Recorders::start(config).unwrap();
    let info = record_with(&recorders, spec("x.mp4"), [video, sound]).await;
    let file = dir.path().join("x.mp4");
    decode(&file);
    // From the lost picture to the next keyframe (the 61st) nothing can be decoded.
    assert_eq!(frames(&file, "v:0"), expected - 20);
    let pictures = times(&file, "v:0");
    let gap = pictures[40] - pictures[39];
    assert!((gap - 21.0 / 30.0).abs() < 0.01, "the gap lasts {gap} s");
    assert_eq!(info.tracks[0].interruptions, 1);
    assert!(info.tracks[0].packets_missing > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_returns_is_recorded_on_in_the_same_file() {
    let mut heard = capture(X264, OPUS);
    let mut again = capture(X264, OPUS);
    let expected = heard[0].units() + again[0].units();
    for heard in &mut again {
        heard
            .packets()
            .for_each(|packet| packet.arrival_us += 10_000_000);
    }
    let left_us = heard[0].packets().last().unwrap().arrival_us;
    let returned_us = again[0].packets().next().unwrap().arrival_us;
    let away = (returned_us - left_us) as f64 / 1e6;
    let dir = tempfile::tempdir().unwrap();
    let recorders = recorders(dir.path());
    let id = recorders.create(&spec("x.mp4")).unwrap();
    for heard in [heard, again] {
        let (sources, stage, _) = stage(heard);
        recorders.attach(id, sources);
        taken(&stage).await;
    }
    let info = recorders.stop(id).await.unwrap();
    assert_eq!((info.error, info.parts), (None, 1));
    let file = dir.path().join("x.mp4");
    decode(&file);
    assert_eq!(frames(&file, "v:0"), expected);
    let pictures = times(&file, "v:0");
    let between = pictures[90] - pictures[89];
    assert!(
        (between - away).abs() < 0.3,
        "{between} s between the publishers, who were {away} s apart"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_codec_begins_another_part() {
    let heard = capture(X264, OPUS);
    let mut again = capture(VP8, OPUS);
    for heard in &mut again {
        heard
            .packets()
            .for_each(|packet| packet.arrival_us += 5_000_000);
    }
    let expected = [heard[0].units(), again[0].units()];
    let dir = tempfile::tempdir().unwrap();
    let recorders = recorders(dir.path());
    let id = recorders.create(&spec("x.mp4")).unwrap();
    for heard in [heard, again] {
        let (sources, stage, _) = stage(heard);
        recorders.attach(id, sources);
        taken(&stage).await;
    }
    let info = recorders.stop(id).await.unwrap();
    assert_eq!((info.error, info.parts), (None, 2));
    for (name, expected) in ["x.mp4", "x-2.mp4"].into_iter().zip(expected) {
        decode(&dir.path().join(name));
        assert_eq!(frames(&dir.path().join(name), "v:0"), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_seconds_are_flushed_from_a_keyframe_on() {
    let heard = capture(X264, OPUS);
    let dir = tempfile::tempdir().unwrap();
    let recorders = recorders(dir.path());
    let hold = RecorderSpec {
        stream: "cam".to_owned(),
        hold: Some(Duration::from_secs(1)),
        ..RecorderSpec::default()
    };
    let id = recorders.create(&hold).unwrap();
    assert!(matches!(
        recorders.flush(id, Some("x")).await,
        Err(RecorderError::NothingHeld(_))
    ));
    let (sources, stage, _) = stage(heard);
    recorders.attach(id, sources);
    taken(&stage).await;
    // What is pending of the last fragment is not held yet; a second and a GOP are.
    let (path, lasts) = recorders.flush(id, Some("clips/{stream}")).await.unwrap();
    assert_eq!(path, "clips/cam.mp4");
    let file = dir.path().join(path);
    decode(&file);
    let lasts = lasts.as_secs_f64();
    assert!((1.0..2.6).contains(&lasts), "it lasts {lasts} s");
    assert!((duration(&file) - lasts).abs() < 0.1);
    assert!(times(&file, "v:0")[0] < 0.05, "the clip begins at 0");
    assert!(matches!(
        recorders.flush(id, Some("clips/cam")).await,
        Err(RecorderError::Exists(_))
    ));
}
