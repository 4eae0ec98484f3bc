//! ICE attributes (RFC 8839): credentials and candidates. The offer and the fragment parser call
//! it. Candidates are read leniently: one that this server could not use anyway must not cost the
//! client its session.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::error::SdpError;

/// User fragment and password of one side (RFC 8445 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`. A secret: left out of `Debug`.
    pub pwd: String,
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

impl IceCredentials {
    /// Checks both values as they stand in `a=ice-ufrag` and `a=ice-pwd`.
    ///
    /// # Errors
    /// [`SdpError::InvalidAttribute`] when one is too short, too long or not made of ice-chars.
    pub fn new(ufrag: &str, pwd: &str) -> Result<Self, SdpError> {
        // RFC 8839 5.4: ufrag 4*256ice-char, pwd 22*256ice-char.
        if !(4..=256).contains(&ufrag.len()) || !ufrag.bytes().all(is_ice_char) {
            return Err(SdpError::invalid(
                "ice-ufrag",
                ufrag,
                "it must be 4 to 256 letters, digits, + or / (RFC 8839 5.4)",
            ));
        }
        if !(22..=256).contains(&pwd.len()) || !pwd.bytes().all(is_ice_char) {
            return Err(SdpError::invalid(
                "ice-pwd",
                "(hidden)",
                "it must be 22 to 256 letters, digits, + or / (RFC 8839 5.4)",
            ));
        }
        Ok(Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        })
    }
}

// "-", "_" and "=" are no ice-chars, but some clients use a base64 alphabet that has them.
fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// How a candidate was found (RFC 8445 5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CandidateType {
    /// An address of the client's own interface.
    Host,
    /// Its address as a STUN server sees it.
    ServerReflexive,
    /// Its address as a peer sees it.
    PeerReflexive,
    /// An address of a relay.
    Relayed,
}

/// A candidate of the other side that this server could reach: UDP, component 1, an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IceCandidate {
    /// Where it receives.
    pub address: SocketAddr,
    /// Its priority (RFC 8445 5.1.2); higher is better.
    pub priority: u32,
    /// How it was found.
    pub typ: CandidateType,
}

impl IceCandidate {
    /// Reads the value of `a=candidate:`. `None` for what is malformed and for what cannot be used:
    /// TCP, the RTCP component, mDNS and other host names, port 0.
    pub fn parse(value: &str) -> Option<Self> {
        // RFC 8839 5.1: foundation component transport priority address port typ type ...
        let mut fields = value.split_ascii_whitespace();
        let _foundation = fields.next()?;
        if fields.next()? != "1" || !fields.next()?.eq_ignore_ascii_case("udp") {
            return None;
        }
        let priority = fields.next()?.parse().ok()?;
        let ip: IpAddr = fields.next()?.parse().ok()?;
        let port: u16 = fields.next()?.parse().ok()?;
        if fields.next()? != "typ" || port == 0 || ip.is_unspecified() || ip.is_multicast() {
            return None;
        }
        let typ = match fields.next()? {
            "host" => CandidateType::Host,
            "srflx" => CandidateType::ServerReflexive,
            "prflx" => CandidateType::PeerReflexive,
            "relay" => CandidateType::Relayed,
            _ => return None,
        };
        Some(Self {
            address: SocketAddr::new(ip, port),
            priority,
            typ,
        })
    }
}

/// Candidates of one m-section as they are collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CandidateList {
    pub(crate) usable: Vec<IceCandidate>,
    pub(crate) ignored: usize,
}

impl CandidateList {
    /// Takes one `a=candidate` value; bounded, and never an error.
    pub(crate) fn push(&mut self, value: &str) {
        match IceCandidate::parse(value) {
            Some(candidate) if self.usable.contains(&candidate) => {}
            Some(candidate) if self.usable.len() < super::limits::MAX_CANDIDATES => {
                self.usable.push(candidate);
            }
            _ => self.ignored += 1,
        }
    }
}

/// The value of `a=candidate` for a host candidate of this server. `rank` 0 is the most preferred.
pub(crate) fn host_candidate_line(address: SocketAddr, rank: usize) -> String {
    // RFC 8445 5.1.2.1: type preference 126 for host, local preference, component 1.
    let local_preference = 65_535u32.saturating_sub(u32::try_from(rank).unwrap_or(u32::MAX));
    let priority = (126 << 24) | (local_preference << 8) | 255;
    format!(
        "{} 1 udp {priority} {} {} typ host",
        rank + 1,
        address.ip(),
        address.port()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_udp_host_candidate_is_read() {
        let line = "2641876204 1 udp 2122194687 192.0.2.2 54094 typ host generation 0";
        let candidate = IceCandidate::parse(line).unwrap();
        assert_eq!(candidate.address, SocketAddr::from(([192, 0, 2, 2], 54094)));
        assert_eq!(candidate.priority, 2_122_194_687);
        assert_eq!(candidate.typ, CandidateType::Host);
    }

    #[test]
    fn what_the_server_cannot_reach_is_ignored() {
        for line in [
            "3 1 tcp 1518285567 fd00::2 9 typ host tcptype active",
            "0 2 UDP 2122187006 192.0.2.2 33605 typ host",
            "0 1 UDP 2122187007 67cbdd3f-280e-40a9-92ae-ce4acbb31613.local 41746 typ host",
            "0 1 UDP 2122187007 192.0.2.2 0 typ host",
            "0 1 UDP 99999999999 192.0.2.2 5 typ host",
            "0 1 UDP 1 192.0.2.2 70000 typ host",
            "0 1 UDP 1 192.0.2.2 7 typ",
            "",
        ] {
            assert_eq!(IceCandidate::parse(line), None, "{line}");
        }
    }

    #[test]
    fn the_list_of_candidates_is_bounded() {
        let mut list = CandidateList::default();
        for port in 1..=10_000u16 {
            list.push(&format!("1 1 udp 1 192.0.2.2 {port} typ host"));
        }
        assert_eq!(list.usable.len(), super::super::limits::MAX_CANDIDATES);
        assert_eq!(list.usable.len() + list.ignored, 10_000);
    }

    #[test]
    fn a_short_password_is_refused_without_being_repeated() {
        let error = IceCredentials::new("abcd", "secret").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    proptest! {
        #[test]
        fn no_candidate_line_panics(line in "\\PC*") {
            let _ = IceCandidate::parse(&line);
        }

        #[test]
        fn our_own_candidates_are_read_back(
            ip: IpAddr, port in 1u16.., rank in 0usize..64) {
            prop_assume!(!ip.is_unspecified() && !ip.is_multicast());
            let address = SocketAddr::new(ip, port);
            let read = IceCandidate::parse(&host_candidate_line(address, rank)).unwrap();
            prop_assert_eq!(read.address, address);
            prop_assert_eq!(read.typ, CandidateType::Host);
        }
    }
}
