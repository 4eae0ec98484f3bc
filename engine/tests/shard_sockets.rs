//! The engine as it is started: threads, io_uring and real sockets over loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::media::{Stream, id_of};
use common::peer::{Peer, Secret};
use common::viewing::{Watched, assert_in_sequence};
use common::{LONG_CONSENT_US, World};
use fanmill_engine::command::{IceCredentials, OutgoingPayload, SrtpKeys, TransportSpec};
use fanmill_engine::counters::TransportCounters;
use fanmill_engine::event::Event;
use fanmill_engine::ids::{ShardId, TransportId};
use fanmill_engine::srtp::{MasterKey, Profile};
use fanmill_engine::{Engine, EngineConfig, EngineError, Events, Forwarding};
use rtcp::goodbye::Goodbye;

/// Long enough that only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A peer on a socket of the system's.
struct Client {
    peer: Peer,
    socket: UdpSocket,
}

impl Client {
    /// `names` gives names only: nothing of this passes through the simulated network.
    fn connect(engine: &Engine, events: &mut Events, names: &mut World, shard: u16) -> Self {
        let name = names.name();
        let ice = IceCredentials {
            local_ufrag: format!("ufrag{name:08}"),
            local_pwd: format!("password-of-{name:022}"),
        };
        let counters = Arc::new(TransportCounters::default());
        let spec = TransportSpec {
            id: TransportId(name),
            ice: ice.clone(),
            consent_timeout_us: LONG_CONSENT_US,
            rtcp_ssrc: name as u32,
            cname: "socket".to_owned(),
            counters: Arc::clone(&counters),
        };
        engine.add_transport(ShardId(shard), spec).unwrap();
        let server = engine.reports()[usize::from(shard)].grants.local_address;
        let address = names.new_address();
        let unused = names.network.peer(address);
        let profile = Profile::ALL[name as usize % 3];
        let id = TransportId(name);
        let mut peer = Peer::new(id, ShardId(shard), unused, server, ice, profile, counters);
        let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();

        socket.send(&peer.binding_request(true)).unwrap();
        let selected = events.recv_deadline(Instant::now() + PATIENCE);
        assert!(matches!(
            selected,
            Some(Event::AddressSelected(of, address))
                if of == id && address == socket.local_addr().unwrap()
        ));
        let key = |secret: &Secret| {
            let (key, salt) = secret.parts(profile);
            MasterKey::new(profile, key, salt).unwrap()
        };
        let (local, remote) = (key(&peer.server_secret), key(&peer.client_secret));
        engine
            .set_keys(
                id,
                SrtpKeys {
                    profile,
                    local,
                    remote,
                },
            )
            .unwrap();
        let mut client = Self { peer, socket };
        client.receive_until(|peer| peer.answers.len() == 1);
        client
    }

    fn receive_until(&mut self, done: impl Fn(&Peer) -> bool) {
        let mut buffer = [0; 2048];
        while !done(&self.peer) {
            let len = self.socket.recv(&mut buffer).unwrap();
            self.peer.take(&buffer[..len]);
        }
    }

    fn send_rtp(&mut self, plain: &[u8]) {
        let sealed = self.peer.seal_rtp(plain);
        self.socket.send(&sealed).unwrap();
    }
}

#[test]
fn a_publisher_and_viewers_on_both_shards_meet_over_loopback() {
    let config = EngineConfig {
        address: LOCALHOST,
        base_port: 0,
        shards: 2,
        receive_buffer_bytes: 1 << 20,
        send_buffer_bytes: 1 << 20,
        forwarding: Forwarding::default(),
    };
    let (engine, mut events) = Engine::start(&config).unwrap();
    let mut names = World::new(1, 0);
    let mut publisher = Client::connect(&engine, &mut events, &mut names, 0);
    let mut video = Stream::new(&mut names, "v", true);
    engine
        .add_incoming_track(publisher.peer.id, video.spec(1))
        .unwrap();
    let mut viewers: Vec<_> = [0, 1]
        .into_iter()
        .map(|shard| {
            let client = Client::connect(&engine, &mut events, &mut names, shard);
            let track = Watched::new(&mut names);
            engine
                .add_outgoing_track(client.peer.id, track.spec("0"))
                .unwrap();
            let payload = OutgoingPayload {
                payload_type: 45,
                rtx_payload_type: None,
                red_payload_type: None,
                nack: true,
            };
            engine
                .attach(track.id, video.rendition, vec![Some(payload)])
                .unwrap();
            (client, track)
        })
        .collect();

    let packet = video.packet(true, true, true, 0);
    publisher.send_rtp(&packet);
    // Commands and media take different ways: once the first packet is through, all is in place.
    for (client, track) in &mut viewers {
        let ssrc = track.ssrc;
        client.receive_until(|peer| peer.rtp.iter().any(|packet| packet.header.ssrc == ssrc));
    }
    for number in 1..200 {
        let packet = video.packet(number % 4 == 0, false, number % 4 == 3, number);
        publisher.send_rtp(&packet);
        if number % 20 == 0 {
            // Keep pace with the slower side, whatever the socket buffers hold.
            for (client, _) in &mut viewers {
                let sent = usize::from(number) + 1;
                client.receive_until(|peer| peer.rtp.len() >= sent);
            }
        }
    }
    for (client, _) in &mut viewers {
        client.receive_until(|peer| peer.rtp.len() == 200);
        let got: Vec<u64> = client.peer.rtp.iter().map(|p| id_of(&p.payload)).collect();
        assert_eq!(got, video.made_ids());
        assert_in_sequence(&client.peer.rtp);
        assert!(client.peer.unreadable.is_empty());
    }

    engine.stop(PATIENCE);
    for (client, track) in &mut viewers {
        let gone = |peer: &Peer| {
            let byes = peer
                .rtcp
                .iter()
                .filter_map(|p| p.as_any().downcast_ref::<Goodbye>());
            byes.flat_map(|bye| &bye.sources)
                .any(|source| *source == track.ssrc)
        };
        client.receive_until(gone);
    }
    let deadline = Instant::now() + PATIENCE;
    let told = std::iter::from_fn(|| events.recv_deadline(deadline));
    let stopped = told.filter(|event| matches!(event, Event::ShardStopped(_, None)));
    assert_eq!(stopped.take(2).count(), 2);
    let error = engine.send_to(ShardId(0), viewers[0].0.socket.local_addr().unwrap(), &[1]);
    assert!(error.is_ok() || error == Err(EngineError::ShardStuck(ShardId(0))));
    assert_eq!(
        engine.send_to(ShardId(2), viewers[0].0.socket.local_addr().unwrap(), &[1]),
        Err(EngineError::UnknownShard(ShardId(2)))
    );
}
