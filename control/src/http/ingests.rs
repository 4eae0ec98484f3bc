//! What comes in by other protocols, over HTTP, for the front page.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use crate::ingest::{IngestInfo, Ingests};

/// The route of ingests: `GET /api/ingests`, the list.
pub fn ingests_router(ingests: Ingests) -> Router {
    Router::new()
        .route("/api/ingests", get(list))
        .with_state(ingests)
}

async fn list(State(ingests): State<Ingests>) -> Json<Vec<IngestInfo>> {
    Json(ingests.list())
}
