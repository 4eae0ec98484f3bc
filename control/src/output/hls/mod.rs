//! HLS with low latency (RFC 8216, draft-pantos-hls-rfc8216bis): a stream's pieces as parts and segments
//! in memory, and the playlists that tell of them.
//!
//! The output thread gives each piece to a [`Packager`], which publishes what is complete in a
//! [`Shelf`]; handlers read there, and wait there for what comes next. It must never hold more than
//! [`MAX_SEGMENTS`] and [`MAX_BYTES`] of a stream.

mod packager;
mod playlist;
mod shelf;

#[cfg(test)]
mod tests;

pub(super) use packager::Packager;
pub(super) use shelf::Shelf;
pub use shelf::{Asked, Content, File, HlsError};

/// No segment is longer than this. Keyframes are asked for earlier.
const TARGET_DURATION_S: i64 = 4;

/// A segment ends with the first keyframe after this.
const SEGMENT_US: i64 = 1_900_000;

/// The first one ends earlier, and without a keyframe if none comes: most players begin with nothing
/// but whole segments.
const FIRST_SEGMENT_US: (i64, i64) = (400_000, 1_200_000);

/// Most of a part. Fragments hold a tenth of a second, so that three fit, and those of pictures whose
/// rate does not divide it.
const PART_TARGET_US: i64 = 350_000;

/// Parts have at least this much, where pictures come often enough (8216bis 4.4.4.9: 85 %).
const PART_LEAST_US: i64 = 297_500;

/// Segments in a playlist: more than three target durations, whatever they last.
const LISTED_SEGMENTS: usize = 8;

/// Segments in memory: those a player may still ask for that has read an older playlist.
const MAX_SEGMENTS: usize = 14;

/// Segments whose parts are listed, beside those of the one that is being made: with it they last no
/// longer than three target durations (8216bis 4.4.4.9). Players further back take whole ones.
const SEGMENTS_WITH_PARTS: usize = 2;

/// Bytes of a stream's segments in memory. Beyond it the oldest go early.
const MAX_BYTES: usize = 96 << 20;
