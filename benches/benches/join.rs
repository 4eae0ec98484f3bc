//! The frame cache: what a viewer costs who joins and is sent what came since the keyframe, beside
//! the same packets sent to one who was there; and what a stream with a cache costs beside one
//! without.
//!
//! All is CPU time of the one thread, into a sink.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanmill_benches::{FramePattern, Studio};
use fanmill_engine::Forwarding;
use fanmill_engine::limits::SLOT_BYTES;
use fanmill_engine::srtp::Profile;

const PROFILE: Profile = Profile::AeadAes128Gcm;
/// After the keyframe: ten seconds.
const FRAMES: usize = 299;

/// A viewer who joins ten seconds after the keyframe, and one who gets the same packets live.
fn join(criterion: &mut Criterion) {
    let frame = &FramePattern::Uneven.frames()[0];
    let mut group = criterion.benchmark_group("join");
    group.sample_size(10).warm_up_time(Duration::from_secs(1));
    let mut studio = Studio::new(1, PROFILE);
    let cached = studio.fill_cache(frame, FRAMES);
    println!(
        "the cache is {cached} packets, {} KiB, shared by all viewers",
        cached * SLOT_BYTES as u64 / 1024
    );
    group.throughput(Throughput::Elements(cached));
    group.bench_function("from the cache", |bencher| {
        bencher.iter_custom(|joins| {
            let mut took = Duration::ZERO;
            for _ in 0..joins {
                let mut studio = Studio::new(1, PROFILE);
                let cached = studio.fill_cache(frame, FRAMES);
                took += studio.join(cached);
            }
            took
        });
    });
    group.bench_function("the same packets live", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut studio = Studio::new(1, PROFILE);
            let burst = |_| studio.burst(frame);
            (0..rounds as usize * (FRAMES + 1)).map(burst).sum()
        });
    });
    group.finish();
}

/// Frames of a stream to its viewers, kept for those who join or not.
fn keep(criterion: &mut Criterion) {
    let frame = &FramePattern::Uneven.frames()[0];
    let mut group = criterion.benchmark_group("frame cache");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(frame.len() as u64));
    for viewers in [1, 100] {
        for (name, max_cache_us) in [("kept", 20_000_000), ("not kept", 0)] {
            let forwarding = Forwarding {
                max_cache_us,
                ..Forwarding::default()
            };
            let mut studio = Studio::forwarding(1, viewers, PROFILE, forwarding);
            let mut number = 0;
            group.bench_function(BenchmarkId::new(name, viewers), |bencher| {
                bencher.iter_custom(|frames| {
                    let burst = |_| {
                        studio.make_keyframes(number % (FRAMES + 1) == 0);
                        number += 1;
                        studio.burst(frame)
                    };
                    (0..frames).map(burst).sum()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, join, keep);
criterion_main!(benches);
