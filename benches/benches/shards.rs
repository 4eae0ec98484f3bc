//! The same broadcast on one shard and on two, each on a core of its own, into a sink: what a second
//! shard adds.
//!
//! Both are measured in turn, and the medians compared, so that noise hits them alike. It wants two
//! idle cores: with one, or with others at work, it tells nothing.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use fanmill_benches::{FramePattern, Studio};
use fanmill_engine::srtp::Profile;

const VIEWERS: usize = 1000;
const FRAMES: usize = 100;
const ROUNDS: usize = 15;
const PROFILE: Profile = Profile::AeadAes128Gcm;

fn frames() -> Vec<Vec<usize>> {
    let frames = FramePattern::Uneven.frames();
    frames.iter().cycle().take(FRAMES).cloned().collect()
}

fn shards(criterion: &mut Criterion) {
    let frames = frames();
    let packets: usize = frames.iter().map(Vec::len).sum();
    let mut group = criterion.benchmark_group("shards");
    group.sample_size(10);
    group.throughput(Throughput::Elements((packets * VIEWERS) as u64));
    for shards in [1, 2] {
        let mut studio = Studio::with_shards(shards, VIEWERS, PROFILE);
        group.bench_function(BenchmarkId::from_parameter(shards), |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| studio.run(&frames)).sum());
        });
    }
    group.finish();
}

/// How many times as fast two shards are, with the time of one for a packet and viewer.
fn speed_up(rounds: usize) -> (f64, f64) {
    let frames = frames();
    let packets: usize = frames.iter().map(Vec::len).sum();
    let [mut one, mut two] = [1, 2].map(|shards| Studio::with_shards(shards, VIEWERS, PROFILE));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        times[0].push(one.run(&frames));
        times[1].push(two.run(&frames));
    }
    let [one, two] = times.map(median);
    let packet_ns = one.as_nanos() as f64 / (packets * VIEWERS) as f64;
    (one.as_secs_f64() / two.as_secs_f64(), packet_ns)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

criterion_group!(benches, shards);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    benches();
    Criterion::default().configure_from_args().final_summary();
    if given("--list") || std::thread::available_parallelism().map_or(1, |n| n.get()) < 2 {
        return;
    }
    let (speed_up, packet_ns) = speed_up(if given("--test") { 1 } else { ROUNDS });
    println!(
        "two shards are {speed_up:.2} times as fast as one ({packet_ns:.0} ns a packet and viewer)"
    );
}
