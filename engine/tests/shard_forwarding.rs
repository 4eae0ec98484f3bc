//! What a viewer gets of what a publisher sends when nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::Publisher;
use common::peer::Rtp;
use common::viewing::{
    AUDIO_PAYLOAD_TYPE, VIDEO_PAYLOAD_TYPE, Viewer, assert_in_sequence, assert_same_timing, id, ids,
};
use fanmill_engine::srtp::Profile;

/// A keyframe and what follows it in a second, with sound.
fn one_second(world: &mut World, publisher: &mut Publisher, keyframe: bool) {
    for frame in 0..30 {
        publisher.send_frame(keyframe && frame == 0, 1 + frame % 5);
        publisher.send_audio();
        world.run_ms(33);
    }
}

fn assert_video(video: &[Rtp], viewer: &Viewer) {
    let numbers: Vec<u64> = video
        .iter()
        .map(|packet| packet.number(id::TRANSPORT_CC).unwrap())
        .collect();
    let send_times: Vec<u64> = video
        .iter()
        .map(|packet| packet.number(id::ABS_SEND_TIME).unwrap())
        .collect();
    assert!(send_times.is_sorted() && send_times.first() < send_times.last());
    assert!(numbers.is_sorted_by(|a, b| a < b));
    for packet in video {
        assert_eq!(packet.header.ssrc, viewer.video.ssrc);
        assert_eq!(packet.header.payload_type, VIDEO_PAYLOAD_TYPE);
        assert_eq!(packet.extension(id::MID), Some(b"0".to_vec()));
        assert_eq!(packet.extension(id::ORIENTATION), Some(vec![3]));
        assert_eq!(
            packet.extension(id::PLAYOUT_DELAY),
            Some(vec![0, 0x10, 0x20])
        );
        let capture_time = vec![8, 7, 6, 5, 4, 3, 2, 1];
        assert_eq!(packet.extension(id::CAPTURE_TIME), Some(capture_time));
        let dependency = packet.extension(id::DEPENDENCY).unwrap();
        assert_eq!((dependency.len(), dependency[1]), (6, 0));
        assert_eq!(packet.header.extensions.len(), 7, "and nothing unknown");
    }
}

fn assert_audio(audio: &[Rtp], viewer: &Viewer) {
    for packet in audio {
        assert_eq!(packet.header.ssrc, viewer.audio.ssrc);
        assert_eq!(packet.header.payload_type, AUDIO_PAYLOAD_TYPE);
        assert_eq!(packet.extension(id::MID), Some(b"1".to_vec()));
        assert_eq!(packet.extension(id::AUDIO_LEVEL), Some(vec![0x80 | 30]));
        // Without RTX a packet may be resent as it was, so it bears no transport-wide number.
        assert_eq!(packet.header.extensions.len(), 3, "and nothing unknown");
    }
}

#[test]
fn every_packet_reaches_viewers_of_every_profile_on_every_shard_once_and_in_order() {
    let mut world = World::new(2, 1);
    let mut publisher = world.publish(0, Profile::AeadAes128Gcm);
    let mut viewers: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|shard| Profile::ALL.map(|profile| (shard, profile)))
        .map(|(shard, profile)| world.watch(shard, profile, &publisher))
        .collect();
    one_second(&mut world, &mut publisher, true);
    for viewer in &mut viewers {
        let (video, audio) = (viewer.take_video(), viewer.take_audio());
        assert_eq!(ids(&video), publisher.video.made_ids());
        assert_eq!(ids(&audio), publisher.audio.made_ids());
        assert_in_sequence(&video);
        assert_in_sequence(&audio);
        assert_same_timing(&video, &publisher.video);
        assert_same_timing(&audio, &publisher.audio);
        assert_video(&video, viewer);
        assert_audio(&audio, viewer);
        let markers = |packets: &[Rtp]| packets.iter().filter(|p| p.header.marker).count();
        assert_eq!(markers(&video), 30, "one at the end of each frame");
        assert_eq!(markers(&audio), 0);
        assert!(viewer.peer.rtp.is_empty() && viewer.peer.unreadable.is_empty());
    }
    assert_eq!(world.drops(), []);
}

#[test]
fn publishers_of_every_profile_are_opened() {
    for profile in Profile::ALL {
        let mut world = World::new(2, 2);
        let mut publisher = world.publish(1, profile);
        let mut viewer = world.watch(0, Profile::AeadAes128Gcm, &publisher);
        one_second(&mut world, &mut publisher, true);
        assert_eq!(ids(&viewer.take_video()), publisher.video.made_ids());
        assert_eq!(ids(&viewer.take_audio()), publisher.audio.made_ids());
    }
}

#[test]
fn datagrams_the_kernel_coalesced_are_forwarded_one_by_one() {
    let mut world = World::new(2, 3);
    let mut publisher = world.publish(0, Profile::AeadAes128Gcm);
    let home = publisher.peer.shard;
    world.sim.socket(home).unwrap().set_coalescing(true);
    let mut viewer = world.watch(1, Profile::AeadAes128Gcm, &publisher);
    one_second(&mut world, &mut publisher, true);
    let video = viewer.take_video();
    assert_eq!(ids(&video), publisher.video.made_ids());
    assert_in_sequence(&video);
}

#[test]
fn sequence_numbers_wrap_on_both_sides_without_a_break() {
    let mut world = World::new(1, 4);
    let mut publisher = world.publish(0, Profile::AeadAes128Gcm);
    publisher.video.sequence_number = 65_000;
    publisher.video.payload_len = 100;
    let mut viewer = world.watch(0, Profile::Aes128CmSha1_80, &publisher);
    let mut video = Vec::new();
    publisher.send_frame(true, 1);
    for _ in 0..700 {
        publisher.video.made.clear();
        publisher.send_frame(false, 100);
        world.run_ms(1);
        video.extend(viewer.take_video());
    }
    assert_eq!(ids(&video), publisher.video.made_ids());
    assert_in_sequence(&video);
    assert!(viewer.peer.unreadable.is_empty());
}

#[test]
fn a_viewer_sees_only_the_extensions_it_negotiated_and_no_codec_it_did_not() {
    let mut world = World::new(1, 5);
    let mut publisher = world.publish(0, Profile::AeadAes128Gcm);
    let peer = world.connect(0, Profile::AeadAes128Gcm);
    let mut viewer = Viewer {
        video: common::viewing::Watched::new(&mut world),
        audio: common::viewing::Watched::new(&mut world),
        peer,
        rtx: true,
    };
    let mut plain = viewer.video.spec("0");
    plain.extensions = Default::default();
    let audio = viewer.audio.spec("1");
    world
        .engine()
        .add_outgoing_track(viewer.peer.id, plain)
        .unwrap();
    world
        .engine()
        .add_outgoing_track(viewer.peer.id, audio)
        .unwrap();
    world.attach(&viewer, &publisher);
    let audio_rendition = publisher.audio.rendition;
    world
        .engine()
        .attach(viewer.audio.id, audio_rendition, vec![None])
        .unwrap();
    world.settle();
    one_second(&mut world, &mut publisher, true);
    world.run_ms(1000);
    let video = viewer.take_video();
    assert_eq!(ids(&video), publisher.video.made_ids());
    assert!(video.iter().all(|packet| !packet.header.extension));
    assert_eq!(viewer.take_audio().len(), 0);
    assert_eq!(viewer.audio.counters.codec_mismatch.get(), 30);
}

#[test]
fn packets_padded_to_one_size_carry_what_they_did_and_come_again_unpadded() {
    let mut world = World::new(2, 7);
    let mut publisher = world.publish(0, Profile::AeadAes128Gcm);
    let mut viewers = [0, 1].map(|shard| world.watch(shard, Profile::AeadAes128Gcm, &publisher));
    for len in [897, 900, 890, 899] {
        publisher.video.payload_len = len;
        let number = publisher.number();
        let packet = publisher.video.packet(true, true, len == 899, number);
        publisher.peer.send_rtp(&packet);
    }
    world.run_ms(10);
    for viewer in &mut viewers {
        let video = viewer.take_video();
        assert_eq!(ids(&video), publisher.video.made_ids());
        assert_in_sequence(&video);
        let shape = |packet: &Rtp| (packet.header.padding, packet.payload.len());
        let shapes: Vec<_> = video.iter().map(shape).collect();
        assert_eq!(
            shapes,
            [(true, 897), (false, 900), (true, 890), (false, 899)]
        );
        let sealed: Vec<_> = video.iter().map(|packet| packet.sealed.len()).collect();
        assert!(
            sealed[..3].iter().all(|len| *len == sealed[1]),
            "{sealed:?}"
        );

        viewer.nack(&[video[2].header.sequence_number]);
        world.run_ms(10);
        let rtx = viewer.take_rtx();
        assert_eq!(rtx.len(), 1);
        assert_eq!(rtx[0].payload[2..], video[2].payload[..]);
    }
}

#[test]
fn padding_is_taken_off_and_padding_only_packets_keep_the_numbering() {
    let mut world = World::new(1, 6);
    let mut publisher = world.publish(0, Profile::AeadAes128Gcm);
    let mut viewer = world.watch(0, Profile::AeadAes128Gcm, &publisher);
    publisher.send_frame(true, 2);
    let number = publisher.number();
    let probe = publisher.video.plain(false, number, &[], 200);
    publisher.peer.send_rtp(&probe);
    let number = publisher.number();
    let padded = publisher.video.plain(false, number, &[0x00, 1, 2, 3], 255);
    publisher.peer.send_rtp(&padded);
    publisher.send_frame(false, 2);
    world.run_ms(10);
    let video = viewer.take_video();
    let payloads: Vec<_> = video.iter().map(|packet| packet.payload.len()).collect();
    assert_eq!(payloads, [900, 900, 0, 4, 900, 900]);
    assert_in_sequence(&video);
    assert!(video.iter().all(|packet| !packet.header.padding));
}
