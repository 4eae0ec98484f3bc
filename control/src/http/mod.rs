//! The HTTP doors: WHIP, WHEP, the pages, and what the pages ask for.
//!
//! Handlers translate between HTTP and [`Broadcast`]; every rule about streams is there, every
//! rule about status codes and headers is here.

mod cors;
mod reply;
mod session;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{any, get};
use axum::{Json, Router};

use crate::broadcast::{Broadcast, StreamInfo};
use crate::model::TransportKind;
use crate::sdp::limits::MAX_DESCRIPTION_BYTES;

/// What every handler needs.
#[derive(Clone)]
pub(crate) struct HttpState {
    pub(crate) broadcast: Broadcast,
    /// Servers for clients behind difficult networks, as `Link` headers (RFC 9725 4.6).
    pub(crate) ice_servers: Arc<[String]>,
}

/// The whole HTTP service. `ice_servers` are STUN or TURN URIs that clients are told of.
pub fn router(broadcast: Broadcast, ice_servers: &[String]) -> Router {
    let state = HttpState {
        broadcast,
        ice_servers: ice_servers.into(),
    };
    let protocol = |prefix: &str, kind: TransportKind| {
        let create = move |state, path, request| session::endpoint(kind, state, path, request);
        let resource = move |state, path, request| session::resource(kind, state, path, request);
        Router::new()
            .route(&format!("/{prefix}/{{stream}}"), any(create))
            .route(&format!("/{prefix}/{{stream}}/{{session}}"), any(resource))
    };
    Router::new()
        .merge(protocol("whip", TransportKind::Publish))
        .merge(protocol("whep", TransportKind::View))
        .layer(axum::middleware::map_response(cors::allow_any_origin))
        .route("/api/streams", get(streams))
        .layer(DefaultBodyLimit::max(MAX_DESCRIPTION_BYTES))
        .with_state(state)
        .merge(crate::web::router())
}

async fn streams(State(state): State<HttpState>) -> Json<Vec<StreamInfo>> {
    Json(state.broadcast.streams())
}
