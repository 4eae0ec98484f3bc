//! One ingest: the handle its door has, the bounded queue, and its turn on an ingest thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;

use super::ingests::Shared;
use super::line::Line;
use super::report::Report;
use super::threads::Threads;
use super::{IngestClosed, IngestError, IngestInfo, IngestSpec, TrackFormat, Unit};
use crate::clock::now_us;
use crate::model::{CloseReason, ProducedStream, Producer};

/// Units that may wait: more than ten seconds of pictures and sound.
const MAX_UNITS: usize = 1024;

/// Bytes that may wait: some keyframes of 4K.
const MAX_BYTES: usize = 16 << 20;

/// Units handled before another ingest has its turn.
const TURN: usize = 32;

enum Item {
    Unit(Unit, i64),
    Format(usize, TrackFormat),
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// Of each track: units were left out, and pictures are until the next keyframe.
    dropping: Vec<bool>,
}

/// What handle, registry and threads share.
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) spec: IngestSpec,
    pub(super) produced: ProducedStream,
    formats: Mutex<Vec<TrackFormat>>,
    queue: Mutex<Queue>,
    /// It waits for its turn or has it.
    scheduled: AtomicBool,
    line: Mutex<Option<Line<Producer>>>,
    report: Arc<Report>,
    threads: Threads,
    registry: Weak<Shared>,
    runtime: Handle,
    closing: AtomicBool,
}

/// An ingest that runs. Dropping it ends its stream.
pub struct Ingest {
    session: Arc<Session>,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest")
            .field("id", &self.session.id)
            .field("spec", &self.session.spec)
            .finish_non_exhaustive()
    }
}

impl Ingest {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }

    /// Its name in lists.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.session.id
    }

    /// Takes a unit, in the order of decoding. Never waits: when too many wait already, it is left
    /// out and counted; pictures after it are, too, up to the next keyframe.
    ///
    /// # Errors
    /// [`IngestClosed`]: nothing will be taken any more.
    pub fn push(&self, unit: Unit) -> Result<(), IngestClosed> {
        self.session.push(unit)
    }

    /// Goes on with other parameters of the same codec, such as new parameter sets.
    ///
    /// # Errors
    /// [`IngestError`]: the track goes on as before.
    pub fn set_format(&self, track: usize, format: TrackFormat) -> Result<(), IngestError> {
        self.session.set_format(track, format)
    }

    /// Counts packets that were lost on the way.
    pub fn lost(&self, track: usize, packets: u64) {
        if let Some(track) = self.session.report.tracks.get(track) {
            track.lost.fetch_add(packets, Ordering::Relaxed);
        }
    }

    /// Says in log and lists, once, what is wrong with the source and what cures it.
    pub fn warn(&self, warning: &str) {
        self.session.report.warn(warning);
    }

    /// Whether a viewer waits for a keyframe since the last call, for sources that can be asked.
    #[must_use]
    pub fn take_keyframe_request(&self) -> bool {
        let wanted = &self.session.report.keyframe_wanted;
        wanted.load(Ordering::Relaxed) && wanted.swap(false, Ordering::Relaxed)
    }

    /// Its state in numbers.
    #[must_use]
    pub fn info(&self) -> IngestInfo {
        self.session.info()
    }

    /// Waits until its stream has ended, by whomever, and says why.
    pub async fn closed(&self) -> CloseReason {
        self.session.produced.closed().await
    }

    /// Ends its stream.
    pub fn close(&self) {
        self.session.close();
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.session.close();
    }
}

/// What a session is made of.
pub(super) struct Parts {
    pub(super) id: u64,
    pub(super) spec: IngestSpec,
    pub(super) produced: ProducedStream,
    pub(super) formats: Vec<TrackFormat>,
    pub(super) line: Line<Producer>,
    pub(super) report: Arc<Report>,
    pub(super) threads: Threads,
    pub(super) registry: Weak<Shared>,
}

impl Session {
    /// Call it inside the runtime.
    pub(super) fn new(parts: Parts) -> Self {
        let queue = Queue {
            dropping: vec![false; parts.formats.len()],
            ..Queue::default()
        };
        Self {
            id: parts.id,
            spec: parts.spec,
            produced: parts.produced,
            formats: Mutex::new(parts.formats),
            queue: Mutex::new(queue),
            scheduled: AtomicBool::new(false),
            line: Mutex::new(Some(parts.line)),
            report: parts.report,
            threads: parts.threads,
            registry: parts.registry,
            runtime: Handle::current(),
            closing: AtomicBool::new(false),
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_closing() || self.produced.is_ending()
    }

    /// Whether it was told to end, and will be forgotten.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(super) fn info(&self) -> IngestInfo {
        let formats = lock(&self.formats);
        let age_s = self.produced.age().as_secs();
        let report = &self.report;
        report.info(self.id, &self.spec, &formats, now_us(), age_s)
    }

    fn push(self: &Arc<Self>, unit: Unit) -> Result<(), IngestClosed> {
        if self.is_ending() {
            return Err(IngestClosed);
        }
        let Some(report) = self.report.tracks.get(unit.track) else {
            return Ok(());
        };
        let is_video = lock(&self.formats)[unit.track].is_video();
        let now_us = now_us();
        let mut queue = lock(&self.queue);
        report.came(unit.data.len(), now_us);
        let is_full = queue.items.len() >= MAX_UNITS || queue.bytes + unit.data.len() > MAX_BYTES;
        let is_useless = is_video && queue.dropping[unit.track] && !unit.is_keyframe;
        if is_full || is_useless {
            queue.dropping[unit.track] = true;
            drop(queue);
            report.dropped.fetch_add(1, Ordering::Relaxed);
            self.report.warn(super::line::OVERLOADED);
            return Ok(());
        }
        queue.dropping[unit.track] = false;
        queue.bytes += unit.data.len();
        queue.items.push_back(Item::Unit(unit, now_us));
        drop(queue);
        self.schedule();
        Ok(())
    }

    fn set_format(self: &Arc<Self>, track: usize, format: TrackFormat) -> Result<(), IngestError> {
        if self.is_ending() {
            return Err(IngestClosed.into());
        }
        let mut formats = lock(&self.formats);
        let present = formats.get_mut(track);
        let present = present.ok_or(IngestError::UnknownTrack(track))?;
        if present.name() != format.name() {
            return Err(IngestError::OtherCodec {
                before: present.name(),
                now: format.name(),
            });
        }
        if *present == format {
            return Ok(());
        }
        *present = format.clone();
        drop(formats);
        let mut queue = lock(&self.queue);
        if queue.items.len() < 2 * MAX_UNITS {
            queue.items.push_back(Item::Format(track, format));
        }
        drop(queue);
        self.schedule();
        Ok(())
    }

    fn schedule(self: &Arc<Self>) {
        if !self.scheduled.swap(true, Ordering::AcqRel) {
            self.threads.run(Arc::clone(self));
        }
    }

    /// Handles what waits, on an ingest thread.
    pub(super) fn run(self: &Arc<Self>) {
        let mut line = lock(&self.line);
        let mut is_closed = self.is_ending() || line.is_none();
        for _ in 0..TURN {
            let Some(line) = line.as_mut().filter(|_| !is_closed) else {
                break;
            };
            let Some(item) = self.next() else {
                break;
            };
            match item {
                Item::Unit(unit, at_us) => is_closed = line.take(&unit, at_us).is_err(),
                Item::Format(track, format) => line.set_format(track, &format),
            }
        }
        drop(line);
        if is_closed {
            lock(&self.queue).items.clear();
            self.close();
            return;
        }
        self.scheduled.store(false, Ordering::Release);
        if !lock(&self.queue).items.is_empty() {
            self.schedule();
        }
    }

    fn next(&self) -> Option<Item> {
        let mut queue = lock(&self.queue);
        let item = queue.items.pop_front()?;
        if let Item::Unit(unit, _) = &item {
            queue.bytes -= unit.data.len();
        }
        Some(item)
    }

    /// Ends the stream, on a thread that may wait for the data plane.
    pub(super) fn close(self: &Arc<Self>) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        let session = Arc::clone(self);
        self.runtime.spawn_blocking(move || session.end());
    }

    fn end(&self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(self);
        }
        self.produced.close();
        drop(lock(&self.line).take());
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
