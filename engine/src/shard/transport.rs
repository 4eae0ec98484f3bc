//! One peer's association as its shard keeps it: the cold part, beside [`Peer`](super::peer::Peer).

use std::net::SocketAddr;
use std::sync::Arc;

use crate::command::{IceCredentials, IncomingTrackSpec, TransportSpec};
use crate::counters::TransportCounters;
use crate::ids::TransportId;
use crate::limits::{
    DTLS_DATAGRAMS_PER_SECOND, MAX_ADDRESSES_PER_TRANSPORT, NEWS_BURST, NEWS_PER_SECOND,
    UNKNOWN_SSRC_TRIES_PER_SECOND,
};
use crate::packet::layers_allocation::MAX_STREAMS;
use crate::packet::twcc::TwccRecorder;
use crate::route::budget::Budget;
use crate::route::demand::Demand;
use crate::route::remb::RembEstimate;
use crate::route::source::Source;
use crate::srtp::{Opener, ReplayWindow, RtcpSession};
use crate::stun::IntegrityKey;

/// A peer's ICE session, as the lite side keeps it (RFC 8445 2.5).
pub(crate) struct Ice {
    pub(crate) current: Credentials,
    /// The credentials before an ICE restart, good until the first check with the new ones.
    pub(crate) previous: Option<Credentials>,
    /// Addresses proven by a valid check, the latest last.
    pub(crate) proven: Vec<SocketAddr>,
    pub(crate) selected: Option<SocketAddr>,
    /// The selected address that the control plane knows of.
    pub(crate) told: Option<SocketAddr>,
    /// When the selected address last sent a valid check.
    pub(crate) selected_check_us: u64,
    pub(crate) last_check_us: u64,
    /// The consent expired, and the control plane knows.
    pub(crate) expired: bool,
}

/// A user name fragment and the key that goes with it.
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) key: IntegrityKey,
}

impl From<&IceCredentials> for Credentials {
    fn from(spec: &IceCredentials) -> Self {
        Self {
            ufrag: spec.local_ufrag.clone(),
            key: IntegrityKey::new(&spec.local_pwd),
        }
    }
}

impl Ice {
    /// The credentials of that name.
    pub(crate) fn credentials(&self, ufrag: &str) -> Option<&Credentials> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|credentials| credentials.ufrag == ufrag)
    }

    /// Remembers a proven address; returns one that had to make room.
    pub(crate) fn prove(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        self.proven.retain(|known| *known != address);
        self.proven.push(address);
        if self.proven.len() <= MAX_ADDRESSES_PER_TRANSPORT {
            return None;
        }
        let place = usize::from(self.selected == Some(self.proven[0]));
        Some(self.proven.remove(place))
    }
}

/// Media keys of the direction towards us, and RTCP both ways.
pub(crate) struct Incoming {
    pub(crate) opener: Opener,
    pub(crate) rtcp: RtcpSession,
}

/// An SSRC a peer sends on.
pub(crate) struct ReceiveStream {
    pub(crate) ssrc: u32,
    pub(crate) replay: ReplayWindow,
    pub(crate) track: usize,
    pub(crate) encoding: usize,
    /// It carries retransmissions of the encoding.
    pub(crate) rtx: bool,
    pub(crate) last_packet_us: u64,
}

/// A media section the peer shares.
pub(crate) struct IncomingTrack {
    pub(crate) spec: IncomingTrackSpec,
    pub(crate) sources: Vec<Source>,
    /// Which of them it is asked for.
    pub(crate) demand: Demand,
    /// What the publisher says that each of them may take.
    pub(crate) targets_bps: [u64; MAX_STREAMS],
}

/// Everything about a peer that is not on the media path of viewers.
pub(crate) struct Transport {
    pub(crate) id: TransportId,
    pub(crate) consent_timeout_us: u64,
    pub(crate) rtcp_ssrc: u32,
    pub(crate) cname: String,
    pub(crate) counters: Arc<TransportCounters>,
    pub(crate) ice: Ice,
    pub(crate) incoming: Option<Incoming>,
    pub(crate) streams: Vec<ReceiveStream>,
    pub(crate) tracks: Vec<IncomingTrack>,
    /// Places in the shard's table of outgoing tracks.
    pub(crate) outgoing: Vec<u32>,
    /// Transport-wide feedback for a publisher that asked for it.
    pub(crate) twcc: Option<Box<TwccRecorder>>,
    /// An SSRC of the peer's media, to address feedback to.
    pub(crate) media_ssrc: u32,
    /// The control plane knows that its media comes.
    pub(crate) heard: bool,
    /// What a publisher is asked for.
    pub(crate) remb: RembEstimate,
    pub(crate) unknown_ssrcs: Budget,
    /// DTLS datagrams for the control plane.
    pub(crate) dtls: Budget,
    /// State changes told to the control plane.
    pub(crate) news: Budget,
    /// Every SSRC the peer was ever sent: with the same keys none may begin anew.
    pub(crate) sent_ssrcs: Vec<u32>,
    pub(crate) packets_received: u64,
    pub(crate) bytes_received: u64,
    pub(crate) rtcp_received: u64,
    pub(crate) dropped: u64,
    pub(crate) rtt_us: u64,
    pub(crate) address_changes: u64,
}

impl Transport {
    pub(crate) fn new(spec: TransportSpec, now_us: u64) -> Self {
        Self {
            id: spec.id,
            consent_timeout_us: spec.consent_timeout_us,
            rtcp_ssrc: spec.rtcp_ssrc,
            cname: spec.cname,
            counters: spec.counters,
            ice: Ice {
                current: Credentials::from(&spec.ice),
                previous: None,
                proven: Vec::with_capacity(2),
                selected: None,
                told: None,
                selected_check_us: now_us,
                last_check_us: now_us,
                expired: false,
            },
            incoming: None,
            streams: Vec::new(),
            tracks: Vec::new(),
            outgoing: Vec::new(),
            twcc: None,
            media_ssrc: 0,
            heard: false,
            remb: RembEstimate::new(u64::MAX),
            unknown_ssrcs: Budget::new(
                UNKNOWN_SSRC_TRIES_PER_SECOND,
                UNKNOWN_SSRC_TRIES_PER_SECOND,
            ),
            dtls: Budget::new(DTLS_DATAGRAMS_PER_SECOND, DTLS_DATAGRAMS_PER_SECOND),
            news: Budget::new(NEWS_PER_SECOND, NEWS_BURST),
            sent_ssrcs: Vec::new(),
            packets_received: 0,
            bytes_received: 0,
            rtcp_received: 0,
            dropped: 0,
            rtt_us: 0,
            address_changes: 0,
        }
    }

    /// Copies the counts to where the control plane reads them.
    pub(crate) fn publish(&self, packets_sent: u64, bytes_sent: u64) {
        let to = &self.counters;
        to.packets_received.set(self.packets_received);
        to.bytes_received.set(self.bytes_received);
        to.packets_sent.set(packets_sent);
        to.bytes_sent.set(bytes_sent);
        to.rtcp_received.set(self.rtcp_received);
        to.dropped.set(self.dropped);
        to.rtt_us.set(self.rtt_us);
        to.address_changes.set(self.address_changes);
        to.last_check_us.set(self.ice.last_check_us);
    }
}
