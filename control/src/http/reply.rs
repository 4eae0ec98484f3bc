//! What goes wrong, as HTTP says it: a status, and the reason in words as the body.

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::broadcast::BroadcastError;
use crate::model::OfferError;
use crate::sdp::{ErrorClass, SdpError};

/// A request that was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The session description or fragment is not good.
    Sdp(SdpError),
    /// The stream or server says no.
    Broadcast(BroadcastError),
    /// The body is of another type than this.
    ContentType(&'static str),
    /// The body is longer than is read, or broke off.
    Body(StatusCode, String),
    /// The resource takes other methods, named here.
    Method(&'static str),
    /// A PATCH must say which ICE session it is for (RFC 9725 4.3.1).
    PreconditionMissing,
    /// The ICE session it names is not the present one.
    PreconditionFailed,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Sdp(error) => sdp_status(error),
            Self::Broadcast(error) => broadcast_status(error),
            Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(status, _) => *status,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::PreconditionMissing => StatusCode::PRECONDITION_REQUIRED,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Sdp(error) => error.to_string(),
            Self::Broadcast(error) => error.to_string(),
            Self::ContentType(expected) => {
                format!("send the body as {expected}, and say so in Content-Type")
            }
            Self::Body(_, reason) => reason.clone(),
            Self::Method(allowed) => format!("this resource takes {allowed}"),
            Self::PreconditionMissing => {
                "say in If-Match which ICE session this is for: its ETag, or * to restart ICE"
                    .to_owned()
            }
            Self::PreconditionFailed => {
                "If-Match names another ICE session than the present one; use the latest ETag"
                    .to_owned()
            }
        }
    }
}

fn sdp_status(error: &SdpError) -> StatusCode {
    match error.class() {
        ErrorClass::Malformed => StatusCode::BAD_REQUEST,
        ErrorClass::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorClass::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
    }
}

fn broadcast_status(error: &BroadcastError) -> StatusCode {
    match error {
        BroadcastError::Name => StatusCode::BAD_REQUEST,
        BroadcastError::Occupied(_) | BroadcastError::Attach(_) => StatusCode::CONFLICT,
        BroadcastError::Offer(OfferError::Sdp(error)) => sdp_status(error),
        BroadcastError::UnknownSession
        | BroadcastError::UnknownStream(_)
        | BroadcastError::NotLive(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, self.reason() + "\n").into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if let Self::Method(allowed) = self {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Self {
        Self::Sdp(error)
    }
}

impl From<BroadcastError> for Refusal {
    fn from(error: BroadcastError) -> Self {
        Self::Broadcast(error)
    }
}
