//! Thumbnails over HTTP, for the pages and whoever shows what is on.

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;

use super::guard::{self, Guard};
use crate::access::Right;
use crate::player::RecordingError;
use crate::thumbnail::{MAX_WIDTH, ThumbnailError, Thumbnails};

/// The routes of thumbnails, all JPEG:
///
/// | path | what |
/// |---|---|
/// | `GET /{stream}/thumbnail.jpg` | what a stream shows |
/// | `GET /recordings/thumbnails/{path}` | what a recording shows at `at_s` |
///
/// Both take `width`, in pixels.
pub fn thumbnails_router(thumbnails: Thumbnails) -> Router {
    let guard = |guard| from_fn_with_state(guard, guard::check);
    let access = thumbnails.access().clone();
    let recordings = Router::new()
        .route("/recordings/thumbnails/{*path}", get(of_recording))
        .route_layer(guard(Guard::of_server(&access, Right::Watch)));
    Router::new()
        .route("/{stream}/thumbnail.jpg", get(of_stream))
        .route_layer(guard(Guard::of_stream(&access, Right::Watch, "http")))
        .merge(recordings)
        .with_state(thumbnails)
}

impl IntoResponse for ThumbnailError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NotLive(_) | Self::NoVideo | Self::Recording(RecordingError::Missing(_)) => {
                StatusCode::NOT_FOUND
            }
            Self::Parameter | Self::Recording(RecordingError::Path(_)) => StatusCode::BAD_REQUEST,
            Self::Codec(_) => StatusCode::NOT_IMPLEMENTED,
            Self::TooLarge(..) | Self::Damaged(_) | Self::Demux(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            _ => {
                let again = [(header::RETRY_AFTER, "1")];
                return (StatusCode::SERVICE_UNAVAILABLE, again, self.to_string()).into_response();
            }
        };
        (status, self.to_string()).into_response()
    }
}

/// What a query may say.
#[derive(Default)]
struct Asked {
    width: Option<u32>,
    at_s: Option<f64>,
}

impl Asked {
    fn parse(query: Option<&str>) -> Result<Self, ThumbnailError> {
        let mut asked = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            match pair.split_once('=') {
                Some(("width", width)) => {
                    asked.width = Some(width.parse().map_err(|_| ThumbnailError::Parameter)?);
                }
                Some(("at_s", at_s)) => {
                    asked.at_s = Some(at_s.parse().map_err(|_| ThumbnailError::Parameter)?);
                }
                // Pages add a number to see a new one.
                _ => {}
            }
        }
        Ok(asked)
    }
}

async fn of_stream(
    State(thumbnails): State<Thumbnails>,
    Path(stream): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ThumbnailError> {
    let asked = Asked::parse(query.as_deref())?;
    let width = asked.width.unwrap_or(MAX_WIDTH);
    Ok(image(thumbnails.of_stream(&stream, width).await?))
}

async fn of_recording(
    State(thumbnails): State<Thumbnails>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ThumbnailError> {
    let asked = Asked::parse(query.as_deref())?;
    let width = asked.width.unwrap_or(MAX_WIDTH);
    let jpeg = thumbnails.of_recording(&path, asked.at_s, width).await?;
    Ok(image(jpeg))
}

fn image(jpeg: Bytes) -> Response {
    let fields: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "image/jpeg"),
        (header::CACHE_CONTROL, "max-age=1"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (fields, jpeg).into_response()
}
