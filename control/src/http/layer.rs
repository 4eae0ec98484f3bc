//! WHEP's extension of layer selection (draft-ietf-wish-whep-02, "Video Layer Selection
//! extension"): a viewer POSTs to its session which encoding of simulcast it wants, and DELETEs its
//! choice to have the best again.
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
use crate::model::{Selection, TransportKind};

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
        Method::DELETE => (None, Selection::Automatic),
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
    let selection = choice
        .encoding_id
        .map_or(Selection::Automatic, Selection::Encoding);
    Ok((section, selection))
}
