//! Keyframes that ffmpeg made, read back by ffmpeg from the JPEG; and damaged ones.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::process::Command;

use proptest::prelude::*;

use super::*;

fn run(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    output.stdout
}

/// A file of four coloured quarters, encoded like this.
fn film(dir: &std::path::Path, name: &str, size: (u32, u32), options: &str) -> String {
    let half = format!("{}x{}", size.0 / 2, size.1 / 2);
    let source = |colour: &str| format!("color={colour}:s={half}:r=10:d=2");
    let inputs = ["red", "lime", "blue", "white"].map(source);
    let mut args = Vec::new();
    for input in &inputs {
        args.extend(["-f", "lavfi", "-i", input]);
    }
    // As what has the height of HD has its colours.
    let matrix = if size.1 >= 720 { "bt709" } else { "bt601" };
    let joined = format!(
        "[0][1]hstack[a];[2][3]hstack[b];\
         [a][b]vstack,format=gbrp,scale=out_color_matrix={matrix},format=yuv420p"
    );
    args.extend(["-filter_complex", &joined]);
    args.extend(options.split(' '));
    let path = dir.join(name).to_str().unwrap().to_owned();
    args.push(&path);
    run(&args);
    path
}

/// The middles of the quarters of a JPEG, and its size.
fn quarters(jpeg: &[u8]) -> ([[u8; 3]; 4], (usize, usize)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.jpg");
    std::fs::write(&path, jpeg).unwrap();
    let path = path.to_str().unwrap();
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_entries",
            "stream=width,height",
            "-of",
            "csv=p=0",
            path,
        ])
        .output()
        .unwrap();
    let size = String::from_utf8(probe.stdout).unwrap();
    let (width, height) = size.trim().split_once(',').unwrap();
    let (width, height): (usize, usize) = (width.parse().unwrap(), height.parse().unwrap());
    let rgb = run(&["-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
    assert_eq!(rgb.len(), width * height * 3);
    let at = |x: usize, y: usize| {
        let at = ((y * height / 4) * width + x * width / 4) * 3;
        [rgb[at], rgb[at + 1], rgb[at + 2]]
    };
    ([at(1, 1), at(3, 1), at(1, 3), at(3, 3)], (width, height))
}

#[track_caller]
fn assert_quarters(jpeg: &[u8], size: (usize, usize)) {
    let (found, found_size) = quarters(jpeg);
    assert_eq!(found_size, size);
    let expected = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]];
    for (found, expected) in found.iter().zip(expected) {
        let far = found.iter().zip(expected).any(|(a, b)| a.abs_diff(b) > 20);
        assert!(!far, "{found:?} instead of {expected:?}");
    }
}

const X264: &str = "-c:v libx264 -preset veryfast -tune zerolatency -bf 0";

/// The first frame of a film in VP8, as IVF has it: after a header of 32 bytes, and 12 of its own.
fn vp8_keyframe(dir: &std::path::Path, size: (u32, u32)) -> Unit {
    let path = film(dir, "x.ivf", size, "-c:v libvpx");
    let ivf = std::fs::read(path).unwrap();
    let bytes = u32::from_le_bytes(*ivf[32..].first_chunk().unwrap()) as usize;
    unit(Codec::Vp8, ivf[44..44 + bytes].to_vec())
}

#[test]
fn keyframes_become_pictures_of_their_colours() {
    let dir = tempfile::tempdir().unwrap();
    let recordings = Recordings::new(dir.path());
    let cases = [
        (
            "baseline.mp4",
            (320, 180),
            "-profile:v baseline",
            640,
            (320, 180),
        ),
        (
            "slices.mp4",
            (640, 360),
            "-x264-params slices=4",
            160,
            (160, 90),
        ),
        (
            "upright.mp4",
            (360, 640 * 2),
            "-colorspace bt709 -movflags frag_keyframe+empty_moov",
            640,
            (180, 640),
        ),
    ];
    for (name, size, options, width, expected) in cases {
        film(dir.path(), name, size, &format!("{X264} {options}"));
        let keyframe = keyframe::of_recording(&recordings, name, Some(1_000_000)).unwrap();
        assert_quarters(&jpeg_of(&keyframe, width).unwrap(), expected);
    }
    let keyframe = vp8_keyframe(dir.path(), (324, 180));
    assert_quarters(&jpeg_of(&keyframe, 100).unwrap(), (100, 55));
}

#[test]
fn what_cannot_be_decoded_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let recordings = Recordings::new(dir.path());
    film(
        dir.path(),
        "vp9.mp4",
        (64, 64),
        "-c:v libvpx-vp9 -deadline realtime -cpu-used 8",
    );
    let error = keyframe::of_recording(&recordings, "vp9.mp4", None).unwrap_err();
    assert!(
        matches!(error, ThumbnailError::Codec(Codec::Vp9)),
        "{error}"
    );
    assert!(
        error.to_string().contains("of H264 and VP8 there are"),
        "{error}"
    );
    let error = keyframe::of_recording(&recordings, "no.mp4", None).unwrap_err();
    assert!(matches!(error, ThumbnailError::Recording(_)), "{error}");
}

fn unit(codec: Codec, data: Vec<u8>) -> Unit {
    Unit {
        codec,
        timestamp: 0,
        keyframe: true,
        data,
        arrival_us: 0,
    }
}

#[test]
fn a_picture_too_large_is_refused_before_it_is_decoded() {
    let mut frame = vec![0x10, 0, 0, 0x9d, 0x01, 0x2a];
    frame.extend(16_383_u16.to_le_bytes());
    frame.extend(16_383_u16.to_le_bytes());
    let error = jpeg_of(&unit(Codec::Vp8, frame), 640).unwrap_err();
    assert!(
        matches!(error, ThumbnailError::TooLarge(16_383, 16_383)),
        "{error}"
    );
}

/// The keyframes of two small films.
fn keyframes() -> &'static [Unit; 2] {
    static KEYFRAMES: std::sync::OnceLock<[Unit; 2]> = std::sync::OnceLock::new();
    KEYFRAMES.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let recordings = Recordings::new(dir.path());
        film(dir.path(), "a.mp4", (96, 64), X264);
        let h264 = keyframe::of_recording(&recordings, "a.mp4", None).unwrap();
        [h264, vp8_keyframe(dir.path(), (96, 64))]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_keyframes_are_refused_or_shown_and_end(
        which in 0_usize..2,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut keyframe = keyframes()[which].clone();
        for (at, byte) in damage {
            let at = at.index(keyframe.data.len());
            keyframe.data[at] = byte;
        }
        if is_cut {
            keyframe.data.truncate(cut.index(keyframe.data.len()));
        }
        // A panic of a decoder is an error of the thumbnail.
        let _ = std::panic::catch_unwind(|| jpeg_of(&keyframe, 64));
    }
}
