//! A sender against what a real one does: it restarts, pauses, loses packets, and is not alone.

mod drift;
mod fuzz;

use std::net::SocketAddr;

use fanmill_engine::packet::codec::Codec;
use fanmill_engine::packet::rtcp::{Compound, RtcpPacket, SenderInfo};
use fanmill_engine::packet::rtcp_write::RtcpWriter;

use super::reader::{Read, ReadUnit};
use super::security::{Guard, SdesKey, Seal};
use super::source::{RELEARN_US, Remote, Source};
use super::{RtpFormat, parse};
use crate::ingest::TrackFormat;
use crate::media::clock::StreamClock;

const PCMA: u8 = 8;
const H264: u8 = 96;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn rtp(payload_type: u8, number: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 0x80 | payload_type];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A source, and what it came to.
struct Bench {
    source: Source,
    clock: StreamClock,
    out: Vec<Read>,
}

impl Bench {
    fn new(format: RtpFormat, payload_type: u8, remote: Remote, guard: Option<Guard>) -> Self {
        Self {
            source: Source::new(vec![(payload_type, format)], remote, guard, 50_000, 9),
            clock: StreamClock::default(),
            out: Vec::new(),
        }
    }

    fn sound(remote: Remote) -> Self {
        Self::new(RtpFormat::Pcma, PCMA, remote, None)
    }

    fn push(&mut self, from: SocketAddr, packet: &[u8], now_us: u64) {
        self.source.rtp(from, packet, now_us, &mut self.out);
        self.source.poll(&mut self.clock, now_us, &mut self.out);
    }

    fn poll(&mut self, now_us: u64) {
        self.source.poll(&mut self.clock, now_us, &mut self.out);
    }

    fn units(&self) -> Vec<&ReadUnit> {
        let units = self.out.iter().filter_map(|read| match read {
            Read::Unit(0, unit) => Some(unit),
            _ => None,
        });
        units.collect()
    }

    fn payloads(&self) -> Vec<u8> {
        self.units().iter().map(|unit| unit.data[0]).collect()
    }
}

#[test]
fn a_source_is_locked_to_its_sender_until_that_falls_silent() {
    let mut bench = Bench::sound(Remote::Learnt);
    let (first, second) = (address(1000), address(2000));
    for number in 0..3_u16 {
        let now_us = u64::from(number) * 20_000;
        bench.push(
            first,
            &rtp(PCMA, number, 160 * u32::from(number), 1, &[1]),
            now_us,
        );
        bench.push(second, &rtp(PCMA, number, 0, 2, &[2]), now_us);
        bench.push(first, &rtp(PCMA, 900 + number, 0, 3, &[3]), now_us);
    }
    assert_eq!(bench.payloads(), [1, 1, 1]);
    assert_eq!(bench.source.dropped.foreign, 6);
    // A restarted program: another port, SSRC, numbers and timestamps.
    let later_us = 40_000 + RELEARN_US + 1;
    for number in 0..3_u16 {
        let packet = rtp(
            PCMA,
            50_000 + number,
            7_000_000 + 160 * u32::from(number),
            2,
            &[2],
        );
        bench.push(second, &packet, later_us + u64::from(number) * 20_000);
    }
    assert_eq!(bench.payloads(), [1, 1, 1, 2, 2, 2]);
    assert_eq!(bench.source.sender(), Some((second, 2)));
    let times: Vec<i64> = bench.units().iter().map(|unit| unit.pts_us).collect();
    assert_eq!(times[3] - times[2], 1_000_001);
    assert_eq!(times[5] - times[3], 40_000);
}

#[test]
fn a_sender_that_says_goodbye_is_followed_by_the_next_at_once() {
    let mut bench = Bench::sound(Remote::Learnt);
    bench.push(address(1000), &rtp(PCMA, 0, 0, 1, &[1]), RELEARN_US + 1);
    let mut buffer = [0; 64];
    let mut bye = RtcpWriter::new(&mut buffer);
    bye.receiver_report(1, &[])
        .unwrap_or_else(|error| panic!("{error}"));
    bye.bye(&[1]).unwrap_or_else(|error| panic!("{error}"));
    let now_us = RELEARN_US + 2;
    bench
        .source
        .rtcp(address(1001), bye.as_bytes(), &mut bench.clock, now_us);
    bench.push(address(2000), &rtp(PCMA, 0, 0, 2, &[2]), now_us + 1);
    assert_eq!(bench.payloads(), [1, 2]);
}

#[test]
fn only_the_fixed_remote_is_heard() {
    let mut bench = Bench::sound(Remote::Fixed(address(1000)));
    bench.push(address(2000), &rtp(PCMA, 0, 0, 1, &[2]), 1);
    bench.push(address(1000), &rtp(PCMA, 0, 0, 1, &[1]), 1);
    let mut bench_of_host = Bench::sound(Remote::Host(address(0).ip()));
    bench_of_host.push(address(3000), &rtp(PCMA, 0, 0, 1, &[3]), 1);
    assert_eq!(
        (bench.payloads(), bench_of_host.payloads()),
        (vec![1], vec![3])
    );
}

#[test]
fn packets_are_read_in_order_and_losses_counted() {
    let mut bench = Bench::sound(Remote::Learnt);
    // 12 comes late, 14 and 15 never.
    for (index, number) in [10_u16, 11, 13, 12, 16].into_iter().enumerate() {
        let payload = [number as u8];
        let packet = rtp(PCMA, number, 160 * u32::from(number), 1, &payload);
        bench.push(address(1), &packet, index as u64 * 10_000);
    }
    bench.poll(100_000);
    assert_eq!(bench.payloads(), [10, 11, 12, 13, 16]);
    assert_eq!(bench.source.lost, 2);
}

#[test]
fn numbers_that_begin_anew_are_followed() {
    let mut bench = Bench::sound(Remote::Learnt);
    for (index, number) in [60_000_u16, 60_001, 5, 6, 7].into_iter().enumerate() {
        let packet = rtp(PCMA, number, 160 * index as u32, 1, &[index as u8]);
        bench.push(address(1), &packet, index as u64 * 20_000);
    }
    // One lone packet that does not fit is none.
    assert_eq!(bench.payloads(), [0, 1, 3, 4]);
    assert_eq!(bench.source.lost, 0);
}

#[test]
fn both_clocks_are_brought_together_by_sender_reports() {
    let mut clock = StreamClock::default();
    let mut sources = [Bench::sound(Remote::Learnt), Bench::sound(Remote::Learnt)];
    let ntp = |us: u64| ((us / 1_000_000) << 32) | (((us % 1_000_000) << 32) / 1_000_000);
    // The second one's packets are 300 ms longer on their way.
    for tick in 0..600_u64 {
        let sent_us = 10_000_000 + tick * 20_000;
        for (index, bench) in sources.iter_mut().enumerate() {
            let timestamp = (tick * 160) as u32 + 1_000_000 * index as u32;
            let now_us = sent_us + 300_000 * index as u64;
            let packet = rtp(PCMA, tick as u16, timestamp, 1, &[0]);
            bench
                .source
                .rtp(address(1), &packet, now_us, &mut bench.out);
            if tick % 50 == 1 {
                let info = SenderInfo {
                    ssrc: 1,
                    ntp_timestamp: ntp(sent_us + 3_900_000_000_000_000),
                    rtp_timestamp: timestamp,
                    ..SenderInfo::default()
                };
                let mut buffer = [0; 64];
                let mut report = RtcpWriter::new(&mut buffer);
                report
                    .sender_report(&info, &[])
                    .unwrap_or_else(|error| panic!("{error}"));
                bench
                    .source
                    .rtcp(address(2), report.as_bytes(), &mut clock, now_us);
            }
            bench.source.poll(&mut clock, now_us, &mut bench.out);
        }
    }
    let last = |bench: &Bench| bench.units().last().map_or(0, |unit| unit.pts_us);
    let apart_us = last(&sources[0]) - last(&sources[1]);
    assert!(apart_us.abs() < 1_000, "{apart_us} us apart");
}

#[test]
fn pictures_begin_with_parameter_sets_of_the_description() {
    let format = RtpFormat::Video {
        codec: Codec::H264,
        parameter_sets: vec![vec![0x67, 0x42, 0xe0, 0x1f], vec![0x68, 0xce]],
    };
    let mut bench = Bench::new(format, H264, Remote::Learnt, None);
    bench.push(address(1), &rtp(H264, 0, 0, 1, &[0x41, 0x9a, 1]), 0);
    bench.push(address(1), &rtp(H264, 1, 3000, 1, &[0x65, 0x88, 1]), 33_000);
    assert_eq!(bench.out[0], Read::Lanes(vec![(0, true)]));
    let Read::Format(0, TrackFormat::Video { .. }) = &bench.out[1] else {
        panic!("{:?}", bench.out);
    };
    let units = bench.units();
    assert_eq!((units.len(), units[0].keyframe), (1, true));
    assert_eq!(units[0].data[4..8], [0x67, 0x42, 0xe0, 0x1f]);
}

#[test]
fn the_sender_is_told_of_losses_and_asked_for_keyframes() {
    let format = RtpFormat::Video {
        codec: Codec::H264,
        parameter_sets: Vec::new(),
    };
    let mut bench = Bench::new(format, H264, Remote::Learnt, None);
    assert!(bench.source.feedback(0, false).is_none(), "there is nobody");
    let now_us = 5_000_000;
    bench.push(
        address(4000),
        &rtp(H264, 0, 0, 77, &[0x41, 0x9a, 1]),
        now_us,
    );
    let (packet, to) = bench
        .source
        .feedback(now_us, false)
        .unwrap_or_else(|| panic!("nothing"));
    assert_eq!(to, address(4001));
    let kinds: Vec<_> = Compound::new(&packet).map_while(Result::ok).collect();
    assert!(matches!(kinds[0], RtcpPacket::ReceiverReport(report)
        if report.report_blocks().any(|block| block.ssrc == 77)));
    assert!(matches!(kinds[2], RtcpPacket::Pli(pli) if pli.media_ssrc == 77));
    assert!(
        bench.source.feedback(now_us + 1, false).is_none(),
        "not twice"
    );
    let silent_us = now_us + RELEARN_US + 1;
    assert!(
        bench.source.feedback(silent_us, false).is_none(),
        "it has gone"
    );
}

#[test]
fn sealed_packets_are_opened_and_forged_ones_dropped() {
    const KEY: &str = "WUw/gbjX4DNKo1aG8TFzpPDLSJQ0WKYYKBVGMUTZ";
    let key = |text: &str| {
        let key = SdesKey::new("AES_CM_128_HMAC_SHA1_80", text);
        key.unwrap_or_else(|error| panic!("{error}"))
    };
    let guard = Guard::new(&key(KEY)).unwrap_or_else(|error| panic!("{error}"));
    let mut bench = Bench::new(RtpFormat::Pcma, PCMA, Remote::Learnt, Some(guard));
    let sealed = |key: &SdesKey, number: u16| {
        let plain = rtp(PCMA, number, 0, 1, &[number as u8]);
        let sealed = Seal::new(key).and_then(|seal| seal.rtp(number.into(), &plain));
        sealed.unwrap_or_else(|error| panic!("{error}"))
    };
    let forged = sealed(&key(&KEY.replace("WUw", "WUv")), 4);
    bench.push(address(1), &forged, 0);
    assert_eq!(bench.source.sender(), None, "nobody proved anything");
    for number in [5, 6, 6, 7] {
        bench.push(
            address(1),
            &sealed(&key(KEY), number),
            u64::from(number) * 20_000,
        );
    }
    assert_eq!(bench.payloads(), [5, 6, 7]);
    assert_eq!(bench.source.dropped.unauthenticated, 2);
}

#[test]
fn what_is_not_described_is_left_out_and_counted() {
    let sdp = "m=audio 5004 RTP/AVP 0\n";
    let media = parse(sdp).unwrap_or_else(|error| panic!("{error}"));
    let mut source = Source::new(media[0].formats.clone(), Remote::Learnt, None, 0, 1);
    let mut out = Vec::new();
    source.rtp(address(1), &rtp(101, 0, 0, 1, &[1]), 0, &mut out);
    source.rtp(address(1), &[0x80, 0], 0, &mut out);
    // Padding that is longer than the payload.
    let mut padded = rtp(0, 0, 0, 1, &[200]);
    padded[0] |= 0x20;
    source.rtp(address(1), &padded, 0, &mut out);
    let dropped = source.dropped;
    assert_eq!((dropped.unknown_payload_type, dropped.malformed), (1, 2));
    assert_eq!(out, []);
}
