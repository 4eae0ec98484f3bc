//! One small packet to each of many peers, as audio leaves: from one unconnected socket (what the
//! shards have), from a connected socket a peer, and through the engine's ring.
//!
//! Over loopback, to sockets that are emptied outside of the measurement, so that the receiving
//! side's work is on the sender's account but nobody has to be woken. CPU time of the one thread.
//!
//! Connected sockets save the route look-up, about a tenth. They cost a descriptor and some
//! kilobytes of kernel memory a viewer, and what a viewer sends arrives there: before Linux 6.13
//! each packet that comes in then searches through all sockets of the port.
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanmill_benches::cpu_time;
use fanmill_engine::io::uring::{UringConfig, UringIo};
use fanmill_engine::io::{Io, Tx};
use socket2::{Domain, Socket, Type};

const PEERS: usize = 200;
/// A packet of Opus, sealed.
const PACKET: [u8; 170] = [0x80; 170];

/// Sockets that packets end in.
struct Peers {
    sockets: Vec<UdpSocket>,
    addresses: Vec<SocketAddr>,
}

impl Peers {
    fn new() -> Self {
        let open = |_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            socket.set_nonblocking(true).expect("a socket option");
            socket
        };
        let sockets: Vec<_> = (0..PEERS).map(open).collect();
        let addresses = sockets.iter().map(|s| s.local_addr().expect("it is bound"));
        let addresses = addresses.collect();
        Self { sockets, addresses }
    }

    fn empty(&self) {
        let mut buffer = [0; 16];
        for socket in &self.sockets {
            while socket.recv(&mut buffer).is_ok() {}
        }
    }
}

/// A sending socket on a port that several may share.
fn sender(port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("a socket option");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.bind(&address.into()).expect("a free port");
    socket.into()
}

fn lone_send(criterion: &mut Criterion) {
    let peers = Peers::new();
    let mut group = criterion.benchmark_group("lone_send");
    group.throughput(Throughput::Elements(PEERS as u64));
    let unconnected = sender(0);
    group.bench_function("unconnected", |bencher| {
        bencher.iter_custom(|rounds| {
            let round = |_| {
                let time = cpu_time(|| {
                    for address in &peers.addresses {
                        let _ = unconnected.send_to(&PACKET, address);
                    }
                });
                peers.empty();
                time
            };
            (0..rounds).map(round).sum()
        });
    });
    let port = unconnected.local_addr().expect("it is bound").port();
    let connect = |address: &SocketAddr| {
        let socket = sender(port);
        socket.connect(address).expect("a UDP socket connects");
        socket
    };
    let connected: Vec<_> = peers.addresses.iter().map(connect).collect();
    group.bench_function("connected", |bencher| {
        bencher.iter_custom(|rounds| {
            let round = |_| {
                let time = cpu_time(|| {
                    for socket in &connected {
                        let _ = socket.send(&PACKET);
                    }
                });
                peers.empty();
                time
            };
            (0..rounds).map(round).sum()
        });
    });
    let config = UringConfig::new((Ipv4Addr::LOCALHOST, 0).into());
    let (mut io, _) = UringIo::open(config).expect("a kernel with io_uring");
    group.bench_function("engine", |bencher| {
        bencher.iter_custom(|rounds| {
            let round = |_| {
                let time = cpu_time(|| {
                    let tx = io.split().1;
                    for address in &peers.addresses {
                        tx.reserve(PACKET.len()).copy_from_slice(&PACKET);
                        tx.commit(*address, PACKET.len(), None);
                    }
                    tx.flush();
                });
                peers.empty();
                time
            };
            (0..rounds).map(round).sum()
        });
    });
    group.finish();
}

criterion_group!(benches, lone_send);
criterion_main!(benches);
