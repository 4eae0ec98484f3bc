//! The disk threads: they alone wait for the disk.
//!
//! A recording hands over heads and fragments and never waits: what a slow disk does not take within
//! the bound of the queue is refused, and counted by who asked. A file stays on one thread, so its
//! fragments are written in order. It must never leave a part of a fragment in a file: on an error the
//! file is cut back to its last whole fragment and closed.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::path::NewFile;

/// How a disk thread learns that nothing is to be synced.
const IDLE: Duration = Duration::from_secs(3600);

/// How the disk is used.
#[derive(Debug, Clone, Copy)]
pub struct DiskPolicy {
    /// Threads that write.
    pub threads: usize,
    /// After this long at most, what was written is forced to the disk (fdatasync); `None` leaves it
    /// to the system.
    pub sync_after: Option<Duration>,
    /// Bytes that may wait for the disk, of one file.
    pub queue_bytes: u64,
    /// Bytes that may wait for the disk, of all files.
    pub all_queue_bytes: u64,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// Being written.
    Open,
    /// Complete.
    Closed,
    /// It could not be made or written on. Up to its last whole fragment it is complete.
    Failed(String),
}

/// The disk had no room in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// Makes the file, on the disk's thread.
pub(super) type Create = Box<dyn FnOnce() -> io::Result<NewFile> + Send>;

/// What is done with a file once it is closed, on the disk's thread: it must be short, and see to it
/// that [`Writer::complete`] is called.
pub(super) type AfterClose = Box<dyn FnOnce() + Send>;

/// All disk threads.
#[derive(Debug)]
pub struct Disk {
    threads: Vec<Sender<Job>>,
    policy: DiskPolicy,
    queued: Arc<AtomicU64>,
    names: AtomicU64,
}

/// One file, seen by who writes it.
#[derive(Debug, Clone)]
pub struct Writer {
    file: Arc<Shared>,
    thread: Sender<Job>,
    queued: Arc<AtomicU64>,
    policy: DiskPolicy,
}

#[derive(Debug)]
struct Shared {
    name: u64,
    queued: AtomicU64,
    written: AtomicU64,
    state: watch::Sender<FileState>,
}

struct Job {
    file: Arc<Shared>,
    task: Task,
}

enum Task {
    Open(Create, Vec<u8>),
    Write(Vec<u8>),
    Close(Option<Vec<u8>>, Option<AfterClose>),
}

impl Disk {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(policy: DiskPolicy) -> io::Result<Self> {
        let queued = Arc::new(AtomicU64::new(0));
        let threads = (0..policy.threads.max(1)).map(|number| {
            let (sender, receiver) = mpsc::channel();
            let thread = Thread {
                policy,
                queued: Arc::clone(&queued),
                files: HashMap::new(),
            };
            std::thread::Builder::new()
                .name(format!("disk-{number}"))
                .spawn(move || thread.run(&receiver))?;
            Ok(sender)
        });
        Ok(Self {
            threads: threads.collect::<io::Result<_>>()?,
            policy,
            queued,
            names: AtomicU64::new(0),
        })
    }

    /// Opens a file that begins with `head`. Files of one `owner` are opened in order.
    pub(super) fn open(&self, owner: u64, create: Create, head: Vec<u8>) -> Writer {
        let name = self.names.fetch_add(1, Ordering::Relaxed);
        let file = Arc::new(Shared {
            name,
            queued: AtomicU64::new(0),
            written: AtomicU64::new(0),
            state: watch::Sender::new(FileState::Open),
        });
        let thread = usize::try_from(owner).unwrap_or(0) % self.threads.len();
        let writer = Writer {
            file,
            thread: self.threads[thread].clone(),
            queued: Arc::clone(&self.queued),
            policy: self.policy,
        };
        writer.send(Task::Open(create, head));
        writer
    }
}

impl Writer {
    /// Appends a fragment, some time.
    ///
    /// # Errors
    /// [`QueueFull`]: the disk is behind, the fragment is dropped.
    pub fn write(&self, fragment: Vec<u8>) -> Result<(), QueueFull> {
        let bytes = fragment.len() as u64;
        let mine = self.file.queued.load(Ordering::Relaxed);
        let all = self.queued.load(Ordering::Relaxed);
        // Whatever its size, a fragment may go into an empty queue.
        let fits =
            mine + bytes <= self.policy.queue_bytes && all + bytes <= self.policy.all_queue_bytes;
        if !fits && mine > 0 {
            return Err(QueueFull);
        }
        self.send(Task::Write(fragment));
        Ok(())
    }

    /// Appends a fragment whatever waits.
    pub(super) fn write_anyway(&self, fragment: Vec<u8>) {
        self.send(Task::Write(fragment));
    }

    /// What was to be done after closing is done.
    pub(super) fn complete(&self) {
        self.file.state.send_replace(FileState::Closed);
    }

    /// Ends the file; `head` replaces its beginning, which has the same length.
    pub(super) fn close(&self, head: Option<Vec<u8>>, after: Option<AfterClose>) {
        self.send(Task::Close(head, after));
    }

    /// Bytes written, and bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let written = self.file.written.load(Ordering::Relaxed);
        (written, self.file.queued.load(Ordering::Relaxed))
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> FileState {
        self.file.state.borrow().clone()
    }

    /// Tells of changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<FileState> {
        self.file.state.subscribe()
    }

    fn send(&self, task: Task) {
        let bytes = task.bytes();
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        self.file.queued.fetch_add(bytes, Ordering::Relaxed);
        let job = Job {
            file: Arc::clone(&self.file),
            task,
        };
        if self.thread.send(job).is_err() {
            self.file.fail("the disk's thread has ended".to_owned());
        }
    }
}

impl Shared {
    fn fail(&self, why: String) {
        self.state.send_replace(FileState::Failed(why));
    }
}

impl Task {
    fn bytes(&self) -> u64 {
        match self {
            Self::Open(_, bytes) | Self::Write(bytes) => bytes.len() as u64,
            Self::Close(..) => 0,
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("file", &self.file.name)
            .finish_non_exhaustive()
    }
}

/// A file that is open.
struct Open {
    shared: Arc<Shared>,
    new: NewFile,
    /// Up to here it is whole.
    len: u64,
    /// Since when something is not synced.
    dirty: Option<Instant>,
}

struct Thread {
    policy: DiskPolicy,
    queued: Arc<AtomicU64>,
    files: HashMap<u64, Open>,
}

impl Thread {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(self.until_sync()) {
                Ok(Job { file, task }) => {
                    let bytes = task.bytes();
                    self.work(&file, task);
                    file.queued.fetch_sub(bytes, Ordering::Relaxed);
                    self.queued.fetch_sub(bytes, Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // The program ends: whoever wrote is gone, and the files are complete as they are.
        for (_, open) in self.files.drain() {
            let file = Arc::clone(&open.shared);
            if let Err(error) = finish(open, None) {
                file.fail(format!("cannot complete the file: {error}"));
            }
        }
    }

    /// How long until a file is to be synced. While jobs come, syncing waits for them.
    fn until_sync(&self) -> Duration {
        let Some(after) = self.policy.sync_after else {
            return IDLE;
        };
        let oldest = self.files.values().filter_map(|open| open.dirty).min();
        oldest.map_or(IDLE, |since| after.saturating_sub(since.elapsed()))
    }

    fn sync(&mut self) {
        let Some(after) = self.policy.sync_after else {
            return;
        };
        let due = |open: &Open| open.dirty.is_some_and(|since| since.elapsed() >= after);
        let failed = self.files.iter_mut().filter(|(_, open)| due(open));
        let failed: Vec<_> = failed
            .filter_map(|(name, open)| {
                open.dirty = None;
                open.new.file.sync_data().err().map(|error| (*name, error))
            })
            .collect();
        for (name, error) in failed {
            if let Some(open) = self.files.remove(&name) {
                fail(open, &error);
            }
        }
    }

    fn work(&mut self, file: &Arc<Shared>, task: Task) {
        match task {
            Task::Open(create, head) => match create() {
                Ok(new) => {
                    let open = Open {
                        shared: Arc::clone(file),
                        new,
                        len: 0,
                        dirty: None,
                    };
                    self.files.insert(file.name, open);
                    self.append(file.name, &head);
                }
                Err(error) => file.fail(format!("cannot make the file: {error}")),
            },
            Task::Write(fragment) => self.append(file.name, &fragment),
            Task::Close(head, after) => {
                let Some(open) = self.files.remove(&file.name) else {
                    return;
                };
                match (finish(open, head), after) {
                    // It says itself when the file is complete.
                    (Ok(()), Some(after)) => after(),
                    (Ok(()), None) => drop(file.state.send_replace(FileState::Closed)),
                    (Err(error), _) => file.fail(format!("cannot complete the file: {error}")),
                }
            }
        }
    }

    fn append(&mut self, name: u64, bytes: &[u8]) {
        let Some(open) = self.files.get_mut(&name) else {
            // It has failed before, and said so.
            return;
        };
        match open.new.file.write_all_at(bytes, open.len) {
            Ok(()) => {
                open.len += bytes.len() as u64;
                open.shared.written.store(open.len, Ordering::Relaxed);
                open.dirty.get_or_insert_with(Instant::now);
            }
            Err(error) => {
                if let Some(open) = self.files.remove(&name) {
                    fail(open, &error);
                }
            }
        }
    }
}

/// Cuts a file back to what is whole and closes it.
fn fail(open: Open, error: &io::Error) {
    let kept = open.len;
    let cut = open
        .new
        .file
        .set_len(kept)
        .and_then(|()| open.new.file.sync_data());
    let marker = match (cut, open.new.marker) {
        (Ok(()), Some(marker)) => marker.remove(),
        (cut, _) => cut,
    };
    let mut why = format!("cannot write on: {error}; {kept} bytes are kept");
    if let Err(error) = marker {
        // The marker stays: the next start cuts and closes it.
        why.push_str(&format!(", to be closed at the next start ({error})"));
    }
    open.shared.fail(why);
}

/// Completes a file that is whole.
fn finish(open: Open, head: Option<Vec<u8>>) -> io::Result<()> {
    let file = &open.new.file;
    head.map_or(Ok(()), |head| file.write_all_at(&head, 0))?;
    file.sync_data()?;
    open.new.marker.map_or(Ok(()), super::path::Marker::remove)
}

/// One thread for what takes long and must not hold up the writing: finishing files.
#[derive(Debug, Clone)]
pub(super) struct Later(Arc<Mutex<Sender<AfterClose>>>);

impl Later {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<AfterClose>();
        std::thread::Builder::new()
            .name("finish".to_owned())
            .spawn(move || receiver.iter().for_each(|work| work()))?;
        Ok(Self(Arc::new(Mutex::new(sender))))
    }

    pub(super) fn run(&self, work: AfterClose) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(mpsc::SendError(work)) = sender.send(work) {
            // Its thread is gone only when a task panicked; the work must still be done.
            work();
        }
    }
}
