//! Redundant audio (RFC 2198): passed on to viewers who negotiated it, and left out for the others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::{Publisher, RED_PAYLOAD_TYPE};
use common::peer::Rtp;
use common::viewing::{AUDIO_PAYLOAD_TYPE, Viewer, assert_in_sequence};
use fanmill_engine::Forwarding;
use fanmill_engine::command::{OutgoingPayload, PayloadMap};
use fanmill_engine::counters::DropReason;
use fanmill_engine::srtp::Profile;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

const GCM: Profile = Profile::AeadAes128Gcm;

/// The publisher's, and those of the viewers, who name nothing alike.
const OPUS: u8 = 111;
const VIEWERS_RED: u8 = 35;

fn payloads(red: bool, nack: bool) -> PayloadMap {
    vec![Some(OutgoingPayload {
        payload_type: AUDIO_PAYLOAD_TYPE,
        rtx_payload_type: None,
        red_payload_type: red.then_some(VIEWERS_RED),
        nack,
    })]
}

/// A payload of these blocks, the last of which is the primary one, named by this payload type.
fn redundant(blocks: &[&[u8]], payload_type: u8) -> Vec<u8> {
    let (primary, redundant) = blocks.split_last().unwrap();
    let mut payload = Vec::new();
    for (place, block) in redundant.iter().enumerate() {
        let offset = 960 * (redundant.len() - place) as u32;
        let fields = offset << 10 | block.len() as u32;
        payload.push(0x80 | payload_type);
        payload.extend(&fields.to_be_bytes()[1..]);
    }
    payload.push(payload_type);
    redundant.iter().for_each(|block| payload.extend(*block));
    payload.extend(*primary);
    payload
}

/// Sends the latest blocks as redundant audio, or the last one plain.
fn send(publisher: &mut Publisher, blocks: &[&[u8]], red: bool) {
    let number = publisher.number();
    let audio = &mut publisher.audio;
    audio.timestamp = audio.timestamp.wrapping_add(960);
    let payload = match red {
        true => redundant(blocks, OPUS),
        false => blocks.last().unwrap().to_vec(),
    };
    audio.payload_type = if red { RED_PAYLOAD_TYPE } else { OPUS };
    let packet = audio.plain(false, number, &payload, 0);
    publisher.peer.send_rtp(&packet);
}

/// Viewers on both shards, who take redundant audio and who do not.
fn viewers(world: &mut World, publisher: &Publisher, nack: bool) -> Vec<(Viewer, bool)> {
    let mut viewers = Vec::new();
    for (shard, red) in [(0, true), (0, false), (1, true), (1, false)] {
        let viewer = world.viewer(shard, GCM);
        let (id, rendition) = (viewer.audio.id, publisher.audio.rendition);
        let engine = world.engine();
        engine.attach(id, rendition, payloads(red, nack)).unwrap();
        viewers.push((viewer, red));
    }
    world.settle();
    viewers
}

const BLOCKS: [&[u8]; 4] = [&[1; 20], &[2; 33], &[3; 9], &[4; 27]];

/// What came is what was sent, in the form that the viewer takes.
fn check(packets: &[Rtp], red: bool) {
    assert_in_sequence(packets);
    let seen: Vec<_> = packets
        .iter()
        .map(|packet| (packet.header.payload_type, packet.payload.clone()))
        .collect();
    let plain = |block: usize| (AUDIO_PAYLOAD_TYPE, BLOCKS[block].to_vec());
    let with = |blocks: &[&[u8]]| (VIEWERS_RED, redundant(blocks, AUDIO_PAYLOAD_TYPE));
    let expected = match red {
        true => vec![
            with(&BLOCKS[..1]),
            with(&BLOCKS[..2]),
            with(&BLOCKS[..3]),
            plain(3),
        ],
        false => (0..4).map(plain).collect(),
    };
    assert_eq!(seen, expected);
}

fn send_all(world: &mut World, publisher: &mut Publisher) {
    for last in 1..=4 {
        send(publisher, &BLOCKS[..last], last < 4);
        world.run_ms(20);
    }
    world.run_ms(30);
}

#[test]
fn viewers_get_the_redundancy_that_they_negotiated() {
    let mut world = World::new(2, 1);
    let mut publisher = world.publish(0, GCM);
    let mut viewers = viewers(&mut world, &publisher, true);
    send_all(&mut world, &mut publisher);
    for (viewer, red) in &mut viewers {
        let packets = viewer.take_audio();
        check(&packets, *red);
        // And again, to the last byte.
        let numbers: Vec<u16> = packets.iter().map(|p| p.header.sequence_number).collect();
        let media_ssrc = viewer.audio.ssrc;
        viewer.peer.send_rtcp(TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc,
            nacks: nack_pairs_from_sequence_numbers(&numbers),
        });
        world.run_ms(20);
        let again = viewer.take_audio();
        assert_eq!(again.len(), 4);
        for (first, again) in packets.iter().zip(&again) {
            assert_eq!(first.sealed, again.sealed);
        }
    }
}

#[test]
fn redundant_audio_travels_in_trains_like_any_other() {
    let forwarding = Forwarding {
        audio_train_wait_us: 20_000,
        ..Forwarding::default()
    };
    let mut world = World::forwarding(2, forwarding);
    let mut publisher = world.publish(0, GCM);
    let mut viewers = viewers(&mut world, &publisher, false);
    for last in 1..=4 {
        send(&mut publisher, &BLOCKS[..last], last < 4);
        world.run_ms(2);
    }
    world.run_ms(1_000);
    let mut padded = 0;
    for (viewer, red) in &mut viewers {
        let packets = viewer.take_audio();
        padded += packets.iter().filter(|p| p.header.padding).count();
        check(&packets, *red);
    }
    assert!(padded > 4, "{padded} were made equal");
}

#[test]
fn what_is_no_redundant_audio_is_dropped() {
    let mut world = World::new(2, 3);
    let mut publisher = world.publish(0, GCM);
    let mut viewers = viewers(&mut world, &publisher, true);
    publisher.audio.payload_type = RED_PAYLOAD_TYPE;
    // A block longer than the packet, one of another format, and nothing.
    for payload in [&[0x80 | OPUS, 0, 3, 0xff, OPUS, 1][..], &[112, 1, 2], &[]] {
        let number = publisher.number();
        let packet = publisher.audio.plain(false, number, payload, 0);
        publisher.peer.send_rtp(&packet);
    }
    world.run_ms(20);
    assert_eq!(world.dropped(DropReason::RtpMalformed), 3);
    assert!(viewers.iter_mut().all(|(v, _)| v.take_audio().is_empty()));
}
