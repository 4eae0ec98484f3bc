//! The recorder threads: they take packets off the taps and make fragments of them.
//!
//! Each carries many recorders; a recorder stays on one thread. They are neither shards nor tokio's
//! threads, so what they do delays nobody; and they never wait for the disk, so a recorder delays no
//! other.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::disk::{QueueFull, Writer};
use super::info::{RecorderEvent, RecorderEvents, Status};
use super::path::RecordingPath;
use super::sink::{FileSink, Places, Shift, SinkError};
use crate::media::recording::{Output, Recording};
use crate::taps::{EngineClock, Feeds, Source, Threads, Work};

/// How often the status is brought up to date.
const STATUS_EVERY: Duration = Duration::from_millis(200);

/// What a recorder's media become.
#[derive(Debug)]
pub(super) enum Target {
    /// Files.
    Files(Box<FileSink>),
    /// The last seconds, for a flush.
    Memory(Shift),
}

/// What a thread is told.
pub(super) enum Command {
    Add(Box<Running>),
    /// The publisher's tracks; none: it left.
    Attach(u64, Vec<Box<dyn Source>>),
    Stop(u64, oneshot::Sender<Vec<Writer>>),
    Flush(u64, RecordingPath, oneshot::Sender<Flushed>),
}

/// A flush on its way, and how long what it wrote lasts in microseconds; `None` if nothing was held.
pub(super) type Flushed = Result<Option<(Writer, i64)>, SinkError>;

/// What a recorder is, and where it tells of itself.
pub(super) struct Identity {
    pub(super) id: u64,
    pub(super) stream: String,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) events: RecorderEvents,
}

/// One recorder at work.
pub(super) struct Running {
    id: u64,
    stream: String,
    recording: Recording,
    target: Target,
    status: Arc<Mutex<Status>>,
    events: RecorderEvents,
    feeds: Feeds,
    reported: Option<Instant>,
    dropping: bool,
    /// Files begun.
    begun: u32,
    failed: bool,
}

/// All recorder threads.
pub(super) type Workers = Threads<Command>;

/// Starts the recorder threads.
pub(super) fn start(threads: usize, places: &Arc<Places>) -> io::Result<Workers> {
    Threads::start("recorder", threads, || Thread {
        places: Arc::clone(places),
        running: Vec::new(),
    })
}

/// What one thread has.
struct Thread {
    places: Arc<Places>,
    running: Vec<Running>,
}

impl Thread {
    fn find(&mut self, id: u64) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.id == id)
    }
}

impl Work for Thread {
    type Command = Command;

    fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    fn turn(&mut self, clock: &mut EngineClock) {
        for running in &mut self.running {
            running.turn(clock, &self.places);
        }
    }

    fn obey(&mut self, command: Command, clock: &mut EngineClock) {
        match command {
            Command::Add(running) => self.running.push(*running),
            Command::Attach(id, sources) => {
                if let Some(running) = self.find(id) {
                    running.attach(sources, clock.now_us());
                }
            }
            Command::Stop(id, done) => {
                let position = self.running.iter().position(|running| running.id == id);
                let stopped = position.map(|position| self.running.swap_remove(position));
                let closing = stopped.map(|running| running.stop(clock, &self.places));
                // Whoever asked may have given up.
                let _ = done.send(closing.unwrap_or_default());
            }
            Command::Flush(id, path, done) => {
                let places = Arc::clone(&self.places);
                let flushed = self
                    .find(id)
                    .map_or(Ok(None), |running| running.flush(&path, &places));
                let _ = done.send(flushed);
            }
        }
    }

    /// Nobody stopped the recorders.
    fn end(self, clock: &mut EngineClock) {
        for running in self.running {
            running.stop(clock, &self.places);
        }
    }
}

impl Running {
    pub(super) fn new(of: Identity, recording: Recording, target: Target) -> Self {
        Self {
            id: of.id,
            stream: of.stream,
            recording,
            target,
            status: of.status,
            events: of.events,
            feeds: Feeds::default(),
            reported: None,
            dropping: false,
            begun: 0,
            failed: false,
        }
    }

    fn attach(&mut self, sources: Vec<Box<dyn Source>>, now_us: u64) {
        self.feeds.attach(&mut self.recording, sources, now_us);
    }

    fn turn(&mut self, clock: &mut EngineClock, places: &Places) {
        if self.failed {
            return;
        }
        self.feeds.listen(&mut self.recording, clock);
        let now_us = clock.now_us();
        while let Some(output) = self.recording.poll(now_us) {
            self.put(output, places);
        }
        // What is held can be flushed only from a keyframe on: there must be one now and then.
        let target = &self.target;
        let stale = || matches!(target, Target::Memory(shift) if shift.is_stale(now_us));
        self.feeds.wish_for_keyframes(&self.recording, stale);
        if self.reported.is_none_or(|at| at.elapsed() >= STATUS_EVERY) {
            self.reported = Some(Instant::now());
            self.report();
        }
    }

    fn put(&mut self, output: Output, places: &Places) {
        let begins = matches!(output, Output::Part(_));
        let result = match (&mut self.target, output) {
            (Target::Files(files), Output::Part(head)) => files.begin(head, places).map(Ok),
            (Target::Files(files), Output::Fragment(fragment)) => files.add(&fragment),
            (Target::Memory(shift), Output::Part(head)) => {
                shift.begin(head);
                Ok(Ok(()))
            }
            (Target::Memory(shift), Output::Fragment(fragment)) => {
                shift.add(fragment);
                Ok(Ok(()))
            }
        };
        match result {
            Ok(Ok(())) if begins => self.tell_begun(),
            Ok(Ok(())) => self.dropping = false,
            Ok(Err(QueueFull)) => self.dropped(),
            Err(error) => self.fail(&error, places),
        }
    }

    /// The disk is behind: the fragment is gone, and video goes on with a keyframe.
    fn dropped(&mut self) {
        self.recording.await_keyframes();
        let dropped = {
            let mut status = lock(&self.status);
            status.fragments_dropped += 1;
            status.fragments_dropped
        };
        if !std::mem::replace(&mut self.dropping, true) {
            tracing::warn!(
                recorder = self.id,
                dropped,
                "the disk is behind: a fragment is dropped"
            );
            self.tell(RecorderEvent::Dropping {
                recorder: self.id,
                fragments_dropped: dropped,
            });
        }
    }

    /// A file is begun.
    fn tell_begun(&mut self) {
        let Target::Files(files) = &self.target else {
            return;
        };
        let path = files.path().map_or("", RecordingPath::as_str).to_owned();
        let recorder = self.id;
        self.begun += 1;
        self.tell(match self.begun {
            1 => RecorderEvent::Started { recorder, path },
            part => RecorderEvent::Part {
                recorder,
                path,
                part,
            },
        });
    }

    fn tell(&self, event: RecorderEvent) {
        self.events.tell(&self.stream, event);
    }

    fn fail(&mut self, error: &SinkError, places: &Places) {
        self.failed = true;
        self.feeds.clear();
        if let Target::Files(files) = &mut self.target {
            files.close(places);
        }
        let why = error.to_string();
        tracing::error!(recorder = self.id, why, "a recording was ended");
        lock(&self.status).error = Some(why.clone());
        self.tell(RecorderEvent::Failed {
            recorder: self.id,
            why,
        });
        self.report();
    }

    fn flush(&mut self, path: &RecordingPath, places: &Places) -> Flushed {
        match &self.target {
            Target::Memory(shift) => shift.flush(self.id, path, places),
            Target::Files(_) => Ok(None),
        }
    }

    fn stop(mut self, clock: &mut EngineClock, places: &Places) -> Vec<Writer> {
        if !self.failed {
            self.feeds.listen(&mut self.recording, clock);
            for output in self.recording.finish(clock.now_us()) {
                self.put(output, places);
            }
        }
        let closing = match &mut self.target {
            Target::Files(files) => {
                files.close(places);
                files.take_closing()
            }
            Target::Memory(_) => Vec::new(),
        };
        self.report();
        closing
    }

    /// Brings the status up to date.
    fn report(&mut self) {
        let counts = self.recording.counts();
        let live = self.feeds.is_live();
        let mut status = lock(&self.status);
        status.live = live;
        status.tracks = counts;
        match &self.target {
            Target::Files(files) => {
                if let Some(path) = files.path() {
                    status.path = Some(path.as_str().to_owned());
                }
                status.parts = files.parts();
                (status.bytes, status.queued_bytes) = files.bytes();
                status.duration_us = files.duration_us();
            }
            Target::Memory(shift) => {
                let (held_us, bytes) = shift.holds();
                status.duration_us = held_us;
                status.bytes = bytes as u64;
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
