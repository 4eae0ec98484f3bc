#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

use std::net::Ipv4Addr;

use fanmill_engine::Forwarding;

use super::*;
use crate::sdp::Offer;

const OFFER: &str = include_str!("../../../../tests/fixtures/sdp/werift-whep.sdp");

fn config(shards: usize) -> MediaServerConfig {
    MediaServerConfig {
        engine: EngineConfig {
            address: Ipv4Addr::LOCALHOST.into(),
            base_port: 0,
            shards,
            receive_buffer_bytes: 1 << 18,
            send_buffer_bytes: 1 << 18,
            forwarding: Forwarding::default(),
        },
        public_ips: Vec::new(),
        consent_timeout: Duration::from_secs(3600),
        max_transports: 100,
        publish_bitrate_max_bps: 10_000_000,
        dtls: Limits::default(),
    }
}

#[tokio::test]
async fn a_failed_shard_loses_its_transports_and_gets_no_more() {
    let server = MediaServer::start(config(2)).unwrap();
    let endpoint = server.create_endpoint();
    let offer = Offer::parse(OFFER).unwrap();
    let view = || endpoint.view(&offer).map(|(transport, _)| transport);
    let (first, second) = (view().unwrap(), view().unwrap());
    assert_ne!(first.0.shard, second.0.shard);

    let failure = || Some("its ring broke".to_owned());
    server.handle(Event::ShardStopped(first.0.shard, failure()));
    assert_eq!(first.closed().await, CloseReason::ShardFailed);
    assert!(!second.is_ending());
    for _ in 0..3 {
        assert_eq!(view().unwrap().0.shard, second.0.shard);
    }
    server.handle(Event::ShardStopped(second.0.shard, failure()));
    assert!(matches!(view(), Err(OfferError::NoShard)));
    second.closed().await;
    server.terminate(Duration::from_secs(2)).await;
    assert_eq!(server.transport_count(), 0);
}

#[tokio::test]
async fn a_server_that_ends_makes_no_more_transports() {
    let server = MediaServer::start(config(1)).unwrap();
    let endpoint = server.create_endpoint();
    let offer = Offer::parse(OFFER).unwrap();
    let (transport, _) = endpoint.view(&offer).unwrap();
    server.terminate(Duration::from_secs(2)).await;
    assert_eq!(transport.closed().await, CloseReason::Shutdown);
    assert!(matches!(endpoint.view(&offer), Err(OfferError::Shutdown)));
}
