//! Outputs in reports: what the admin socket shows.

use std::sync::atomic::Ordering;

use serde::Serialize;

use super::reader::Counts;
use super::{OutputKind, Sound};

/// How a stream is read in one way.
#[derive(Debug, Clone, Serialize)]
pub struct OutputInfo {
    /// The stream's name.
    pub stream: String,
    /// As what.
    pub kind: OutputKind,
    /// With which sound.
    pub audio: Sound,
    /// Who reads now.
    pub readers: u64,
    /// Bytes given to all readers.
    pub bytes: u64,
    /// Readers that were dropped because they took too little.
    pub dropped: u64,
}

pub(super) fn info(stream: &str, kind: OutputKind, audio: Sound, counts: &Counts) -> OutputInfo {
    OutputInfo {
        stream: stream.to_owned(),
        kind,
        audio,
        readers: counts.readers.load(Ordering::Relaxed),
        bytes: counts.bytes.load(Ordering::Relaxed),
        dropped: counts.dropped.load(Ordering::Relaxed),
    }
}
