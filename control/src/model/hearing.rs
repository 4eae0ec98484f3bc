//! Whether a publisher's media comes in, since when, and whether viewers could begin with it.
//!
//! Part of a [`Transport`]; the event thread sets it, and whoever has to choose between two publishers
//! looks at it or waits for it to change.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::model::incoming::{Encoding, IncomingStream};
use crate::model::transport::Transport;
use crate::sdp::MediaKind;

/// What is known since when: that media comes in without a pause, or that none does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    heard: bool,
    since: Instant,
    /// Keyframes that had come until then.
    keyframes: u64,
}

/// What is heard of a publisher.
#[derive(Debug)]
pub(crate) struct Hearing(watch::Sender<Heard>);

impl Hearing {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Heard {
            heard: false,
            since: Instant::now(),
            keyframes: 0,
        }))
    }

    pub(crate) fn set(&self, heard: bool, incoming: &IncomingStream) {
        self.0.send_if_modified(|before| {
            let changed = before.heard != heard;
            if changed {
                *before = Heard {
                    heard,
                    since: Instant::now(),
                    keyframes: keyframes(incoming),
                };
            }
            changed
        });
    }

    fn now(&self) -> Heard {
        *self.0.borrow()
    }
}

impl Transport {
    /// Whether media comes in from a publisher: some packet, on whatever track, within the time after
    /// which it counts as silent.
    pub fn is_heard(&self) -> bool {
        self.0.hearing.now().heard
    }

    /// Changes when the publisher falls silent or is heard again.
    pub(crate) fn hearing(&self) -> watch::Receiver<Heard> {
        self.0.hearing.0.subscribe()
    }

    /// For how long the publisher has been heard, or silent, as it is now.
    pub(crate) fn unchanged_for(&self) -> Duration {
        self.0.hearing.now().since.elapsed()
    }

    /// Whether a keyframe has come since the publisher is heard, in all pictures it sends, and is kept
    /// for viewers to begin with if any are. Without one it is asked for.
    pub(crate) fn has_picture_ready(&self) -> bool {
        let heard = self.0.hearing.now();
        if pictures(self.incoming()).next().is_none() {
            return true;
        }
        if keyframes(self.incoming()) <= heard.keyframes {
            self.ask_for_keyframes();
            return false;
        }
        let kept = |encoding: &Encoding| encoding.counters().cached_packets.get() > 0;
        !self.0.server.keeps_keyframes() || pictures(self.incoming()).all(kept)
    }

    fn ask_for_keyframes(&self) {
        for encoding in pictures(self.incoming()) {
            // One that has just gone is not shown either.
            let _ = self
                .0
                .server
                .engine()
                .request_keyframe(encoding.rendition());
        }
    }
}

/// The encodings of pictures that come in and that viewers would get.
fn pictures(incoming: &IncomingStream) -> impl Iterator<Item = &Encoding> {
    let tracks = incoming.tracks().iter();
    let video = tracks.filter(|track| track.kind() == MediaKind::Video);
    video
        .map(|track| track.best_encoding())
        .filter(|encoding| encoding.is_active())
}

fn keyframes(incoming: &IncomingStream) -> u64 {
    let encodings = incoming.tracks().iter().flat_map(|track| track.encodings());
    encodings
        .map(|encoding| encoding.counters().keyframes.get())
        .sum()
}
