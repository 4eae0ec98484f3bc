//! Viewers of some layers of a scalable stream: what they are sent, how they change, and what becomes of
//! packets that are late or lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::World;
use common::layered::{Belongs, Layered, PACKETS, belongs, layers};
use common::peer::Rtp;
use common::viewing::{Viewer, assert_in_sequence};
use fanmill_engine::counters::DropReason;
use fanmill_engine::packet::layer::Layers;
use fanmill_engine::srtp::Profile;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

const GCM: Profile = Profile::AeadAes128Gcm;
const ALL: Layers = Layers::ALL;

/// The highest layers of each picture that came, by its id; all packets of every layer up to the
/// highest spatial one must be there once and in order, and the marker at its end.
fn pictures(packets: &[Rtp]) -> BTreeMap<u16, (u8, u8)> {
    let mut pictures: BTreeMap<u16, Vec<(Belongs, bool)>> = BTreeMap::new();
    for packet in packets {
        let belongs = belongs(packet).unwrap();
        let of_picture = pictures.entry(belongs.picture).or_default();
        of_picture.push((belongs, packet.header.marker));
    }
    let whole = |of_picture: Vec<(Belongs, bool)>| {
        let highest = of_picture.iter().map(|(one, _)| one.spatial).max().unwrap();
        let came = of_picture.iter().map(|(one, _)| (one.spatial, one.place));
        let expected = (0..=highest).flat_map(|spatial| {
            let count = PACKETS[usize::from(spatial)] as u8;
            (0..count).map(move |place| (spatial, place))
        });
        assert!(came.eq(expected), "{of_picture:?}");
        let (last, others) = of_picture.split_last().unwrap();
        assert!(last.1 && !others.iter().any(|(_, marker)| *marker));
        (highest, last.0.temporal)
    };
    let pictures = pictures.into_iter();
    pictures.map(|(id, one)| (id, whole(one))).collect()
}

fn spatial_layers(pictures: &BTreeMap<u16, (u8, u8)>) -> BTreeSet<u8> {
    pictures.values().map(|(spatial, _)| *spatial).collect()
}

fn temporal_layers(pictures: &BTreeMap<u16, (u8, u8)>) -> BTreeSet<u8> {
    pictures.values().map(|(_, temporal)| *temporal).collect()
}

#[test]
fn each_viewer_is_sent_its_layers_without_gaps_and_each_layer_is_measured() {
    let mut world = World::new(2, 1);
    let mut source = Layered::new(&mut world, 0);
    source.send_picture(true);
    world.run_ms(33);
    let wanted = [ALL, layers(2, 0), layers(1, 1), layers(0, 2), layers(0, 0)];
    let mut viewers: Vec<(Layers, Viewer)> = Vec::new();
    for (place, layers) in wanted.into_iter().enumerate() {
        let viewer = world.viewer(place as u16 % 2, GCM);
        source.show(&mut world, &viewer, layers);
        viewers.push((layers, viewer));
    }
    source.send_pictures(&mut world, 100);
    for (layers, viewer) in &mut viewers {
        let video = viewer.take_video();
        assert_in_sequence(&video);
        let seen = pictures(&video);
        let temporal = layers.temporal.min(2);
        let of_101 = [26, 51, 101][usize::from(temporal)];
        assert_eq!(seen.len(), of_101, "{layers:?}");
        assert_eq!(spatial_layers(&seen), [layers.spatial.min(2)].into());
        assert_eq!(temporal_layers(&seen), (0..=temporal).collect());
    }
    let measured = &source.video.counters.layers;
    let rate = |spatial: usize, temporal: usize| measured.bitrate_bps[spatial][temporal].get();
    for spatial in 0..3 {
        assert!(rate(spatial, 0) > 0 && rate(spatial, 2) > rate(spatial, 1));
        let per_1000_s = measured.frames_per_1000_s[spatial][2].get();
        assert!((14_000..16_500).contains(&per_1000_s), "{per_1000_s}");
    }
    assert_eq!(rate(3, 0) + rate(0, 3), 0);
    assert_eq!(source.video.counters.keyframe_requests.get(), 0);
    assert_eq!(world.drops(), []);
}

#[test]
fn a_viewer_of_keyframes_alone_is_sent_them_whole_and_without_gaps() {
    for shard in [0, 1] {
        let mut world = World::new(2, 1);
        let mut source = Layered::new(&mut world, 0);
        let mut viewer = world.viewer(shard, GCM);
        source.send_picture(true);
        world.run_ms(33);
        source.show(&mut world, &viewer, ALL.keyframes());
        let (mut video, mut keyframes) = (Vec::new(), 1);
        for _ in 0..4 {
            source.send_pictures(&mut world, 7);
            source.send_picture(true);
            world.run_ms(33);
            keyframes += 1;
        }
        video.extend(viewer.take_video());
        assert_in_sequence(&video);
        let seen = pictures(&video);
        assert_eq!(seen.len(), keyframes, "{seen:?}");
        assert!(seen.values().all(|layers| *layers == (2, 0)), "{seen:?}");
        // Decoders that are shown nothing for a while ask for more.
        let requests = |source: &Layered| source.video.counters.keyframe_requests.get();
        let before = requests(&source);
        viewer.ask_for_keyframe();
        world.run_ms(1_100);
        assert_eq!(requests(&source), before);
        // All pictures again, from the next keyframe on.
        source.show(&mut world, &viewer, ALL);
        source.send_pictures(&mut world, 2);
        source.send_picture(true);
        world.run_ms(33);
        source.send_pictures(&mut world, 8);
        let fresh = viewer.take_video();
        video.extend(fresh.iter().cloned());
        assert_in_sequence(&video);
        assert!(pictures(&fresh).len() >= 9);
    }
}

#[test]
fn keyframes_alone_go_on_when_a_publisher_begins_anew_with_earlier_timestamps() {
    let mut world = World::new(1, 1);
    let mut source = Layered::new(&mut world, 0);
    let mut viewer = world.viewer(0, GCM);
    source.show(&mut world, &viewer, ALL.keyframes());
    source.send_picture(true);
    world.run_ms(33);
    assert_eq!(pictures(&viewer.take_video()).len(), 1);
    source.video.ssrc += 1;
    source.video.timestamp = source.video.timestamp.wrapping_sub(1 << 30);
    for _ in 0..3 {
        source.send_picture(true);
        world.run_ms(33);
        source.send_pictures(&mut world, 3);
    }
    assert_eq!(pictures(&viewer.take_video()).len(), 3);
}

#[test]
fn a_viewer_changes_among_layers_without_a_gap_and_asks_for_a_keyframe_only_to_see_more() {
    for shard in [0, 1] {
        let mut world = World::new(2, 1);
        let mut source = Layered::new(&mut world, 0);
        let mut viewer = world.viewer(shard, GCM);
        source.show(&mut world, &viewer, ALL);
        source.send_picture(true);
        world.run_ms(33);
        source.send_pictures(&mut world, 8);
        let mut video = viewer.take_video();
        let mut shows = |world: &mut World, source: &mut Layered, to, keyframe| {
            source.show(world, &viewer, to);
            if keyframe {
                // It goes on with what it has until then.
                source.send_pictures(world, 3);
                source.send_picture(true);
                world.run_ms(33);
            }
            source.send_pictures(world, 8);
            let fresh = viewer.take_video();
            video.extend(fresh.iter().cloned());
            let seen: Vec<_> = pictures(&fresh).into_values().collect();
            let last = &seen[seen.len() - 2..];
            let spatial = last.iter().map(|(spatial, _)| *spatial).collect::<Vec<_>>();
            assert_eq!(spatial, [to.spatial.min(2); 2], "{to:?}: {seen:?}");
            // A period of four pictures has one or more of each layer that is shown.
            let shown = (4 >> (2 - to.temporal.min(2))).max(2);
            let last = &seen[seen.len() - shown..];
            let temporal = last.iter().map(|(_, temporal)| *temporal).max();
            assert_eq!(temporal, Some(to.temporal.min(2)), "{to:?}: {seen:?}");
            world.engine().tend().unwrap();
        };
        for to in [
            layers(1, 2),
            layers(1, 0),
            layers(0, 0),
            layers(0, 2),
            layers(0, 1),
        ] {
            shows(&mut world, &mut source, to, false);
        }
        assert_eq!(source.video.counters.keyframe_requests.get(), 0);
        shows(&mut world, &mut source, layers(2, 1), true);
        shows(&mut world, &mut source, layers(0, 0), false);
        shows(&mut world, &mut source, ALL, true);
        let _ = shows;
        world.run_ms(1_000);
        assert!(source.video.counters.keyframe_requests.get() > 0);
        assert_in_sequence(&video);
        // Every picture of the lowest layer came, once, at the time of its original.
        let seen = pictures(&video);
        let lowest = seen.iter().filter(|(_, (_, temporal))| *temporal == 0);
        let steps: Vec<u16> = lowest.clone().map(|(id, _)| *id).collect();
        assert!(
            steps.windows(2).all(|pair| pair[1] - pair[0] <= 4),
            "{steps:?}"
        );
        let times: BTreeSet<u32> = video
            .iter()
            .map(|packet| {
                let picture = belongs(packet).unwrap().picture;
                let at = u32::from(picture) * 3_000;
                packet.header.timestamp.wrapping_sub(at)
            })
            .collect();
        assert_eq!(times.len(), 1);
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn a_rendition_of_layers_ends_when_nobody_has_it_and_with_its_encoding() {
    let mut world = World::new(2, 1);
    let mut source = Layered::new(&mut world, 0);
    source.send_picture(true);
    world.run_ms(33);
    let renditions = |world: &mut World| {
        world.run_ms(20);
        [0, 1].map(|shard| world.counters(shard).renditions.get())
    };
    let plain = renditions(&mut world);
    let viewers = [0, 1].map(|shard| world.viewer(shard, GCM));
    let made = viewers
        .each_ref()
        .map(|viewer| source.show(&mut world, viewer, layers(1, 1)));
    assert_eq!(made[0], made[1], "one for all");
    assert_eq!(renditions(&mut world), [plain[0] + 1, plain[1] + 1]);
    for viewer in &viewers {
        source.show(&mut world, viewer, ALL);
    }
    source.send_pictures(&mut world, 2);
    for _ in 0..3 {
        assert!(renditions(&mut world)[0] > plain[0]);
        world.engine().tend().unwrap();
        world.settle();
    }
    assert_eq!(renditions(&mut world), [plain[0], plain[1] + 1]);
    let again = source.show(&mut world, &viewers[0], layers(1, 1));
    assert_ne!(again, made[0], "names are not used twice");
    let track = fanmill_engine::ids::IncomingTrackId(source.track);
    let publisher = source.publisher.peer.id;
    world
        .engine()
        .remove_incoming_track(publisher, track)
        .unwrap();
    world.settle();
    assert_eq!(renditions(&mut world), [plain[0] - 1, plain[1]]);
    assert_eq!(world.dropped(DropReason::StaleCommand), 0);
}

#[test]
fn who_joins_layers_sees_a_picture_from_the_cache() {
    let mut world = World::new(1, 1);
    let mut source = Layered::new(&mut world, 0);
    source.send_picture(true);
    world.run_ms(33);
    source.send_pictures(&mut world, 9);
    let mut viewer = world.viewer(0, GCM);
    source.show(&mut world, &viewer, layers(1, 1));
    world.run_ms(300);
    source.send_pictures(&mut world, 4);
    let video = viewer.take_video();
    assert_in_sequence(&video);
    let seen = pictures(&video);
    assert_eq!(
        seen.keys().copied().collect::<Vec<_>>(),
        [1, 3, 5, 7, 9, 11, 13]
    );
    assert_eq!(source.video.counters.keyframe_requests.get(), 0);
}

/// A number that differs from call to call.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % below
    }
}

/// A viewer, and what it was sent under each sequence number.
struct Watching {
    viewer: Viewer,
    sent: BTreeSet<u16>,
    belongs: Vec<Belongs>,
}

impl Watching {
    fn new(world: &mut World, source: &Layered, shard: u16) -> Self {
        let viewer = world.viewer(shard, GCM);
        source.show(world, &viewer, ALL);
        Self {
            viewer,
            sent: BTreeSet::new(),
            belongs: Vec::new(),
        }
    }

    /// Takes what came: no number may stand for two packets, or one nonce would seal two texts.
    fn take(&mut self) {
        for packet in self.viewer.take_video() {
            let number = packet.header.sequence_number;
            assert!(self.sent.insert(number), "{number} was used before");
            self.belongs.extend(belongs(&packet));
        }
    }
}

/// Sends a picture of which some packets are lost and some late, and restores some that were asked for.
fn send_badly(
    world: &mut World,
    source: &mut Layered,
    random: &mut Random,
    late: &mut Vec<(u64, Vec<u8>)>,
    picture: u64,
) {
    for packet in source.make_picture(picture.is_multiple_of(40)) {
        match random.below(20) {
            0 => {}
            1 | 2 => late.push((picture + random.below(3), packet)),
            _ => source.publisher.peer.send_rtp(&packet),
        }
    }
    late.retain(|(due, packet)| {
        if *due <= picture {
            source.publisher.peer.send_rtp(packet);
        }
        *due > picture
    });
    world.run_ms(33);
    let nacks = source.publisher.peer.take_rtcp::<TransportLayerNack>();
    let pairs = nacks.iter().flat_map(|nack| &nack.nacks);
    let numbers: BTreeSet<u16> = pairs.flat_map(|pair| pair.packet_list()).collect();
    for number in numbers {
        if random.below(3) > 0 {
            source.send_retransmission(number);
        }
    }
}

#[test]
fn whatever_order_packets_come_in_no_number_stands_for_two() {
    for seed in 1..12 {
        let mut world = World::new(2, seed);
        let mut source = Layered::new(&mut world, 0);
        let mut random = Random(seed);
        let mut late = Vec::new();
        let mut watching: Vec<_> = (0..4)
            .map(|at| Watching::new(&mut world, &source, at % 2))
            .collect();
        for picture in 0..240 {
            send_badly(&mut world, &mut source, &mut random, &mut late, picture);
            for one in &mut watching {
                one.take();
                if random.below(12) == 0 {
                    let to = match random.below(4) {
                        0 => ALL,
                        _ => layers(random.below(3) as u8, random.below(3) as u8),
                    };
                    source.show(&mut world, &one.viewer, to);
                }
            }
            if picture.is_multiple_of(30) {
                world.engine().tend().unwrap();
            }
        }
        assert!(watching.iter().all(|one| one.belongs.len() > 100));
        assert_eq!(world.dropped(DropReason::SealFailed), 0);
    }
}

#[test]
fn what_is_lost_of_a_layer_that_is_left_out_is_not_missed_once_it_is_known() {
    let mut world = World::new(1, 1);
    let mut source = Layered::new(&mut world, 0);
    source.send_picture(true);
    world.run_ms(33);
    let mut viewer = world.viewer(0, GCM);
    source.show(&mut world, &viewer, layers(0, 2));
    source.send_pictures(&mut world, 4);
    let mut packets = source.make_picture(false);
    // One of the lowest layer and one of the highest are lost.
    let lost = [packets.remove(0), packets.remove(4)];
    for packet in &packets {
        source.publisher.peer.send_rtp(packet);
    }
    source.send_pictures(&mut world, 2);
    let before = viewer.take_video();
    for packet in &lost {
        let number = u16::from_be_bytes([packet[2], packet[3]]);
        source.send_retransmission(number);
    }
    world.run_ms(33);
    let late = viewer.take_video();
    let (filled, restored): (Vec<_>, Vec<_>) = late.iter().partition(|one| one.payload.is_empty());
    assert_eq!((filled.len(), restored.len()), (1, 1));
    let mut all: Vec<_> = before.iter().chain(&late).cloned().collect();
    all.sort_by_key(|packet| {
        packet
            .header
            .sequence_number
            .wrapping_sub(before[0].header.sequence_number)
    });
    assert_in_sequence(&all);
    let pictures: Vec<_> = all
        .iter()
        .filter_map(belongs)
        .map(|one| one.picture)
        .collect();
    assert_eq!(pictures, [1, 2, 3, 4, 5, 6, 7, 8]);
}
