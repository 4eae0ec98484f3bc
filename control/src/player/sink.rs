//! A player's packets into a stream that this process produces.

use fanmill_engine::packet::codec::Codec;
use fanmill_engine::producer::{ProduceError, ProducedPacket};
use tokio::runtime::Handle;

use super::demux::Kind;
use super::pacer::{Outgoing, Sink, SinkClosed};
use super::{Beginning, Media, Player, PlayerError, PlayerOptions, VideoCodec};
use crate::clock::{NtpClock, random_u32};
use crate::model::{MediaServer, ProducedStream, ProducedTrack, Producer};
use crate::sdp::{ProfileLevelId, ProfileTierLevel};

/// What lists show as the source of the stream.
const SOURCE: &str = "player";

/// Payload types towards the engine, which viewers do not see.
const VIDEO_PAYLOAD_TYPE: u8 = 96;
const AUDIO_PAYLOAD_TYPE: u8 = 97;

impl MediaServer {
    /// Makes a player and the stream it plays into, which lives as long as the player. Call it
    /// inside the runtime.
    ///
    /// # Errors
    /// [`PlayerError`].
    pub fn create_player(
        &self,
        media: Media,
        options: PlayerOptions,
    ) -> Result<(ProducedStream, Player), PlayerError> {
        let mut tracks = Vec::new();
        let mut slots = [None, None];
        if let Some(video) = media.video() {
            slots[0] = Some(tracks.len());
            tracks.push(video_track(video)?);
        }
        if media.has_audio() {
            slots[1] = Some(tracks.len());
            tracks.push(ProducedTrack::opus(AUDIO_PAYLOAD_TYPE));
        }
        let (stream, producer) = self.create_incoming_stream(SOURCE, tracks, None)?;
        let sink = ProducerSink {
            producer: Some(producer),
            runtime: Handle::current(),
            slots,
            ssrcs: [random_u32(), random_u32()],
            ntp: NtpClock::new(),
        };
        let numbers = [
            (random_u32() as u16, random_u32()),
            (random_u32() as u16, random_u32()),
        ];
        let beginning = Beginning {
            numbers,
            picture_id: random_u32() as u16,
        };
        let player = Player::start(media, Box::new(sink), options, beginning);
        Ok((stream, player.map_err(PlayerError::Threads)?))
    }
}

fn video_track(video: VideoCodec) -> Result<ProducedTrack, PlayerError> {
    let [first, ..] = video.profile;
    match video.codec {
        Codec::Vp8 => Ok(ProducedTrack::vp8(VIDEO_PAYLOAD_TYPE)),
        Codec::Vp9 if matches!(first, 0 | 2) => Ok(ProducedTrack::vp9(VIDEO_PAYLOAD_TYPE, first)),
        Codec::Av1 if first <= 2 => Ok(ProducedTrack::av1(VIDEO_PAYLOAD_TYPE, first)),
        Codec::H264 => {
            let id = ProfileLevelId(video.profile);
            Ok(ProducedTrack::h264(VIDEO_PAYLOAD_TYPE, id, 1))
        }
        Codec::H265 => {
            let [profile_id, tier_flag, level_id] = video.profile;
            let profile = ProfileTierLevel {
                profile_id,
                is_high_tier: tier_flag == 1,
                level_id,
            };
            Ok(ProducedTrack::h265(VIDEO_PAYLOAD_TYPE, profile))
        }
        codec => Err(PlayerError::NotCarried(format!(
            "{} of profile {first}",
            codec.name()
        ))),
    }
}

struct ProducerSink {
    /// Until it is dropped.
    producer: Option<Producer>,
    runtime: Handle,
    /// Place in the stream's tracks of video and of sound.
    slots: [Option<usize>; 2],
    ssrcs: [u32; 2],
    ntp: NtpClock,
}

fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Video => 0,
        Kind::Audio => 1,
    }
}

impl Sink for ProducerSink {
    fn send(&mut self, packet: &Outgoing<'_>) -> Result<(), SinkClosed> {
        let slot = slot(packet.kind);
        let (Some(producer), Some(track)) = (&mut self.producer, self.slots[slot]) else {
            return Ok(());
        };
        let payload_type = match packet.kind {
            Kind::Video => VIDEO_PAYLOAD_TYPE,
            Kind::Audio => AUDIO_PAYLOAD_TYPE,
        };
        let sent = producer.send(
            track,
            &ProducedPacket {
                ssrc: self.ssrcs[slot],
                payload_type,
                sequence_number: packet.sequence_number,
                timestamp: packet.timestamp,
                marker: packet.marker,
                payload: packet.payload,
            },
        );
        match sent {
            Err(ProduceError::Closed) => Err(SinkClosed),
            // A shard that cannot keep up drops packets of every publisher, and counts them.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn set_clock(&mut self, kind: Kind, at_us: i64, timestamp: u32) {
        let (Some(producer), Some(track)) = (&mut self.producer, self.slots[slot(kind)]) else {
            return;
        };
        // Lost, it is said again in a second.
        let _ = producer.set_clock(track, self.ntp.ntp(at_us), timestamp);
    }

    fn take_keyframe_request(&mut self) -> bool {
        match (&self.producer, self.slots[0]) {
            (Some(producer), Some(track)) => producer.take_keyframe_request(track),
            _ => false,
        }
    }

    fn is_closed(&self) -> bool {
        self.producer.as_ref().is_none_or(Producer::is_closed)
    }
}

impl Drop for ProducerSink {
    fn drop(&mut self) {
        // The end of a stream waits for the data plane, which the pacing thread must not.
        if let Some(producer) = self.producer.take() {
            self.runtime.spawn_blocking(move || drop(producer));
        }
    }
}
