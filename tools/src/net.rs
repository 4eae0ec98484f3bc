//! UDP the cheap way: coalesced datagrams in (`UDP_GRO`), trains out (`UDP_SEGMENT`).
//!
//! Used by the receiving threads and by the floor measurement, so that both pay the same. Safe
//! wrappers only; the system calls are those of `nix`.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Largest coalesced datagram the kernel hands over.
pub const MAX_TRAIN_BYTES: usize = 1 << 16;

/// Opens a non-blocking UDP socket on `local`.
///
/// # Errors
/// What the system says; typically too many open files (`ulimit -n`).
pub fn open(local: SocketAddr, receive_buffer_bytes: usize, gro: bool) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(local);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // More than net.core.rmem_max is cut to it; RcvbufErrors tells when that was too little.
    socket.set_recv_buffer_size(receive_buffer_bytes)?;
    socket.bind(&local.into())?;
    let socket = UdpSocket::from(socket);
    if gro {
        setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
    }
    Ok(socket)
}

/// The address a datagram to `remote` would leave from.
///
/// # Errors
/// When there is no route.
pub fn local_address_towards(remote: SocketAddr) -> io::Result<SocketAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(remote)?;
    let mut local = socket.local_addr()?;
    local.set_port(0);
    Ok(local)
}

/// A buffer for one coalesced datagram, reused for every socket of a thread.
pub struct Receiver {
    buffer: Vec<u8>,
    control: Vec<u8>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            buffer: vec![0; MAX_TRAIN_BYTES],
            control: cmsg_space!(i32),
        }
    }
}

impl Receiver {
    /// Receives one datagram or train from a connected socket and returns its datagrams.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; otherwise what the system says.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<std::slice::Chunks<'_, u8>> {
        let mut slices = [IoSliceMut::new(&mut self.buffer)];
        let received = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let len = received.bytes;
        let segment = received
            .cmsgs()?
            .find_map(|message| match message {
                ControlMessageOwned::UdpGroSegments(bytes) => usize::try_from(bytes).ok(),
                _ => None,
            })
            .filter(|&bytes| bytes > 0)
            .unwrap_or(MAX_TRAIN_BYTES);
        Ok(self.buffer[..len].chunks(segment))
    }
}

/// Sends `train` to `to`, cut into datagrams of `segment_bytes`.
///
/// # Errors
/// What the system says: `WouldBlock`, or a refusal by the device.
pub fn send_train(
    socket: &UdpSocket,
    train: &[u8],
    segment_bytes: u16,
    to: SocketAddr,
) -> io::Result<usize> {
    let slices = [IoSlice::new(train)];
    let control = [ControlMessage::UdpGsoSegments(&segment_bytes)];
    let control = if train.len() > usize::from(segment_bytes) {
        &control[..]
    } else {
        &[]
    };
    let flags = MsgFlags::MSG_DONTWAIT;
    let to = SockaddrStorage::from(to);
    let sent = sendmsg(socket.as_raw_fd(), &slices, control, flags, Some(&to))?;
    Ok(sent)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn pair(gro: bool) -> (UdpSocket, UdpSocket) {
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let a = open(loopback, 1 << 20, gro).unwrap();
        let b = open(loopback, 1 << 20, gro).unwrap();
        a.connect(b.local_addr().unwrap()).unwrap();
        b.connect(a.local_addr().unwrap()).unwrap();
        (a, b)
    }

    fn receive_all(socket: &UdpSocket, datagrams: usize) -> Vec<Vec<u8>> {
        let mut receiver = Receiver::default();
        let mut all = Vec::new();
        while all.len() < datagrams {
            match receiver.receive(socket) {
                Ok(segments) => all.extend(segments.map(<[u8]>::to_vec)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        all
    }

    #[test]
    fn a_train_arrives_as_the_datagrams_it_was_cut_into() {
        for gro in [true, false] {
            let (a, b) = pair(gro);
            let train: Vec<u8> = (0..250u8).collect();
            let to = b.local_addr().unwrap();
            assert_eq!(send_train(&a, &train, 100, to).unwrap(), 250);
            a.send(&[7]).unwrap();
            let received = receive_all(&b, 4);
            let expected: Vec<&[u8]> = train.chunks(100).chain([&[7][..]]).collect();
            assert_eq!(received, expected, "gro: {gro}");
        }
    }

    #[test]
    fn a_datagram_after_a_train_is_not_cut() {
        let (a, b) = pair(true);
        send_train(&a, &[1; 300], 100, b.local_addr().unwrap()).unwrap();
        assert_eq!(receive_all(&b, 3).len(), 3);
        a.send(&[2; 250]).unwrap();
        assert_eq!(receive_all(&b, 1), [vec![2; 250]]);
    }

    #[test]
    fn the_local_address_towards_loopback_is_loopback() {
        let local = local_address_towards(([127, 0, 0, 1], 9).into()).unwrap();
        assert_eq!(local, SocketAddr::from(([127, 0, 0, 1], 0)));
    }
}
