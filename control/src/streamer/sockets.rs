//! The UDP sockets of a session: a port for RTP and one for RTCP, joined to a multicast group where
//! the address is one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::description::RtcpPort;

/// What a keyframe of 4K comes to.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Pairs of ports tried where the system chooses.
const ATTEMPTS: usize = 64;

/// Why no port was had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The address is not ours, or the port is taken.
    #[error(
        "cannot receive on {address}: {source}; name an address of this machine and a free port"
    )]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No pair is left.
    #[error("no pair of ports is free on {0}; give a larger range of ports")]
    NoPair(IpAddr),
    /// The group was not joined.
    #[error("cannot join {group}: {source}; name an interface with an address and a route")]
    Join {
        /// The group.
        group: IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such interface.
    #[error("there is no network interface {0:?}; `ip link` lists them")]
    Interface(String),
}

/// A network interface; none: that of the route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Interface {
    name: Option<String>,
    index: u32,
}

impl Interface {
    /// By its name.
    pub(super) fn find(name: &str) -> Result<Self, SocketError> {
        let unknown = || SocketError::Interface(name.to_owned());
        // A name leads nowhere out of the folder.
        if name.contains('/') || name.starts_with('.') {
            return Err(unknown());
        }
        let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
        let index = index.ok().and_then(|index| index.trim().parse().ok());
        Ok(Self {
            name: Some(name.to_owned()),
            index: index.ok_or_else(unknown)?,
        })
    }
}

/// The sockets of a media section.
pub(super) struct Pair {
    pub(super) rtp: UdpSocket,
    /// None: on the same one.
    pub(super) rtcp: Option<UdpSocket>,
}

impl Pair {
    /// Opens the ports. `port` 0: any pair that is free, out of `range` if there is one.
    pub(super) fn open(
        address: IpAddr,
        port: u16,
        rtcp: RtcpPort,
        interface: &Interface,
        range: Option<&RangeInclusive<u16>>,
    ) -> Result<Self, SocketError> {
        if port != 0 {
            return Self::on(address, port, rtcp, interface);
        }
        let rtcp = match rtcp {
            RtcpPort::Muxed => RtcpPort::Muxed,
            RtcpPort::Next | RtcpPort::Other(_) => RtcpPort::Next,
        };
        match range {
            Some(range) => range
                .clone()
                // RFC 3550 11: RTP has an even one.
                .filter(|port| port % 2 == 0 && *port < *range.end())
                .find_map(|port| Self::on(address, port, rtcp, interface).ok()),
            None => (0..ATTEMPTS).find_map(|_| {
                let port = free_port(address)?;
                Self::on(address, port & !1, rtcp, interface).ok()
            }),
        }
        .ok_or(SocketError::NoPair(address))
    }

    fn on(
        address: IpAddr,
        port: u16,
        rtcp: RtcpPort,
        interface: &Interface,
    ) -> Result<Self, SocketError> {
        let of_rtcp = match rtcp {
            RtcpPort::Muxed => None,
            RtcpPort::Other(other) => (other != port).then_some(other),
            // The last port has none after it.
            RtcpPort::Next => port.checked_add(1),
        };
        let open = |port| receiving(SocketAddr::new(address, port), interface);
        Ok(Self {
            rtp: open(port)?,
            rtcp: of_rtcp.map(open).transpose()?,
        })
    }
}

fn free_port(address: IpAddr) -> Option<u16> {
    // A group's ports are those of any address.
    let address = match (address.is_multicast(), address) {
        (false, address) => address,
        (true, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (true, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((address, 0)).ok()?;
    socket.local_addr().ok().map(|address| address.port())
}

/// A socket bound to an address of ours or to a group, which it joins.
fn receiving(address: SocketAddr, interface: &Interface) -> Result<UdpSocket, SocketError> {
    let open = || {
        let socket = new_socket(address)?;
        if address.ip().is_multicast() {
            // Several may hear a group.
            socket.set_reuse_address(true)?;
        }
        // Less is granted than asked for where the system's bound is lower.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let socket: Socket = open().map_err(|source| SocketError::Bind { address, source })?;
    let joined = match address.ip() {
        IpAddr::V4(group) if group.is_multicast() => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface.index))
        }
        IpAddr::V6(group) if group.is_multicast() => {
            socket.join_multicast_v6(&group, interface.index)
        }
        _ => Ok(()),
    };
    let group = address.ip();
    joined.map_err(|source| SocketError::Join { group, source })?;
    UdpSocket::from_std(socket.into()).map_err(|source| SocketError::Bind { address, source })
}

fn new_socket(like: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(like), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if like.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A socket to send to an address from; to a group within `ttl` hops, by an interface.
pub(super) fn sending(to: IpAddr, ttl: u8, interface: &Interface) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let local = SocketAddr::new(any, 0);
    let socket = new_socket(local)?;
    match to {
        IpAddr::V4(group) if group.is_multicast() => {
            socket.set_multicast_ttl_v4(u32::from(ttl))?;
        }
        IpAddr::V6(group) if group.is_multicast() => {
            socket.set_multicast_hops_v6(u32::from(ttl))?;
        }
        _ => {}
    }
    if let Some(name) = &interface.name {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    socket.bind(&local.into())?;
    UdpSocket::from_std(socket.into())
}
