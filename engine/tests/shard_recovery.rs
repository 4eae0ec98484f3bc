//! What is lost on either side comes again: NACKs, RTX (RFC 4588), and each packet once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, HashMap};

use common::World;
use common::media::{Publisher, id_of};
use common::peer::Rtp;
use common::viewing::{VIDEO_RTX_PAYLOAD_TYPE, Viewer, assert_in_sequence, id, ids};
use fanmill_engine::counters::DropReason;
use fanmill_engine::io::sim::LinkConditions;
use fanmill_engine::srtp::Profile;

const GCM: Profile = Profile::AeadAes128Gcm;

/// The packet a retransmission restores: its sequence number and payload.
fn restored(rtx: &Rtp) -> (u16, &[u8]) {
    let (number, payload) = rtx.payload.split_first_chunk::<2>().unwrap();
    (u16::from_be_bytes(*number), payload)
}

fn watched(world: &mut World, rtx: bool) -> (Publisher, Viewer) {
    let mut publisher = world.publish(0, GCM);
    let mut viewer = world.viewer(1, GCM);
    viewer.rtx = rtx;
    world.attach(&viewer, &publisher);
    publisher.send_frame(true, 4);
    world.run_ms(10);
    (publisher, viewer)
}

#[test]
fn a_packet_that_a_viewer_misses_comes_again_as_rtx() {
    let mut world = World::new(2, 1);
    let (mut publisher, mut viewer) = watched(&mut world, true);
    let video = viewer.take_video();
    let numbers: Vec<u16> = video.iter().map(|p| p.header.sequence_number).collect();
    viewer.nack(&[numbers[1], numbers[3]]);
    world.run_ms(20);
    viewer.nack(&[numbers[1]]);
    publisher.send_frame(false, 1);
    world.run_ms(1_000);
    let rtx = viewer.take_rtx();
    let expected = [1, 3, 1].map(|place| &video[place]);
    assert_eq!(rtx.len(), 3);
    assert_in_sequence(&rtx);
    for (rtx, original) in rtx.iter().zip(expected) {
        assert_eq!(rtx.header.payload_type, VIDEO_RTX_PAYLOAD_TYPE);
        assert_eq!(rtx.header.timestamp, original.header.timestamp);
        assert_eq!(rtx.header.marker, original.header.marker);
        let number = original.header.sequence_number;
        assert_eq!(restored(rtx), (number, &original.payload[..]));
        for id in [id::MID, id::DEPENDENCY, id::ABS_SEND_TIME] {
            assert_eq!(rtx.extension(id), original.extension(id));
        }
    }
    // One count for all that is sent to a viewer.
    let mut numbers: Vec<u64> = video
        .iter()
        .chain(&rtx)
        .chain(&viewer.take_video())
        .map(|packet| packet.number(id::TRANSPORT_CC).unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    assert_eq!(viewer.video.counters.retransmissions.get(), 3);
    assert_eq!(viewer.video.counters.packets.get(), 5);
    assert_eq!(viewer.peer.counters.packets_sent.get(), 8);
}

#[test]
fn without_rtx_a_packet_is_resent_as_it_was_to_the_last_byte() {
    for profile in Profile::ALL {
        let mut world = World::new(1, 2);
        let mut publisher = world.publish(0, GCM);
        let mut viewer = world.viewer(0, profile);
        viewer.rtx = false;
        world.attach(&viewer, &publisher);
        // Sizes that would be made one by padding if that depended on the burst.
        let mut frame = publisher.make_frame(true, 1);
        for shorter in [3, 7, 5] {
            publisher.video.payload_len -= shorter;
            let number = publisher.number();
            frame.push(publisher.video.packet(false, true, shorter == 5, number));
        }
        for packet in &frame {
            publisher.peer.send_rtp(packet);
        }
        world.run_ms(300);
        let video = viewer.take_video();
        viewer.nack(&[1, 2].map(|place: usize| video[place].header.sequence_number));
        world.run_ms(1_000);
        let again = viewer.take_video();
        assert_eq!(again.len(), 2);
        for (again, first) in again.iter().zip(&video[1..]) {
            assert_eq!(again.sealed, first.sealed, "one nonce, one text");
        }
        assert!(viewer.take_rtx().is_empty());
        assert_eq!(viewer.video.counters.packets.get(), 4);
        assert_eq!(viewer.video.counters.retransmissions.get(), 2);
    }
}

#[test]
fn what_was_never_sent_or_is_too_old_is_refused() {
    let mut world = World::new(2, 3);
    let (_, mut viewer) = watched(&mut world, true);
    let video = viewer.take_video();
    let first = video[0].header.sequence_number;
    viewer.nack(&[
        first.wrapping_sub(1),
        first.wrapping_add(4),
        first.wrapping_add(0x8000),
    ]);
    world.run_ms(3_000);
    viewer.nack(&[first]);
    world.run_ms(1_000);
    assert!(viewer.take_rtx().is_empty());
    assert_eq!(viewer.video.counters.retransmissions_refused.get(), 4);
}

#[test]
fn a_packet_lost_on_the_way_in_is_asked_for_once_however_many_miss_it() {
    let mut world = World::new(2, 5);
    let mut publisher = world.publish(0, GCM);
    let mut viewers: Vec<_> = (0..40)
        .map(|number| world.watch(number % 2, GCM, &publisher))
        .collect();
    publisher.send_frame(true, 3);
    world.run_ms(33);
    let mut frame = publisher.make_frame(false, 5);
    let late = frame.remove(1);
    let lost = frame.remove(2);
    let late = publisher.peer.seal_rtp(&late);
    for packet in &frame {
        publisher.peer.send_rtp(packet);
    }
    world.run_ms(2);
    // Every viewer asks, for what only the publisher has.
    for viewer in &mut viewers {
        let got = viewer.take_video();
        let last = got.last().unwrap().header.sequence_number;
        viewer.nack(&[last.wrapping_sub(1), last.wrapping_sub(3)]);
    }
    world.run_ms(25);
    let lost_number = u16::from_be_bytes([lost[2], lost[3]]);
    let late_number = u16::from_be_bytes([late[2], late[3]]);
    assert_eq!(publisher.nacked(), [late_number, lost_number]);
    publisher.send_retransmission(late_number);
    publisher.send_retransmission(lost_number);
    // The one that was only late comes too, and it comes twice.
    publisher.peer.send(&late);
    publisher.peer.send(&late);
    publisher.send_retransmission(lost_number);
    world.run_ms(1_000);
    assert_eq!(publisher.nacked(), []);
    for viewer in &mut viewers {
        let restored = viewer.take_video();
        let mut got = ids(&restored);
        got.sort_unstable();
        let made = publisher.video.made_ids();
        assert_eq!(got, [made[4], made[6]], "each once, on the stream itself");
        let numbers: Vec<u16> = restored.iter().map(|p| p.header.sequence_number).collect();
        assert_eq!(numbers[1].wrapping_sub(numbers[0]), 2);
        assert!(viewer.take_rtx().is_empty());
    }
    assert_eq!(publisher.video.counters.packets_restored.get(), 2);
    assert_eq!(world.dropped(DropReason::Duplicate), 2);
    assert_eq!(world.dropped(DropReason::SrtpReplayed), 1);
}

#[test]
fn a_probe_of_repeated_or_empty_retransmissions_is_not_forwarded() {
    let mut world = World::new(2, 6);
    let (mut publisher, mut viewer) = watched(&mut world, true);
    assert_eq!(viewer.take_video().len(), 4);
    let numbers: Vec<u16> = publisher.video.made.keys().copied().collect();
    for number in &numbers {
        publisher.send_retransmission(*number);
    }
    // Padding only, on the retransmission stream.
    let (ssrc, payload_type) = (publisher.video.ssrc, publisher.video.payload_type);
    publisher.video.ssrc = publisher.video.rtx_ssrc;
    publisher.video.payload_type = publisher.video.rtx_payload_type;
    let next = publisher.video.sequence_number;
    publisher.video.sequence_number = publisher.video.rtx_sequence_number;
    let number = publisher.number();
    let probe = publisher.video.plain(false, number, &[], 224);
    publisher.peer.send_rtp(&probe);
    (publisher.video.ssrc, publisher.video.payload_type) = (ssrc, payload_type);
    publisher.video.sequence_number = next;
    publisher.send_frame(false, 1);
    world.run_ms(20);
    assert_eq!(
        ids(&viewer.take_video()),
        [*publisher.video.made_ids().last().unwrap()]
    );
    assert_eq!(world.dropped(DropReason::Duplicate), 4);
    assert_eq!(world.dropped(DropReason::Padding), 1);
}

/// What a browser does about loss: asks for gaps, and again, until it gives up.
#[derive(Default)]
struct Receiver {
    /// By extended sequence number, as the stream's packet or its restored copy.
    got: BTreeMap<u64, u64>,
    /// When to ask, and how often it was asked.
    missing: BTreeMap<u64, (u64, u32)>,
    /// Every sealed packet by SSRC and sequence number: what one nonce protected.
    sealed: HashMap<(u32, u16), Vec<u8>>,
    restored: usize,
}

impl Receiver {
    fn extend(&self, number: u16) -> u64 {
        let highest = self.got.keys().next_back().copied();
        let highest = highest.unwrap_or(1 << 16 | u64::from(number));
        let distance = number.wrapping_sub(highest as u16).cast_signed();
        highest.wrapping_add_signed(i64::from(distance))
    }

    fn take(&mut self, viewer: &mut Viewer, now_us: u64) {
        for packet in viewer.take_video() {
            self.see(&packet);
            self.add(
                packet.header.sequence_number,
                id_of(&packet.payload),
                now_us,
            );
        }
        for packet in viewer.take_rtx() {
            if self.see(&packet) {
                self.restored += 1;
                let (number, payload) = restored(&packet);
                self.add(number, id_of(payload), now_us);
            }
        }
    }

    /// Whether this was not seen; the network, but not the engine, may bring it twice.
    fn see(&mut self, packet: &Rtp) -> bool {
        let key = (packet.header.ssrc, packet.header.sequence_number);
        match self.sealed.insert(key, packet.sealed.clone()) {
            Some(before) => {
                assert_eq!(before, packet.sealed, "one nonce protects one text");
                false
            }
            None => true,
        }
    }

    fn add(&mut self, number: u16, id: u64, now_us: u64) {
        let index = self.extend(number);
        let highest = self.got.keys().next_back().copied().unwrap_or(index);
        for gap in highest + 1..index {
            self.missing.insert(gap, (now_us + 10_000, 0));
        }
        self.missing.remove(&index);
        let before = self.got.insert(index, id);
        assert!(
            before.is_none_or(|before| before == id),
            "one number, one packet"
        );
    }

    fn ask(&mut self, viewer: &mut Viewer, now_us: u64) {
        let mut due = Vec::new();
        self.missing.retain(|index, (at_us, tries)| {
            if now_us >= *at_us {
                due.push(*index as u16);
                *at_us = now_us + 60_000;
                *tries += 1;
            }
            *tries <= 20
        });
        if !due.is_empty() {
            viewer.nack(&due);
        }
    }
}

#[test]
fn a_minute_of_bad_network_on_both_sides_loses_next_to_nothing() {
    let mut world = World::new(2, 7);
    let mut publisher = world.publish(0, GCM);
    publisher.video.payload_len = 300;
    let mut viewers: Vec<_> = [(0, GCM), (1, GCM), (1, Profile::Aes128CmSha1_80)]
        .into_iter()
        .map(|(shard, profile)| (world.watch(shard, profile, &publisher), Receiver::default()))
        .collect();
    publisher.send_frame(true, 1);
    world.run_ms(5);
    world.network.set_default_conditions(LinkConditions {
        loss: 0.05,
        duplicate: 0.02,
        reorder: 0.05,
        delay_us: 20_000,
        jitter_us: 3_000,
        ..LinkConditions::default()
    });
    for step in 0..60 * 200 {
        // 33 frames a second, for 58 seconds; what is lost then has two seconds to come.
        if step % 6 == 0 && step < 58 * 200 {
            publisher.send_frame(step % 600 == 0, 4);
        }
        world.run_ms(5);
        let now_us = world.now_us();
        for number in publisher.nacked() {
            publisher.send_retransmission(number);
        }
        for (viewer, receiver) in &mut viewers {
            receiver.take(viewer, now_us);
            receiver.ask(viewer, now_us);
        }
    }
    let made = publisher.video.made_ids();
    for (viewer, receiver) in &viewers {
        let got: Vec<u64> = receiver.got.values().copied().collect();
        assert!(
            got.is_sorted_by(|a, b| a < b),
            "in order of number, and none twice"
        );
        let (first, last) = (
            receiver.got.first_key_value(),
            receiver.got.last_key_value(),
        );
        let (first, last) = (first.unwrap(), last.unwrap());
        assert_eq!(
            last.0 - first.0,
            last.1 - first.1,
            "numbers follow the publisher's"
        );
        let missed = made.len() - got.len();
        assert!(
            missed * 1_000 < made.len(),
            "{missed} of {} are missing",
            made.len()
        );
        assert!(
            receiver.restored > made.len() / 50,
            "the test has something to restore"
        );
        assert!(viewer.peer.unreadable.is_empty());
    }
    let counters = &publisher.video.counters;
    assert!(counters.packets_restored.get() as usize > made.len() / 50);
    assert_eq!(world.dropped(DropReason::SrtpAuthentication), 0);
    assert_eq!(world.dropped(DropReason::SealFailed), 0);
}
