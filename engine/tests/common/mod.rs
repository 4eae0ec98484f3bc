//! The engine in the simulated network, with peers driven by hand. What peers say and hear goes
//! through foreign implementations: `stun` for checks, `webrtc-srtp`, `rtp` and `rtcp`.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod layered;
pub mod media;
pub mod peer;
pub mod tapping;
pub mod viewing;

use std::net::SocketAddr;
use std::sync::Arc;

use fanmill_engine::command::{IceCredentials, SrtpKeys, TransportSpec};
use fanmill_engine::counters::{DropReason, ShardCounters, TransportCounters};
use fanmill_engine::event::Event;
use fanmill_engine::ids::{ShardId, TransportId};
use fanmill_engine::io::sim::SimNetwork;
use fanmill_engine::sim::SimEngine;
use fanmill_engine::srtp::Profile;
use fanmill_engine::{Engine, Forwarding, srtp::MasterKey};

use peer::Peer;

/// How long a transport lives without checks, unless a test says otherwise: for ever, nearly.
pub const LONG_CONSENT_US: u64 = 1 << 50;

/// An engine in its network, and names for whatever is made in it.
pub struct World {
    pub network: SimNetwork,
    pub sim: SimEngine,
    pub consent_timeout_us: u64,
    names: u64,
    shards: u16,
}

impl World {
    pub fn new(shards: u16, seed: u64) -> Self {
        let forwarding = Forwarding {
            seed,
            ..Forwarding::default()
        };
        Self::forwarding(shards, forwarding)
    }

    /// An engine whose viewers always wait for a keyframe.
    pub fn without_cache(shards: u16, seed: u64) -> Self {
        let forwarding = Forwarding {
            seed,
            max_cache_us: 0,
            ..Forwarding::default()
        };
        Self::forwarding(shards, forwarding)
    }

    /// An engine that forwards like this.
    pub fn forwarding(shards: u16, forwarding: Forwarding) -> Self {
        let network = SimNetwork::new(forwarding.seed);
        let addresses: Vec<_> = (0..shards)
            .map(|shard| SocketAddr::from(([10, 0, 0, 1], 5000 + shard)))
            .collect();
        let sim = SimEngine::new(&network, &addresses, forwarding);
        Self {
            network,
            sim,
            consent_timeout_us: LONG_CONSENT_US,
            names: 0,
            shards,
        }
    }

    pub fn engine(&self) -> &Engine {
        self.sim.engine()
    }

    /// A number not given before.
    pub fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.sim.run_for(ms * 1000);
    }

    pub fn settle(&mut self) {
        self.sim.settle();
    }

    pub fn now_us(&self) -> u64 {
        self.network.now_us()
    }

    /// Everything the shards have told since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.sim.events().try_recv()).collect()
    }

    /// A socket at an address nobody has had.
    pub fn new_address(&mut self) -> SocketAddr {
        let name = self.name();
        let [.., b, c] = name.to_be_bytes();
        SocketAddr::from(([192, 168, b, c], 40_000))
    }

    /// A peer the engine knows, which has neither checked nor shaken hands.
    pub fn stranger(&mut self, shard: u16, profile: Profile) -> Peer {
        let name = self.name();
        let address = self.new_address();
        let ice = IceCredentials {
            local_ufrag: format!("ufrag{name:08}"),
            local_pwd: format!("password-of-{name:022}"),
        };
        let shard = ShardId(shard);
        let spec = TransportSpec {
            id: TransportId(name),
            ice: ice.clone(),
            consent_timeout_us: self.consent_timeout_us,
            rtcp_ssrc: 0x1000_0000 + name as u32,
            cname: "simulated".to_owned(),
            counters: Arc::new(TransportCounters::default()),
        };
        let counters = Arc::clone(&spec.counters);
        self.engine().add_transport(shard, spec).unwrap();
        let socket = self.network.peer(address);
        let server = self.sim.address(shard);
        Peer::new(
            TransportId(name),
            shard,
            socket,
            server,
            ice,
            profile,
            counters,
        )
    }

    /// A peer that has proven its address and has keys.
    pub fn connect(&mut self, shard: u16, profile: Profile) -> Peer {
        let mut peer = self.stranger(shard, profile);
        peer.check(true);
        self.give_keys(&peer);
        self.settle();
        peer.receive();
        assert_eq!(peer.answers.len(), 1, "the check is answered");
        peer
    }

    /// Tells the engine the keys this peer uses.
    pub fn give_keys(&self, peer: &Peer) {
        let key = |secret: &peer::Secret| {
            let (key, salt) = secret.parts(peer.profile);
            MasterKey::new(peer.profile, key, salt).unwrap()
        };
        let keys = SrtpKeys {
            profile: peer.profile,
            local: key(&peer.server_secret),
            remote: key(&peer.client_secret),
        };
        self.engine().set_keys(peer.id, keys).unwrap();
    }

    pub fn counters(&self, shard: u16) -> &ShardCounters {
        self.engine().counters(ShardId(shard)).unwrap()
    }

    /// Packets dropped for a reason, on all shards. Counters are published at ticks.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        (0..self.shards)
            .map(|shard| self.counters(shard).dropped(reason))
            .sum()
    }

    /// What was dropped since the engine started, by reason.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let reasons = DropReason::ALL.iter();
        let drops = reasons.map(|reason| (reason.name(), self.dropped(*reason)));
        drops.filter(|(_, count)| *count > 0).collect()
    }
}
