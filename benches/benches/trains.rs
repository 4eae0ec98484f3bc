//! Grouping a frame's packets into trains, with padding and without: the time it takes, once for all
//! viewers that negotiated alike, and how many sends it leaves for each of them.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanmill_benches::FramePattern;
use fanmill_engine::Trains;

/// RTP header and extensions before the payload.
const HEADER_BYTES: usize = 40;

fn trains(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trains");
    for pattern in FramePattern::ALL {
        let mut frames = pattern.frames();
        for bytes in frames.iter_mut().flatten() {
            *bytes += HEADER_BYTES;
        }
        let packets: usize = frames.iter().map(Vec::len).sum();
        let mut trains = Trains::default();
        for (name, may_pad) in [("padded", true), ("as they are", false)] {
            let mut grouped = || -> usize {
                let frames = black_box(&frames).iter();
                frames.map(|frame| trains.group(frame, may_pad)).sum()
            };
            let sends = grouped();
            println!("{pattern:?}, {name}: {packets} packets leave as {sends} sends");
            group.throughput(Throughput::Elements(packets as u64));
            group.bench_function(BenchmarkId::new(name, format!("{pattern:?}")), |bencher| {
                bencher.iter(&mut grouped);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, trains);
criterion_main!(benches);
