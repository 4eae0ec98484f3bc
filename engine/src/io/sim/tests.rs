//! The simulated network keeps its promises.
#![allow(clippy::unwrap_used)] // A panic is the failure report.

use super::*;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// Sends `count` numbered datagrams 100 us apart and returns what arrives: number and time.
fn run(seed: u64, conditions: LinkConditions, count: u32) -> (Vec<(u32, u64)>, SimStats) {
    let net = SimNetwork::new(seed);
    net.set_default_conditions(conditions);
    let (sender, receiver) = (net.peer(address(1)), net.peer(address(2)));
    let mut arrived = Vec::new();
    let mut collect = || {
        while let Some((from, payload)) = receiver.receive() {
            assert_eq!(from, sender.address());
            arrived.push((
                u32::from_be_bytes(payload.try_into().unwrap()),
                net.now_us(),
            ));
        }
    };
    for number in 0..count {
        sender.send(receiver.address(), &number.to_be_bytes());
        net.advance(100);
        collect();
    }
    net.advance(1_000_000);
    collect();
    (arrived, net.stats())
}

fn rough() -> LinkConditions {
    LinkConditions {
        loss: 0.1,
        duplicate: 0.05,
        reorder: 0.1,
        delay_us: 20_000,
        jitter_us: 3_000,
        ..LinkConditions::default()
    }
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another() {
    let (first, first_stats) = run(7, rough(), 2_000);
    let (again, again_stats) = run(7, rough(), 2_000);
    assert_eq!((&first, first_stats), (&again, again_stats));
    assert_ne!(first, run(8, rough(), 2_000).0);
}

#[test]
fn a_perfect_link_delivers_everything_at_once_and_in_order() {
    let (arrived, stats) = run(1, LinkConditions::default(), 100);
    assert_eq!(arrived.len(), 100);
    assert!(arrived.iter().map(|&(number, _)| number).eq(0..100));
    assert_eq!(
        stats,
        SimStats {
            sent: 100,
            delivered: 100,
            ..SimStats::default()
        }
    );
}

#[test]
fn loss_is_as_frequent_as_told() {
    let (arrived, stats) = run(
        3,
        LinkConditions {
            loss: 0.2,
            ..Default::default()
        },
        10_000,
    );
    assert!((1_800..2_200).contains(&stats.lost), "{stats:?}");
    assert_eq!(arrived.len() as u64, 10_000 - stats.lost);
}

#[test]
fn duplicates_are_as_frequent_as_told_and_really_arrive_twice() {
    let conditions = LinkConditions {
        duplicate: 0.1,
        ..Default::default()
    };
    let (arrived, stats) = run(4, conditions, 10_000);
    assert!((900..1_100).contains(&stats.duplicated), "{stats:?}");
    assert_eq!(arrived.len() as u64, 10_000 + stats.duplicated);
    let doubled = arrived
        .windows(2)
        .filter(|pair| pair[0].0 == pair[1].0)
        .count();
    assert_eq!(doubled as u64, stats.duplicated);
}

#[test]
fn reordered_datagrams_are_overtaken_and_the_others_keep_their_order() {
    let conditions = LinkConditions {
        reorder: 0.05,
        ..Default::default()
    };
    let (arrived, stats) = run(5, conditions, 1_000);
    assert_eq!(arrived.len(), 1_000);
    assert!((25..75).contains(&stats.reordered), "{stats:?}");
    let mut newest = 0;
    let mut late = 0;
    for &(number, _) in &arrived {
        late += u64::from(number < newest);
        newest = newest.max(number);
    }
    assert!(late > 0 && late <= stats.reordered, "{late} of {stats:?}");
}

#[test]
fn jitter_delays_within_its_bounds_and_keeps_the_order() {
    let conditions = LinkConditions {
        delay_us: 20_000,
        jitter_us: 5_000,
        ..Default::default()
    };
    let (arrived, _) = run(6, conditions, 1_000);
    assert!(arrived.iter().map(|&(number, _)| number).eq(0..1_000));
    let (mut least, mut most) = (u64::MAX, 0);
    for &(number, at_us) in &arrived {
        let took_us = at_us - u64::from(number) * 100;
        (least, most) = (least.min(took_us), most.max(took_us));
    }
    // Arrival is observed in steps of 100 us; the last ones are seen after a long step.
    assert!((20_000..21_000).contains(&least), "{least}");
    assert!(most >= 24_000, "{most}");
}

#[test]
fn a_delayed_datagram_is_not_there_before_its_time() {
    let net = SimNetwork::new(1);
    let (sender, receiver) = (net.peer(address(1)), net.peer(address(2)));
    let slow = LinkConditions {
        delay_us: 1_000,
        ..Default::default()
    };
    net.set_conditions(sender.address(), receiver.address(), slow);
    sender.send(receiver.address(), b"slow");
    receiver.send(sender.address(), b"fast");
    assert_eq!(sender.receive().unwrap().1, b"fast");
    assert_eq!(net.next_arrival_us(), Some(1_000));
    net.advance(999);
    assert!(receiver.receive().is_none());
    net.advance(1);
    assert_eq!(receiver.receive().unwrap().1, b"slow");
    assert_eq!(net.next_arrival_us(), None);
}

#[test]
fn a_train_travels_as_datagrams_and_a_reply_may_be_staged_while_draining() {
    let net = SimNetwork::new(1);
    let mut shard = net.socket(address(1));
    let peer = net.peer(address(2));
    peer.send(address(1), b"hello");
    shard.poll(None).unwrap();
    let (rx, tx) = shard.split();
    rx.drain(|datagram| {
        assert_eq!(datagram.payload, b"hello");
        tx.reserve(7).copy_from_slice(b"aabbccd");
        tx.commit(datagram.source, 7, Some(2));
    });
    assert!(peer.receive().is_none(), "nothing leaves before the flush");
    tx.flush();
    let received: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let expected: Vec<_> = ["aa", "bb", "cc", "d"]
        .map(|text| (address(1), text.as_bytes().to_vec()))
        .into();
    assert_eq!(received, expected);
}

#[test]
fn a_coalescing_socket_hands_over_trains_as_the_kernel_does() {
    let net = SimNetwork::new(1);
    let mut shard = net.socket(address(1));
    shard.set_coalescing(true);
    let (one, two) = (net.peer(address(2)), net.peer(address(3)));
    for payload in ["aa", "bb", "c", "dd", "eee"] {
        one.send(address(1), payload.as_bytes());
    }
    two.send(address(1), b"fff");
    two.send(address(1), b"");
    shard.poll(None).unwrap();
    let mut trains = Vec::new();
    shard.split().0.drain(|mut train| {
        let segments = train
            .segments_mut()
            .map(|segment| segment.to_vec())
            .collect::<Vec<_>>();
        trains.push((train.source, segments.join(&b' ')));
    });
    let (first, second) = (address(2), address(3));
    let expected = [
        (first, "aa bb c"),
        (first, "dd"),
        (first, "eee"),
        (second, "fff"),
        (second, ""),
    ];
    assert!(
        trains
            .iter()
            .map(|(from, text)| (*from, text.as_slice()))
            .eq(expected.iter().map(|(from, text)| (*from, text.as_bytes())))
    );
}

#[test]
fn a_datagram_to_nobody_is_counted() {
    let net = SimNetwork::new(1);
    let peer = net.peer(address(1));
    peer.send(address(9), b"anyone?");
    assert_eq!(net.stats().unreachable, 1);
}

#[test]
fn an_address_is_free_again_when_its_owner_is_gone() {
    let net = SimNetwork::new(1);
    drop(net.socket(address(1)));
    drop(net.peer(address(1)));
    let _again = net.socket(address(1));
}

#[test]
#[should_panic(expected = "in use")]
fn an_address_is_bound_once() {
    let net = SimNetwork::new(1);
    let _first = net.peer(address(1));
    let _second = net.peer(address(1));
}
