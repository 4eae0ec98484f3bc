//! The files that a player plays one after the other, opened, checked, and fit for one stream.

use fanmill_engine::packet::codec::Codec;

use super::demux::{Coding, DemuxError, Kind, Mp4, Source};
use super::recordings::{RecordingError, Recordings};
use crate::media::audio::{AudioError, AudioOptions, SoundFormat, Transcoder};

/// Files in one playlist.
pub const MAX_PLAYLIST: usize = 1000;

/// Of Opus made of a file's AAC, in stereo: transparent for most music.
const BITRATE_BPS: u32 = 128_000;

/// Why files cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// One cannot be opened.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// One is not what can be played.
    #[error("`{path}`: {source}")]
    Demux {
        /// Which.
        path: String,
        /// Why.
        source: DemuxError,
    },
    /// The sound of one cannot be transcoded.
    #[error("`{path}`: {source}")]
    Audio {
        /// Which.
        path: String,
        /// Why.
        source: AudioError,
    },
    /// Two files need streams of different kinds.
    #[error("`{path}` has {has} video and the file before it {before}: one stream has one codec")]
    Mixed {
        /// Which.
        path: String,
        /// Its codec.
        has: String,
        /// The other codec.
        before: String,
    },
    /// None, or too many.
    #[error("a playlist has 1 to {MAX_PLAYLIST} files, not {0}")]
    Count(usize),
}

/// One file of a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Path within the directory of recordings.
    pub path: String,
    /// How long it plays, if it says.
    pub duration_us: Option<i64>,
    /// What of it is not played, and why.
    pub left_out: Vec<String>,
}

/// The codec of a stream's video, as its files have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoCodec {
    /// The codec.
    pub codec: Codec,
    /// H.264: what `profile-level-id` says. H.265: profile, tier and level. Else the profile, in the
    /// first.
    pub profile: [u8; 3],
}

/// Files that can be played as one stream.
pub struct Media {
    pub(super) files: Vec<Mp4>,
    items: Vec<Item>,
    video: Option<VideoCodec>,
    has_audio: bool,
}

impl Media {
    /// Opens recordings and checks that they can be played one after the other. Reads much of what
    /// is not media in them: call it on a thread that may wait.
    ///
    /// # Errors
    /// [`MediaError`].
    pub fn open(recordings: &Recordings, paths: &[String]) -> Result<Self, MediaError> {
        if paths.is_empty() || paths.len() > MAX_PLAYLIST {
            return Err(MediaError::Count(paths.len()));
        }
        let mut media = Self {
            files: Vec::new(),
            items: Vec::new(),
            video: None,
            has_audio: false,
        };
        for path in paths {
            let file = recordings.open(path)?;
            let demux = |source: DemuxError| MediaError::Demux {
                path: path.clone(),
                source,
            };
            let len = file.metadata().map_err(|error| demux(error.into()))?.len();
            let mp4 = Mp4::open(Source::new(file, len)).map_err(demux)?;
            media.add(path, mp4)?;
        }
        Ok(media)
    }

    /// The files.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The codec of its video.
    #[must_use]
    pub fn video(&self) -> Option<VideoCodec> {
        self.video
    }

    /// Whether any of the files is heard, which is as Opus.
    #[must_use]
    pub fn has_audio(&self) -> bool {
        self.has_audio
    }

    fn add(&mut self, path: &str, mp4: Mp4) -> Result<(), MediaError> {
        for track in mp4.tracks() {
            match (&track.coding, track.kind) {
                (Coding::Direct { format, profile }, Kind::Video) => {
                    let has = VideoCodec {
                        codec: format.codec(),
                        profile: *profile,
                    };
                    let before = *self.video.get_or_insert(has);
                    if !goes_on_as(before, has) {
                        return Err(MediaError::Mixed {
                            path: path.to_owned(),
                            has: describe(has),
                            before: describe(before),
                        });
                    }
                }
                (Coding::Aac { config }, _) => {
                    self.has_audio = true;
                    sound(config).map_err(|source| MediaError::Audio {
                        path: path.to_owned(),
                        source,
                    })?;
                }
                (Coding::Direct { .. }, Kind::Audio) => self.has_audio = true,
            }
        }
        self.items.push(Item {
            path: path.to_owned(),
            duration_us: mp4.duration_us(),
            left_out: mp4.left_out().to_vec(),
        });
        self.files.push(mp4);
        Ok(())
    }
}

/// What makes Opus of the sound of a file.
pub(super) fn sound(config: &[u8]) -> Result<Transcoder, AudioError> {
    let format = SoundFormat::Aac {
        config: config.to_vec(),
    };
    let options = AudioOptions {
        opus_bitrate_bps: BITRATE_BPS,
    };
    Transcoder::new(&format, options)
}

/// Decoders take other parameter sets at a keyframe, not another profile.
fn goes_on_as(before: VideoCodec, has: VideoCodec) -> bool {
    before.codec == has.codec && before.profile[0] == has.profile[0]
}

fn describe(codec: VideoCodec) -> String {
    match codec.codec {
        Codec::Vp8 => codec.codec.name().to_owned(),
        _ => format!("{} (profile {})", codec.codec.name(), codec.profile[0]),
    }
}
