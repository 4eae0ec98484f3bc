//! What a client asks for that publishes a stream: ANNOUNCE, RECORD (RFC 2326 10.3, 10.11).

use std::sync::Arc;

use rtsp_types::headers::CONTENT_TYPE;
use rtsp_types::{StatusCode, Url};

use super::connection::{Announced, Connection, Flow, Of};
use super::description::Description;
use super::message::field;
use super::receive::Receiver;
use super::requests::{Asked, Refusal, Reply, Then, target, url};
use crate::access::Right;

impl Connection {
    /// Takes the description of what will be published.
    pub(super) fn announce(&mut self, request: &Asked) -> Result<Reply, Refusal> {
        if self.session.is_some() {
            return Err(StatusCode::MethodNotValidInThisState.into());
        }
        let (stream, _) = target(url(request)?)?;
        self.check_token(Right::Publish, stream, request)?;
        let is_sdp = |kind: &str| kind.to_ascii_lowercase().starts_with("application/sdp");
        if !field(request, &CONTENT_TYPE).is_none_or(is_sdp) {
            let reason = "announce a stream by its SDP";
            return Err(Refusal::new(StatusCode::UnsupportedMediaType, reason));
        }
        // Whether the name is free shows when the stream begins.
        let named = self.shared.broadcast.follow(stream);
        named.map_err(|error| Refusal::new(StatusCode::BadRequest, error))?;
        let description = Description::read(&String::from_utf8_lossy(request.body()));
        if let Some(refused) = description.refused.first() {
            return Err(Refusal::new(StatusCode::UnsupportedMediaType, refused));
        }
        if description.tracks.is_empty() {
            let reason = "the description has no track of audio or video";
            return Err(Refusal::new(StatusCode::UnsupportedMediaType, reason));
        }
        self.of = Some(Of::Announced(Arc::new(Announced {
            stream: stream.to_owned(),
            tracks: description.tracks,
        })));
        Ok(Reply::default())
    }

    /// Begins to take what was announced and set up.
    pub(super) async fn record(&mut self) -> Result<Reply, Refusal> {
        let session = self.session.as_ref();
        let session = session.ok_or(StatusCode::MethodNotValidInThisState)?;
        let (Of::Announced(announced), None) = (&session.of, &session.running) else {
            return Err(StatusCode::MethodNotValidInThisState.into());
        };
        // What was not set up will not come.
        let is_set_up = |place: usize| session.tracks.iter().any(|track| track.place == place);
        if !(0..announced.tracks.len()).all(is_set_up) {
            let reason = "set up every track that was announced, or announce fewer";
            return Err(Refusal::new(StatusCode::MethodNotValidInThisState, reason));
        }
        let ingests = self.shared.ingests.clone();
        let (stream, tracks) = (&announced.stream, &announced.tracks);
        let mut receiver = Receiver::new(ingests, stream, self.peer, tracks);
        let begun = receiver.begin().await;
        begun.map_err(|reason| Refusal::new(StatusCode::Forbidden, reason))?;
        Ok(Reply {
            then: Then::Run(Flow::Publish(Box::new(receiver))),
            ..Reply::default()
        })
    }
}

/// The place of the track that a URL names.
pub(super) fn announced_track(announced: &Announced, url: &Url) -> Result<usize, Refusal> {
    let is_named = |control: &str| {
        // An absolute one is compared by what follows the host.
        let control = Url::parse(control).map_or_else(
            |_| control.to_owned(),
            |absolute| absolute.path().to_owned(),
        );
        let url = url.as_str().trim_end_matches('/');
        !control.is_empty() && url.ends_with(&format!("/{}", control.trim_matches('/')))
    };
    let mut tracks = announced.tracks.iter();
    match tracks.position(|track| is_named(&track.control)) {
        Some(place) => Ok(place),
        // The only one needs no name.
        None if announced.tracks.len() == 1 => Ok(0),
        None => Err(Refusal::new(
            StatusCode::NotFound,
            "no track was announced with this control URL",
        )),
    }
}
