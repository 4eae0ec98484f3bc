//! Streams in reports: what the admin socket, the pages and `fanmill ctl` show.

use std::sync::Arc;

use serde::Serialize;

use crate::broadcast::publisher::{Publisher, PublisherDetails};
use crate::broadcast::{DelayBounds, Role, Session, Stream};
use crate::model::{IncomingTrack, LayerInfo};

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
    /// Seconds since the publisher that is on air came; 0 when there is none.
    pub uptime_s: u64,
    /// Who publishes it: the primary before the backup.
    pub publishers: Vec<PublisherInfo>,
    /// What the publisher that is on air shares.
    pub tracks: Vec<TrackInfo>,
}

/// A publisher of a stream.
#[derive(Debug, Clone, Serialize)]
pub struct PublisherInfo {
    /// `primary` or `backup`.
    pub role: Role,
    /// What it is, as of the stream.
    pub source: &'static str,
    /// Its transport, if it has a connection.
    pub transport: Option<u64>,
    /// It is shown to the viewers.
    pub on_air: bool,
    /// Media comes in from it.
    pub heard: bool,
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
    /// Packets since the latest keyframe that viewers who join are served from; 0: none.
    pub cached_packets: u64,
    /// Its simulcast encodings (layers); one without simulcast.
    pub encodings: Vec<EncodingInfo>,
}

/// An encoding of a track.
#[derive(Debug, Clone, Serialize)]
pub struct EncodingInfo {
    /// What it is chosen by: its rid, or its place in the offer.
    pub name: String,
    /// Its restriction identifier, with simulcast.
    pub rid: Option<String>,
    /// Whether media comes in.
    pub active: bool,
    /// Whether nothing comes only because nobody watches it.
    pub paused: bool,
    /// Bitrate of the last second.
    pub bitrate_bps: u64,
    /// Bitrate when it is not held down; of one of several.
    pub full_bitrate_bps: u64,
    /// Picture width in pixels; 0 when unknown.
    pub width: u64,
    /// Picture height in pixels; 0 when unknown.
    pub height: u64,
    /// What there is of it in spatial and temporal layers, the least first; empty if it has none.
    pub layers: Vec<LayerInfo>,
}

/// A stream with everybody who has to do with it.
#[derive(Debug, Clone, Serialize)]
pub struct StreamDetails {
    /// What a list says of it.
    #[serde(flatten)]
    pub stream: StreamInfo,
    /// The publisher that is on air, with its connection if it has one.
    pub publisher: Option<PublisherDetails>,
    /// Bounds on the delay before playing that viewers are told in place of the publisher's, as
    /// `MIN-MAX` in milliseconds.
    pub playout_delay: Option<DelayBounds>,
    /// What became of its packets, for each encoding of each track.
    pub delivery: Vec<DeliveryInfo>,
    /// Its viewers, at most [`MAX_VIEWERS_LISTED`].
    pub viewer_list: Vec<ViewerInfo>,
}

/// What became of the packets of one encoding, from the publisher to all viewers.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryInfo {
    /// The track's identification in the publisher's session.
    pub mid: String,
    /// The encoding's restriction identifier, with simulcast.
    pub rid: Option<String>,
    /// Packets lost on the way in, between the publisher and us.
    pub lost_on_way_in: u64,
    /// Of those, packets the publisher sent again.
    pub restored: u64,
    /// Of those, packets that were asked for again in vain.
    pub given_up: u64,
    /// Packets lost on the last mile, between us and a viewer, each viewer's counted: those it
    /// asked for that it had been sent.
    pub lost_on_last_mile: u64,
    /// Packets sent again to viewers.
    pub resent: u64,
    /// How long packets were in the server, each viewer's counted.
    pub transit: TransitInfo,
}

/// How long packets were in the server, in microseconds, since the encoding was published.
#[derive(Debug, Clone, Serialize)]
pub struct TransitInfo {
    /// The time that half of them did not exceed; `null` when there were none.
    pub p50_us: Option<u64>,
    /// The time that 99 % did not exceed.
    pub p99_us: Option<u64>,
    /// The time that 99.9 % did not exceed.
    pub p999_us: Option<u64>,
    /// The histogram: longest time of a bucket, and packets in it; empty buckets are left out.
    pub buckets: Vec<(u64, u64)>,
}

/// Viewers listed by name in a report; beyond that only their number is told.
pub const MAX_VIEWERS_LISTED: usize = 1000;

/// A viewer of a stream.
#[derive(Debug, Clone, Serialize)]
pub struct ViewerInfo {
    /// Its transport.
    pub transport: u64,
    /// The encoding it is sent, by name, if the stream has several.
    pub encoding: Option<String>,
    /// The highest spatial layer it is sent; `null` if that is not bounded.
    pub spatial_layer: Option<u8>,
    /// The highest temporal layer, likewise.
    pub temporal_layer: Option<u8>,
    /// Packets sent to it.
    pub packets_sent: u64,
    /// Packets it says it lost.
    pub packets_lost: u64,
    /// Packets sent to it again.
    pub retransmissions: u64,
    /// Round trip in milliseconds.
    pub rtt_ms: Option<f64>,
    /// What its network is estimated to carry, in bits per second; `null` when it is not known, and for
    /// viewers of streams without simulcast or layers, who are not estimated.
    pub estimate_bps: Option<u64>,
}

pub(super) fn stream(name: &str, stream: &Stream) -> StreamInfo {
    let on_air = stream.publishers.on_air();
    let tracks = on_air.map(|publisher| publisher.incoming().tracks());
    let publishers = stream
        .publishers
        .iter()
        .map(|(role, publisher)| PublisherInfo {
            role,
            source: publisher.source(),
            transport: publisher.session().map(|session| session.transport.id().0),
            on_air: stream.publishers.is_on_air(publisher),
            heard: publisher.is_heard(),
        });
    StreamInfo {
        name: name.to_owned(),
        live: on_air.is_some(),
        source: on_air.map(Publisher::source),
        viewers: stream.viewers.len(),
        uptime_s: on_air.map_or(0, |publisher| publisher.age().as_secs()),
        publishers: publishers.collect(),
        tracks: tracks
            .unwrap_or_default()
            .iter()
            .map(|track| track_info(track))
            .collect(),
    }
}

pub(super) fn details(
    name: &str,
    entry: &Stream,
    playout_delay: Option<DelayBounds>,
) -> StreamDetails {
    StreamDetails {
        stream: stream(name, entry),
        publisher: entry.publishers.on_air().map(Publisher::details),
        playout_delay,
        delivery: entry
            .publishers
            .on_air()
            .map_or_else(Vec::new, |publisher| {
                let tracks = publisher.incoming().tracks().iter();
                tracks.flat_map(|track| delivery(track)).collect()
            }),
        viewer_list: entry
            .viewers
            .values()
            .take(MAX_VIEWERS_LISTED)
            .map(viewer)
            .collect(),
    }
}

fn delivery(track: &IncomingTrack) -> impl Iterator<Item = DeliveryInfo> + '_ {
    track.encodings().iter().map(|encoding| {
        let (incoming, served) = (encoding.counters(), encoding.served());
        let transit = served.transit.snapshot();
        DeliveryInfo {
            mid: track.mid().to_owned(),
            rid: encoding.rid().map(str::to_owned),
            lost_on_way_in: incoming.packets_lost.get(),
            restored: incoming.packets_restored.get(),
            given_up: incoming.packets_given_up.get(),
            lost_on_last_mile: served.lost_on_last_mile.get(),
            resent: served.retransmissions.get(),
            transit: TransitInfo {
                p50_us: transit.quantile_us(0.5),
                p99_us: transit.quantile_us(0.99),
                p999_us: transit.quantile_us(0.999),
                buckets: transit.buckets().collect(),
            },
        }
    })
}

fn viewer(session: &Arc<Session>) -> ViewerInfo {
    let info = session.transport.info();
    let tracks = session.transport.outgoing().tracks();
    let layers = tracks.iter().find_map(|track| track.layers());
    ViewerInfo {
        transport: info.id,
        encoding: tracks.iter().find_map(|track| track.encoding_name()),
        spatial_layer: layers.and_then(|layers| layers.0),
        temporal_layer: layers.and_then(|layers| layers.1),
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
        estimate_bps: tracks
            .iter()
            .map(|track| track.counters().estimate_bps.get())
            .max()
            .filter(|bps| *bps > 0),
    }
}

pub(super) fn encodings(track: &IncomingTrack) -> Vec<EncodingInfo> {
    let each = track.encodings().iter().map(|encoding| EncodingInfo {
        name: encoding.name().to_owned(),
        rid: encoding.rid().map(str::to_owned),
        active: encoding.is_active(),
        paused: encoding.is_paused(),
        bitrate_bps: encoding.counters().bitrate_bps.get(),
        full_bitrate_bps: encoding.counters().full_bitrate_bps.get(),
        width: encoding.counters().width.get(),
        height: encoding.counters().height.get(),
        layers: encoding.layers(),
    });
    each.collect()
}

fn track_info(track: &IncomingTrack) -> TrackInfo {
    let best = track.best_encoding().counters();
    let encodings = encodings(track);
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
        cached_packets: best.cached_packets.get(),
        encodings,
    }
}
