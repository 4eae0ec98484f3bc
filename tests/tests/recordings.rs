//! Browsers publish, the server records: the file is what they showed, with sound and picture
//! together, whatever becomes of the server.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fanmill_tests::browser::Page;
use fanmill_tests::scene::{LIMIT, publish};
use fanmill_tests::{Browser, Server, ServerOptions, mp4, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Sound may be this far from the picture. The recorder adds less than 5 (`recorder/tests/sync.rs`), the
/// look-ahead of Opus 6.5; the browser renders sound 10 at a time, and says of a picture when it took it,
/// not when it was drawn.
const APART_MS: f64 = 20.0;

/// In one of the recordings: a browser that gets no time leaves out sound, and its clock is off until
/// the next report.
const MOST_APART_MS: f64 = 80.0;

async fn server(dir: &Path, more: &[&str]) -> Server {
    let mut arguments = vec!["--recordings".into(), dir.as_os_str().to_owned()];
    arguments.extend(more.iter().map(Into::into));
    let options = ServerOptions {
        arguments,
        ..ServerOptions::default()
    };
    Server::start_with(options).await.unwrap()
}

/// Waits until the one recorder has recorded so much.
async fn recorded(server: &Server, least_ms: u64) -> Value {
    let list = async || server.admin("recorder.list", json!({})).await;
    let enough = |list: &Value| {
        list[0]["duration_ms"]
            .as_u64()
            .is_some_and(|ms| ms >= least_ms)
    };
    wait::until("media in the recording", LIMIT, list, enough)
        .await
        .unwrap()[0]
        .clone()
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{program} {arguments:?}: {said}"
    );
    output.stdout
}

fn text(program: &str, arguments: &[&str]) -> String {
    String::from_utf8(run(program, arguments))
        .unwrap()
        .trim()
        .to_owned()
}

fn check(file: &str) {
    mp4::check(Path::new(file)).unwrap();
}

fn duration_ms(file: &str) -> f64 {
    let arguments = [
        "-v",
        "error",
        "-show_entries",
        "format=duration",
        "-of",
        "csv=p=0",
        file,
    ];
    text("ffprobe", &arguments).parse::<f64>().unwrap() * 1000.0
}

/// Of each picture its time in the file and the time its test card shows, in milliseconds.
fn pictures(file: &str) -> Vec<(f64, f64)> {
    const CELLS: usize = 40;
    const WIDTH: usize = 640;
    let entries = ["-show_entries", "frame=pts_time", "-of", "csv=p=0", file];
    let times = text(
        "ffprobe",
        &[&["-v", "error", "-select_streams", "v:0"][..], &entries].concat(),
    );
    let times = times
        .lines()
        .map(|line| line.trim_end_matches(',').parse::<f64>().unwrap() * 1000.0);
    // The middle row of the cells with the clock, of every picture.
    let filter = "scale=640:360,crop=640:1:0:9,format=gray";
    let arguments = [
        "-v",
        "error",
        "-nostdin",
        "-i",
        file,
        "-map",
        "0:v",
        "-vf",
        filter,
        "-fps_mode",
        "passthrough",
        // Else pictures closer together than the rate it guesses count as errors.
        "-enc_time_base:v",
        "-1",
        "-f",
        "rawvideo",
        "-",
    ];
    let rows = run("ffmpeg", &arguments);
    let clock = |row: &[u8]| {
        let bit = |cell: usize| u64::from(row[(2 * cell + 1) * WIDTH / CELLS / 2] > 128);
        let number = |from: usize, to: usize| (from..to).fold(0, |sum, cell| sum * 2 + bit(cell));
        let time = number(4, 32);
        let sum = (0..4).fold(0x5a, |sum, byte| {
            (sum * 31 + (time >> (8 * byte) & 0xff)) & 0xff
        });
        (number(0, 4) == 0b1011 && number(32, 40) == sum).then_some(time as f64)
    };
    let rows = rows.chunks_exact(WIDTH);
    assert_eq!(
        rows.len(),
        times.clone().count(),
        "every picture has a time"
    );
    times
        .zip(rows)
        .filter_map(|(time, row)| Some((time, clock(row)?)))
        .collect()
}

/// When beeps begin in the file, in milliseconds.
fn beeps(file: &str) -> Vec<f64> {
    const RATE: usize = 48_000;
    const WINDOW: usize = RATE / 500;
    let arguments = [
        "-v",
        "error",
        "-nostdin",
        "-i",
        file,
        "-map",
        "0:a",
        "-af",
        "aresample=async=1:first_pts=0",
        "-ac",
        "1",
        "-ar",
        "48000",
        "-f",
        "f32le",
        "-",
    ];
    let samples: Vec<f32> = run("ffmpeg", &arguments)
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let loud = |window: &[f32]| window.iter().any(|sample| sample.abs() > 0.2);
    let windows: Vec<bool> = samples.chunks(WINDOW).map(loud).collect();
    let quiet = 200 / 2;
    let begins = (quiet..windows.len())
        .filter(|&at| windows[at] && !windows[at - quiet..at].contains(&true));
    begins.map(|at| at as f64 * 2.0).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty());
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How much later than the picture the sound is: beeps are at whole seconds of the card's clock.
fn sound_behind_picture_ms(file: &str) -> f64 {
    let shown: Vec<f64> = pictures(file)
        .iter()
        .map(|(time, clock)| time - clock)
        .collect();
    assert!(shown.len() > 30, "{} pictures show their time", shown.len());
    let picture = median(shown);
    let behind = beeps(file).into_iter().map(|beep| {
        let clock = beep - picture;
        (clock + 500.0).rem_euclid(1000.0) - 500.0
    });
    let behind: Vec<f64> = behind.collect();
    assert!(behind.len() >= 3, "{} beeps", behind.len());
    median(behind)
}

/// Proves that a JPEG shows the bars of a test card, in their colours.
#[track_caller]
fn shows_bars(dir: &Path, jpeg: &[u8]) {
    const BARS: [[u8; 3]; 7] = [
        [0xc0, 0xc0, 0xc0],
        [0xc0, 0xc0, 0],
        [0, 0xc0, 0xc0],
        [0, 0xc0, 0],
        [0xc0, 0, 0xc0],
        [0xc0, 0, 0],
        [0, 0, 0xc0],
    ];
    let file = dir.join("thumbnail.jpg");
    std::fs::write(&file, jpeg).unwrap();
    let file = file.to_str().unwrap();
    // A row just below the clock, above what moves; a pixel for each seventh of a bar.
    let filter = "format=rgb24,scale=640:360,crop=640:4:0:20,scale=49:1:flags=area";
    let input = ["-v", "error", "-nostdin", "-i", file, "-vf", filter];
    let output = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"];
    let row = run("ffmpeg", &[&input[..], &output].concat());
    for (bar, colour) in BARS.iter().enumerate() {
        let middle = &row[(bar * 7 + 3) * 3..][..3];
        // Chromium codes a canvas in full range and says so to nobody: colours are strong or weak.
        let differ = |(is, should): (&u8, &u8)| (*is > 110) != (*should > 110);
        let differs = middle.iter().zip(colour).any(differ);
        assert!(!differs, "bar {bar} is {middle:?}, not {colour:?}: {row:?}");
    }
}

/// Looks at a thumbnail: of what the server decodes it shows the test card.
async fn is_shown(server: &Server, dir: &Path, path: &str, codec: &str) {
    let answer = reqwest::get(server.url(path)).await.unwrap();
    if !["VP8", "H264"].contains(&codec) {
        assert_eq!(answer.status(), 501, "{path}");
        assert!(answer.text().await.unwrap().contains(codec));
        return;
    }
    assert_eq!(answer.status(), 200, "{path}");
    let jpeg = answer.bytes().await.unwrap();
    shows_bars(dir, &jpeg);
}

/// Begins to record by the button of the front page.
async fn press_record(front: &Page, server: &Server) -> Value {
    let button = "document.querySelector('[aria-label=\"Record main\"]')";
    front
        .wait_for(&format!("{button}?.hidden === false"), LIMIT)
        .await
        .unwrap();
    front.evaluate(&format!("{button}.click()")).await.unwrap();
    let list = async || server.admin("recorder.list", json!({})).await;
    let made = |list: &Value| !list[0].is_null();
    wait::until("a recorder", LIMIT, list, made).await.unwrap()[0].clone()
}

/// Ends it by the same button; returns what was recorded.
async fn press_stop(front: &Page, server: &Server) -> Value {
    let button = "document.querySelector('[aria-label=\"Stop recording main\"]')";
    front
        .wait_for(&format!("{button} !== null"), LIMIT)
        .await
        .unwrap();
    let info = server.admin("recorder.list", json!({})).await.unwrap()[0].clone();
    front.evaluate(&format!("{button}.click()")).await.unwrap();
    // The button is back when the file is complete.
    let again = "document.querySelector('[aria-label=\"Record main\"]') !== null";
    front.wait_for(again, LIMIT).await.unwrap();
    assert_eq!(
        server.admin("recorder.list", json!({})).await.unwrap(),
        json!([])
    );
    info
}

/// One publisher after the other, each in another codec: the recorder begins a file for each. By the
/// button of the front page, or by command.
async fn are_recorded(codecs: [&str; 2], by_button: bool) {
    const MILLISECONDS: u64 = 8_000;
    let dir = TempDir::new().unwrap();
    let server = server(dir.path(), &[]).await;
    let browser = Browser::start().await.unwrap();
    let front = browser.open(&server.url("/")).await.unwrap();
    if !by_button {
        let create = json!({"stream": "main", "path": "a/show", "progressive": true});
        server.admin("recorder.create", create).await.unwrap();
    }
    let mut before = 0;
    let mut last = Value::Null;
    for (at, codec) in codecs.into_iter().enumerate() {
        let page = publish(&browser, &server, "main", codec).await.unwrap();
        if by_button && at == 0 {
            press_record(&front, &server).await;
        }
        is_shown(&server, dir.path(), "/main/thumbnail.jpg", codec).await;
        let info = recorded(&server, before + MILLISECONDS).await;
        before = info["duration_ms"].as_u64().unwrap();
        if at == 0 {
            let shown = "document.querySelector('#streams img')?.naturalWidth === 160";
            front.wait_for(shown, LIMIT).await.unwrap();
        } else if by_button {
            last = press_stop(&front, &server).await;
        } else {
            let stop = json!({"recorder": info["id"]});
            last = server.admin("recorder.stop", stop).await.unwrap();
            assert_eq!(last["state"], "stopped", "{last}");
        }
        assert_eq!(page.console(), Vec::<String>::new());
        page.evaluate("fanmill.stop()").await.unwrap();
    }
    assert_eq!(front.console(), Vec::<String>::new());
    assert_eq!(
        (&last["error"], &last["parts"]),
        (&Value::Null, &2.into()),
        "{last}"
    );
    let second = last["path"].as_str().unwrap();
    let first = second.replace("-2.mp4", ".mp4");
    let (mut lasts, mut apart) = (0.0, Vec::new());
    for (codec, name) in codecs.into_iter().zip([&first, second]) {
        let file = dir.path().join(name);
        let file = file.to_str().unwrap();
        check(file);
        lasts += duration_ms(file);
        let behind = sound_behind_picture_ms(file);
        println!("{codec}: sound is {behind:.1} ms behind the picture");
        apart.push(behind.abs());
        let thumbnail = format!("/recordings/thumbnails/{name}?at_s=3");
        is_shown(&server, dir.path(), &thumbnail, codec).await;
    }
    apart.sort_by(f64::total_cmp);
    assert!(
        apart[0] < APART_MS && apart[1] < MOST_APART_MS,
        "sound is {apart:?} ms from the picture"
    );
    // The page was told some time before the end; ffprobe counts twice what a track begins later than
    // the file.
    let least = last["duration_ms"].as_f64().unwrap() - 500.0;
    assert!(lasts > least, "{lasts} ms; {last}");
    assert!(by_button || lasts < least + 1000.0, "{lasts} ms; {last}");
}

#[tokio::test]
async fn vp8_and_then_vp9_are_recorded_with_sound_and_picture_together() {
    are_recorded(["VP8", "VP9"], true).await;
}

#[tokio::test]
async fn h264_and_then_av1_are_recorded_and_the_files_finished() {
    are_recorded(["H264", "AV1"], false).await;
}

#[tokio::test]
async fn a_server_killed_amid_a_recording_leaves_a_file_that_plays() {
    let dir = TempDir::new().unwrap();
    let killed = server(dir.path(), &["--record", "ma*={stream}-{part}"]).await;
    let browser = Browser::start().await.unwrap();
    publish(&browser, &killed, "main", "VP8").await.unwrap();
    let info = recorded(&killed, 4_000).await;
    assert_eq!(info["by_rule"], true);
    let pid = killed.pid().to_string();
    assert!(
        Command::new("kill")
            .args(["-9", &pid])
            .status()
            .unwrap()
            .success()
    );
    drop(killed);
    let path = dir.path().join("main-1.mp4");
    let marker = dir.path().join(".main-1.mp4.recording");
    assert!(marker.exists());
    let file = path.to_str().unwrap();
    // As it is: what is not whole at its end is passed over.
    let arguments = ["-v", "fatal", "-nostdin", "-i", file, "-f", "null", "-"];
    run("ffmpeg", &arguments);
    let left = duration_ms(file);
    assert!(
        left >= info["duration_ms"].as_f64().unwrap() - 1_100.0,
        "{left} ms; {info}"
    );
    let _again = server(dir.path(), &[]).await;
    assert!(!marker.exists());
    check(file);
    assert!(duration_ms(file) >= left - 1.0);
}

#[tokio::test]
async fn two_hundred_recorders_of_one_stream_lose_nothing() {
    let dir = TempDir::new().unwrap();
    let server = server(dir.path(), &[]).await;
    let browser = Browser::start().await.unwrap();
    publish(&browser, &server, "main", "VP8").await.unwrap();
    for number in 0..200 {
        let create = json!({"stream": "main", "path": format!("many/{number}")});
        server.admin("recorder.create", create).await.unwrap();
    }
    let list = async || server.admin("recorder.list", json!({})).await;
    let enough = |list: &Value| {
        let all = list.as_array().unwrap();
        let least = all
            .iter()
            .map(|one| one["duration_ms"].as_u64().unwrap())
            .min();
        all.len() == 200 && least.is_some_and(|ms| ms >= 4_000)
    };
    let all = wait::until("media in all recordings", LIMIT, list, enough)
        .await
        .unwrap();
    for one in all.as_array().unwrap() {
        assert_eq!(one["fragments_dropped"], 0, "{one}");
        let missing = one["tracks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|track| &track["packets_missing"]);
        assert!(missing.eq([&json!(0), &json!(0)]), "{one}");
    }
    for id in [1, 100, 200] {
        let info = server
            .admin("recorder.stop", json!({"recorder": id}))
            .await
            .unwrap();
        let file = dir.path().join(info["path"].as_str().unwrap());
        check(file.to_str().unwrap());
    }
}

/// A server that is killed at any moment, from before the first byte on: whatever it had begun to
/// record plays, as it is and as the next start leaves it.
#[tokio::test]
async fn twenty_kills_leave_files_that_play() {
    const KILLS: u32 = 20;
    const LONGEST_MS: u32 = 500;
    let dir = TempDir::new().unwrap();
    let film = dir.path().join("film.mp4");
    let source = "testsrc2=size=640x360:rate=25:duration=2";
    let arguments = [
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        source,
        "-f",
        "lavfi",
        "-i",
        "sine=duration=2",
    ];
    let codecs = "-c:v libx264 -preset ultrafast -bf 0 -g 10 -b:v 4M -c:a libopus";
    let output = codecs.split(' ').chain(film.to_str());
    run(
        "ffmpeg",
        &arguments.into_iter().chain(output).collect::<Vec<_>>(),
    );
    let fragments = ["--recording-fragment-ms", "100"];
    let mut server = server(dir.path(), &fragments).await;
    let mut checks = Vec::new();
    for kill in 0..KILLS {
        let create = json!({"stream": "film", "path": "film.mp4", "repeat": true});
        server.admin("player.create", create).await.unwrap();
        let create = json!({"stream": "film", "path": format!("{kill}")});
        server.admin("recorder.create", create).await.unwrap();
        let play = json!({"stream": "film"});
        server.admin("player.play", play).await.unwrap();
        // Spread over the time, and never twice the same.
        let part_us = LONGEST_MS * 1_000 / KILLS;
        let moment = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let moment_us = kill * part_us + moment.subsec_nanos() % part_us;
        tokio::time::sleep(Duration::from_micros(moment_us.into())).await;
        server.crash().await.unwrap();
        let recovered = dir.path().join(format!("{kill}.mp4"));
        let as_it_was = dir.path().join(format!("{kill}-as-it-was.mp4"));
        let began = std::fs::copy(&recovered, &as_it_was).is_ok();
        server.resume().await.unwrap();
        checks.push(std::thread::spawn(move || {
            if !recovered.exists() {
                // Not a single fragment was whole.
                return None;
            }
            assert!(began);
            let (recovered, as_it_was) = (recovered.to_str().unwrap(), as_it_was.to_str().unwrap());
            check(recovered);
            let size = |file| std::fs::metadata(file).unwrap().len();
            if size(as_it_was) == size(recovered) {
                mp4::decodes(Path::new(as_it_was)).unwrap();
            } else {
                // What is not whole at its end is passed over, not without a word.
                let input = ["-v", "fatal", "-nostdin", "-i", as_it_was];
                run("ffmpeg", &[&input[..], &["-f", "null", "-"]].concat());
            }
            let (left, now) = (duration_ms(as_it_was), duration_ms(recovered));
            assert!(now >= left - 1.0, "of {left} ms {now} are left");
            Some(now)
        }));
    }
    let durations: Vec<Option<f64>> = checks
        .into_iter()
        .map(|check| check.join().unwrap())
        .collect();
    println!("ms that were left: {durations:?}");
    let played = durations.iter().flatten().count();
    assert!(played >= 10, "nothing was recorded before most kills");
    let markers = std::fs::read_dir(dir.path()).unwrap();
    let markers = markers.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".recording")
    });
    assert_eq!(markers.count(), 0, "all are closed");
}
