//! The links that the tables are about.

use super::Scenario;

/// What all the tables of links show.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut all = links();
    all.extend(losses());
    all.extend(sharing());
    all
}

fn steps() -> Vec<(u64, u64)> {
    vec![(0, 3_000_000), (20, 600_000), (50, 2_000_000)]
}

/// Links that change, are long, or drop.
#[must_use]
pub fn links() -> Vec<Scenario> {
    let stepping = Scenario {
        name: "3, 0.6, 2 Mbit/s",
        capacity: steps(),
        seconds: 90,
        ..Scenario::default()
    };
    vec![
        Scenario::default(),
        Scenario {
            name: "20 Mbit/s",
            capacity: vec![(0, 20_000_000)],
            ..Scenario::default()
        },
        Scenario {
            name: "0.6 Mbit/s from the start",
            capacity: vec![(0, 600_000)],
            ..Scenario::default()
        },
        stepping.clone(),
        Scenario {
            name: "the same, round trip 200 ms",
            one_way_ms: 100,
            ..stepping.clone()
        },
        Scenario {
            name: "the same, policed",
            polices: true,
            ..stepping.clone()
        },
        Scenario {
            name: "4, 0.8, 3.5 Mbit/s, two tracks",
            capacity: vec![(0, 4_000_000), (20, 800_000), (50, 3_500_000)],
            tracks: 2,
            ..stepping
        },
    ]
}

/// Links that lose packets whatever is sent.
#[must_use]
pub fn losses() -> Vec<Scenario> {
    let lossy = |name, loss_percent, loss_run| Scenario {
        name,
        capacity: vec![(0, 4_000_000)],
        loss_percent,
        loss_run,
        ..Scenario::default()
    };
    vec![
        lossy("4 Mbit/s, 2 % lost", 2.0, 1.0),
        lossy("4 Mbit/s, 5 % lost", 5.0, 1.0),
        lossy("4 Mbit/s, 10 % lost", 10.0, 1.0),
        lossy("4 Mbit/s, 5 % lost in runs of 8", 5.0, 8.0),
    ]
}

/// Links with others on them.
#[must_use]
pub fn sharing() -> Vec<Scenario> {
    let four = Scenario {
        capacity: vec![(0, 4_000_000)],
        seconds: 90,
        ..Scenario::default()
    };
    vec![
        Scenario {
            name: "4 Mbit/s, 2 of it another's for 30 s",
            constant: Some((20, 50, 2_000_000)),
            ..four.clone()
        },
        Scenario {
            name: "4 Mbit/s, a download (CUBIC) for 40 s",
            download: Some((20, 60)),
            ..four.clone()
        },
        Scenario {
            name: "4 Mbit/s, two viewers",
            viewers: vec![0, 10],
            ..four.clone()
        },
        Scenario {
            name: "4 Mbit/s, four viewers",
            viewers: vec![0, 5, 10, 15],
            ..four
        },
    ]
}

/// Keyframes into short queues, at once and spread out.
#[must_use]
pub fn pacing() -> Vec<Scenario> {
    let paced = |name, pacing, queue_bytes| Scenario {
        name,
        capacity: vec![(0, 2_000_000)],
        queue_bytes,
        keyframe_every_ms: Some(3_300),
        pacing,
        ..Scenario::default()
    };
    vec![
        paced("64 kB, at once", None, 64_000),
        paced("64 kB, at 2.5 times", Some(2.5), 64_000),
        paced("64 kB, at 1.2 times", Some(1.2), 64_000),
        paced("24 kB, at once", None, 24_000),
        paced("24 kB, at 2.5 times", Some(2.5), 24_000),
        paced("24 kB, at 1.2 times", Some(1.2), 24_000),
        paced("12 kB, at once", None, 12_000),
        paced("12 kB, at 2.5 times", Some(2.5), 12_000),
        paced("12 kB, at 1.2 times", Some(1.2), 12_000),
    ]
}
