//! Fuzz targets: whatever a description says and whatever comes by RTP and RTCP, in every format that is
//! received, through to the packets for viewers: it is read or dropped, and nothing panics. They run for
//! a moment as tests, and under `cargo bolero test` (or with `BOLERO_RANDOM_TEST_TIME_MS`) for as long
//! as one likes.

use bytes::Bytes;

use super::*;
use crate::ingest::testing::{self, source};
use crate::ingest::{TrackFormat, Unit};

const PAYLOAD_TYPE: u8 = 96;

/// What the beginnings of lines are that say something.
const LINES: &[&str] = &[
    "m=video 5004 RTP/AVP 96 97\n",
    "m=audio 5006 RTP/AVP 8 98\n",
    "m=video 5008 RTP/SAVP 96\n",
    "c=IN IP4 239.1.2.3/4",
    "a=rtpmap:96 H264/90000\n",
    "a=rtpmap:97 H265/90000\n",
    "a=rtpmap:98 MPEG4-GENERIC/44100/2\n",
    "a=rtpmap:98 MP4A-LATM/44100\n",
    "a=rtpmap:98 opus/48000/2\n",
    "a=fmtp:96 packetization-mode=1; sprop-parameter-sets=",
    "a=fmtp:97 sprop-vps=AAAA;sprop-sps=",
    "a=fmtp:98 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=",
    "a=fmtp:98 cpresent=0;config=40002420",
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:",
    "a=rtcp:",
    "a=rtcp-mux\n",
    "=",
];

#[test]
fn no_description_is_worse_than_refused() {
    bolero::check!().for_each(|input: &[u8]| {
        let _ = parse(&String::from_utf8_lossy(input));
        let mut text = String::new();
        for &byte in input {
            match LINES.get(usize::from(byte)) {
                Some(line) => text.push_str(line),
                None => text.push(char::from(byte)),
            }
        }
        let Ok(media) = parse(&text) else { return };
        for (payload_type, format) in media.into_iter().flat_map(|one| one.formats) {
            send(format, payload_type & 0x7f, input);
        }
    });
}

#[test]
fn no_packets_are_worse_than_lost() {
    let sound = |name: &str, fmtp: &str| {
        let format = RtpFormat::new(name, 44_100, 2, fmtp);
        format.unwrap_or_else(|error| panic!("{error}"))
    };
    let video = |codec| RtpFormat::Video {
        codec,
        parameter_sets: vec![vec![0x67, 0x42, 0xe0, 0x1f], vec![0x68, 0xce]],
    };
    let hbr = "mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1210";
    let formats = [
        video(Codec::H264),
        video(Codec::H265),
        video(Codec::Vp8),
        video(Codec::Vp9),
        video(Codec::Av1),
        RtpFormat::Opus { channels: 2 },
        RtpFormat::Pcma,
        RtpFormat::G722,
        sound("MPEG4-GENERIC", hbr),
        sound("MP4A-LATM", "cpresent=0;config=400024203fc0"),
        sound("MP4A-LATM", "cpresent=1"),
        RtpFormat::TransportStream,
    ];
    bolero::check!().for_each(|input: &[u8]| {
        let (&first, rest) = input.split_first().unwrap_or((&0, &[]));
        let format = &formats[usize::from(first) % formats.len()];
        send(format.clone(), PAYLOAD_TYPE, rest);
    });
}

/// Sends what follows from these bytes, and shows a viewer what it comes to.
fn send(format: RtpFormat, payload_type: u8, mut input: &[u8]) {
    let mut bench = Bench::new(format, payload_type, Remote::Learnt, None);
    let (mut number, mut timestamp, mut now_us) = (65_530_u16, u32::MAX - 9_000, 1_000_000);
    bench.source.rtp(address(1), input, now_us, &mut bench.out);
    let mut tracks: Vec<(u16, TrackFormat, Option<testing::Source>)> = Vec::new();
    while let Some((&[shape, length], rest)) = input.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        input = rest;
        number = number.wrapping_add(1 + u16::from(shape & 3) / 3);
        timestamp = timestamp.wrapping_add(u32::from(shape >> 2 & 3) * 3_000);
        now_us += u64::from(shape >> 4 & 7) * 10_000;
        let mut packet = rtp(payload_type, number, timestamp, 1, payload);
        if shape & 0x80 != 0 {
            packet[1] &= 0x7f;
        }
        bench
            .source
            .rtp(address(1), &packet, now_us, &mut bench.out);
        let clock = &mut bench.clock;
        bench.source.rtcp(address(2), payload, clock, now_us);
        bench.poll(now_us);
        for read in bench.out.drain(..) {
            match read {
                Read::Format(lane, format) => {
                    tracks.retain(|track| track.0 != lane);
                    tracks.push((lane, format, None));
                }
                Read::Unit(lane, unit) => {
                    let track = tracks.iter_mut().find(|track| track.0 == lane);
                    // AAC of a kind that is not decoded is refused when the stream begins.
                    let Some((_, format, viewer)) = track.filter(|track| is_carried(&track.1))
                    else {
                        continue;
                    };
                    let viewer = viewer.get_or_insert_with(|| source(std::slice::from_ref(format)));
                    let unit = Unit {
                        track: 0,
                        pts_us: unit.pts_us,
                        dts_us: unit.dts_us,
                        is_keyframe: unit.keyframe,
                        data: Bytes::from(unit.data),
                    };
                    viewer.take(&unit, now_us.cast_signed());
                }
                Read::Lanes(_) | Read::Lost(_) => {}
            }
        }
        bench.source.feedback(now_us, false);
    }
}

fn is_carried(format: &TrackFormat) -> bool {
    use crate::media::audio::SoundFormat;
    match format {
        TrackFormat::Aac { config } => {
            let config = config.clone();
            SoundFormat::Aac { config }.check().is_ok()
        }
        _ => true,
    }
}
