//! Cross-origin requests (the Fetch standard's CORS protocol): players live on other sites than
//! the server, and carry no cookies, so every origin may ask.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

/// Answers a browser that asks what it may send, where nothing else is to be said.
pub(super) async fn preflight() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Marks a response as readable from anywhere.
pub(super) async fn allow_any_origin(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            "OPTIONS, GET, POST, PATCH, DELETE",
        ),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, If-Match",
        ),
        (
            ACCESS_CONTROL_EXPOSE_HEADERS,
            "Accept-Patch, ETag, Link, Location, Retry-After, WWW-Authenticate",
        ),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
