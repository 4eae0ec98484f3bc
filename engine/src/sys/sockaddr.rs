//! Socket addresses in the kernel's form (`sockaddr_in`, `sockaddr_in6`), read and written as
//! bytes.
//!
//! A dual-stack socket speaks `sockaddr_in6` only; IPv4 peers appear there as v4-mapped addresses
//! (RFC 4291 2.5.5.2). That form stays in here: the engine sees them as IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Bytes of the larger form, `sockaddr_in6`.
pub(crate) const SOCKADDR_BYTES: usize = 28;

/// Bytes of the smaller form, `sockaddr_in`.
const SOCKADDR_IN_BYTES: usize = 16;

// The offsets below are those of these two structures.
const _: () = assert!(size_of::<libc::sockaddr_in6>() == SOCKADDR_BYTES);
const _: () = assert!(size_of::<libc::sockaddr_in>() == SOCKADDR_IN_BYTES);

/// Which form a socket takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`, dual-stack.
    V6,
}

/// A destination in the kernel's form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SockAddr {
    bytes: [u8; SOCKADDR_BYTES],
    len: u8,
}

impl SockAddr {
    /// `address` as a socket of `family` must be told it; `None` when that socket cannot reach it
    /// (IPv6 from an IPv4 socket).
    pub(crate) fn encode(address: SocketAddr, family: Family) -> Option<Self> {
        match (family, address) {
            (Family::V4, SocketAddr::V4(v4)) => Some(Self::in4(*v4.ip(), v4.port())),
            (Family::V4, SocketAddr::V6(v6)) => {
                v6.ip().to_ipv4_mapped().map(|ip| Self::in4(ip, v6.port()))
            }
            (Family::V6, SocketAddr::V4(v4)) => {
                Some(Self::in6(v4.ip().to_ipv6_mapped(), v4.port(), 0))
            }
            (Family::V6, SocketAddr::V6(v6)) => Some(Self::in6(*v6.ip(), v6.port(), v6.scope_id())),
        }
    }

    fn in4(ip: Ipv4Addr, port: u16) -> Self {
        let mut bytes = [0; SOCKADDR_BYTES];
        bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[4..8].copy_from_slice(&ip.octets());
        Self {
            bytes,
            len: SOCKADDR_IN_BYTES as u8,
        }
    }

    fn in6(ip: Ipv6Addr, port: u16, scope_id: u32) -> Self {
        let mut bytes = [0; SOCKADDR_BYTES];
        bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[8..24].copy_from_slice(&ip.octets());
        bytes[24..28].copy_from_slice(&scope_id.to_ne_bytes());
        Self {
            bytes,
            len: SOCKADDR_BYTES as u8,
        }
    }

    /// The whole storage, zero-padded past [`SockAddr::len`].
    pub(crate) fn storage(&self) -> &[u8; SOCKADDR_BYTES] {
        &self.bytes
    }

    /// Bytes of the storage that count.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }
}

/// Reads an address the kernel wrote; v4-mapped becomes IPv4, the flow label is forgotten (a peer
/// is the same peer whatever its flow). `None` for another family or a short structure.
pub(crate) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let octets: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(SocketAddr::new(IpAddr::V4(octets.into()), port))
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope_id = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            let ip = Ipv6Addr::from(octets);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
                None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope_id)),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A panic is the failure report.

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_ipv6_destination_is_refused_by_an_ipv4_socket() {
        assert!(SockAddr::encode("[2001:db8::1]:5000".parse().unwrap(), Family::V4).is_none());
    }

    #[test]
    fn a_mapped_destination_is_ipv4_to_an_ipv4_socket() {
        let mapped = SockAddr::encode("[::ffff:192.0.2.1]:9".parse().unwrap(), Family::V4).unwrap();
        assert_eq!(mapped.len(), SOCKADDR_IN_BYTES);
        assert_eq!(
            decode(mapped.storage()),
            Some("192.0.2.1:9".parse().unwrap())
        );
    }

    proptest! {
        #[test]
        fn ipv4_round_trips_through_both_families(ip: u32, port: u16) {
            let address = SocketAddr::new(IpAddr::V4(ip.into()), port);
            for family in [Family::V4, Family::V6] {
                let encoded = SockAddr::encode(address, family).unwrap();
                prop_assert_eq!(decode(&encoded.storage()[..encoded.len()]), Some(address));
            }
        }

        #[test]
        fn ipv6_round_trips(ip: u128, port: u16, scope: u32) {
            let ip = Ipv6Addr::from(ip);
            prop_assume!(ip.to_ipv4_mapped().is_none());
            let address = SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope));
            let encoded = SockAddr::encode(address, Family::V6).unwrap();
            prop_assert_eq!(decode(&encoded.storage()[..encoded.len()]), Some(address));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&bytes);
        }
    }
}
