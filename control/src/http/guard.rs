//! Asks for a token before a request reaches its handler, where [`Access`] says that one is needed. Each
//! router says what its routes need; nothing else here knows of paths.
//!
//! A token comes in `Authorization`, or as `token=` in the query, which wins: a proxy before us may have
//! put an `Authorization` of its own. What a handler needs of it, it finds in the request: the
//! [`Grant`], and [`InAddress`].

use std::net::SocketAddr;

use axum::RequestExt;
use axum::extract::{ConnectInfo, RawPathParams, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::reply::Refusal;
use crate::access::{Access, Asked, Grant, Right, credentials};

/// What the routes of a router need.
#[derive(Clone)]
pub(super) struct Guard {
    access: Access,
    right: Right,
    door: &'static str,
    of_stream: bool,
    takes_password: bool,
}

impl Guard {
    /// A right to the stream that the path names as `{stream}`.
    pub(super) fn of_stream(access: &Access, right: Right, door: &'static str) -> Self {
        Self {
            access: access.clone(),
            right,
            door,
            of_stream: true,
            takes_password: false,
        }
    }

    /// A right to the server as a whole.
    pub(super) fn of_server(access: &Access, right: Right) -> Self {
        Self {
            of_stream: false,
            ..Self::of_stream(access, right, "http")
        }
    }

    /// For players that have a user and a password in an address and send them when they are asked.
    /// Pages are not to be asked, for their browser would ask whoever sits before it.
    pub(super) fn takes_password(self) -> Self {
        Self {
            takes_password: true,
            ..self
        }
    }
}

/// The query with the token that a client has in the address; what it is told to ask for next has it
/// there, too.
#[derive(Clone)]
pub(super) struct InAddress(String);

impl InAddress {
    /// What follows the path of an address that a client with this request is given.
    pub(super) fn of(request: &Request) -> String {
        let query = request.extensions().get::<Self>();
        query.map_or_else(String::new, |query| format!("?{}", query.0))
    }
}

/// The token that was shown, and whether it was in the address.
pub(super) fn shown(headers: &HeaderMap, uri: &Uri) -> Option<(String, bool)> {
    if let Some(token) = uri.query().and_then(credentials::of_query) {
        return Some((token, true));
    }
    let field = headers.get(AUTHORIZATION)?.to_str().ok()?;
    Some((credentials::of_authorization(field)?, false))
}

/// The layer of the routes that need what the guard says.
pub(super) async fn check(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Response {
    // A browser asks what it may send without sending it.
    if request.method() == Method::OPTIONS || !guard.access.is_enforced() {
        return next.run(request).await;
    }
    let stream = match guard.of_stream {
        true => match stream(&mut request).await {
            Some(stream) => Some(stream),
            None => return Refusal::Nowhere.into_response(),
        },
        false => None,
    };
    let shown = shown(request.headers(), request.uri());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let asked = Asked {
        right: guard.right,
        stream: stream.as_deref(),
        token: shown.as_ref().map(|(token, _)| token.as_str()),
        door: guard.door,
        remote: peer.map(|peer| peer.ip()),
    };
    let grant = match guard.access.check(&asked) {
        Ok(grant) => grant,
        Err(why) => return Refusal::Access(why, guard.takes_password).into_response(),
    };
    if let Some((token, true)) = shown {
        let query = InAddress(credentials::to_query(&token));
        request.extensions_mut().insert(query);
    }
    let is_free = grant.is_free();
    request.extensions_mut().insert(grant);
    let mut response = next.run(request).await;
    if !is_free {
        keep_private(&mut response);
    }
    response
}

/// The grant of a request; that of a server which asks nobody for a token is as good.
pub(super) fn grant(request: &Request) -> Option<Grant> {
    request.extensions().get::<Grant>().cloned()
}

/// The stream that the path names, as the handler reads it.
async fn stream(request: &mut Request) -> Option<String> {
    let params = request.extract_parts::<RawPathParams>().await.ok()?;
    let mut params = params.iter();
    let (_, stream) = params.find(|(name, _)| *name == "stream")?;
    Some(stream.to_owned())
}

/// RFC 9111 3.5: a cache that others share may keep what is `public` though it was asked for with a
/// token, and give it to those who have none.
fn keep_private(response: &mut Response) {
    let headers = response.headers_mut();
    let Some(control) = headers.get(CACHE_CONTROL).and_then(|v| v.to_str().ok()) else {
        return;
    };
    let kept = control.strip_prefix("public, ").unwrap_or(control);
    if let Ok(value) = HeaderValue::try_from(format!("private, {kept}")) {
        headers.insert(CACHE_CONTROL, value);
    }
}
