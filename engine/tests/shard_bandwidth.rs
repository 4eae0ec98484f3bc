//! The bandwidth of viewers: who is estimated, what comes of it over a narrow link, and what others
//! pay for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::{Publisher, Stream};
use common::viewing::{Viewer, assert_in_sequence, id};
use fanmill_engine::event::Event;
use fanmill_engine::io::sim::LinkConditions;
use fanmill_engine::packet::twcc::{MIN_FEEDBACK_BYTES, TwccRecorder};
use fanmill_engine::srtp::Profile;

const GCM: Profile = Profile::AeadAes128Gcm;

/// A publisher of two encodings, and what each sends: packets of a frame.
struct Simulcast {
    publisher: Publisher,
    low: Stream,
    high: Stream,
    frame: u64,
}

const LOW_PACKETS: usize = 1;
/// Of 900 bytes at 30 frames: 1.7 Mbit/s.
const HIGH_PACKETS: usize = 8;

impl Simulcast {
    fn new(world: &mut World) -> Self {
        let publisher = world.publish(0, GCM);
        let [low, high] = ["l", "h"].map(|rid| {
            let mut stream = Stream::new(world, "s", true);
            stream.rid = Some(rid);
            stream
        });
        let mut spec = low.spec(world.name());
        spec.encodings = vec![low.encoding(), high.encoding()];
        world
            .engine()
            .add_incoming_track(publisher.peer.id, spec)
            .unwrap();
        world.settle();
        Self {
            publisher,
            low,
            high,
            frame: 0,
        }
    }

    fn send_frame(&mut self) {
        let keyframe = self.frame.is_multiple_of(60);
        self.frame += 1;
        for (stream, packets) in [(&mut self.low, LOW_PACKETS), (&mut self.high, HIGH_PACKETS)] {
            stream.timestamp = stream.timestamp.wrapping_add(3_000);
            for place in 0..packets {
                let number = self.publisher.number();
                let (start, marker) = (place == 0, place + 1 == packets);
                let packet = stream.packet(start, keyframe, marker, number);
                self.publisher.peer.send_rtp(&packet);
            }
        }
        self.publisher.send_audio();
    }
}

/// A viewer that reports as browsers do.
struct Reporting {
    viewer: Viewer,
    recorder: TwccRecorder,
    video: Vec<common::peer::Rtp>,
    rtx: usize,
}

impl Reporting {
    fn new(viewer: Viewer) -> Self {
        Self {
            viewer,
            recorder: TwccRecorder::new(),
            video: Vec::new(),
            rtx: 0,
        }
    }

    fn hear(&mut self, now_us: u64) {
        let video = self.viewer.take_video();
        let (audio, rtx) = (self.viewer.take_audio(), self.viewer.take_rtx());
        for packet in video.iter().chain(&audio).chain(&rtx) {
            let number = packet.number(id::TRANSPORT_CC).unwrap();
            self.recorder.record(number as u16, now_us);
        }
        self.rtx += rtx.len();
        self.video.extend(video);
    }

    fn report(&mut self) {
        let mut buffer = [0; MIN_FEEDBACK_BYTES * 2];
        if let Some(len) = self.recorder.build(&mut buffer, 1, self.viewer.video.ssrc) {
            let sealed = self.viewer.peer.seal_plain_rtcp(&buffer[..len]);
            self.viewer.peer.send(&sealed);
        }
    }

    fn estimate_bps(&self) -> u64 {
        self.viewer.video.counters.estimate_bps.get()
    }
}

/// Lets a publisher send for some time, and viewers report every 50 ms.
fn run(world: &mut World, simulcast: &mut Simulcast, viewers: &mut [&mut Reporting], ms: u64) {
    for at in 0..ms {
        if at % 33 == 0 {
            simulcast.send_frame();
        }
        world.run_ms(1);
        let now_us = world.now_us();
        for viewer in viewers.iter_mut() {
            viewer.hear(now_us);
            if at % 50 == 0 {
                viewer.report();
            }
        }
    }
}

fn limit(world: &World, viewer: &Reporting, bandwidth_bps: u64) {
    let server = world.sim.address(viewer.viewer.peer.shard);
    let conditions = LinkConditions {
        delay_us: 20_000,
        bandwidth_bps,
        max_queue_us: 300_000,
        ..LinkConditions::default()
    };
    let address = viewer.viewer.peer.socket.address();
    world.network.set_conditions(server, address, conditions);
}

fn falls_told(world: &mut World, viewer: &Reporting) -> usize {
    let id = viewer.viewer.peer.id;
    let told = world.events().into_iter();
    told.filter(|event| matches!(event, Event::EstimateFell(fell) if *fell == id))
        .count()
}

#[test]
fn the_estimate_follows_the_link_of_each_viewer_and_a_fall_is_told() {
    let mut world = World::new(2, 1);
    let mut simulcast = Simulcast::new(&mut world);
    simulcast.send_frame();
    world.run_ms(5);
    let [mut narrow, mut wide] = [1, 0].map(|shard| {
        let viewer = world.viewer(shard, GCM);
        world.attach_video(&viewer, simulcast.high.rendition);
        Reporting::new(viewer)
    });
    limit(&world, &narrow, 3_000_000);
    limit(&world, &wide, 20_000_000);
    run(
        &mut world,
        &mut simulcast,
        &mut [&mut narrow, &mut wide],
        3_000,
    );
    let estimate = narrow.estimate_bps();
    assert!((2_400_000..3_100_000).contains(&estimate), "{estimate}");
    assert!(wide.estimate_bps() > 10_000_000, "{}", wide.estimate_bps());
    assert_eq!(falls_told(&mut world, &narrow), 0);

    limit(&world, &narrow, 600_000);
    run(
        &mut world,
        &mut simulcast,
        &mut [&mut narrow, &mut wide],
        600,
    );
    let estimate = narrow.estimate_bps();
    assert!((300_000..800_000).contains(&estimate), "{estimate}");
    assert!(falls_told(&mut world, &narrow) >= 1);
    assert!(wide.estimate_bps() > 10_000_000, "{}", wide.estimate_bps());

    // The lower encoding fits; single packets are no trains, so now and then one is made.
    let lower = simulcast.low.rendition;
    world.attach_video(&narrow.viewer, lower);
    run(
        &mut world,
        &mut simulcast,
        &mut [&mut narrow, &mut wide],
        4_000,
    );
    narrow.rtx = 0;
    limit(&world, &narrow, 3_000_000);
    run(
        &mut world,
        &mut simulcast,
        &mut [&mut narrow, &mut wide],
        9_000,
    );
    let estimate = narrow.estimate_bps();
    assert!((2_000_000..3_200_000).contains(&estimate), "{estimate}");
    assert!(
        (5..=60).contains(&narrow.rtx),
        "{} packets to probe",
        narrow.rtx
    );
    assert_in_sequence(&wide.video);
}

#[test]
fn a_viewer_of_a_plain_stream_is_not_estimated_nor_one_who_has_turned_to_it() {
    let mut world = World::new(1, 2);
    let mut simulcast = Simulcast::new(&mut world);
    simulcast.send_frame();
    world.run_ms(5);
    let plain = simulcast.publisher.video.rendition;
    let [mut plain_viewer, mut turning] = [plain, simulcast.high.rendition].map(|rendition| {
        let viewer = world.viewer(0, GCM);
        world.attach_video(&viewer, rendition);
        Reporting::new(viewer)
    });
    for viewer in [&plain_viewer, &turning] {
        limit(&world, viewer, 10_000_000);
    }
    simulcast.publisher.send_frame(true, 8);
    run(
        &mut world,
        &mut simulcast,
        &mut [&mut plain_viewer, &mut turning],
        1_500,
    );
    assert_eq!(plain_viewer.estimate_bps(), 0);
    assert!(turning.estimate_bps() > 1_000_000);
    world.attach_video(&turning.viewer, plain);
    assert_eq!(turning.estimate_bps(), 0);
}

#[test]
fn a_viewer_that_tells_only_remb_is_believed() {
    use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    let mut world = World::new(1, 3);
    let mut simulcast = Simulcast::new(&mut world);
    simulcast.send_frame();
    world.run_ms(5);
    let mut viewer = world.viewer(0, GCM);
    world.attach_video(&viewer, simulcast.high.rendition);
    viewer.peer.send_rtcp(ReceiverEstimatedMaximumBitrate {
        sender_ssrc: 1,
        bitrate: 700_000.0,
        ssrcs: vec![viewer.video.ssrc],
    });
    world.run_ms(5);
    let estimate = viewer.video.counters.estimate_bps.get();
    assert!((690_000..=700_000).contains(&estimate), "{estimate}");
}

#[test]
fn an_encoding_that_nobody_watches_is_not_asked_for_until_somebody_does() {
    use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    let mut world = World::new(2, 9);
    let mut simulcast = Simulcast::new(&mut world);
    simulcast.send_frame();
    world.run_ms(5);
    // On another shard than the publisher: what is watched there counts too.
    let viewer = world.viewer(1, GCM);
    world.attach_video(&viewer, simulcast.low.rendition);
    let mut viewer = Reporting::new(viewer);
    let asked = |simulcast: &mut Simulcast| -> Vec<f32> {
        let peer = &mut simulcast.publisher.peer;
        let told = peer.take_rtcp::<ReceiverEstimatedMaximumBitrate>();
        told.iter().map(|remb| remb.bitrate).collect()
    };
    run(&mut world, &mut simulcast, &mut [&mut viewer], 6_000);
    let all = asked(&mut simulcast);
    assert!(all.iter().all(|bps| *bps > 3_900_000.0), "{all:?}");
    run(&mut world, &mut simulcast, &mut [&mut viewer], 6_000);
    let least = asked(&mut simulcast).last().copied().unwrap();
    // The low one is 0.2 Mbit/s, beside sound; the high one would take 1.7.
    assert!((250_000.0..450_000.0).contains(&least), "{least}");
    assert_eq!(simulcast.high.counters.paused.get(), 1);
    assert_eq!(simulcast.low.counters.paused.get(), 0);
    let takes = simulcast.high.counters.full_bitrate_bps.get();
    assert!((1_500_000..1_900_000).contains(&takes), "{takes}");

    // The control plane has somebody to show it to.
    simulcast.high.counters.wanted.set(1);
    run(&mut world, &mut simulcast, &mut [&mut viewer], 30);
    let at_once = asked(&mut simulcast);
    assert!(at_once[0] > 3_900_000.0, "{at_once:?}");
    assert_eq!(simulcast.high.counters.wanted.get(), 0, "it was read");
}

#[test]
fn a_viewer_changes_between_encodings_without_missing_a_frame() {
    let mut world = World::new(2, 4);
    let mut simulcast = Simulcast::new(&mut world);
    simulcast.send_frame();
    world.run_ms(5);
    // Another keeps the low one on the second shard; with nobody left it would end there at once.
    let [viewer, stays] = [1, 1].map(|shard| {
        let viewer = world.viewer(shard, GCM);
        world.attach_video(&viewer, simulcast.low.rendition);
        Reporting::new(viewer)
    });
    let (mut viewer, mut stays) = (viewer, stays);
    for shown in [&viewer, &stays] {
        limit(&world, shown, 20_000_000);
    }
    run(
        &mut world,
        &mut simulcast,
        &mut [&mut viewer, &mut stays],
        500,
    );
    viewer.video.clear();
    stays.video.clear();
    let frame = simulcast.frame;
    assert!((10..50).contains(&(frame % 60)), "far from a keyframe");
    world.attach_video(&viewer.viewer, simulcast.high.rendition);
    // The publisher is asked for a keyframe, and makes it late.
    run(
        &mut world,
        &mut simulcast,
        &mut [&mut viewer, &mut stays],
        400,
    );
    simulcast.frame = 60;
    run(
        &mut world,
        &mut simulcast,
        &mut [&mut viewer, &mut stays],
        600,
    );
    assert_in_sequence(&viewer.video);
    let frames = |shown: &Reporting| shown.video.iter().filter(|p| p.header.marker).count();
    // The low one's frame of the same moment may have gone before the keyframe.
    assert!((0..=1).contains(&(frames(&viewer) - frames(&stays))));
    let steps = viewer.video.windows(2).map(|pair| {
        let step = pair[1]
            .header
            .timestamp
            .wrapping_sub(pair[0].header.timestamp);
        step.cast_signed()
    });
    let steps: Vec<_> = steps.filter(|step| *step != 0).collect();
    assert!(
        steps.iter().all(|step| (1..4_500).contains(step)),
        "{steps:?}"
    );
    let single = viewer.video.iter().take_while(|p| p.header.marker).count();
    assert!((10..16).contains(&single), "{single} frames of the low one");
    assert!(viewer.video.len() > single + 10 * HIGH_PACKETS);
}

#[test]
fn who_is_told_to_change_back_stays_and_who_waits_in_vain_changes_all_the_same() {
    let mut world = World::without_cache(1, 5);
    let mut simulcast = Simulcast::new(&mut world);
    simulcast.send_frame();
    world.run_ms(5);
    let viewer = world.viewer(0, GCM);
    world.attach_video(&viewer, simulcast.low.rendition);
    let mut viewer = Reporting::new(viewer);
    limit(&world, &viewer, 20_000_000);
    simulcast.frame = 0;
    run(&mut world, &mut simulcast, &mut [&mut viewer], 300);
    viewer.video.clear();
    world.attach_video(&viewer.viewer, simulcast.high.rendition);
    run(&mut world, &mut simulcast, &mut [&mut viewer], 100);
    world.attach_video(&viewer.viewer, simulcast.low.rendition);
    run(&mut world, &mut simulcast, &mut [&mut viewer], 200);
    assert!(viewer.video.len() >= 8, "{}", viewer.video.len());
    assert!(viewer.video.iter().all(|packet| packet.header.marker));

    world.attach_video(&viewer.viewer, simulcast.high.rendition);
    run(&mut world, &mut simulcast, &mut [&mut viewer], 1_000);
    simulcast.frame = 1;
    run(&mut world, &mut simulcast, &mut [&mut viewer], 700);
    viewer.video.clear();
    run(&mut world, &mut simulcast, &mut [&mut viewer], 200);
    assert!(viewer.video.is_empty(), "it waits for the keyframe now");
    simulcast.frame = 60;
    run(&mut world, &mut simulcast, &mut [&mut viewer], 200);
    assert!(viewer.video.len() > 4 * HIGH_PACKETS);
}
