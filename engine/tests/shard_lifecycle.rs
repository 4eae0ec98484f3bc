//! Viewers and publishers that come, change over and go; control planes that do not keep up.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::{Publisher, Stream};
use common::viewing::{Watched, assert_in_sequence, assert_same_timing, ids};
use fanmill_engine::EngineError;
use fanmill_engine::counters::DropReason;
use fanmill_engine::event::Event;
use fanmill_engine::ids::{OutgoingTrackId, RenditionId, ShardId};
use fanmill_engine::limits::{COMMANDS_PER_TURN, EVENT_RING_MESSAGES};
use fanmill_engine::srtp::Profile;

const GCM: Profile = Profile::AeadAes128Gcm;

fn send_second(world: &mut World, publishers: &mut [&mut Publisher]) {
    for frame in 0..30 {
        for publisher in publishers.iter_mut() {
            publisher.send_frame(frame == 0, 2);
            publisher.send_audio();
        }
        world.run_ms(33);
    }
}

#[test]
fn a_viewer_that_changes_over_sees_one_continuous_stream() {
    for viewer_shard in [0, 1] {
        let mut world = World::without_cache(2, 1);
        let mut one = world.publish(0, GCM);
        let mut other = world.publish(1, Profile::Aes128CmSha1_80);
        other.video.sequence_number = 60_000;
        other.audio.sequence_number = 60_000;
        let mut viewer = world.watch(viewer_shard, GCM, &one);
        send_second(&mut world, &mut [&mut one, &mut other]);
        let (before, sound_before) = (viewer.take_video(), viewer.take_audio());
        world.attach(&viewer, &other);
        let made = other.video.made_ids().len();
        one.send_frame(false, 2);
        other.send_frame(false, 2);
        world.run_ms(33);
        assert!(
            viewer.take_video().is_empty(),
            "the other picture begins with a keyframe"
        );
        send_second(&mut world, &mut [&mut one, &mut other]);
        let (after, sound_after) = (viewer.take_video(), viewer.take_audio());
        assert_eq!(ids(&after), other.video.made_ids()[made + 2..]);
        assert_same_timing(&after, &other.video);
        assert_same_timing(&sound_after, &other.audio);
        let step = after[0]
            .header
            .timestamp
            .wrapping_sub(before[58].header.timestamp);
        assert_eq!(step, 90 * 66, "the time that passed");
        let last_number = after.last().map(|packet| packet.header.sequence_number);
        assert_in_sequence(&[before, after].concat());
        assert_in_sequence(&[sound_before, sound_after].concat());

        // Back, by way of nothing at all.
        world.engine().detach(viewer.video.id).unwrap();
        send_second(&mut world, &mut [&mut one, &mut other]);
        assert!(viewer.take_video().is_empty());
        let last = last_number.unwrap();
        world.attach_video(&viewer, one.video.rendition);
        send_second(&mut world, &mut [&mut one, &mut other]);
        let again = viewer.take_video();
        assert_eq!(again.len(), 60);
        assert_eq!(again[0].header.sequence_number.wrapping_sub(last), 1);
    }
}

#[test]
fn when_the_publisher_leaves_another_can_be_attached() {
    let mut world = World::new(2, 2);
    let mut one = world.publish(0, GCM);
    let mut viewers = [world.watch(0, GCM, &one), world.watch(1, GCM, &one)];
    send_second(&mut world, &mut [&mut one]);
    world.engine().remove_transport(one.peer.id).unwrap();
    one.send_frame(true, 2);
    world.run_ms(33);
    let gone = world
        .engine()
        .attach(viewers[0].video.id, one.video.rendition, vec![]);
    assert_eq!(
        gone,
        Err(EngineError::UnknownRendition(one.video.rendition))
    );
    let mut other = world.publish(1, GCM);
    for viewer in &viewers {
        world.attach(viewer, &other);
    }
    send_second(&mut world, &mut [&mut other]);
    for viewer in &mut viewers {
        let video = viewer.take_video();
        let expected = [one.video.made_ids()[..60].to_vec(), other.video.made_ids()].concat();
        assert_eq!(ids(&video), expected);
        assert_in_sequence(&video);
    }
    assert_eq!(world.dropped(DropReason::UnknownAddress), 2);
}

#[test]
fn viewers_who_leave_do_not_disturb_those_who_stay() {
    let mut world = World::new(2, 3);
    let mut publisher = world.publish(0, GCM);
    let mut viewers: Vec<_> = (0..24)
        .map(|number| {
            world.watch(
                number % 2,
                Profile::ALL[usize::from(number) % 3],
                &publisher,
            )
        })
        .collect();
    send_second(&mut world, &mut [&mut publisher]);
    // From the front, the middle and the end; by transport, by track, and by detaching.
    for (turn, place) in [0, 5, 5, 10, 19, 0, 14].into_iter().enumerate() {
        let viewer = viewers.remove(place);
        match turn % 3 {
            0 => world.engine().remove_transport(viewer.peer.id).unwrap(),
            1 => world
                .engine()
                .remove_outgoing_track(viewer.video.id)
                .unwrap(),
            _ => world.engine().detach(viewer.video.id).unwrap(),
        }
        world.settle();
        publisher.send_frame(false, 2);
        world.run_ms(33);
    }
    for viewer in &mut viewers {
        let video = viewer.take_video();
        assert_eq!(ids(&video), publisher.video.made_ids());
        assert_in_sequence(&video);
        viewer.nack(&[video[70].header.sequence_number]);
        world.run_ms(5);
        let rtx = viewer.take_rtx();
        assert_eq!(rtx.len(), 1);
        assert_eq!(rtx[0].payload[2..], video[70].payload[..], "its own packet");
        assert!(viewer.peer.unreadable.is_empty());
    }
}

#[test]
fn two_tracks_of_one_peer_show_two_publishers() {
    let mut world = World::new(2, 4);
    let mut one = world.publish(0, GCM);
    let mut other = world.publish(1, GCM);
    let mut viewer = world.watch(0, GCM, &one);
    let second = Watched::new(&mut world);
    world
        .engine()
        .add_outgoing_track(viewer.peer.id, second.spec("2"))
        .unwrap();
    let payloads = viewer.video_payloads();
    world
        .engine()
        .attach(second.id, other.video.rendition, payloads)
        .unwrap();
    world.settle();
    send_second(&mut world, &mut [&mut one, &mut other]);
    assert_eq!(ids(&viewer.take_video()), one.video.made_ids());
    assert_eq!(
        ids(&viewer.peer.take_rtp(second.ssrc)),
        other.video.made_ids()
    );
}

#[test]
fn an_ssrc_is_not_used_twice_for_one_peer_and_keys_are_not_set_twice() {
    let mut world = World::new(1, 5);
    let mut publisher = world.publish(0, GCM);
    let mut viewer = world.watch(0, GCM, &publisher);
    let mut again = Watched::new(&mut world);
    again.ssrc = viewer.video.ssrc;
    world
        .engine()
        .add_outgoing_track(viewer.peer.id, again.spec("2"))
        .unwrap();
    world
        .engine()
        .remove_outgoing_track(viewer.audio.id)
        .unwrap();
    let mut later = Watched::new(&mut world);
    later.rtx_ssrc = viewer.audio.ssrc;
    world
        .engine()
        .add_outgoing_track(viewer.peer.id, later.spec("3"))
        .unwrap();
    world.give_keys(&viewer.peer);
    publisher.send_frame(true, 2);
    world.run_ms(20);
    assert_eq!(world.dropped(DropReason::UnsafeCommand), 3);
    assert_eq!(world.counters(0).outgoing_tracks.get(), 1);
    assert_eq!(viewer.take_video().len(), 2, "what was there goes on");
}

#[test]
fn ten_thousand_peers_that_came_and_went_leave_nothing_behind() {
    const ROUNDS: u16 = 20;
    const PEERS: u16 = 500;
    let mut world = World::new(2, 6);
    let mut tracks = 0;
    for round in 0..ROUNDS {
        let publisher = &mut world.publish(round % 2, GCM);
        let mut ids = vec![publisher.peer.id];
        for number in 1..PEERS {
            let mut peer = world.stranger(number % 2, GCM);
            // Some never check, some never get keys, some only watch sound, some publish too.
            if number % 7 > 0 {
                peer.check(number % 2 == 0);
            }
            if number % 5 > 0 {
                world.give_keys(&peer);
            }
            if number % 50 == 0 {
                let stream = Stream::new(&mut world, "v", true);
                let name = world.name();
                world
                    .engine()
                    .add_incoming_track(peer.id, stream.spec(name))
                    .unwrap();
            }
            let viewer = world.viewer_on(peer);
            if number % 3 > 0 {
                world.attach(&viewer, publisher);
            }
            tracks += 1;
            ids.push(viewer.peer.id);
            if number % 100 == 0 {
                world.settle();
            }
        }
        publisher.send_frame(true, 2);
        publisher.send_audio();
        world.run_ms(20);
        publisher.send_frame(false, 2);
        world.settle();
        // The publisher goes first, last, or in between.
        let len = ids.len();
        ids.rotate_left(usize::from(round) * 37 % len);
        for chunk in ids.chunks(100) {
            for id in chunk {
                world.engine().remove_transport(*id).unwrap();
            }
            world.settle();
        }
        world.run_ms(20);
        world.events();
    }
    assert!(tracks >= 9_900);
    for shard in 0..2 {
        let counters = world.counters(shard);
        for (name, gauge) in [
            ("transports", &counters.transports),
            ("ufrags", &counters.ufrags),
            ("addresses", &counters.addresses),
            ("sources", &counters.sources),
            ("renditions", &counters.renditions),
            ("outgoing tracks", &counters.outgoing_tracks),
            ("slots in use", &counters.slots_in_use),
        ] {
            assert_eq!(gauge.get(), 0, "{name} on shard {shard}");
        }
    }
    assert_eq!(world.drops(), []);
    let unknown = world.engine().detach(OutgoingTrackId(1));
    assert_eq!(
        unknown,
        Err(EngineError::UnknownOutgoingTrack(OutgoingTrackId(1)))
    );
}

#[test]
fn a_control_plane_that_does_not_listen_delays_no_packet_and_is_told_later() {
    const PEERS: usize = 40;
    let mut world = World::new(2, 7);
    let mut publisher = world.publish(0, GCM);
    let mut viewers: Vec<_> = (0..4)
        .map(|n| world.watch(n % 2, GCM, &publisher))
        .collect();
    world.events();
    // DTLS fills both rings, as much as each peer may send of it.
    let noisy: Vec<_> = (0..PEERS as u16)
        .map(|n| world.connect(n % 2, GCM))
        .collect();
    for _ in 0..5 {
        for _ in 0..60 {
            for peer in &noisy {
                peer.send(&[22, 254, 253, 7]);
            }
            world.settle();
        }
        world.run_ms(1_000);
    }
    assert!(world.dropped(DropReason::EventRingFull) > 0);
    let late = world.watch(0, GCM, &publisher);
    let moved = late.peer.socket.address();
    for frame in 0..200 {
        publisher.send_frame(frame == 0, 3);
        publisher.send_audio();
        world.settle();
        for viewer in &mut viewers {
            // At once, in the same instant of virtual time.
            assert_eq!(viewer.take_video().len(), 3);
            assert_eq!(viewer.take_audio().len(), 1);
        }
        world.run_ms(20);
    }
    let events = world.events();
    assert!(events.len() >= 2 * EVENT_RING_MESSAGES);
    world.run_ms(20);
    let told: Vec<Event> = events.into_iter().chain(world.events()).collect();
    let count = |wanted: &dyn Fn(&Event) -> bool| told.iter().filter(|e| wanted(e)).count();
    let id = late.peer.id;
    let selected =
        count(&|e| matches!(e, Event::AddressSelected(of, to) if *of == id && *to == moved));
    assert_eq!(selected, 1);
    let rendition = publisher.video.rendition;
    let active = count(&|e| matches!(e, Event::RenditionActive(of, _) if *of == rendition));
    assert_eq!(active, 1);
}

#[test]
fn commands_that_wait_delay_no_packet() {
    let mut world = World::new(2, 8);
    let mut publisher = world.publish(0, GCM);
    let mut viewers = [
        world.watch(0, GCM, &publisher),
        world.watch(1, GCM, &publisher),
    ];
    let commands = 20 * COMMANDS_PER_TURN;
    for _ in 0..commands {
        for shard in 0..2 {
            let nobody = world.sim.address(ShardId(shard));
            world
                .engine()
                .send_to(ShardId(shard), nobody, &[22])
                .unwrap();
        }
    }
    publisher.send_frame(true, 3);
    // One turn to take it in, and one more for the other shard.
    world.sim.turn();
    world.sim.turn();
    for viewer in &mut viewers {
        assert_eq!(viewer.take_video().len(), 3);
    }
    let carried_out = world.network.stats().sent;
    world.settle();
    assert!(world.network.stats().sent - carried_out > 2 * 17 * COMMANDS_PER_TURN as u64);
}

#[test]
fn hundreds_of_renditions_share_one_pool() {
    // At 1024 packets for each, these would take all slots and more.
    const PUBLISHERS: usize = 136;
    let mut world = World::new(1, 9);
    let mut publisher = world.publish(0, GCM);
    publisher.video.payload_len = 60;
    let mut viewer = world.watch(0, GCM, &publisher);
    let mut others: Vec<Publisher> = (0..PUBLISHERS).map(|_| world.publish(0, GCM)).collect();
    publisher.send_frame(true, 1);
    world.settle();
    viewer.take_video();
    for _ in 0..10 {
        for other in &mut others {
            other.video.payload_len = 20;
            other.video.made.clear();
            other.send_frame(true, 100);
        }
        world.run_ms(700);
        publisher.send_frame(false, 1);
        world.settle();
        assert_eq!(viewer.take_video().len(), 1);
    }
    world.run_ms(21_000);
    assert_eq!(world.counters(0).slots_in_use.get(), 0);
    assert_eq!(world.dropped(DropReason::PoolExhausted), 0);
    let nobody = world.engine().request_keyframe(RenditionId(u64::MAX));
    assert_eq!(
        nobody,
        Err(EngineError::UnknownRendition(RenditionId(u64::MAX)))
    );
}
