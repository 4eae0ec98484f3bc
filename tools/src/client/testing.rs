//! The other end of a session, for tests: a socket and the server's keys.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, UdpSocket};

use fanmill_engine::srtp::{KeyMaterial, Profile};

use super::SrtpKeys;
use super::ice::{Credentials, IceAgent};
use super::join::Session;
use super::sdp::{Answer, Format, VideoCodec};
use crate::net;

/// What stands at the other end.
pub struct Peer {
    pub socket: UdpSocket,
    pub keys: KeyMaterial,
}

/// A session of a client, and its server's end.
pub fn session(profile: Profile) -> (Session, Peer) {
    let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
    let client = net::open(loopback, 1 << 20, false).unwrap();
    let server = net::open(loopback, 1 << 20, false).unwrap();
    let remote = server.local_addr().unwrap();
    client.connect(remote).unwrap();
    server.connect(client.local_addr().unwrap()).unwrap();
    server.set_nonblocking(false).unwrap();
    let length = KeyMaterial::exporter_len(profile);
    let exported: Vec<u8> = (0..length).map(|at| at as u8).collect();
    let keys = KeyMaterial::from_dtls_exporter(profile, &exported, true).unwrap();
    let credentials = Credentials::from_random([7; 32]);
    let session = Session {
        socket: client,
        remote,
        ice: IceAgent::new(&credentials, &credentials, 1),
        keys: SrtpKeys::new(profile, exported).unwrap(),
        answer: Answer {
            ice: credentials,
            fingerprint: [0; 32],
            candidates: vec![remote],
            formats: vec![
                (111, Format::Audio),
                (96, Format::Video(VideoCodec::Vp8)),
                (97, Format::Rtx(96)),
            ],
            repairs: Vec::new(),
        },
        early: Vec::new(),
        posted_ns: 0,
        answered_ns: 0,
        checked_ns: 0,
        keyed_ns: 0,
        resource: None,
    };
    let peer = Peer {
        socket: server,
        keys,
    };
    (session, peer)
}
