//! Sealing one packet for one viewer after the other, and opening: the engine beside
//! `webrtc-srtp`.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanmill_benches::packets::{HEADER_BYTES, PACKET_BYTES, VIEWERS, exported, keys, packet};
use fanmill_engine::srtp::{Opener, Profile, Sealer};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

fn alternative(profile: Profile, number: usize) -> Context {
    let name = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    // RFC 5764 4.2: client key, server key, client salt, server salt; the server seals.
    let exported = exported(profile, number);
    let (key_len, salt_len) = (profile.key_len(), profile.salt_len());
    let key = &exported[key_len..2 * key_len];
    let salt = &exported[2 * key_len + salt_len..];
    Context::new(key, salt, name, None, None).expect("the lengths are the profile's")
}

fn seal(criterion: &mut Criterion) {
    for profile in Profile::ALL {
        let mut group = criterion.benchmark_group(format!("seal/{}", profile.name()));
        for len in PACKET_BYTES {
            group.throughput(Throughput::Elements(1));
            let plain = packet(1, len);
            let (header, payload) = plain.split_at(HEADER_BYTES);
            let sealers: Vec<Sealer> = (0..VIEWERS)
                .map(|number| Sealer::new(profile, &keys(profile, number).local))
                .collect::<Result<_, _>>()
                .expect("the keys are the profile's");
            let mut out = vec![0; len + 32];
            let mut viewer = 0;
            group.bench_function(BenchmarkId::new("engine", len), |bencher| {
                bencher.iter(|| {
                    viewer = (viewer + 1) % VIEWERS;
                    sealers[viewer].seal(1, header, black_box(payload), &mut out)
                });
            });
            let mut contexts: Vec<Context> =
                (0..VIEWERS).map(|n| alternative(profile, n)).collect();
            group.bench_function(BenchmarkId::new("webrtc-srtp", len), |bencher| {
                bencher.iter(|| {
                    viewer = (viewer + 1) % VIEWERS;
                    contexts[viewer].encrypt_rtp(black_box(&plain))
                });
            });
        }
        group.finish();
    }
}

fn open(criterion: &mut Criterion) {
    for profile in Profile::ALL {
        let mut group = criterion.benchmark_group(format!("open/{}", profile.name()));
        for len in PACKET_BYTES {
            group.throughput(Throughput::Elements(1));
            let material = keys(profile, 0);
            let sealer = Sealer::new(profile, &material.local).expect("the keys fit");
            let opener = Opener::new(profile, &material.local).expect("the keys fit");
            let plain = packet(1, len);
            let (header, payload) = plain.split_at(HEADER_BYTES);
            let mut sealed = vec![0; len + 32];
            let sealed_len = sealer
                .seal(1, header, payload, &mut sealed)
                .expect("the buffer is large enough");
            sealed.truncate(sealed_len);
            let mut out = vec![0; len];
            group.bench_function(BenchmarkId::new("engine", len), |bencher| {
                bencher.iter(|| opener.open(1, HEADER_BYTES, black_box(&sealed), &mut out));
            });
            let mut context = alternative(profile, 0);
            group.bench_function(BenchmarkId::new("webrtc-srtp", len), |bencher| {
                bencher.iter(|| context.decrypt_rtp(black_box(&sealed)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, seal, open);
criterion_main!(benches);
