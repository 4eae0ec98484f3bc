//! What goes wrong, as HTTP says it: a status, and the reason in words as the body.

use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use fanmill_engine::EngineError;

use crate::access::Refused;
use crate::broadcast::BroadcastError;
use crate::model::OfferError;
use crate::sdp::{ErrorClass, SdpError};

/// A request that was refused.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nothing is at that path.
    Nowhere,
    /// Who asks may not; whether a password will do for a token.
    Access(Refused, bool),
    /// The session description or fragment is not good.
    Sdp(SdpError),
    /// The stream or server says no.
    Broadcast(BroadcastError),
    /// The body is of another type than this.
    ContentType(&'static str),
    /// The body is longer than is read, or not as announced.
    Body(StatusCode, String),
    /// The body did not come in time.
    BodyTimeout,
    /// The body names no events, or none that there are.
    Events(String),
    /// The body does not say which encoding is wanted.
    Layer(String),
    /// As many connections last as may.
    LongConnections,
    /// The resource takes other methods, named here.
    Method(&'static str),
    /// A publisher is to be something that is unknown.
    Role,
    /// A PATCH must say which ICE session it is for (RFC 9725 4.3.1).
    PreconditionMissing,
    /// The server has a defect; its log has more.
    Defect,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Nowhere => StatusCode::NOT_FOUND,
            Self::Access(Refused::Forbidden(_), _) => StatusCode::FORBIDDEN,
            Self::Access(..) => StatusCode::UNAUTHORIZED,
            Self::Role => StatusCode::BAD_REQUEST,
            Self::Sdp(error) => sdp_status(error),
            Self::Broadcast(error) => broadcast_status(error),
            Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(status, _) => *status,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::PreconditionMissing => StatusCode::PRECONDITION_REQUIRED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Events(_) | Self::Layer(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::LongConnections => StatusCode::SERVICE_UNAVAILABLE,
            Self::Defect => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Nowhere => "nothing is here; streams are at /whip/NAME and /whep/NAME".to_owned(),
            Self::Access(why, _) => why.to_string(),
            Self::Role => "a publisher is role=primary or role=backup".to_owned(),
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
            Self::BodyTimeout => "the body of the request did not come in time".to_owned(),
            Self::Events(reason) => {
                format!("send a JSON array of names of events, or no body for all: {reason}")
            }
            Self::Layer(reason) => {
                format!("send a JSON object such as {{\"encodingId\": \"h\"}}: {reason}")
            }
            Self::LongConnections => {
                "the server has as many connections that last as it may; try again later".to_owned()
            }
            Self::Defect => "the server has a defect; its log says more".to_owned(),
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
        BroadcastError::Name | BroadcastError::Room(_) => StatusCode::BAD_REQUEST,
        BroadcastError::Occupied(_)
        | BroadcastError::BackupOccupied(_)
        | BroadcastError::Silent(..)
        | BroadcastError::NoVideo
        | BroadcastError::Attach(_) => StatusCode::CONFLICT,
        BroadcastError::Offer(OfferError::Sdp(error)) => sdp_status(error),
        BroadcastError::OtherIceSession => StatusCode::PRECONDITION_FAILED,
        BroadcastError::TooManySubscriptions => StatusCode::TOO_MANY_REQUESTS,
        BroadcastError::UnknownSession
        | BroadcastError::UnknownSubscription
        | BroadcastError::UnknownEncoding(..)
        | BroadcastError::UnknownStream(_)
        | BroadcastError::NotLive(_)
        | BroadcastError::NoPublisher(..)
        | BroadcastError::Engine(EngineError::UnknownTransport(_)) => StatusCode::NOT_FOUND,
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
        if let Self::Access(why, takes_password) = self {
            challenge(headers, why, takes_password);
        }
        if let Self::Method(allowed) = self {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // RFC 9110 15.5.9: the rest of the body may still come, and would be no request.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// RFC 6750 3: how to do it right.
fn challenge(headers: &mut HeaderMap, why: Refused, takes_password: bool) {
    let bearer = match why {
        Refused::Missing(_) => "Bearer realm=\"fanmill\"",
        Refused::Forbidden(_) => "Bearer realm=\"fanmill\", error=\"insufficient_scope\"",
        _ => "Bearer realm=\"fanmill\", error=\"invalid_token\"",
    };
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(bearer));
    if takes_password && !matches!(why, Refused::Forbidden(_)) {
        let basic = HeaderValue::from_static("Basic realm=\"fanmill\", charset=\"UTF-8\"");
        headers.append(WWW_AUTHENTICATE, basic);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
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
