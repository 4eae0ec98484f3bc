//! The io_uring backend on real sockets over loopback.
#![allow(clippy::unwrap_used)] // A panic is the failure report.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use fanmill_engine::io::uring::{self, StartError, UringConfig, UringIo};
use fanmill_engine::io::{Io, Rx, Tx};

/// Long enough that only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_US: u64 = 20_000_000;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn open(config: UringConfig) -> UringIo {
    UringIo::open(config).unwrap().0
}

fn client() -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A received train: source, payload, segment size.
type Train = (SocketAddr, Vec<u8>, usize);

/// Polls until `count` datagrams (segments counted) have come.
fn receive(io: &mut UringIo, count: usize) -> Vec<Train> {
    let deadline_us = io.now_us() + PATIENCE_US;
    let mut trains: Vec<Train> = Vec::new();
    let mut datagrams = 0;
    while datagrams < count {
        assert!(
            io.now_us() < deadline_us,
            "{datagrams} of {count} datagrams came"
        );
        io.poll(Some(deadline_us)).unwrap();
        io.split().0.drain(|mut datagram| {
            datagrams += datagram.segments_mut().count().max(1);
            trains.push((
                datagram.source,
                datagram.payload.to_vec(),
                datagram.segment_bytes,
            ));
        });
    }
    trains
}

fn send(io: &mut UringIo, to: SocketAddr, payload: &[u8], segment_bytes: Option<u16>) {
    let tx = io.split().1;
    tx.reserve(payload.len()).copy_from_slice(payload);
    tx.commit(to, payload.len(), segment_bytes);
}

#[test]
fn a_datagram_comes_and_its_reply_goes() {
    let mut io = open(UringConfig::new(loopback()));
    let client = client();
    client
        .send_to(b"ping", io.local_address().unwrap())
        .unwrap();
    let deadline_us = io.now_us() + PATIENCE_US;
    io.poll(Some(deadline_us)).unwrap();
    let (rx, tx) = io.split();
    rx.drain(|datagram| {
        assert_eq!(datagram.source, client.local_addr().unwrap());
        assert_eq!(datagram.payload, b"ping");
        assert_eq!(datagram.segment_bytes, 4);
        tx.reserve(4).copy_from_slice(b"pong");
        tx.commit(datagram.source, 4, None);
    });
    tx.flush();
    let mut buffer = [0; 16];
    let (len, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..len], from),
        (b"pong".as_slice(), io.local_address().unwrap())
    );
    let counters = io.counters();
    assert_eq!((counters.receive.datagrams, counters.receive.bytes), (1, 4));
    assert_eq!(
        (
            counters.send.datagrams,
            counters.send.bytes,
            counters.send.sends
        ),
        (1, 4, 1)
    );
}

#[test]
fn a_datagram_is_dated_by_its_arrival_not_by_when_it_is_looked_at() {
    let (mut io, grants) = UringIo::open(UringConfig::new(loopback())).unwrap();
    assert!(grants.timestamps);
    let client = client();
    client.send_to(b"one", grants.local_address).unwrap();
    client.send_to(b"two", grants.local_address).unwrap();
    let arrived_us = io.now_us();
    // Long beside what two clocks may differ by.
    while io.now_us() < arrived_us + 50_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut dates = Vec::new();
    while dates.len() < 2 {
        io.poll(Some(arrived_us + PATIENCE_US)).unwrap();
        io.split()
            .0
            .drain(|datagram| dates.push(datagram.received_us));
    }
    assert!(dates[0] <= dates[1], "{dates:?}");
    assert!(dates[1] <= arrived_us + 10_000, "{dates:?}, {arrived_us}");
}

#[test]
fn a_nap_lasts_its_time_whatever_comes_and_finds_all_of_it() {
    const NAP_US: u64 = 20_000;
    let mut io = open(UringConfig::new(loopback()));
    let (client, to) = (client(), io.local_address().unwrap());
    let sender = std::thread::spawn(move || {
        for number in 0..5u8 {
            client.send_to(&[number], to).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let start_us = io.now_us();
    let mut came = Vec::new();
    // Twice, should the sender be held up for longer than it naps.
    while came.len() < 5 {
        let before_us = io.now_us();
        io.nap(NAP_US).unwrap();
        let napped_us = io.now_us() - before_us;
        assert!(napped_us >= NAP_US, "{napped_us}");
        io.split()
            .0
            .drain(|datagram| came.push(datagram.payload[0]));
        assert!(io.now_us() < start_us + PATIENCE_US);
    }
    assert_eq!(came, [0, 1, 2, 3, 4]);
    sender.join().unwrap();
}

#[test]
fn empty_and_largest_datagrams_come_whole_and_the_receive_goes_on() {
    let mut io = open(UringConfig::new(loopback()));
    let client = client();
    let largest: Vec<u8> = (0..65_507u32).map(|index| index as u8).collect();
    for payload in [&[][..], &largest, &[], b"last"] {
        client
            .send_to(payload, io.local_address().unwrap())
            .unwrap();
        let trains = receive(&mut io, 1);
        assert_eq!(trains.len(), 1);
        assert_eq!(trains[0].1, payload);
        assert_eq!(trains[0].2, payload.len());
    }
    assert_eq!(io.counters().receive.truncated, 0);
}

#[test]
fn a_train_arrives_as_one_where_the_receiver_coalesces() {
    let mut sender = open(UringConfig::new(loopback()));
    let mut receiver = open(UringConfig::new(loopback()));
    let payload: Vec<u8> = (0..10_500u32).map(|index| (index % 251) as u8).collect();
    let to = receiver.local_address().unwrap();
    send(&mut sender, to, &payload, Some(1000));
    sender.split().1.flush();
    let trains = receive(&mut receiver, 11);
    let joined: Vec<u8> = trains.iter().flat_map(|train| train.1.clone()).collect();
    assert_eq!(joined, payload);
    assert_eq!(trains.len(), 1, "loopback keeps trains whole");
    assert_eq!(trains[0].2, 1000);
    let (sent, received) = (sender.counters().send, receiver.counters().receive);
    assert_eq!((sent.datagrams, sent.trains, sent.sends), (11, 1, 1));
    assert_eq!((received.datagrams, received.trains), (11, 1));
}

#[test]
fn a_train_arrives_as_datagrams_where_the_receiver_does_not_coalesce() {
    let mut sender = open(UringConfig::new(loopback()));
    let mut config = UringConfig::new(loopback());
    config.gro = false;
    let (mut receiver, grants) = UringIo::open(config).unwrap();
    assert!(!grants.gro);
    let payload: Vec<u8> = (0..3_500u32).map(|index| (index % 251) as u8).collect();
    send(&mut sender, grants.local_address, &payload, Some(1000));
    sender.split().1.flush();
    let trains = receive(&mut receiver, 4);
    let sizes: Vec<usize> = trains.iter().map(|train| train.1.len()).collect();
    assert_eq!(sizes, [1000, 1000, 1000, 500]);
    assert_eq!(trains.concat_payloads(), payload);
    assert_eq!(receiver.counters().receive.trains, 0);
}

trait ConcatPayloads {
    fn concat_payloads(&self) -> Vec<u8>;
}

impl ConcatPayloads for Vec<Train> {
    fn concat_payloads(&self) -> Vec<u8> {
        self.iter()
            .flat_map(|train| train.1.iter().copied())
            .collect()
    }
}

#[test]
fn more_segments_than_a_train_may_have_still_all_arrive() {
    let mut sender = open(UringConfig::new(loopback()));
    let mut receiver = open(UringConfig::new(loopback()));
    let payload: Vec<u8> = (0..10_001u32).map(|index| (index % 251) as u8).collect();
    send(
        &mut sender,
        receiver.local_address().unwrap(),
        &payload,
        Some(100),
    );
    sender.split().1.flush();
    assert_eq!(receive(&mut receiver, 101).concat_payloads(), payload);
    assert_eq!(sender.counters().send.datagrams, 101);
    assert_eq!(sender.counters().send.errors.total(), 0);
}

#[test]
fn what_was_committed_leaves_when_the_buffer_is_full() {
    let mut sender = open(UringConfig::new(loopback()));
    let mut receiver = open(UringConfig::new(loopback()));
    let to = receiver.local_address().unwrap();
    // 600 small ones fill the table twice, the large ones fill the arena.
    let mut expected = Vec::new();
    for number in 0..610u32 {
        let len = if number < 600 { 8 } else { 60_000 };
        let mut payload = vec![number as u8; len];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        send(&mut sender, to, &payload, None);
        expected.push(payload);
        if number % 100 == 99 {
            let trains = receive(&mut receiver, 0);
            assert!(trains.is_empty());
        }
    }
    assert!(
        sender.counters().send.sends >= 512,
        "full tables leave by themselves"
    );
    sender.split().1.flush();
    let received: Vec<Vec<u8>> = receive(&mut receiver, 610)
        .into_iter()
        .map(|train| train.1)
        .collect();
    assert_eq!(received, expected);
}

#[test]
fn a_second_reservation_is_the_same_stretch() {
    let mut io = open(UringConfig::new(loopback()));
    let client = client();
    let to = client.local_addr().unwrap();
    let tx = io.split().1;
    // Far into the arena, where a large second reservation would not fit behind the first.
    for _ in 0..2 {
        tx.reserve(60_000).fill(0);
        tx.commit(to, 60_000, None);
    }
    tx.reserve(3).copy_from_slice(b"abc");
    assert_eq!(&tx.reserve(65_507)[..3], b"abc");
    tx.commit(to, 3, None);
    tx.flush();
    let mut buffer = vec![0; 65_536];
    let lens: Vec<usize> = (0..3).map(|_| client.recv(&mut buffer).unwrap()).collect();
    assert_eq!(lens, [60_000, 60_000, 3]);
    assert_eq!(&buffer[..3], b"abc");
}

#[test]
fn running_out_of_buffers_loses_nothing_and_the_receive_recovers() {
    let mut config = UringConfig::new(loopback());
    config.receive_slots = 4;
    config.gro = false;
    let (mut io, grants) = UringIo::open(config).unwrap();
    assert_eq!(grants.receive_slots, 4);
    let client = client();
    for number in 0..100u32 {
        client
            .send_to(&number.to_be_bytes(), grants.local_address)
            .unwrap();
    }
    let numbers: Vec<u32> = receive(&mut io, 100)
        .into_iter()
        .map(|train| u32::from_be_bytes(train.1.try_into().unwrap()))
        .collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert!(io.counters().receive.no_buffers > 0);
}

#[test]
fn polls_without_a_drain_lose_nothing() {
    let mut io = open(UringConfig::new(loopback()));
    let client = client();
    let deadline_us = io.now_us() + PATIENCE_US;
    client.send_to(b"one", io.local_address().unwrap()).unwrap();
    io.poll(Some(deadline_us)).unwrap();
    client.send_to(b"two", io.local_address().unwrap()).unwrap();
    io.poll(Some(deadline_us)).unwrap();
    let trains = receive(&mut io, 2);
    assert_eq!(trains.concat_payloads(), b"onetwo");
}

#[test]
fn datagrams_that_cannot_be_sent_are_counted_by_reason() {
    let mut io = open(UringConfig::new(loopback()));
    let client = client();
    send(&mut io, "127.0.0.1:0".parse().unwrap(), b"port 0", None);
    send(
        &mut io,
        "[2001:db8::1]:9".parse().unwrap(),
        b"other family",
        None,
    );
    send(
        &mut io,
        "255.255.255.255:9".parse().unwrap(),
        b"broadcast",
        None,
    );
    send(&mut io, client.local_addr().unwrap(), b"fine", None);
    io.split().1.flush();
    let errors = io.counters().send.errors;
    assert_eq!(errors.invalid, 2, "{errors:?}");
    // A host without a default route finds no way to the broadcast address.
    assert_eq!(errors.denied + errors.unreachable, 1, "{errors:?}");
    assert_eq!(errors.total(), 3, "{errors:?}");
    assert_eq!(io.counters().send.sends, 1);
    assert_eq!(client.recv(&mut [0; 16]).unwrap(), 4);
    assert!(io.gso());
}

#[test]
fn a_train_to_a_senseless_destination_does_not_stop_trains_to_others() {
    let mut io = open(UringConfig::new(loopback()));
    send(
        &mut io,
        "127.0.0.1:0".parse().unwrap(),
        &[1; 2500],
        Some(1000),
    );
    io.split().1.flush();
    let counters = io.counters().send;
    assert_eq!(
        (counters.trains_refused, counters.errors.invalid),
        (1, 3),
        "{counters:?}"
    );
    assert!(io.gso());
}

#[test]
fn a_closed_peer_does_not_end_the_receive() {
    let mut io = open(UringConfig::new(loopback()));
    let gone = client().local_addr().unwrap();
    for _ in 0..3 {
        send(&mut io, gone, b"anyone?", None);
        io.split().1.flush();
        let now_us = io.now_us();
        io.poll(Some(now_us)).unwrap();
    }
    client()
        .send_to(b"still here", io.local_address().unwrap())
        .unwrap();
    assert_eq!(receive(&mut io, 1).concat_payloads(), b"still here");
}

#[test]
fn a_dual_stack_socket_shows_ipv4_peers_as_ipv4() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let (mut io, grants) = UringIo::open(UringConfig::new(any)).unwrap();
    assert!(grants.dual_stack && grants.dont_fragment);
    let port = grants.local_address.port();
    let v4 = client();
    let v6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    v6.set_read_timeout(Some(PATIENCE)).unwrap();
    v4.send_to(b"four", ("127.0.0.1", port)).unwrap();
    v6.send_to(b"six", (Ipv6Addr::LOCALHOST, port)).unwrap();
    let trains = receive(&mut io, 2);
    for (socket, text) in [(&v4, "four"), (&v6, "six")] {
        let address = socket.local_addr().unwrap();
        let train = trains
            .iter()
            .find(|train| train.1 == text.as_bytes())
            .unwrap();
        assert_eq!(train.0, address);
        send(&mut io, train.0, text.as_bytes(), None);
        io.split().1.flush();
        let mut buffer = [0; 8];
        let len = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], text.as_bytes());
    }
}

#[test]
fn a_port_in_use_is_named_in_the_error() {
    let taken = client();
    let address = taken.local_addr().unwrap();
    let error = UringIo::open(UringConfig::new(address)).err().unwrap();
    assert!(matches!(error, StartError::AddressInUse(named) if named == address));
    assert!(
        error.to_string().contains(&address.port().to_string()),
        "{error}"
    );
}

#[test]
fn a_foreign_address_is_named_in_the_error() {
    let address: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let error = UringIo::open(UringConfig::new(address)).err().unwrap();
    assert!(
        matches!(error, StartError::AddressNotAvailable(_)),
        "{error}"
    );
    assert!(error.to_string().contains("192.0.2.1"), "{error}");
}

#[test]
fn two_rings_do_not_share_a_port() {
    let first = open(UringConfig::new(loopback()));
    let address = first.local_address().unwrap();
    assert!(UringIo::open(UringConfig::new(address)).is_err());
    drop(first);
    assert!(
        UringIo::open(UringConfig::new(address)).is_ok(),
        "a dropped one frees its port"
    );
}

#[test]
fn a_wait_ends_at_its_deadline_and_a_past_one_does_not_wait() {
    let mut io = open(UringConfig::new(loopback()));
    io.poll(Some(0)).unwrap();
    let deadline_us = io.now_us() + 2_000;
    while io.now_us() < deadline_us {
        io.poll(Some(deadline_us)).unwrap();
    }
    io.split()
        .0
        .drain(|datagram| panic!("nothing was sent: {datagram:?}"));
}

#[test]
fn polling_while_nothing_comes_does_not_enter_the_kernel() {
    let mut io = open(UringConfig::new(loopback()));
    io.poll(Some(0)).unwrap();
    let before = io.counters().enters;
    for _ in 0..1000 {
        io.poll(Some(0)).unwrap();
    }
    assert_eq!(io.counters().enters, before);
}

#[test]
fn a_burst_of_sends_is_one_call() {
    let mut io = open(UringConfig::new(loopback()));
    let client = client();
    let before = io.counters().enters;
    for _ in 0..200 {
        send(&mut io, client.local_addr().unwrap(), &[7; 100], None);
    }
    io.split().1.flush();
    assert_eq!(io.counters().send.sends, 200);
    assert_eq!(io.counters().enters, before + 1);
}

#[test]
fn the_probe_reports_what_the_host_grants() {
    let grants = uring::probe().unwrap();
    assert!(grants.receive_buffer.granted_bytes > 0 && grants.send_buffer.granted_bytes > 0);
    assert!(
        grants
            .features()
            .iter()
            .any(|&(name, granted)| name == "UDP_SEGMENT" && granted)
    );
    assert!(!grants.kernel_release.is_empty());
    assert_ne!(grants.local_address.port(), 0);
}

#[test]
fn a_thread_is_pinned_only_to_a_core_there_is() {
    let cores = uring::cores();
    let core = *cores.last().unwrap();
    std::thread::spawn(move || uring::pin_to_core(core))
        .join()
        .unwrap()
        .unwrap();
    let error = uring::pin_to_core(usize::MAX).unwrap_err();
    assert!(error.to_string().contains(&format!("{cores:?}")), "{error}");
}
