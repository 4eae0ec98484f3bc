//! The HTTP doors: WHIP, WHEP, the pages, and what the pages ask for.
//!
//! Handlers translate between HTTP and [`Broadcast`]; every rule about streams is there, every
//! rule about status codes and headers is here.

mod cors;
mod events;
mod guard;
mod ingests;
mod layer;
mod outputs;
mod qr;
mod range;
mod recorders;
mod recordings;
mod reply;
mod server;
mod session;
mod thumbnails;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get};
use axum::{Json, Router};
use tokio::sync::Semaphore;

use crate::access::{Asked, Right};
use crate::broadcast::{Broadcast, StreamInfo};
use crate::http::guard::Guard;
use crate::http::reply::Refusal;
use crate::model::TransportKind;
use crate::rooms::RoomInfo;
use crate::sdp::limits::MAX_DESCRIPTION_BYTES;

pub use ingests::ingests_router;
pub use outputs::outputs_router;
pub use recorders::recorders_router;
pub use recordings::recordings_router;
pub use server::{HttpLimits, serve};
pub use thumbnails::thumbnails_router;

/// Time for the body of a request: 64 KiB at 52 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Sessions made or ended at once, each on a thread of its own: they take turns at the tables
/// anyway.
const CHANGES_AT_ONCE: usize = 8;

/// What every handler needs.
#[derive(Clone)]
pub(crate) struct HttpState {
    pub(crate) broadcast: Broadcast,
    /// Servers for clients behind difficult networks, as `Link` headers (RFC 9725 4.6).
    pub(crate) ice_servers: Arc<[String]>,
    changes: Arc<Semaphore>,
    codes: qr::Codes,
}

/// The whole HTTP service. `ice_servers` are STUN or TURN URIs that clients are told of.
pub fn router(broadcast: Broadcast, ice_servers: &[String]) -> Router {
    let state = HttpState {
        broadcast,
        ice_servers: ice_servers.into(),
        changes: Arc::new(Semaphore::new(CHANGES_AT_ONCE)),
        codes: qr::Codes::default(),
    };
    let access = state.broadcast.access().clone();
    let guarded = |router: Router<HttpState>, kind: TransportKind| {
        let (right, door) = match kind {
            TransportKind::Publish => (Right::Publish, "whip"),
            TransportKind::View => (Right::Watch, "whep"),
        };
        let guard = Guard::of_stream(&access, right, door);
        router.route_layer(from_fn_with_state(guard, guard::check))
    };
    let protocol = |kind: TransportKind| {
        let create = move |state, path, request| session::endpoint(kind, state, path, request);
        let resource = move |state, path, request| session::resource(kind, state, path, request);
        let router = Router::new()
            .route("/{stream}", any(create))
            .route("/{stream}/{session}", any(resource));
        guarded(router, kind).fallback(nowhere)
    };
    let extensions = Router::new()
        .route("/{stream}/{session}/sse", any(events::streams))
        .route("/{stream}/{session}/sse/{id}", any(events::one))
        .route("/{stream}/{session}/layer", any(layer::layer));
    let extensions = guarded(extensions, TransportKind::View);
    let codes = Router::new().route("/{stream}/qr.svg", get(qr::code));
    let codes = guarded(codes, TransportKind::View);
    Router::new()
        .nest("/whip", protocol(TransportKind::Publish))
        .nest("/whep", protocol(TransportKind::View).merge(extensions))
        // Nested routers do not see these.
        .route("/whip/", any(nowhere))
        .route("/whep/", any(nowhere))
        .layer(axum::middleware::map_response(cors::allow_any_origin))
        .route("/api/streams", get(streams))
        .merge(codes)
        .route("/api/rooms", get(rooms))
        .layer(DefaultBodyLimit::max(MAX_DESCRIPTION_BYTES))
        .with_state(state)
        .merge(crate::web::router())
}

impl HttpState {
    /// Makes or ends a session on a thread that may wait: the data plane may have a queue of
    /// commands, and a stream with many viewers takes many.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Broadcast) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        // The semaphore is never closed.
        let turn = Arc::clone(&self.changes).acquire_owned().await;
        let broadcast = self.broadcast.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = change(&broadcast);
            drop(turn);
            done
        });
        done.await.map_err(|_| Refusal::Defect)
    }
}

async fn nowhere() -> Refusal {
    Refusal::Nowhere
}

/// The streams that who asks may watch or publish.
async fn streams(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Json<Vec<StreamInfo>>, Refusal> {
    let mut streams = state.broadcast.streams();
    let may_see = check_list(&state, &request)?;
    streams.retain(|stream| may_see(&stream.name));
    Ok(Json(streams))
}

/// The rooms that who asks may watch.
async fn rooms(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Json<Vec<RoomInfo>>, Refusal> {
    let mut rooms = state.broadcast.rooms().list();
    let may_see = check_list(&state, &request)?;
    rooms.retain(|room| may_see(&format!("{}~", room.room)));
    Ok(Json(rooms))
}

/// Whether who asks may have a list at all, and which streams it may have in it.
fn check_list(state: &HttpState, request: &Request) -> Result<impl Fn(&str) -> bool, Refusal> {
    let access = state.broadcast.access().clone();
    let shown = guard::shown(request.headers(), request.uri());
    let token = shown.map(|(token, _)| token);
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let asked = Asked {
        right: Right::Watch,
        stream: None,
        token: token.as_deref(),
        door: "http",
        remote: peer.map(|peer| peer.ip()),
    };
    let listed = access.check_list(&asked);
    listed.map_err(|why| Refusal::Access(why, false))?;
    Ok(move |stream: &str| access.may_see(stream, token.as_deref(), "http"))
}
