//! How shards forward: what an operator may choose about the packet path.

use crate::limits::{
    DEFAULT_MAX_CACHE_US, DEFAULT_MAX_LAG_US, DEFAULT_PAUSE_UNWATCHED_US,
    DEFAULT_PUBLISHER_SILENCE_US, DEFAULT_TRAIN_WAIT_US, MAX_AUDIO_TRAIN_WAIT_US,
    MAX_TRAIN_WAIT_US,
};

/// The same for every shard of an engine, for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarding {
    /// How long a packet of video may wait for the rest of its frame, so that both leave in one
    /// train, in microseconds from its arrival; 0: not at all. Cut to [`MAX_TRAIN_WAIT_US`]. The
    /// packet that ends the frame ends the wait, so a viewer, who can decode nothing before that
    /// packet, does not see it.
    pub train_wait_us: u64,
    /// How long a packet of audio may wait for others to its viewers, likewise; cut to
    /// [`MAX_AUDIO_TRAIN_WAIT_US`]. Viewers hear this wait.
    pub audio_train_wait_us: u64,
    /// How long packets may wait for their shard before it withholds video from some viewers to keep
    /// up, in microseconds.
    pub max_lag_us: u64,
    /// Age of the keyframe up to which viewers who join are served what came since, in
    /// microseconds; 0: they wait for the next one.
    pub max_cache_us: u64,
    /// For how long nothing may come from a publisher before it is reported as silent, in
    /// microseconds.
    pub publisher_silence_us: u64,
    /// How long nobody must have watched an encoding of simulcast before its publisher is not asked for it
    /// any more, in microseconds; 0: it is always asked for all.
    pub pause_unwatched_us: u64,
    /// Varies first sequence numbers and timestamps.
    pub seed: u64,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            train_wait_us: DEFAULT_TRAIN_WAIT_US,
            audio_train_wait_us: 0,
            max_lag_us: DEFAULT_MAX_LAG_US,
            max_cache_us: DEFAULT_MAX_CACHE_US,
            publisher_silence_us: DEFAULT_PUBLISHER_SILENCE_US,
            pause_unwatched_us: DEFAULT_PAUSE_UNWATCHED_US,
            seed: 0,
        }
    }
}

impl Forwarding {
    /// For one of several shards: each starts with other numbers.
    pub(crate) fn of_shard(self, shard: usize) -> Self {
        Self {
            seed: self.seed.wrapping_add(shard as u64),
            ..self
        }
    }

    /// The wait of a packet of video or audio.
    pub(crate) fn wait_us(&self, video: bool) -> u64 {
        if video {
            self.train_wait_us.min(MAX_TRAIN_WAIT_US)
        } else {
            self.audio_train_wait_us.min(MAX_AUDIO_TRAIN_WAIT_US)
        }
    }
}
