//! Those who read a stream over a connection that lasts: a bounded queue of shared pieces each.
//!
//! The output thread fills the queues and never waits for one; a handler empties its own. Whoever takes
//! too little is dropped alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

use super::OutputKind;
use super::remux::{Begin, Piece};

/// What waits for a reader at most: some six seconds, at two for each fragment. All readers share it but
/// for some hundred bytes.
const QUEUE_LEN: usize = 128;

/// What was counted of the readers of one kind.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) readers: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// What both ends of a reader's queue see.
#[derive(Debug)]
struct State {
    kind: OutputKind,
    counts: Arc<Counts>,
    dropped: AtomicBool,
    /// Whose end closes the connection, though nothing can be written to it.
    connection: Mutex<Option<DropGuard>>,
}

/// The output thread's end.
#[derive(Debug)]
pub(super) struct Feed {
    queue: mpsc::Sender<Bytes>,
    state: Arc<State>,
    /// Told once how the reading begins.
    begun: Option<oneshot::Sender<Result<(), String>>>,
    /// The number of its latest fragment.
    sequence_number: u32,
    /// When it began to read, in each track's ticks.
    began: Vec<u64>,
}

/// The reader's end: the bytes of one who reads. Dropping it ends the reading.
#[derive(Debug)]
pub struct Reader {
    queue: mpsc::Receiver<Bytes>,
    state: Arc<State>,
    begins: Option<oneshot::Receiver<Result<(), String>>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.state.counts.readers.fetch_sub(1, Ordering::Relaxed);
        self.state.connection().take();
    }
}

/// A reader was too slow and was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader took less than the stream has, and was dropped")]
pub struct TooSlow;

/// Both ends of a reader's queue.
pub(super) fn connect(kind: OutputKind, counts: &Arc<Counts>) -> (Feed, Reader) {
    let (sender, queue) = mpsc::channel(QUEUE_LEN);
    let (begun, begins) = oneshot::channel();
    counts.readers.fetch_add(1, Ordering::Relaxed);
    let state = Arc::new(State {
        kind,
        counts: Arc::clone(counts),
        dropped: AtomicBool::new(false),
        connection: Mutex::default(),
    });
    let feed = Feed {
        queue: sender,
        state: Arc::clone(&state),
        begun: Some(begun),
        sequence_number: 0,
        began: Vec::new(),
    };
    let reader = Reader {
        queue,
        state,
        begins: Some(begins),
    };
    (feed, reader)
}

impl Feed {
    pub(super) fn kind(&self) -> OutputKind {
        self.state.kind
    }

    /// Whether it was given its first piece.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_none()
    }

    /// Its first pieces follow.
    pub(super) fn begin(&mut self) {
        if let Some(begun) = self.begun.take() {
            // Who does not wait for it any more is gone, which the queue tells.
            let _ = begun.send(Ok(()));
        }
    }

    /// It cannot be given this stream.
    pub(super) fn refuse(&mut self, why: &str) {
        if let Some(begun) = self.begun.take() {
            let _ = begun.send(Err(why.to_owned()));
        }
    }

    /// Whether the reader is there no more.
    pub(super) fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    /// Gives it a fragment, the first one behind the head; `false`: it is gone, or was dropped.
    pub(super) fn give_fragment(&mut self, begin: &Begin, piece: &Piece) -> bool {
        if !self.has_begun() {
            self.begin();
            let first_us = piece.first_us(begin).max(0).unsigned_abs();
            let ticks = |timescale: u32| {
                let ticks = u128::from(first_us) * u128::from(timescale) / 1_000_000;
                u64::try_from(ticks).unwrap_or(u64::MAX)
            };
            let tracks = begin.head.tracks.iter();
            self.began = tracks.map(|track| ticks(track.timescale.get())).collect();
            if !self.give(&begin.bytes) {
                return false;
            }
        }
        self.sequence_number = self.sequence_number.wrapping_add(1);
        let runs = piece.fragment.runs.iter();
        let began = runs.map(|(track, _)| self.began.get(*track).copied().unwrap_or(0));
        let fields = &piece.fields;
        let moof = fields.moof(&piece.bytes, self.sequence_number, began);
        self.give(&moof) && self.give(&piece.bytes.slice(fields.moof_len..))
    }

    /// Gives it bytes; `false`: it is gone, or was dropped.
    pub(super) fn give(&self, bytes: &Bytes) -> bool {
        match self.queue.try_send(bytes.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.state.dropped.store(true, Ordering::Release);
                self.state.counts.dropped.fetch_add(1, Ordering::Relaxed);
                self.state.connection().take();
                false
            }
        }
    }
}

impl State {
    fn connection(&self) -> std::sync::MutexGuard<'_, Option<DropGuard>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// Waits until there is something to read; `Err` says why there never will be.
    pub(super) async fn begins(&mut self) -> Result<(), Option<String>> {
        match &mut self.begins {
            Some(begins) => match begins.await {
                Ok(begun) => {
                    self.begins = None;
                    begun.map_err(Some)
                }
                Err(_) => Err(None),
            },
            None => Ok(()),
        }
    }

    /// Ends `connection` when the reader is dropped for being slow, and at the latest with the reader.
    pub fn hold(&self, connection: DropGuard) {
        *self.state.connection() = Some(connection);
    }

    /// The next bytes; `None`: the stream has ended.
    ///
    /// # Errors
    /// [`TooSlow`].
    pub async fn next(&mut self) -> Option<Result<Bytes, TooSlow>> {
        if self.state.dropped.load(Ordering::Acquire) {
            return Some(Err(TooSlow));
        }
        let bytes = self.queue.recv().await;
        if bytes.is_none() && self.state.dropped.load(Ordering::Acquire) {
            return Some(Err(TooSlow));
        }
        let bytes = bytes?;
        let len = bytes.len() as u64;
        self.state.counts.bytes.fetch_add(len, Ordering::Relaxed);
        Some(Ok(bytes))
    }
}
