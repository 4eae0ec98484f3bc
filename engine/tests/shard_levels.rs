//! How loud publishers are (RFC 6464), as the control plane reads it from their sources.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::World;
use fanmill_engine::levels::LatestLevels;
use fanmill_engine::srtp::Profile;

const GCM: Profile = Profile::AeadAes128Gcm;

#[test]
fn the_levels_of_packets_are_there_at_the_next_tick() {
    let mut world = World::new(1, 1);
    let mut publisher = world.publish(0, GCM);
    let levels = |publisher: &common::media::Publisher| publisher.audio.counters.levels.latest();
    publisher.send_frame(true, 3);
    world.run_ms(20);
    assert!(!levels(&publisher).is_any(), "no sound, no level");

    let mut seen = LatestLevels::default();
    for level in 20..40 {
        publisher.audio.level = Some(level);
        publisher.send_audio();
        world.run_ms(20);
        let now = levels(&publisher);
        assert_eq!(now.since(seen).collect::<Vec<_>>(), [level]);
        seen = now;
    }
    assert_eq!(
        publisher.video.counters.levels.latest(),
        LatestLevels::default()
    );
}

#[test]
fn packets_that_say_nothing_or_come_twice_add_no_level() {
    let mut world = World::new(1, 2);
    let mut publisher = world.publish(0, GCM);
    publisher.audio.level = None;
    publisher.send_audio();
    world.run_ms(20);
    let counters = publisher.audio.counters.clone();
    assert!(!counters.levels.latest().is_any());

    publisher.audio.level = Some(50);
    let packet = publisher.make_audio();
    for _ in 0..2 {
        publisher.peer.send_rtp(&packet);
    }
    world.run_ms(20);
    let latest = counters.levels.latest();
    assert_eq!(
        latest.since(LatestLevels::default()).collect::<Vec<_>>(),
        [50]
    );
}
