//! What a client publishes, from tags to an ingest: waits for the configurations of both pictures and
//! sound, then begins the stream.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::amf0::Value;
use super::chunk::{Message, kind};
use super::flv::{self, AudioCodec, AudioTag, CutTag, VideoCodec, VideoTag};
use crate::ingest::{Ingest, IngestClosed, IngestError, IngestSpec, Ingests, TrackFormat, Unit};
use crate::media::audio::{AudioError, SoundFormat};
use crate::media::configuration;
use crate::media::packetize::Format;
use crate::sdp::{CodecProfile, ProfileLevelId, ProfileTierLevel};

/// How long the stream waits for the other of pictures and sound, if nothing says that there is one.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What is held meanwhile; more begins the stream, too.
const MAX_HELD_UNITS: usize = 300;
const MAX_HELD_BYTES: usize = 8 << 20;

const SOUND_LEFT_OUT: &str = "the sound began after the stream had; it is left out. Connect again \
    with both";

/// Why a client cannot publish on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The stream was not begun.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// Viewers cannot be sent the pictures.
    #[error(
        "this server does not send {0} to viewers: encode H.264 (ffmpeg: -c:v libx264 -bf 0 \
         -pix_fmt yuv420p)"
    )]
    Video(String),
    /// A configuration is damaged.
    #[error("the configuration of {0} is damaged")]
    Configuration(&'static str),
    /// A tag is cut.
    #[error(transparent)]
    Tag(#[from] CutTag),
    /// The stream was ended.
    #[error(transparent)]
    Closed(#[from] IngestClosed),
    /// The server is ending.
    #[error("the server is ending")]
    Ending,
}

/// A unit before the tracks are known.
struct Held {
    is_video: bool,
    unit: Unit,
}

/// Times of 32 bits, going on.
#[derive(Debug, Default)]
struct Clock(Option<(u32, i64)>);

impl Clock {
    fn ms(&mut self, timestamp: u32) -> i64 {
        let ms = match self.0 {
            Some((last, ms)) => ms + i64::from(timestamp.wrapping_sub(last).cast_signed()),
            None => i64::from(timestamp),
        };
        self.0 = Some((timestamp, ms));
        ms
    }
}

/// See the module.
pub(super) struct Publisher {
    ingests: Ingests,
    spec: IngestSpec,
    clock: Clock,
    video: Option<TrackFormat>,
    video_codec: Option<VideoCodec>,
    audio: Option<TrackFormat>,
    /// Whether there are pictures and sound, as the metadata says.
    announced: Option<(bool, bool)>,
    /// Sound that cannot be carried, and why.
    deaf: Option<String>,
    held: Vec<Held>,
    held_bytes: usize,
    since: Option<Instant>,
    ingest: Option<Ingest>,
}

impl Publisher {
    pub(super) fn new(ingests: Ingests, spec: IngestSpec) -> Self {
        Self {
            ingests,
            spec,
            clock: Clock::default(),
            video: None,
            video_codec: None,
            audio: None,
            announced: None,
            deaf: None,
            held: Vec::new(),
            held_bytes: 0,
            since: None,
            ingest: None,
        }
    }

    /// The ingest, once it has begun.
    pub(super) fn ingest(&self) -> Option<&Ingest> {
        self.ingest.as_ref()
    }

    /// What the client says of its stream.
    pub(super) fn metadata(&mut self, about: &Value) {
        let has = |name| about.get(name).is_some();
        let announced = (has("videocodecid"), has("audiocodecid"));
        if announced != (false, false) {
            self.announced = Some(announced);
        }
    }

    /// Takes a message of pictures or sound.
    pub(super) fn take(&mut self, message: Message) -> Result<(), PublishError> {
        let ms = self.clock.ms(message.timestamp);
        match message.kind {
            kind::VIDEO => self.video(ms, message.payload),
            _ => self.audio(ms, message.payload),
        }
    }

    /// Begins a stream that has waited long enough.
    pub(super) async fn begin_if_due(&mut self) -> Result<(), PublishError> {
        if self.ingest.is_none() && self.is_due() {
            self.begin().await?;
        }
        Ok(())
    }

    fn video(&mut self, ms: i64, tag: Bytes) -> Result<(), PublishError> {
        match flv::video(tag)? {
            VideoTag::Configuration(codec, configuration) => {
                self.video_codec = Some(codec);
                let format = video_format(codec, &configuration)?;
                self.configure(format)
            }
            VideoTag::Frame {
                codec,
                is_keyframe,
                composition_ms,
                data,
            } => {
                // VP8 and VP9 can do without.
                if self.video_codec != Some(codec) {
                    if matches!(codec, VideoCodec::Vp8 | VideoCodec::Vp9) {
                        self.video_codec = Some(codec);
                        self.configure(video_format(codec, &[])?)?;
                    } else {
                        return Ok(());
                    }
                }
                let dts_us = ms * 1000;
                self.push(
                    true,
                    Unit {
                        track: 0,
                        pts_us: dts_us + i64::from(composition_ms) * 1000,
                        dts_us,
                        is_keyframe,
                        data,
                    },
                )
            }
            VideoTag::Nothing => Ok(()),
            VideoTag::Unknown(name) => Err(PublishError::Video(name)),
        }
    }

    fn audio(&mut self, ms: i64, tag: Bytes) -> Result<(), PublishError> {
        let (codec, data) = match flv::audio(tag)? {
            AudioTag::Configuration(codec, configuration) => {
                return match audio_format(codec, &configuration) {
                    Ok(format) => self.configure(format),
                    Err(why) => {
                        self.be_deaf(why);
                        Ok(())
                    }
                };
            }
            AudioTag::Frame(codec, data) => (codec, data),
            AudioTag::Nothing => return Ok(()),
            AudioTag::Unknown(name) => {
                self.be_deaf(format!(
                    "the sound is {name}, which is not carried (ffmpeg: -c:a aac)"
                ));
                return Ok(());
            }
        };
        if self.audio.is_none() && self.deaf.is_none() {
            match codec {
                AudioCodec::Pcmu => self.configure(TrackFormat::Pcmu)?,
                AudioCodec::Pcma => self.configure(TrackFormat::Pcma)?,
                AudioCodec::Opus => self.configure(TrackFormat::Opus { channels: 2 })?,
                // Nothing can be made of AAC without its configuration.
                AudioCodec::Aac => return Ok(()),
            }
        }
        let us = ms * 1000;
        self.push(
            false,
            Unit {
                track: 0,
                pts_us: us,
                dts_us: us,
                is_keyframe: true,
                data,
            },
        )
    }

    /// Goes on without sound.
    fn be_deaf(&mut self, why: String) {
        if let Some(ingest) = &self.ingest {
            ingest.warn(&why);
        }
        self.deaf.get_or_insert(why);
    }

    /// Takes note of a track's format, now or anew.
    fn configure(&mut self, format: TrackFormat) -> Result<(), PublishError> {
        let is_video = format.is_video();
        if let Some(ingest) = &self.ingest {
            match self.track(is_video) {
                Some(track) => ingest.set_format(track, format)?,
                None => ingest.warn(SOUND_LEFT_OUT),
            }
            return Ok(());
        }
        match is_video {
            true => self.video = Some(format),
            false => self.audio = Some(format),
        }
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Where pictures or sound are among the ingest's tracks.
    fn track(&self, is_video: bool) -> Option<usize> {
        match is_video {
            true => self.video.as_ref().map(|_| 0),
            false => {
                let audio = self.audio.as_ref();
                audio.map(|_| usize::from(self.video.is_some()))
            }
        }
    }

    fn push(&mut self, is_video: bool, mut unit: Unit) -> Result<(), PublishError> {
        if let Some(ingest) = &self.ingest {
            if let Some(track) = self.track(is_video) {
                unit.track = track;
                ingest.push(unit)?;
            }
            return Ok(());
        }
        self.since.get_or_insert_with(Instant::now);
        self.held_bytes += unit.data.len();
        self.held.push(Held { is_video, unit });
        Ok(())
    }

    /// Whether the stream begins now.
    fn is_due(&self) -> bool {
        let (video, audio) = (self.video.is_some(), self.audio.is_some());
        let hears = audio || self.deaf.is_some();
        let is_complete = match self.announced {
            Some((sees, listens)) => (video || !sees) && (hears || !listens),
            None => video && hears,
        };
        let is_late = self.held.len() >= MAX_HELD_UNITS
            || self.held_bytes >= MAX_HELD_BYTES
            || self.since.is_some_and(|since| since.elapsed() >= PATIENCE);
        (video || audio) && (is_complete || is_late)
    }

    async fn begin(&mut self) -> Result<(), PublishError> {
        let formats = [self.video.clone(), self.audio.clone()];
        let formats = formats.into_iter().flatten().collect();
        let (ingests, spec) = (self.ingests.clone(), self.spec.clone());
        let start = tokio::task::spawn_blocking(move || ingests.start(spec, formats));
        let ingest = start.await.map_err(|_| PublishError::Ending)??;
        if let Some(why) = &self.deaf {
            ingest.warn(why);
        }
        self.ingest = Some(ingest);
        self.held_bytes = 0;
        for held in std::mem::take(&mut self.held) {
            self.push(held.is_video, held.unit)?;
        }
        Ok(())
    }
}

fn video_format(codec: VideoCodec, configuration: &[u8]) -> Result<TrackFormat, PublishError> {
    let damaged = |what| move || PublishError::Configuration(what);
    let (format, profile) = match codec {
        VideoCodec::H264 => {
            let (format, profile) =
                configuration::h264(configuration).ok_or_else(damaged("H.264"))?;
            let profile = CodecProfile::H264 {
                profile_level_id: ProfileLevelId(profile),
                packetization_mode: 1,
            };
            (format, profile)
        }
        VideoCodec::H265 => {
            let (format, [profile_id, tier, level_id]) =
                configuration::h265(configuration).ok_or_else(damaged("H.265"))?;
            let profile = CodecProfile::H265(ProfileTierLevel {
                profile_id,
                is_high_tier: tier == 1,
                level_id,
            });
            (format, profile)
        }
        VideoCodec::Av1 => {
            let (format, profile) = configuration::av1(configuration).ok_or_else(damaged("AV1"))?;
            (format, CodecProfile::Av1 { profile })
        }
        VideoCodec::Vp9 => {
            let profile_id = configuration::vp9(configuration);
            (Format::Vp9, CodecProfile::Vp9 { profile_id })
        }
        VideoCodec::Vp8 => (Format::Vp8, CodecProfile::None),
    };
    Ok(TrackFormat::Video { format, profile })
}

/// The format, or why it cannot be carried.
fn audio_format(codec: AudioCodec, configuration: &[u8]) -> Result<TrackFormat, String> {
    match codec {
        AudioCodec::Aac => {
            let config = configuration.to_vec();
            let format = SoundFormat::Aac {
                config: config.clone(),
            };
            format
                .check()
                .map_err(|error: AudioError| error.to_string())?;
            Ok(TrackFormat::Aac { config })
        }
        AudioCodec::Opus => {
            // RFC 7845 5.1: the channels are after the name and the version.
            let channels = configuration.get(9).copied().unwrap_or(2);
            match channels {
                0..=2 => Ok(TrackFormat::Opus { channels }),
                many => Err(format!(
                    "the sound is Opus of {many} channels, WebRTC's has two at most (ffmpeg: -ac 2)"
                )),
            }
        }
        AudioCodec::Pcmu => Ok(TrackFormat::Pcmu),
        AudioCodec::Pcma => Ok(TrackFormat::Pcma),
    }
}
