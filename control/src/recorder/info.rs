//! What a recorder tells of itself: its status when asked, and events as they happen.

use fanmill_engine::packet::codec::MediaKind;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::events::Events;
use crate::media::recording::TrackCounts;

/// Events that a slow listener may be behind.
const EVENTS_KEPT: usize = 256;

/// What its thread last said of a recorder.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    pub(super) live: bool,
    pub(super) path: Option<String>,
    pub(super) parts: u32,
    pub(super) bytes: u64,
    pub(super) queued_bytes: u64,
    pub(super) duration_us: i64,
    pub(super) fragments_dropped: u64,
    pub(super) error: Option<String>,
    pub(super) tracks: Vec<(MediaKind, TrackCounts)>,
}

/// How a recorder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecorderState {
    /// For a publisher.
    Waiting,
    /// Media goes to files.
    Recording,
    /// The last seconds are held in memory.
    Holding,
    /// It was ended: the error says why. What was recorded is there.
    Failed,
    /// It was told to.
    Stopped,
}

/// A recorder, in lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecorderInfo {
    /// Its name, in commands.
    pub id: u64,
    /// What it records.
    pub stream: String,
    /// How it stands.
    pub state: RecorderState,
    /// The file being written or written last, relative to the recordings directory.
    pub path: Option<String>,
    /// Files so far.
    pub parts: u32,
    /// Bytes on the disk; of one that holds, in memory.
    pub bytes: u64,
    /// Bytes that wait for the disk.
    pub queued_bytes: u64,
    /// What is recorded, or held, lasts.
    pub duration_ms: u64,
    /// Fragments lost because the disk was behind.
    pub fragments_dropped: u64,
    /// Why it was ended.
    pub error: Option<String>,
    /// By the rule in the configuration, not by a command.
    pub by_rule: bool,
    /// Since it was created.
    pub age_s: u64,
    /// What was counted of each track.
    pub tracks: Vec<RecordedTrack>,
}

/// A track of a recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedTrack {
    /// `audio` or `video`.
    pub kind: &'static str,
    /// Packets that came.
    pub packets: u64,
    /// Packets that did not come in time.
    pub packets_missing: u64,
    /// Packets that came after they were given up.
    pub packets_late: u64,
    /// How often video was left out until a keyframe.
    pub interruptions: u64,
    /// Samples recorded.
    pub samples: u64,
}

impl RecordedTrack {
    pub(super) fn new(kind: MediaKind, counts: TrackCounts) -> Self {
        Self {
            kind: match kind {
                MediaKind::Audio => "audio",
                MediaKind::Video => "video",
            },
            packets: counts.packets,
            packets_missing: counts.packets_missing,
            packets_late: counts.packets_late,
            interruptions: counts.interruptions,
            samples: counts.samples,
        }
    }
}

/// Something happened to a recorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecorderEvent {
    /// It was created.
    Created {
        /// The recorder.
        recorder: u64,
        /// What it records.
        stream: String,
    },
    /// Its first file is begun.
    Started {
        /// The recorder.
        recorder: u64,
        /// The file, relative to the recordings directory.
        path: String,
    },
    /// Another file is begun: the one before is closed.
    Part {
        /// The recorder.
        recorder: u64,
        /// The file, relative to the recordings directory.
        path: String,
        /// Files so far.
        part: u32,
    },
    /// The disk is behind: fragments are dropped from now on, until one fits again.
    Dropping {
        /// The recorder.
        recorder: u64,
        /// How many were, in all.
        fragments_dropped: u64,
    },
    /// What it holds was written.
    Flushed {
        /// The recorder.
        recorder: u64,
        /// The file, relative to the recordings directory.
        path: String,
        /// How long it lasts.
        duration_ms: u64,
    },
    /// It was ended by an error.
    Failed {
        /// The recorder.
        recorder: u64,
        /// Why.
        why: String,
    },
    /// It was stopped; its files are complete.
    Stopped {
        /// The recorder.
        recorder: u64,
        /// The last file, relative to the recordings directory.
        path: Option<String>,
        /// Files in all.
        parts: u32,
        /// How long they last together.
        duration_ms: u64,
        /// Fragments lost because the disk was behind.
        fragments_dropped: u64,
    },
}

impl RecorderEvent {
    /// What the server's events call it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Created { .. } => "recorder.created",
            Self::Started { .. } => "recorder.started",
            Self::Part { .. } => "recorder.part",
            Self::Dropping { .. } => "recorder.dropping",
            Self::Flushed { .. } => "recorder.flushed",
            Self::Failed { .. } => "recorder.failed",
            Self::Stopped { .. } => "recorder.stopped",
        }
    }
}

/// Tells events to whoever listens to recorders, or to the server.
#[derive(Debug, Clone)]
pub(super) struct RecorderEvents {
    listeners: broadcast::Sender<RecorderEvent>,
    server: Events,
}

impl RecorderEvents {
    pub(super) fn new(server: Events) -> Self {
        Self {
            listeners: broadcast::Sender::new(EVENTS_KEPT),
            server,
        }
    }

    pub(super) fn tell(&self, stream: &str, event: RecorderEvent) {
        self.server.emit(event.kind(), Some(stream), &event);
        // Nobody need listen.
        let _ = self.listeners.send(event);
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<RecorderEvent> {
        self.listeners.subscribe()
    }
}
