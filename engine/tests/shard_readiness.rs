//! A viewer gets media only when it can be sealed for it and it consents, and then from a
//! keyframe on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::viewing::{assert_in_sequence, ids};
use fanmill_engine::event::Event;
use fanmill_engine::srtp::Profile;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::sender_report::SenderReport;

const GCM: Profile = Profile::AeadAes128Gcm;

#[test]
fn a_viewer_attached_before_its_handshake_starts_with_a_keyframe_asked_for_after_it() {
    let mut world = World::without_cache(2, 1);
    let mut publisher = world.publish(0, GCM);
    let peer = world.stranger(1, GCM);
    let mut viewer = world.viewer_on(peer);
    world.attach(&viewer, &publisher);
    publisher.send_frame(true, 3);
    world.run_ms(700);
    assert!(
        publisher
            .peer
            .take_rtcp::<PictureLossIndication>()
            .is_empty(),
        "a keyframe would be of no use yet"
    );

    viewer.peer.check(true);
    world.run_ms(50);
    world.give_keys(&viewer.peer);
    publisher.send_frame(false, 3);
    world.run_ms(50);
    assert_eq!(publisher.peer.take_rtcp::<PictureLossIndication>().len(), 1);
    publisher.send_frame(true, 3);
    publisher.send_frame(false, 3);
    world.run_ms(50);
    let video = viewer.take_video();
    assert_eq!(ids(&video), publisher.video.made_ids()[6..]);
    assert_in_sequence(&video);
    assert_eq!(world.drops(), []);
}

#[test]
fn nothing_is_sent_before_an_address_is_proven_though_there_are_keys() {
    let mut world = World::new(1, 2);
    let mut publisher = world.publish(0, GCM);
    let peer = world.stranger(0, GCM);
    world.give_keys(&peer);
    let viewer = world.viewer_on(peer);
    world.attach(&viewer, &publisher);
    let before = world.network.stats().sent;
    publisher.send_frame(true, 3);
    world.settle();
    assert_eq!(
        world.network.stats().sent,
        before + 3,
        "only what the publisher sends"
    );
}

#[test]
fn a_peer_whose_consent_expired_gets_nothing_until_it_checks_again() {
    let mut world = World::without_cache(2, 3);
    let mut publisher = world.publish(0, GCM);
    world.consent_timeout_us = 5_000_000;
    let mut viewer = world.watch(1, GCM, &publisher);
    publisher.send_frame(true, 2);
    world.run_ms(4_000);
    assert_eq!(viewer.take_video().len(), 2);
    world.run_ms(2_500);
    let id = viewer.peer.id;
    let expired = |event: &Event| matches!(event, Event::ConsentExpired(of) if *of == id);
    assert_eq!(
        world.events().iter().filter(|event| expired(event)).count(),
        1
    );
    viewer.peer.receive();
    viewer.peer.rtcp.clear();

    // Longer than half the sequence number space: the roll-over counter must not fall behind.
    for _ in 0..400 {
        publisher.video.payload_len = 50;
        publisher.video.made.clear();
        publisher.send_frame(true, 100);
        publisher.send_audio();
        world.run_ms(5);
    }
    world.run_ms(2_000);
    viewer.peer.receive();
    assert!(viewer.peer.rtp.is_empty() && viewer.peer.take_rtcp::<SenderReport>().is_empty());
    assert!(
        world.events().iter().all(|event| !expired(event)),
        "told once"
    );

    viewer.peer.check(false);
    world.run_ms(10);
    publisher.peer.take_rtcp::<PictureLossIndication>();
    world.run_ms(500);
    assert_eq!(publisher.peer.take_rtcp::<PictureLossIndication>().len(), 1);
    publisher.send_frame(true, 2);
    publisher.send_audio();
    world.run_ms(10);
    let video = viewer.take_video();
    let made = publisher.video.made_ids();
    assert_eq!(ids(&video), made[made.len() - 2..]);
    assert_eq!(viewer.take_audio().len(), 1);
    assert!(viewer.peer.unreadable.is_empty());
}
