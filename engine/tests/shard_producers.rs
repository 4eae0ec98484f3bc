//! What viewers get of what a source in this process sends, and what it hears of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::peer::Rtp;
use common::tapping::{AUDIO, Source, VIDEO, rung, send, take, tap};
use common::viewing::{Viewer, assert_in_sequence, assert_same_timing, ids};
use fanmill_engine::EngineError;
use fanmill_engine::event::Event;
use fanmill_engine::limits::MAX_PRODUCED_PAYLOAD_BYTES;
use fanmill_engine::packet::codec::Codec;
use fanmill_engine::producer::{ProduceError, ProducedPacket};
use fanmill_engine::srtp::Profile;
use rtcp::sender_report::SenderReport;

const GCM: Profile = Profile::AeadAes128Gcm;

fn watched(world: &mut World, source: &Source) -> Vec<Viewer> {
    let watch = |shard| {
        let viewer = world.viewer(shard, GCM);
        world.show(&viewer, source);
        viewer
    };
    [0, 1].into_iter().map(watch).collect()
}

#[test]
fn every_packet_reaches_viewers_on_every_shard_and_taps_once_and_in_order() {
    let mut world = World::new(2, 1);
    let mut source = world.produce(1);
    let mut viewers = watched(&mut world, &source);
    let mut tap = tap(world.engine(), source.video.rendition);
    for frame in 0..30 {
        source.send_frame(frame == 0, 1 + frame % 5);
        source.send_audio();
        world.run_ms(33);
    }
    for viewer in &mut viewers {
        let (video, audio) = (viewer.take_video(), viewer.take_audio());
        assert_eq!(ids(&video), source.video.made_ids());
        assert_eq!(ids(&audio), source.audio.made_ids());
        assert_in_sequence(&video);
        assert_in_sequence(&audio);
        assert_same_timing(&video, &source.video);
        assert_same_timing(&audio, &source.audio);
        let markers = video.iter().filter(|packet| packet.header.marker);
        assert_eq!(markers.count(), 30);
    }
    assert_eq!(take(&mut tap).ids(), source.video.made_ids());
    world.run_ms(1_000);
    assert_eq!(world.drops(), []);
    let counters = &source.video.counters;
    assert_eq!(counters.packets.get(), source.video.made.len() as u64);
    assert_eq!(
        (counters.keyframes.get(), counters.packets_lost.get()),
        (1, 0)
    );
    assert_eq!((counters.width.get(), counters.height.get()), (640, 360));
    assert_eq!(world.counters(1).producers.get(), 1);
}

#[test]
fn a_viewer_who_joins_begins_with_the_frame_cache_and_is_sent_again_what_it_lost() {
    let mut world = World::new(1, 2);
    let mut source = world.produce(0);
    source.send_frame(true, 3);
    source.send_frame(false, 3);
    world.run_ms(100);
    let mut viewer = world.viewer(0, GCM);
    world.show(&viewer, &source);
    world.run_ms(1_000);
    let video = viewer.take_video();
    assert_eq!(ids(&video), source.video.made_ids());
    assert!(!source.producer.take_keyframe_request(VIDEO));
    source.send_frame(false, 2);
    world.run_ms(50);
    let live = viewer.take_video();
    viewer.nack(&[live[0].header.sequence_number]);
    world.run_ms(50);
    let again = viewer.take_rtx();
    assert_eq!(again[0].payload[2..], live[0].payload[..]);
}

#[test]
fn a_wish_for_a_keyframe_comes_back_once_until_it_is_fulfilled() {
    let mut world = World::without_cache(2, 3);
    let mut source = world.produce(0);
    source.send_frame(true, 2);
    world.run_ms(1_000);
    assert!(
        !source.producer.take_keyframe_request(VIDEO),
        "nobody waits"
    );
    assert!(!rung(&source.signal));
    let mut viewers: Vec<_> = (0..20).flat_map(|_| watched(&mut world, &source)).collect();
    source.send_frame(false, 2);
    world.run_ms(400);
    assert!(rung(&source.signal));
    assert!(source.producer.take_keyframe_request(VIDEO));
    assert!(
        !source.producer.take_keyframe_request(VIDEO),
        "once for all"
    );
    assert!(!source.producer.take_keyframe_request(AUDIO));
    world.run_ms(600);
    assert!(source.producer.take_keyframe_request(VIDEO), "asked again");
    source.send_frame(true, 2);
    world.run_ms(1_000);
    assert!(!source.producer.take_keyframe_request(VIDEO));
    let keyframe = source.video.made_ids()[4..].to_vec();
    for viewer in &mut viewers {
        assert_eq!(ids(&viewer.take_video()), keyframe);
    }
    viewers[1].ask_for_keyframe();
    world.run_ms(50);
    assert!(source.producer.take_keyframe_request(VIDEO));
    assert!(source.video.counters.keyframe_requests.get() >= 2);
}

#[test]
fn viewers_are_told_the_clock_that_the_producer_says() {
    let mut world = World::new(2, 4);
    let mut source = world.produce(0);
    let mut viewers = watched(&mut world, &source);
    source.send_frame(true, 1);
    source.send_audio();
    let ntp = 0xe123_4567_0000_0000;
    let clocks = [
        source.video.timestamp.wrapping_sub(900),
        source.audio.timestamp.wrapping_sub(480),
    ];
    source.producer.set_clock(VIDEO, ntp, clocks[0]).unwrap();
    source.producer.set_clock(AUDIO, ntp, clocks[1]).unwrap();
    source.producer.flush();
    world.run_ms(1_500);
    for viewer in &mut viewers {
        let (video, audio) = (viewer.take_video(), viewer.take_audio());
        let reports = viewer.peer.take_rtcp::<SenderReport>();
        let sides = [
            (viewer.video.ssrc, &video[0], clocks[0], 900, 90_000),
            (viewer.audio.ssrc, &audio[0], clocks[1], 480, 48_000),
        ];
        for (ssrc, first, _, ahead, clock_rate) in sides {
            let report = reports.iter().find(|report| report.ssrc == ssrc).unwrap();
            let elapsed = (u128::from(report.ntp_time - ntp) * clock_rate) >> 32;
            let expected = first.header.timestamp.wrapping_sub(ahead);
            let expected = expected.wrapping_add(elapsed as u32);
            assert!(report.rtp_time.wrapping_sub(expected).cast_signed().abs() <= 1);
        }
    }
}

#[test]
fn a_source_that_begins_anew_under_another_ssrc_is_followed_without_a_break() {
    let mut world = World::new(2, 5);
    let mut source = world.produce(0);
    let mut viewers = watched(&mut world, &source);
    source.send_frame(true, 3);
    world.run_ms(100);
    source.video.ssrc += 1;
    source.video.sequence_number = 77;
    source.video.timestamp = 5;
    source.send_frame(true, 2);
    world.run_ms(100);
    for viewer in &mut viewers {
        let video = viewer.take_video();
        assert_eq!(ids(&video), source.video.made_ids());
        assert_in_sequence(&video);
        let across = video[3]
            .header
            .timestamp
            .wrapping_sub(video[2].header.timestamp);
        assert_eq!(across, 9_000, "100 ms passed");
    }
}

#[test]
fn what_is_lost_or_late_before_the_producer_keeps_its_place() {
    let mut world = World::new(1, 6);
    let mut source = world.produce(0);
    let viewer = world.viewer(0, GCM);
    world.show(&viewer, &source);
    let mut viewer = viewer;
    source.video.timestamp += 3_000;
    let frame: Vec<_> = (0..5)
        .map(|place| source.video.packet(place == 0, true, place == 4, 0))
        .collect();
    for place in [0, 3, 2, 2, 4] {
        send(&mut source.producer, VIDEO, &frame[place]).unwrap();
    }
    world.run_ms(1_000);
    let video = viewer.take_video();
    let made = source.video.made_ids();
    assert_eq!(ids(&video), [0, 3, 2, 4].map(|place| made[place]));
    let numbers: Vec<u16> = video.iter().map(|p| p.header.sequence_number).collect();
    let from_first = numbers.iter().map(|number| number.wrapping_sub(numbers[0]));
    assert_eq!(from_first.collect::<Vec<_>>(), [0, 3, 2, 4]);
    assert_eq!(world.drops(), [("duplicate", 1)]);
    assert_eq!(source.video.counters.packets_lost.get(), 1);
}

#[test]
fn a_producer_ahead_of_its_shard_is_told_so_and_loses_nothing_it_sent_before() {
    const ROOM: usize = 100;
    let mut world = World::new(1, 7);
    let mut source = world.produce_with(0, ROOM);
    let viewer = world.viewer(0, GCM);
    world.show(&viewer, &source);
    let mut viewer = viewer;
    let mut sent = 0;
    let refused = loop {
        match source.send_part(sent == 0, sent == 0, false) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((refused, sent), (ProduceError::Full, ROOM));
    assert_eq!(source.producer.room(), 0);
    world.run_ms(20);
    assert_eq!(source.producer.room(), ROOM);
    assert_eq!(ids(&viewer.take_video()), source.video.made_ids()[..ROOM]);

    let packet = ProducedPacket {
        ssrc: source.video.ssrc,
        payload_type: 96,
        sequence_number: source.video.sequence_number,
        timestamp: 0,
        marker: true,
        payload: &[0; MAX_PRODUCED_PAYLOAD_BYTES + 1],
    };
    let mut send = |track, packet: &ProducedPacket<'_>| source.producer.send(track, packet);
    let refused = ProduceError::TooLong(packet.payload.len());
    assert_eq!(send(VIDEO, &packet), Err(refused));
    assert_eq!(send(7, &packet), Err(ProduceError::UnknownTrack(7)));
    let other = ProducedPacket {
        payload_type: 111,
        ..packet
    };
    assert_eq!(
        send(VIDEO, &other),
        Err(ProduceError::UnknownPayloadType(111))
    );
}

#[test]
fn a_packet_that_ends_no_frame_is_taken_within_a_tick() {
    let mut world = World::new(1, 8);
    let mut source = world.produce(0);
    let viewer = world.viewer(0, GCM);
    world.show(&viewer, &source);
    let mut viewer = viewer;
    source.send_part(true, true, false).unwrap();
    world.settle();
    assert!(viewer.take_video().is_empty());
    world.run_ms(12);
    assert_eq!(viewer.take_video().len(), 1);
}

#[test]
fn a_producer_that_is_dropped_ends_like_a_publisher_that_leaves() {
    let mut world = World::new(2, 9);
    let mut source = world.produce(0);
    let mut viewers = watched(&mut world, &source);
    let mut tap = tap(world.engine(), source.video.rendition);
    source.send_frame(true, 2);
    world.run_ms(50);
    // The last frame was not taken yet when the producer goes.
    source.send_frame(false, 2);
    let Source {
        producer,
        signal,
        video,
        ..
    } = source;
    drop(producer);
    world.run_ms(50);
    assert!(rung(&signal));
    assert_eq!(ids(&viewers[0].take_video()), video.made_ids());
    assert_eq!(take(&mut tap).ids(), video.made_ids());
    assert!(tap.has_ended());
    world.run_ms(20);
    for shard in [0, 1] {
        let counters = world.counters(shard);
        assert_eq!(
            (counters.producers.get(), counters.renditions.get()),
            (0, 0)
        );
        assert_eq!(
            (counters.sources.get(), counters.slots_in_use.get()),
            (0, 0)
        );
    }
    let payloads = viewers[0].video_payloads();
    let attached = world
        .engine()
        .attach(viewers[0].video.id, video.rendition, payloads);
    assert_eq!(
        attached,
        Err(EngineError::UnknownRendition(video.rendition))
    );

    // The viewers are free for another one, in the same stream of packets.
    let last: Vec<Rtp> = viewers[1].take_video();
    let mut next = world.produce(1);
    for viewer in &viewers {
        world.show(viewer, &next);
    }
    next.send_frame(true, 2);
    world.run_ms(50);
    let mut across = last[last.len() - 1..].to_vec();
    across.extend(viewers[1].take_video());
    assert_eq!(ids(&across[1..]), next.video.made_ids());
    assert_in_sequence(&across);
}

#[test]
fn a_producer_that_is_removed_can_send_nothing_and_knows() {
    let mut world = World::new(1, 10);
    let mut source = world.produce(0);
    let id = source.producer.id();
    world.engine().remove_producer(id).unwrap();
    world.settle();
    assert!(rung(&source.signal));
    assert!(source.producer.is_closed());
    let refused = source.send_part(true, true, true);
    assert_eq!(refused, Err(ProduceError::Closed));
    let again = world.engine().remove_producer(id);
    assert_eq!(again, Err(EngineError::UnknownProducer(id)));
    assert!(!source.producer.take_keyframe_request(AUDIO));
}

#[test]
fn the_control_plane_hears_when_it_begins_and_when_it_is_silent() {
    let mut world = World::new(1, 11);
    let mut source = world.produce(0);
    source.send_frame(true, 1);
    world.run_ms(10);
    let rendition = source.video.rendition;
    let active =
        |event: &Event| matches!(event, Event::RenditionActive(id, Codec::Vp8) if *id == rendition);
    assert_eq!(
        world.events().iter().filter(|event| active(event)).count(),
        1
    );
    world.run_ms(5_000);
    let silent = |event: &Event| matches!(event, Event::RenditionInactive(id) if *id == rendition);
    assert_eq!(
        world.events().iter().filter(|event| silent(event)).count(),
        1
    );
    source.send_frame(true, 1);
    world.run_ms(10);
    assert_eq!(
        world.events().iter().filter(|event| active(event)).count(),
        1
    );
}
