//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): the same conversation for publishers and
//! viewers. An offer POSTed to the endpoint makes a session resource, which takes PATCH (trickled
//! candidates, ICE restart) and DELETE.

use std::sync::Arc;

use axum::RequestExt;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::access::Grant;
use crate::broadcast::{Broadcast, Created, Role, Session};
use crate::http::guard::InAddress;
use crate::http::reply::Refusal;
use crate::http::{BODY_TIMEOUT, HttpState, events, guard, layer};
use crate::model::TransportKind;
use crate::sdp::{IceFragment, Offer};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ENDPOINT_METHODS: &str = "OPTIONS, POST";
const RESOURCE_METHODS: &str = "OPTIONS, PATCH, DELETE";
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
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
            let session = state.broadcast.session(kind, &stream, &id)?;
            state.change(move |of| of.end(&session)).await?;
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
    let role = role(request.uri().query())?;
    let (query, grant) = (InAddress::of(&request), guard::grant(&request));
    let member = parameter(request.uri().query(), "member").map(str::to_owned);
    let body = read(request, SDP).await?;
    let offer = Offer::parse(&body)?;
    let name = stream.to_owned();
    let created = state.change(move |broadcast| match kind {
        TransportKind::Publish => broadcast.publish_as(&name, role, &offer),
        TransportKind::View => broadcast.watch_as(&name, member.as_deref(), &offer),
    });
    let Created { session, answer } = created.await??;
    if let Some(grant) = grant {
        hold(&state.broadcast, &session, &grant);
    }
    let prefix = match kind {
        TransportKind::Publish => "whip",
        TransportKind::View => "whep",
    };
    let mut response = (StatusCode::CREATED, answer).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    // RFC 9110 10.2.2: a path alone, so that it holds whatever host a proxy makes of us.
    let location = format!("/{prefix}/{stream}/{}", session.id());
    insert(headers, LOCATION, &format!("{location}{query}"));
    insert(headers, ETAG, &session.etag());
    for server in state.ice_servers.iter() {
        if let Ok(value) = HeaderValue::from_str(&format!("<{server}>; rel=\"ice-server\"")) {
            headers.append(LINK, value);
        }
    }
    if kind == TransportKind::View {
        for link in [
            events::link(&location, &query, &session),
            layer::link(&location, &query),
        ] {
            if let Ok(value) = HeaderValue::from_str(&link) {
                headers.append(LINK, value);
            }
        }
    }
    Ok(response)
}

/// Has a session end with its token.
fn hold(broadcast: &Broadcast, session: &Arc<Session>, grant: &Grant) {
    let (broadcast, weak) = (broadcast.clone(), Arc::downgrade(session));
    session.hold(grant.hold(move || {
        if let Some(session) = weak.upgrade() {
            broadcast.end(&session);
        }
    }));
}

/// What a publisher is to be: `?role=backup` stands in the URL because that is all that most programs
/// that publish let one choose. Other parameters are for others, such as a proxy.
fn role(query: Option<&str>) -> Result<Role, Refusal> {
    match parameter(query, "role") {
        None | Some("primary") => Ok(Role::Primary),
        Some("backup") => Ok(Role::Backup),
        Some(_) => Err(Refusal::Role),
    }
}

/// A parameter of the URL. Names have no characters that would be escaped there.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut parameters = query.unwrap_or_default().split('&');
    parameters.find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='))
}

async fn patch(session: &Session, request: Request) -> Result<Response, Refusal> {
    let expected = if_match(request.headers());
    let body = read(request, FRAGMENT).await?;
    let fragment = IceFragment::parse(&body)?;
    let expected = expected.ok_or(Refusal::PreconditionMissing)?;
    // RFC 9725 4.3.3: a restart (`*`) is for whatever ICE session there is.
    let is_expected = |etag: &str| expected.iter().any(|given| given == "*" || given == etag);
    let Some(restart) = session.update_ice(&fragment, is_expected)? else {
        // Candidates are of no use to the lite side, which never sends a check.
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut response = (StatusCode::OK, restart.answer).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
    insert(headers, ETAG, &restart.etag);
    Ok(response)
}

/// The entity tags of If-Match (RFC 9110 13.1.1), or `*`; `None` without that field. Weak tags
/// match nothing, so they need no telling apart.
fn if_match(headers: &HeaderMap) -> Option<Vec<String>> {
    let lines = headers.get_all(IF_MATCH).iter();
    let mut tags = lines
        .map(|line| String::from_utf8_lossy(line.as_bytes()))
        .peekable();
    tags.peek()?;
    let each = |line: std::borrow::Cow<'_, str>| -> Vec<String> {
        line.split(',').map(|tag| tag.trim().to_owned()).collect()
    };
    Some(tags.flat_map(each).collect())
}

pub(super) fn options(
    methods: &'static str,
    accept: HeaderName,
    media_type: &'static str,
) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(accept, HeaderValue::from_static(media_type));
    response
}

/// The body, if it is of the type.
async fn read(request: Request, media_type: &'static str) -> Result<Bytes, Refusal> {
    check_type(request.headers(), media_type)?;
    body(request).await
}

/// Whether the body is said to be of the type.
pub(super) fn check_type(headers: &HeaderMap, media_type: &'static str) -> Result<(), Refusal> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = given
        .and_then(|given| given.split(';').next())
        .unwrap_or_default()
        .trim();
    let right = essence.eq_ignore_ascii_case(media_type);
    right.then_some(()).ok_or(Refusal::ContentType(media_type))
}

/// The body, whatever it is.
pub(super) async fn body(request: Request) -> Result<Bytes, Refusal> {
    // The router bounds what is read.
    match tokio::time::timeout(BODY_TIMEOUT, request.extract::<Bytes, _>()).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(Refusal::Body(error.status(), error.body_text())),
        Err(_) => Err(Refusal::BodyTimeout),
    }
}

/// Sets a header to text that this server made.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
