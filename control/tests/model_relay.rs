//! The object model without any HTTP: the example of a relay, driven by real clients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

#[path = "../examples/relay.rs"]
mod relay;

use std::time::Duration;

use common::media::{audio, keyframe};
use common::offer::{Kind, Offer};
use common::peer::Peer;
use common::soon;
use fanmill_control::model::{CloseReason, MediaServer, TransportState};
use relay::Relay;

#[tokio::test]
async fn the_relay_shows_its_publisher_to_both_viewers() {
    let server = MediaServer::start(relay::config()).unwrap();
    let endpoint = server.create_endpoint();
    let kinds = [Kind::Publish, Kind::View, Kind::View];
    let offers = kinds.map(|kind| Offer::new(kind, "actpass"));
    let texts = offers.each_ref().map(|offer| offer.text.as_bytes());
    let relay = Relay::new(&endpoint, texts).unwrap();

    let publisher = Peer::connect(&offers[0], &relay.answers[0]).await;
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    for (number, offer) in offers.iter().enumerate().skip(1) {
        let mut viewer = Peer::connect(offer, &relay.answers[number]).await;
        let mut next = 0;
        let seen = soon(async {
            loop {
                tokio::select! {
                    packet = viewer.recv_rtp() => if packet.payload_type == 96 { break packet },
                    _ = pause.tick() => {
                        publisher.send_rtp(&audio(next)).await;
                        publisher.send_rtp(&keyframe(next)).await;
                        next += 1;
                    }
                }
            }
        });
        assert_eq!(seen.await.payload[4..7], [0x9D, 0x01, 0x2A]);
        let mut state = relay.viewers[number - 1].state();
        let connected = state.wait_for(|state| *state == TransportState::Connected);
        soon(connected).await.unwrap();
        viewer.close().await;
        let reason = soon(relay.viewers[number - 1].closed()).await;
        assert_eq!(reason, CloseReason::ByPeer);
    }

    soon(server.terminate(Duration::from_secs(2))).await;
    assert_eq!(relay.publisher.closed().await, CloseReason::Shutdown);
    publisher.closed().await;
}

#[tokio::test]
async fn an_offer_that_does_not_fit_is_refused_by_name() {
    let server = MediaServer::start(relay::config()).unwrap();
    let endpoint = server.create_endpoint();
    let publish = Offer::new(Kind::Publish, "actpass").text;
    let view = Offer::new(Kind::View, "actpass").text;
    let texts = [view.as_bytes(), view.as_bytes(), view.as_bytes()];
    let error = Relay::new(&endpoint, texts).err().unwrap();
    assert!(error.to_string().contains("publisher"), "{error}");
    let texts = [publish.as_bytes(), view.as_bytes(), b"v=0\r\n"];
    let error = Relay::new(&endpoint, texts).err().unwrap();
    assert!(error.to_string().contains("second viewer"), "{error}");
    assert_eq!(server.transport_count(), 0);
    soon(server.terminate(Duration::from_secs(2))).await;
}
