//! One ingest in virtual time: what it makes of a source's units, as a receiver sees it.

#![allow(clippy::unwrap_used)] // a failed unwrap is the failed test

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fanmill_engine::producer::ProducedPacket;
use proptest::prelude::*;

use super::line::{B_FRAMES, DAMAGED, HURRY, Line};
use super::output::{Output, Sent};
use super::report::Report;
use super::{IngestSpec, TrackFormat, Unit};
use crate::events::Events;
use crate::media::audio::AudioOptions;
use crate::media::packetize::Format;
use crate::sdp::{CodecProfile, ProfileLevelId};

#[derive(Debug, Default)]
struct Received {
    /// Track, RTP timestamp, marker, sequence number.
    packets: Vec<(usize, u32, bool, u16)>,
    /// Latest report of each track: seconds of NTP, and RTP timestamp.
    clocks: [Option<(f64, u32)>; 3],
    wants_keyframe: bool,
}

#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Received>>);

impl Output for Receiver {
    fn send(&mut self, track: usize, packet: &ProducedPacket<'_>) -> Sent {
        let (number, timestamp) = (packet.sequence_number, packet.timestamp);
        let mut received = self.0.lock().unwrap();
        received
            .packets
            .push((track, timestamp, packet.marker, number));
        Sent::Yes
    }

    fn set_clock(&mut self, track: usize, ntp: u64, timestamp: u32) {
        let seconds = ntp as f64 / 2_f64.powi(32);
        self.0.lock().unwrap().clocks[track] = Some((seconds, timestamp));
    }

    fn take_keyframe_request(&mut self, _: usize) -> bool {
        std::mem::take(&mut self.0.lock().unwrap().wants_keyframe)
    }
}

impl Receiver {
    /// When a receiver takes an RTP timestamp to have been captured, in seconds.
    fn captured_s(&self, track: usize, timestamp: u32, rate_hz: f64) -> f64 {
        let (seconds, at) = self.0.lock().unwrap().clocks[track].unwrap();
        seconds + f64::from(timestamp.wrapping_sub(at).cast_signed()) / rate_hz
    }

    fn last(&self, track: usize) -> u32 {
        let received = self.0.lock().unwrap();
        let mut packets = received.packets.iter().rev();
        packets.find(|packet| packet.0 == track).unwrap().1
    }

    fn timestamps(&self, track: usize) -> Vec<u32> {
        let received = self.0.lock().unwrap();
        let of = received.packets.iter().filter(|packet| packet.0 == track);
        of.map(|packet| packet.1).collect()
    }
}

struct Source {
    line: Line<Receiver>,
    receiver: Receiver,
    report: Arc<Report>,
}

fn source(formats: &[TrackFormat]) -> Source {
    let spec = IngestSpec {
        stream: "test".to_owned(),
        source: "rtmp",
        remote: "here".to_owned(),
    };
    let report = Arc::new(Report::new(&spec, formats.len(), 0, Events::new()));
    let receiver = Receiver::default();
    let audio = AudioOptions::default();
    let line = Line::new(receiver.clone(), formats, audio, Arc::clone(&report));
    Source {
        line: line.unwrap(),
        receiver,
        report,
    }
}

impl Source {
    fn warnings(&self) -> Vec<String> {
        let spec = IngestSpec {
            stream: String::new(),
            source: "",
            remote: String::new(),
        };
        self.report.info(0, &spec, &[], 0, 0).warnings
    }
}

fn vp8() -> TrackFormat {
    TrackFormat::Video {
        format: Format::Vp8,
        profile: CodecProfile::None,
    }
}

fn h264() -> TrackFormat {
    TrackFormat::Video {
        format: Format::H264 {
            length_bytes: 4,
            parameter_sets: vec![vec![0x67, 1, 2, 3], vec![0x68, 1, 2]],
        },
        profile: CodecProfile::H264 {
            profile_level_id: ProfileLevelId::DEFAULT,
            packetization_mode: 1,
        },
    }
}

fn unit(track: usize, us: i64, is_keyframe: bool, data: &'static [u8]) -> Unit {
    Unit {
        track,
        pts_us: us,
        dts_us: us,
        is_keyframe,
        data: Bytes::from_static(data),
    }
}

const FRAME: &[u8] = &[0, 0, 0, 3, 0x41, 1, 2];

/// Ten minutes, in which the source's crystals differ from ours and among each other by 100 ppm:
/// samples come faster than their times say, and the times faster than ours.
#[test]
fn sound_and_picture_are_in_sync_after_ten_minutes_of_drift() {
    static SOUND: [u8; 160] = [0x55; 160];
    let mut source = source(&[vp8(), TrackFormat::Pcma]);
    let mut next_frame_us = 0;
    for packet in 0..30_000_i64 {
        // 100 ppm less than 20 ms each, told in milliseconds as RTMP does.
        let sound_us = packet * 20_000 - packet * 2;
        let told_us = sound_us / 1000 * 1000;
        let now_us = 1_000_000 + sound_us - sound_us / 10_000;
        while next_frame_us <= sound_us {
            let is_keyframe = next_frame_us % 2_000_000 == 0;
            let frame = unit(0, next_frame_us, is_keyframe, FRAME);
            source.line.take(&frame, now_us).unwrap();
            next_frame_us += 40_000;
        }
        let sound = unit(1, told_us, true, &SOUND);
        source.line.take(&sound, now_us).unwrap();
        if packet % 500 == 499 {
            let frame_us = next_frame_us - 40_000;
            let video_s = source
                .receiver
                .captured_s(0, source.receiver.last(0), 90_000.0);
            // The latest Opus packet ends with what came now, but for what the resampler keeps.
            let audio_s = source
                .receiver
                .captured_s(1, source.receiver.last(1), 48_000.0);
            let apart_us = (audio_s - video_s) * 1e6 - (sound_us - frame_us) as f64;
            assert!(apart_us.abs() < 40_000.0, "{apart_us} us at {packet}");
        }
    }
    let sound = source.receiver.timestamps(1);
    let gaps = sound
        .windows(2)
        .filter(|pair| pair[1].wrapping_sub(pair[0]) != 960);
    assert_eq!(gaps.count(), 0, "no sample is skipped");
    assert_eq!(source.warnings(), Vec::<String>::new());
}

#[test]
fn b_frames_are_warned_of_with_the_cure_and_sent_as_they_are_decoded() {
    let mut source = source(&[h264()]);
    // I P b b P b b: times of showing after those of decoding, by two frames.
    for (index, shown) in [2, 5, 3, 4, 8, 6, 7, 11, 9, 10].into_iter().enumerate() {
        let dts_us = index as i64 * 40_000;
        let mut frame = unit(0, dts_us, index == 0, FRAME);
        frame.pts_us = shown * 40_000;
        source.line.take(&frame, dts_us).unwrap();
    }
    assert_eq!(source.warnings(), [B_FRAMES]);
    assert!(B_FRAMES.contains("-bf 0") && B_FRAMES.contains("zerolatency"));
    let timestamps = source.receiver.timestamps(0);
    let steps: Vec<u32> = timestamps
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    assert!(steps.iter().all(|&step| step < 1 << 31), "{steps:?}");
    assert_eq!(steps[6..], [3600; 3], "as they are decoded");
    assert_eq!(source.report.tracks[0].b_frames.load(Relaxed), 6);
}

#[test]
fn pictures_begin_with_a_keyframe_and_after_damage_again() {
    let mut source = source(&[h264()]);
    let damaged: &[u8] = &[0, 0, 0, 9, 1];
    let frames: [(bool, &[u8]); 6] = [
        (false, FRAME),
        (true, FRAME),
        (false, FRAME),
        (false, damaged),
        (false, FRAME),
        (true, FRAME),
    ];
    for (index, (is_keyframe, data)) in frames.into_iter().enumerate() {
        let us = index as i64 * 40_000;
        let frame = unit(0, us, is_keyframe, data);
        source.line.take(&frame, us).unwrap();
    }
    assert_eq!(source.receiver.timestamps(0).len(), 3);
    assert_eq!(source.report.tracks[0].dropped.load(Relaxed), 3);
    assert_eq!(source.warnings(), [DAMAGED]);
}

#[test]
fn a_file_that_is_sent_as_fast_as_it_goes_is_warned_of() {
    let mut source = source(&[vp8()]);
    for index in 0..1000 {
        let frame = unit(0, index * 40_000, index == 0, FRAME);
        source.line.take(&frame, index * 1_000).unwrap();
    }
    assert_eq!(source.warnings(), [HURRY]);
}

#[test]
fn a_source_whose_clock_is_set_goes_on_in_sync() {
    let mut source = source(&[vp8(), TrackFormat::Opus { channels: 2 }]);
    // An Opus packet of 20 ms.
    let sound: &[u8] = &[0x78, 1, 2, 3];
    for index in 0..200_i64 {
        let now_us = index * 20_000;
        // RTMP's 32 bits of milliseconds run over.
        let set_us = if index < 100 { 0 } else { -4_294_967_296_000 };
        if index % 2 == 0 {
            let frame = unit(0, now_us + set_us, index == 0, FRAME);
            source.line.take(&frame, now_us).unwrap();
        }
        let sound = unit(1, now_us + set_us, true, sound);
        source.line.take(&sound, now_us).unwrap();
    }
    let pictures = source.receiver.timestamps(0);
    assert_eq!(pictures.len(), 100);
    let steps = |of: &[u32]| -> Vec<u32> {
        let pairs = of.windows(2);
        pairs.map(|pair| pair[1].wrapping_sub(pair[0])).collect()
    };
    assert!(steps(&pictures).iter().all(|&step| step == 3600));
    let sounds = source.receiver.timestamps(1);
    assert!(steps(&sounds).iter().all(|&step| step == 960));
    let (picture, sound) = (source.receiver.last(0), source.receiver.last(1));
    let apart_s = source.receiver.captured_s(1, sound, 48_000.0)
        - source.receiver.captured_s(0, picture, 90_000.0);
    assert!((apart_s - 0.02).abs() < 0.002, "{apart_s}");
    assert_eq!(source.report.leaps.load(Relaxed), 2);
}

#[test]
fn a_viewers_wish_for_a_keyframe_reaches_the_source() {
    let mut source = source(&[vp8()]);
    source.receiver.0.lock().unwrap().wants_keyframe = true;
    source.line.take(&unit(0, 0, true, FRAME), 0).unwrap();
    assert!(source.report.keyframe_wanted.swap(false, Relaxed));
    source
        .line
        .take(&unit(0, 40_000, false, FRAME), 40_000)
        .unwrap();
    assert!(!source.report.keyframe_wanted.load(Relaxed));
}

proptest! {
    /// Whatever a source sends: nothing panics, sequence numbers go on, pictures never step back.
    #[test]
    fn no_source_does_harm(
        units in proptest::collection::vec(
            (
                0..4_usize,
                any::<i64>(),
                any::<i64>(),
                any::<bool>(),
                proptest::collection::vec(any::<u8>(), 0..64),
                0..500_000_i64,
            ),
            1..64,
        )
    ) {
        let mut source = source(&[h264(), TrackFormat::G722, TrackFormat::Opus { channels: 1 }]);
        let mut now_us = 0;
        for (track, pts_us, dts_us, is_keyframe, data, passed_us) in units {
            now_us += passed_us;
            let unit = Unit { track, pts_us, dts_us, is_keyframe, data: data.into() };
            prop_assert!(source.line.take(&unit, now_us).is_ok());
        }
        let received = source.receiver.0.lock().unwrap();
        for track in 0..3 {
            let of = received.packets.iter().filter(|packet| packet.0 == track);
            let of: Vec<_> = of.collect();
            for pair in of.windows(2) {
                prop_assert_eq!(pair[1].3, pair[0].3.wrapping_add(1));
            }
        }
    }
}
