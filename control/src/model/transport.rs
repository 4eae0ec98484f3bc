//! One peer's connection: ICE and DTLS as a state, what it shares or watches, and its end.
//!
//! A task per transport carries it from the first connectivity check through the handshake to its
//! end, whoever ends it: the peer, the clock, or [`Transport::close`]. After that nothing of it is
//! left here or on its shard.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fanmill_engine::command::SrtpKeys;
use fanmill_engine::counters::TransportCounters;
use fanmill_engine::ids::{ShardId, TransportId};
use fanmill_engine::packet::extension::{Extension, ExtensionMap};
use fanmill_engine::srtp::{MasterKey, Profile};
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::dtls::{Association, Ended, Handshake, Keys, Outcome, Role, Started};
use crate::model::hearing::Hearing;
use crate::model::incoming::IncomingStream;
use crate::model::media_server::MediaServer;
use crate::model::outgoing::OutgoingStream;
use crate::sdp::{
    IceCredentials, IceFragment, LocalParameters, Negotiated, NegotiatedMedia, Setup,
    restart_fragment,
};

/// How long the end of an association may take: a close_notify is one datagram.
const CLOSING: Duration = Duration::from_millis(300);

/// What a transport is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// The peer shares a stream.
    Publish,
    /// The peer watches a stream.
    View,
}

/// Where a transport is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportState {
    /// No connectivity check has come.
    Waiting,
    /// The peer is reachable; the DTLS handshake runs.
    Connecting,
    /// Media may flow.
    Connected,
    /// It is over.
    Closed(CloseReason),
}

/// Why a transport ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended its DTLS association.
    #[error("the peer closed the connection")]
    ByPeer,
    /// No valid connectivity check for the consent timeout (RFC 7675).
    #[error("the peer fell silent")]
    ConsentExpired,
    /// The handshake failed.
    #[error("DTLS handshake failed: {0}")]
    Dtls(String),
    /// It was silent, and another publisher of the same stream came.
    #[error("replaced by another publisher after it fell silent")]
    Replaced,
    /// What produced it in this process has ended.
    #[error("its source has ended")]
    SourceEnded,
    /// The shard that served it failed.
    #[error("the shard that served it failed")]
    ShardFailed,
    /// We ended it, at a client's or an operator's wish.
    #[error("closed on request")]
    Requested,
    /// The server ends.
    #[error("the server is shutting down")]
    Shutdown,
}

/// A peer's connection; clones are the same one. Dropping it does not close it.
#[derive(Clone)]
pub struct Transport(pub(crate) Arc<Inner>);

/// A transport in a report.
#[derive(Debug, Clone, Serialize)]
pub struct TransportInfo {
    /// Its name.
    pub id: u64,
    /// What it is for.
    pub kind: TransportKind,
    /// The shard that serves it.
    pub shard: u16,
    /// Where the peer is, once a check proved it.
    pub remote_address: Option<SocketAddr>,
    /// `new`, `connected`, `disconnected` or `closed` (the W3C's words).
    pub ice_state: &'static str,
    /// `new`, `connecting`, `connected`, `closed` or `failed`.
    pub dtls_state: &'static str,
    /// The negotiated protection profile.
    pub srtp_profile: Option<&'static str>,
    /// Last measured round trip in milliseconds.
    pub rtt_ms: Option<f64>,
    /// RTP packets received.
    pub packets_received: u64,
    /// Bytes of those.
    pub bytes_received: u64,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// Bytes of those.
    pub bytes_sent: u64,
    /// RTCP packets received.
    pub rtcp_received: u64,
    /// Packets of the peer that were dropped.
    pub dropped: u64,
    /// Times the peer's address changed.
    pub address_changes: u64,
    /// Seconds since it was made.
    pub age_s: u64,
}

pub(crate) struct Inner {
    pub(crate) id: TransportId,
    pub(crate) kind: TransportKind,
    pub(crate) shard: ShardId,
    pub(super) server: MediaServer,
    pub(super) hearing: Hearing,
    negotiated: Negotiated,
    counters: Arc<TransportCounters>,
    incoming: IncomingStream,
    outgoing: OutgoingStream,
    session: Mutex<Session>,
    association: OnceLock<Association>,
    closing: CancellationToken,
    state: watch::Sender<TransportState>,
    created: Instant,
}

/// What changes while it lives.
struct Session {
    local: LocalParameters,
    remote_ice: IceCredentials,
    address: Option<SocketAddr>,
    /// Taken by the first proven address.
    start: Option<oneshot::Sender<(Outcome, Ended)>>,
    profile: Option<Profile>,
    close_reason: CloseReason,
}

/// What a transport is made of.
pub(crate) struct Parts {
    pub(crate) id: TransportId,
    pub(crate) kind: TransportKind,
    pub(crate) shard: ShardId,
    pub(crate) negotiated: Negotiated,
    pub(crate) local: LocalParameters,
    pub(crate) counters: Arc<TransportCounters>,
    pub(crate) incoming: IncomingStream,
    pub(crate) outgoing: OutgoingStream,
}

impl Transport {
    /// A transport, whose life is to be spawned: [`Transport::run`] with the receiver.
    pub(crate) fn new(
        server: MediaServer,
        parts: Parts,
    ) -> (Self, oneshot::Receiver<(Outcome, Ended)>) {
        let (start, started) = oneshot::channel();
        let remote_ice = parts.negotiated.transport.ice.clone();
        let transport = Self(Arc::new(Inner {
            id: parts.id,
            kind: parts.kind,
            shard: parts.shard,
            server,
            hearing: Hearing::new(),
            negotiated: parts.negotiated,
            counters: parts.counters,
            incoming: parts.incoming,
            outgoing: parts.outgoing,
            session: Mutex::new(Session {
                local: parts.local,
                remote_ice,
                address: None,
                start: Some(start),
                profile: None,
                close_reason: CloseReason::Requested,
            }),
            association: OnceLock::new(),
            closing: CancellationToken::new(),
            state: watch::Sender::new(TransportState::Waiting),
            created: Instant::now(),
        }));
        (transport, started)
    }

    /// Its name in the engine.
    pub fn id(&self) -> TransportId {
        self.0.id
    }

    /// What the peer shares.
    pub fn incoming(&self) -> &IncomingStream {
        &self.0.incoming
    }

    /// What the peer watches.
    pub fn outgoing(&self) -> &OutgoingStream {
        &self.0.outgoing
    }

    /// What was agreed with the peer.
    pub fn negotiated(&self) -> &Negotiated {
        &self.0.negotiated
    }

    /// Where it is in its life; wait on it for changes.
    pub fn state(&self) -> watch::Receiver<TransportState> {
        self.0.state.subscribe()
    }

    /// Ends it: the peer is told, and everything it held is freed.
    pub fn close(&self) {
        self.close_for(CloseReason::Requested);
    }

    pub(crate) fn close_for(&self, reason: CloseReason) {
        let mut session = self.0.session();
        if !self.0.closing.is_cancelled() {
            session.close_reason = reason;
            self.0.closing.cancel();
        }
    }

    /// Whether it is over or about to be.
    pub fn is_ending(&self) -> bool {
        self.0.closing.is_cancelled() || matches!(*self.0.state.borrow(), TransportState::Closed(_))
    }

    /// Why it is over, or about to be.
    pub fn close_reason(&self) -> Option<CloseReason> {
        if let TransportState::Closed(reason) = &*self.0.state.borrow() {
            return Some(reason.clone());
        }
        let session = self.0.session();
        let ending = self.0.closing.is_cancelled();
        ending.then(|| session.close_reason.clone())
    }

    /// A number that changes whenever something of the peer's was heard: a valid connectivity
    /// check, or a packet under its keys. It is published once a second.
    pub(crate) fn heard_count(&self) -> u64 {
        let counters = &self.0.counters;
        let packets = counters.packets_received.get() + counters.rtcp_received.get();
        // A time and two counts, none of which ever falls.
        packets.wrapping_add(counters.last_check_us.get())
    }

    /// Waits until it is over, and says why.
    pub async fn closed(&self) -> CloseReason {
        let mut state = self.state();
        let over = state
            .wait_for(|state| matches!(state, TransportState::Closed(_)))
            .await;
        match over.as_deref() {
            Ok(TransportState::Closed(reason)) => reason.clone(),
            // The sender lives in `self`, so the wait ends only by the state.
            _ => CloseReason::Requested,
        }
    }

    /// Whether a fragment asks for an ICE restart: credentials other than the peer's current ones
    /// (RFC 9725 4.3.3).
    pub fn is_restart(&self, fragment: &IceFragment) -> bool {
        fragment.is_restart(&self.0.session().remote_ice)
    }

    /// Restarts ICE with the peer's new credentials; returns the fragment that answers it. Media
    /// flows on meanwhile.
    ///
    /// # Errors
    /// When the transport has gone.
    pub fn restart_ice(
        &self,
        fragment: &IceFragment,
    ) -> Result<String, fanmill_engine::EngineError> {
        let mut session = self.0.session();
        session.local.ice = self.0.server.new_ice_credentials();
        session.local.session_version += 1;
        if let Some(remote) = &fragment.credentials {
            session.remote_ice = remote.clone();
        }
        let engine = self.0.server.engine();
        engine.restart_ice(self.0.id, engine_credentials(&session.local.ice))?;
        Ok(restart_fragment(&self.0.negotiated, &session.local))
    }

    /// How long ago it was made.
    pub fn age(&self) -> Duration {
        self.0.created.elapsed()
    }

    /// Its present state in numbers.
    pub fn info(&self) -> TransportInfo {
        let (ice_state, dtls_state) = match &*self.0.state.borrow() {
            TransportState::Waiting => ("new", "new"),
            TransportState::Connecting => ("connected", "connecting"),
            TransportState::Connected => ("connected", "connected"),
            TransportState::Closed(CloseReason::Dtls(_)) => ("closed", "failed"),
            TransportState::Closed(_) => ("closed", "closed"),
        };
        let session = self.0.session();
        let counters = &self.0.counters;
        let rtt_us = Some(counters.rtt_us.get()).filter(|rtt_us| *rtt_us > 0);
        TransportInfo {
            id: self.0.id.0,
            kind: self.0.kind,
            shard: self.0.shard.0,
            remote_address: session.address,
            ice_state,
            dtls_state,
            srtp_profile: session.profile.map(Profile::name),
            rtt_ms: rtt_us.map(|rtt_us| rtt_us as f64 / 1000.0),
            packets_received: counters.packets_received.get(),
            bytes_received: counters.bytes_received.get(),
            packets_sent: counters.packets_sent.get(),
            bytes_sent: counters.bytes_sent.get(),
            rtcp_received: counters.rtcp_received.get(),
            dropped: counters.dropped.get(),
            address_changes: counters.address_changes.get(),
            age_s: self.age().as_secs(),
        }
    }

    /// A connectivity check proved an address; with the first one the handshake starts. Call it
    /// inside the runtime.
    pub(crate) fn address_selected(&self, address: SocketAddr) {
        let start = {
            let mut session = self.0.session();
            session.address = Some(address);
            session.start.take()
        };
        let Some(start) = start else { return };
        match self.0.server.start_dtls(self.0.id, self.0.handshake()) {
            Ok(Started {
                association,
                outcome,
                ended,
            }) => {
                // Set once: `start` can be taken once.
                let _ = self.0.association.set(association);
                let _ = start.send((outcome, ended));
            }
            Err(error) => self.close_for(CloseReason::Dtls(error.to_string())),
        }
    }

    /// A DTLS datagram came. None comes before an address was proven.
    pub(crate) fn dtls_datagram(&self, datagram: &[u8]) {
        if let Some(association) = self.0.association.get() {
            association.handle_datagram(datagram);
        }
    }

    /// Its life, from the first check to the end. Spawn it once.
    pub(crate) async fn run(self, started: oneshot::Receiver<(Outcome, Ended)>) {
        let mut ended = None;
        let reason = tokio::select! {
            () = self.0.closing.cancelled() => self.0.session().close_reason.clone(),
            reason = self.0.live(started, &mut ended) => reason,
        };
        if let Some(association) = self.0.association.get() {
            association.close();
        }
        if let Some(ended) = ended {
            // A peer that does not hear the close_notify notices by consent.
            let _ = tokio::time::timeout(CLOSING, ended).await;
        }
        self.0.server.forget(self.0.id);
        self.0.state.send_replace(TransportState::Closed(reason));
    }
}

impl Inner {
    async fn live(
        &self,
        started: oneshot::Receiver<(Outcome, Ended)>,
        ending: &mut Option<Ended>,
    ) -> CloseReason {
        let Ok((outcome, ended)) = started.await else {
            return self.session().close_reason.clone();
        };
        let ended = ending.insert(ended);
        self.state.send_replace(TransportState::Connecting);
        let keys = match outcome.await {
            Ok(keys) => keys,
            Err(error) => return CloseReason::Dtls(error.to_string()),
        };
        if let Err(reason) = self.use_keys(&keys) {
            return CloseReason::Dtls(reason);
        }
        self.state.send_replace(TransportState::Connected);
        ended.await;
        *ending = None;
        CloseReason::ByPeer
    }

    fn use_keys(&self, keys: &Keys) -> Result<(), String> {
        let profile = Profile::from_id(keys.profile.id()).ok_or("unknown SRTP profile")?;
        let key = |half: &crate::dtls::MasterKey| {
            MasterKey::new(profile, &half.key, &half.salt).map_err(|error| error.to_string())
        };
        let keys = SrtpKeys {
            profile,
            local: key(&keys.local)?,
            remote: key(&keys.remote)?,
        };
        self.server
            .engine()
            .set_keys(self.id, keys)
            .map_err(|error| error.to_string())?;
        self.session().profile = Some(profile);
        Ok(())
    }

    fn handshake(&self) -> Handshake {
        let remote = &self.negotiated.transport;
        // RFC 8842 5.3: the side that is active sends the ClientHello.
        let role = match remote.setup {
            Setup::Active => Role::Client,
            _ => Role::Server,
        };
        let fingerprints = remote.fingerprints.iter();
        let fingerprints =
            fingerprints.filter_map(|fingerprint| fingerprint.to_string().parse().ok());
        Handshake::new(role, fingerprints.collect())
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's view of ICE credentials.
pub(crate) fn engine_credentials(ice: &IceCredentials) -> fanmill_engine::command::IceCredentials {
    fanmill_engine::command::IceCredentials {
        local_ufrag: ice.ufrag.clone(),
        local_pwd: ice.pwd.clone(),
    }
}

/// The engine's view of the negotiated header extensions.
pub(crate) fn extension_map(media: &NegotiatedMedia) -> ExtensionMap {
    let mut map = ExtensionMap::new();
    for mapping in &media.extensions {
        if let Some(extension) = Extension::from_uri(mapping.extension.uri()) {
            // Ids are unique and in range after negotiation.
            let _ = map.insert(extension, mapping.id);
        }
    }
    map
}
