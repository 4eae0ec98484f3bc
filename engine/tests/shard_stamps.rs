//! What the server itself says in headers: times of capture where the publisher gives none, and the
//! playout delay that a stream is given.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use common::media::Publisher;
use common::peer::Rtp;
use common::viewing::{Viewer, id};
use fanmill_engine::packet::extension::PlayoutDelay;
use fanmill_engine::srtp::Profile;
use rtcp::sender_report::SenderReport;

const GCM: Profile = Profile::AeadAes128Gcm;

const SECOND: u64 = 1 << 32;

/// A publisher that tells no times, and viewers of it on both shards, the last without RTX.
fn watched(seed: u64) -> (World, Publisher, Vec<Viewer>) {
    let mut world = World::new(2, seed);
    let mut publisher = world.publish(0, GCM);
    publisher.video.tells_times = false;
    let mut viewers = vec![
        world.watch(0, GCM, &publisher),
        world.watch(1, GCM, &publisher),
    ];
    let mut plain = world.viewer(1, GCM);
    plain.rtx = false;
    world.attach(&plain, &publisher);
    viewers.push(plain);
    (world, publisher, viewers)
}

/// Some seconds of video, thirty frames each, and audio with each frame.
fn run(world: &mut World, publisher: &mut Publisher, seconds: usize) {
    for frame in 0..seconds * 30 {
        publisher.send_frame(frame == 0, 3);
        publisher.send_audio();
        world.run_ms(33);
    }
}

fn report(world: &World, publisher: &mut Publisher, ntp_time: u64) {
    for (ssrc, rtp_time) in [
        (publisher.video.ssrc, publisher.video.timestamp),
        (publisher.audio.ssrc, publisher.audio.timestamp),
    ] {
        publisher.peer.send_rtcp(SenderReport {
            ssrc,
            ntp_time,
            rtp_time,
            ..Default::default()
        });
    }
    assert!(world.now_us() > 0);
}

/// The packets that bear a time of capture: their time, with the clock offset, and timestamp.
fn captured(packets: &[Rtp]) -> Vec<(u64, u32)> {
    let captured = packets.iter().filter_map(|packet| {
        let value = packet.extension(id::CAPTURE_TIME)?;
        let (time, offset) = value.split_first_chunk::<8>().unwrap();
        assert_eq!(offset, [0; 8], "our clock is that of the reports");
        Some((u64::from_be_bytes(*time), packet.header.timestamp))
    });
    captured.collect()
}

#[test]
fn a_time_of_capture_is_told_once_a_second_in_the_clock_of_the_reports() {
    let (mut world, mut publisher, mut viewers) = watched(1);
    publisher.send_frame(true, 3);
    publisher.send_audio();
    world.run_ms(33);
    report(&world, &mut publisher, 1_000 * SECOND);
    run(&mut world, &mut publisher, 5);
    for viewer in &mut viewers {
        // Video and audio start at unlike timestamps, and advance at unlike rates.
        for (packets, rate) in [(viewer.take_video(), 90_000), (viewer.take_audio(), 48_000)] {
            let captured = captured(&packets);
            assert!((5..=6).contains(&captured.len()), "{}", captured.len());
            let (first_time, first_timestamp) = captured[0];
            assert!((1_000 * SECOND..1_001 * SECOND).contains(&first_time));
            for (time, timestamp) in &captured {
                let ticks = u128::from(timestamp.wrapping_sub(first_timestamp));
                let expected = (ticks << 32) / rate;
                let passed = u128::from(time - first_time);
                assert!(passed.abs_diff(expected) <= 2, "{passed} {expected}");
            }
        }
    }
}

#[test]
fn without_reports_the_arrival_is_told_after_some_time() {
    let (mut world, mut publisher, mut viewers) = watched(2);
    run(&mut world, &mut publisher, 5);
    let now = (u128::from(world.now_us()) << 32) / 1_000_000;
    let captured = captured(&viewers[1].take_video());
    assert!(
        (2..=3).contains(&captured.len()),
        "none in the first three seconds"
    );
    let last = u128::from(captured.last().unwrap().0);
    assert!(now - last < u128::from(2 * SECOND));
}

#[test]
fn a_publisher_that_tells_times_of_capture_is_left_to_it() {
    let (mut world, mut publisher, mut viewers) = watched(3);
    publisher.video.tells_times = true;
    publisher.send_frame(true, 3);
    world.run_ms(33);
    report(&world, &mut publisher, 1_000 * SECOND);
    publisher.video.tells_times = false;
    run(&mut world, &mut publisher, 4);
    let told: Vec<_> = viewers[0]
        .take_video()
        .iter()
        .filter_map(|packet| packet.extension(id::CAPTURE_TIME))
        .collect();
    assert_eq!(told, vec![vec![8, 7, 6, 5, 4, 3, 2, 1]; 3]);
}

#[test]
fn what_is_resent_as_it_was_bears_the_same_stamps() {
    let (mut world, mut publisher, mut viewers) = watched(4);
    publisher.send_frame(true, 3);
    world.run_ms(33);
    report(&world, &mut publisher, 1_000 * SECOND);
    let delay = PlayoutDelay {
        min_ms: 200,
        max_ms: 400,
    };
    let rendition = publisher.video.rendition;
    let engine = world.engine();
    engine.set_playout_delay(rendition, Some(delay)).unwrap();
    viewers[2].take_video();
    publisher.send_frame(false, 3);
    world.run_ms(300);
    let [.., plain] = &mut viewers[..] else {
        panic!("no viewer")
    };
    let first = plain.take_video();
    assert!(first[0].extension(id::CAPTURE_TIME).is_some());
    let numbers: Vec<u16> = first.iter().map(|p| p.header.sequence_number).collect();
    plain.nack(&numbers);
    world.run_ms(10);
    let again = plain.take_video();
    assert_eq!(again.len(), 3);
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(first.sealed, again.sealed, "one nonce, one text");
    }
}

/// Which packets bear a playout delay, as minimum and maximum in milliseconds.
fn delays(packets: &[Rtp]) -> Vec<Option<(u64, u64)>> {
    let delay = |packet: &Rtp| {
        let bits = packet.number(id::PLAYOUT_DELAY)?;
        Some(((bits >> 12) * 10, (bits & 0xfff) * 10))
    };
    packets.iter().map(delay).collect()
}

#[test]
fn a_streams_playout_delay_takes_the_place_of_the_publishers() {
    let (mut world, mut publisher, mut viewers) = watched(5);
    publisher.video.tells_times = true;
    publisher.send_frame(true, 2);
    world.run_ms(33);
    let theirs = Some((10, 320));
    for viewer in &mut viewers {
        assert_eq!(delays(&viewer.take_video()), [theirs; 2]);
    }
    let delay = PlayoutDelay {
        min_ms: 200,
        max_ms: 400,
    };
    let rendition = publisher.video.rendition;
    let engine = world.engine();
    engine.set_playout_delay(rendition, Some(delay)).unwrap();
    for frame in 0..4 {
        publisher.send_frame(frame == 2, 2);
        world.run_ms(33);
    }
    let ours = Some((200, 400));
    for viewer in &mut viewers {
        let told = delays(&viewer.take_video());
        assert_eq!(told, [ours, ours, None, None, ours, ours, None, None]);
    }
    // Who comes later begins with a keyframe that says it.
    let mut late = world.watch(1, GCM, &publisher);
    world.run_ms(100);
    assert_eq!(delays(&late.take_video())[..2], [ours, ours]);

    world.engine().set_playout_delay(rendition, None).unwrap();
    publisher.send_frame(false, 2);
    world.run_ms(33);
    assert_eq!(delays(&viewers[0].take_video()), [theirs; 2]);
}
