//! What the engine says in RTCP, to publishers and to viewers, and what it makes of theirs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::World;
use common::media::{Publisher, Stream, id_of};
use common::peer::Rtp;
use common::viewing::{Viewer, ids};
use fanmill_engine::event::Event;
use fanmill_engine::ids::ShardId;
use fanmill_engine::io::sim::LinkConditions;
use fanmill_engine::srtp::Profile;
use rtcp::goodbye::Goodbye;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::SourceDescription;
use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};

const GCM: Profile = Profile::AeadAes128Gcm;

fn plis(publisher: &mut Publisher) -> Vec<PictureLossIndication> {
    publisher.peer.take_rtcp()
}

#[test]
fn viewers_who_join_wait_for_one_keyframe_that_is_asked_for_until_it_comes() {
    let mut world = World::without_cache(2, 1);
    let mut publisher = world.publish(0, GCM);
    publisher.send_frame(true, 2);
    world.run_ms(1_000);
    let mut viewers: Vec<_> = (0..200)
        .map(|number| world.watch(number % 2, GCM, &publisher))
        .collect();
    publisher.send_frame(false, 2);
    world.run_ms(400);
    let asked = plis(&mut publisher);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].media_ssrc, publisher.video.ssrc);
    publisher.send_frame(false, 2);
    world.run_ms(1_000);
    assert_eq!(plis(&mut publisher).len(), 2, "twice a second");
    for viewer in &mut viewers {
        assert!(
            viewer.take_video().is_empty(),
            "a picture begins with a keyframe"
        );
    }
    publisher.send_frame(true, 2);
    publisher.send_frame(false, 2);
    world.run_ms(1_000);
    let made = publisher.video.made_ids();
    for viewer in &mut viewers {
        assert_eq!(ids(&viewer.take_video()), made[6..]);
        assert_eq!(viewer.video.counters.awaiting_keyframe.get(), 4);
    }
    assert!(plis(&mut publisher).is_empty(), "nobody waits any more");
    assert_eq!(publisher.video.counters.keyframe_requests.get(), 3);
}

#[test]
fn a_keyframe_nobody_waits_for_any_more_is_not_asked_for_much_longer() {
    let mut world = World::without_cache(2, 2);
    let mut publisher = world.publish(0, GCM);
    publisher.send_frame(true, 1);
    let viewer = world.watch(1, GCM, &publisher);
    world.run_ms(1_000);
    world.engine().remove_transport(viewer.peer.id).unwrap();
    world.run_ms(6_000);
    plis(&mut publisher);
    world.run_ms(20_000);
    assert!(plis(&mut publisher).is_empty());
}

#[test]
fn requests_of_viewers_are_passed_on_at_most_twice_a_second() {
    let mut world = World::new(2, 3);
    let mut publisher = world.publish(0, GCM);
    let mut viewers = [
        world.watch(0, GCM, &publisher),
        world.watch(1, GCM, &publisher),
    ];
    for round in 0..100 {
        publisher.send_frame(round % 10 == 0, 1);
        for viewer in &mut viewers {
            viewer.ask_for_keyframe();
        }
        world.run_ms(50);
    }
    let asked = plis(&mut publisher).len();
    assert!((8..=11).contains(&asked), "{asked} in five seconds");
    world.run_ms(1_000);
    assert_eq!(viewers[1].video.counters.keyframe_requests.get(), 100);
}

#[test]
fn a_publisher_that_knows_only_fir_is_asked_by_fir() {
    let mut world = World::without_cache(1, 4);
    let mut publisher = world.publish(0, GCM);
    let mut stream = Stream::new(&mut world, "w", true);
    let mut spec = stream.spec(1_000_000);
    spec.feedback.pli = false;
    spec.feedback.fir = true;
    world
        .engine()
        .add_incoming_track(publisher.peer.id, spec)
        .unwrap();
    let packet = stream.packet(true, false, true, 1);
    publisher.peer.send_rtp(&packet);
    let viewer = world.viewer(0, GCM);
    world.attach_video(&viewer, stream.rendition);
    world.run_ms(1_200);
    let firs = publisher.peer.take_rtcp::<FullIntraRequest>();
    let entries: Vec<_> = firs.iter().flat_map(|fir| &fir.fir).collect();
    assert!(entries.iter().all(|entry| entry.ssrc == stream.ssrc));
    let numbers: Vec<u8> = entries.iter().map(|entry| entry.sequence_number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert!(plis(&mut publisher).is_empty());
}

/// NTP time of the publisher's clock, which has its own idea of now.
fn publisher_ntp(now_us: u64) -> u64 {
    (3_900_000_000 << 32) + ((u128::from(now_us) << 32) / 1_000_000) as u64
}

fn report(publisher: &mut Publisher, now_us: u64) {
    let ntp_time = publisher_ntp(now_us);
    let clocks = [(&publisher.video, 90), (&publisher.audio, 48)];
    let reports = clocks.map(|(stream, per_ms)| SenderReport {
        ssrc: stream.ssrc,
        ntp_time,
        rtp_time: stream.timestamp.wrapping_add(0x1234 + per_ms * 7),
        packet_count: 1,
        octet_count: 1,
        ..Default::default()
    });
    for report in reports {
        publisher.peer.send_rtcp(report);
    }
}

fn original_timestamp(stream: &Stream, packet: &Rtp) -> u32 {
    let made = stream.made.values().map(|plain| Rtp::parse(plain, plain));
    let id = id_of(&packet.payload);
    made.into_iter()
        .find(|made| id_of(&made.payload) == id)
        .unwrap()
        .header
        .timestamp
}

/// The publisher's timestamp that a viewer's sender report stands for, less what its NTP time says
/// it must be.
fn report_error(
    report: &SenderReport,
    (packet, stream): (&Rtp, &Stream),
    (ntp, rtp): (u64, u32),
    clock_rate: u64,
) -> i32 {
    let offset = packet
        .header
        .timestamp
        .wrapping_sub(original_timestamp(stream, packet));
    let elapsed = (u128::from(report.ntp_time - ntp) * u128::from(clock_rate)) >> 32;
    let expected = rtp.wrapping_add(elapsed as u32);
    report
        .rtp_time
        .wrapping_sub(offset)
        .wrapping_sub(expected)
        .cast_signed()
}

#[test]
fn viewers_are_told_the_publishers_clock_in_their_own_timestamps() {
    let mut world = World::new(2, 5);
    let mut publisher = world.publish(0, GCM);
    publisher.send_frame(true, 1);
    publisher.send_audio();
    world.run_ms(20);
    let (ntp, now_us) = (publisher_ntp(world.now_us()), world.now_us());
    report(&mut publisher, now_us);
    let rtp = [
        publisher.video.timestamp.wrapping_add(0x1234 + 90 * 7),
        publisher.audio.timestamp.wrapping_add(0x1234 + 48 * 7),
    ];
    world.run_ms(5);
    // Those who join later learn of the report that is past.
    let mut viewers = [
        world.watch(0, GCM, &publisher),
        world.watch(1, GCM, &publisher),
    ];
    publisher.send_frame(true, 1);
    publisher.send_audio();
    world.run_ms(1_100);
    for viewer in &mut viewers {
        let (video, audio) = (viewer.take_video(), viewer.take_audio());
        let reports = viewer.peer.take_rtcp::<SenderReport>();
        let of = |ssrc| reports.iter().find(|report| report.ssrc == ssrc).unwrap();
        let (of_video, of_audio) = (of(viewer.video.ssrc), of(viewer.audio.ssrc));
        assert_eq!(of_video.ntp_time, of_audio.ntp_time, "one clock for both");
        let sides = (&video[0], &publisher.video);
        assert!(report_error(of_video, sides, (ntp, rtp[0]), 90_000).abs() <= 1);
        let sides = (&audio[0], &publisher.audio);
        assert!(report_error(of_audio, sides, (ntp, rtp[1]), 48_000).abs() <= 1);
        assert_eq!((of_video.packet_count, of_audio.packet_count), (1, 1));
        assert_eq!(of_video.octet_count, 900);
        let names = viewer.peer.take_rtcp::<SourceDescription>();
        let name = &names[0].chunks[0];
        assert_eq!(name.items[0].text, "simulated".as_bytes());
    }
}

#[test]
fn a_publisher_without_reports_is_given_a_clock_after_some_time() {
    let mut world = World::new(1, 6);
    let mut publisher = world.publish(0, GCM);
    let mut viewer = world.watch(0, GCM, &publisher);
    publisher.send_frame(true, 1);
    world.run_ms(2_500);
    assert!(viewer.peer.take_rtcp::<SenderReport>().is_empty());
    world.run_ms(2_000);
    let reports = viewer.peer.take_rtcp::<SenderReport>();
    let (first, second) = (&reports[0], &reports[1]);
    let rtp = second.rtp_time.wrapping_sub(first.rtp_time);
    let ntp = (u128::from(second.ntp_time - first.ntp_time) * 90_000) >> 32;
    assert!((90_000..91_000).contains(&rtp) && rtp.abs_diff(ntp as u32) <= 1);
}

#[test]
fn the_round_trip_is_measured_by_receiver_reports_and_survives_a_jump_of_the_clock() {
    let mut world = World::new(2, 7);
    let mut publisher = world.publish(0, GCM);
    let mut viewer = world.watch(1, GCM, &publisher);
    publisher.send_frame(true, 1);
    let now_us = world.now_us();
    report(&mut publisher, now_us);
    world.run_ms(5);
    let path = LinkConditions {
        delay_us: 35_000,
        ..LinkConditions::default()
    };
    world.network.set_default_conditions(path);
    world.run_ms(1_100);
    let reports = viewer.peer.take_rtcp::<SenderReport>();
    let ntp = reports
        .iter()
        .find(|r| r.ssrc == viewer.video.ssrc)
        .unwrap()
        .ntp_time;
    // It arrives at an unknown moment of the last second; hold it as long as that takes.
    let now_us = world.now_us();
    let sent_us = ntp_to_us(ntp - publisher_ntp(0));
    let held_us = now_us - (sent_us + 35_000);
    // Meanwhile the publisher's clock jumps by an hour.
    report(&mut publisher, now_us + 3_600_000_000);
    let block = ReceptionReport {
        ssrc: viewer.video.ssrc,
        fraction_lost: 12,
        total_lost: 345,
        jitter: 900,
        last_sender_report: (ntp >> 16) as u32,
        delay: (held_us * 65_536 / 1_000_000) as u32,
        ..Default::default()
    };
    viewer.peer.send_rtcp(ReceiverReport {
        ssrc: 1,
        reports: vec![block],
        ..Default::default()
    });
    world.run_ms(1_200);
    let rtt_us = viewer.peer.counters.rtt_us.get();
    assert!(rtt_us.abs_diff(70_000) < 1_000, "{rtt_us}");
    let counters = &viewer.video.counters;
    assert_eq!(
        (counters.packets_lost.get(), counters.jitter_us.get()),
        (345, 10_000)
    );
}

fn ntp_to_us(ntp: u64) -> u64 {
    ((u128::from(ntp) * 1_000_000) >> 32) as u64
}

#[test]
fn a_publisher_is_told_what_was_lost_and_how_much_it_may_send() {
    let mut world = World::new(1, 8);
    let mut publisher = world.publish(0, GCM);
    publisher.video.sequence_number = 65_500;
    for _ in 0..90 {
        let frame = publisher.make_frame(true, 4);
        for packet in &frame[1..] {
            publisher.peer.send_rtp(packet);
        }
        publisher.send_audio();
        world.run_ms(33);
    }
    let now_us = world.now_us();
    report(&mut publisher, now_us);
    world.run_ms(1_000);
    let reports = publisher.peer.take_rtcp::<ReceiverReport>();
    let blocks: Vec<_> = reports.iter().flat_map(|report| &report.reports).collect();
    let of = |ssrc| {
        blocks
            .iter()
            .filter(|block| block.ssrc == ssrc)
            .collect::<Vec<_>>()
    };
    let (video, audio) = (of(publisher.video.ssrc), of(publisher.audio.ssrc));
    assert!(video.len() >= 3 && audio.len() == video.len());
    let second = video[1];
    assert!(
        (60..=67).contains(&second.fraction_lost),
        "a quarter: {}",
        second.fraction_lost
    );
    let last = video.last().unwrap();
    // The first packet of all is not known to be missing.
    assert_eq!(last.total_lost, 89);
    assert_eq!(last.last_sequence_number, 65_536 + 65_500 + 359 - 65_536);
    let middle = (publisher_ntp(now_us) >> 16) as u32;
    assert_eq!(last.last_sender_report, middle);
    assert!(last.delay > 0 && last.delay <= 65_536);
    assert_eq!(audio.last().unwrap().total_lost, 0);
    let bitrates = publisher
        .peer
        .take_rtcp::<ReceiverEstimatedMaximumBitrate>();
    let asked: Vec<f32> = bitrates.iter().map(|remb| remb.bitrate).collect();
    assert!(
        bitrates
            .iter()
            .all(|remb| remb.ssrcs.contains(&publisher.video.ssrc))
    );
    // It sends some 0.7 Mbit/s, a quarter of it in vain.
    assert!(
        asked
            .iter()
            .all(|bps| (100_000.0..1_000_000.0).contains(bps)),
        "{asked:?}"
    );
}

#[test]
fn every_packet_is_reported_in_transport_wide_feedback_when_it_came_or_as_lost() {
    let mut world = World::new(1, 9);
    let mut publisher = world.publish(0, GCM);
    let mut sent = BTreeMap::new();
    for frame in 0..300u64 {
        for packet in publisher.make_frame(frame == 0, 3) {
            let number = Rtp::parse(&packet, &packet).number(3).unwrap() as u16;
            let lost = number % 7 == 3;
            sent.insert(
                u64::from(number.wrapping_sub(0xfff1)),
                (!lost).then_some(world.now_us()),
            );
            if !lost {
                publisher.peer.send_rtp(&packet);
            }
            world.sim.run_for(300);
        }
        world.run_ms(10 + frame % 20);
    }
    world.run_ms(100);
    let mut reported = BTreeMap::new();
    for feedback in publisher.peer.take_rtcp::<TransportLayerCc>() {
        read_feedback(&feedback, &mut reported);
    }
    let (last, _) = reported.last_key_value().unwrap();
    assert!(*last >= 895, "all but what was lost at the very end");
    for (number, at_us) in sent.range(..=last) {
        match (at_us, reported[number]) {
            (Some(at_us), Some(arrival_us)) => {
                assert!(at_us.abs_diff(arrival_us) <= 250, "{at_us} {arrival_us}");
            }
            (at_us, arrival_us) => assert_eq!(*at_us, arrival_us, "{number}"),
        }
    }
}

/// Numbers from 0xfff1 on, with the arrival of those that came.
fn read_feedback(feedback: &TransportLayerCc, into: &mut BTreeMap<u64, Option<u64>>) {
    let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
        PacketStatusChunk::RunLengthChunk(run) => {
            vec![run.packet_status_symbol; usize::from(run.run_length)]
        }
        PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
    });
    let mut at_us = u64::from(feedback.reference_time) * 64_000;
    let mut deltas = feedback.recv_deltas.iter();
    let count = usize::from(feedback.packet_status_count);
    for (place, symbol) in symbols.take(count).enumerate() {
        let number = feedback.base_sequence_number.wrapping_add(place as u16);
        let arrived = symbol != SymbolTypeTcc::PacketNotReceived;
        let arrival = arrived.then(|| {
            at_us = at_us.wrapping_add_signed(deltas.next().unwrap().delta);
            at_us
        });
        into.insert(u64::from(number.wrapping_sub(0xfff1)), arrival);
    }
}

fn byes(viewer: &mut Viewer) -> Vec<u32> {
    let byes = viewer.peer.take_rtcp::<Goodbye>();
    let mut sources: Vec<u32> = byes.into_iter().flat_map(|bye| bye.sources).collect();
    sources.sort_unstable();
    sources
}

#[test]
fn viewers_are_said_goodbye_when_they_are_removed_and_when_the_engine_stops() {
    let mut world = World::new(2, 10);
    let publisher = world.publish(0, GCM);
    let mut removed = world.watch(1, GCM, &publisher);
    let mut left = world.watch(1, GCM, &publisher);
    world.engine().remove_transport(removed.peer.id).unwrap();
    world.settle();
    assert_eq!(byes(&mut removed), [removed.video.ssrc, removed.audio.ssrc]);
    assert_eq!(byes(&mut left), []);
    world.events();
    world.engine().stop(std::time::Duration::ZERO);
    world.settle();
    assert_eq!(byes(&mut left), [left.video.ssrc, left.audio.ssrc]);
    let mut stopped: Vec<ShardId> = world
        .events()
        .into_iter()
        .map(|event| match event {
            Event::ShardStopped(shard, None) => shard,
            other => panic!("{other:?}"),
        })
        .collect();
    stopped.sort_unstable();
    assert_eq!(stopped, [ShardId(0), ShardId(1)]);
}

#[test]
fn the_goodbye_and_the_silence_of_a_publisher_are_told() {
    let mut world = World::new(1, 11);
    let mut publisher = world.publish(0, GCM);
    publisher.send_frame(true, 1);
    world.run_ms(10);
    world.events();
    let sources = vec![publisher.video.ssrc, 0x7777_7777];
    publisher.peer.send_rtcp(Goodbye {
        sources,
        ..Default::default()
    });
    world.run_ms(10);
    let (id, rendition) = (publisher.peer.id, publisher.video.rendition);
    assert!(matches!(
        world.events()[..],
        [Event::Bye(of, gone)] if of == id && gone == rendition
    ));
    world.run_ms(5_000);
    assert!(matches!(
        world.events()[..],
        [Event::PublisherSilent(of), Event::RenditionInactive(silent)]
            if of == id && silent == rendition
    ));
    publisher.send_frame(true, 1);
    world.run_ms(20);
    assert!(matches!(
        world.events()[..],
        [Event::RenditionActive(again, _), Event::PublisherHeard(of)]
            if again == rendition && of == id
    ));
}

#[test]
fn a_viewers_estimate_is_kept_for_the_control_plane() {
    let mut world = World::new(1, 12);
    let mut publisher = world.publish(0, GCM);
    let mut viewer = world.watch(0, GCM, &publisher);
    publisher.send_frame(true, 1);
    let ssrcs = vec![viewer.video.ssrc];
    viewer.peer.send_rtcp(ReceiverEstimatedMaximumBitrate {
        sender_ssrc: 1,
        bitrate: 2_500_000.0,
        ssrcs,
    });
    world.run_ms(1_100);
    let remb_bps = viewer.video.counters.remb_bps.get();
    assert!(remb_bps.abs_diff(2_500_000) < 20, "{remb_bps}");
}
