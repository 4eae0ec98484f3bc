//! Layer selection of WHEP sessions (draft-ietf-wish-whep-02), as a client sees it over HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::offer::{Kind, Offer};
use common::server::{Options, Server, header, recorded};

const WITH_TYPE: &[(&str, &str)] = &[("content-type", "application/json")];

async fn answer(server: &Server, layer: &str, body: &'static str) -> (u16, String) {
    let response = server.request("POST", layer, WITH_TYPE, body).await;
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

#[tokio::test]
async fn a_viewer_chooses_an_encoding_by_its_name() {
    let server = Server::start(Options::default()).await;
    let offer = recorded("chromium-whip-simulcast3-vp8");
    server.create("/whip/stage", &offer).await;
    let viewing = Offer::new(Kind::View, "actpass").text;
    let response = server.post("/whep/stage", &viewing).await;
    let session = header(&response, "location").to_owned();
    let layer = format!("{session}/layer");
    let links = response.headers().get_all("link");
    let link = format!("<{layer}>; rel=\"urn:ietf:params:whep:ext:core:layer\"");
    assert!(links.iter().any(|given| given == &link), "{links:?}");

    for good in [
        r#"{"encodingId": "l"}"#,
        r#"{"mediaId": "1", "encodingId": "h"}"#,
        r#"{"rid": "m"}"#,
        r#"{"spatialLayerId": 1, "maxTemporalLayerId": 0}"#,
        "{}",
    ] {
        assert_eq!(answer(&server, &layer, good).await.0, 200, "{good}");
    }
    assert_eq!(server.delete(&layer).await, 200);
    let (status, reason) = answer(&server, &layer, r#"{"encodingId": "x"}"#).await;
    assert_eq!(
        (status, reason.contains("l, m, h")),
        (404, true),
        "{reason}"
    );
    // The first section is audio.
    let (status, reason) = answer(&server, &layer, r#"{"mediaId": "0"}"#).await;
    assert_eq!(status, 409, "{reason}");
    for bad in ["", "[]", r#"{"mediaId": "x"}"#, r#"{"spatialLayerId": -1}"#] {
        assert_eq!(answer(&server, &layer, bad).await.0, 422, "{bad}");
    }
    let response = server.request("POST", &layer, &[], "{}").await;
    assert_eq!(response.status(), 415);
    let response = server.request("PUT", &layer, &[], "").await;
    assert_eq!(response.status(), 405);

    assert_eq!(server.delete(&session).await, 200);
    assert_eq!(answer(&server, &layer, "{}").await.0, 404);
    server.stop().await;
}
