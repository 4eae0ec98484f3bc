//! Finds the keyframe that a thumbnail is made of.

use std::time::Duration;

use fanmill_engine::tap::{Tap, TapItem, TapSpec};
use tokio::time::{Instant, timeout_at};

use super::ThumbnailError;
use super::decode::is_decoded;
use crate::broadcast::Broadcast;
use crate::media::depacketize::{Depacketizer, Unit};
use crate::media::packetize::{Packetizer, Payloads};
use crate::media::reorder::{Ordered, Packet, Reorder};
use crate::model::TapSignal;
use crate::player::Recordings;
use crate::player::demux::{Coding, Kind, Mp4, Source};
use crate::sdp::MediaKind;

/// How long a live stream may take to send a keyframe.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// How often it is asked for one.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How long a missing packet is waited for.
const REORDER_US: u64 = 300_000;

/// The latest keyframe of a stream: from its cache, or the next one, which is asked for. It touches no
/// shard but for the tap.
pub(super) async fn of_stream(broadcast: &Broadcast, stream: &str) -> Result<Unit, ThumbnailError> {
    let not_live = || ThumbnailError::NotLive(stream.to_owned());
    let mut follower = broadcast.follow(stream).map_err(|_| not_live())?;
    let live = follower.current().ok_or_else(not_live)?;
    let signal = TapSignal::new()?;
    let mut spec = TapSpec::new(signal.signal());
    spec.from_cache = true;
    // It may wait for the data plane.
    let made = tokio::task::spawn_blocking(move || {
        let track = live.incoming.track(MediaKind::Video, 0);
        track.map(|track| track.best_encoding().create_tap(spec))
    });
    let tap = made.await.map_err(std::io::Error::other)?;
    let tap = tap.ok_or(ThumbnailError::NoVideo)?;
    // It has just gone.
    let mut tap = tap.map_err(|_| not_live())?;
    let mut listener = Listener::default();
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(keyframe) = listener.listen(&mut tap)? {
            return Ok(keyframe);
        }
        if tap.has_ended() {
            return Err(not_live());
        }
        // What is in the cache comes without asking.
        let ask_at = (Instant::now() + ASK_EVERY).min(end);
        if timeout_at(ask_at, signal.rung()).await.is_err() || listener.waits_in_vain() {
            tap.want_keyframe();
        }
    }
    Err(ThumbnailError::NoKeyframe)
}

/// Puts the packets of a tap together.
struct Listener {
    reorder: Reorder,
    depacketizer: Depacketizer,
    packets: u64,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            reorder: Reorder::new(REORDER_US),
            depacketizer: Depacketizer::new(),
            packets: 0,
        }
    }
}

impl Listener {
    /// Takes what is there; the first keyframe that is whole.
    fn listen(&mut self, tap: &mut Tap) -> Result<Option<Unit>, ThumbnailError> {
        while let Some(item) = tap.pop() {
            let packet = match item {
                TapItem::Packet(packet) => packet,
                TapItem::Restarted => {
                    *self = Self::default();
                    continue;
                }
                _ => continue,
            };
            let codec = packet.codec().codec;
            if !is_decoded(codec) {
                return Err(ThumbnailError::Codec(codec));
            }
            self.packets += 1;
            let arrival_us = packet.arrival_us();
            self.reorder.push(Packet {
                index: packet.index(),
                timestamp: packet.timestamp(),
                marker: packet.marker(),
                codec,
                payload: packet.payload().to_vec(),
                arrival_us,
            });
            while let Some(ordered) = self.reorder.pop(arrival_us) {
                if let Some(keyframe) = self.take(&ordered) {
                    return Ok(Some(keyframe));
                }
            }
        }
        Ok(None)
    }

    fn take(&mut self, ordered: &Ordered) -> Option<Unit> {
        match ordered {
            Ordered::Gap(_) => {
                self.depacketizer.gap();
                None
            }
            Ordered::Packet(packet) => self.depacketizer.push(packet).find(|unit| unit.keyframe),
        }
    }

    /// Packets come, and nothing to begin with.
    fn waits_in_vain(&self) -> bool {
        self.packets > 0 && self.depacketizer.is_awaiting_keyframe()
    }
}

/// The keyframe of a recording that is shown at a time or before. Waits for the disk.
pub(super) fn of_recording(
    recordings: &Recordings,
    path: &str,
    at_us: Option<i64>,
) -> Result<Unit, ThumbnailError> {
    let file = recordings.open(path)?;
    let len = file.metadata()?.len();
    let mp4 = Mp4::open(Source::new(file, len))?;
    let tracks = mp4.tracks().iter();
    let mut videos = tracks
        .enumerate()
        .filter(|(_, track)| track.kind == Kind::Video);
    let (number, track) = videos.next().ok_or(ThumbnailError::NoVideo)?;
    let Coding::Direct { format, .. } = &track.coding else {
        return Err(ThumbnailError::NoVideo);
    };
    let codec = format.codec();
    if !is_decoded(codec) {
        return Err(ThumbnailError::Codec(codec));
    }
    // Recordings often begin with a black picture, or with somebody who looks for a button.
    let at_us = at_us.unwrap_or_else(|| mp4.duration_us().unwrap_or(0) / 10);
    let mut reader = mp4.reader()?;
    reader.seek(at_us)?;
    let sample = loop {
        let sample = reader.next_sample()?.ok_or(ThumbnailError::NoKeyframe)?;
        if sample.track == number && sample.is_keyframe {
            break sample;
        }
    };
    let mut bytes = Vec::new();
    reader.read(&sample, &mut bytes)?;
    // As viewers would get it: with its parameter sets.
    let mut payloads = Payloads::default();
    let damaged = |error: &dyn std::fmt::Display| ThumbnailError::Damaged(error.to_string());
    Packetizer::new(format.clone(), 0)
        .packetize(&bytes, true, &mut payloads)
        .map_err(|error| damaged(&error))?;
    let mut depacketizer = Depacketizer::new();
    let count = payloads.len();
    let units = payloads.iter().enumerate().flat_map(|(at, payload)| {
        depacketizer.push(&Packet {
            index: at as u64,
            timestamp: 0,
            marker: at + 1 == count,
            codec,
            payload: payload.to_vec(),
            arrival_us: 0,
        })
    });
    let keyframe = units.last().filter(|unit| unit.keyframe);
    keyframe.ok_or_else(|| damaged(&"it is none"))
}
