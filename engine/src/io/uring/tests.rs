//! What cannot be brought about from outside: a host that takes no trains, and a broken ring.
#![allow(clippy::unwrap_used)] // A panic is the failure report.

use std::net::UdpSocket;

use super::super::{Rx, Tx};
use super::*;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A backend whose trains the kernel refuses: it cannot cut what it may not checksum
/// (net/ipv4/udp.c `udp_send_skb`, `sk_no_check_tx`).
fn without_trains() -> UringIo {
    let io = UringIo::open(UringConfig::new(loopback())).unwrap().0;
    socket::set_option(&io.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    io
}

fn commit_train(io: &mut UringIo, to: SocketAddr, len: usize, segment_bytes: u16) -> Vec<u8> {
    let tx = io.split().1;
    let stretch = tx.reserve(len);
    for (index, byte) in stretch.iter_mut().enumerate() {
        *byte = (index % 251) as u8;
    }
    let payload = stretch.to_vec();
    tx.commit(to, len, Some(segment_bytes));
    payload
}

/// The next `count` datagrams, joined.
fn receive(client: &UdpSocket, count: usize) -> Vec<u8> {
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut joined = Vec::new();
    let mut buffer = [0; 2048];
    for _ in 0..count {
        let len = client.recv(&mut buffer).unwrap();
        joined.extend_from_slice(&buffer[..len]);
    }
    joined
}

#[test]
fn where_trains_are_refused_their_segments_leave_singly_and_no_more_trains_are_tried() {
    let mut io = without_trains();
    let client = UdpSocket::bind(loopback()).unwrap();
    let to = client.local_addr().unwrap();
    assert!(io.gso());
    let first = commit_train(&mut io, to, 4_500, 1000);
    io.split().1.flush();
    assert_eq!(receive(&client, 5), first);
    assert!(!io.gso());
    let second = commit_train(&mut io, to, 2_001, 1000);
    io.split().1.flush();
    assert_eq!(receive(&client, 3), second);
    let counters = io.counters().send;
    assert_eq!(
        (counters.trains, counters.trains_refused),
        (0, 1),
        "{counters:?}"
    );
    assert_eq!(
        (counters.datagrams, counters.errors.total()),
        (8, 0),
        "{counters:?}"
    );
}

#[test]
fn more_refused_segments_than_the_table_holds_all_leave() {
    let mut io = without_trains();
    let client = UdpSocket::bind(loopback()).unwrap();
    let to = client.local_addr().unwrap();
    // 64 segments a train: 1000 segments overflow the table of sends, trains and singles alike.
    let payload = commit_train(&mut io, to, 20_000, 20);
    io.split().1.flush();
    let sent = io.counters().send;
    assert_eq!((sent.datagrams, sent.errors.total()), (1000, 0), "{sent:?}");
    // What a client's default socket buffer holds of them begins with the first.
    assert_eq!(receive(&client, 100), payload[..2_000]);
}

#[test]
fn a_broken_ring_says_so_for_good_and_sends_nothing() {
    let mut io = UringIo::open(UringConfig::new(loopback())).unwrap().0;
    io.tx.broken = Some(libc::EBADF);
    commit_train(&mut io, loopback(), 3_000, 1000);
    io.split().1.flush();
    for _ in 0..2 {
        assert!(matches!(io.poll(Some(0)), Err(IoError::Enter(_))));
    }
    io.split()
        .0
        .drain(|datagram| panic!("nothing can have come: {datagram:?}"));
    assert_eq!(io.counters().send.sends, 0);
}

#[test]
fn what_sending_costs_is_measured_and_heeded() {
    let (mut io, grants) = UringIo::open(UringConfig::new(loopback())).unwrap();
    let costs = grants.send_costs.unwrap();
    assert!(costs.single_ns > 0);
    assert_eq!(costs.trains_ns.len(), 4);
    assert_eq!(
        io.counters().send,
        SendCounters::default(),
        "it is nobody's"
    );
    assert_eq!(io.split().1.least_train(), costs.least_train());
    let costs = |trains_ns: &[(usize, u64)]| SendCosts {
        single_ns: 1000,
        trains_ns: trains_ns.to_vec(),
    };
    io.tx.heed(&costs(&[(2, 950), (4, 300)]));
    assert_eq!(io.split().1.least_train(), Some(4));
    io.tx.heed(&costs(&[(2, 1000), (4, 1200)]));
    assert_eq!(io.split().1.least_train(), None);
    let client = UdpSocket::bind(loopback()).unwrap();
    let sent = commit_train(&mut io, client.local_addr().unwrap(), 2500, 1000);
    io.split().1.flush();
    assert_eq!(receive(&client, 3), sent);
}
