//! What a publisher may do with its SSRCs: change them, announce them by extension, mix them up.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::{Publisher, Stream, id_of};
use common::viewing::{Viewer, assert_in_sequence, ids};
use fanmill_engine::counters::DropReason;
use fanmill_engine::event::Event;
use fanmill_engine::ids::IncomingTrackId;
use fanmill_engine::packet::codec::Codec;
use fanmill_engine::srtp::Profile;

const GCM: Profile = Profile::AeadAes128Gcm;

/// Makes the publisher's streams go on under other SSRCs, sequence numbers and timestamps.
fn change_ssrcs(publisher: &mut Publisher, sequence_number: u16) {
    for stream in [&mut publisher.video, &mut publisher.audio] {
        stream.ssrc ^= 0x0f00_0000;
        stream.sequence_number = sequence_number;
        stream.timestamp = stream.timestamp.wrapping_add(0x4000_0000);
    }
}

fn watched(world: &mut World) -> (Publisher, Vec<Viewer>) {
    let publisher = world.publish(0, GCM);
    let viewers = vec![
        world.watch(0, GCM, &publisher),
        world.watch(1, GCM, &publisher),
    ];
    (publisher, viewers)
}

#[test]
fn a_publisher_that_changes_its_ssrcs_is_followed_without_a_break() {
    // The old numbers end just below a multiple of 2^16, where the new ones could seem to go on.
    for (last, first) in [(0xffff, 0), (500, 501), (500, 40_000), (40_000, 500)] {
        let mut world = World::new(2, u64::from(first) + 1);
        let (mut publisher, mut viewers) = watched(&mut world);
        publisher.video.sequence_number = u16::wrapping_sub(last, 2);
        publisher.audio.sequence_number = last;
        publisher.send_frame(true, 3);
        publisher.send_audio();
        world.run_ms(100);
        change_ssrcs(&mut publisher, first);
        publisher.send_frame(true, 2);
        publisher.send_frame(false, 2);
        publisher.send_audio();
        world.run_ms(100);
        for viewer in &mut viewers {
            let (video, audio) = (viewer.take_video(), viewer.take_audio());
            assert_eq!(ids(&video), publisher.video.made_ids());
            assert_eq!(ids(&audio), publisher.audio.made_ids());
            assert_in_sequence(&video);
            assert_in_sequence(&audio);
            let timestamps: Vec<u32> = video.iter().map(|p| p.header.timestamp).collect();
            let across = timestamps[3].wrapping_sub(timestamps[2]);
            assert_eq!(across, 9_000, "100 ms passed");
            assert_eq!(timestamps[5].wrapping_sub(timestamps[3]), 3_000);
            let audio: Vec<u32> = audio.iter().map(|p| p.header.timestamp).collect();
            assert_eq!(audio[1].wrapping_sub(audio[0]), 4_800, "100 ms passed");
            assert!(viewer.peer.unreadable.is_empty());
        }
    }
}

#[test]
fn packets_of_both_ssrcs_in_one_burst_do_not_mix() {
    let mut world = World::new(2, 7);
    let (mut publisher, mut viewers) = watched(&mut world);
    publisher.send_frame(true, 3);
    publisher.send_audio();
    change_ssrcs(&mut publisher, 30_000);
    publisher.send_frame(true, 3);
    publisher.send_audio();
    world.run_ms(10);
    for viewer in &mut viewers {
        let (video, audio) = (viewer.take_video(), viewer.take_audio());
        assert_eq!(ids(&video), publisher.video.made_ids());
        assert_eq!(ids(&audio), publisher.audio.made_ids());
        assert_in_sequence(&video);
        assert_in_sequence(&audio);
        assert!(viewer.peer.unreadable.is_empty());
    }
}

#[test]
fn late_packets_and_retransmissions_of_an_ssrc_that_was_given_up_are_dropped() {
    let mut world = World::new(2, 8);
    let (mut publisher, mut viewers) = watched(&mut world);
    publisher.video.sequence_number = 1_000;
    publisher.send_frame(true, 3);
    let late = publisher.make_frame(false, 2);
    let number = publisher.number();
    let repair = publisher.video.retransmission(1_003, number).unwrap();
    world.run_ms(30);
    change_ssrcs(&mut publisher, 1_010);
    publisher.send_frame(true, 2);
    world.run_ms(30);
    publisher.peer.send_rtp(&late[0]);
    publisher.peer.send_rtp(&repair);
    publisher.peer.send_rtp(&late[1]);
    publisher.send_frame(false, 2);
    world.run_ms(30);
    let made = publisher.video.made_ids();
    let expected = [&made[..3], &made[5..]].concat();
    for viewer in &mut viewers {
        let video = viewer.take_video();
        assert_eq!(ids(&video), expected);
        assert_in_sequence(&video);
    }
    assert_eq!(world.dropped(DropReason::TooLate), 3);
}

#[test]
fn an_ssrc_that_was_given_up_may_come_back_after_a_silence() {
    let mut world = World::new(1, 9);
    let publisher = &mut world.publish(0, GCM);
    let mut viewer = world.watch(0, GCM, publisher);
    publisher.send_frame(true, 2);
    let (ssrc, next) = (publisher.video.ssrc, publisher.video.sequence_number);
    world.run_ms(20);
    publisher.video.ssrc ^= 0xff;
    publisher.video.sequence_number = 9;
    publisher.send_frame(true, 2);
    world.run_ms(2_000);
    publisher.video.ssrc = ssrc;
    publisher.video.sequence_number = next;
    publisher.send_frame(true, 2);
    world.run_ms(20);
    let video = viewer.take_video();
    assert_eq!(ids(&video), publisher.video.made_ids());
    assert_in_sequence(&video);
}

/// A publisher of three encodings known by rid only.
fn simulcast(world: &mut World) -> (Publisher, Vec<Stream>) {
    let mut publisher = world.publish(0, GCM);
    let mut layers: Vec<Stream> = Vec::new();
    for rid in ["q", "h", "f"] {
        let mut stream = Stream::new(world, "s", true);
        stream.rid = Some(rid);
        layers.push(stream);
    }
    let mut spec = layers[0].spec(world.name());
    spec.encodings = layers.iter().map(Stream::encoding).collect();
    world
        .engine()
        .add_incoming_track(publisher.peer.id, spec)
        .unwrap();
    world.settle();
    publisher.next_number = 0;
    (publisher, layers)
}

#[test]
fn simulcast_encodings_are_told_apart_by_rid_and_their_retransmissions_by_repaired_rid() {
    let mut world = World::new(2, 10);
    let (mut publisher, mut layers) = simulcast(&mut world);
    let mut viewers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let viewer = world.viewer(1, GCM);
            world.attach_video(&viewer, layer.rendition);
            viewer
        })
        .collect();
    for frame in 0..10 {
        for layer in &mut layers {
            layer.timestamp = layer.timestamp.wrapping_add(3_000);
            let number = publisher.number();
            let packet = layer.packet(true, frame == 0, true, number);
            // Every third packet is lost and comes as a retransmission only.
            if frame % 3 == 1 {
                let lost = layer.sequence_number.wrapping_sub(1);
                let repair = layer.retransmission(lost, number).unwrap();
                publisher.peer.send_rtp(&repair);
            } else {
                publisher.peer.send_rtp(&packet);
            }
        }
        world.run_ms(33);
    }
    world.run_ms(1_000);
    for (viewer, layer) in viewers.iter_mut().zip(&layers) {
        assert_eq!(ids(&viewer.take_video()), layer.made_ids());
        assert_eq!(layer.counters.packets_restored.get(), 3);
        assert_eq!(
            (layer.counters.width.get(), layer.counters.height.get()),
            (640, 360)
        );
    }
    let events = world.events();
    for layer in &layers {
        let active = |event: &&Event| match event {
            Event::RenditionActive(of, Codec::Vp8) => *of == layer.rendition,
            _ => false,
        };
        assert_eq!(events.iter().filter(active).count(), 1);
    }
}

#[test]
fn an_ssrc_that_fits_no_track_or_more_than_one_is_dropped() {
    let mut world = World::new(1, 11);
    let mut publisher = world.publish(0, GCM);
    // A second camera: the same payload types, no declared SSRC.
    let mut camera = Stream::new(&mut world, "w", true);
    let name = world.name();
    let mut spec = camera.spec(name);
    (spec.encodings[0].ssrc, spec.encodings[0].rtx_ssrc) = (None, None);
    world
        .engine()
        .add_incoming_track(publisher.peer.id, spec)
        .unwrap();
    world.settle();
    let viewer = &mut world.viewer(0, GCM);
    world.attach_video(viewer, camera.rendition);

    camera.mid = "nobody";
    let packet = camera.packet(true, true, true, 1);
    publisher.peer.send_rtp(&packet);
    // Without any extension only the payload type is left, which two tracks have.
    let mut bare = camera.packet(true, true, true, 2);
    let mut header = common::peer::Rtp::parse(&bare, &bare).header;
    let payload = common::peer::Rtp::parse(&bare, &bare).payload;
    header.extension = false;
    header.extensions.clear();
    bare = webrtc_util::marshal::Marshal::marshal(&header)
        .unwrap()
        .to_vec();
    bare.extend(payload);
    publisher.peer.send_rtp(&bare);
    world.run_ms(20);
    assert_eq!(world.dropped(DropReason::UnknownSsrc), 2);

    camera.mid = "w";
    let packet = camera.packet(true, true, true, 3);
    publisher.peer.send_rtp(&packet);
    world.run_ms(20);
    let video = viewer.take_video();
    assert_eq!(video.len(), 1);
    assert_eq!(Some(&id_of(&video[0].payload)), camera.made_ids().last());
}

#[test]
fn a_removed_track_leaves_the_others_of_its_publisher_in_order() {
    let mut world = World::new(2, 12);
    let (mut publisher, mut viewers) = watched(&mut world);
    publisher.send_frame(true, 2);
    publisher.send_audio();
    world.run_ms(20);
    // The tracks behind it move up.
    let track = publisher.video_track;
    world
        .engine()
        .remove_incoming_track(publisher.peer.id, track)
        .unwrap();
    publisher.send_frame(false, 2);
    publisher.send_audio();
    world.run_ms(20);
    for viewer in &mut viewers {
        assert_eq!(viewer.take_video().len(), 2);
        assert_eq!(ids(&viewer.take_audio()), publisher.audio.made_ids());
    }
    assert_eq!(world.dropped(DropReason::UnknownSsrc), 2);
    let unknown = IncomingTrackId(u64::MAX);
    world
        .engine()
        .remove_incoming_track(publisher.peer.id, unknown)
        .unwrap();
    world.run_ms(20);
    assert_eq!(world.dropped(DropReason::StaleCommand), 1);
}
