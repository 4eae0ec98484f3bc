//! What is resent and what not: budgets of viewer and shard, packets that a newer keyframe made
//! useless, and losses on the way in told apart from those on the last mile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::Publisher;
use common::viewing::{Viewer, ids};
use fanmill_engine::counters::DropReason;
use fanmill_engine::limits::{
    RESEND_BURST_BYTES, RESEND_FLOOR_BYTES_PER_SECOND, RESEND_SHARE, RESENDS_PER_TURN,
    RETRANSMISSION_QUIET_US,
};
use fanmill_engine::srtp::Profile;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

const GCM: Profile = Profile::AeadAes128Gcm;

/// Sequence numbers of the video that came.
fn numbers(viewer: &mut Viewer) -> Vec<u16> {
    let video = viewer.take_video();
    video.iter().map(|p| p.header.sequence_number).collect()
}

/// A viewer says that it lost everything, again and again, a packet at most as often as it would be
/// resent; how many bytes it is resent.
fn ask_for_everything(world: &mut World, viewer: &mut Viewer, numbers: &[u16], times: u64) -> u64 {
    let mut bytes = 0;
    for _ in 0..times {
        for some in numbers.chunks(50) {
            viewer.nack(some);
        }
        world.run_ms(RETRANSMISSION_QUIET_US / 1000);
        let rtx = viewer.take_rtx();
        bytes += rtx.iter().map(|p| p.payload.len() as u64 - 2).sum::<u64>();
    }
    bytes
}

#[test]
fn a_viewer_is_resent_a_share_of_what_it_is_sent_at_most() {
    let mut world = World::new(1, 1);
    let mut publisher = world.publish(0, GCM);
    let mut viewers = [
        world.watch(0, GCM, &publisher),
        world.watch(0, GCM, &publisher),
    ];
    publisher.send_frame(true, 10);
    let (mut sent, mut resent) = (0, 0);
    let mut seconds = 0;
    for frame in 0..150 {
        let [bad, good] = &mut viewers;
        publisher.send_frame(false, 10);
        world.run_ms(2);
        let lost = numbers(bad);
        sent += lost.len() as u64 * 900;
        resent += ask_for_everything(&mut world, bad, &lost, 2);
        // Whose link is good loses little, and gets it back.
        let numbers = numbers(good);
        good.nack(&numbers[3..5]);
        world.run_ms(1);
        assert_eq!(good.take_rtx().len(), 2, "at frame {frame}");
        seconds = world.now_us() / 1_000_000 + 1;
    }
    let most = RESEND_BURST_BYTES + sent / RESEND_SHARE + seconds * RESEND_FLOOR_BYTES_PER_SECOND;
    assert!(resent <= most, "{resent} of {most}");
    assert!(
        resent * 10 > most * 8,
        "the share is given: {resent} of {most}"
    );
    world.run_ms(1_100);
    let over_budget = viewers[0].video.counters.retransmissions_over_budget.get();
    assert!(over_budget > 100);
    assert_eq!(over_budget, world.dropped(DropReason::ResendOverBudget));
    let good = &viewers[1].video.counters;
    assert_eq!(good.retransmissions.get(), 300);
    assert_eq!(good.retransmissions_refused.get(), 0);
}

#[test]
fn many_bad_links_together_cannot_keep_a_shard_from_the_others() {
    let mut world = World::new(1, 2);
    let mut publisher = world.publish(0, GCM);
    let mut viewers: Vec<_> = (0..60).map(|_| world.watch(0, GCM, &publisher)).collect();
    publisher.send_frame(true, 20);
    world.run_ms(20);
    for viewer in &mut viewers {
        let lost = numbers(viewer);
        viewer.nack(&lost);
    }
    // All at one moment, in which no time passes.
    world.settle();
    let resent: usize = viewers.iter_mut().map(|v| v.take_rtx().len()).sum();
    assert_eq!(resent, RESENDS_PER_TURN as usize);
    world.run_ms(20);
    let refused = world.dropped(DropReason::ResendShardBusy);
    assert_eq!(refused as usize, 60 * 20 - resent);
    // Who was refused asks again.
    let last = viewers.last_mut().unwrap();
    let first = last.video.counters.retransmissions.get();
    assert_eq!(first, 0);
    publisher.send_frame(false, 1);
    world.run_ms(5);
    let number = numbers(last)[0];
    last.nack(&[number.wrapping_sub(1), number.wrapping_sub(2)]);
    world.run_ms(5);
    assert_eq!(last.take_rtx().len(), 2);
}

#[test]
fn what_a_newer_keyframe_made_useless_is_not_resent() {
    let mut world = World::new(2, 3);
    let mut publisher = world.publish(0, GCM);
    let mut viewer = world.watch(1, GCM, &publisher);
    publisher.send_frame(true, 3);
    publisher.send_frame(false, 3);
    publisher.send_audio();
    world.run_ms(33);
    let before = numbers(&mut viewer);
    let audio = viewer.take_audio()[0].header.sequence_number;
    // A keyframe of which the first packet was sent already, and the rest is to come.
    let keyframe = publisher.make_frame(true, 4);
    for packet in &keyframe[..2] {
        publisher.peer.send_rtp(packet);
    }
    viewer.nack(&before[4..5]);
    world.settle();
    assert_eq!(
        viewer.take_rtx().len(),
        1,
        "it has not been sent the keyframe yet"
    );
    world.run_ms(10);
    for packet in &keyframe[2..] {
        publisher.peer.send_rtp(packet);
    }
    publisher.send_audio();
    publisher.send_frame(false, 2);
    world.run_ms(33);
    let since = numbers(&mut viewer);
    assert_eq!(since.len(), 6);
    viewer.nack(&before);
    viewer.nack(&since[..1]);
    viewer.nack(&since[5..]);
    let media_ssrc = viewer.audio.ssrc;
    viewer.peer.send_rtcp(TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc,
        nacks: nack_pairs_from_sequence_numbers(&[audio]),
    });
    world.run_ms(1_100);
    let restored: Vec<u16> = viewer
        .take_rtx()
        .iter()
        .map(|rtx| u16::from_be_bytes([rtx.payload[0], rtx.payload[1]]))
        .collect();
    assert_eq!(restored, [since[0], since[5]]);
    assert_eq!(viewer.video.counters.retransmissions_useless.get(), 6);
    assert_eq!(world.dropped(DropReason::ResendUseless), 6);
    assert_eq!(
        viewer.take_audio().len(),
        2,
        "a new one, and the old one again"
    );
}

/// Loses some packets of a frame on the way in; the others are forwarded.
fn send_frame_without(publisher: &mut Publisher, lost: &[usize], packets: usize) -> Vec<u16> {
    let mut numbers = Vec::new();
    for (place, packet) in publisher.make_frame(false, packets).iter().enumerate() {
        if lost.contains(&place) {
            numbers.push(u16::from_be_bytes([packet[2], packet[3]]));
        } else {
            publisher.peer.send_rtp(packet);
        }
    }
    numbers
}

#[test]
fn losses_on_the_way_in_are_told_from_those_on_the_last_mile() {
    let mut world = World::new(2, 4);
    let mut publisher = world.publish(0, GCM);
    let mut viewers = [
        world.watch(0, GCM, &publisher),
        world.watch(1, GCM, &publisher),
    ];
    publisher.send_frame(true, 3);
    world.run_ms(33);
    let lost = send_frame_without(&mut publisher, &[1, 2], 5);
    world.run_ms(2);
    for viewer in &mut viewers {
        let got = numbers(viewer);
        let (missing, sent) = (got[3].wrapping_add(1), got[2]);
        // What the publisher owes, twice, and what was sent and did not arrive.
        viewer.nack(&[missing, missing.wrapping_add(1)]);
        viewer.nack(&[missing, sent]);
    }
    world.run_ms(33);
    for viewer in &mut viewers {
        assert_eq!(viewer.take_rtx().len(), 1);
    }
    assert_eq!(publisher.nacked(), lost, "asked for once");
    for number in &lost {
        publisher.send_retransmission(*number);
    }
    world.run_ms(2_000);
    for viewer in &mut viewers {
        assert_eq!(viewer.take_video().len(), 2, "everybody has them");
        let counters = &viewer.video.counters;
        assert_eq!(counters.lost_on_way_in.get(), 2);
        assert_eq!(counters.lost_on_last_mile.get(), 1);
        assert_eq!(counters.retransmissions.get(), 1);
        assert_eq!(counters.retransmissions_refused.get(), 0);
    }
    assert_eq!(publisher.video.counters.packets_lost.get(), 2);
    assert_eq!(publisher.video.counters.packets_restored.get(), 2);
    let served = &publisher.video.served;
    assert_eq!(served.lost_on_last_mile.get(), 2, "on both shards");
    assert_eq!(served.retransmissions.get(), 2);
    assert_eq!(publisher.audio.served.lost_on_last_mile.get(), 0);
}

/// Lets the server measure a round trip of so many milliseconds to a viewer.
fn measure_round_trip(world: &mut World, publisher: &mut Publisher, viewer: &mut Viewer, ms: u64) {
    // A publisher whose clock is ours: the viewer's reports then bear the time they are sent at.
    publisher.peer.send_rtcp(SenderReport {
        ssrc: publisher.video.ssrc,
        ntp_time: (world.now_us() << 32) / 1_000_000,
        rtp_time: publisher.video.timestamp,
        ..Default::default()
    });
    world.run_ms(1_100);
    let media_ssrc = viewer.video.ssrc;
    let reports = viewer.peer.take_rtcp::<SenderReport>();
    let report = reports.iter().rfind(|r| r.ssrc == media_ssrc).unwrap();
    let sent_us = ((u128::from(report.ntp_time) * 1_000_000) >> 32) as u64;
    let held_us = world.now_us() - sent_us;
    world.run_ms(ms);
    let block = ReceptionReport {
        ssrc: media_ssrc,
        last_sender_report: (report.ntp_time >> 16) as u32,
        delay: (held_us * 65_536 / 1_000_000) as u32,
        ..ReceptionReport::default()
    };
    viewer.peer.send_rtcp(ReceiverReport {
        ssrc: 1,
        reports: vec![block],
        ..Default::default()
    });
    world.run_ms(1_100);
    let rtt_us = viewer.peer.counters.rtt_us.get();
    assert!(rtt_us.abs_diff(ms * 1_000) < 1_000, "{rtt_us}");
}

#[test]
fn a_nack_that_crosses_a_late_packet_is_not_answered() {
    let mut world = World::new(1, 5);
    let mut publisher = world.publish(0, GCM);
    let mut viewer = world.watch(0, GCM, &publisher);
    publisher.send_frame(true, 3);
    world.run_ms(10);
    measure_round_trip(&mut world, &mut publisher, &mut viewer, 100);
    publisher.send_frame(true, 3);
    world.run_ms(33);
    let lost = send_frame_without(&mut publisher, &[1], 3);
    world.run_ms(10);
    let got = numbers(&mut viewer);
    let missing = got.last().unwrap().wrapping_sub(1);
    publisher.send_retransmission(lost[0]);
    world.run_ms(20);
    // The viewer cannot have seen yet that it came.
    viewer.nack(&[missing]);
    world.run_ms(10);
    assert_eq!(viewer.take_rtx().len(), 0);
    let made = publisher.video.made_ids();
    assert_eq!(ids(&viewer.take_video()), [made[made.len() - 2]]);
    world.run_ms(100);
    viewer.nack(&[missing]);
    world.run_ms(1_100);
    assert_eq!(viewer.take_rtx().len(), 1, "now it was lost again");
    assert_eq!(viewer.video.counters.lost_on_way_in.get(), 1);
}

#[test]
fn how_long_packets_take_is_told_for_each_rendition() {
    let mut world = World::new(2, 6);
    let mut publisher = world.publish(0, GCM);
    let viewers: Vec<_> = (0..6)
        .map(|number| world.watch(number % 2, GCM, &publisher))
        .collect();
    publisher.send_frame(true, 4);
    publisher.send_audio();
    world.run_ms(10);
    // Without its end, a frame waits as long as it may.
    let frame = publisher.make_frame(false, 4);
    for packet in &frame[..3] {
        publisher.peer.send_rtp(packet);
    }
    world.run_ms(1_100);
    let video = publisher.video.served.transit.snapshot();
    let audio = publisher.audio.served.transit.snapshot();
    assert_eq!(video.packets(), 6 * 7);
    assert_eq!(audio.packets(), 6);
    assert!(video.quantile_us(0.5).unwrap() < 500);
    assert!(video.quantile_us(1.0).unwrap() >= 1_000);
    assert!(audio.quantile_us(1.0).unwrap() < 500);
    let buckets: Vec<_> = video.buckets().collect();
    assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 42);
    drop(viewers);
}
