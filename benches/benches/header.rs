//! The header of an outgoing packet: patched for each viewer, beside built for each viewer, beside
//! written by the `rtp` crate. And the header of an incoming one, parsed by both.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use fanmill_benches::packets::packet;
use fanmill_engine::packet::extension::{Extension, ExtensionMap, Extensions};
use fanmill_engine::packet::header::{
    Fields, HeaderTemplate, MAX_TEMPLATE_BYTES, Target, patch, patch_transport_cc,
};
use fanmill_engine::packet::rtp::RtpHeader;
use webrtc_util::marshal::{Marshal, Unmarshal};

const TIMESTAMP: u32 = 90_000;
const SSRC: u32 = 5;
const SEND_TIME: u32 = 0x01_02_03;
const MID: &[u8] = b"1";
const EXTENSIONS: [(Extension, u8); 3] = [
    (Extension::Mid, 4),
    (Extension::TransportWideCc, 3),
    (Extension::AbsSendTime, 2),
];

/// The same header as the `rtp` crate has it.
fn alternative() -> rtp::header::Header {
    let mut header = rtp::header::Header {
        version: 2,
        marker: true,
        payload_type: 96,
        timestamp: TIMESTAMP,
        ssrc: SSRC,
        ..Default::default()
    };
    for (extension, id) in EXTENSIONS {
        let payload = match extension {
            Extension::Mid => Bytes::from_static(MID),
            Extension::AbsSendTime => Bytes::copy_from_slice(&SEND_TIME.to_be_bytes()[1..]),
            _ => Bytes::from_static(&[0, 0]),
        };
        header.set_extension(id, payload).expect("a valid element");
    }
    header
}

fn write(criterion: &mut Criterion) {
    let source = packet(1, 1200);
    let parsed = RtpHeader::parse(&source).expect("a valid packet");
    let mut map = ExtensionMap::new();
    for (extension, id) in EXTENSIONS {
        map.insert(extension, id).expect("the ids are free");
    }
    let extensions = Extensions::parse(&source, &parsed, &map);
    let fields = Fields {
        payload_type: 96,
        marker: true,
        abs_send_time: Some(SEND_TIME),
        ..Fields::default()
    };
    let target = Target {
        extensions: &map,
        mid: MID,
        allow_two_byte: true,
    };
    let build = |out: &mut [u8]| {
        HeaderTemplate::build(out, &fields, black_box(&source), &extensions, &target)
            .expect("the buffer is large enough")
    };
    let finish = |out: &mut [u8], template: &HeaderTemplate, number: u16| {
        patch(out, number, black_box(TIMESTAMP), SSRC);
        let offset = template.transport_cc_offset.expect("it was negotiated");
        patch_transport_cc(out, offset, number);
    };
    let mut shared = [0; MAX_TEMPLATE_BYTES];
    let template = build(&mut shared);
    let mut out = [0; MAX_TEMPLATE_BYTES];
    let mut number = 0u16;

    let mut group = criterion.benchmark_group("header");
    group.bench_function("copy and patch a template", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(1);
            out[..template.len].copy_from_slice(&shared[..template.len]);
            finish(&mut out, &template, number);
            black_box(&out);
        });
    });
    group.bench_function("build", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(1);
            let built = build(&mut out);
            finish(&mut out, &built, number);
            black_box(&out);
        });
    });
    let written = out[..template.len].to_vec();

    let mut header = alternative();
    let mut marshal = |number: u16, out: &mut [u8]| {
        header.sequence_number = number;
        header.timestamp = black_box(TIMESTAMP);
        header
            .set_extension(3, Bytes::copy_from_slice(&number.to_be_bytes()))
            .expect("a valid element");
        header.marshal_to(out).expect("the buffer is large enough")
    };
    let len = marshal(number, &mut out);
    assert_eq!(out[..len], written, "both write the same header");
    group.bench_function("rtp crate, change and marshal", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(1);
            black_box(marshal(number, &mut out));
            black_box(&out);
        });
    });
    group.finish();
}

fn parse(criterion: &mut Criterion) {
    let mut source = [0; MAX_TEMPLATE_BYTES];
    let len = alternative().marshal_to(&mut source).expect("enough room");
    let source = Bytes::copy_from_slice(&source[..len]);
    let mut map = ExtensionMap::new();
    for (extension, id) in EXTENSIONS {
        map.insert(extension, id).expect("the ids are free");
    }
    let mut group = criterion.benchmark_group("header");
    group.bench_function("parse with extensions", |bencher| {
        bencher.iter(|| {
            let source = black_box(&source[..]);
            let header = RtpHeader::parse(source).expect("a valid header");
            (header, Extensions::parse(source, &header, &map))
        });
    });
    group.bench_function("rtp crate, unmarshal", |bencher| {
        bencher.iter(|| {
            let mut source = black_box(source.clone());
            rtp::header::Header::unmarshal(&mut source).expect("a valid header")
        });
    });
    group.finish();
}

criterion_group!(benches, write, parse);
criterion_main!(benches);
