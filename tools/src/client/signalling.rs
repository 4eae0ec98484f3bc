//! WHIP (RFC 9725) and WHEP over HTTP: POST an offer, DELETE the session.

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, StatusCode, Url};

use super::JoinError;
use super::sdp::MAX_ANSWER_BYTES;

/// What a POST made.
#[derive(Debug, Clone)]
pub struct Created {
    /// The server's answer.
    pub answer: String,
    /// The session resource, if the server named one.
    pub resource: Option<Url>,
}

/// Sends an offer to a WHIP or WHEP endpoint.
///
/// # Errors
/// [`JoinError::Http`] and [`JoinError::Refused`].
pub async fn post(
    http: &Client,
    endpoint: &Url,
    token: Option<&str>,
    offer: String,
) -> Result<Created, JoinError> {
    let failed = |source| JoinError::Http {
        url: endpoint.to_string(),
        source,
    };
    let mut request = http
        .post(endpoint.clone())
        .header(CONTENT_TYPE, "application/sdp")
        .body(offer);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    // RFC 9725 4.2: the location may be relative to the endpoint.
    let resource = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|location| response.url().join(location).ok());
    let mut body = String::from_utf8_lossy(&read(response).await.map_err(failed)?).into_owned();
    if status != StatusCode::CREATED && status != StatusCode::OK {
        body.truncate(
            body.char_indices()
                .nth(200)
                .map_or(body.len(), |(at, _)| at),
        );
        return Err(JoinError::Refused {
            url: endpoint.to_string(),
            status: status.as_u16(),
            body: body.trim().to_owned(),
        });
    }
    Ok(Created {
        answer: body,
        resource,
    })
}

/// The body, up to the longest answer worth reading.
async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(body)
}

/// Ends a session. What the server makes of it is its own affair.
pub async fn delete(http: &Client, resource: Url, token: Option<&str>) {
    let mut request = http.delete(resource);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let _ = request.send().await;
}
