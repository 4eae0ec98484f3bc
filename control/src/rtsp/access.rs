//! Whether a client may read or publish: it shows a token in the query of the URL, or as its password
//! (Basic, RFC 7617) when it is asked. Digest would need the tokens themselves, which nobody keeps.

use rtsp_types::StatusCode;
use rtsp_types::headers::{AUTHORIZATION, WWW_AUTHENTICATE};

use super::connection::Connection;
use super::message::field;
use super::requests::{Asked as Request, Refusal, TRACK, url};
use crate::access::{Asked, Refused, Right, credentials};

const CHALLENGE: &str = "Basic realm=\"fanmill\"";

impl Connection {
    /// Asks once for what the connection is about: clients leave the query out of later URLs. From then on
    /// the connection ends with its token.
    pub(super) fn check_token(
        &mut self,
        right: Right,
        stream: &str,
        request: &Request,
    ) -> Result<(), Refusal> {
        let allowed = self.allowed.as_ref();
        if allowed.is_some_and(|(known, of)| *known == right && of == stream) {
            return Ok(());
        }
        let in_query = url(request)?.query().and_then(credentials::of_query);
        // A track that was appended to the URL is none of the token's.
        let in_query = in_query.map(|token| match token.split_once(&format!("/{TRACK}")) {
            Some((token, _)) => token.to_owned(),
            None => token,
        });
        let in_field = || field(request, &AUTHORIZATION).and_then(credentials::of_authorization);
        let token = in_query.or_else(in_field);
        let grant = self.shared.broadcast.access().check(&Asked {
            right,
            stream: Some(stream),
            token: token.as_deref(),
            door: "rtsp",
            remote: Some(self.peer.ip().to_canonical()),
        })?;
        let revoked = self.revoked.clone();
        self.held = Some(grant.hold(move || revoked.cancel()));
        self.allowed = Some((right, stream.to_owned()));
        Ok(())
    }
}

impl From<Refused> for Refusal {
    fn from(why: Refused) -> Self {
        if matches!(why, Refused::Forbidden(_)) {
            return Self::new(StatusCode::Forbidden, why);
        }
        let mut refusal = Self::new(StatusCode::Unauthorized, why);
        refusal
            .headers
            .push((WWW_AUTHENTICATE, CHALLENGE.to_owned()));
        refusal
    }
}
