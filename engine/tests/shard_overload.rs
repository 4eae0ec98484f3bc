//! A shard with more to send than it has time for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;

use common::World;
use common::media::{Publisher, id_of};
use common::peer::Rtp;
use common::viewing::{Viewer, assert_in_sequence};
use fanmill_engine::counters::DropReason;
use fanmill_engine::event::Event;
use fanmill_engine::ids::ShardId;
use fanmill_engine::limits::DEFAULT_MAX_LAG_US;
use fanmill_engine::srtp::Profile;

const PROFILE: Profile = Profile::AeadAes128Gcm;
const FRAME_MS: u64 = 33;

/// The longest that anything waits for a shard that suddenly has twice as much to do as it can: two
/// windows to be sure, and the bursts at hand.
const BOUND_US: u64 = 5 * DEFAULT_MAX_LAG_US;

/// A broadcast whose every datagram costs its shard so much that only so many viewers are served.
struct Broadcast {
    world: World,
    publisher: Publisher,
    viewers: Vec<Viewer>,
    packets_per_frame: usize,
    /// When packets were sent, by their number.
    sent_us: HashMap<u64, u64>,
    longest_wait_us: u64,
    frames: u64,
    audio: u64,
}

impl Broadcast {
    fn new(viewers: usize, datagram_cost_ns: u64) -> Self {
        let mut world = World::new(1, 1);
        let publisher = world.publish(0, PROFILE);
        let mut broadcast = Self {
            world,
            publisher,
            viewers: Vec::new(),
            packets_per_frame: 10,
            sent_us: HashMap::new(),
            longest_wait_us: 0,
            frames: 0,
            audio: 0,
        };
        for _ in 0..viewers {
            let viewer = broadcast.world.watch(0, PROFILE, &broadcast.publisher);
            broadcast.viewers.push(viewer);
        }
        broadcast.run_frames(3);
        let socket = broadcast.world.sim.socket(ShardId(0)).unwrap();
        socket.set_datagram_cost_ns(datagram_cost_ns);
        broadcast
    }

    /// Lets so many frames pass, with their sound; a keyframe whenever one was asked for.
    fn run_frames(&mut self, frames: u64) {
        for _ in 0..frames {
            let asked = self.publisher.peer.take_rtcp::<
                rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication,
            >();
            let keyframe = self.frames == 0 || !asked.is_empty();
            let packets = self.publisher.make_frame(keyframe, self.packets_per_frame);
            let now_us = self.world.now_us();
            for packet in &packets {
                let id = id_of(&Rtp::parse(packet, packet).payload);
                self.sent_us.insert(id, now_us);
                self.publisher.peer.send_rtp(packet);
            }
            self.publisher.send_audio();
            self.frames += 1;
            self.audio += 1;
            self.world.run_ms(FRAME_MS);
        }
    }

    /// What each viewer received of video since the last call: number of packets.
    fn received(&mut self) -> Vec<usize> {
        let now_us = self.world.now_us();
        let mut counts = Vec::new();
        for viewer in &mut self.viewers {
            let video = viewer.take_video();
            assert_in_sequence(&video);
            for packet in &video {
                let waited_us = now_us - self.sent_us[&id_of(&packet.payload)];
                self.longest_wait_us = self.longest_wait_us.max(waited_us);
            }
            counts.push(video.len());
        }
        counts
    }

    /// Lets frames pass and looks after each who received what; the sum.
    fn watch_frames(&mut self, frames: u64) -> Vec<usize> {
        let mut sums = vec![0; self.viewers.len()];
        for _ in 0..frames {
            self.run_frames(1);
            for (sum, count) in sums.iter_mut().zip(self.received()) {
                *sum += count;
            }
        }
        sums
    }

    fn withheld(&mut self) -> Vec<u32> {
        let events = self.world.events();
        let withheld = events.iter().filter_map(|event| match event {
            Event::VideoWithheld(_, tracks) => Some(*tracks),
            _ => None,
        });
        withheld.collect()
    }
}

#[test]
fn a_shard_that_cannot_keep_up_serves_some_well_keeps_audio_and_recovers() {
    // 30 viewers, 11 packets 30 times a second, 200 us each: twice what there is time for.
    let mut broadcast = Broadcast::new(30, 200_000);
    broadcast.received();
    let _ = broadcast.withheld();
    // The shard finds its measure.
    broadcast.watch_frames(60);
    let withheld = broadcast.withheld();
    assert!(
        withheld.last().is_some_and(|tracks| *tracks > 0),
        "{withheld:?}"
    );
    assert!(
        broadcast.longest_wait_us < BOUND_US,
        "{}",
        broadcast.longest_wait_us
    );
    // Then those who are served get everything, in time, and the others nothing.
    broadcast.longest_wait_us = 0;
    let sums = broadcast.watch_frames(30);
    let whole = sums.iter().filter(|sum| **sum >= 280).count();
    // Of the thirteen that there would be time for, less what was given up in the first alarm.
    assert!(whole >= 7, "{sums:?}");
    assert!(
        broadcast.longest_wait_us < 2 * DEFAULT_MAX_LAG_US,
        "{}",
        broadcast.longest_wait_us
    );
    assert!(broadcast.world.dropped(DropReason::Overload) > 0);
    assert!(broadcast.world.counters(0).viewers_shed.get() > 0);
    // Everybody hears everything.
    let audio = broadcast.audio;
    broadcast.world.run_ms(200);
    for viewer in &mut broadcast.viewers {
        let sound = viewer.take_audio();
        assert_in_sequence(&sound);
        assert_eq!(sound.len() as u64, audio);
    }
    // Less to do: all come back, by themselves.
    broadcast.packets_per_frame = 2;
    broadcast.run_frames(30 * 40);
    broadcast.received();
    assert_eq!(broadcast.withheld().last(), Some(&0));
    let sums = broadcast.watch_frames(30);
    assert!(sums.iter().all(|sum| *sum == 60), "{sums:?}");
    assert_eq!(broadcast.world.counters(0).viewers_shed.get(), 0);
}

#[test]
fn a_pause_of_the_machine_takes_video_from_nobody() {
    let mut broadcast = Broadcast::new(10, 100_000);
    broadcast.received();
    // Half a second in which the shard does nothing, as if others had its core.
    let packets: Vec<_> = (0..15)
        .flat_map(|_| broadcast.publisher.make_frame(false, 10))
        .collect();
    for packet in &packets {
        broadcast.publisher.peer.send_rtp(packet);
    }
    broadcast.world.network.advance(500_000);
    broadcast.world.run_ms(1000);
    for viewer in &mut broadcast.viewers {
        assert_eq!(viewer.take_video().len(), packets.len());
    }
    assert_eq!(broadcast.withheld(), []);
    assert_eq!(broadcast.world.dropped(DropReason::Overload), 0);
}

#[test]
fn a_newcomer_to_a_shard_that_cannot_keep_up_waits_for_its_turn() {
    let mut broadcast = Broadcast::new(30, 200_000);
    broadcast.watch_frames(60);
    let newcomer = broadcast.world.watch(0, PROFILE, &broadcast.publisher);
    broadcast.viewers.push(newcomer);
    let sums = broadcast.watch_frames(20);
    assert_eq!(sums.last(), Some(&0));
    let newcomer = broadcast.viewers.last_mut().unwrap();
    assert!(newcomer.take_audio().len() >= 15, "it hears at once");
    broadcast.packets_per_frame = 2;
    broadcast.run_frames(30 * 60);
    let sums = broadcast.received();
    assert!(sums.iter().all(|sum| *sum > 60), "{sums:?}");
}

#[test]
fn those_who_lose_most_of_it_anyway_are_the_first_to_go_without() {
    let mut broadcast = Broadcast::new(30, 200_000);
    let losing = [3, 4, 11, 20, 29];
    for place in losing {
        let viewer = &mut broadcast.viewers[place];
        let ssrc = viewer.video.ssrc;
        viewer
            .peer
            .send_rtcp(rtcp::receiver_report::ReceiverReport {
                ssrc: 1,
                reports: vec![rtcp::reception_report::ReceptionReport {
                    ssrc,
                    fraction_lost: 64,
                    ..Default::default()
                }],
                ..Default::default()
            });
    }
    broadcast.watch_frames(60);
    let sums = broadcast.watch_frames(20);
    assert!(losing.iter().all(|place| sums[*place] == 0), "{sums:?}");
    assert!(sums.iter().any(|sum| *sum > 0), "{sums:?}");
}
