//! Outputs in reports: what the admin socket shows.

use std::sync::atomic::Ordering;

use serde::Serialize;

use super::OutputKind;
use super::reader::Counts;

/// How a stream is read in one way.
#[derive(Debug, Clone, Serialize)]
pub struct OutputInfo {
    /// The stream's name.
    pub stream: String,
    /// As what.
    pub kind: OutputKind,
    /// Who reads now.
    pub readers: u64,
    /// Bytes given to all readers.
    pub bytes: u64,
    /// Readers that were dropped because they took too little.
    pub dropped: u64,
}

pub(super) fn info(stream: &str, kind: OutputKind, counts: &Counts) -> OutputInfo {
    OutputInfo {
        stream: stream.to_owned(),
        kind,
        readers: counts.readers.load(Ordering::Relaxed),
        bytes: counts.bytes.load(Ordering::Relaxed),
        dropped: counts.dropped.load(Ordering::Relaxed),
    }
}
