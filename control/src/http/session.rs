//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): the same conversation for publishers and
//! viewers. An offer POSTed to the endpoint makes a session resource, which takes PATCH (trickled
//! candidates, ICE restart) and DELETE.

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::broadcast::{Created, Session};
use crate::http::HttpState;
use crate::http::reply::Refusal;
use crate::model::TransportKind;
use crate::sdp::limits::MAX_DESCRIPTION_BYTES;
use crate::sdp::{IceFragment, Offer};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ENDPOINT_METHODS: &str = "OPTIONS, POST";
const RESOURCE_METHODS: &str = "OPTIONS, PATCH, DELETE";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Requests to an endpoint: `/whip/<stream>` or `/whep/<stream>`.
pub(super) async fn endpoint(
    kind: TransportKind,
    State(state): State<HttpState>,
    Path(stream): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    match *request.method() {
        Method::POST => create(kind, &state, &stream, request).await,
        Method::OPTIONS => Ok(options(ENDPOINT_METHODS, ACCEPT_POST, SDP)),
        _ => Err(Refusal::Method(ENDPOINT_METHODS)),
    }
}

/// Requests to a session resource, below the endpoint.
pub(super) async fn resource(
    kind: TransportKind,
    State(state): State<HttpState>,
    Path((stream, id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    match *request.method() {
        Method::PATCH => {
            let session = state.broadcast.session(kind, &stream, &id)?;
            patch(&session, request).await
        }
        Method::DELETE => {
            state
                .broadcast
                .session(kind, &stream, &id)?
                .transport()
                .close();
            Ok(StatusCode::OK.into_response())
        }
        Method::OPTIONS => Ok(options(RESOURCE_METHODS, ACCEPT_PATCH, FRAGMENT)),
        _ => Err(Refusal::Method(RESOURCE_METHODS)),
    }
}

async fn create(
    kind: TransportKind,
    state: &HttpState,
    stream: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let body = read(request, SDP).await?;
    let offer = Offer::parse(&body)?;
    let (prefix, created) = match kind {
        TransportKind::Publish => ("whip", state.broadcast.publish(stream, &offer)?),
        TransportKind::View => ("whep", state.broadcast.watch(stream, &offer)?),
    };
    let Created { session, answer } = created;
    let mut response = (StatusCode::CREATED, answer).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    // RFC 9725 4.2: relative to the endpoint, so that it holds behind a proxy too.
    insert(
        headers,
        LOCATION,
        &format!("/{prefix}/{stream}/{}", session.id()),
    );
    insert(headers, ETAG, &session.etag());
    for server in state.ice_servers.iter() {
        if let Ok(value) = HeaderValue::from_str(&format!("<{server}>; rel=\"ice-server\"")) {
            headers.append(LINK, value);
        }
    }
    Ok(response)
}

async fn patch(session: &Session, request: Request) -> Result<Response, Refusal> {
    let expected = request.headers().get(IF_MATCH).cloned();
    let body = read(request, FRAGMENT).await?;
    let fragment = IceFragment::parse(&body)?;
    let expected = expected.ok_or(Refusal::PreconditionMissing)?;
    let restart = session.transport().is_restart(&fragment);
    // RFC 9725 4.3.3: a restart is for whatever ICE session there is.
    if expected != "*" && expected.as_bytes() != session.etag().as_bytes() {
        return Err(Refusal::PreconditionFailed);
    }
    if !restart {
        // Candidates are of no use to the lite side, which never sends a check.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let answer = session.restart_ice(&fragment)?;
    let mut response = (StatusCode::OK, answer).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
    insert(headers, ETAG, &session.etag());
    Ok(response)
}

fn options(methods: &'static str, accept: HeaderName, media_type: &'static str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(accept, HeaderValue::from_static(media_type));
    response
}

/// The body, if it is of the type.
async fn read(request: Request, media_type: &'static str) -> Result<Vec<u8>, Refusal> {
    let given = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = given
        .and_then(|given| given.split(';').next())
        .unwrap_or_default()
        .trim();
    if !essence.eq_ignore_ascii_case(media_type) {
        return Err(Refusal::ContentType(media_type));
    }
    let body: Body = request.into_body();
    match to_bytes(body, MAX_DESCRIPTION_BYTES).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => {
            let reason = format!(
                "the body cannot be read ({error}); at most {MAX_DESCRIPTION_BYTES} bytes are"
            );
            Err(Refusal::Body(StatusCode::PAYLOAD_TOO_LARGE, reason))
        }
    }
}

/// Sets a header to text that this server made.
fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
