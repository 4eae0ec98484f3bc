//! Recorders over HTTP: what the buttons of the pages ask for.

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::guard::{self, Guard};
use crate::access::Right;
use crate::recorder::{RecorderError, RecorderInfo, StreamRecorders, requests};

/// Longest command.
const MAX_COMMAND_BYTES: usize = 8 << 10;

/// The routes of recorders:
///
/// | path | what |
/// |---|---|
/// | `GET /api/recorders` | the list |
/// | `POST /api/recorders/{command}` | `create`, `stop`, `flush`; JSON |
///
/// Commands are taken as `application/json` only, which pages of other origins cannot send. Where tokens
/// are asked for, one to operate is needed.
pub fn recorders_router(recorders: StreamRecorders) -> Router {
    let guard = Guard::of_server(recorders.access(), Right::Operate);
    Router::new()
        .route("/api/recorders", get(list))
        .route("/api/recorders/create", post(create))
        .route("/api/recorders/stop", post(stop))
        .route("/api/recorders/flush", post(flush))
        .route_layer(from_fn_with_state(guard, guard::check))
        .layer(DefaultBodyLimit::max(MAX_COMMAND_BYTES))
        .with_state(recorders)
}

impl IntoResponse for RecorderError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Path(_) | Self::Stream(_) | Self::Hold => StatusCode::BAD_REQUEST,
            Self::Exists(_) | Self::NotHolding(_) | Self::NothingHeld(_) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.to_string()).into_response()
    }
}

type Outcome<T> = Result<Json<T>, RecorderError>;

async fn list(State(recorders): State<StreamRecorders>) -> Json<Vec<RecorderInfo>> {
    Json(recorders.recorders().list())
}

async fn create(
    State(recorders): State<StreamRecorders>,
    Json(request): Json<requests::Create>,
) -> Outcome<RecorderInfo> {
    request.run(&recorders).map(Json)
}

async fn stop(
    State(recorders): State<StreamRecorders>,
    Json(request): Json<requests::Stop>,
) -> Outcome<RecorderInfo> {
    request.run(&recorders).await.map(Json)
}

async fn flush(
    State(recorders): State<StreamRecorders>,
    Json(request): Json<requests::Flush>,
) -> Outcome<requests::Flushed> {
    request.run(&recorders).await.map(Json)
}
