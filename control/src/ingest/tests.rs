//! One ingest in virtual time: what it makes of a source's units, as a receiver sees it.

#![allow(clippy::unwrap_used)] // a failed unwrap is the failed test

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use proptest::prelude::*;

use super::line::{B_FRAMES, DAMAGED, HURRY};
use super::testing::{AAC_PERIOD, Ear, PCMA_PERIOD, clicking_aac, clicking_pcma, h264, source};
use super::{TrackFormat, Unit};
use crate::media::packetize::Format;
use crate::sdp::CodecProfile;

fn vp8() -> TrackFormat {
    TrackFormat::Video {
        format: Format::Vp8,
        profile: CodecProfile::None,
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

/// Sound that clicks, in packets of so many microseconds by their times, of which each `period`th has
/// the click.
struct Clicks<P> {
    format: TrackFormat,
    packet: P,
    packet_us: f64,
    period: usize,
}

/// Ten minutes by RTMP, in which the source's crystals differ from ours and among each other by 100 ppm:
/// samples come faster than their times say, and the times faster than ours.
fn are_in_sync(sound: &Clicks<impl Fn(usize) -> Bytes>) {
    let mut source = source(&[vp8(), sound.format.clone()]);
    source.receiver.hears(Ear::new());
    // Told in milliseconds.
    let told = |us: f64| (us / 1000.0) as i64 * 1000;
    let here = |us: f64| 1_000_000 + (us - us / 10_000.0) as i64;
    let (mut next_frame_us, mut clicked_us, mut heard) = (0.0, 0.0, 0);
    for packet in 0.. {
        let sound_us = packet as f64 * sound.packet_us * (1.0 - 1e-4);
        if sound_us > 600e6 {
            break;
        }
        while next_frame_us <= sound_us {
            let mut frame = unit(0, told(next_frame_us), true, FRAME);
            frame.is_keyframe = (next_frame_us as i64) % 2_000_000 == 0;
            source.take(&frame, here(next_frame_us));
            next_frame_us += 40_000.0;
        }
        if packet % sound.period == 0 {
            clicked_us = sound_us;
        }
        let mut click = unit(1, told(sound_us), true, &[]);
        click.data = (sound.packet)(packet);
        source.take(&click, here(sound_us));
        let clicks = source.receiver.clicks();
        if clicks.len() > heard {
            heard += 1;
            let receiver = &source.receiver;
            let video_s = receiver.captured_s(0, receiver.last(0), 90_000.0);
            let audio_s = receiver.captured_s(1, clicks[heard - 1], 48_000.0);
            let apart_us = (audio_s - video_s) * 1e6 - (clicked_us - (next_frame_us - 40_000.0));
            assert!(apart_us.abs() < 40_000.0, "{apart_us} us at {sound_us}");
        }
    }
    let clicks = 600e6 / (sound.packet_us * sound.period as f64);
    assert!((heard as f64 - clicks).abs() <= 2.0, "{heard} clicks");
    let heard = source.receiver.timestamps(1);
    let gaps = heard
        .windows(2)
        .filter(|pair| pair[1].wrapping_sub(pair[0]) != 960);
    assert_eq!(gaps.count(), 0, "no sample is skipped");
    assert_eq!(source.warnings(), Vec::<String>::new());
}

#[test]
fn a_telephones_sound_and_picture_are_in_sync_after_ten_minutes_of_drift() {
    are_in_sync(&Clicks {
        format: TrackFormat::Pcma,
        packet: clicking_pcma,
        packet_us: 20_000.0,
        period: PCMA_PERIOD,
    });
}

#[test]
fn an_encoders_sound_and_picture_are_in_sync_after_ten_minutes_of_drift() {
    let packets = clicking_aac();
    are_in_sync(&Clicks {
        // AudioSpecificConfig: AAC-LC, 22.05 kHz, mono.
        format: TrackFormat::Aac {
            config: vec![0x13, 0x88],
        },
        packet: |packet: usize| packets[packet % AAC_PERIOD].clone(),
        packet_us: 1024e6 / 22_050.0,
        period: AAC_PERIOD,
    });
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
