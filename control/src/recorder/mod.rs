//! Recordings: streams into fragmented MP4 while they are distributed, and the last seconds of a
//! stream from memory.
//!
//! The library, the admin socket, the pages and the rules of the configuration call [`Recorders`].
//! Packets come from taps to the recorder threads (`worker`), which make samples and fragments of
//! them ([`recording`](crate::media::recording)); the disk threads (`disk`) write those. No part may ever wait for
//! the next one: a tap that is not emptied loses packets, a queue that is full refuses a fragment,
//! and both are counted.

mod disk;
mod finish;
mod info;
mod live;
mod path;
mod recover;
pub mod requests;
mod rule;
mod scan;
mod sink;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, oneshot};

pub use disk::{DiskPolicy, FileState};
pub use info::{RecordedTrack, RecorderEvent, RecorderInfo, RecorderState};
pub use live::StreamRecorders;
pub use path::{Directory, PathError, RecordingPath, Template};
pub use recover::Recovered;
pub use rule::Rule;

use disk::{Disk, Later, Writer};
use info::{RecorderEvents, Status};
use sink::{FileSink, Naming, Places, Shift};
use worker::{Command, Identity, Running, Target, Workers, lock};

use crate::events::Events;

pub use crate::taps::{Item, Source, tap_sources};

use crate::media::recording::{Recording, Settings};

/// Recorders at once: each has taps, and a file that is open.
pub const MAX_RECORDERS: usize = 10_000;

/// The longest time that may be held for a flush.
pub const MAX_HOLD: Duration = Duration::from_secs(3600);

/// A file that is not complete after this long is completed without anybody waiting.
const CLOSE_WAIT: Duration = Duration::from_secs(20);

/// How recordings are made.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Where they go. Made if it is not there.
    pub directory: PathBuf,
    /// The most a fragment holds: what a crash can cost.
    pub fragment: Duration,
    /// How long a missing packet is waited for.
    pub wait: Duration,
    /// The threads and queues of the disk.
    pub disk: DiskPolicy,
    /// Recorder threads.
    pub threads: usize,
    /// Bytes that one recorder may hold in memory for a flush.
    pub max_hold_bytes: usize,
    /// Where what happens to recorders is told.
    pub events: Events,
}

impl RecorderConfig {
    /// The defaults, for recordings in `directory`.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            fragment: Duration::from_secs(1),
            wait: Duration::from_millis(500),
            disk: DiskPolicy {
                threads: 2,
                sync_after: Some(Duration::from_secs(1)),
                queue_bytes: 32 << 20,
                all_queue_bytes: 512 << 20,
            },
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(4)),
            max_hold_bytes: 256 << 20,
            events: Events::new(),
        }
    }
}

/// What is to be recorded, and how.
#[derive(Debug, Clone, Default)]
pub struct RecorderSpec {
    /// The stream's name.
    pub stream: String,
    /// Where to, as a path or [`Template`]; `None` is `{stream}/{date}-{time}.mp4`. Not for one that
    /// holds.
    pub path: Option<String>,
    /// Hold this much in memory instead of writing it.
    pub hold: Option<Duration>,
    /// Make each file progressive when it is complete.
    pub progressive: bool,
    /// The simulcast encoding, by its rid; `None` is the best that comes in.
    pub rid: Option<String>,
    /// A rule of the configuration asks for it.
    pub by_rule: bool,
}

/// Why a recorder cannot do what it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// The path cannot be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No stream can have this name.
    #[error("{0}")]
    Stream(String),
    /// There is such a file.
    #[error(
        "{0} is there already; choose another path, or a template such as {{stream}}/{{date}}-{{time}}.mp4"
    )]
    Exists(String),
    /// No such recorder.
    #[error("there is no recorder {0}; recorder.list shows those there are")]
    Unknown(u64),
    /// The recorder writes files as it goes.
    #[error("recorder {0} holds nothing to flush: it was not created with hold_s")]
    NotHolding(u64),
    /// It holds, and has nothing yet.
    #[error("recorder {0} holds nothing yet: no keyframe has come")]
    NothingHeld(u64),
    /// A time that cannot be held.
    #[error("hold_s must be 1 to {}", MAX_HOLD.as_secs())]
    Hold,
    /// As many as there may be.
    #[error("there are {0} recorders, and may be no more; stop some first")]
    TooMany(usize),
    /// The file could not be written.
    #[error("{0}")]
    File(String),
    /// Its thread has ended: the server is stopping, or has a defect.
    #[error("the recorder's thread has ended")]
    Ended,
}

struct Entry {
    stream: String,
    hold: bool,
    by_rule: bool,
    created: Instant,
    status: Arc<Mutex<Status>>,
}

struct Shared {
    config: RecorderConfig,
    places: Arc<Places>,
    workers: Workers,
    events: RecorderEvents,
    table: Mutex<BTreeMap<u64, Entry>>,
    names: AtomicU64,
    recovered: Vec<Recovered>,
}

/// All recorders of a server; clones share them.
#[derive(Clone)]
pub struct Recorders(Arc<Shared>);

impl Recorders {
    /// Closes what a crash left open in the directory, and starts the threads.
    ///
    /// # Errors
    /// The directory cannot be made or read, or the system gives no threads.
    pub fn start(config: RecorderConfig) -> io::Result<Self> {
        let directory = Directory::new(&config.directory);
        let recovered = recover::recover(&directory)?;
        let places = Arc::new(Places {
            directory,
            disk: Disk::start(config.disk)?,
            later: Later::start()?,
        });
        let workers = worker::start(config.threads, &places)?;
        let events = RecorderEvents::new(config.events.clone());
        Ok(Self(Arc::new(Shared {
            config,
            places,
            workers,
            events,
            table: Mutex::default(),
            names: AtomicU64::new(0),
            recovered,
        })))
    }

    /// What was found left open at the start.
    #[must_use]
    pub fn recovered(&self) -> &[Recovered] {
        &self.0.recovered
    }

    /// Where recordings go.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.0.places.directory
    }

    /// Creates a recorder; it records as soon as it is given sources. Returns its name.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub fn create(&self, spec: &RecorderSpec) -> Result<u64, RecorderError> {
        let target = self.target(spec)?;
        let id = self.0.names.fetch_add(1, Ordering::Relaxed) + 1;
        let status = Arc::new(Mutex::new(Status::default()));
        let entry = Entry {
            stream: spec.stream.clone(),
            hold: spec.hold.is_some(),
            by_rule: spec.by_rule,
            created: Instant::now(),
            status: Arc::clone(&status),
        };
        {
            let mut table = self.table();
            if table.len() >= MAX_RECORDERS {
                return Err(RecorderError::TooMany(MAX_RECORDERS));
            }
            table.insert(id, entry);
        }
        let target = match target {
            Some(naming) => Target::Files(Box::new(FileSink::new(
                id,
                &spec.stream,
                naming,
                spec.progressive,
            ))),
            None => {
                let hold = spec.hold.unwrap_or_default();
                Target::Memory(Shift::new(hold, self.0.config.max_hold_bytes))
            }
        };
        let recording = Recording::new(Settings {
            fragment_us: u64::try_from(self.0.config.fragment.as_micros()).unwrap_or(u64::MAX),
            wait_us: u64::try_from(self.0.config.wait.as_micros()).unwrap_or(u64::MAX),
        });
        let running = Running::new(
            Identity {
                id,
                stream: spec.stream.clone(),
                status,
                events: self.0.events.clone(),
            },
            recording,
            target,
        );
        if !self.0.workers.tell(id, Command::Add(Box::new(running))) {
            self.table().remove(&id);
            return Err(RecorderError::Ended);
        }
        let created = RecorderEvent::Created {
            recorder: id,
            stream: spec.stream.clone(),
        };
        self.0.events.tell(&spec.stream, created);
        Ok(id)
    }

    /// Gives a recorder the tracks of the stream's publisher, instead of those it had; none when the
    /// publisher has left.
    pub fn attach(&self, id: u64, sources: Vec<Box<dyn Source>>) {
        self.0.workers.tell(id, Command::Attach(id, sources));
    }

    /// Ends a recorder; returns when its files are complete, or after `CLOSE_WAIT` if the disk
    /// takes longer. One that had failed is forgotten.
    ///
    /// # Errors
    /// [`RecorderError::Unknown`].
    pub async fn stop(&self, id: u64) -> Result<RecorderInfo, RecorderError> {
        let entry = self.table().remove(&id).ok_or(RecorderError::Unknown(id))?;
        let (done, stopped) = oneshot::channel();
        self.0.workers.tell(id, Command::Stop(id, done));
        let writers = stopped.await.map_err(|_| RecorderError::Ended)?;
        for writer in writers {
            if let Err(error) = complete(&writer).await {
                lock(&entry.status).error.get_or_insert(error.to_string());
            }
            let mut status = lock(&entry.status);
            status.queued_bytes = writer.bytes().1;
        }
        let mut info = entry.info(id);
        let stopped = RecorderEvent::Stopped {
            recorder: id,
            path: info.path.clone(),
            parts: info.parts,
            duration_ms: info.duration_ms,
            fragments_dropped: info.fragments_dropped,
        };
        self.0.events.tell(&info.stream, stopped);
        info.state = match info.error {
            Some(_) => RecorderState::Failed,
            None => RecorderState::Stopped,
        };
        Ok(info)
    }

    /// Writes what a recorder holds to a file of its own; it goes on holding. `path` is a path or a
    /// [`Template`]; `None` is `{stream}/{date}-{time}.mp4`. Returns the path and how long the file lasts.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub async fn flush(
        &self,
        id: u64,
        path: Option<&str>,
    ) -> Result<(String, Duration), RecorderError> {
        let (hold, stream) = {
            let table = self.table();
            let entry = table.get(&id).ok_or(RecorderError::Unknown(id))?;
            (entry.hold, entry.stream.clone())
        };
        if !hold {
            return Err(RecorderError::NotHolding(id));
        }
        let path = path.unwrap_or(rule::DEFAULT_TEMPLATE);
        let path = Template::parse(path)?.path(&stream, std::time::SystemTime::now(), 1)?;
        self.check_free(&path)?;
        let (done, flushed) = oneshot::channel();
        self.0
            .workers
            .tell(id, Command::Flush(id, path.clone(), done));
        let flushed = flushed.await.map_err(|_| RecorderError::Ended)?;
        let flushed = flushed.map_err(|error| RecorderError::File(error.to_string()))?;
        let (writer, duration_us) = flushed.ok_or(RecorderError::NothingHeld(id))?;
        complete(&writer).await?;
        let duration = Duration::from_micros(u64::try_from(duration_us).unwrap_or(0));
        let flushed = RecorderEvent::Flushed {
            recorder: id,
            path: path.as_str().to_owned(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        };
        self.0.events.tell(&stream, flushed);
        Ok((path.as_str().to_owned(), duration))
    }

    /// One recorder.
    ///
    /// # Errors
    /// [`RecorderError::Unknown`].
    pub fn get(&self, id: u64) -> Result<RecorderInfo, RecorderError> {
        let table = self.table();
        let entry = table.get(&id).ok_or(RecorderError::Unknown(id))?;
        Ok(entry.info(id))
    }

    /// Every recorder, by name; those that failed until they are stopped.
    #[must_use]
    pub fn list(&self) -> Vec<RecorderInfo> {
        let table = self.table();
        table.iter().map(|(id, entry)| entry.info(*id)).collect()
    }

    /// Tells what happens to recorders, from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<RecorderEvent> {
        self.0.events.subscribe()
    }

    /// Stops all recorders, for the end of the program.
    pub async fn stop_all(&self) {
        let all: Vec<u64> = self.table().keys().copied().collect();
        let stops = all.into_iter().map(|id| self.stop(id));
        for stopped in futures_util::future::join_all(stops).await {
            if let Err(error) = stopped {
                tracing::debug!(%error, "a recorder had stopped already");
            }
        }
    }

    /// How its files are named; `None` if it holds.
    fn target(&self, spec: &RecorderSpec) -> Result<Option<Naming>, RecorderError> {
        if let Some(hold) = spec.hold {
            let fits = (Duration::from_secs(1)..=MAX_HOLD).contains(&hold) && spec.path.is_none();
            return fits.then_some(None).ok_or(RecorderError::Hold);
        }
        let path = spec.path.as_deref().unwrap_or(rule::DEFAULT_TEMPLATE);
        if path.contains('{') {
            return Ok(Some(Naming::Template(Template::parse(path)?)));
        }
        let path = RecordingPath::parse(path)?;
        self.check_free(&path)?;
        Ok(Some(Naming::Path(path)))
    }

    fn check_free(&self, path: &RecordingPath) -> Result<(), RecorderError> {
        match self.0.places.directory.has(path) {
            true => Err(RecorderError::Exists(path.as_str().to_owned())),
            false => Ok(()),
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        lock(&self.0.table)
    }
}

impl Entry {
    fn info(&self, id: u64) -> RecorderInfo {
        let status = lock(&self.status).clone();
        let state = match (&status.error, self.hold, status.live) {
            (Some(_), ..) => RecorderState::Failed,
            (None, true, _) => RecorderState::Holding,
            (None, false, true) => RecorderState::Recording,
            (None, false, false) => RecorderState::Waiting,
        };
        let tracks = status.tracks.iter();
        RecorderInfo {
            id,
            stream: self.stream.clone(),
            state,
            path: status.path,
            parts: status.parts,
            bytes: status.bytes,
            queued_bytes: status.queued_bytes,
            duration_ms: u64::try_from(status.duration_us / 1000).unwrap_or(0),
            fragments_dropped: status.fragments_dropped,
            error: status.error,
            by_rule: self.by_rule,
            age_s: self.created.elapsed().as_secs(),
            tracks: tracks
                .map(|(kind, counts)| RecordedTrack::new(*kind, *counts))
                .collect(),
        }
    }
}

/// Waits until a file is complete.
async fn complete(writer: &Writer) -> Result<(), RecorderError> {
    let mut states = writer.watch();
    let ended = states.wait_for(|state| *state != FileState::Open);
    match tokio::time::timeout(CLOSE_WAIT, ended).await {
        Ok(Ok(state)) => match &*state {
            FileState::Failed(why) => Err(RecorderError::File(why.clone())),
            _ => Ok(()),
        },
        // The disk is slow: the file is completed when it can be.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
