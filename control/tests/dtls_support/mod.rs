//! Two associations joined by an in-memory path, and readers for what travels on it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use fanmill_control::dtls::{
    Association, Backend, Certificate, Counters, DtlsCrate, DtlsError, Ended, Fingerprint,
    Handshake, Keys, Limits, Outcome, Role, SendDatagram, Started,
};

/// Longer than anything here takes on a busy machine: reached only when something hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn backend(limits: Limits) -> DtlsCrate {
    DtlsCrate::new(Certificate::generate().expect("a certificate"), limits)
}

/// Waits for a future that must resolve.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it resolves")
}

/// What the path does with a datagram from the given side: the datagrams that arrive instead.
pub type Fate = Box<dyn FnMut(Role, Vec<u8>) -> Vec<Vec<u8>> + Send>;

/// A path that delivers everything.
pub fn faithful() -> Fate {
    Box::new(|_, datagram| vec![datagram])
}

#[derive(Default)]
struct Ends {
    server: Weak<Association>,
    client: Weak<Association>,
}

pub struct Path {
    ends: Mutex<Ends>,
    fate: Mutex<Fate>,
}

impl Path {
    pub fn new(fate: Fate) -> Arc<Self> {
        Arc::new(Self {
            ends: Mutex::default(),
            fate: Mutex::new(fate),
        })
    }

    pub fn sender(self: &Arc<Self>, from: Role) -> SendDatagram {
        let path = Arc::clone(self);
        Arc::new(move |datagram| path.carry(from, datagram.to_vec()))
    }

    pub fn attach(&self, role: Role, association: &Arc<Association>) {
        let mut ends = self.ends.lock().expect("not poisoned");
        match role {
            Role::Server => ends.server = Arc::downgrade(association),
            Role::Client => ends.client = Arc::downgrade(association),
        }
    }

    fn carry(&self, from: Role, datagram: Vec<u8>) {
        let arriving = (self.fate.lock().expect("not poisoned"))(from, datagram);
        let target = {
            let ends = self.ends.lock().expect("not poisoned");
            match from {
                Role::Server => ends.client.upgrade(),
                Role::Client => ends.server.upgrade(),
            }
        };
        for datagram in arriving {
            if let Some(target) = &target {
                target.handle_datagram(&datagram);
            }
        }
    }
}

pub struct Peer {
    pub association: Arc<Association>,
    pub outcome: Outcome,
    pub ended: Ended,
}

impl Peer {
    pub fn start(backend: &DtlsCrate, handshake: Handshake, path: &Arc<Path>) -> Self {
        let role = handshake.role;
        let started = backend
            .start(handshake, path.sender(role))
            .expect("a sound configuration");
        let Started {
            association,
            outcome,
            ended,
        } = started;
        let association = Arc::new(association);
        path.attach(role, &association);
        Self {
            association,
            outcome,
            ended,
        }
    }
}

/// Two backends with certificates of their own.
pub struct Pair {
    pub server: DtlsCrate,
    pub client: DtlsCrate,
}

impl Pair {
    pub fn new() -> Self {
        Self {
            server: backend(Limits::default()),
            client: backend(Limits::default()),
        }
    }

    pub fn server_handshake(&self) -> Handshake {
        Handshake::new(Role::Server, vec![self.client.fingerprint().clone()])
    }

    pub fn client_handshake(&self) -> Handshake {
        Handshake::new(Role::Client, vec![self.server.fingerprint().clone()])
    }

    pub fn connect(&self, fate: Fate) -> (Peer, Peer) {
        self.connect_with(self.server_handshake(), self.client_handshake(), fate)
    }

    /// Starts both sides, the server first, so that no datagram goes unheard.
    pub fn connect_with(&self, server: Handshake, client: Handshake, fate: Fate) -> (Peer, Peer) {
        let path = Path::new(fate);
        let server = Peer::start(&self.server, server, &path);
        let client = Peer::start(&self.client, client, &path);
        (server, client)
    }
}

/// Both sides' keys, once both are there and fit together.
pub async fn matching_keys(server: &mut Peer, client: &mut Peer) -> Keys {
    let server = keys(&mut server.outcome).await;
    let client = keys(&mut client.outcome).await;
    assert_eq!(server.profile, client.profile);
    assert_eq!(server.local, client.remote);
    assert_eq!(server.remote, client.local);
    server
}

pub async fn keys(outcome: &mut Outcome) -> Keys {
    soon(outcome).await.expect("the handshake succeeds")
}

pub async fn error(outcome: &mut Outcome) -> DtlsError {
    soon(outcome).await.expect_err("the handshake fails")
}

pub fn some_fingerprint() -> Fingerprint {
    let backend = backend(Limits::default());
    backend.fingerprint().clone()
}

pub fn dropped(counters: &Counters, reason: fanmill_control::dtls::DropReason) -> u64 {
    counters.dropped(reason)
}

/// Content type, epoch and body of each record of a well-formed datagram.
pub fn records(mut datagram: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
    let mut records = Vec::new();
    while datagram.len() >= 13 {
        let length = usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
        let epoch = u16::from_be_bytes([datagram[3], datagram[4]]);
        records.push((datagram[0], epoch, datagram[13..13 + length].to_vec()));
        datagram = &datagram[13 + length..];
    }
    assert!(datagram.is_empty(), "whole records only");
    records
}

/// Whether a datagram carries a ChangeCipherSpec: the last flight of a side.
pub fn has_change_cipher_spec(datagram: &[u8]) -> bool {
    records(datagram)
        .iter()
        .any(|(content_type, ..)| *content_type == 20)
}

/// The datagrams of a recorded ClientHello.
pub fn recorded_client_hello(client: &str) -> Vec<Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/dtls");
    let path = format!("{directory}/{client}-clienthello.hex");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(from_hex).collect()
}

pub fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}
