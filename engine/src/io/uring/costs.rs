//! What sending costs on this machine, measured when a shard opens rather than believed: how long a
//! train must be to be cheaper than its packets one by one.
//!
//! The packets go to a socket of the shard's own address that nobody else knows, through its own
//! ring and send buffer. They do not meet the network card: what that does to trains is learnt when
//! it refuses one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use crate::io::Tx;

use super::tx::UringTx;

/// A packet of video.
const PACKET_BYTES: usize = 1200;

/// Packets sent in one measurement, of which the quickest of some counts: anything else on the
/// machine makes it slower, nothing makes it quicker.
const PACKETS: usize = 64;
const ROUNDS: usize = 5;

/// Lengths of trains that are measured, in packets.
const LENGTHS: [usize; 4] = [2, 4, 8, 16];

/// A train pays if it costs less than this share of its packets one by one.
const WORTHWHILE: f64 = 0.9;

/// CPU time of sending one packet, over loopback, by how it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendCosts {
    /// By itself, in nanoseconds.
    pub single_ns: u64,
    /// In a train of so many packets, in nanoseconds a packet; empty where there are no trains.
    pub trains_ns: Vec<(usize, u64)>,
}

impl SendCosts {
    /// Fewest packets that are worth a train; `None` when no train is.
    pub fn least_train(&self) -> Option<usize> {
        let limit = self.single_ns as f64 * WORTHWHILE;
        let mut worthwhile = self.trains_ns.iter().filter(|(_, ns)| (*ns as f64) < limit);
        worthwhile.next().map(|(packets, _)| *packets)
    }
}

/// Measures. The counters of `tx` show it; the caller resets them.
///
/// # Errors
/// When there is nowhere to send to, or the kernel does not take what is sent.
pub(super) fn measure(tx: &mut UringTx, local: SocketAddr) -> io::Result<SendCosts> {
    let sink = Sink::open(local.ip())?;
    let single_ns = packet_ns(tx, &sink, 1)?;
    let mut trains_ns = Vec::new();
    for packets in LENGTHS {
        if tx.gso() {
            trains_ns.push((packets, packet_ns(tx, &sink, packets)?));
        }
    }
    // One that was refused on the way has been sent singly, and tells nothing.
    if !tx.gso() {
        trains_ns.clear();
    }
    Ok(SendCosts {
        single_ns,
        trains_ns,
    })
}

fn packet_ns(tx: &mut UringTx, sink: &Sink, packets: usize) -> io::Result<u64> {
    let mut best_ns = u64::MAX;
    for _ in 0..ROUNDS {
        let refused = tx.counters.errors.total();
        let start = Instant::now();
        for _ in 0..PACKETS / packets {
            let len = packets * PACKET_BYTES;
            tx.reserve(len);
            tx.commit(sink.address, len, Some(PACKET_BYTES as u16));
        }
        tx.flush();
        let spent_ns = start.elapsed().as_nanos() as u64;
        sink.empty();
        if tx.counters.errors.total() > refused {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        best_ns = best_ns.min(spent_ns / PACKETS as u64);
    }
    Ok(best_ns)
}

/// A socket that packets end in.
struct Sink {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Sink {
    fn open(local: IpAddr) -> io::Result<Self> {
        let ip = match local {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let socket = UdpSocket::bind((ip, 0))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    fn empty(&self) {
        let mut buffer = [0; 16];
        while self.socket.recv(&mut buffer).is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_train_that_pays_is_chosen() {
        let costs = |trains_ns: &[(usize, u64)]| SendCosts {
            single_ns: 1000,
            trains_ns: trains_ns.to_vec(),
        };
        assert_eq!(costs(&[(2, 600), (4, 300)]).least_train(), Some(2));
        assert_eq!(costs(&[(2, 950), (4, 700)]).least_train(), Some(4));
        assert_eq!(costs(&[(2, 1100), (4, 1000)]).least_train(), None);
        assert_eq!(costs(&[]).least_train(), None);
    }
}
