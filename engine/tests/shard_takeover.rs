//! A publisher is lost and another one takes over, told by the engine's events: when, with what
//! numbers, and from which frame on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::{Publisher, id_of};
use common::peer::Rtp;
use common::viewing::{Viewer, assert_in_sequence, audio_payloads, ids};
use fanmill_engine::Forwarding;
use fanmill_engine::event::Event;
use fanmill_engine::ids::TransportId;
use fanmill_engine::limits::{DEFAULT_PUBLISHER_SILENCE_US, TICK_US, TRACKS_PER_COMMAND};
use fanmill_engine::srtp::Profile;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

const GCM: Profile = Profile::AeadAes128Gcm;

/// The requirement: from the last packet of the lost publisher to the first of the other.
const TAKEOVER_US: u64 = 500_000;

/// Who was told to have fallen silent, or to be heard.
fn told(world: &mut World) -> Vec<(TransportId, bool)> {
    let events = world.events().into_iter();
    events
        .filter_map(|event| match event {
            Event::PublisherSilent(id) => Some((id, false)),
            Event::PublisherHeard(id) => Some((id, true)),
            _ => None,
        })
        .collect()
}

/// 20 ms of a publisher: a packet of audio, and a frame every second time.
fn slot(publisher: &mut Publisher, number: u64, gop: u64) {
    publisher.send_audio();
    if number.is_multiple_of(2) {
        publisher.send_frame(number.is_multiple_of(gop), 3);
    }
}

fn move_all(world: &mut World, viewers: &[Viewer], to: &Publisher) {
    let video: Vec<_> = viewers.iter().map(|viewer| viewer.video.id).collect();
    let audio: Vec<_> = viewers.iter().map(|viewer| viewer.audio.id).collect();
    let engine = world.engine();
    let payloads = viewers[0].video_payloads();
    engine
        .attach_all(&audio, to.audio.rendition, &audio_payloads())
        .unwrap();
    engine
        .attach_all(&video, to.video.rendition, &payloads)
        .unwrap();
    world.settle();
}

/// What a viewer got, with when.
#[derive(Default)]
struct Seen {
    video: Vec<(u64, Rtp)>,
    audio: Vec<(u64, Rtp)>,
}

impl Seen {
    fn take(&mut self, now_us: u64, viewer: &mut Viewer) {
        let at = |packet| (now_us, packet);
        self.video.extend(viewer.take_video().into_iter().map(at));
        self.audio.extend(viewer.take_audio().into_iter().map(at));
    }
}

/// Checks what a viewer got across one change from a publisher to another: continuous numbers, time
/// that passes as the clock's, no pause longer than may be, a keyframe first. Gives the pause.
fn check_change(packets: &[(u64, Rtp)], clock_khz: u64, from: &Publisher, to: &Publisher) -> u64 {
    let rtp: Vec<Rtp> = packets.iter().map(|(_, packet)| packet.clone()).collect();
    assert_in_sequence(&rtp);
    let of = |packet: &Rtp| id_of(&packet.payload) >> 32;
    let first_of_to = [to.video.made_ids(), to.audio.made_ids()].concat();
    let is_to = |packet: &Rtp| first_of_to.iter().any(|id| id >> 32 == of(packet));
    let change = rtp.iter().position(is_to).expect("the other one is seen");
    assert!(change > 0, "{} was seen before", from.peer.id);
    assert!(rtp[change..].iter().all(is_to), "and nothing else after");
    let ((before_us, before), (after_us, after)) = (&packets[change - 1], &packets[change]);
    let step = after.header.timestamp.wrapping_sub(before.header.timestamp);
    let passed_us = after_us - before_us;
    let step_us = u64::from(step) * 1000 / clock_khz;
    assert!(
        step_us.abs_diff(passed_us) < 60_000,
        "{step_us} us for {passed_us} us"
    );
    if clock_khz == 90 {
        // RFC 7741 4.3, RFC 6386 9.1: the start of a frame whose first bit says keyframe.
        assert_eq!(after.payload[0] & 0x10, 0x10, "a frame's start");
        assert_eq!(after.payload[1] & 1, 0, "of a keyframe");
    }
    passed_us
}

/// Both publish; the primary is lost in the middle of a frame; it returns, and is shown again.
fn takes_over_and_back(viewer_shard: u16, gop: u64, answers: bool) {
    let mut world = World::new(2, 1);
    let mut primary = world.publish(0, GCM);
    let mut backup = world.publish(1, Profile::Aes128CmSha1_80);
    backup.video.sequence_number = 60_000;
    backup.audio.sequence_number = 60_000;
    let mut viewers = [world.watch(viewer_shard, GCM, &primary)];
    let mut seen = Seen::default();
    let (mut keyframe_due, mut lost_us, mut back_us) = (false, None, None);
    let mut changes = Vec::new();
    for number in 0..500 {
        if keyframe_due {
            backup.send_frame(true, 3);
            keyframe_due = false;
        }
        slot(&mut backup, number, gop);
        match number {
            // Some way into a group of pictures of either.
            0..130 | 200.. => slot(&mut primary, number, 25),
            130 => {
                lost_us = Some(world.now_us());
                for packet in primary.make_frame(false, 3).iter().take(2) {
                    primary.peer.send_rtp(packet);
                }
            }
            _ => {}
        }
        for _ in 0..20 {
            world.run_ms(1);
            for (id, heard) in told(&mut world) {
                changes.push((id, heard, world.now_us()));
                if id == primary.peer.id && !heard {
                    move_all(&mut world, &viewers, &backup);
                }
            }
            seen.take(world.now_us(), &mut viewers[0]);
        }
        let asked = !backup.peer.take_rtcp::<PictureLossIndication>().is_empty();
        keyframe_due |= asked && answers;
        if number == 300 {
            check_change(&seen.video, 90, &primary, &backup);
            back_us = Some(world.now_us());
            seen = Seen::default();
            seen.take(world.now_us(), &mut viewers[0]);
        }
        if number == 320 {
            move_all(&mut world, &viewers, &primary);
        }
    }
    // Each change was told once, and the silence in time.
    let order: Vec<_> = changes.iter().map(|(id, heard, _)| (*id, *heard)).collect();
    let (one, other) = (primary.peer.id, backup.peer.id);
    assert_eq!(order.len(), 4, "{order:?}");
    assert!(order[..2].contains(&(one, true)) && order[..2].contains(&(other, true)));
    assert_eq!(order[2..], [(one, false), (one, true)]);
    let silent_us = changes[2].2 - lost_us.unwrap();
    let range = DEFAULT_PUBLISHER_SILENCE_US..DEFAULT_PUBLISHER_SILENCE_US + 2 * TICK_US;
    assert!(range.contains(&silent_us), "{silent_us} us");

    assert!(back_us.is_some());
    let video_us = check_change(&seen.video, 90, &backup, &primary);
    let audio_us = check_change(&seen.audio, 48, &backup, &primary);
    assert!(
        video_us < 60_000 && audio_us < 60_000,
        "{video_us}, {audio_us}"
    );
}

#[test]
fn a_backup_takes_over_from_its_cache_and_the_primary_comes_back() {
    for viewer_shard in [0, 1] {
        takes_over_and_back(viewer_shard, 50, false);
    }
}

#[test]
fn a_backup_without_a_cached_keyframe_is_asked_for_one() {
    // Nothing but the first frame is a keyframe, and it has left the cache.
    let forwarding = Forwarding {
        max_cache_us: 2_000_000,
        ..Forwarding::default()
    };
    let mut world = World::forwarding(2, forwarding);
    let mut primary = world.publish(0, GCM);
    let mut backup = world.publish(1, GCM);
    let viewers = &mut [world.watch(0, GCM, &primary)];
    let mut seen = Seen::default();
    let mut keyframe_due = false;
    for number in 0..220 {
        if keyframe_due {
            backup.send_frame(true, 3);
            keyframe_due = false;
        } else {
            slot(&mut backup, number, 10_000);
        }
        if number < 150 {
            slot(&mut primary, number, 25);
        }
        for _ in 0..20 {
            world.run_ms(1);
            let lost = told(&mut world).contains(&(primary.peer.id, false));
            if lost {
                move_all(&mut world, viewers, &backup);
            }
            seen.take(world.now_us(), &mut viewers[0]);
        }
        keyframe_due |= !backup.peer.take_rtcp::<PictureLossIndication>().is_empty();
    }
    let video_us = check_change(&seen.video, 90, &primary, &backup);
    let audio_us = check_change(&seen.audio, 48, &primary, &backup);
    assert!(
        video_us < TAKEOVER_US && audio_us < TAKEOVER_US,
        "{video_us}, {audio_us}"
    );
}

#[test]
fn the_picture_and_the_sound_pause_for_less_than_half_a_second() {
    // Wherever in its group of pictures the backup is when it takes over.
    for phase in [0, 1, 13, 26, 49] {
        let mut world = World::new(2, 3);
        let mut primary = world.publish(0, GCM);
        let mut backup = world.publish(1, GCM);
        let viewers = &mut [world.watch(1, GCM, &primary)];
        let mut seen = Seen::default();
        for number in 0..200 + phase {
            slot(&mut backup, number, 50);
            if number < 150 + phase {
                slot(&mut primary, number, 25);
            }
            for _ in 0..20 {
                world.run_ms(1);
                if told(&mut world).contains(&(primary.peer.id, false)) {
                    move_all(&mut world, viewers, &backup);
                }
                seen.take(world.now_us(), &mut viewers[0]);
            }
        }
        let video_us = check_change(&seen.video, 90, &primary, &backup);
        let audio_us = check_change(&seen.audio, 48, &primary, &backup);
        assert!(
            video_us < TAKEOVER_US && audio_us < TAKEOVER_US,
            "{video_us}, {audio_us}"
        );
        assert!(
            backup.peer.take_rtcp::<PictureLossIndication>().is_empty(),
            "it was not asked"
        );
    }
}

#[test]
fn sound_alone_is_enough_to_be_heard_and_a_check_is_not() {
    let mut world = World::new(1, 4);
    let mut publisher = world.publish(0, GCM);
    let id = publisher.peer.id;
    world.run_ms(1_000);
    assert_eq!(told(&mut world), [], "nothing has come yet");
    for _ in 0..100 {
        publisher.send_audio();
        world.run_ms(20);
    }
    assert_eq!(told(&mut world), [(id, true)], "without any picture");
    for _ in 0..100 {
        publisher.peer.check(true);
        world.run_ms(20);
    }
    assert_eq!(told(&mut world), [(id, false)]);
    publisher.send_frame(true, 1);
    world.run_ms(20);
    assert_eq!(told(&mut world), [(id, true)]);
}

#[test]
fn many_viewers_change_over_in_few_commands_and_miss_no_sound() {
    let mut world = World::new(2, 5);
    let mut primary = world.publish(0, GCM);
    let mut backup = world.publish(1, GCM);
    // More than one command takes, on both shards.
    let count = 3 * TRACKS_PER_COMMAND;
    let mut viewers: Vec<Viewer> = (0..count)
        .map(|number| world.watch(number as u16 % 2, GCM, &primary))
        .collect();
    let mut gone = viewers.pop().unwrap();
    let mut sound: Vec<Vec<Rtp>> = viewers.iter().map(|_| Vec::new()).collect();
    for number in 0..60 {
        slot(&mut primary, number, 25);
        slot(&mut backup, number, 25);
        world.run_ms(20);
        if number == 30 {
            world.engine().remove_transport(gone.peer.id).unwrap();
            gone.peer.receive();
            viewers.push(gone);
            move_all(&mut world, &viewers, &backup);
            gone = viewers.pop().unwrap();
        }
        for (viewer, sound) in viewers.iter_mut().zip(&mut sound) {
            sound.extend(viewer.take_audio());
            viewer.take_video();
        }
    }
    let expected = [
        primary.audio.made_ids()[..31].to_vec(),
        backup.audio.made_ids()[31..].to_vec(),
    ]
    .concat();
    for packets in &sound {
        assert_in_sequence(packets);
        assert_eq!(ids(packets), expected);
    }
    world.engine().remove_transport(primary.peer.id).unwrap();
    slot(&mut backup, 60, 25);
    world.run_ms(20);
    for viewer in &mut viewers {
        assert_eq!(
            viewer.take_audio().len(),
            1,
            "nobody is bound to the former one"
        );
    }
    assert!(world.drops().is_empty(), "{:?}", world.drops());
}
