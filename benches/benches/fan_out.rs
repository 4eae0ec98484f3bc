//! The whole fan-out of one 10-packet burst (receive, open, route, seal, send) into a sink, beside
//! the floor: a bare loop that copies, patches and seals the same packets for the same number of
//! keys. The ratio of the two is what the engine adds.

#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanmill_benches::{FramePattern, Studio};
use fanmill_engine::srtp::{MasterKey, Profile, Sealer};

const PACKETS: usize = 10;
const ARENA_BYTES: usize = 256 * 1024;

/// What must be done for each viewer and packet, and nothing else.
struct Floor {
    sealers: Vec<Sealer>,
    arena: Vec<u8>,
    payload: Vec<u8>,
    index: u64,
}

impl Floor {
    fn new(viewers: usize, profile: Profile) -> Self {
        let sealer = |number: usize| {
            let mut key = vec![7; profile.key_len()];
            key[..8].copy_from_slice(&number.to_le_bytes());
            let key = MasterKey::new(profile, &key, &vec![9; profile.salt_len()]);
            Sealer::new(profile, &key.expect("lengths of the profile")).expect("the same profile")
        };
        Self {
            sealers: (0..viewers).map(sealer).collect(),
            arena: vec![0; ARENA_BYTES],
            payload: vec![0xa5; 1150],
            index: 1,
        }
    }

    fn burst(&mut self) -> Duration {
        let start = Instant::now();
        let mut used = 0;
        for (number, sealer) in self.sealers.iter().enumerate() {
            for packet in 0..PACKETS as u64 {
                // Fixed header and 12 bytes of extensions, as viewers negotiate them.
                let mut header = [0u8; 28];
                let index = self.index + packet;
                header[0] = 0x90;
                header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
                header[8..12].copy_from_slice(&(number as u32).to_be_bytes());
                if used + 1300 > ARENA_BYTES {
                    used = 0;
                }
                let sealed = sealer.seal(index, &header, &self.payload, &mut self.arena[used..]);
                used += sealed.expect("the arena has room");
            }
        }
        self.index += PACKETS as u64;
        black_box(&self.arena);
        start.elapsed()
    }
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for profile in [Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80] {
        for viewers in [100, 1000, 10_000] {
            group.throughput(Throughput::Elements((viewers * PACKETS) as u64));
            let name = |what: &str| BenchmarkId::new(format!("{}/{what}", profile.name()), viewers);
            let mut floor = Floor::new(viewers, profile);
            group.bench_function(name("floor"), |bencher| {
                bencher.iter_custom(|bursts| (0..bursts).map(|_| floor.burst()).sum());
            });
            for pattern in [FramePattern::Equal, FramePattern::Uneven] {
                let mut studio = Studio::new(viewers, profile, pattern);
                group.bench_function(name(&format!("{pattern:?}")), |bencher| {
                    bencher.iter_custom(|bursts| (0..bursts).map(|_| studio.burst(PACKETS)).sum());
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
