//! Streams on their way to RTSP readers: one [`Feed`] a stream, however many read it.
//!
//! A connection opens the feed of a stream, has it described and joins it. The feed's task taps the
//! publisher's tracks once, makes RTP packets once, and puts them into the bounded queue of each
//! reader: who is behind loses its place, alone. It must never wait for a reader.

mod parameter_sets;
mod task;
mod track;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::track::Track;
pub use self::track::{Out, Start};
use super::limits::{DESCRIBE_WAIT, READER_QUEUE_PACKETS};
use crate::broadcast::{Broadcast, BroadcastError};

/// Why a stream cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Its name cannot be one.
    #[error(transparent)]
    Stream(#[from] BroadcastError),
    /// Nobody publishes it.
    #[error("stream {0} has no publisher now; publish it first")]
    NotLive(String),
    /// Nothing has come of any track yet.
    #[error("stream {0} has a publisher that sends nothing yet; try again")]
    Silent(String),
    /// It ended, or became something else, in the meantime.
    #[error("stream {0} ended or changed its codec; describe it again")]
    Ended(String),
    /// A track that is not there.
    #[error("stream {0} has no such track; use the control URLs of its description")]
    UnknownTrack(String),
    /// No descriptor left.
    #[error("the server has no descriptor left for another stream: {0}")]
    System(#[from] std::io::Error),
}

/// The feeds of all streams that are read; clones share them.
#[derive(Clone)]
pub struct Feeds(Arc<FeedsInner>);

struct FeedsInner {
    broadcast: Broadcast,
    feeds: Mutex<HashMap<String, Weak<Feed>>>,
    dropped: Arc<AtomicU64>,
    linger: Duration,
}

/// One stream for its readers. The task ends with the last of them.
pub struct Feed {
    shared: Arc<Shared>,
    _task: DropGuard,
}

/// What a feed and its task share.
struct Shared {
    stream: String,
    cname: String,
    state: Mutex<State>,
    /// Counts what may interest somebody who waits for a description.
    changes: watch::Sender<u64>,
    keyframe_wanted: AtomicBool,
    /// Readers that were too slow, of all feeds.
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    tracks: Vec<Track>,
    readers: Vec<Slot>,
    /// The wall clock at the timeline's zero.
    wall_us: Option<i64>,
    ended: bool,
}

/// A reader as its feed sees it.
struct Slot {
    /// Its tracks, a bit each.
    tracks: u64,
    queue: mpsc::Sender<Out>,
    too_slow: CancellationToken,
}

/// A reader's end. Dropping it ends it.
pub struct Reader {
    /// What is sent first, in one go.
    pub burst: Vec<Out>,
    /// Where each of its tracks begins.
    pub starts: Vec<Start>,
    /// What comes after that. It ends with the stream.
    pub queue: mpsc::Receiver<Out>,
    /// Cancelled when the reader was behind: nothing comes any more.
    pub too_slow: CancellationToken,
}

impl Feeds {
    /// The streams of `broadcast`; readers of one without a publisher wait for the next so long.
    #[must_use]
    pub fn new(broadcast: Broadcast, linger: Duration) -> Self {
        Self(Arc::new(FeedsInner {
            broadcast,
            feeds: Mutex::default(),
            dropped: Arc::default(),
            linger,
        }))
    }

    /// The feed of a stream, the one that others read if there are any. Call it inside the runtime
    /// that is to do the work.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn open(&self, stream: &str) -> Result<Arc<Feed>, FeedError> {
        let mut feeds = lock(&self.0.feeds);
        let present = feeds.get(stream).and_then(Weak::upgrade);
        if let Some(feed) = present.filter(|feed| !feed.has_ended()) {
            return Ok(feed);
        }
        let mut follower = self.0.broadcast.follow(stream)?;
        let Some(live) = follower.current() else {
            return Err(FeedError::NotLive(stream.to_owned()));
        };
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            stream: stream.to_owned(),
            cname: format!("fanmill-{stream}"),
            state: Mutex::default(),
            changes: watch::Sender::default(),
            keyframe_wanted: AtomicBool::new(false),
            dropped: Arc::clone(&self.0.dropped),
        });
        task::spawn(&shared, follower, live, self.0.linger, stop.clone())?;
        let feed = Arc::new(Feed {
            shared,
            _task: stop.drop_guard(),
        });
        feeds.retain(|_, feed| feed.strong_count() > 0);
        feeds.insert(stream.to_owned(), Arc::downgrade(&feed));
        Ok(feed)
    }

    /// Readers that lost their place because they were behind.
    #[must_use]
    pub fn readers_dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Feed {
    /// The stream's name.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.shared.stream
    }

    fn has_ended(&self) -> bool {
        lock(&self.shared.state).ended
    }

    /// The media descriptions of the tracks, by their places; waits a moment for those of which
    /// nothing is known yet, and leaves out those of which nothing comes.
    ///
    /// # Errors
    /// [`FeedError::Silent`], [`FeedError::Ended`].
    pub async fn description(&self) -> Result<String, FeedError> {
        let mut changes = self.shared.changes.subscribe();
        let complete = async {
            loop {
                changes.borrow_and_update();
                {
                    let state = lock(&self.shared.state);
                    let described = state.tracks.iter().all(Track::is_described);
                    if state.ended || (described && !state.tracks.is_empty()) {
                        return;
                    }
                }
                self.want_keyframe();
                // The sender is ours.
                let _ = changes.changed().await;
            }
        };
        // What is known by then is what there is.
        let _ = tokio::time::timeout(DESCRIBE_WAIT, complete).await;
        let state = lock(&self.shared.state);
        if state.ended {
            return Err(FeedError::Ended(self.stream().to_owned()));
        }
        let media: String = state
            .tracks
            .iter()
            .filter_map(Track::media_description)
            .collect();
        if media.is_empty() {
            return Err(FeedError::Silent(self.stream().to_owned()));
        }
        Ok(media)
    }

    /// Whether there is a track in this place.
    #[must_use]
    pub fn has_track(&self, place: usize) -> bool {
        lock(&self.shared.state).tracks.len() > place
    }

    /// Begins to read these tracks: with the latest keyframe, and all that came since.
    ///
    /// # Errors
    /// [`FeedError::Ended`], [`FeedError::UnknownTrack`].
    pub fn join(&self, places: &[usize]) -> Result<Reader, FeedError> {
        let mut state = lock(&self.shared.state);
        if state.ended {
            return Err(FeedError::Ended(self.stream().to_owned()));
        }
        let wall_us = state.wall_us.unwrap_or(0);
        let (mut burst, mut tracks, mut begins_us) = (Vec::new(), 0, None);
        for &place in places {
            let track = state.tracks.get(place);
            let track = track.ok_or_else(|| FeedError::UnknownTrack(self.stream().to_owned()))?;
            tracks |= 1 << place;
            // First of all, so that the clocks are known with the first packet.
            burst.extend(track.report(wall_us, &self.shared.cname));
            begins_us = begins_us.into_iter().chain(track.burst_begins_us()).min();
            if track.lacks_keyframe() {
                self.want_keyframe();
            }
        }
        let here = || places.iter().filter_map(|&place| state.tracks.get(place));
        here().for_each(|track| track.burst(&mut burst));
        let latest_us = here().filter_map(Track::now_us).max();
        let moment_us = begins_us.or(latest_us).unwrap_or(0);
        let starts = here().filter_map(|track| track.start(moment_us)).collect();
        let (sender, queue) = mpsc::channel(READER_QUEUE_PACKETS);
        let too_slow = CancellationToken::new();
        state.readers.push(Slot {
            tracks,
            queue: sender,
            too_slow: too_slow.clone(),
        });
        Ok(Reader {
            burst,
            starts,
            queue,
            too_slow,
        })
    }

    fn want_keyframe(&self) {
        self.shared.keyframe_wanted.store(true, Ordering::Relaxed);
    }
}

impl State {
    /// Hands packets to all readers that want them.
    fn deliver(&mut self, packets: &[Out], dropped: &AtomicU64) {
        if packets.is_empty() {
            return;
        }
        self.readers.retain(|reader| {
            let wanted = packets
                .iter()
                .filter(|packet| reader.tracks & 1 << packet.track != 0);
            for packet in wanted {
                match reader.queue.try_send(packet.clone()) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        dropped.fetch_add(1, Ordering::Relaxed);
                        reader.too_slow.cancel();
                        return false;
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => return false,
                }
            }
            true
        });
    }

    fn end(&mut self, dropped: &AtomicU64) {
        self.ended = true;
        let goodbyes: Vec<Out> = self.tracks.iter().filter_map(Track::goodbye).collect();
        self.deliver(&goodbyes, dropped);
        self.readers.clear();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
