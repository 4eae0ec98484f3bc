//! What comes in by other protocols than WebRTC, made into live streams: access units with times of
//! their source in, a stream published under a name out.
//!
//! A door (RTMP, RTSP, plain RTP) calls [`Ingests::start`] and [`Ingest::push`], which never waits.
//! The units are packetized, transcoded and sent on threads of the ingests' own (`ingest-N`), never
//! on a shard or on the threads of the control plane. All tracks of an ingest have one timeline, the
//! source's; how that relates to our clock (`timeline`) becomes the sender reports of all tracks, so
//! that sound and picture keep together whatever the clocks do.
//!
//! A source is never trusted: queues are bounded, times may leap, units may be damaged.

mod ingests;
mod line;
mod output;
mod report;
mod session;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod threads;
mod timeline;

use bytes::Bytes;

pub use ingests::Ingests;
pub use report::{IngestInfo, IngestTrackInfo};
pub use session::Ingest;

use crate::broadcast::BroadcastError;
use crate::media::audio::{AudioError, SoundFormat};
use crate::media::packetize::Format;
use crate::model::{CreateStreamError, ProducedTrack};
use crate::sdp::{Codec, CodecProfile};

/// What the units of a track are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackFormat {
    /// Pictures.
    Video {
        /// Their format, with the parameter sets known beforehand.
        format: Format,
        /// Their profile, which decides who can be shown them.
        profile: CodecProfile,
    },
    /// Opus packets.
    Opus {
        /// 1 or 2.
        channels: u8,
    },
    /// AAC without ADTS headers; becomes Opus.
    Aac {
        /// AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1).
        config: Vec<u8>,
    },
    /// G.711 mu-law; becomes Opus.
    Pcmu,
    /// G.711 A-law; becomes Opus.
    Pcma,
    /// G.722 at 64 kbit/s; becomes Opus.
    G722,
}

impl TrackFormat {
    /// The name of the codec, for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Video { format, .. } => format.codec().name(),
            Self::Opus { .. } => "opus",
            sound => sound.sound().map_or("", |sound| sound.name()),
        }
    }

    /// Whether it is pictures.
    #[must_use]
    pub fn is_video(&self) -> bool {
        matches!(self, Self::Video { .. })
    }

    /// What is to become Opus.
    fn sound(&self) -> Option<SoundFormat> {
        match self {
            Self::Aac { config } => Some(SoundFormat::Aac {
                config: config.clone(),
            }),
            Self::Pcmu => Some(SoundFormat::Pcmu),
            Self::Pcma => Some(SoundFormat::Pcma),
            Self::G722 => Some(SoundFormat::G722),
            Self::Video { .. } | Self::Opus { .. } => None,
        }
    }

    /// The track that viewers are shown.
    fn produced(&self, payload_type: u8) -> Result<ProducedTrack, IngestError> {
        let Self::Video { format, profile } = self else {
            return Ok(ProducedTrack::opus(payload_type));
        };
        let codec = match format {
            Format::H264 { .. } => Codec::H264,
            Format::Vp8 => Codec::Vp8,
            Format::Vp9 => Codec::Vp9,
            Format::Av1 { .. } => Codec::Av1,
            Format::H265 { .. } => Codec::H265,
            Format::Opus => return Err(IngestError::NotCarried(self.name())),
        };
        Ok(ProducedTrack::new(payload_type, codec, *profile))
    }
}

/// What an ingest is called, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestSpec {
    /// The name it is published under.
    pub stream: String,
    /// The protocol: `rtmp`, `rtp`, `rtsp`.
    pub source: &'static str,
    /// The other end, for lists and logs.
    pub remote: String,
}

/// A picture, or a packet of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The place of its track in those the ingest was started with.
    pub track: usize,
    /// When it is shown or heard, on the source's clock: one for all tracks.
    pub pts_us: i64,
    /// When it is decoded; of sources that do not say, the same.
    pub dts_us: i64,
    /// Decoding can begin here. Of sound it does not matter.
    pub is_keyframe: bool,
    /// As the track's format says.
    pub data: Bytes,
}

/// Why an ingest did not start, or cannot go on as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// Viewers cannot be sent this.
    #[error(
        "this server does not send {0} to viewers: encode H.264, H.265, VP8, VP9 or AV1 (ffmpeg: \
         -c:v libx264)"
    )]
    NotCarried(&'static str),
    /// The sound cannot be transcoded.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The stream was not made.
    #[error(transparent)]
    Stream(#[from] CreateStreamError),
    /// The name cannot be had.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    /// Another codec than the track began with.
    #[error("a track that began as {before} cannot go on as {now}; begin a new stream")]
    OtherCodec {
        /// The track's codec.
        before: &'static str,
        /// What it should be now.
        now: &'static str,
    },
    /// There is no such track.
    #[error("there is no track {0}; count from 0 in the order in which they were given")]
    UnknownTrack(usize),
    /// It has ended.
    #[error(transparent)]
    Closed(#[from] IngestClosed),
    /// No threads.
    #[error("cannot start the threads of ingests: {0}; raise the limit of processes")]
    Threads(#[source] std::io::Error),
}

/// The ingest has ended: its stream was stopped, or the server is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream was ended")]
pub struct IngestClosed;
