//! The whole fan-out of one frame (receive, open, route, plan, seal, send) into a sink, beside
//! the floor: a bare loop that copies, patches and seals the same packets for as many keys.
//!
//! Criterion measures each by itself. Then both are measured in turn, frame by frame, so that
//! noise hits them alike: engine over floor is the one number that says what the engine adds. It is
//! printed and kept in `target/criterion/fan_out_ratio.json`. `-- ratio` measures that alone.
//!
//! All is CPU time of the one thread, so that it holds on a machine with other work too.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use fanmill_benches::{Floor, FramePattern, Studio};
use fanmill_engine::srtp::Profile;

const PROFILES: [Profile; 2] = [Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80];
const VIEWERS: [usize; 4] = [100, 500, 1000, 10_000];

/// How long each ratio is measured, and how many frames at least.
const RATIO_TIME: Duration = Duration::from_secs(2);
const RATIO_FRAMES: usize = 15;

fn fan_out(criterion: &mut Criterion) {
    let frame = &FramePattern::Uneven.frames()[0];
    let mut group = criterion.benchmark_group("fan_out");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_secs(1));
    for profile in PROFILES {
        for viewers in VIEWERS {
            group.throughput(Throughput::Elements((viewers * frame.len()) as u64));
            let name = |what: &str| BenchmarkId::new(format!("{}/{what}", profile.name()), viewers);
            let mut floor = Floor::new(viewers, profile);
            group.bench_function(name("floor"), |bencher| {
                bencher.iter_custom(|frames| (0..frames).map(|_| floor.burst(frame)).sum());
            });
            let mut studio = Studio::new(viewers, profile);
            group.bench_function(name("engine"), |bencher| {
                bencher.iter_custom(|frames| (0..frames).map(|_| studio.burst(frame)).sum());
            });
        }
    }
    group.finish();
}

/// What was found for one profile, number of viewers and pattern.
struct Ratio {
    profile: Profile,
    /// Whether the viewers are shown one of several encodings, and estimated for that.
    estimated: bool,
    viewers: usize,
    pattern: FramePattern,
    /// Medians of the CPU time per packet and viewer, in nanoseconds.
    floor_ns: f64,
    engine_ns: f64,
    /// The median of engine over floor, frame by frame.
    ratio: f64,
}

impl Ratio {
    fn measure(
        studio: &mut Studio,
        floor: &mut Floor,
        pattern: FramePattern,
        quick: bool,
    ) -> Pairs {
        let frames = pattern.frames();
        let mut pairs = Pairs::default();
        let start = Instant::now();
        for (turn, frame) in frames.iter().cycle().enumerate() {
            // A B, B A: neither always finds the caches as the other left them.
            let (below, above) = if turn % 2 == 0 {
                let below = floor.burst(frame);
                (below, studio.burst(frame))
            } else {
                let above = studio.burst(frame);
                (floor.burst(frame), above)
            };
            pairs.add(below, above, frame.len());
            let enough = quick || start.elapsed() >= RATIO_TIME && turn + 1 >= RATIO_FRAMES;
            if enough {
                break;
            }
        }
        pairs
    }

    fn json(&self) -> String {
        format!(
            "{{\"profile\": \"{}\", \"estimated\": {}, \"viewers\": {}, \"pattern\": \"{:?}\", \
             \"floor_ns\": {:.1}, \"engine_ns\": {:.1}, \"ratio\": {:.3}}}",
            self.profile,
            self.estimated,
            self.viewers,
            self.pattern,
            self.floor_ns,
            self.engine_ns,
            self.ratio
        )
    }

    fn line(&self) -> String {
        format!(
            "{:<28} {:<9} {:>6} {:<9} {:>8.1} ns {:>8.1} ns {:>7.3}",
            self.profile.name(),
            if self.estimated { "estimated" } else { "" },
            self.viewers,
            format!("{:?}", self.pattern),
            self.floor_ns,
            self.engine_ns,
            self.ratio
        )
    }
}

/// Times of floor and engine for the same frames, in nanoseconds per packet.
#[derive(Default)]
struct Pairs {
    floor: Vec<f64>,
    engine: Vec<f64>,
    ratio: Vec<f64>,
}

impl Pairs {
    fn add(&mut self, floor: Duration, engine: Duration, packets: usize) {
        let per_packet = |time: Duration| time.as_nanos() as f64 / packets as f64;
        self.floor.push(per_packet(floor));
        self.engine.push(per_packet(engine));
        self.ratio.push(engine.as_secs_f64() / floor.as_secs_f64());
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ratios(quick: bool) -> Vec<Ratio> {
    let mut found = Vec::new();
    for (profile, estimated) in PROFILES
        .into_iter()
        .flat_map(|one| [(one, false), (one, true)])
    {
        for viewers in VIEWERS {
            let mut studio = match estimated {
                true => Studio::simulcast(viewers, profile),
                false => Studio::new(viewers, profile),
            };
            let mut floor = Floor::new(viewers, profile);
            for pattern in FramePattern::ALL {
                let pairs = Ratio::measure(&mut studio, &mut floor, pattern, quick);
                let ratio = Ratio {
                    profile,
                    estimated,
                    viewers,
                    pattern,
                    floor_ns: median(pairs.floor) / viewers as f64,
                    engine_ns: median(pairs.engine) / viewers as f64,
                    ratio: median(pairs.ratio),
                };
                println!("{}", ratio.line());
                found.push(ratio);
            }
        }
    }
    found
}

/// Where criterion keeps its reports: beside the folder this runs from, TARGET/PROFILE/deps.
fn report_folder() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(folder) = env::var_os("CRITERION_HOME") {
        return Ok(folder.into());
    }
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3);
    Ok(target.ok_or("not where cargo puts it")?.join("criterion"))
}

fn keep(ratios: &[Ratio]) -> Result<(), Box<dyn Error>> {
    let mut text = String::from("[\n");
    for (position, ratio) in ratios.iter().enumerate() {
        let comma = if position + 1 < ratios.len() { "," } else { "" };
        writeln!(text, "  {}{comma}", ratio.json())?;
    }
    text.push_str("]\n");
    let folder = report_folder()?;
    fs::create_dir_all(&folder)?;
    let path = folder.join("fan_out_ratio.json");
    fs::write(&path, text)?;
    println!("kept in {}", path.display());
    Ok(())
}

criterion_group!(benches, fan_out);

fn main() -> Result<(), Box<dyn Error>> {
    benches();
    Criterion::default().configure_from_args().final_summary();
    let arguments: Vec<String> = env::args().collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if given("--list") {
        return Ok(());
    }
    println!("\nper packet and viewer:                        floor      engine  engine/floor");
    let ratios = ratios(given("--test"));
    if given("--test") {
        return Ok(());
    }
    keep(&ratios)
}
