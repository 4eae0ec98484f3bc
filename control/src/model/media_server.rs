//! The root of the object model: runs the engine, hears its events, knows every transport.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use fanmill_engine::event::Event;
use fanmill_engine::ids::{ProducerId, RenditionId, ShardId, TransportId};
use fanmill_engine::{Engine, EngineConfig, EngineError, EngineStartError, Events, ShardReport};

use crate::dtls::{Backend, Certificate, DtlsCrate, DtlsError, Handshake, Limits, Started};
use crate::model::endpoint::{Endpoint, OfferError};
use crate::model::incoming::{IncomingStream, IncomingTrack};
use crate::model::produced::ProducedStream;
use crate::model::slow_stun;
use crate::model::transport::{CloseReason, Parts, Transport};
use crate::sdp::IceCredentials;

/// How often events are looked for without being told, as a safety net and to notice shutdown.
const EVENT_WAIT: Duration = Duration::from_millis(200);

/// How often the choice among simulcast encodings is made anew.
const RESELECT_EVERY: Duration = Duration::from_secs(1);

/// How a media server is started.
#[derive(Debug, Clone)]
pub struct MediaServerConfig {
    /// The data plane.
    pub engine: EngineConfig,
    /// Addresses to put into candidates instead of the bound one: behind NAT, in containers.
    pub public_ips: Vec<IpAddr>,
    /// Without a valid connectivity check for this long a peer counts as gone.
    pub consent_timeout: Duration,
    /// Transports at most.
    pub max_transports: usize,
    /// The most a publisher is asked to send, in bits per second.
    pub publish_bitrate_max_bps: u64,
    /// Bounds of the handshakes.
    pub dtls: Limits,
}

/// Why a media server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaServerError {
    /// The data plane did not.
    #[error(transparent)]
    Engine(#[from] EngineStartError),
    /// No certificate could be made.
    #[error("cannot make a DTLS certificate: {0}")]
    Certificate(#[source] DtlsError),
    /// No thread could be had.
    #[error("cannot start the event thread: {0}; raise the limit of processes")]
    Thread(#[source] std::io::Error),
    /// Not called from a tokio runtime.
    #[error("a media server must be started inside a tokio runtime")]
    NoRuntime,
}

/// Gives out names that are never used twice.
#[derive(Debug, Default)]
pub(crate) struct Names(AtomicU64);

impl Names {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What placing a transport needs to know of a shard.
#[derive(Debug, Default)]
struct ShardState {
    /// Transports and producers on it.
    load: AtomicUsize,
    /// It ended without being told to.
    failed: AtomicBool,
}

struct Shared {
    config: MediaServerConfig,
    engine: Engine,
    dtls: DtlsCrate,
    names: Names,
    cname: String,
    transports: Mutex<HashMap<TransportId, Transport>>,
    renditions: Mutex<HashMap<RenditionId, Arc<IncomingTrack>>>,
    produced: Mutex<HashMap<ProducerId, ProducedStream>>,
    shards: Vec<ShardState>,
    ending: AtomicBool,
}

/// A running media server; clones share it.
#[derive(Clone)]
pub struct MediaServer(Arc<Shared>);

impl MediaServer {
    /// Starts the data plane and the thread that hears it. Call it inside a tokio runtime, which
    /// will run the handshakes.
    ///
    /// # Errors
    /// [`MediaServerError`].
    pub fn start(config: MediaServerConfig) -> Result<Self, MediaServerError> {
        let runtime =
            tokio::runtime::Handle::try_current().map_err(|_| MediaServerError::NoRuntime)?;
        let certificate = Certificate::generate().map_err(MediaServerError::Certificate)?;
        let dtls = DtlsCrate::new(certificate, config.dtls);
        let (engine, events) = Engine::start(&config.engine)?;
        let shards = (0..config.engine.shards)
            .map(|_| ShardState::default())
            .collect();
        let server = Self(Arc::new(Shared {
            config,
            engine,
            dtls,
            names: Names::default(),
            cname: format!("fanmill-{:016x}", random_u64()),
            transports: Mutex::default(),
            renditions: Mutex::default(),
            produced: Mutex::default(),
            shards,
            ending: AtomicBool::new(false),
        }));
        let hearing = server.clone();
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                let _runtime = runtime.enter();
                hearing.hear(events);
            })
            .map_err(MediaServerError::Thread)?;
        Ok(server)
    }

    /// A place for peers to connect to.
    pub fn create_endpoint(&self) -> Endpoint {
        Endpoint(self.clone())
    }

    /// What each shard runs on.
    pub fn shard_reports(&self) -> &[ShardReport] {
        self.0.engine.reports()
    }

    /// The data plane.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// What handshakes did.
    pub fn dtls_counters(&self) -> &crate::dtls::Counters {
        self.0.dtls.counters()
    }

    /// Our certificate's fingerprint (RFC 8122 5), as it stands in answers.
    pub fn fingerprint_sha256(&self) -> String {
        let text = self.0.dtls.fingerprint().to_string();
        text.split_once(' ')
            .map_or(text.clone(), |(_, digest)| digest.to_owned())
    }

    /// A transport by its name.
    pub fn transport(&self, id: TransportId) -> Option<Transport> {
        lock(&self.0.transports).get(&id).cloned()
    }

    /// How many transports there are.
    pub fn transport_count(&self) -> usize {
        lock(&self.0.transports).len()
    }

    /// All transports, oldest first.
    pub fn transports(&self) -> Vec<Transport> {
        let mut all: Vec<_> = lock(&self.0.transports).values().cloned().collect();
        all.sort_by_key(Transport::id);
        all
    }

    /// Says goodbye to every peer and stops the data plane, within about `patience`.
    pub async fn terminate(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.0.ending.store(true, Ordering::Relaxed);
        for stream in self.produced_streams() {
            stream.close_for(CloseReason::Shutdown);
        }
        let farewell = async {
            // Again, for those that were being made when new ones began to be refused.
            loop {
                let all = self.transports();
                if all.is_empty() {
                    break;
                }
                for transport in &all {
                    transport.close_for(CloseReason::Shutdown);
                }
                for transport in &all {
                    transport.closed().await;
                }
            }
        };
        let _ = tokio::time::timeout(patience.mul_f32(0.6), farewell).await;
        let left = deadline.saturating_duration_since(Instant::now());
        let engine = self.0.engine.clone();
        let stopped = tokio::task::spawn_blocking(move || engine.stop(left)).await;
        if stopped.is_err() {
            tracing::error!("stopping the data plane panicked");
        }
    }

    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    pub(crate) fn cname(&self) -> &str {
        &self.0.cname
    }

    pub(crate) fn consent_timeout_us(&self) -> u64 {
        self.0
            .config
            .consent_timeout
            .as_micros()
            .try_into()
            .unwrap_or(u64::MAX / 2)
    }

    pub(crate) fn publish_bitrate_max_bps(&self) -> u64 {
        self.0.config.publish_bitrate_max_bps
    }

    /// Whether the latest keyframes are kept for viewers to begin with.
    pub(crate) fn keeps_keyframes(&self) -> bool {
        self.0.config.engine.forwarding.max_cache_us > 0
    }

    pub(crate) fn random(&self) -> u64 {
        random_u64()
    }

    /// ICE credentials with 48 and 192 bits of randomness (RFC 8445 5.3 asks for 24 and 128).
    pub(crate) fn new_ice_credentials(&self) -> IceCredentials {
        let pwd: String = (0..3).map(|_| format!("{:016x}", random_u64())).collect();
        let ufrag = format!("{:012x}", random_u64() >> 16);
        IceCredentials { ufrag, pwd }
    }

    pub(crate) fn candidates(&self, shard: ShardId) -> Vec<SocketAddr> {
        let report = &self.0.engine.reports()[usize::from(shard.0)];
        let local = report.grants.local_address;
        let public = self.0.config.public_ips.iter();
        let public: Vec<_> = public
            .map(|ip| SocketAddr::new(*ip, local.port()))
            .collect();
        if public.is_empty() {
            vec![local]
        } else {
            public
        }
    }

    /// Whether nothing new is taken any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.0.ending.load(Ordering::Relaxed)
    }

    /// A shard for another transport.
    pub(crate) fn place(&self) -> Result<ShardId, OfferError> {
        if self.is_ending() {
            return Err(OfferError::Shutdown);
        }
        if lock(&self.0.transports).len() >= self.0.config.max_transports {
            return Err(OfferError::Full(self.0.config.max_transports));
        }
        self.least_loaded().ok_or(OfferError::NoShard)
    }

    /// The shard with the fewest transports and producers; `None` when all have failed.
    pub(crate) fn least_loaded(&self) -> Option<ShardId> {
        let serving = self.0.shards.iter().enumerate();
        let serving = serving.filter(|(_, shard)| !shard.failed.load(Ordering::Relaxed));
        let least = serving.min_by_key(|(_, shard)| shard.load.load(Ordering::Relaxed));
        least.map(|(shard, _)| ShardId(shard as u16))
    }

    /// All streams that are produced in this process, oldest first.
    pub fn produced_streams(&self) -> Vec<ProducedStream> {
        let mut all: Vec<_> = lock(&self.0.produced).values().cloned().collect();
        all.sort_by_key(ProducedStream::id);
        all
    }

    /// Enters a produced stream in the tables.
    pub(crate) fn enter_produced(&self, stream: &ProducedStream) {
        self.load_of(stream.shard()).fetch_add(1, Ordering::Relaxed);
        self.enter_renditions(stream.incoming());
        lock(&self.0.produced).insert(stream.id(), stream.clone());
    }

    /// Frees what a produced stream held.
    pub(crate) fn forget_produced(&self, stream: &ProducedStream) {
        if lock(&self.0.produced).remove(&stream.id()).is_none() {
            return;
        }
        self.load_of(stream.shard()).fetch_sub(1, Ordering::Relaxed);
        self.forget_renditions(stream.incoming());
        if let Err(error) = self.0.engine.remove_producer(stream.id()) {
            let id = stream.id().0;
            tracing::warn!(id, %error, "cannot remove a produced stream from its shard");
        }
    }

    fn enter_renditions(&self, incoming: &IncomingStream) {
        let mut renditions = lock(&self.0.renditions);
        for track in incoming.tracks() {
            for encoding in track.encodings() {
                renditions.insert(encoding.rendition(), Arc::clone(track));
            }
        }
    }

    fn forget_renditions(&self, incoming: &IncomingStream) {
        let mut renditions = lock(&self.0.renditions);
        for track in incoming.tracks() {
            for encoding in track.encodings() {
                renditions.remove(&encoding.rendition());
            }
        }
    }

    /// Brings a transport to life: on its shard with its tracks, in the tables, and with a task.
    pub(crate) fn start_transport(
        &self,
        parts: Parts,
        tracks: impl FnOnce(&Engine, &Parts) -> Result<(), EngineError>,
    ) -> Result<Transport, OfferError> {
        let engine = &self.0.engine;
        let spec = Endpoint::transport_spec(self, &parts);
        engine.add_transport(parts.shard, spec)?;
        if let Err(error) = tracks(engine, &parts) {
            // It may never have got there; either way it is gone.
            let _ = engine.remove_transport(parts.id);
            return Err(error.into());
        }
        let (transport, started) = Transport::new(self.clone(), parts);
        self.load_of(transport.0.shard)
            .fetch_add(1, Ordering::Relaxed);
        self.enter_renditions(transport.incoming());
        lock(&self.0.transports).insert(transport.id(), transport.clone());
        tokio::spawn(transport.clone().run(started));
        Ok(transport)
    }

    /// Frees what a transport held.
    pub(crate) fn forget(&self, id: TransportId) {
        let Some(transport) = lock(&self.0.transports).remove(&id) else {
            return;
        };
        self.load_of(transport.0.shard)
            .fetch_sub(1, Ordering::Relaxed);
        self.forget_renditions(transport.incoming());
        if let Err(error) = self.0.engine.remove_transport(id) {
            tracing::warn!(transport = id.0, %error, "cannot remove a transport from its shard");
        }
    }

    fn load_of(&self, shard: ShardId) -> &AtomicUsize {
        &self.0.shards[usize::from(shard.0)].load
    }

    pub(crate) fn start_dtls(
        &self,
        id: TransportId,
        handshake: Handshake,
    ) -> Result<Started, DtlsError> {
        let engine = self.0.engine.clone();
        let send = Arc::new(move |datagram: &[u8]| {
            // DTLS repeats what is lost, and a transport that has gone needs nothing.
            let _ = engine.send_datagram(id, datagram);
        });
        self.0.dtls.start(handshake, send)
    }

    /// The event thread.
    fn hear(&self, mut events: Events) {
        let mut reselect = Instant::now() + RESELECT_EVERY;
        let mut stopped = 0;
        while stopped < self.0.engine.reports().len() {
            if let Some(event) = events.recv_deadline(Instant::now() + EVENT_WAIT) {
                stopped += usize::from(matches!(event, Event::ShardStopped(..)));
                self.handle(event);
            }
            if Instant::now() >= reselect {
                self.tend();
                reselect = Instant::now() + RESELECT_EVERY;
            }
        }
    }

    fn handle(&self, event: Event) {
        match event {
            Event::Dtls(id, packet) => {
                if let Some(transport) = self.transport(id) {
                    transport.dtls_datagram(packet.bytes());
                }
            }
            Event::Stun {
                shard,
                source,
                packet,
                ..
            } => {
                if let Some(answer) = slow_stun::answer(packet.bytes()) {
                    let _ = self.0.engine.send_to(shard, source, &answer);
                }
            }
            Event::AddressSelected(id, address) => {
                if let Some(transport) = self.transport(id) {
                    transport.address_selected(address);
                }
            }
            Event::ConsentExpired(id) => {
                if let Some(transport) = self.transport(id) {
                    transport.close_for(CloseReason::ConsentExpired);
                }
            }
            Event::RenditionActive(id, _) => self.set_active(id, true),
            Event::RenditionInactive(id) => self.set_active(id, false),
            Event::PublisherSilent(id) => self.set_heard(id, false),
            Event::PublisherHeard(id) => self.set_heard(id, true),
            Event::EstimateFell(id) => {
                if let Some(transport) = self.transport(id) {
                    reselect(&transport);
                }
            }
            Event::Bye(transport, rendition) => {
                tracing::debug!(transport = transport.0, rendition = rendition.0, "RTCP BYE");
            }
            Event::VideoWithheld(shard, 0) => {
                tracing::info!(
                    shard = shard.0,
                    "the shard keeps up again; all viewers have video"
                );
            }
            Event::VideoWithheld(shard, tracks) => tracing::warn!(
                shard = shard.0,
                tracks,
                "the shard cannot keep up; it withholds video from some viewers (audio goes on)"
            ),
            Event::ShardStopped(shard, None) => tracing::info!(shard = shard.0, "shard stopped"),
            Event::ShardStopped(shard, Some(error)) => {
                tracing::error!(shard = shard.0, %error, "shard failed; its peers are cut off");
                self.give_up(shard);
            }
        }
    }

    /// Ends what was on a shard that failed: nobody else would notice, since a shard watches over
    /// its peers' consent itself.
    fn give_up(&self, shard: ShardId) {
        if let Some(state) = self.0.shards.get(usize::from(shard.0)) {
            state.failed.store(true, Ordering::Relaxed);
        }
        for transport in self.transports() {
            if transport.0.shard == shard {
                transport.close_for(CloseReason::ShardFailed);
            }
        }
        for stream in self.produced_streams() {
            if stream.shard() == shard {
                stream.close_for(CloseReason::ShardFailed);
            }
        }
    }

    fn set_heard(&self, id: TransportId, heard: bool) {
        let Some(transport) = self.transport(id) else {
            return;
        };
        tracing::debug!(transport = id.0, heard, "media of a publisher");
        transport.0.hearing.set(heard, transport.incoming());
    }

    fn set_active(&self, id: RenditionId, active: bool) {
        let track = lock(&self.0.renditions).get(&id).cloned();
        let Some(track) = track else { return };
        let encoding = track
            .encodings()
            .iter()
            .find(|encoding| encoding.rendition() == id);
        if let Some(encoding) = encoding {
            encoding.set_active(active);
        }
        if track.encodings().len() > 1 {
            self.reselect();
        }
    }

    /// What is done once a second: looks which layers come in, and who is best given what.
    fn tend(&self) {
        let tracks: Vec<_> = lock(&self.0.renditions).values().cloned().collect();
        tracks.iter().for_each(|track| track.tend());
        if let Err(error) = self.0.engine.tend() {
            tracing::debug!(%error, "cannot let go of what viewers have left");
        }
        self.reselect();
    }

    /// Lets every viewer of a track with a choice have what is best now.
    fn reselect(&self) {
        if !lock(&self.0.renditions).values().any(has_choice) {
            return;
        }
        self.transports().iter().for_each(reselect);
    }
}

fn has_choice(track: &Arc<IncomingTrack>) -> bool {
    track.has_choice()
}

/// Lets a viewer have the encodings and layers that are best for it now.
fn reselect(transport: &Transport) {
    if let Err(error) = transport.outgoing().reselect() {
        tracing::debug!(transport = transport.id().0, %error, "cannot change an encoding");
    }
}

fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    // The system's random source does not fail once it is seeded; a process without one could
    // offer no security at all.
    rand::fill(&mut bytes).expect("the system has a random source");
    u64::from_le_bytes(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
