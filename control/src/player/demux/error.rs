//! Why a file is not played.

use std::io;

/// Why a file is refused, or cannot be played on. All are final for this file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemuxError {
    /// The system cannot read it.
    #[error("the file cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It ends too early.
    #[error("the file is cut: it ends at byte {at}, in the middle of what it announces")]
    Cut {
        /// Where.
        at: u64,
    },
    /// It is no MP4.
    #[error("this is no MP4 file: it has no `moov` box (a recording that was never finished?)")]
    NotMp4,
    /// A box contradicts itself or others.
    #[error("the file is damaged: {what} (box `{name}` at byte {at})")]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// The box.
        name: String,
        /// Where it begins.
        at: u64,
    },
    /// It asks for more than a file of its kind can need.
    #[error("the file is refused: {what} of {value} exceeds {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much it says.
        value: u64,
        /// How much is taken.
        limit: u64,
    },
    /// Frames are shown in another order than they are decoded in.
    #[error(
        "the video has B-frames, which WebRTC cannot show: encode it without \
         (ffmpeg: -bf 0; OBS: Max B-frames 0, or profile baseline)"
    )]
    ReorderedFrames,
    /// It has sound or pictures only in formats that are not played.
    #[error("nothing in the file can be played: {0}")]
    NothingToPlay(String),
    /// A feature of the format that is not supported.
    #[error("the file is not supported: {0}")]
    Unsupported(String),
}

impl DemuxError {
    pub(super) fn damaged(what: &'static str, name: [u8; 4], at: u64) -> Self {
        Self::Damaged {
            what,
            name: name.escape_ascii().to_string(),
            at,
        }
    }
}
