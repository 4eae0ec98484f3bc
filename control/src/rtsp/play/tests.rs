//! Tracks and feeds without a server.

#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

use fanmill_engine::packet::codec::{Codec, MediaKind};
use proptest::prelude::*;

use super::track::{Out, Track};
use crate::media::clock::StreamClock;
use crate::media::reorder::Packet;

/// A VP8 payload; a keyframe of 320 by 180 if it is one.
fn payload(keyframe: bool) -> Vec<u8> {
    match keyframe {
        true => vec![
            0x10, 0x50, 0x01, 0x00, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xB4, 0x00,
        ],
        false => vec![0x10, 0x51, 0, 0],
    }
}

fn packet(index: u64, timestamp: u32, keyframe: bool, arrival_us: u64) -> Packet {
    Packet {
        index,
        timestamp,
        marker: true,
        codec: Codec::Vp8,
        payload: payload(keyframe),
        arrival_us,
    }
}

fn header(out: &Out) -> (u16, u32) {
    let bytes = &out.bytes;
    let number = u16::from_be_bytes([bytes[2], bytes[3]]);
    let timestamp = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
    (number, timestamp)
}

/// A track of video whose pictures came 40 ms apart, the first one a keyframe.
fn track(pictures: u64, first: u32) -> (Track, StreamClock, Vec<Out>) {
    let mut track = Track::new(0, MediaKind::Video, 1 << 40);
    let (mut clock, mut out) = (StreamClock::default(), Vec::new());
    for index in 0..pictures {
        let timestamp = first.wrapping_add(index as u32 * 3600);
        let arrival_us = 1_000_000 + index * 40_000;
        track.push(
            &mut clock,
            packet(index, timestamp, index == 0, arrival_us),
            90_000,
        );
        track.poll(arrival_us, &mut out).unwrap();
    }
    (track, clock, out)
}

#[test]
fn a_reader_who_comes_late_is_shown_the_latest_picture_at_once() {
    let (track, _, out) = track(100, u32::MAX - 90_000);
    let mut burst = Vec::new();
    track.burst(&mut burst);
    assert_eq!(burst.len(), 100);
    let (last_number, latest) = header(out.last().unwrap());
    for (place, packet) in burst.iter().enumerate() {
        let (number, timestamp) = header(packet);
        let after = 99 - place as u16;
        assert_eq!(last_number.wrapping_sub(number), after);
        assert_eq!(
            latest.wrapping_sub(timestamp),
            u32::from(after) * 90,
            "a millisecond each"
        );
    }
    // All tracks begin at the moment of the first picture.
    let begins_us = track.burst_begins_us().unwrap();
    let start = track.start(begins_us).unwrap();
    assert_eq!((start.sequence_number, start.timestamp), header(&burst[0]));
}

#[test]
fn pictures_shown_in_another_order_than_decoded_keep_it_in_the_burst() {
    let mut track = Track::new(0, MediaKind::Video, 7);
    let (mut clock, mut out) = (StreamClock::default(), Vec::new());
    for (index, shown) in [0u32, 3, 1, 2, 6, 4, 5].into_iter().enumerate() {
        let arrival_us = 1_000_000 + index as u64 * 40_000;
        let came = packet(index as u64, shown * 3600, index == 0, arrival_us);
        track.push(&mut clock, came, 90_000);
        track.poll(arrival_us, &mut out).unwrap();
    }
    let mut burst = Vec::new();
    track.burst(&mut burst);
    let first = header(&burst[0]).1;
    let order: Vec<u32> = burst
        .iter()
        .map(|one| (header(one).1 - first) / 90)
        .collect();
    assert_eq!(order, [0, 3, 1, 2, 6, 4, 5]);
}

#[test]
fn another_codec_ends_what_was_described() {
    let (mut track, mut clock, mut out) = track(3, 0);
    let other = Packet {
        codec: Codec::H264,
        ..packet(3, 0, true, 2_000_000)
    };
    track.push(&mut clock, other, 90_000);
    assert!(track.poll(2_000_000, &mut out).is_err());
}

proptest! {
    /// Whatever a publisher's numbers and times do, when it leaves and returns.
    #[test]
    fn numbers_and_timestamps_go_on(
        sources in proptest::collection::vec((any::<u32>(), 0..1u64 << 40, 1..20u64), 1..5),
    ) {
        let mut track = Track::new(0, MediaKind::Video, 99);
        let (mut now_us, mut out) = (5_000_000, Vec::new());
        for (first, index, pictures) in sources {
            let mut clock = StreamClock::default();
            track.restart(&mut out).unwrap();
            for picture in 0..pictures {
                now_us += 40_000;
                let timestamp = first.wrapping_add(picture as u32 * 3600);
                let came = packet(index + picture, timestamp, picture == 0, now_us);
                track.push(&mut clock, came, 90_000);
                track.poll(now_us, &mut out).unwrap();
            }
        }
        for pair in out.windows(2) {
            let ((number, timestamp), (next, later)) = (header(&pair[0]), header(&pair[1]));
            prop_assert_eq!(next.wrapping_sub(number), 1);
            prop_assert_eq!(later.wrapping_sub(timestamp), 3600);
        }
    }
}
