//! WHEP's extension of layer selection (draft-ietf-wish-whep-02, "Video Layer Selection
//! extension"): a viewer POSTs to its session which encoding of simulcast and which layers of it it
//! wants, and DELETEs its choice to have the best again.
//!
//! What can be chosen is told by the event `layers`; the choice is
//! [`Broadcast`](crate::broadcast::Broadcast)'s, here is only the form.

use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::http::HttpState;
use crate::http::reply::Refusal;
use crate::http::session::{ACCEPT_POST, body, check_type, options};
use crate::model::{Bounds, Selection, TransportKind};

const JSON: &str = "application/json";
const METHODS: &str = "OPTIONS, POST, DELETE";

/// The extension's relation type, in the `Link` of a new session.
const RELATION: &str = "urn:ietf:params:whep:ext:core:layer";

/// The value of the `Link` field that tells a viewer where to choose.
pub(super) fn link(session: &str, query: &str) -> String {
    format!("<{session}/layer{query}>; rel=\"{RELATION}\"")
}

/// What a viewer asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    /// The media section, by its place in the session description; all video if it is left out.
    #[serde(rename = "mediaId")]
    media_id: Option<String>,
    /// The encoding, by its `rid` in the event `layers`; the best if it is left out.
    #[serde(rename = "encodingId", alias = "rid")]
    encoding_id: Option<String>,
    /// Up to this spatial layer; all of them if it is left out.
    #[serde(rename = "spatialLayerId")]
    spatial_layer: Option<u8>,
    /// Up to this temporal layer, likewise.
    #[serde(rename = "temporalLayerId")]
    temporal_layer: Option<u8>,
    /// The best that has no higher spatial layer.
    #[serde(rename = "maxSpatialLayerId")]
    max_spatial_layer: Option<u8>,
    /// The best that has no higher temporal layer.
    #[serde(rename = "maxTemporalLayerId")]
    max_temporal_layer: Option<u8>,
}

/// Requests to where a viewer chooses, below its session.
pub(super) async fn layer(
    State(state): State<HttpState>,
    Path((stream, id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let session = || state.broadcast.session(TransportKind::View, &stream, &id);
    let (section, selection) = match *request.method() {
        Method::POST => {
            session()?;
            read(request).await?
        }
        Method::DELETE => (None, Selection::default()),
        Method::OPTIONS => return Ok(options(METHODS, ACCEPT_POST, JSON)),
        _ => return Err(Refusal::Method(METHODS)),
    };
    let session = session()?;
    let select = move |of: &crate::broadcast::Broadcast| of.select(&session, section, &selection);
    state.change(select).await??;
    Ok(StatusCode::OK.into_response())
}

async fn read(request: Request) -> Result<(Option<usize>, Selection), Refusal> {
    check_type(request.headers(), JSON)?;
    let body = body(request).await?;
    let choice: Choice =
        serde_json::from_slice(&body).map_err(|error| Refusal::Layer(error.to_string()))?;
    let section = choice.media_id.map(|id| id.parse()).transpose();
    let section = section.map_err(|_| {
        Refusal::Layer("mediaId is the place of the media section, such as \"1\"".to_owned())
    })?;
    let selection = Selection {
        encoding: choice.encoding_id,
        spatial_layer: choice.spatial_layer,
        temporal_layer: choice.temporal_layer,
        within: Bounds {
            max_spatial_layer: choice.max_spatial_layer,
            max_temporal_layer: choice.max_temporal_layer,
            ..Bounds::default()
        },
        target: None,
    };
    Ok((section, selection))
}
