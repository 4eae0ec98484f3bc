//! What comes in by other protocols, over HTTP, for the front page.

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Json, Router};

use super::guard::{self, Guard};
use crate::access::Right;
use crate::ingest::{IngestInfo, Ingests};

/// The route of ingests: `GET /api/ingests`, the list, which has the publishers' addresses: where tokens are asked
/// for, one to operate is needed.
pub fn ingests_router(ingests: Ingests) -> Router {
    let guard = Guard::of_server(ingests.broadcast().access(), Right::Operate);
    Router::new()
        .route("/api/ingests", get(list))
        .route_layer(from_fn_with_state(guard, guard::check))
        .with_state(ingests)
}

async fn list(State(ingests): State<Ingests>) -> Json<Vec<IngestInfo>> {
    Json(ingests.list())
}
