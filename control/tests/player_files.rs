//! Files that ffmpeg made, as the player reads them: every codec and every layout, against what
//! ffprobe says of the same file.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use fanmill_control::media::audio::{AudioOptions, SoundFormat, Transcoder};
use fanmill_control::player::demux::{Coding, DemuxError, Kind, Mp4, Sample, Source};
use tempfile::TempDir;

const H264: &str = "-c:v libx264 -preset ultrafast -bf 0 -g 25";
const AAC: &str = "-c:a aac -b:a 64k -ac 2";
const OPUS: &str = "-c:a libopus -ar 48000";

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Four seconds of moving picture and sound, encoded like this.
fn make(folder: &TempDir, name: &str, options: &str) -> PathBuf {
    let path = folder.path().join(name);
    let mut arguments = vec![
        "-v",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=160x120:rate=25:duration=4",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:sample_rate=44100:duration=4",
        "-pix_fmt",
        "yuv420p",
    ];
    arguments.extend(options.split(' ').filter(|option| !option.is_empty()));
    arguments.push(path.to_str().unwrap());
    run("ffmpeg", &arguments);
    path
}

fn open(path: &Path) -> Result<Mp4, DemuxError> {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    Mp4::open(Source::new(file, len))
}

fn samples(mp4: &Mp4) -> Vec<Sample> {
    let mut reader = mp4.reader().unwrap();
    let mut all = Vec::new();
    while let Some(sample) = reader.next_sample().unwrap() {
        all.push(sample);
    }
    all
}

fn of_kind<'a>(mp4: &'a Mp4, all: &'a [Sample], kind: Kind) -> impl Iterator<Item = &'a Sample> {
    all.iter()
        .filter(move |sample| mp4.tracks()[sample.track].kind == kind)
}

/// Presentation times, sizes and keyframe flags by ffprobe.
fn probed(path: &Path, stream: &str) -> Vec<(i64, u32, bool)> {
    let listed = run(
        "ffprobe",
        &[
            "-v",
            "error",
            "-select_streams",
            stream,
            "-show_entries",
            "packet=pts_time,size,flags",
            "-of",
            "csv=p=0",
            path.to_str().unwrap(),
        ],
    );
    let line = |line: &str| {
        let mut fields = line.split(',');
        let seconds: f64 = fields.next().unwrap().parse().unwrap();
        let size = fields.next().unwrap().parse().unwrap();
        let flags = fields.next().unwrap();
        // ffprobe lists what an edit list cuts off as well, to be discarded.
        (!flags.contains('D')).then_some((
            (seconds * 1e6).round() as i64,
            size,
            flags.contains('K'),
        ))
    };
    // Side data leaves empty lines.
    let lines = listed.lines().filter(|line| !line.is_empty());
    lines.filter_map(line).collect()
}

#[test]
fn files_of_every_codec_and_layout_are_read_as_ffprobe_reads_them() {
    let folder = TempDir::new().unwrap();
    let h264_aac = format!("{H264} {AAC}");
    let fragmented = "-movflags frag_keyframe+empty_moov+default_base_moof";
    let cases = [
        ("progressive.mp4", h264_aac.clone(), "H264", "AAC"),
        (
            "faststart.mp4",
            format!("{h264_aac} -movflags +faststart"),
            "H264",
            "AAC",
        ),
        ("quicktime.mov", h264_aac.clone(), "H264", "AAC"),
        (
            "fragmented.mp4",
            format!("{h264_aac} {fragmented}"),
            "H264",
            "AAC",
        ),
        (
            "half-fragmented.mp4",
            format!("{h264_aac} -movflags frag_keyframe"),
            "H264",
            "AAC",
        ),
        (
            "cmaf.mp4",
            format!("{h264_aac} -movflags +cmaf"),
            "H264",
            "AAC",
        ),
        (
            "by-track.mp4",
            format!("{h264_aac} -movflags +dash -frag_duration 500000"),
            "H264",
            "AAC",
        ),
        (
            "mono.mp4",
            format!("{H264} -c:a aac -ac 1 -ar 48000"),
            "H264",
            "AAC",
        ),
        (
            "h265.mp4",
            format!(
                "-c:v libx265 -preset ultrafast -x265-params bframes=0:log-level=error -tag:v hvc1 {OPUS}"
            ),
            "H265",
            "opus",
        ),
        (
            "vp9.mp4",
            format!("-c:v libvpx-vp9 -cpu-used 8 -deadline realtime -lag-in-frames 0 -g 25 {OPUS}"),
            "VP9",
            "opus",
        ),
        (
            "vp9-hidden-frames.mp4",
            format!("-c:v libvpx-vp9 -cpu-used 8 -g 50 {OPUS}"),
            "VP9",
            "opus",
        ),
        (
            "av1.mp4",
            format!("-c:v libaom-av1 -cpu-used 8 -usage realtime -g 25 {OPUS}"),
            "AV1",
            "opus",
        ),
        (
            "av1-fragmented.mp4",
            format!("-c:v libaom-av1 -cpu-used 8 -usage realtime -g 25 {OPUS} {fragmented}"),
            "AV1",
            "opus",
        ),
    ];
    for (name, options, video, audio) in cases {
        let path = make(&folder, name, &options);
        let mp4 = open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(mp4.left_out(), [""; 0], "{name}");
        let duration_us = mp4.duration_us().unwrap();
        assert!(
            (3_900_000..4_150_000).contains(&duration_us),
            "{name}: {duration_us}"
        );
        let all = samples(&mp4);
        for (stream, kind, coding) in [("v", Kind::Video, video), ("a", Kind::Audio, audio)] {
            let track = mp4
                .tracks()
                .iter()
                .find(|track| track.kind == kind)
                .unwrap();
            assert_eq!(track.coding.name(), coding, "{name}");
            let expected = probed(&path, stream);
            let read: Vec<_> = of_kind(&mp4, &all, kind)
                .filter(|sample| sample.pts_us >= 0)
                .collect();
            let shown = expected.iter().filter(|(pts_us, ..)| *pts_us >= 0).count();
            assert_eq!(read.len(), shown, "{name} {kind:?}");
            let expected = expected.iter().filter(|(pts_us, ..)| *pts_us >= 0);
            for (sample, (pts_us, size, is_keyframe)) in read.into_iter().zip(expected) {
                assert!(
                    (sample.pts_us - pts_us).abs() <= 1,
                    "{name}: {sample:?} at {pts_us}"
                );
                assert_eq!(
                    (sample.size, sample.is_keyframe),
                    (*size, *is_keyframe),
                    "{name}: {sample:?}"
                );
            }
        }
    }
}

#[test]
fn a_seek_finds_the_same_keyframe_in_every_layout() {
    let folder = TempDir::new().unwrap();
    let layouts = [
        "",
        "-movflags frag_keyframe+empty_moov",
        "-movflags frag_keyframe",
        "-movflags +dash -frag_duration 300000",
    ];
    for (index, layout) in layouts.into_iter().enumerate() {
        let path = make(
            &folder,
            &format!("{index}.mp4"),
            &format!("{H264} {AAC} {layout}"),
        );
        let mp4 = open(&path).unwrap();
        let mut reader = mp4.reader().unwrap();
        // Without an edit list the priming of AAC puts the pictures 23 ms later. To and fro: places that were passed are remembered.
        for (sought_us, keyframe_us) in [
            (3_990_000, 3_000_000),
            (1_500_000, 1_000_000),
            (999_000, 0),
            (2_030_000, 2_000_000),
        ] {
            reader.seek(sought_us).unwrap();
            let mut found = [None, None];
            while found.contains(&None) {
                let sample = reader.next_sample().unwrap().unwrap();
                let slot = usize::from(mp4.tracks()[sample.track].kind == Kind::Audio);
                found[slot].get_or_insert(sample);
            }
            let [video, audio] = found.map(Option::unwrap);
            assert!(
                (video.pts_us - keyframe_us).abs() <= 24_000,
                "{layout}: {video:?}"
            );
            assert!(video.is_keyframe);
            let heard_us = audio.pts_us..=audio.pts_us + audio.duration_us;
            assert!(
                heard_us.contains(&sought_us),
                "{layout}: {audio:?} for {sought_us}"
            );
        }
    }
}

#[test]
fn b_frames_are_refused_with_the_options_that_avoid_them() {
    let folder = TempDir::new().unwrap();
    for (name, more) in [
        ("b.mp4", ""),
        ("b-fragmented.mp4", "-movflags frag_keyframe+empty_moov"),
    ] {
        let options = format!("-c:v libx264 -bf 2 -b_strategy 0 {AAC} {more}");
        let error = open(&make(&folder, name, &options))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("-bf 0") && error.contains("OBS"), "{error}");
    }
}

#[test]
fn what_cannot_be_played_is_named() {
    let folder = TempDir::new().unwrap();
    let mp3 = make(&folder, "mp3.mp4", &format!("{H264} -c:a libmp3lame"));
    let mp4 = open(&mp3).unwrap();
    assert_eq!(mp4.tracks().len(), 1);
    assert!(mp4.left_out()[0].contains("MP3"), "{:?}", mp4.left_out());
    let old = make(&folder, "mpeg4.mp4", "-c:v mpeg4 -an");
    let error = open(&old).err().unwrap().to_string();
    assert!(error.contains("mp4v"), "{error}");
}

#[test]
fn a_fragmented_file_that_was_cut_plays_to_the_cut() {
    let folder = TempDir::new().unwrap();
    let options = format!("{H264} {AAC} -movflags frag_keyframe+empty_moov");
    let path = make(&folder, "cut.mp4", &options);
    let whole = samples(&open(&path).unwrap());
    let len = path.metadata().unwrap().len();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(len * 6 / 10)
        .unwrap();
    let cut = samples(&open(&path).unwrap());
    assert!(cut.len() > whole.len() / 3 && cut.len() < whole.len());
    assert_eq!(
        cut.iter().filter(|sample| whole.contains(sample)).count(),
        cut.len()
    );
}

#[test]
fn a_copied_part_begins_before_its_edit_list_does() {
    let folder = TempDir::new().unwrap();
    let whole = make(&folder, "whole.mp4", &format!("{H264} {AAC}"));
    let part = folder.path().join("part.mp4");
    // Half a second after a keyframe, which is copied but not shown.
    let arguments = [
        "-v",
        "error",
        "-ss",
        "1.5",
        "-i",
        whole.to_str().unwrap(),
        "-c",
        "copy",
        part.to_str().unwrap(),
    ];
    run("ffmpeg", &arguments);
    let mp4 = open(&part).unwrap();
    let all = samples(&mp4);
    let before = of_kind(&mp4, &all, Kind::Video)
        .filter(|sample| sample.pts_us < 0)
        .count();
    assert!(
        (12..=13).contains(&before),
        "{before} frames before the beginning"
    );
    assert!(of_kind(&mp4, &all, Kind::Video).next().unwrap().is_keyframe);
}

#[test]
fn aac_becomes_opus_of_the_same_tone() {
    let folder = TempDir::new().unwrap();
    for (name, options) in [
        ("stereo.mp4", "-ac 2"),
        ("mono.mp4", "-ac 1"),
        ("rate.mp4", "-ac 2 -ar 48000"),
        ("low.mp4", "-ac 1 -ar 16000"),
    ] {
        let path = make(
            &folder,
            name,
            &format!("{H264} -c:a aac -b:a 96k {options}"),
        );
        let mp4 = open(&path).unwrap();
        let (track, config) = mp4
            .tracks()
            .iter()
            .enumerate()
            .find_map(|(index, track)| match &track.coding {
                Coding::Aac { config } => Some((index, config)),
                Coding::Direct { .. } => None,
            })
            .unwrap();
        let format = SoundFormat::Aac {
            config: config.clone(),
        };
        let mut transcoder = Transcoder::new(&format, AudioOptions::default()).unwrap();
        let channels = if options.contains("-ac 2") {
            opus::Channels::Stereo
        } else {
            opus::Channels::Mono
        };
        let mut decoder = opus::Decoder::new(48_000, channels).unwrap();
        let count = channels as usize;
        let (mut pcm, mut heard, mut times) = (vec![0.0; 960 * count], Vec::new(), Vec::new());
        let (mut reader, mut buffer) = (mp4.reader().unwrap(), Vec::new());
        while let Some(sample) = reader.next_sample().unwrap() {
            if sample.track != track {
                continue;
            }
            reader.read(&sample, &mut buffer).unwrap();
            transcoder
                .push(sample.pts_us, &buffer, |us, packet| {
                    times.push(us);
                    let len = decoder.decode_float(packet, &mut pcm, false).unwrap();
                    heard.extend(pcm[..len * count].iter().step_by(count).copied());
                })
                .unwrap();
        }
        assert!(
            (190..=206).contains(&times.len()),
            "{name}: {} packets",
            times.len()
        );
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] == 20_000),
            "{name}"
        );
        // The middle two seconds: 440 Hz crosses zero 880 times a second, and is about as loud as before.
        let middle = &heard[48_000..144_000];
        let crossings = middle
            .windows(2)
            .filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0)
            .count();
        assert!(
            (875..=885).contains(&crossings),
            "{name}: {crossings} crossings upwards"
        );
        let loudness =
            (middle.iter().map(|value| value * value).sum::<f32>() / middle.len() as f32).sqrt();
        assert!((0.055..0.1).contains(&loudness), "{name}: {loudness}");
    }
}
