//! Connectivity checks: what proves an address, where media goes, what ends it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::Publisher;
use common::peer::binding_request;
use common::viewing::{Viewer, ids};
use fanmill_engine::command::IceCredentials;
use fanmill_engine::counters::DropReason;
use fanmill_engine::event::Event;
use fanmill_engine::ids::ShardId;
use fanmill_engine::io::sim::SimPeer;
use fanmill_engine::limits::{
    COMMANDS_PER_TURN, MAX_ADDRESSES_PER_TRANSPORT, STRANGE_STUN_PER_SECOND,
};
use fanmill_engine::srtp::Profile;

const GCM: Profile = Profile::AeadAes128Gcm;

fn watched(world: &mut World) -> (Publisher, Viewer) {
    let mut publisher = world.publish(0, GCM);
    let viewer = world.watch(0, GCM, &publisher);
    publisher.send_frame(true, 1);
    world.run_ms(10);
    world.events();
    (publisher, viewer)
}

/// Gives the viewer another socket; returns the one it had.
fn move_to(viewer: &mut Viewer, socket: SimPeer) -> SimPeer {
    std::mem::replace(&mut viewer.peer.socket, socket)
}

fn new_socket(world: &mut World) -> SimPeer {
    let address = world.new_address();
    world.network.peer(address)
}

fn count(socket: &SimPeer) -> usize {
    std::iter::from_fn(|| socket.receive()).count()
}

#[test]
fn a_check_is_answered_with_the_address_it_came_from() {
    let mut world = World::new(1, 1);
    let mut peer = world.stranger(0, GCM);
    peer.check(false);
    world.run_ms(20);
    peer.receive();
    assert_eq!(peer.answers, [peer.socket.address()]);
    assert_eq!(world.counters(0).checks_answered.get(), 1);
    let address = peer.socket.address();
    assert!(matches!(
        world.events()[..],
        [Event::AddressSelected(id, selected)] if id == peer.id && selected == address
    ));
}

#[test]
fn a_wrong_password_is_told_and_changes_nothing() {
    let mut world = World::new(1, 2);
    let mut peer = world.stranger(0, GCM);
    let right = peer.ice.clone();
    peer.ice.local_pwd = "a password of somebody else".to_owned();
    peer.check(true);
    let request = peer.binding_request(true);
    world.run_ms(20);
    let events = world.events();
    let source = peer.socket.address();
    match &events[..] {
        [
            Event::Stun {
                shard,
                source: from,
                transport,
                packet,
            },
        ] => {
            assert_eq!(
                (*shard, *from, *transport),
                (ShardId(0), source, Some(peer.id))
            );
            assert_eq!(packet.bytes().len(), request.len());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.dropped(DropReason::StunIntegrity), 1);
    assert_eq!(world.counters(0).addresses.get(), 0);
    // Its other datagrams are a stranger's still.
    peer.send(&[22, 254, 253, 0]);
    world.run_ms(20);
    assert_eq!(world.dropped(DropReason::UnknownAddress), 1);
    peer.ice = right;
    peer.check(true);
    world.run_ms(20);
    peer.receive();
    assert_eq!(peer.answers.len(), 1);
}

#[test]
fn a_check_that_overtakes_its_transport_is_not_refused() {
    let mut world = World::new(1, 4);
    // More than one turn's commands.
    let mut peers: Vec<_> = (0..COMMANDS_PER_TURN + 1)
        .map(|_| world.stranger(0, GCM))
        .collect();
    let peer = peers.last_mut().unwrap();
    peer.check(true);
    world.run_ms(20);
    peer.receive();
    assert!(peer.answers.is_empty());
    assert_eq!(world.dropped(DropReason::StunUnknownUfrag), 1);
    assert!(world.events().is_empty());
    peer.check(true);
    world.run_ms(20);
    peer.receive();
    assert_eq!(peer.answers.len(), 1);
}

#[test]
fn strangers_cannot_flood_the_control_plane() {
    let mut world = World::new(1, 3);
    let socket = new_socket(&mut world);
    let server = world.sim.address(ShardId(0));
    let ice = IceCredentials {
        local_ufrag: "nobody".to_owned(),
        local_pwd: "nothing at all, twenty two".to_owned(),
    };
    for number in 0..1_000u32 {
        let mut id = [0; 12];
        id[..4].copy_from_slice(&number.to_be_bytes());
        socket.send(server, &binding_request(&ice, id, true));
    }
    world.run_ms(20);
    assert_eq!(world.events().len(), STRANGE_STUN_PER_SECOND as usize);
    assert_eq!(world.dropped(DropReason::StunUnknownUfrag), 1_000);
    let limited = 1_000 - u64::from(STRANGE_STUN_PER_SECOND);
    assert_eq!(world.dropped(DropReason::RateLimited), limited);
    assert_eq!(count(&socket), 0, "nobody is answered");
}

#[test]
fn a_peer_cannot_flood_the_control_plane() {
    let mut world = World::new(1, 4);
    let (_, mut viewer) = watched(&mut world);
    for _ in 0..1_000 {
        viewer.peer.send(&[22, 254, 253, 1, 2, 3]);
    }
    // Between two addresses, back and forth.
    let mut other = new_socket(&mut world);
    for _ in 0..1_000 {
        other = move_to(&mut viewer, other);
        viewer.peer.check(true);
    }
    world.run_ms(20);
    let events = world.events();
    let dtls = events
        .iter()
        .filter(|event| matches!(event, Event::Dtls(..)))
        .count();
    assert!((50..=200).contains(&dtls), "{dtls}");
    assert!(events.len() - dtls <= 100, "{}", events.len());
    // What it came to is told in the end.
    world.run_ms(3_000);
    let selected = world
        .events()
        .into_iter()
        .rev()
        .find_map(|event| match event {
            Event::AddressSelected(id, address) if id == viewer.peer.id => Some(address),
            _ => None,
        });
    assert_eq!(selected, Some(viewer.peer.socket.address()));
}

#[test]
fn media_follows_a_nominated_address_after_a_valid_check_and_not_before() {
    let mut world = World::new(1, 5);
    let (mut publisher, mut viewer) = watched(&mut world);
    viewer.take_video();
    let socket = new_socket(&mut world);
    let old = move_to(&mut viewer, socket);

    // Media from the new address proves nothing, a forged check neither.
    viewer.ask_for_keyframe();
    let ice = viewer.peer.ice.clone();
    viewer.peer.ice.local_pwd = "not the password, by no means".to_owned();
    viewer.peer.check(true);
    viewer.peer.ice = ice;
    world.run_ms(10);
    publisher.send_frame(false, 2);
    world.run_ms(10);
    viewer.peer.receive();
    assert_eq!((count(&old), viewer.peer.rtp.len()), (2, 0));
    assert_eq!(world.dropped(DropReason::UnknownAddress), 1);

    // A valid check without nomination proves the address, but media stays.
    viewer.peer.check(false);
    world.run_ms(10);
    publisher.send_frame(false, 2);
    world.run_ms(10);
    viewer.peer.receive();
    assert_eq!((count(&old), viewer.peer.rtp.len()), (2, 0));
    assert_eq!(viewer.peer.answers.len(), 2);

    viewer.peer.check(true);
    world.run_ms(10);
    publisher.send_frame(false, 2);
    world.run_ms(10);
    let video = viewer.take_video();
    assert_eq!(count(&old), 0);
    assert_eq!(ids(&video), publisher.video.made_ids()[5..]);
    world.run_ms(1_000);
    assert_eq!(viewer.peer.counters.address_changes.get(), 1);
}

#[test]
fn an_address_that_is_checked_no_more_is_left_without_nomination() {
    let mut world = World::new(1, 6);
    let (mut publisher, mut viewer) = watched(&mut world);
    let socket = new_socket(&mut world);
    let old = move_to(&mut viewer, socket);
    world.run_ms(7_100);
    count(&old);
    viewer.peer.check(false);
    world.run_ms(10);
    publisher.send_frame(false, 2);
    world.run_ms(10);
    assert_eq!((count(&old), viewer.take_video().len()), (0, 2));
}

#[test]
fn consent_is_kept_by_checks_from_any_address_and_expires_once() {
    let mut world = World::new(1, 7);
    world.consent_timeout_us = 5_000_000;
    let (_, mut viewer) = watched(&mut world);
    let id = viewer.peer.id;
    let expired = |world: &mut World| {
        let events = world.events().into_iter();
        events
            .filter(|event| matches!(event, Event::ConsentExpired(of) if *of == id))
            .count()
    };
    for _ in 0..4 {
        world.run_ms(4_000);
        viewer.peer.check(false);
        world.settle();
        assert_eq!(expired(&mut world), 0);
    }
    world.run_ms(20_000);
    assert_eq!(expired(&mut world), 1);
    viewer.peer.check(false);
    world.run_ms(20_000);
    assert_eq!(expired(&mut world), 1, "and once again after it came back");
}

#[test]
fn after_an_ice_restart_the_old_credentials_serve_until_the_new_ones_do() {
    let mut world = World::new(1, 8);
    let (_, mut viewer) = watched(&mut world);
    let old = viewer.peer.ice.clone();
    let new = IceCredentials {
        local_ufrag: "restarted".to_owned(),
        local_pwd: "a new password for the restart".to_owned(),
    };
    world
        .engine()
        .restart_ice(viewer.peer.id, new.clone())
        .unwrap();
    viewer.peer.check(false);
    world.run_ms(20);
    assert_eq!(world.counters(0).ufrags.get(), 3);
    viewer.peer.receive();
    assert_eq!(viewer.peer.answers.len(), 2);
    viewer.peer.ice = new;
    viewer.peer.check(true);
    world.run_ms(20);
    viewer.peer.receive();
    assert_eq!(viewer.peer.answers.len(), 3);
    assert_eq!(world.counters(0).ufrags.get(), 2);
    viewer.peer.ice = old;
    viewer.peer.check(true);
    world.run_ms(20);
    viewer.peer.receive();
    assert_eq!(viewer.peer.answers.len(), 3);
    assert_eq!(world.dropped(DropReason::StunUnknownUfrag), 1);
}

#[test]
fn an_address_belongs_to_whom_it_was_proven_for_last() {
    let mut world = World::new(1, 9);
    let (mut publisher, mut viewer) = watched(&mut world);
    let mut heir = world.watch(0, GCM, &publisher);
    viewer.take_video();
    let spare = new_socket(&mut world);
    let address = move_to(&mut viewer, spare);
    move_to(&mut heir, address);
    heir.peer.check(true);
    publisher.send_frame(true, 1);
    world.run_ms(10);
    heir.ask_for_keyframe();
    world.run_ms(1_000);
    heir.peer.unreadable.clear();
    assert_eq!(heir.take_video().len(), 1);
    assert_eq!(
        heir.video.counters.keyframe_requests.get(),
        1,
        "its feedback is its own"
    );
    assert_eq!(world.dropped(DropReason::SrtcpAuthentication), 0);

    // The former owner goes: the heir keeps the address.
    world.engine().remove_transport(viewer.peer.id).unwrap();
    world.settle();
    heir.ask_for_keyframe();
    world.run_ms(1_000);
    assert_eq!(heir.video.counters.keyframe_requests.get(), 2);
}

#[test]
fn a_peer_has_so_many_addresses_at_most_and_keeps_the_selected_one() {
    let mut world = World::new(1, 10);
    let (mut publisher, mut viewer) = watched(&mut world);
    viewer.take_video();
    let mut sockets = Vec::new();
    for _ in 0..3 * MAX_ADDRESSES_PER_TRANSPORT {
        let socket = new_socket(&mut world);
        sockets.push(move_to(&mut viewer, socket));
        viewer.peer.check(false);
        world.settle();
    }
    world.run_ms(20);
    let published = 1;
    let addresses = world.counters(0).addresses.get();
    assert_eq!(addresses, MAX_ADDRESSES_PER_TRANSPORT as u64 + published);
    publisher.send_frame(false, 2);
    world.run_ms(20);
    assert_eq!(count(&sockets[0]), 2, "media goes where it went");
    viewer.peer.socket = sockets.remove(0);
    viewer.ask_for_keyframe();
    world.run_ms(1_000);
    assert_eq!(
        viewer.video.counters.keyframe_requests.get(),
        1,
        "and feedback comes from there"
    );
}

#[test]
fn dtls_of_a_proven_address_is_told_and_answered_there() {
    let mut world = World::new(2, 11);
    let mut peer = world.stranger(1, GCM);
    world.engine().send_datagram(peer.id, &[22, 1]).unwrap();
    world.run_ms(20);
    assert_eq!(world.dropped(DropReason::NoAddress), 1);
    peer.check(false);
    peer.send(&[22, 254, 253, 9]);
    world.settle();
    let told = world.events();
    let dtls = told.iter().find_map(|event| match event {
        Event::Dtls(id, packet) if *id == peer.id => Some(packet.bytes()),
        _ => None,
    });
    assert_eq!(dtls, Some(&[22, 254, 253, 9][..]));
    world
        .engine()
        .send_datagram(peer.id, &[22, 1, 2, 3])
        .unwrap();
    let nowhere = peer.socket.address();
    world
        .engine()
        .send_to(ShardId(1), nowhere, &[22, 4])
        .unwrap();
    world.settle();
    peer.receive();
    assert_eq!(peer.unreadable, [vec![22, 1, 2, 3], vec![22, 4]]);
}
