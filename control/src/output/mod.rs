//! Streams for everything that is no WebRTC client: as files without an end, over connections that
//! others (HTTP) make.
//!
//! [`Outputs`] has one remuxer for each stream that somebody reads, from the first reader until some
//! seconds after the last one. Packets come from taps to the output threads (`worker`), which make
//! fragments of them once (`remux`), however many read them (`reader`). No reader can delay another one,
//! nor the stream: whoever is too slow is dropped.

mod hls;
mod info;
mod past;
mod reader;
mod rebase;
mod remux;
mod sound;
mod ts;
mod worker;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::broadcast::{Broadcast, BroadcastError, Follower, Live};
use crate::media::audio::{AudioError, HAS_AAC_ENCODER};
use crate::taps::{Source, tap_sources_from_cache};

pub use hls::{Asked, Content, File, HlsError};
pub use info::OutputInfo;
pub use reader::{Reader, TooSlow};
pub use sound::Sound;
pub(crate) use sound::format as sound_format;

use hls::Shelf;
use reader::Counts;
use worker::{Command, Running, Workers};

/// Streams that are read at once.
pub const MAX_OUTPUTS: usize = 4096;

/// Readers of one stream over connections that last.
pub const MAX_READERS: u64 = 10_000;

/// A stream without readers is remuxed for so long: they may return.
const LINGER: Duration = Duration::from_secs(10);

/// HLS is not made any more when it was not asked for this long: three target durations, and more.
const HLS_LINGER: Duration = Duration::from_secs(20);

/// Who has asked for a playlist within this time reads HLS.
const HLS_READS: Duration = Duration::from_secs(10);

/// Requests for what is not there yet that wait at once: half of the connections there may be.
const MAX_WAITING: usize = 2048;

/// How long a stream that is over can be read to its end.
const FAREWELL: Duration = Duration::from_secs(6);

/// Readers of a stream without a publisher wait for one so long.
const ABSENCE: Duration = Duration::from_secs(30);

/// How often it is seen whether a stream is read at all.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What comes of nothing within this time has no keyframe, or a codec that files do not hold.
const BEGIN_WAIT: Duration = Duration::from_secs(10);

/// As what a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Fragmented MP4 without an end.
    Mp4,
    /// An MPEG transport stream.
    Ts,
    /// HLS.
    Hls,
}

impl OutputKind {
    const ALL: [Self; 3] = [Self::Mp4, Self::Ts, Self::Hls];
}

/// Why a stream cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// No such stream, or nobody publishes it.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    /// Its codecs do not go into what was asked for.
    #[error("{0}")]
    Codec(String),
    /// The sound that was asked for is none.
    #[error("audio is `source`, as the publisher sends it, or `aac`")]
    Sound,
    /// AAC was asked for, and this server cannot make it.
    #[error(
        "{0}; without `audio=aac` the stream is read with the sound that is published",
        AudioError::NoAacEncoder
    )]
    NoAacEncoder,
    /// A playlist or file of HLS cannot be had.
    #[error(transparent)]
    Hls(#[from] HlsError),
    /// Nothing came that could be begun with.
    #[error(
        "nothing has come from stream {0} that a reader can begin with; try again when its publisher \
         sends pictures or sound"
    )]
    Silent(String),
    /// As many streams are read as may be.
    #[error("{MAX_OUTPUTS} streams are read already; try again later")]
    TooManyOutputs,
    /// The stream has as many readers as it may.
    #[error("the stream has {MAX_READERS} readers; try again later")]
    TooManyReaders,
    /// Its thread has ended: the server is stopping, or has a defect.
    #[error("the output's thread has ended")]
    Ended,
}

/// One stream that is read.
struct Entry {
    id: u64,
    stream: String,
    sound: Sound,
    mp4: Arc<Counts>,
    ts: Arc<Counts>,
    hls: Arc<Counts>,
    shelf: Arc<Shelf>,
    /// Who asked for playlists of late, and when.
    hls_readers: Mutex<HashMap<u64, Instant>>,
    /// When HLS was last asked for; `None` while it is not made.
    hls_used: Mutex<Option<Instant>>,
    /// When it was last asked for.
    used: Mutex<Instant>,
}

struct Shared {
    broadcast: Broadcast,
    workers: Workers,
    names: AtomicU64,
    waiting: Semaphore,
    /// By stream and its sound: they have nothing in common but the publisher.
    table: Mutex<Table>,
}

type Table = HashMap<(String, Sound), Arc<Entry>>;

/// What is read of the streams of a [`Broadcast`]; clones share it.
#[derive(Clone)]
pub struct Outputs(Arc<Shared>);

impl Outputs {
    /// Starts the threads; nothing is remuxed before somebody reads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(broadcast: Broadcast) -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(4));
        Ok(Self(Arc::new(Shared {
            broadcast,
            workers: worker::start(threads)?,
            names: AtomicU64::new(0),
            waiting: Semaphore::new(MAX_WAITING),
            table: Mutex::default(),
        })))
    }

    /// Who may watch its streams; whoever calls this itself is not asked.
    #[must_use]
    pub fn access(&self) -> &Access {
        self.0.broadcast.access()
    }

    /// Reads a stream, from its latest keyframe on; returns when there is something to read. Call it
    /// inside the runtime.
    ///
    /// # Errors
    /// [`OutputError`].
    pub async fn read(
        &self,
        stream: &str,
        kind: OutputKind,
        sound: Sound,
    ) -> Result<Reader, OutputError> {
        let entry = self.entry(stream, sound)?;
        let counts = entry.counts(kind);
        if counts.readers.load(Ordering::Relaxed) >= MAX_READERS {
            return Err(OutputError::TooManyReaders);
        }
        let (feed, mut reader) = reader::connect(kind, counts);
        if !self.0.workers.tell(entry.id, Command::Read(entry.id, feed)) {
            return Err(OutputError::Ended);
        }
        match tokio::time::timeout(BEGIN_WAIT, reader.begins()).await {
            Ok(Ok(())) => Ok(reader),
            Ok(Err(Some(why))) => Err(OutputError::Codec(why)),
            Ok(Err(None)) => Err(OutputError::Ended),
            Err(_) => Err(OutputError::Silent(stream.to_owned())),
        }
    }

    /// What is read, by stream and kind.
    #[must_use]
    pub fn list(&self) -> Vec<OutputInfo> {
        let table = self.table();
        let mut list = Vec::new();
        for entry in table.values() {
            entry.count_hls_readers();
            for kind in OutputKind::ALL {
                let counts = entry.counts(kind);
                list.push(info::info(&entry.stream, kind, entry.sound, counts));
            }
        }
        list.retain(|info| info.bytes > 0 || info.readers > 0 || info.dropped > 0);
        list.sort_by(|a, b| (&a.stream, a.kind, a.audio).cmp(&(&b.stream, b.kind, b.audio)));
        list
    }

    /// A stream's multivariant playlist, as soon as there is something to play; `reader` tells those who
    /// read from each other. Call it inside the runtime.
    ///
    /// # Errors
    /// [`OutputError`].
    pub async fn hls_variant(
        &self,
        stream: &str,
        sound: Sound,
        reader: u64,
    ) -> Result<Bytes, OutputError> {
        let entry = self.hls_entry(stream, sound, reader)?;
        let text = entry.shelf.variant(&self.0.waiting).await?;
        entry.count_hls(text.len());
        Ok(text)
    }

    /// A stream's media playlist, as soon as it has what is asked for.
    ///
    /// # Errors
    /// [`OutputError`].
    pub async fn hls_media(
        &self,
        stream: &str,
        sound: Sound,
        asked: Option<Asked>,
        reader: u64,
    ) -> Result<Bytes, OutputError> {
        let entry = self.hls_entry(stream, sound, reader)?;
        let text = entry.shelf.media(asked, &self.0.waiting).await?;
        entry.count_hls(text.len());
        Ok(text)
    }

    /// A file that a media playlist names, with the folder it names.
    ///
    /// # Errors
    /// [`OutputError`].
    pub async fn hls_file(
        &self,
        stream: &str,
        folder: &str,
        file: File,
    ) -> Result<Content, OutputError> {
        let key = (stream.to_owned(), Sound::of_folder(folder));
        let entry = self.table().get(&key).cloned();
        let entry = entry.ok_or(HlsError::Missing)?;
        entry.touch();
        let content = entry.shelf.file(folder, file, &self.0.waiting).await?;
        entry.count_hls(content.iter().map(Bytes::len).sum());
        Ok(content)
    }

    /// The stream's entry; HLS is made from now on.
    fn hls_entry(
        &self,
        stream: &str,
        sound: Sound,
        reader: u64,
    ) -> Result<Arc<Entry>, OutputError> {
        let entry = self.entry(stream, sound)?;
        lock(&entry.hls_readers).insert(reader, Instant::now());
        let before = lock(&entry.hls_used).replace(Instant::now());
        if before.is_none() && !self.0.workers.tell(entry.id, Command::Hls(entry.id, true)) {
            return Err(OutputError::Ended);
        }
        Ok(entry)
    }

    /// Ends HLS of a stream that nobody has asked for of late.
    fn end_unused_hls(&self, entry: &Entry) {
        let mut used = lock(&entry.hls_used);
        if used.is_some_and(|at| at.elapsed() >= HLS_LINGER) {
            *used = None;
            self.0.workers.tell(entry.id, Command::Hls(entry.id, false));
        }
    }

    /// The stream's entry; it is remuxed from now on.
    fn entry(&self, stream: &str, sound: Sound) -> Result<Arc<Entry>, OutputError> {
        if sound == Sound::Aac && !HAS_AAC_ENCODER {
            return Err(OutputError::NoAacEncoder);
        }
        let key = (stream.to_owned(), sound);
        if let Some(entry) = self.table().get(&key) {
            entry.touch();
            return Ok(Arc::clone(entry));
        }
        let mut follower = self.0.broadcast.follow(stream)?;
        let Some(live) = follower.current() else {
            // It may be known, and have viewers who wait.
            self.0.broadcast.stream(stream)?;
            return Err(BroadcastError::NotLive(stream.to_owned()).into());
        };
        let mut table = self.table();
        if let Some(entry) = table.get(&key) {
            return Ok(Arc::clone(entry));
        }
        if table.len() >= MAX_OUTPUTS {
            return Err(OutputError::TooManyOutputs);
        }
        let id = self.0.names.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            id,
            stream: stream.to_owned(),
            sound,
            mp4: Arc::default(),
            ts: Arc::default(),
            hls: Arc::default(),
            shelf: Arc::default(),
            hls_readers: Mutex::default(),
            hls_used: Mutex::default(),
            used: Mutex::new(Instant::now()),
        });
        let running = Box::new(Running::new(id, stream, sound, Arc::clone(&entry.shelf)));
        if !self.0.workers.tell(id, Command::Add(running)) {
            return Err(OutputError::Ended);
        }
        table.insert(key, Arc::clone(&entry));
        drop(table);
        tracing::info!(stream, ?sound, "read from now on");
        tokio::spawn(follow(self.clone(), Arc::clone(&entry), follower, live));
        Ok(entry)
    }

    /// Ends a stream's output, unless it was asked for meanwhile and `unused` is asked.
    fn end(&self, entry: &Entry, only_unused: bool) -> bool {
        let mut table = self.table();
        if only_unused && !entry.is_unused() {
            return false;
        }
        let key = (entry.stream.clone(), entry.sound);
        if table.get(&key).is_some_and(|there| there.id == entry.id) {
            table.remove(&key);
        }
        self.0.workers.tell(entry.id, Command::Remove(entry.id));
        let (stream, sound) = (&entry.stream, entry.sound);
        tracing::info!(stream, ?sound, "not read any more");
        true
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.0.table)
    }
}

impl Entry {
    fn counts(&self, kind: OutputKind) -> &Arc<Counts> {
        match kind {
            OutputKind::Mp4 => &self.mp4,
            OutputKind::Ts => &self.ts,
            OutputKind::Hls => &self.hls,
        }
    }

    fn count_hls(&self, bytes: usize) {
        self.hls.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Forgets those who have not asked of late, and counts the others.
    fn count_hls_readers(&self) {
        let mut readers = lock(&self.hls_readers);
        readers.retain(|_, asked| asked.elapsed() < HLS_READS);
        let count = readers.len() as u64;
        self.hls.readers.store(count, Ordering::Relaxed);
    }

    fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    fn is_unused(&self) -> bool {
        let is_read = |counts: &Counts| counts.readers.load(Ordering::Relaxed) > 0;
        if is_read(&self.mp4) || is_read(&self.ts) || lock(&self.hls_used).is_some() {
            self.touch();
        }
        lock(&self.used).elapsed() >= LINGER
    }
}

/// Gives a stream's output the tracks of whoever publishes it, and ends it when nobody reads it or
/// nobody publishes it any more.
async fn follow(outputs: Outputs, entry: Arc<Entry>, mut follower: Follower, first: Live) {
    let mut live = Some(first);
    let mut absent_since = None;
    loop {
        if let Some(sources) = sources(live.as_ref(), &entry.stream).await {
            let attach = Command::Attach(entry.id, sources);
            outputs.0.workers.tell(entry.id, attach);
        }
        absent_since = match live {
            Some(_) => None,
            None => absent_since.or(Some(Instant::now())),
        };
        live = loop {
            let changed = tokio::time::timeout(LOOK_EVERY, follower.changed()).await;
            if let Ok(changed) = changed {
                break changed;
            }
            let absent = absent_since.is_some_and(|since: Instant| since.elapsed() >= ABSENCE);
            if absent {
                outputs.0.workers.tell(entry.id, Command::Finish(entry.id));
                tokio::time::sleep(FAREWELL).await;
                outputs.end(&entry, false);
                return;
            }
            entry.count_hls_readers();
            outputs.end_unused_hls(&entry);
            if entry.is_unused() && outputs.end(&entry, true) {
                return;
            }
        };
    }
}

/// The tracks of a publisher. Making taps may wait for the data plane.
async fn sources(live: Option<&Live>, stream: &str) -> Option<Vec<Box<dyn Source>>> {
    let Some(live) = live.cloned() else {
        return Some(Vec::new());
    };
    let sources = tokio::task::spawn_blocking(move || tap_sources_from_cache(&live.incoming)).await;
    match sources.ok()? {
        Ok(sources) => Some(sources),
        Err(error) => {
            tracing::error!(stream, %error, "cannot tap a stream for its readers");
            None
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
