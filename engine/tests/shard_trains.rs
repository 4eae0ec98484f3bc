//! When packets leave, and in how many sends: frames that come in packet by packet.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::Publisher;
use common::viewing::{Viewer, assert_in_sequence, audio_payloads, id, ids};
use fanmill_engine::Forwarding;
use fanmill_engine::ids::ShardId;
use fanmill_engine::limits::DEFAULT_TRAIN_WAIT_US;
use fanmill_engine::srtp::Profile;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

const PROFILE: Profile = Profile::AeadAes128Gcm;

/// Between two packets of a frame, as browsers send them.
const GAP_US: u64 = 60;

/// A publisher, and one viewer on each shard who has seen its first keyframe.
fn broadcast(shards: u16) -> (World, Publisher, Vec<Viewer>) {
    let mut world = World::new(shards, 1);
    let mut publisher = world.publish(0, PROFILE);
    let mut viewers: Vec<_> = (0..shards)
        .map(|shard| world.watch(shard, PROFILE, &publisher))
        .collect();
    publisher.send_frame(true, 3);
    world.run_ms(20);
    for viewer in &mut viewers {
        assert_eq!(viewer.take_video().len(), 3);
    }
    (world, publisher, viewers)
}

/// Sends of a shard that carried media so far.
fn sends(world: &mut World, shard: u16) -> u64 {
    // Counters are published at ticks.
    world.run_ms(11);
    world.counters(shard).sends.get()
}

#[test]
fn a_frame_that_comes_packet_by_packet_leaves_in_one_send_with_its_last_packet() {
    let (mut world, mut publisher, mut viewers) = broadcast(2);
    let before: Vec<_> = (0..2).map(|shard| sends(&mut world, shard)).collect();
    let frame = publisher.make_frame(false, 9);
    for (place, packet) in frame.iter().enumerate() {
        publisher.peer.send_rtp(packet);
        world.settle();
        let received = viewers.iter_mut().map(|viewer| viewer.take_video().len());
        let expected = if place + 1 == frame.len() { 9 } else { 0 };
        assert_eq!(received.collect::<Vec<_>>(), [expected; 2], "after {place}");
        world.sim.run_for(GAP_US);
    }
    for (shard, before) in before.into_iter().enumerate() {
        assert_eq!(sends(&mut world, shard as u16) - before, 1, "shard {shard}");
    }
}

#[test]
fn a_frame_whose_end_is_lost_leaves_when_its_time_is_up() {
    let (mut world, mut publisher, mut viewers) = broadcast(2);
    let frame = publisher.make_frame(false, 4);
    let sent_us = world.now_us();
    for packet in &frame[..3] {
        publisher.peer.send_rtp(packet);
        world.sim.run_for(GAP_US);
    }
    let spent_us = world.now_us() - sent_us;
    world.sim.run_for(DEFAULT_TRAIN_WAIT_US - spent_us - 1);
    for viewer in &mut viewers {
        assert_eq!(viewer.take_video().len(), 0);
    }
    world.sim.run_for(1);
    for viewer in &mut viewers {
        assert_eq!(viewer.take_video().len(), 3);
    }
    // What was missing comes, and waits for nothing.
    publisher.peer.send_rtp(&frame[3]);
    world.settle();
    for viewer in &mut viewers {
        assert_eq!(viewer.take_video().len(), 1);
    }
}

#[test]
fn a_packet_out_of_order_waits_for_nothing() {
    let (mut world, mut publisher, mut viewers) = broadcast(1);
    let frame = publisher.make_frame(false, 3);
    for place in [0, 2, 1] {
        publisher.peer.send_rtp(&frame[place]);
        world.settle();
    }
    assert_eq!(viewers[0].take_video().len(), 3);
}

#[test]
fn audio_leaves_at_once() {
    let (mut world, mut publisher, mut viewers) = broadcast(2);
    publisher.send_audio();
    world.settle();
    for viewer in &mut viewers {
        assert_eq!(viewer.take_audio().len(), 1);
    }
}

#[test]
fn two_frames_that_meet_leave_in_order_and_none_is_held_back() {
    let (mut world, mut publisher, mut viewers) = broadcast(1);
    publisher.send_frame(false, 2);
    let next = publisher.make_frame(false, 2);
    publisher.peer.send_rtp(&next[0]);
    world.settle();
    publisher.peer.send_rtp(&next[1]);
    world.settle();
    let video = viewers[0].take_video();
    assert_in_sequence(&video);
    assert_eq!(ids(&video), publisher.video.made_ids()[3..]);
}

#[test]
fn where_short_trains_do_not_pay_none_are_formed() {
    let (mut world, mut publisher, mut viewers) = broadcast(1);
    let socket = world.sim.socket(ShardId(0)).unwrap();
    socket.set_least_train(Some(4));
    let before = sends(&mut world, 0);
    publisher.send_frame(false, 3);
    assert_eq!(sends(&mut world, 0) - before, 3);
    publisher.send_frame(false, 4);
    assert_eq!(sends(&mut world, 0) - before, 4);
    assert_in_sequence(&viewers[0].take_video());
}

#[test]
fn where_there_are_no_trains_nothing_waits_and_nothing_is_padded() {
    let (mut world, mut publisher, mut viewers) = broadcast(1);
    world.sim.socket(ShardId(0)).unwrap().set_least_train(None);
    for packet in frame_of(&mut publisher, &[1099, 1100, 1098]) {
        publisher.peer.send_rtp(&packet);
        world.settle();
        let video = viewers[0].take_video();
        assert_eq!(video.len(), 1);
        assert!(!video[0].header.padding);
    }
}

#[test]
fn audio_that_may_wait_leaves_in_pairs_made_equal() {
    let forwarding = Forwarding {
        audio_train_wait_us: 20_000,
        ..Forwarding::default()
    };
    let mut world = World::forwarding(1, forwarding);
    let mut publisher = world.publish(0, PROFILE);
    let mut viewer = world.viewer(0, PROFILE);
    let mut payloads = audio_payloads();
    payloads.iter_mut().flatten().for_each(|p| p.nack = false);
    let audio = publisher.audio.rendition;
    world
        .engine()
        .attach(viewer.audio.id, audio, payloads)
        .unwrap();
    let before = sends(&mut world, 0);
    for bytes in [80, 83, 81, 80] {
        publisher.audio.payload_len = bytes;
        publisher.send_audio();
        world.run_ms(15);
    }
    world.run_ms(20);
    assert_eq!(sends(&mut world, 0) - before, 2);
    let audio = viewer.take_audio();
    let sizes: Vec<_> = audio.iter().map(|packet| packet.payload.len()).collect();
    assert_eq!(sizes, [80, 83, 81, 80]);
    let padded: Vec<_> = audio.iter().map(|packet| packet.header.padding).collect();
    assert_eq!(padded, [true, false, false, false]);
    assert!(
        audio[0].number(id::TRANSPORT_CC).is_some(),
        "it is never resent"
    );
    // Who did not negotiate to ask again is not answered.
    let (ssrc, number) = (viewer.audio.ssrc, audio[0].header.sequence_number);
    viewer.peer.send_rtcp(TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: ssrc,
        nacks: nack_pairs_from_sequence_numbers(&[number]),
    });
    world.run_ms(1100);
    assert_eq!(viewer.take_audio().len(), 0);
    assert_eq!(viewer.audio.counters.retransmissions_refused.get(), 1);
}

/// The next frame, whose packets are of these sizes.
fn frame_of(publisher: &mut Publisher, payload_bytes: &[usize]) -> Vec<Vec<u8>> {
    publisher.video.timestamp = publisher.video.timestamp.wrapping_add(3_000);
    let last = payload_bytes.len() - 1;
    let mut frame = Vec::new();
    for (place, bytes) in payload_bytes.iter().enumerate() {
        publisher.video.payload_len = *bytes;
        let number = publisher.number();
        frame.push(
            publisher
                .video
                .packet(place == 0, false, place == last, number),
        );
    }
    frame
}

#[test]
fn packets_made_equal_by_padding_carry_what_came_and_are_resent_without_it() {
    for profile in Profile::ALL {
        let mut world = World::new(1, 2);
        let mut publisher = world.publish(0, profile);
        let mut viewer = world.watch(0, profile, &publisher);
        publisher.send_frame(true, 1);
        world.run_ms(20);
        viewer.take_video();
        let before = sends(&mut world, 0);
        let sizes = [1099, 1100, 1098, 1100, 1099];
        for packet in frame_of(&mut publisher, &sizes) {
            publisher.peer.send_rtp(&packet);
        }
        world.settle();
        let video = viewer.take_video();
        let payloads: Vec<_> = video.iter().map(|packet| packet.payload.len()).collect();
        assert_eq!(payloads, sizes, "what the viewer's parser leaves of them");
        let padded: Vec<_> = video.iter().map(|packet| packet.header.padding).collect();
        assert_eq!(padded, [true, false, true, false, false], "not the last");
        let sealed: Vec<_> = video.iter().map(|packet| packet.sealed.len()).collect();
        assert!(sealed[..4].iter().all(|bytes| *bytes == sealed[1]));
        assert_eq!(sends(&mut world, 0) - before, 1);
        let counters = world.counters(0);
        assert_eq!(counters.packets_padded.get(), 2);
        assert_eq!(counters.padding_bytes.get(), 1 + 2);

        let sequence_numbers: Vec<_> = video.iter().map(|p| p.header.sequence_number).collect();
        viewer.nack(&sequence_numbers);
        world.settle();
        let resent = viewer.take_rtx();
        assert_eq!(resent.len(), sizes.len());
        for (original, again) in video.iter().zip(&resent) {
            assert!(!again.header.padding);
            let number = original.header.sequence_number.to_be_bytes();
            assert_eq!(again.payload[..2], number);
            assert_eq!(again.payload[2..], original.payload);
        }
    }
}

#[test]
fn a_viewer_without_retransmission_format_is_sent_no_padding() {
    let mut world = World::new(1, 2);
    let mut publisher = world.publish(0, PROFILE);
    let mut viewer = world.viewer(0, PROFILE);
    viewer.rtx = false;
    world.attach(&viewer, &publisher);
    publisher.send_frame(true, 1);
    for packet in frame_of(&mut publisher, &[1099, 1100, 1098, 1100]) {
        publisher.peer.send_rtp(&packet);
    }
    world.run_ms(20);
    let video = viewer.take_video();
    assert_eq!(video.len(), 5);
    assert!(video.iter().all(|packet| !packet.header.padding));
    assert_eq!(world.counters(0).packets_padded.get(), 0);
}

#[test]
fn viewers_sealed_side_by_side_receive_what_others_receive() {
    let profile = Profile::Aes128CmSha1_80;
    // Two companies and some more; one too few for a company; with another layout among them.
    for count in [2, 3, 16, 37] {
        let mut world = World::new(1, 3);
        let mut publisher = world.publish(0, PROFILE);
        let mut viewers: Vec<_> = (0..count)
            .map(|_| world.watch(0, profile, &publisher))
            .collect();
        let mut other = world.viewer(0, profile);
        other.rtx = false;
        world.attach(&other, &publisher);
        viewers.insert(count / 2, other);
        viewers.push(world.watch(0, PROFILE, &publisher));
        publisher.send_frame(true, 2);
        // More packets than one stretch of the send buffer has room for.
        publisher.send_frame(false, 60);
        for packet in frame_of(&mut publisher, &[1099, 1100, 1098, 700]) {
            publisher.peer.send_rtp(&packet);
        }
        publisher.send_audio();
        world.run_ms(20);
        for viewer in &mut viewers {
            let video = viewer.take_video();
            assert_in_sequence(&video);
            assert_eq!(ids(&video), publisher.video.made_ids());
            assert_eq!(ids(&viewer.take_audio()), publisher.audio.made_ids());
            assert!(viewer.peer.unreadable.is_empty());
        }
        assert_eq!(world.drops(), []);
        let packets = viewers.len() as u64 * (2 + 60 + 4 + 1);
        assert_eq!(world.counters(0).packets_sent.get(), packets);
    }
}
