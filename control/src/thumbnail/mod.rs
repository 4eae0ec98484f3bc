//! Thumbnails: a JPEG of what a stream shows now, or of a moment of a recording.
//!
//! The pages' routes and the admin socket call [`Thumbnails`]. The keyframe of a live stream comes
//! from its frame cache by a tap (`keyframe`), that of a file from the player's demuxer; it is decoded
//! (`decode`) and shrunk (`picture`) on blocking threads, few at once. What is decoded comes from
//! anybody: sizes are bounded before decoding, and a decoder that panics costs that thumbnail only.

mod decode;
mod keyframe;
mod picture;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanmill_engine::packet::codec::Codec;
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::broadcast::Broadcast;
use crate::media::depacketize::Unit;
use crate::player::{RecordingError, Recordings, demux::DemuxError};

/// The widest, and the highest, a thumbnail is; and as wide as one is if nothing is said.
pub const MAX_WIDTH: u32 = 640;

/// The narrowest that is made.
pub const MIN_WIDTH: u32 = 16;

/// How long one is good for.
const FRESH: Duration = Duration::from_secs(1);

/// Decoded at once: the machine is for the streams.
const DECODED_AT_ONCE: usize = 2;

/// Requests at once; further ones are refused.
const MAX_REQUESTS: usize = 64;

/// Thumbnails kept.
const MAX_KEPT: usize = 256;

/// Why there is no thumbnail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThumbnailError {
    /// Nobody publishes such a stream.
    #[error("stream {0} is not live")]
    NotLive(String),
    /// There is nothing to see.
    #[error("there is no video in it")]
    NoVideo,
    /// What there is cannot be decoded here.
    #[error("there are no thumbnails of {}: of H264 and VP8 there are", .0.name())]
    Codec(Codec),
    /// Nothing to begin decoding with.
    #[error("no keyframe came within {} s; try again", keyframe::PATIENCE.as_secs())]
    NoKeyframe,
    /// The picture has more pixels than are decoded.
    #[error("a picture of {0}x{1} is too large for a thumbnail")]
    TooLarge(u32, u32),
    /// The keyframe is damaged, or uses what the decoder does not know.
    #[error("the keyframe cannot be decoded: {0}")]
    Damaged(String),
    /// The recording cannot be opened.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The recording cannot be read.
    #[error(transparent)]
    Demux(#[from] DemuxError),
    /// A size that is not made.
    #[error("a thumbnail is {MIN_WIDTH} to {MAX_WIDTH} wide, and its time a number of seconds")]
    Parameter,
    /// Too many are asked for.
    #[error("too many thumbnails are being made; try again in a second")]
    Busy,
    /// The system has no descriptor or thread left.
    #[error("cannot make a thumbnail: {0}")]
    Io(#[from] std::io::Error),
}

/// What a thumbnail is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    Stream(String),
    /// A path, and a time in microseconds.
    Recording(String, Option<i64>),
}

#[derive(Default)]
struct Slot(tokio::sync::Mutex<Option<(Instant, Bytes)>>);

struct Shared {
    broadcast: Broadcast,
    recordings: Recordings,
    kept: Mutex<HashMap<(Subject, u32), Arc<Slot>>>,
    requests: Semaphore,
    decoding: Arc<Semaphore>,
}

/// Makes thumbnails; clones share what is kept.
#[derive(Clone)]
pub struct Thumbnails(Arc<Shared>);

impl Thumbnails {
    /// Of the streams of `broadcast`, and of `recordings`.
    #[must_use]
    pub fn new(broadcast: Broadcast, recordings: Recordings) -> Self {
        Self(Arc::new(Shared {
            broadcast,
            recordings,
            kept: Mutex::default(),
            requests: Semaphore::new(MAX_REQUESTS),
            decoding: Arc::new(Semaphore::new(DECODED_AT_ONCE)),
        }))
    }

    /// Who may watch by the doors; whoever calls this itself is not asked.
    #[must_use]
    pub fn access(&self) -> &Access {
        self.0.broadcast.access()
    }

    /// A JPEG of the latest keyframe of a stream, at most `width` wide. It may be a second old.
    ///
    /// # Errors
    /// [`ThumbnailError`].
    pub async fn of_stream(&self, stream: &str, width: u32) -> Result<Bytes, ThumbnailError> {
        let subject = Subject::Stream(stream.to_owned());
        let keyframe = keyframe::of_stream(&self.0.broadcast, stream);
        self.kept_or_made(subject, width, keyframe).await
    }

    /// A JPEG of the keyframe before a time of a recording, at most `width` wide; without a time, of
    /// one some way into it.
    ///
    /// # Errors
    /// [`ThumbnailError`].
    pub async fn of_recording(
        &self,
        path: &str,
        at_s: Option<f64>,
        width: u32,
    ) -> Result<Bytes, ThumbnailError> {
        if at_s.is_some_and(|at_s| !(at_s.is_finite() && at_s >= 0.0)) {
            return Err(ThumbnailError::Parameter);
        }
        // Saturates, and the demuxer ends at the file's end.
        let at_us = at_s.map(|at_s| (at_s * 1e6) as i64);
        let subject = Subject::Recording(path.to_owned(), at_us);
        let (recordings, path) = (self.0.recordings.clone(), path.to_owned());
        let find = move || keyframe::of_recording(&recordings, &path, at_us);
        let keyframe = async { self.decoding(find).await };
        self.kept_or_made(subject, width, keyframe).await
    }

    /// One request at a time makes a thumbnail, the others get the same.
    async fn kept_or_made(
        &self,
        subject: Subject,
        width: u32,
        keyframe: impl Future<Output = Result<Unit, ThumbnailError>>,
    ) -> Result<Bytes, ThumbnailError> {
        if !(MIN_WIDTH..=MAX_WIDTH).contains(&width) {
            return Err(ThumbnailError::Parameter);
        }
        let request = self.0.requests.try_acquire();
        let _request = request.map_err(|_| ThumbnailError::Busy)?;
        let slot = self.slot((subject, width));
        let mut kept = slot.0.lock().await;
        if let Some((made, jpeg)) = &*kept
            && made.elapsed() < FRESH
        {
            return Ok(jpeg.clone());
        }
        let keyframe = keyframe.await?;
        let jpeg = self.decoding(move || jpeg_of(&keyframe, width)).await?;
        let jpeg = Bytes::from(jpeg);
        *kept = Some((Instant::now(), jpeg.clone()));
        Ok(jpeg)
    }

    /// The place of a thumbnail. Those that are old make room for others.
    fn slot(&self, of: (Subject, u32)) -> Arc<Slot> {
        let mut kept = self.kept();
        if kept.len() >= MAX_KEPT && !kept.contains_key(&of) {
            kept.retain(|_, slot| {
                let old = |slot: &Slot| match slot.0.try_lock() {
                    Ok(kept) => kept
                        .as_ref()
                        .is_none_or(|(made, _)| made.elapsed() >= FRESH),
                    Err(_) => false,
                };
                Arc::strong_count(slot) > 1 || !old(slot)
            });
            if kept.len() >= MAX_KEPT {
                // Not kept, and shared with nobody.
                return Arc::default();
            }
        }
        Arc::clone(kept.entry(of).or_default())
    }

    /// Does what takes time on a thread for that, few at once; a panic is an error.
    async fn decoding<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ThumbnailError> + Send + 'static,
    ) -> Result<T, ThumbnailError> {
        // The semaphore is never closed.
        let turn = Arc::clone(&self.0.decoding).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let done = std::panic::catch_unwind(AssertUnwindSafe(work));
            drop(turn);
            done
        });
        match done.await {
            Ok(Ok(done)) => done,
            _ => Err(ThumbnailError::Damaged("the decoder gave up".to_owned())),
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<(Subject, u32), Arc<Slot>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn jpeg_of(keyframe: &Unit, width: u32) -> Result<Vec<u8>, ThumbnailError> {
    let picture = decode::decode(keyframe)?;
    let jpeg = picture.shrink(width, MAX_WIDTH).jpeg();
    jpeg.map_err(|error| ThumbnailError::Damaged(error.to_string()))
}
