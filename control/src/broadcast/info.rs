//! Streams in reports: what the admin socket, the pages and `fanmill ctl` show.

use std::sync::Arc;

use serde::Serialize;

use crate::broadcast::publisher::{Publisher, PublisherDetails};
use crate::broadcast::{Session, Stream};
use crate::model::IncomingTrack;

/// A stream in a list.
#[derive(Debug, Clone, Serialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// Somebody publishes it.
    pub live: bool,
    /// What publishes it: `whip`, or what this process makes it by (`player`); `null` when nobody
    /// does.
    pub source: Option<&'static str>,
    /// How many watch it.
    pub viewers: usize,
    /// Seconds since its publisher came; 0 when there is none.
    pub uptime_s: u64,
    /// What its publisher shares.
    pub tracks: Vec<TrackInfo>,
}

/// A track of a stream. The counts are those of the encoding that viewers get.
#[derive(Debug, Clone, Serialize)]
pub struct TrackInfo {
    /// `audio` or `video`.
    pub kind: String,
    /// Its identification in the publisher's session.
    pub mid: String,
    /// The codec in use; `null` before any media.
    pub codec: Option<&'static str>,
    /// Bitrate of the last second, all encodings together.
    pub bitrate_bps: u64,
    /// Picture width in pixels; 0 when unknown, or audio.
    pub width: u64,
    /// Picture height in pixels; 0 when unknown, or audio.
    pub height: u64,
    /// Packets received, retransmitted ones included.
    pub packets_received: u64,
    /// Packets lost between the publisher and us.
    pub packets_lost: u64,
    /// Of the lost ones, those the publisher sent again.
    pub packets_restored: u64,
    /// Interarrival jitter in milliseconds.
    pub jitter_ms: f64,
    /// Keyframes received.
    pub keyframes: u64,
    /// Keyframes asked for.
    pub keyframe_requests: u64,
    /// Its simulcast encodings (layers); one without simulcast.
    pub encodings: Vec<EncodingInfo>,
}

/// An encoding of a track.
#[derive(Debug, Clone, Serialize)]
pub struct EncodingInfo {
    /// Its restriction identifier, with simulcast.
    pub rid: Option<String>,
    /// Whether media comes in.
    pub active: bool,
    /// Bitrate of the last second.
    pub bitrate_bps: u64,
    /// Picture width in pixels; 0 when unknown.
    pub width: u64,
    /// Picture height in pixels; 0 when unknown.
    pub height: u64,
}

/// A stream with everybody who has to do with it.
#[derive(Debug, Clone, Serialize)]
pub struct StreamDetails {
    /// What a list says of it.
    #[serde(flatten)]
    pub stream: StreamInfo,
    /// Its publisher, with its connection if it has one.
    pub publisher: Option<PublisherDetails>,
    /// Its viewers, at most [`MAX_VIEWERS_LISTED`].
    pub viewer_list: Vec<ViewerInfo>,
}

/// Viewers listed by name in a report; beyond that only their number is told.
pub const MAX_VIEWERS_LISTED: usize = 1000;

/// A viewer of a stream.
#[derive(Debug, Clone, Serialize)]
pub struct ViewerInfo {
    /// Its transport.
    pub transport: u64,
    /// Packets sent to it.
    pub packets_sent: u64,
    /// Packets it says it lost.
    pub packets_lost: u64,
    /// Packets sent to it again.
    pub retransmissions: u64,
    /// Round trip in milliseconds.
    pub rtt_ms: Option<f64>,
}

pub(super) fn stream(name: &str, stream: &Stream) -> StreamInfo {
    let publisher = stream.publisher.as_ref();
    let tracks = publisher.map(|publisher| publisher.incoming().tracks());
    StreamInfo {
        name: name.to_owned(),
        live: publisher.is_some(),
        source: publisher.map(Publisher::source),
        viewers: stream.viewers.len(),
        uptime_s: stream.since.map_or(0, |since| since.elapsed().as_secs()),
        tracks: tracks
            .unwrap_or_default()
            .iter()
            .map(|track| track_info(track))
            .collect(),
    }
}

pub(super) fn details(name: &str, entry: &Stream) -> StreamDetails {
    StreamDetails {
        stream: stream(name, entry),
        publisher: entry.publisher.as_ref().map(Publisher::details),
        viewer_list: entry
            .viewers
            .values()
            .take(MAX_VIEWERS_LISTED)
            .map(viewer)
            .collect(),
    }
}

fn viewer(session: &Arc<Session>) -> ViewerInfo {
    let info = session.transport.info();
    let tracks = session.transport.outgoing().tracks();
    ViewerInfo {
        transport: info.id,
        packets_sent: info.packets_sent,
        packets_lost: tracks
            .iter()
            .map(|track| track.counters().packets_lost.get())
            .sum(),
        retransmissions: tracks
            .iter()
            .map(|track| track.counters().retransmissions.get())
            .sum(),
        rtt_ms: info.rtt_ms,
    }
}

fn track_info(track: &IncomingTrack) -> TrackInfo {
    let best = track.best_encoding().counters();
    let encodings = track.encodings().iter().map(|encoding| EncodingInfo {
        rid: encoding.rid().map(str::to_owned),
        active: encoding.is_active(),
        bitrate_bps: encoding.counters().bitrate_bps.get(),
        width: encoding.counters().width.get(),
        height: encoding.counters().height.get(),
    });
    let encodings: Vec<_> = encodings.collect();
    TrackInfo {
        kind: track.kind().to_string(),
        mid: track.mid().to_owned(),
        codec: track
            .current_codec()
            .map(|codec| codec.codec.encoding_name()),
        bitrate_bps: encodings.iter().map(|encoding| encoding.bitrate_bps).sum(),
        width: best.width.get(),
        height: best.height.get(),
        packets_received: best.packets.get(),
        packets_lost: best.packets_lost.get(),
        packets_restored: best.packets_restored.get(),
        jitter_ms: best.jitter_us.get() as f64 / 1000.0,
        keyframes: best.keyframes.get(),
        keyframe_requests: best.keyframe_requests.get(),
        encodings,
    }
}
