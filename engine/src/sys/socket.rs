//! The UDP socket and its options.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// A socket buffer's size: what was wanted and what there is now. Both in the unit of
/// `net.core.rmem_max` (the kernel keeps, and reports, twice that to cover its own bookkeeping).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferGrant {
    /// What the configuration asks for.
    pub asked_bytes: usize,
    /// What the kernel granted.
    pub granted_bytes: usize,
}

/// Opens a UDP socket and binds it to `address`, alone: no other socket may share the port, or a
/// second server started by mistake would take a share of the packets. The IPv6 wildcard also
/// takes IPv4.
pub(crate) fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if let SocketAddr::V6(v6) = address {
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Asks for a receive buffer. `SO_RCVBUFFORCE` (with CAP_NET_ADMIN) passes the limit
/// `net.core.rmem_max`; without the capability the request is cut to it.
pub(crate) fn grow_receive_buffer(socket: &Socket, asked_bytes: usize) -> io::Result<BufferGrant> {
    if force_buffer(socket, libc::SO_RCVBUFFORCE, asked_bytes).is_err() {
        socket.set_recv_buffer_size(asked_bytes)?;
    }
    Ok(BufferGrant {
        asked_bytes,
        granted_bytes: socket.recv_buffer_size()? / 2,
    })
}

/// As [`grow_receive_buffer`], for `net.core.wmem_max`.
pub(crate) fn grow_send_buffer(socket: &Socket, asked_bytes: usize) -> io::Result<BufferGrant> {
    if force_buffer(socket, libc::SO_SNDBUFFORCE, asked_bytes).is_err() {
        socket.set_send_buffer_size(asked_bytes)?;
    }
    Ok(BufferGrant {
        asked_bytes,
        granted_bytes: socket.send_buffer_size()? / 2,
    })
}

fn force_buffer(socket: &Socket, option: libc::c_int, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    set_option(socket, libc::SOL_SOCKET, option, bytes)
}

/// Sets "don't fragment" and ignores path MTU guesses (`IP_PMTUDISC_PROBE`): our packets are cut
/// to fit, forged ICMP cannot shrink them, and the kernel need not pick an IP id for each.
pub(crate) fn dont_fragment(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
    }
    // A dual-stack socket keeps a setting of its own for its IPv4 half.
    set_option(
        socket,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_PROBE,
    )
}

/// setsockopt(2) of an option whose value is a C `int`.
pub(crate) fn set_option(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open while borrowed, and `value` is a `c_int` of `len` bytes.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), len) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// getsockopt(2) of an option whose value is a C `int`.
pub(crate) fn get_option(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
) -> io::Result<libc::c_int> {
    let fd = socket.as_fd().as_raw_fd();
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open while borrowed; `value` has room for `len` bytes.
    let result = unsafe { libc::getsockopt(fd, level, option, (&raw mut value).cast(), &mut len) };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}
