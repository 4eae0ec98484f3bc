//! Viewers who join between two keyframes: they get the latest at once, and what came since, faster
//! than it came, until they have caught up; nobody else notices.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::World;
use common::media::{Publisher, id_of};
use common::peer::Rtp;
use common::viewing::{Viewer, assert_in_sequence, assert_same_timing, ids};
use fanmill_engine::counters::DropReason;
use fanmill_engine::limits::{CATCH_UP_INTERVAL_US, MAX_CATCH_UP_SPEED, POOL_SLOTS};
use fanmill_engine::srtp::Profile;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::sender_report::SenderReport;

const GCM: Profile = Profile::AeadAes128Gcm;
const FRAME_US: u64 = 33_333;

fn plis(publisher: &mut Publisher) -> usize {
    publisher.peer.take_rtcp::<PictureLossIndication>().len()
}

/// Frames of `packets` at 30 a second, none of them a keyframe.
fn run_frames(world: &mut World, publisher: &mut Publisher, frames: u64, packets: usize) {
    for _ in 0..frames {
        publisher.send_frame(false, packets);
        world.sim.run_for(FRAME_US);
    }
}

/// A keyframe, and seconds without one.
fn run_gop(world: &mut World, publisher: &mut Publisher, seconds: u64) {
    publisher.send_frame(true, 10);
    world.sim.run_for(FRAME_US);
    run_frames(world, publisher, seconds * 30 - 1, 3);
}

/// What came in each step of `step_us` until `us` have passed, while frames go on.
fn watch(
    world: &mut World,
    publisher: &mut Publisher,
    viewer: &mut Viewer,
    ms: u64,
) -> Vec<(u64, Rtp)> {
    let mut seen = Vec::new();
    let mut next_frame_us = world.now_us();
    let end_us = world.now_us() + ms * 1000;
    while world.now_us() < end_us {
        if world.now_us() >= next_frame_us {
            publisher.send_frame(false, 3);
            next_frame_us += FRAME_US;
        }
        world.run_ms(1);
        let now_us = world.now_us();
        seen.extend(
            viewer
                .take_video()
                .into_iter()
                .map(|packet| (now_us, packet)),
        );
    }
    seen
}

#[test]
fn a_newcomer_gets_the_latest_keyframe_at_once_and_catches_up_in_step() {
    for shard in [0, 1] {
        for profile in [GCM, Profile::Aes128CmSha1_80] {
            joins_late(shard, profile);
        }
    }
}

fn joins_late(shard: u16, profile: Profile) {
    let mut world = World::new(2, 1);
    let mut publisher = world.publish(0, GCM);
    let mut other = world.watch(0, GCM, &publisher);
    run_gop(&mut world, &mut publisher, 7);
    assert_eq!(plis(&mut publisher), 0);
    let began_us = world.now_us();
    let mut viewer = world.watch(shard, profile, &publisher);
    let seen = watch(&mut world, &mut publisher, &mut viewer, 3_000);
    let (first_us, _) = seen[0];
    assert!(first_us - began_us < 20_000, "{} us", first_us - began_us);

    let video: Vec<Rtp> = seen.iter().map(|(_, packet)| packet.clone()).collect();
    assert_in_sequence(&video);
    assert_eq!(
        ids(&video),
        publisher.video.made_ids(),
        "all since the keyframe, once"
    );

    // It comes as its timestamps say, within a millisecond of the clock and a slice.
    let first = video[0].header.timestamp;
    for (at_us, packet) in &seen {
        let due_us = u64::from(packet.header.timestamp.wrapping_sub(first)) * 1000 / 90;
        let passed_us = at_us - first_us;
        assert!(
            passed_us.abs_diff(due_us) < CATCH_UP_INTERVAL_US + 4_000,
            "at {passed_us} us, due at {due_us} us"
        );
    }
    // Eight times as fast, then as ever.
    let steps: Vec<u32> = video
        .windows(2)
        .map(|pair| {
            pair[1]
                .header
                .timestamp
                .wrapping_sub(pair[0].header.timestamp)
        })
        .filter(|step| *step > 0)
        .collect();
    let fast = steps
        .iter()
        .filter(|step| **step == 3_000 / MAX_CATCH_UP_SPEED as u32);
    assert!((200..260).contains(&fast.count()), "{steps:?}");
    assert!(steps[steps.len() - 50..].iter().all(|step| *step == 3_000));
    // A second after seven: no clock is told before, nor a wrong one after.
    let reports = viewer.peer.take_rtcp::<SenderReport>();
    let of_video = reports
        .iter()
        .filter(|report| report.ssrc == viewer.video.ssrc);
    let last = video.last().unwrap().header.timestamp;
    for report in of_video {
        let ahead = report.rtp_time.wrapping_sub(last).cast_signed();
        assert!((-2 * 90_000..9_000).contains(&ahead), "{ahead}");
    }

    assert_eq!(plis(&mut publisher), 0, "nobody is asked");
    assert_same_timing(&other.take_video(), &publisher.video);
    assert_eq!(world.counters(shard).joins_from_cache.get(), 1);
    assert!(world.drops().is_empty(), "{:?}", world.drops());
}

#[test]
fn a_keyframe_cuts_catching_up_short() {
    let mut world = World::new(1, 2);
    let mut publisher = world.publish(0, GCM);
    run_gop(&mut world, &mut publisher, 9);
    let mut viewer = world.watch(0, GCM, &publisher);
    let before = watch(&mut world, &mut publisher, &mut viewer, 200);
    let made = publisher.video.made_ids().len();
    publisher.send_frame(true, 4);
    let after = watch(&mut world, &mut publisher, &mut viewer, 500);
    let all: Vec<Rtp> = before
        .iter()
        .chain(&after)
        .map(|(_, packet)| packet.clone())
        .collect();
    assert_in_sequence(&all);
    let live = publisher.video.made_ids()[made..].to_vec();
    assert!(ids(&all).ends_with(&live), "live from the keyframe on");
    assert!(all.len() - live.len() < 250, "the rest is skipped");
    let at = all.len() - live.len();
    let step = all[at]
        .header
        .timestamp
        .wrapping_sub(all[at - 1].header.timestamp);
    assert!((1..9_000).contains(&step), "{step}");
    assert_eq!(plis(&mut publisher), 0);
}

#[test]
fn what_a_newcomer_misses_comes_again_with_the_same_timestamp() {
    for rtx in [true, false] {
        let mut world = World::new(1, 3);
        let mut publisher = world.publish(0, GCM);
        run_gop(&mut world, &mut publisher, 8);
        let mut viewer = world.viewer(0, GCM);
        viewer.rtx = rtx;
        world.attach(&viewer, &publisher);
        let seen = watch(&mut world, &mut publisher, &mut viewer, 400);
        let asked: Vec<Rtp> = seen
            .iter()
            .step_by(17)
            .map(|(_, packet)| packet.clone())
            .collect();
        let numbers: Vec<u16> = asked
            .iter()
            .map(|packet| packet.header.sequence_number)
            .collect();
        viewer.nack(&numbers);
        world.run_ms(5);
        if rtx {
            let again = viewer.take_rtx();
            assert_eq!(again.len(), asked.len());
            for (again, first) in again.iter().zip(&asked) {
                assert_eq!(again.header.timestamp, first.header.timestamp);
                assert_eq!(again.payload[2..], first.payload[..]);
            }
        } else {
            let video = viewer.take_video();
            for first in &asked {
                let number = first.header.sequence_number;
                let again = video
                    .iter()
                    .find(|packet| packet.header.sequence_number == number);
                assert_eq!(again.unwrap().sealed, first.sealed, "one nonce, one text");
            }
        }
        // Long after, what was sent while catching up is refused, and all else goes on.
        watch(&mut world, &mut publisher, &mut viewer, 8_000);
        viewer.nack(&numbers);
        world.run_ms(5);
        assert!(viewer.take_rtx().is_empty() && viewer.take_video().is_empty());
        let seen = watch(&mut world, &mut publisher, &mut viewer, 300);
        let video: Vec<Rtp> = seen.into_iter().map(|(_, packet)| packet).collect();
        assert_in_sequence(&video);
        assert_same_timing(&video, &publisher.video);
    }
}

#[test]
fn five_hundred_who_join_in_a_second_cause_one_request_and_disturb_nobody() {
    let mut world = World::new(1, 4);
    let mut publisher = world.publish(0, GCM);
    publisher.video.payload_len = 300;
    let mut others: Vec<Viewer> = (0..5).map(|_| world.watch(0, GCM, &publisher)).collect();
    run_gop(&mut world, &mut publisher, 9);
    for other in &mut others {
        other.take_video();
    }
    let made = publisher.video.made_ids().len();
    let mut viewers = Vec::new();
    for _ in 0..25 {
        publisher.send_frame(false, 3);
        for _ in 0..20 {
            viewers.push(world.watch(0, GCM, &publisher));
        }
        world.run_ms(40);
        for other in &mut others {
            other.peer.receive();
        }
    }
    run_frames(&mut world, &mut publisher, 180, 3);
    assert!(plis(&mut publisher) <= 1);
    for other in &mut others {
        let video = other.take_video();
        assert_eq!(ids(&video), publisher.video.made_ids()[made..]);
        assert_same_timing(&video, &publisher.video);
    }
    for viewer in &mut viewers {
        let video = viewer.take_video();
        assert_in_sequence(&video);
        assert_eq!(
            ids(&video),
            publisher.video.made_ids(),
            "from the keyframe on"
        );
    }
    assert!(world.drops().is_empty(), "{:?}", world.drops());
}

#[test]
fn a_viewer_who_lost_its_picture_gets_the_latest_keyframe_of_a_publisher_that_makes_none() {
    let mut world = World::new(1, 5);
    let mut publisher = world.publish(0, GCM);
    let mut viewer = world.watch(0, GCM, &publisher);
    let mut other = world.watch(0, GCM, &publisher);
    run_gop(&mut world, &mut publisher, 2);
    let mut all: Vec<Rtp> = viewer.take_video();
    for _ in 0..8 {
        viewer.ask_for_keyframe();
        let seen = watch(&mut world, &mut publisher, &mut viewer, 500);
        all.extend(seen.into_iter().map(|(_, packet)| packet));
    }
    assert_in_sequence(&all);
    let keyframe = publisher.video.made_ids()[0];
    let times = ids(&all).iter().filter(|id| **id == keyframe).count();
    assert!((2..=6).contains(&times), "{times}");
    assert!(plis(&mut publisher) >= 3, "it was asked, in vain");
    let video = other.take_video();
    assert_eq!(
        ids(&video),
        publisher.video.made_ids(),
        "the others see nothing of it"
    );
}

#[test]
fn a_viewer_changes_over_to_another_source_from_its_cache() {
    let mut world = World::new(2, 6);
    let mut one = world.publish(0, GCM);
    let mut other = world.publish(1, GCM);
    let mut viewer = world.watch(0, GCM, &one);
    run_gop(&mut world, &mut one, 1);
    run_gop(&mut world, &mut other, 4);
    let mut all: Vec<Rtp> = viewer.take_video();
    let kept = all.len();
    world.attach(&viewer, &other);
    let seen = watch(&mut world, &mut other, &mut viewer, 1_500);
    all.extend(seen.into_iter().map(|(_, packet)| packet));
    assert_in_sequence(&all);
    assert_eq!(ids(&all[kept..]), other.video.made_ids());
    let step = all[kept]
        .header
        .timestamp
        .wrapping_sub(all[kept - 1].header.timestamp);
    // Four seconds without a picture, as they were.
    assert!(step.abs_diff(4 * 90_000) < 9_000, "{step}");
    assert_eq!(plis(&mut other), 0);
}

/// Packets are lost and overtake each other on the way in and on the way out.
#[test]
fn newcomers_in_a_bad_network_get_everything_and_nothing_twice() {
    for seed in 0..5 {
        let mut world = World::new(2, 100 + seed);
        let mut publisher = world.publish(0, GCM);
        run_gop(&mut world, &mut publisher, 3);
        let mut random = seed * 0x9e37_79b9 + 1;
        let mut chance = |percent: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040);
            (random >> 33) % 100 < percent
        };
        let mut viewers: Vec<Viewer> = Vec::new();
        let mut received: Vec<BTreeMap<u16, u64>> = Vec::new();
        let mut late: Vec<Vec<u8>> = Vec::new();
        for frame in 0..150 {
            for packet in publisher.make_frame(false, 3) {
                if chance(10) {
                    late.push(packet);
                } else {
                    publisher.peer.send_rtp(&packet);
                }
            }
            if frame < 60 && frame % 6 == 0 {
                viewers.push(world.watch(frame / 6 % 2, GCM, &publisher));
                received.push(BTreeMap::new());
            }
            world.run_ms(15);
            for packet in std::mem::take(&mut late) {
                if chance(70) {
                    publisher.peer.send_rtp(&packet);
                } else {
                    late.push(packet);
                }
            }
            for sequence_number in publisher.nacked() {
                publisher.send_retransmission(sequence_number);
            }
            world.run_ms(18);
            for (viewer, received) in viewers.iter_mut().zip(&mut received) {
                for packet in viewer.take_video() {
                    let id = id_of(&packet.payload);
                    let twice = received.insert(packet.header.sequence_number, id);
                    assert_eq!(twice, None, "seed {seed}");
                }
            }
        }
        for sequence_number in publisher.nacked() {
            publisher.send_retransmission(sequence_number);
        }
        world.run_ms(300);
        for (viewer, received) in viewers.iter_mut().zip(&mut received) {
            for packet in viewer.take_video() {
                received.insert(packet.header.sequence_number, id_of(&packet.payload));
            }
            let unique: BTreeSet<u64> = received.values().copied().collect();
            assert_eq!(
                unique.len(),
                received.len(),
                "seed {seed}: no payload twice"
            );
            let made = publisher.video.made_ids();
            let given_up = made.len() - unique.len();
            assert!(given_up <= 3, "seed {seed}: {given_up} missing");
            // In the order of their numbers they are in the order they were made.
            assert!(received.values().is_sorted(), "seed {seed}");
        }
    }
}

#[test]
fn caches_leave_room_in_the_pool() {
    let mut world = World::new(2, 8);
    let mut publishers: Vec<Publisher> = (0..20).map(|_| world.publish(0, GCM)).collect();
    let mut viewer = world.watch(1, GCM, &publishers[0]);
    for publisher in &mut publishers {
        publisher.video.payload_len = 40;
        publisher.send_frame(true, 1);
    }
    world.run_ms(20);
    // Six seconds, at a rate at which all caches together would take more than there is.
    for _ in 0..60 {
        for publisher in &mut publishers {
            publisher.video.made.clear();
            publisher.send_frame(false, 120);
        }
        world.run_ms(100);
        viewer.peer.receive();
    }
    assert_eq!(world.dropped(DropReason::PoolExhausted), 0);
    let counters = world.counters(0);
    assert!(counters.caches_dropped.get() > 0);
    let in_use = counters.slots_in_use.get();
    assert!(in_use < POOL_SLOTS as u64 * 4 / 5, "{in_use}");
    assert!(in_use > POOL_SLOTS as u64 / 2, "{in_use}: not all of them");
    assert_eq!(viewer.take_video().len(), 1 + 60 * 120);
}
