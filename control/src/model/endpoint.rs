//! Where peers connect to: an [`Endpoint`] answers their offers and makes their transports.

use std::net::SocketAddr;
use std::sync::Arc;

use fanmill_engine::EngineError;
use fanmill_engine::command::TransportSpec;
use fanmill_engine::counters::TransportCounters;
use fanmill_engine::ids::{ShardId, TransportId};

use crate::model::incoming::IncomingStream;
use crate::model::media_server::MediaServer;
use crate::model::outgoing::OutgoingStream;
use crate::model::transport::{Parts, Transport, TransportKind, engine_credentials};
use crate::sdp::{
    LocalParameters, LocalTrack, NegotiatedMedia, Offer, SdpError, TrackLimits, answer_publisher,
    answer_viewer,
};

/// Most tracks of a kind that one viewer is sent.
const VIEWER_TRACKS: TrackLimits = TrackLimits { audio: 8, video: 8 };

/// Most slots of a kind that one viewer of a room is sent.
const SLOTS: TrackLimits = TrackLimits {
    audio: 8,
    video: 16,
};

/// What tracks that are played together have in common.
const STREAM: &str = "fanmill";

/// The stream of tracks that belong to none (RFC 8830 2): a browser would hold back the sound of one
/// member until the picture of another is there.
const NO_STREAM: &str = "-";

/// Why an offer made no transport.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The offer cannot be answered.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// The server has as many transports as it was allowed.
    #[error("the server is full ({0} transports); try again later or on another server")]
    Full(usize),
    /// The data plane did not take it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No shard is left to serve it.
    #[error("the server's data plane has failed; try another server")]
    NoShard,
    /// The server is ending.
    #[error("the server is shutting down")]
    Shutdown,
}

/// A place to connect to: the sockets of the server's shards.
#[derive(Clone)]
pub struct Endpoint(pub(crate) MediaServer);

impl Endpoint {
    /// The addresses at which peers find a shard, as they stand in answers.
    pub fn local_candidates(&self, shard: ShardId) -> Vec<SocketAddr> {
        self.0.candidates(shard)
    }

    /// Answers a publisher's offer: its tracks become an incoming stream. Call it inside the
    /// runtime.
    ///
    /// # Errors
    /// [`OfferError`]; nothing is left of the transport then.
    pub fn publish(&self, offer: &Offer) -> Result<(Transport, String), OfferError> {
        let server = &self.0;
        let shard = server.place()?;
        let local = self.local_parameters(shard);
        let answer = answer_publisher(offer, &local)?;
        let incoming = IncomingStream::new(&answer.negotiated, server.names(), server.engine());
        let parts = self.parts(
            TransportKind::Publish,
            shard,
            answer.negotiated,
            local,
            incoming,
        );
        let transport = server.start_transport(parts, |engine, parts| {
            let active = parts
                .negotiated
                .media
                .iter()
                .filter(|media| media.is_active());
            for (track, media) in parts.incoming.tracks().iter().zip(active) {
                let spec = track.spec(media, server.publish_bitrate_max_bps());
                engine.add_incoming_track(parts.id, spec)?;
            }
            Ok(())
        })?;
        Ok((transport, answer.sdp))
    }

    /// Answers a viewer's offer: its tracks become an outgoing stream that shows nothing until it
    /// is attached. Call it inside the runtime.
    ///
    /// # Errors
    /// [`OfferError`]; nothing is left of the transport then.
    pub fn view(&self, offer: &Offer) -> Result<(Transport, String), OfferError> {
        self.send(offer, VIEWER_TRACKS, STREAM)
    }

    /// Answers a viewer's offer as [`view`](Self::view) does, where each track is a slot that shows
    /// now this, now that: at most 8 of sound and 16 of pictures, none of which is played in time with
    /// another. Call it inside the runtime.
    ///
    /// # Errors
    /// [`OfferError`]; nothing is left of the transport then.
    pub fn view_slots(&self, offer: &Offer) -> Result<(Transport, String), OfferError> {
        self.send(offer, SLOTS, NO_STREAM)
    }

    fn send(
        &self,
        offer: &Offer,
        limits: TrackLimits,
        stream: &str,
    ) -> Result<(Transport, String), OfferError> {
        let server = &self.0;
        let shard = server.place()?;
        let local = self.local_parameters(shard);
        let answer = answer_viewer(offer, &local, limits, |media| {
            self.local_track(media, stream)
        })?;
        let outgoing = OutgoingStream::new(&answer.negotiated, server.names(), server.engine());
        let incoming = IncomingStream::empty();
        let mut parts = self.parts(
            TransportKind::View,
            shard,
            answer.negotiated,
            local,
            incoming,
        );
        parts.outgoing = outgoing;
        let transport = server.start_transport(parts, |engine, parts| {
            let active = parts
                .negotiated
                .media
                .iter()
                .filter(|media| media.is_active());
            for (track, media) in parts.outgoing.tracks().iter().zip(active) {
                if let Some(spec) = track.spec(media) {
                    engine.add_outgoing_track(parts.id, spec)?;
                }
            }
            Ok(())
        })?;
        Ok((transport, answer.sdp))
    }

    fn parts(
        &self,
        kind: TransportKind,
        shard: ShardId,
        negotiated: crate::sdp::Negotiated,
        local: LocalParameters,
        incoming: IncomingStream,
    ) -> Parts {
        Parts {
            id: TransportId(self.0.names().next()),
            kind,
            shard,
            negotiated,
            local,
            counters: Arc::<TransportCounters>::default(),
            incoming,
            outgoing: OutgoingStream::empty(),
        }
    }

    fn local_parameters(&self, shard: ShardId) -> LocalParameters {
        let server = &self.0;
        LocalParameters {
            ice: server.new_ice_credentials(),
            fingerprint_sha256: server.fingerprint_sha256(),
            candidates: server.candidates(shard),
            session_id: server.random() >> 1,
            session_version: 1,
            cname: server.cname().to_owned(),
        }
    }

    fn local_track(&self, media: &NegotiatedMedia, stream: &str) -> LocalTrack {
        let random = self.0.random();
        // An SSRC of zero stands for "none" in places.
        let ssrc = (random as u32).max(1);
        let rtx_ssrc = ((random >> 32) as u32).max(1);
        let kind = media.kind;
        LocalTrack {
            stream_id: stream.to_owned(),
            track_id: format!("{kind}{}", media.track_index.unwrap_or(0)),
            ssrc,
            rtx_ssrc: Some(if rtx_ssrc == ssrc {
                rtx_ssrc ^ 0x8000_0000
            } else {
                rtx_ssrc
            }),
        }
    }

    /// How the engine shall know a transport.
    pub(crate) fn transport_spec(server: &MediaServer, parts: &Parts) -> TransportSpec {
        TransportSpec {
            id: parts.id,
            ice: engine_credentials(&parts.local.ice),
            consent_timeout_us: server.consent_timeout_us(),
            rtcp_ssrc: (server.random() as u32).max(1),
            cname: parts.local.cname.clone(),
            counters: Arc::clone(&parts.counters),
        }
    }
}
