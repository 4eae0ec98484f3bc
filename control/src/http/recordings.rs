//! Recordings over HTTP: their list, the files themselves for media elements, and the players of
//! the page that shows them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Serialize;

use super::guard::{self, Guard};
use super::range::{Asked, asked};
use crate::access::Right;
use crate::player::{
    MediaError, PlayerError, PlayerInfo, Players, Recording, RecordingError, requests,
};

/// Bytes read and sent at once.
const CHUNK_BYTES: u64 = 256 << 10;

/// Longest command to a player: a playlist of a thousand files.
const MAX_COMMAND_BYTES: usize = 256 << 10;

/// The routes of recordings and players:
///
/// | path | what |
/// |---|---|
/// | `GET /api/recordings` | the list of files |
/// | `GET /recordings/files/{path}` | a file, or a part of it (`Range`) |
/// | `GET /api/players` | the list of players |
/// | `POST /api/players/{command}` | `create`, `play`, `pause`, `seek`, `set`, `stop`; JSON |
///
/// Commands are taken as `application/json` only, which pages of other origins cannot send. Where tokens
/// are asked for, files need one to watch all streams, and commands one to operate.
pub fn recordings_router(players: Players) -> Router {
    let guard = |right| from_fn_with_state(Guard::of_server(players.access(), right), guard::check);
    let seen = Router::new()
        .route("/api/recordings", get(list))
        .route("/recordings/files/{*path}", get(file))
        .route("/api/players", get(player_list))
        .route_layer(guard(Right::Watch));
    Router::new()
        .route("/api/players/create", post(create))
        .route("/api/players/play", post(play))
        .route("/api/players/pause", post(pause))
        .route("/api/players/seek", post(seek))
        .route("/api/players/set", post(set))
        .route("/api/players/stop", post(stop))
        .route_layer(guard(Right::Operate))
        .merge(seen)
        .layer(DefaultBodyLimit::max(MAX_COMMAND_BYTES))
        .with_state(players)
}

impl IntoResponse for PlayerError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Unknown(_) | Self::Media(MediaError::Recording(RecordingError::Missing(_))) => {
                StatusCode::NOT_FOUND
            }
            Self::Parameter(_) | Self::Media(MediaError::Recording(RecordingError::Path(_))) => {
                StatusCode::BAD_REQUEST
            }
            Self::Media(_) | Self::NotCarried(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Broadcast(_) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.to_string()).into_response()
    }
}

type Outcome<T> = Result<Json<T>, Response>;

/// Runs what waits for a disk or for the data plane on a thread that may.
async fn waiting<T: Serialize + Send + 'static>(
    run: impl FnOnce() -> Result<T, PlayerError> + Send + 'static,
) -> Outcome<T> {
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done.map(Json).map_err(IntoResponse::into_response),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
    }
}

async fn list(State(players): State<Players>) -> Outcome<Vec<Recording>> {
    waiting(move || Ok(players.recordings().list())).await
}

async fn player_list(State(players): State<Players>) -> Json<Vec<PlayerInfo>> {
    Json(players.list())
}

async fn create(
    State(players): State<Players>,
    Json(request): Json<requests::Create>,
) -> Outcome<PlayerInfo> {
    waiting(move || request.run(&players)).await
}

async fn play(
    State(players): State<Players>,
    Json(request): Json<requests::Stream>,
) -> Outcome<PlayerInfo> {
    waiting(move || request.play(&players)).await
}

async fn pause(
    State(players): State<Players>,
    Json(request): Json<requests::Stream>,
) -> Outcome<PlayerInfo> {
    waiting(move || request.pause(&players)).await
}

async fn seek(
    State(players): State<Players>,
    Json(request): Json<requests::Seek>,
) -> Outcome<PlayerInfo> {
    waiting(move || request.run(&players)).await
}

async fn set(
    State(players): State<Players>,
    Json(request): Json<requests::Set>,
) -> Outcome<PlayerInfo> {
    waiting(move || request.run(&players)).await
}

async fn stop(
    State(players): State<Players>,
    Json(request): Json<requests::Stream>,
) -> Outcome<()> {
    waiting(move || request.stop(&players)).await
}

/// A file that is being sent.
struct Opened {
    file: File,
    len: u64,
    etag: String,
}

fn open(players: &Players, path: &str) -> Result<Opened, PlayerError> {
    let failed = |error| PlayerError::Media(MediaError::Recording(error));
    let file = players.recordings().open(path).map_err(failed)?;
    let unreadable = |source| {
        failed(RecordingError::Open {
            path: path.to_owned(),
            source,
        })
    };
    let metadata = file.metadata().map_err(unreadable)?;
    let modified = metadata.modified().map_err(unreadable)?;
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Opened {
        len: metadata.len(),
        etag: format!("\"{:x}-{:x}\"", modified.as_nanos(), metadata.len()),
        file,
    })
}

async fn file(
    State(players): State<Players>,
    Path(path): Path<String>,
    method: Method,
    request: HeaderMap,
) -> Response {
    let name = path.clone();
    let opened = tokio::task::spawn_blocking(move || open(&players, &path)).await;
    let opened = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return error.into_response(),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let text = |name: HeaderName| request.get(name).and_then(|value| value.to_str().ok());
    // RFC 9110 13.1.5: a part of another version than the client has would not fit.
    let is_same = text(header::IF_RANGE).is_none_or(|known| known == opened.etag);
    let range = text(header::RANGE).filter(|_| is_same);
    let (status, first, end) = match asked(range, opened.len) {
        Asked::All => (StatusCode::OK, 0, opened.len),
        Asked::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last + 1),
        Asked::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, content_type(&name).to_owned());
    put(header::CONTENT_LENGTH, (end - first).to_string());
    put(header::ACCEPT_RANGES, "bytes".to_owned());
    put(header::ETAG, opened.etag.clone());
    put(header::CACHE_CONTROL, "no-cache".to_owned());
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned());
    match status {
        StatusCode::PARTIAL_CONTENT => {
            let range = format!("bytes {first}-{}/{}", end - 1, opened.len);
            put(header::CONTENT_RANGE, range);
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            put(header::CONTENT_RANGE, format!("bytes */{}", opened.len));
        }
        _ => {}
    }
    let body = match method {
        Method::HEAD => Body::empty(),
        _ => Body::from_stream(chunks(opened.file, first, end)),
    };
    (status, headers, body).into_response()
}

fn content_type(name: &str) -> &'static str {
    let is_quicktime = name.len() >= 4 && name.to_ascii_lowercase().ends_with(".mov");
    if is_quicktime {
        "video/quicktime"
    } else {
        "video/mp4"
    }
}

/// The bytes of a file from `first` up to `end`, read one chunk at a time as they are sent.
fn chunks(
    file: File,
    first: u64,
    end: u64,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    let file = Arc::new(file);
    futures_util::stream::try_unfold(first, move |at| {
        let file = Arc::clone(&file);
        async move {
            if at >= end {
                return Ok(None);
            }
            let len = (end - at).min(CHUNK_BYTES) as usize;
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; len];
                file.read_exact_at(&mut chunk, at)?;
                Ok::<_, io::Error>(chunk)
            });
            let chunk = read.await.map_err(io::Error::other)??;
            Ok(Some((Bytes::from(chunk), at + len as u64)))
        }
    })
}
