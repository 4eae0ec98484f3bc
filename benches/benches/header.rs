//! The header of an outgoing packet: patched for each viewer, beside built for each viewer.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fanmill_benches::packets::packet;
use fanmill_engine::packet::extension::{Extension, ExtensionMap, Extensions};
use fanmill_engine::packet::header::{
    Fields, HeaderTemplate, MAX_TEMPLATE_BYTES, Target, patch, patch_transport_cc,
};
use fanmill_engine::packet::rtp::RtpHeader;

fn header(criterion: &mut Criterion) {
    let source = packet(1, 1200);
    let parsed = RtpHeader::parse(&source).expect("a valid packet");
    let mut map = ExtensionMap::new();
    for (extension, id) in [
        (Extension::AbsSendTime, 2),
        (Extension::TransportWideCc, 3),
        (Extension::Mid, 4),
    ] {
        map.insert(extension, id).expect("the ids are free");
    }
    let extensions = Extensions::parse(&source, &parsed, &map);
    let fields = Fields {
        payload_type: 96,
        marker: true,
        abs_send_time: Some(1),
        ..Fields::default()
    };
    let target = Target {
        extensions: &map,
        mid: b"1",
        allow_two_byte: true,
    };
    let build = |out: &mut [u8]| {
        HeaderTemplate::build(out, &fields, black_box(&source), &extensions, &target)
            .expect("the buffer is large enough")
    };
    let mut out = [0; MAX_TEMPLATE_BYTES];
    let template = build(&mut out);
    let mut viewer = out;
    let mut group = criterion.benchmark_group("header");
    group.bench_function("copy and patch a template", |bencher| {
        let offset = template.transport_cc_offset.expect("it was negotiated");
        let mut number = 0u16;
        bencher.iter(|| {
            number = number.wrapping_add(1);
            viewer[..template.len].copy_from_slice(&out[..template.len]);
            patch(&mut viewer, number, black_box(90_000), 5);
            patch_transport_cc(&mut viewer, offset, number);
            black_box(&viewer);
        });
    });
    group.bench_function("build", |bencher| {
        let mut number = 0u16;
        bencher.iter(|| {
            number = number.wrapping_add(1);
            let built = build(&mut viewer);
            patch(&mut viewer, number, black_box(90_000), 5);
            black_box((&viewer, built));
        });
    });
    group.bench_function("parse", |bencher| {
        bencher.iter(|| RtpHeader::parse(black_box(&source)));
    });
    group.finish();
}

criterion_group!(benches, header);
criterion_main!(benches);
