//! What consumers in this process get of what a publisher sends, and that nobody else notices them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::{Publisher, id_of};
use common::peer::Rtp;
use common::tapping::{rung, take, tap};
use common::viewing::{assert_in_sequence, ids};
use fanmill_engine::EngineError;
use fanmill_engine::counters::DropReason;
use fanmill_engine::ids::RenditionId;
use fanmill_engine::limits::{
    MAX_BURST_PACKETS, MAX_TAP_PACKETS, MAX_TAPS_PER_SHARD, POOL_SLOTS_TAPPED,
};
use fanmill_engine::packet::codec::Codec;
use fanmill_engine::signal::Signal;
use fanmill_engine::srtp::Profile;
use fanmill_engine::tap::{Tap, TapSpec};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::sender_report::SenderReport;

const GCM: Profile = Profile::AeadAes128Gcm;

fn one_second(world: &mut World, publisher: &mut Publisher) {
    for frame in 0..30 {
        publisher.send_frame(frame == 0, 1 + frame % 5);
        publisher.send_audio();
        world.run_ms(33);
    }
}

fn tap_with(world: &World, rendition: RenditionId, capacity: usize, from_cache: bool) -> Tap {
    let spec = TapSpec {
        capacity,
        from_cache,
        ..TapSpec::new(Signal::new().unwrap())
    };
    world.engine().add_tap(rendition, spec).unwrap()
}

#[test]
fn every_packet_reaches_a_tap_once_and_as_it_was_however_many_shards_serve_viewers() {
    for shards in [1, 2] {
        let mut world = World::new(shards, 1);
        let mut publisher = world.publish(0, GCM);
        let mut viewers: Vec<_> = (0..shards)
            .map(|shard| world.watch(shard, GCM, &publisher))
            .collect();
        let mut video = tap(world.engine(), publisher.video.rendition);
        let mut audio = tap(world.engine(), publisher.audio.rendition);
        one_second(&mut world, &mut publisher);

        assert!(video.is_video() && !audio.is_video());
        assert_eq!(video.codecs()[0].codec, Codec::Vp8);
        for (tap, stream) in [
            (&mut video, &publisher.video),
            (&mut audio, &publisher.audio),
        ] {
            let taken = take(tap);
            assert_eq!(taken.ids(), stream.made_ids());
            assert_eq!((tap.lost(), taken.lost_packets()), (0, 0));
            for packet in &taken.packets {
                let made = &stream.made[&(packet.index as u16)];
                let made = Rtp::parse(made, made);
                assert_eq!(packet.payload, made.payload);
                assert_eq!(packet.timestamp, made.header.timestamp);
                assert_eq!(packet.marker, made.header.marker);
                let capture_ntp = stream.video.then_some(0x0807_0605_0403_0201);
                assert_eq!(packet.capture_ntp, capture_ntp);
                assert_eq!(packet.payload_type, stream.payload_type);
            }
            let indices: Vec<u64> = taken.packets.iter().map(|p| p.index).collect();
            assert!(indices.is_sorted_by(|a, b| a + 1 == *b));
            let starts = taken.packets.iter().filter(|p| p.keyframe_start).count();
            let keyframes = if stream.video { 1 } else { 30 };
            assert_eq!(starts, keyframes, "every packet of audio is a start");
            assert!(taken.packets.is_sorted_by_key(|p| p.arrival_us));
        }
        for viewer in &mut viewers {
            assert_eq!(ids(&viewer.take_video()), publisher.video.made_ids());
            assert_eq!(ids(&viewer.take_audio()), publisher.audio.made_ids());
        }
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn what_is_late_or_restored_reaches_a_tap_when_it_comes_and_no_second_copy_does() {
    let mut world = World::new(1, 2);
    let mut publisher = world.publish(0, GCM);
    let mut tap = tap(world.engine(), publisher.video.rendition);
    let frame = publisher.make_frame(true, 6);
    // The second is lost, the fourth late, the fifth comes twice.
    for place in [0, 2, 4, 3, 5] {
        publisher.peer.send_rtp(&frame[place]);
    }
    world.run_ms(20);
    let first = publisher.video.sequence_number.wrapping_sub(6);
    let lost = first.wrapping_add(1);
    assert_eq!(publisher.nacked(), [lost]);
    publisher.send_retransmission(lost);
    publisher.send_retransmission(lost);
    publisher.send_retransmission(first.wrapping_add(4));
    world.run_ms(20);
    let made = publisher.video.made_ids();
    let expected = [0, 2, 4, 3, 5, 1].map(|place| made[place]);
    let taken = take(&mut tap);
    assert_eq!(taken.ids(), expected);
    let restored = taken.packets.last().unwrap();
    assert_eq!(restored.index as u16, lost);
}

#[test]
fn a_tap_that_stalls_loses_what_it_does_not_take_and_viewers_nothing() {
    const ROOM: usize = 64;
    let mut world = World::new(2, 3);
    let mut publisher = world.publish(0, GCM);
    let mut viewers = [0, 1].map(|shard| world.watch(shard, GCM, &publisher));
    let mut tap = tap_with(&world, publisher.video.rendition, ROOM, false);
    one_second(&mut world, &mut publisher);
    one_second(&mut world, &mut publisher);
    world.run_ms(20);
    let made = publisher.video.made_ids();
    assert_eq!(tap.lost(), (made.len() - ROOM) as u64);
    assert_eq!(world.dropped(DropReason::TapFull), tap.lost());
    assert_eq!(world.counters(0).slots_tapped.get(), ROOM as u64);
    for viewer in &mut viewers {
        let video = viewer.take_video();
        assert_eq!(ids(&video), made);
        assert_in_sequence(&video);
    }

    // It is told what it missed in its place, and goes on.
    let taken = take(&mut tap);
    assert_eq!(taken.ids(), made[..ROOM]);
    publisher.send_frame(true, 2);
    world.run_ms(20);
    let taken = take(&mut tap);
    assert_eq!(taken.lost, [(0, (made.len() - ROOM) as u64)]);
    assert_eq!(taken.ids(), publisher.video.made_ids()[made.len()..]);
    world.run_ms(20);
    assert_eq!(world.counters(0).slots_tapped.get(), 0);
}

#[test]
fn taps_that_hang_hold_a_part_of_the_pool_and_starve_no_tap_that_keeps_up() {
    let mut world = World::new(1, 4);
    let mut publisher = world.publish(0, GCM);
    publisher.video.payload_len = 60;
    let rendition = publisher.video.rendition;
    let mut viewer = world.watch(0, GCM, &publisher);
    let mut healthy = tap(world.engine(), rendition);
    let mut hanging = Vec::new();
    let (mut sent, mut shown, mut taken) = (0, 0, 0);
    // Each holds another stretch of the stream.
    while sent < POOL_SLOTS_TAPPED + 2 * MAX_TAP_PACKETS {
        if sent % MAX_TAP_PACKETS < MAX_BURST_PACKETS {
            hanging.push(tap_with(&world, rendition, MAX_TAP_PACKETS, false));
        }
        publisher.send_frame(sent == 0, MAX_BURST_PACKETS);
        sent += MAX_BURST_PACKETS;
        world.run_ms(1);
        publisher.video.made.clear();
        shown += viewer.take_video().len();
        taken += take(&mut healthy).packets.len();
    }
    world.run_ms(20);
    assert_eq!((shown, taken), (sent, sent));
    assert_eq!(healthy.lost(), 0);
    let lost: u64 = hanging.iter().map(Tap::lost).sum();
    assert!(lost > 0);
    assert_eq!(world.drops(), [("tap_full", lost)]);
    let most = POOL_SLOTS_TAPPED + (hanging.len() + 1) * MAX_BURST_PACKETS;
    let tapped = world.counters(0).slots_tapped.get() as usize;
    assert!((POOL_SLOTS_TAPPED..=most).contains(&tapped), "{tapped}");

    drop(hanging);
    world.run_ms(20);
    assert_eq!(world.counters(0).slots_tapped.get(), 0);
}

#[test]
fn hundreds_of_taps_of_one_rendition_each_get_everything() {
    const TAPS: usize = 300;
    let mut world = World::new(1, 5);
    let mut publisher = world.publish(0, GCM);
    let rendition = publisher.video.rendition;
    let mut taps: Vec<_> = (0..TAPS).map(|_| tap(world.engine(), rendition)).collect();
    world.settle();
    let mut taken: Vec<Vec<u64>> = vec![Vec::new(); TAPS];
    for frame in 0..30 {
        publisher.send_frame(frame == 0, MAX_BURST_PACKETS);
        world.run_ms(33);
        for (tap, taken) in taps.iter_mut().zip(&mut taken) {
            taken.extend(take(tap).ids());
        }
    }
    let made = publisher.video.made_ids();
    assert!(taken.iter().all(|taken| *taken == made));
    drop(taps);
    world.run_ms(20);
    assert_eq!(world.drops(), []);
}

#[test]
fn no_more_taps_are_made_than_a_shard_may_have_until_others_end() {
    let mut world = World::new(1, 6);
    let publisher = world.publish(0, GCM);
    let rendition = publisher.video.rendition;
    let signal = Signal::new().unwrap();
    let add = |world: &World| {
        let spec = TapSpec::new(signal.clone());
        world.engine().add_tap(rendition, spec)
    };
    let mut taps = Vec::new();
    for _ in 0..MAX_TAPS_PER_SHARD {
        taps.push(add(&world).unwrap());
        world.settle();
    }
    let refused = add(&world).unwrap_err();
    assert!(matches!(refused, EngineError::TooManyTaps(_)), "{refused}");
    taps.pop();
    assert!(add(&world).is_ok());
    let unknown = RenditionId(u64::MAX);
    let spec = TapSpec::new(signal.clone());
    let refused = world.engine().add_tap(unknown, spec).unwrap_err();
    assert_eq!(refused, EngineError::UnknownRendition(unknown));
}

#[test]
fn a_tap_may_begin_with_the_latest_keyframe_or_with_what_comes_next() {
    let mut world = World::new(1, 7);
    let mut publisher = world.publish(0, GCM);
    publisher.send_frame(true, 3);
    world.run_ms(33);
    publisher.send_frame(true, 3);
    for _ in 0..100 {
        publisher.send_frame(false, 2);
        world.run_ms(33);
    }
    let rendition = publisher.video.rendition;
    // The cache is longer than the ring.
    let mut from_cache = tap_with(&world, rendition, 64, true);
    let mut from_now = tap_with(&world, rendition, 64, false);
    world.settle();
    publisher.send_frame(false, 2);
    world.run_ms(33);
    let made = publisher.video.made_ids();
    let taken = take(&mut from_cache);
    assert_eq!(taken.ids(), made[3..]);
    assert!(taken.packets[0].keyframe_start);
    assert_eq!(take(&mut from_now).ids(), made[made.len() - 2..]);
    let mut audio = tap_with(&world, publisher.audio.rendition, 64, true);
    publisher.send_audio();
    world.run_ms(33);
    assert_eq!(take(&mut audio).packets.len(), 1);
}

#[test]
fn wishes_of_taps_for_a_keyframe_are_asked_for_once_until_it_comes() {
    let mut world = World::new(1, 8);
    let mut publisher = world.publish(0, GCM);
    publisher.send_frame(true, 1);
    world.run_ms(1_000);
    let taps: Vec<_> = (0..20)
        .map(|_| tap(world.engine(), publisher.video.rendition))
        .collect();
    let audio = tap(world.engine(), publisher.audio.rendition);
    for tap in taps.iter().chain([&audio]) {
        tap.want_keyframe();
        tap.want_keyframe();
    }
    world.run_ms(400);
    let asked = publisher.peer.take_rtcp::<PictureLossIndication>();
    let asked: Vec<_> = asked.iter().map(|pli| pli.media_ssrc).collect();
    assert_eq!(asked, [publisher.video.ssrc]);
    world.run_ms(400);
    let again = publisher.peer.take_rtcp::<PictureLossIndication>();
    assert_eq!(again.len(), 1, "twice a second");
    publisher.send_frame(true, 1);
    world.run_ms(2_000);
    let after = publisher.peer.take_rtcp::<PictureLossIndication>();
    assert!(after.is_empty());
}

#[test]
fn the_clock_is_told_when_it_is_reported_and_to_those_who_come_later() {
    let mut world = World::new(1, 9);
    let mut publisher = world.publish(0, GCM);
    let rendition = publisher.video.rendition;
    let mut before = tap(world.engine(), rendition);
    publisher.send_frame(true, 1);
    world.run_ms(10);
    assert!(take(&mut before).clocks.is_empty());
    let (ntp, rtp) = (0xe000_0000_8000_0000, publisher.video.timestamp);
    publisher.peer.send_rtcp(SenderReport {
        ssrc: publisher.video.ssrc,
        ntp_time: ntp,
        rtp_time: rtp,
        ..Default::default()
    });
    let at_us = world.now_us();
    world.run_ms(10);
    let mut after = tap(world.engine(), rendition);
    world.run_ms(10);
    for tap in [&mut before, &mut after] {
        let taken = take(tap);
        let clock = taken.clocks[0];
        assert_eq!(taken.clocks.len(), 1);
        assert_eq!((clock.ntp, clock.rtp, clock.at_us), (ntp, rtp, at_us));
        assert_eq!(
            clock.ntp_of(rtp.wrapping_add(90_000), 90_000),
            ntp + (1 << 32)
        );
    }
}

#[test]
fn a_source_that_begins_anew_is_told_between_its_packets() {
    let mut world = World::new(1, 10);
    let mut publisher = world.publish(0, GCM);
    let mut tap = tap(world.engine(), publisher.video.rendition);
    publisher.send_frame(true, 3);
    publisher.video.ssrc ^= 0x0f00_0000;
    publisher.video.sequence_number = 40_000;
    publisher.send_frame(true, 2);
    world.run_ms(10);
    let taken = take(&mut tap);
    assert_eq!(taken.ids(), publisher.video.made_ids());
    assert_eq!(taken.restarts, [3]);
    let indices: Vec<u64> = taken.packets.iter().map(|p| p.index).collect();
    assert!(indices[3] > indices[2] + 0xffff);
    assert_eq!(indices[3] as u16, 40_000);
}

#[test]
fn a_tap_is_rung_once_something_came_and_at_its_end_with_all_there_was() {
    let mut world = World::new(1, 11);
    let mut publisher = world.publish(0, GCM);
    let signal = Signal::new().unwrap();
    let renditions = [publisher.video.rendition, publisher.audio.rendition];
    let mut taps = renditions.map(|rendition| {
        let spec = TapSpec::new(signal.clone());
        world.engine().add_tap(rendition, spec).unwrap()
    });
    world.settle();
    assert!(!rung(&signal));
    publisher.send_audio();
    world.run_ms(10);
    assert!(rung(&signal));
    assert!(!rung(&signal), "once");
    assert_eq!(take(&mut taps[1]).packets.len(), 1);
    assert!(!taps[1].has_ended());

    // Its frame waits for the packet that ends it when the publisher goes.
    for packet in &publisher.make_frame(true, 3)[..2] {
        publisher.peer.send_rtp(packet);
    }
    world.settle();
    world.engine().remove_transport(publisher.peer.id).unwrap();
    world.settle();
    assert!(rung(&signal));
    assert!(!taps[0].has_ended(), "there is more to take");
    let taken = take(&mut taps[0]);
    let sent: Vec<u64> = publisher.video.made_ids()[..2].to_vec();
    assert_eq!(taken.ids(), sent);
    assert_eq!(id_of(&taken.packets[0].payload), sent[0]);
    assert!(taps.iter().all(Tap::has_ended));
    world.run_ms(20);
    assert_eq!(world.counters(0).slots_tapped.get(), 0);
}
