//! Sealing one packet for one viewer after the other, and opening one of each: the engine beside
//! what it could have been built on. With `--features openssl` also beside the system's OpenSSL.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanmill_benches::libraries::{LIBRARIES, Library, Session};
use fanmill_benches::packets::{Master, OVERHEAD_BYTES, PACKET_BYTES, VIEWERS, packet};
use fanmill_engine::srtp::Profile;

/// A session for each viewer, or `None` if the library has no such profile.
fn sessions(library: &Library, profile: Profile) -> Option<Vec<Box<dyn Session>>> {
    (0..VIEWERS)
        .map(|number| library.session(profile, &Master::new(profile, number)))
        .collect()
}

fn seal(criterion: &mut Criterion) {
    for profile in Profile::ALL {
        let mut group = criterion.benchmark_group(format!("seal/{}", profile.name()));
        group.throughput(Throughput::Elements(1));
        for len in PACKET_BYTES {
            let plain = packet(1, len);
            let mut out = vec![0; len + OVERHEAD_BYTES];
            for library in LIBRARIES {
                let Some(mut sessions) = sessions(library, profile) else {
                    continue;
                };
                let mut viewer = 0;
                group.bench_function(BenchmarkId::new(library.name, len), |bencher| {
                    bencher.iter(|| {
                        viewer = (viewer + 1) % VIEWERS;
                        sessions[viewer].seal(1, black_box(&plain), black_box(&mut out))
                    });
                });
            }
        }
        group.finish();
    }
}

/// Packets to open: the next one of every viewer.
struct Arrivals {
    sealers: Vec<Box<dyn Session>>,
    sealed: Vec<Vec<u8>>,
    index: u64,
    len: usize,
}

impl Arrivals {
    fn new(profile: Profile, len: usize) -> Self {
        let sealed_len = len + profile.tag_len();
        Self {
            sealers: sessions(&LIBRARIES[0], profile).expect("the engine has every profile"),
            sealed: vec![vec![0; sealed_len]; VIEWERS],
            index: 0,
            len,
        }
    }

    fn next(&mut self) {
        self.index += 1;
        let plain = packet(self.index as u16, self.len);
        for (sealer, sealed) in self.sealers.iter_mut().zip(&mut self.sealed) {
            sealer.seal(self.index, &plain, sealed);
        }
    }

    /// How long `sessions` take to open `count` packets, `VIEWERS` of them between two arrivals.
    fn open(&mut self, sessions: &mut [Box<dyn Session>], out: &mut [u8], count: u64) -> Duration {
        let mut elapsed = Duration::ZERO;
        let mut left = count as usize;
        while left > 0 {
            self.next();
            let now = left.min(VIEWERS);
            let start = Instant::now();
            for (session, sealed) in sessions.iter_mut().zip(&self.sealed).take(now) {
                let opened = session.open(self.index, black_box(sealed), black_box(out));
                assert!(opened.is_some(), "an authentic packet");
            }
            elapsed += start.elapsed();
            left -= now;
        }
        elapsed
    }
}

fn open(criterion: &mut Criterion) {
    for profile in Profile::ALL {
        let mut group = criterion.benchmark_group(format!("open/{}", profile.name()));
        group.throughput(Throughput::Elements(1));
        for len in PACKET_BYTES {
            let mut out = vec![0; len + OVERHEAD_BYTES];
            for library in LIBRARIES {
                let Some(mut sessions) = sessions(library, profile) else {
                    continue;
                };
                let mut arrivals = Arrivals::new(profile, len);
                group.bench_function(BenchmarkId::new(library.name, len), |bencher| {
                    bencher.iter_custom(|count| arrivals.open(&mut sessions, &mut out, count));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, seal, open);
criterion_main!(benches);
