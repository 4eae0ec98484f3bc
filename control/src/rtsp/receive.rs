//! From the packets of a publisher, or of a server that is pulled, to a live stream.
//!
//! A connection or a pull owns it and hands over what came on its channels or sockets. Order, clocks
//! and payloads are the [`Source`]s' affair, the stream is the [`Inflow`]'s.

use std::net::SocketAddr;

use fanmill_engine::packet::codec::Codec;

use super::description::Described;
use super::limits::REORDER_WAIT_US;
use super::random;
use crate::clock::now_us;
use crate::ingest::{IngestSpec, Ingests, TrackFormat};
use crate::media::clock::StreamClock;
use crate::media::packetize::Format;
use crate::model::CloseReason;
use crate::sdp::CodecProfile;
use crate::streamer::{Inflow, Read, Remote, RtpFormat, Source, video_track};

/// See the module.
pub(super) struct Receiver {
    sources: Vec<Source>,
    clock: StreamClock,
    inflow: Inflow,
    /// What all tracks are, if the description says it.
    known: Option<Vec<TrackFormat>>,
}

impl Receiver {
    /// For a stream of these tracks, which `remote` sends.
    pub(super) fn new(
        ingests: Ingests,
        stream: &str,
        remote: SocketAddr,
        tracks: &[Described],
    ) -> Self {
        let source = |track: &Described| {
            let formats = track.formats.clone();
            let own_ssrc = random() as u32;
            Source::new(formats, Remote::Learnt, None, REORDER_WAIT_US, own_ssrc)
        };
        let spec = IngestSpec {
            stream: stream.to_owned(),
            source: "rtsp",
            remote: remote.to_string(),
        };
        Self {
            sources: tracks.iter().map(source).collect(),
            clock: StreamClock::default(),
            inflow: Inflow::new(ingests, spec, tracks.len()),
            known: tracks.iter().map(known).collect(),
        }
    }

    /// Begins the stream at once if the description says enough; the error is that nobody will see it.
    pub(super) async fn begin(&mut self) -> Result<(), String> {
        for (track, format) in self.known.take().into_iter().flatten().enumerate() {
            let lanes = Read::Lanes(vec![(0, format.is_video())]);
            self.inflow.take(track, [lanes, Read::Format(0, format)]);
        }
        self.inflow.poll(clock_us()).await;
        self.refusal()
    }

    /// Takes a packet of a track.
    pub(super) fn take(&mut self, track: usize, from: SocketAddr, is_rtcp: bool, bytes: &[u8]) {
        let Some(source) = self.sources.get_mut(track) else {
            return;
        };
        let (now_us, mut reads) = (clock_us(), Vec::new());
        match is_rtcp {
            true => source.rtcp(from, bytes, &mut self.clock, now_us),
            false => source.rtp(from, bytes, now_us, &mut reads),
        }
        source.poll(&mut self.clock, now_us, &mut reads);
        self.inflow.take(track, reads);
    }

    /// What is due with time; returns what the senders of tracks are to be told (RTCP).
    pub(super) async fn tick(&mut self) -> Result<Vec<(usize, Vec<u8>)>, String> {
        let now_us = clock_us();
        let wanted = self.inflow.take_keyframe_request();
        let mut told = Vec::new();
        for (track, source) in self.sources.iter_mut().enumerate() {
            let mut reads = Vec::new();
            source.poll(&mut self.clock, now_us, &mut reads);
            self.inflow.take(track, reads);
            if wanted {
                source.want_keyframe();
            }
            let feedback = source.feedback(now_us, false);
            told.extend(feedback.map(|(packet, _)| (track, packet)));
        }
        self.inflow.poll(now_us).await;
        self.refusal()?;
        Ok(told)
    }

    /// Packets that came and that did not, of all tracks.
    pub(super) fn counts(&self) -> (u64, u64) {
        let packets = self.sources.iter().map(|source| source.packets).sum();
        let lost = self.sources.iter().map(|source| source.lost).sum();
        (packets, lost)
    }

    /// Whether the stream is there.
    pub(super) fn is_live(&self) -> bool {
        self.inflow.is_running()
    }

    /// Waits until somebody ends the stream.
    pub(super) async fn closed(&self) -> CloseReason {
        self.inflow.closed().await
    }

    /// Ends the stream.
    pub(super) async fn stop(self) {
        self.inflow.stop().await;
    }

    fn refusal(&self) -> Result<(), String> {
        self.inflow
            .error()
            .map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// What a track is, if its description says it.
fn known(track: &Described) -> Option<TrackFormat> {
    let (_, format) = track.formats.first()?;
    match format {
        RtpFormat::Video {
            codec: Codec::Vp8, ..
        } => Some(TrackFormat::Video {
            format: Format::Vp8,
            profile: CodecProfile::None,
        }),
        RtpFormat::Video {
            codec: codec @ (Codec::H264 | Codec::H265),
            parameter_sets,
        } => {
            let mut sets = Vec::new();
            for set in parameter_sets {
                let len = u32::try_from(set.len()).ok()?;
                sets.extend_from_slice(&len.to_be_bytes());
                sets.extend_from_slice(set);
            }
            video_track(*codec, &sets)
        }
        other => other.known_track(),
    }
}

fn clock_us() -> u64 {
    now_us().unsigned_abs()
}
