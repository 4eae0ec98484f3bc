//! A stream that this process makes: an [`IncomingStream`] that stands on a [`Producer`] instead of
//! a peer's transport.
//!
//! Whoever makes media (a player, a gateway for another protocol) calls
//! [`MediaServer::create_incoming_stream`], sends packets by the producer, and hands the
//! [`ProducedStream`] to whoever shows it. Viewers are attached to it as to any other. It never
//! looks into the media.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanmill_engine::EngineError;
use fanmill_engine::ids::{ProducerId, ShardId};
use fanmill_engine::producer::{ProduceError, ProducedPacket, ProducerSpec};
use fanmill_engine::signal::Signal;
use serde::Serialize;
use tokio::sync::watch;

use crate::model::incoming::IncomingStream;
use crate::model::media_server::MediaServer;
use crate::model::transport::CloseReason;
use crate::sdp::{
    Codec, CodecParameters, CodecProfile, ProfileLevelId, ProfileTierLevel, RtcpFeedback,
};

/// Why a stream was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateStreamError {
    /// A stream of nothing.
    #[error("a stream has at least one track; say which")]
    NoTracks,
    /// The data plane did not take it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No shard is left to serve it.
    #[error("the server's data plane has failed; restart the server")]
    NoShard,
    /// The server is ending.
    #[error("the server is shutting down")]
    Shutdown,
}

/// A track to be produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducedTrack {
    codec: CodecParameters,
}

impl ProducedTrack {
    /// A track of this format. Its profile decides which viewers can be shown it; feedback and
    /// retransmission are their affair.
    pub fn new(payload_type: u8, codec: Codec, profile: CodecProfile) -> Self {
        let (clock_rate, channels) = match codec {
            Codec::Opus => (48_000, 2),
            Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::H264 | Codec::H265 => (90_000, 1),
        };
        Self {
            codec: CodecParameters {
                payload_type,
                codec,
                clock_rate,
                channels,
                profile,
                rtx_payload_type: None,
                feedback: RtcpFeedback::default(),
                fmtp: None,
                redundancy: None,
            },
        }
    }

    /// Opus.
    pub fn opus(payload_type: u8) -> Self {
        Self::new(payload_type, Codec::Opus, CodecProfile::None)
    }

    /// VP8.
    pub fn vp8(payload_type: u8) -> Self {
        Self::new(payload_type, Codec::Vp8, CodecProfile::None)
    }

    /// VP9 of a profile, 0 or 2.
    pub fn vp9(payload_type: u8, profile_id: u8) -> Self {
        Self::new(payload_type, Codec::Vp9, CodecProfile::Vp9 { profile_id })
    }

    /// AV1 of a profile, 0 to 2.
    pub fn av1(payload_type: u8, profile: u8) -> Self {
        Self::new(payload_type, Codec::Av1, CodecProfile::Av1 { profile })
    }

    /// H.264, packed as packetization mode 0 or 1 (RFC 6184 6) allows.
    pub fn h264(
        payload_type: u8,
        profile_level_id: ProfileLevelId,
        packetization_mode: u8,
    ) -> Self {
        let profile = CodecProfile::H264 {
            profile_level_id,
            packetization_mode,
        };
        Self::new(payload_type, Codec::H264, profile)
    }

    /// H.265, packed without decoding order numbers (RFC 7798 4.4, sprop-max-don-diff 0).
    pub fn h265(payload_type: u8, profile: ProfileTierLevel) -> Self {
        Self::new(payload_type, Codec::H265, CodecProfile::H265(profile))
    }

    /// Its format.
    pub fn codec(&self) -> &CodecParameters {
        &self.codec
    }
}

/// A stream that this process makes; clones are the same one. It lives until it is closed, or its
/// [`Producer`] is dropped.
#[derive(Clone)]
pub struct ProducedStream(Arc<Inner>);

struct Inner {
    id: ProducerId,
    source: &'static str,
    shard: ShardId,
    server: MediaServer,
    incoming: IncomingStream,
    ending: AtomicBool,
    paused: AtomicBool,
    closed: watch::Sender<Option<CloseReason>>,
    created: Instant,
}

impl std::fmt::Debug for ProducedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducedStream")
            .field("id", &self.0.id)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

/// A produced stream in a report.
#[derive(Debug, Clone, Serialize)]
pub struct ProducedInfo {
    /// Its name; no transport has the same.
    pub id: u64,
    /// The shard that serves it.
    pub shard: u16,
    /// Seconds since it was made.
    pub age_s: u64,
}

/// What sends the packets of a [`ProducedStream`]. It belongs to one task or thread at a time, never
/// blocks, and ends the stream when it is dropped.
#[derive(Debug)]
pub struct Producer {
    stream: ProducedStream,
    producer: fanmill_engine::producer::Producer,
}

impl MediaServer {
    /// Makes a stream that this process produces: one track for each of `tracks`, in their order.
    /// `source` says in reports what it is: `player`, `rtmp`. `signal`, if any, is rung when a
    /// viewer waits for a keyframe and when the stream was closed.
    ///
    /// It takes no part in the bound of transports.
    ///
    /// # Errors
    /// [`CreateStreamError`].
    pub fn create_incoming_stream(
        &self,
        source: &'static str,
        tracks: Vec<ProducedTrack>,
        signal: Option<Signal>,
    ) -> Result<(ProducedStream, Producer), CreateStreamError> {
        if tracks.is_empty() {
            return Err(CreateStreamError::NoTracks);
        }
        if self.is_ending() {
            return Err(CreateStreamError::Shutdown);
        }
        let shard = self.least_loaded().ok_or(CreateStreamError::NoShard)?;
        let id = ProducerId(self.names().next());
        let codecs = tracks.into_iter().map(|track| track.codec);
        let incoming = IncomingStream::produced(codecs, self.names(), self.engine());
        let specs = incoming.tracks().iter().map(|track| track.produced_spec());
        let spec = ProducerSpec {
            signal,
            ..ProducerSpec::new(id, specs.collect())
        };
        let producer = self.engine().add_producer(shard, spec)?;
        let stream = ProducedStream(Arc::new(Inner {
            id,
            source,
            shard,
            server: self.clone(),
            incoming,
            ending: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            closed: watch::Sender::new(None),
            created: Instant::now(),
        }));
        self.enter_produced(&stream);
        // One that was made while the end began would not be told of it.
        if self.is_ending() {
            stream.close_for(CloseReason::Shutdown);
        }
        let producer = Producer {
            stream: stream.clone(),
            producer,
        };
        Ok((stream, producer))
    }
}

impl ProducedStream {
    /// Its name in the engine.
    pub fn id(&self) -> ProducerId {
        self.0.id
    }

    /// What makes it, in a word.
    pub fn source(&self) -> &'static str {
        self.0.source
    }

    /// Its tracks, to attach viewers to.
    pub fn incoming(&self) -> &IncomingStream {
        &self.0.incoming
    }

    /// How long it has been there.
    pub fn age(&self) -> Duration {
        self.0.created.elapsed()
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Relaxed);
    }

    /// Whether its source shows one picture on purpose.
    pub fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::Relaxed)
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.0.shard
    }

    /// Ends it: its producer can send nothing more, and whoever is attached to it sees nothing. May
    /// wait for the data plane.
    pub fn close(&self) {
        self.close_for(CloseReason::Requested);
    }

    pub(crate) fn close_for(&self, reason: CloseReason) {
        if self.0.ending.swap(true, Ordering::Relaxed) {
            return;
        }
        self.0.server.forget_produced(self);
        self.0.closed.send_replace(Some(reason));
    }

    /// Whether it is over or about to be.
    pub fn is_ending(&self) -> bool {
        self.0.ending.load(Ordering::Relaxed)
    }

    /// Why it is over.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0.closed.borrow().clone()
    }

    /// Waits until it is over, and says why.
    pub async fn closed(&self) -> CloseReason {
        let mut closed = self.0.closed.subscribe();
        let over = closed.wait_for(Option::is_some).await;
        // The sender lives in `self`, so the wait ends only by a reason.
        let reason = over.ok().and_then(|reason| reason.clone());
        reason.unwrap_or(CloseReason::Requested)
    }

    /// Its present state in numbers; those of its tracks are with [`incoming`](Self::incoming).
    pub fn info(&self) -> ProducedInfo {
        ProducedInfo {
            id: self.0.id.0,
            shard: self.0.shard.0,
            age_s: self.age().as_secs(),
        }
    }
}

impl Producer {
    /// The stream it sends.
    pub fn stream(&self) -> &ProducedStream {
        &self.stream
    }

    /// Sends a packet of the `track`-th track. It counts as arriving now: send in real time, the
    /// packets of a frame in one go, with the marker on its last.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub fn send(&mut self, track: usize, packet: &ProducedPacket<'_>) -> Result<(), ProduceError> {
        self.producer.send(track, packet)
    }

    /// Lets the shard look at what was sent, before the end of a frame.
    pub fn flush(&mut self) {
        self.producer.flush();
    }

    /// Says which moment (NTP time, in units of 2^-32 s) an RTP timestamp of a track is, so that
    /// viewers play the tracks in step: with the first packets, after a track began anew, and now
    /// and then.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub fn set_clock(&mut self, track: usize, ntp: u64, rtp: u32) -> Result<(), ProduceError> {
        self.producer.set_clock(track, ntp, rtp)
    }

    /// Whether a viewer waits for a keyframe of a track, since the last call: once, however many
    /// wait, and again twice a second while one does.
    pub fn take_keyframe_request(&self, track: usize) -> bool {
        self.producer.take_keyframe_request(track)
    }

    /// Packets that may be sent before the shard takes any.
    pub fn room(&self) -> usize {
        self.producer.room()
    }

    /// Whether the stream was closed: nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.stream.is_ending() || self.producer.is_closed()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stream.close_for(CloseReason::SourceEnded);
    }
}
