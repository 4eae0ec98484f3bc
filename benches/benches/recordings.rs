//! What playing costs for each player, and recording for each megabit: a hundred players of a file, and
//! recorders of what they play, all on one core.
//!
//! The whole process is pinned to a core, and counts the CPU time of its threads by their names:
//! `ffmpeg` makes the files, nobody watches, the disk is that of the temporary directory. No criterion:
//! media goes at its own pace, so it is time that is given and CPU that is counted.
#![allow(
    clippy::unwrap_used,
    reason = "a step that fails is a benchmark that fails"
)]

mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fanmill_control::model::{MediaServer, ProducedStream};
use fanmill_control::player::{Media, Player, PlayerOptions, Recordings};
use fanmill_control::recorder::{RecorderConfig, RecorderSpec, Recorders, tap_sources};
use fanmill_engine::io::uring::pin_to_core;

/// At once.
const PLAYERS: usize = 100;

/// CPU time is counted over this long.
const MEASURED: Duration = Duration::from_secs(10);

/// Before that, all of it is under way.
const WARM_UP: Duration = Duration::from_secs(2);

/// Longer than both, so that none begins anew.
const FILE_S: u32 = 20;

/// A load, by its video and sound.
const LOADS: [(&str, &str, &str); 3] = [
    (
        "0.6 Mbit/s VP9 and Opus",
        "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -minrate 550k -maxrate 550k -b:v 550k -s 640x360",
        "-c:a libopus -b:a 48k",
    ),
    (
        "2.5 Mbit/s H.264 and Opus",
        "-c:v libx264 -preset veryfast -bf 0 -x264-params nal-hrd=cbr -b:v 2450k -maxrate 2450k -bufsize 2450k",
        "-c:a libopus -b:a 48k",
    ),
    (
        "2.5 Mbit/s H.264 and AAC",
        "-c:v libx264 -preset veryfast -bf 0 -x264-params nal-hrd=cbr -b:v 2450k -maxrate 2450k -bufsize 2450k",
        "-c:a aac -b:a 96k",
    ),
];

fn make(file: &Path, video: &str, sound: &str) {
    let picture = format!("testsrc2=size=1280x720:rate=30:duration={FILE_S}");
    let tone = format!("sine=frequency=440:sample_rate=48000:duration={FILE_S}");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &tone])
        .args(["-pix_fmt", "yuv420p", "-g", "60", "-ac", "2"])
        .args(video.split(' ').chain(sound.split(' ')))
        .arg(file)
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{output:?}");
}

/// CPU time of each thread of this process so far, by what the thread is called without its number.
fn cpu_by_thread() -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        // A thread may be gone meanwhile.
        let (Ok(name), Ok(time)) = (
            std::fs::read_to_string(task.join("comm")),
            std::fs::read_to_string(task.join("schedstat")),
        ) else {
            continue;
        };
        let ns: u64 = time.split(' ').next().unwrap().parse().unwrap();
        let name = name
            .trim()
            .trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        *times.entry(name.to_owned()).or_default() += Duration::from_nanos(ns);
    }
    times
}

/// What was measured over a time.
struct Measured {
    wall: Duration,
    threads: BTreeMap<String, Duration>,
}

impl Measured {
    async fn over(time: Duration) -> Self {
        let (before, began) = (cpu_by_thread(), Instant::now());
        tokio::time::sleep(time).await;
        let (mut threads, wall) = (cpu_by_thread(), began.elapsed());
        for (name, time) in &mut threads {
            *time -= before.get(name).copied().unwrap_or_default().min(*time);
        }
        Self { wall, threads }
    }

    /// CPU of these threads, in milliseconds a second.
    fn ms(&self, names: &[&str]) -> f64 {
        let threads = names.iter().filter_map(|name| self.threads.get(*name));
        threads.sum::<Duration>().as_secs_f64() * 1000.0 / self.wall.as_secs_f64()
    }

    fn all_ms(&self) -> f64 {
        let all: Vec<&str> = self.threads.keys().map(String::as_str).collect();
        self.ms(&all)
    }
}

/// How far the slowest player has come.
fn slowest(players: &[(ProducedStream, Player)]) -> Duration {
    let positions = players
        .iter()
        .map(|(_, player)| player.status().position_us);
    Duration::from_micros(positions.min().unwrap().unsigned_abs())
}

/// Plays `name` of `folder` a hundred times, and then records all of it too.
async fn measure(server: &MediaServer, folder: &Path, name: &str, time: Duration) -> [Measured; 2] {
    let recordings = Recordings::new(folder);
    let players: Vec<(ProducedStream, Player)> = (0..PLAYERS)
        .map(|_| {
            let media = Media::open(&recordings, &[name.to_owned()]).unwrap();
            server
                .create_player(media, PlayerOptions::default())
                .unwrap()
        })
        .collect();
    let began = Instant::now();
    players.iter().for_each(|(_, player)| player.play());
    tokio::time::sleep(WARM_UP).await;
    let playing = Measured::over(time / 2).await;

    let into = tempfile::tempdir().unwrap();
    let recorders = Recorders::start(RecorderConfig::new(into.path().to_owned())).unwrap();
    for (number, (stream, _)) in players.iter().enumerate() {
        let spec = RecorderSpec {
            stream: "film".to_owned(),
            path: Some(number.to_string()),
            ..RecorderSpec::default()
        };
        let id = recorders.create(&spec).unwrap();
        recorders.attach(id, tap_sources(stream.incoming(), None).unwrap());
    }
    tokio::time::sleep(WARM_UP).await;
    let recording = Measured::over(time / 2).await;
    for recorder in recorders.list() {
        assert_eq!((recorder.fragments_dropped, &recorder.error), (0, &None));
        let missing: u64 = recorder
            .tracks
            .iter()
            .map(|track| track.packets_missing)
            .sum();
        assert_eq!(missing, 0, "{recorder:?}");
    }
    let behind = began.elapsed().saturating_sub(slowest(&players));
    assert!(
        behind < Duration::from_millis(500),
        "a player is {behind:?} behind"
    );
    recorders.stop_all().await;
    [playing, recording]
}

/// Megabits a second of a file.
fn mbps(file: &Path) -> f64 {
    let bytes = std::fs::metadata(file).unwrap().len();
    bytes as f64 * 8.0 / 1e6 / f64::from(FILE_S)
}

fn main() {
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    if given("--list") {
        return;
    }
    let time = match given("--quick") || given("--test") {
        true => MEASURED / 5,
        false => MEASURED,
    };
    // Before there are other threads, which are pinned likewise.
    let core = (0..1024).find(|core| pin_to_core(*core).is_ok());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    println!(
        "{PLAYERS} players on core {}, then recorders of all they play",
        core.unwrap()
    );
    println!("CPU in ms a second (1000 is the core); read: reading, packetizing, AAC to Opus\n");
    println!(
        "{:26}  {:>6}  {:>4}  {:>5}  {:>5}  {:>10}  {:>8}  {:>4}  {:>5}  {:>10}",
        "each",
        "Mbit/s",
        "pace",
        "read",
        "shard",
        "us/player",
        "recorder",
        "disk",
        "shard",
        "us/Mbit"
    );
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        for (number, (load, video, sound)) in LOADS.into_iter().enumerate() {
            let name = format!("{number}.mp4");
            make(&folder.path().join(&name), video, sound);
            let server = server::start().unwrap();
            let [playing, recording] = measure(&server, folder.path(), &name, time).await;
            server.terminate(Duration::from_secs(1)).await;
            let mbps = mbps(&folder.path().join(&name));
            let play = ["player-pace", "player-read"];
            let record = ["recorder", "disk"];
            let shard = ["shard"];
            println!(
                "{load:26}  {:6.1}  {:4.0}  {:5.0}  {:5.0}  {:10.0}  {:8.0}  {:4.0}  {:5.0}  {:10.0}",
                mbps,
                playing.ms(&play[..1]),
                playing.ms(&play[1..]),
                playing.ms(&shard),
                playing.all_ms() * 1000.0 / PLAYERS as f64,
                recording.ms(&record[..1]),
                recording.ms(&record[1..]),
                recording.ms(&shard),
                (recording.all_ms() - playing.all_ms()) * 1000.0 / (mbps * PLAYERS as f64),
            );
        }
    });
}
