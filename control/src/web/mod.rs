//! The pages for people: publish, watch, rooms, the list of streams, the recordings. Owns their files, which are
//! compiled into the binary, and the routes that serve them; the HTTP server merges [`router`]
//! into its own. Must never serve anything but these files, nor read a file at run time.

use std::convert::Infallible;

use aws_lc_rs::digest;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;

/// Everything the pages need comes from this server; media elements play streams, not addresses.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; \
     connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'self'",
);

const PERMISSIONS_POLICY: HeaderValue =
    HeaderValue::from_static("camera=(self), microphone=(self), display-capture=(self)");

/// Browsers keep a copy and ask each time whether it is still good: pages and scripts of two
/// versions of the server are never mixed.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("no-cache");

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const SCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const STYLE: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const IMAGE: HeaderValue = HeaderValue::from_static("image/svg+xml");

macro_rules! page {
    ($file:literal) => {
        include_str!(concat!("pages/", $file))
    };
}

/// The routes of the pages, relative to the root of the server:
///
/// | path | what |
/// |---|---|
/// | `/` | the live streams (reads `GET /api/streams`) |
/// | `/publish/{stream}` | a WHIP client of `/whip/{stream}` |
/// | `/watch/{stream}` | a WHEP client of `/whep/{stream}` |
/// | `/room/{room}` | a member of a room, of `/whip/{room}~{member}` and `/whep/{room}~` |
/// | `/recordings` | the recordings, to play here or as streams |
/// | `/assets/…` | their scripts, style and icon |
///
/// They answer `GET` and `HEAD`, with an entity tag, and `304` to a request that holds it.
pub fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/", serve(&HTML, page!("index.html")))
        .route("/publish/{stream}", serve(&HTML, page!("publish.html")))
        .route("/watch/{stream}", serve(&HTML, page!("watch.html")))
        .route("/room/{room}", serve(&HTML, page!("room.html")))
        .route("/recordings", serve(&HTML, page!("recordings.html")))
        .route("/favicon.ico", serve(&IMAGE, page!("icon.svg")))
        .route("/assets/icon.svg", serve(&IMAGE, page!("icon.svg")))
        .route("/assets/style.css", serve(&STYLE, page!("style.css")))
        .route("/assets/index.js", serve(&SCRIPT, page!("index.js")))
        .route(
            "/assets/recordings.js",
            serve(&SCRIPT, page!("recordings.js")),
        )
        .route("/assets/publish.js", serve(&SCRIPT, page!("publish.js")))
        .route("/assets/room.js", serve(&SCRIPT, page!("room.js")))
        .route("/assets/watch.js", serve(&SCRIPT, page!("watch.js")))
        .route("/assets/webrtc.js", serve(&SCRIPT, page!("webrtc.js")))
        .route(
            "/assets/addresses.js",
            serve(&SCRIPT, page!("addresses.js")),
        )
        .route("/assets/delay.js", serve(&SCRIPT, page!("delay.js")))
        .route("/assets/events.js", serve(&SCRIPT, page!("events.js")))
        .route("/assets/messages.js", serve(&SCRIPT, page!("messages.js")))
        .route("/assets/stats.js", serve(&SCRIPT, page!("stats.js")))
        .route("/assets/testcard.js", serve(&SCRIPT, page!("testcard.js")))
        .route("/assets/quality.js", serve(&SCRIPT, page!("quality.js")))
        .route("/assets/ticker.js", serve(&SCRIPT, page!("ticker.js")))
        .route("/assets/token.js", serve(&SCRIPT, page!("token.js")))
}

fn serve<S>(content_type: &HeaderValue, text: &'static str) -> MethodRouter<S, Infallible>
where
    S: Clone + Send + Sync + 'static,
{
    let content_type = content_type.clone();
    let etag = entity_tag(text.as_bytes());
    get(move |headers: HeaderMap| async move { respond(&headers, content_type, etag, text) })
}

fn respond(
    request: &HeaderMap,
    content_type: HeaderValue,
    etag: HeaderValue,
    text: &'static str,
) -> Response<Body> {
    // RFC 9110 15.4.5: a 304 carries the fields that would update the stored response.
    let fresh = is_held(request, &etag);
    let body = if fresh {
        Bytes::new()
    } else {
        Bytes::from_static(text.as_bytes())
    };
    let mut response = Response::new(Body::from(body));
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::ETAG, etag);
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(
        HeaderName::from_static("permissions-policy"),
        PERMISSIONS_POLICY,
    );
    response
}

/// A strong entity tag: the start of the SHA-256 of the content.
fn entity_tag(content: &[u8]) -> HeaderValue {
    let hash = digest::digest(&digest::SHA256, content);
    let mut tag = String::with_capacity(34);
    tag.push('"');
    for byte in &hash.as_ref()[..16] {
        tag.push_str(&format!("{byte:02x}"));
    }
    tag.push('"');
    HeaderValue::try_from(tag).expect("hexadecimal digits in quotes are a valid header value")
}

/// RFC 9110 13.1.2: whether `If-None-Match` lists `etag`, by weak comparison.
fn is_held(request: &HeaderMap, etag: &HeaderValue) -> bool {
    request.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value.as_bytes().split(|&byte| byte == b',').any(|tag| {
            let tag = tag.trim_ascii();
            tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes()
        })
    })
}

#[cfg(test)]
mod tests;
