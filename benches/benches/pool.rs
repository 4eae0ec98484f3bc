//! A packet slot's life: taken, filled, shared, dropped; beside a fresh allocation for each.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use fanmill_benches::packets::packet;
use fanmill_engine::pool::PacketPool;

fn pool(criterion: &mut Criterion) {
    let pool = PacketPool::new(4096, 1024);
    let source = packet(1, 1200);
    let mut group = criterion.benchmark_group("packet");
    group.bench_function("take, share, drop", |bencher| {
        bencher.iter(|| pool.take().expect("slots are free").share());
    });
    group.bench_function("take, fill, share, clone, drop both", |bencher| {
        bencher.iter(|| {
            let mut slot = pool.take().expect("slots are free");
            slot.buffer_mut()[..source.len()].copy_from_slice(black_box(&source));
            slot.set_len(source.len());
            let packet = slot.share();
            black_box(packet.clone());
        });
    });
    group.bench_function("allocate, fill, clone, drop both", |bencher| {
        bencher.iter(|| {
            let packet: Arc<[u8]> = black_box(&source[..]).into();
            black_box(Arc::clone(&packet));
        });
    });
    group.finish();
}

criterion_group!(benches, pool);
criterion_main!(benches);
