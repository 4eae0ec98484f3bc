//! Garbage, forgeries and ill-meant peers, amid live media that must not suffer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::Publisher;
use common::viewing::{Viewer, assert_in_sequence, ids};
use fanmill_engine::counters::DropReason;
use fanmill_engine::event::Event;
use fanmill_engine::ids::ShardId;
use fanmill_engine::io::sim::SimPeer;
use fanmill_engine::srtp::Profile;
use proptest::prelude::*;
use proptest::sample::Index;

const GCM: Profile = Profile::AeadAes128Gcm;

/// Somewhere a datagram can come from.
#[derive(Debug, Clone, Copy)]
enum From {
    Stranger,
    Viewer,
    Publisher,
}

/// What is changed about a valid datagram.
#[derive(Debug, Clone)]
enum Change {
    Byte(Index, u8),
    Cut(Index),
    Longer(Vec<u8>),
    Nothing,
}

/// Without keys.
#[derive(Debug, Clone)]
enum Noise {
    Bytes(Vec<u8>),
    /// A packet of the publisher's, changed on its way or sent again.
    Media(Change),
    Feedback(Change),
    Check(Change),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), 1u8..).prop_map(|(at, by)| Change::Byte(at, by)),
        any::<Index>().prop_map(Change::Cut),
        prop::collection::vec(any::<u8>(), 1..50).prop_map(Change::Longer),
        Just(Change::Nothing),
    ]
}

fn any_noise() -> impl Strategy<Value = (From, Noise)> {
    let from = prop_oneof![
        Just(From::Stranger),
        Just(From::Viewer),
        Just(From::Publisher)
    ];
    let first = prop_oneof![0u8..4, 20u8..64, 128u8..192, any::<u8>()];
    let len = prop_oneof![4 => 0usize..80, 1 => 1_400usize..1_700];
    let bytes = (
        first,
        len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)),
    );
    let bytes = bytes.prop_map(|(first, mut bytes)| {
        bytes.insert(0, first);
        bytes
    });
    let noise = prop_oneof![
        3 => bytes.prop_map(Noise::Bytes),
        2 => any_change().prop_map(Noise::Media),
        1 => any_change().prop_map(Noise::Feedback),
        1 => any_change().prop_map(Noise::Check),
    ];
    (from, noise)
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..120)
}

fn changed(mut datagram: Vec<u8>, change: &Change) -> Vec<u8> {
    match change {
        Change::Byte(at, by) => {
            let at = at.index(datagram.len());
            datagram[at] ^= by;
        }
        Change::Cut(at) => datagram.truncate(1 + at.index(datagram.len() - 1)),
        Change::Longer(more) => datagram.extend(more),
        Change::Nothing => {}
    }
    datagram
}

struct Scene {
    world: World,
    publisher: Publisher,
    viewers: Vec<Viewer>,
    stranger: SimPeer,
}

impl Scene {
    fn new(profile: Profile) -> Self {
        let mut world = World::new(2, 1);
        let mut publisher = world.publish(0, profile);
        let viewers = (0..2)
            .map(|shard| world.watch(shard, profile, &publisher))
            .collect();
        let address = world.new_address();
        let stranger = world.network.peer(address);
        publisher.send_frame(true, 2);
        world.run_ms(10);
        Self {
            world,
            publisher,
            viewers,
            stranger,
        }
    }

    fn make(&mut self, noise: &Noise, last: &[u8]) -> Vec<u8> {
        match noise {
            Noise::Bytes(bytes) => bytes.clone(),
            Noise::Media(change) => changed(last.to_vec(), change),
            Noise::Feedback(change) => {
                let ssrc = self.viewers[0].video.ssrc;
                let pli = rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication {
                    sender_ssrc: 1,
                    media_ssrc: ssrc,
                };
                let sealed = self.viewers[0].peer.seal_rtcp(&[Box::new(pli)]);
                changed(sealed, change)
            }
            Noise::Check(change) => {
                let mut request = self.viewers[0].peer.binding_request(false);
                // FINGERPRINT (8 bytes) is not what makes a check valid, wherever it comes from.
                let fingerprint = request.split_off(request.len() - 8);
                match change {
                    Change::Byte(..) => [changed(request, change), fingerprint].concat(),
                    Change::Nothing => [request, fingerprint, vec![0; 4]].concat(),
                    change => changed([request, fingerprint].concat(), change),
                }
            }
        }
    }

    fn send(&self, from: From, datagram: &[u8]) {
        let server = self.world.sim.address(ShardId(0));
        match from {
            From::Stranger => self.stranger.send(server, datagram),
            From::Viewer => self.viewers[0].peer.send(datagram),
            From::Publisher => self.publisher.peer.send(datagram),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn noise_loses_no_packet_and_every_datagram_is_accounted_for(
        noise in prop::collection::vec(any_noise(), 1..80),
        profile in prop::sample::select(&Profile::ALL[..]),
    ) {
        let mut scene = Scene::new(profile);
        for (from, noise) in &noise {
            let plain = scene.publisher.make_frame(false, 1).remove(0);
            let sealed = scene.publisher.peer.seal_rtp(&plain);
            scene.publisher.peer.send(&sealed);
            let datagram = scene.make(noise, &sealed);
            scene.send(*from, &datagram);
            scene.world.run_ms(5);
        }
        scene.world.run_ms(20);
        for viewer in &mut scene.viewers {
            let video = viewer.take_video();
            prop_assert_eq!(ids(&video), scene.publisher.video.made_ids());
            assert_in_sequence(&video);
        }
        let world = &mut scene.world;
        // All counters of a peer are published within a second.
        world.run_ms(1_100);
        let events = world.events();
        let dtls = events.iter().filter(|event| matches!(event, Event::Dtls(..))).count();
        let counters = world.counters(0);
        let rtcp = scene.viewers[0].peer.counters.rtcp_received.get();
        let drops: u64 = world.drops().iter().map(|(_, count)| count).sum();
        let handled = counters.packets_routed.get() + counters.checks_answered.get() + dtls as u64
            + rtcp + drops;
        // The other shard got a check only.
        let received = counters.datagrams_received.get();
        prop_assert_eq!(received, handled, "{:?}", world.drops());
        prop_assert_eq!(counters.transports.get(), 2);
        prop_assert_eq!(counters.addresses.get(), 2, "nobody's address was taken");
    }

    #[test]
    fn a_peer_with_keys_can_harm_nobody_but_itself(
        rtp in prop::collection::vec((any::<(u8, u16, u32)>(), any_body()), 0..30),
        rtcp in prop::collection::vec((200u8..208, any_body()), 0..30),
    ) {
        let mut scene = Scene::new(GCM);
        let mut villain = scene.world.publish(0, GCM);
        let mut victim = scene.world.watch(1, GCM, &villain);
        let rtp = rtp.into_iter().map(Some).chain(std::iter::repeat(None));
        let rtcp = rtcp.into_iter().map(Some).chain(std::iter::repeat(None));
        for (rtp, rtcp) in rtp.zip(rtcp).take(30) {
            if let Some(((first, number, ssrc), rest)) = rtp {
                // Any header on any of its SSRCs.
                let ssrc = [villain.video.ssrc, villain.video.rtx_ssrc, villain.audio.ssrc, ssrc]
                    [usize::from(first % 4)];
                let types = [96, 97, 111, 224, 225];
                let mut plain = vec![0x80 | first & 0x3f, types[usize::from(number % 5)]];
                plain.extend(number.to_be_bytes());
                plain.extend([0; 4]);
                plain.extend(ssrc.to_be_bytes());
                plain.extend(rest);
                if let Some(sealed) = villain.peer.try_seal_rtp(&plain) {
                    villain.peer.send(&sealed);
                }
            }
            if let Some((kind, rest)) = rtcp {
                let mut plain = vec![0x80 | rest.len() as u8 & 0x3f, kind];
                let words = (rest.len() + 4) / 4;
                plain.extend((words as u16).to_be_bytes());
                plain.extend(victim.video.ssrc.to_be_bytes());
                plain.extend(&rest);
                plain.resize(4 + 4 * words, 0);
                let sealed = victim.peer.seal_plain_rtcp(&plain);
                victim.peer.send(&sealed);
            }
            scene.publisher.send_frame(false, 1);
            scene.world.run_ms(5);
        }
        victim.peer.receive();
        scene.world.run_ms(1_500);
        let made = scene.publisher.video.made_ids();
        let video = scene.viewers[1].take_video();
        prop_assert_eq!(ids(&video), &made[..]);
        assert_in_sequence(&video);
        prop_assert_eq!(scene.world.dropped(DropReason::SealFailed), 0);
    }
}

#[test]
fn a_forged_packet_far_ahead_throws_nothing_out_of_step() {
    let mut scene = Scene::new(GCM);
    for step in [1u16, 100, 0x7fff, 0x8000, 0xffff] {
        let plain = scene.publisher.make_frame(false, 1).remove(0);
        let sealed = scene.publisher.peer.seal_rtp(&plain);
        let mut forged = sealed.clone();
        let number = u16::from_be_bytes([forged[2], forged[3]]).wrapping_add(step);
        forged[2..4].copy_from_slice(&number.to_be_bytes());
        scene.send(From::Publisher, &forged);
        scene.send(From::Publisher, &sealed);
        scene.world.run_ms(10);
    }
    for viewer in &mut scene.viewers {
        assert_eq!(ids(&viewer.take_video()), scene.publisher.video.made_ids());
    }
    let refused = scene.world.dropped(DropReason::SrtpAuthentication)
        + scene.world.dropped(DropReason::SrtpTooOld)
        + scene.world.dropped(DropReason::SrtpReplayed);
    assert_eq!(refused, 5);
}

#[test]
fn ssrcs_that_fit_nothing_are_tried_so_often_only() {
    let mut scene = Scene::new(GCM);
    let mut forged = vec![0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    forged.resize(100, 7);
    for ssrc in 0..1_000u32 {
        forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
        scene.send(From::Publisher, &forged);
    }
    scene.publisher.send_frame(false, 2);
    scene.world.run_ms(20);
    // One try was the publisher's own first packet.
    assert_eq!(scene.world.dropped(DropReason::SrtpAuthentication), 49);
    assert_eq!(scene.world.dropped(DropReason::UnknownSsrc), 951);
    assert_eq!(
        scene.viewers[1].take_video().len(),
        4,
        "known ones are not held up"
    );
}
