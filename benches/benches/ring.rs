//! One hop between two threads, in batches, as packets pass from shard to shard: an `rtrb` ring by
//! chunks and one by one, beside crossbeam's `ArrayQueue` and bounded channel, and the standard
//! library's bounded channel.
//!
//! Wall time per message of the pair of threads. Needs two CPUs that are otherwise idle.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::queue::ArrayQueue;

/// As large as a reference to a packet and its rendition.
type Message = [u64; 4];

const RING_MESSAGES: usize = 8192;
const BATCH: usize = 32;

/// Sends `count` messages through `send`, which takes some of those left and says how many, while
/// `receive` does the same on another thread; returns how long both took.
fn hop(
    count: u64,
    mut send: impl FnMut(usize) -> usize,
    mut receive: impl FnMut() -> usize + Send,
) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut left = count;
            while left > 0 {
                match receive() {
                    0 => std::hint::spin_loop(),
                    received => left -= received as u64,
                }
            }
        });
        let mut left = count;
        while left > 0 {
            match send(BATCH.min(left as usize)) {
                0 => std::hint::spin_loop(),
                sent => left -= sent as u64,
            }
        }
    });
    start.elapsed()
}

fn rtrb_chunks(count: u64) -> Duration {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Message>::new(RING_MESSAGES);
    hop(
        count,
        |batch| match producer.write_chunk_uninit(batch) {
            Ok(chunk) => chunk.fill_from_iter((0..).map(|i| [i; 4])),
            Err(_) => 0,
        },
        move || {
            let ready = consumer.slots();
            let Ok(chunk) = consumer.read_chunk(ready) else {
                return 0;
            };
            chunk.into_iter().map(std::hint::black_box).count()
        },
    )
}

fn rtrb_single(count: u64) -> Duration {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Message>::new(RING_MESSAGES);
    hop(
        count,
        |batch| {
            (0..batch)
                .take_while(|&i| producer.push([i as u64; 4]).is_ok())
                .count()
        },
        move || usize::from(consumer.pop().map(std::hint::black_box).is_ok()),
    )
}

fn array_queue(count: u64) -> Duration {
    let queue = ArrayQueue::<Message>::new(RING_MESSAGES);
    hop(
        count,
        |batch| {
            (0..batch)
                .take_while(|&i| queue.push([i as u64; 4]).is_ok())
                .count()
        },
        || usize::from(queue.pop().map(std::hint::black_box).is_some()),
    )
}

fn channel(count: u64) -> Duration {
    let (sender, receiver) = crossbeam::channel::bounded::<Message>(RING_MESSAGES);
    hop(
        count,
        |batch| {
            (0..batch)
                .take_while(|&i| sender.try_send([i as u64; 4]).is_ok())
                .count()
        },
        move || usize::from(receiver.try_recv().map(std::hint::black_box).is_ok()),
    )
}

fn standard_channel(count: u64) -> Duration {
    let (sender, receiver) = mpsc::sync_channel::<Message>(RING_MESSAGES);
    hop(
        count,
        |batch| {
            (0..batch)
                .take_while(|&i| sender.try_send([i as u64; 4]).is_ok())
                .count()
        },
        move || usize::from(receiver.try_recv().map(std::hint::black_box).is_ok()),
    )
}

fn ring(criterion: &mut Criterion) {
    /// Messages per iteration, so that starting the thread does not count.
    const MESSAGES: u64 = 200_000;
    let mut group = criterion.benchmark_group("ring hop");
    group.throughput(Throughput::Elements(MESSAGES));
    group.sample_size(20);
    type Hop = fn(u64) -> Duration;
    let ways: [(&str, Hop); 5] = [
        ("rtrb by chunks", rtrb_chunks),
        ("rtrb one by one", rtrb_single),
        ("crossbeam ArrayQueue", array_queue),
        ("crossbeam channel", channel),
        ("std::sync::mpsc", standard_channel),
    ];
    for (name, way) in ways {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| (0..iterations).map(|_| way(MESSAGES)).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, ring);
criterion_main!(benches);
