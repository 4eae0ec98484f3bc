//! The recorder threads: they take packets off the taps and make fragments of them.
//!
//! Each carries many recorders; a recorder stays on one thread. They are neither shards nor tokio's
//! threads, so what they do delays nobody; and they never wait for the disk, so a recorder delays no
//! other.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanmill_engine::packet::codec::MediaKind;
use tokio::sync::oneshot;

use super::disk::{QueueFull, Writer};
use super::info::{RecorderEvent, RecorderEvents, Status};
use super::path::RecordingPath;
use super::sink::{FileSink, Places, Shift, SinkError};
use crate::media::recording::{Output, Recording};
use crate::taps::{EngineClock, Item, Source};

/// How often a thread looks after its recorders: taps hold what comes meanwhile.
const TURN: Duration = Duration::from_millis(10);

/// How often a keyframe is wished for.
const KEYFRAME_WISH: Duration = Duration::from_millis(500);

/// How often the status is brought up to date.
const STATUS_EVERY: Duration = Duration::from_millis(200);

/// Items taken from one source in a turn: the others get theirs.
const ITEMS_A_TURN: usize = 4096;

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
    sources: Vec<(usize, Box<dyn Source>)>,
    wished: Option<Instant>,
    reported: Option<Instant>,
    dropping: bool,
    /// Files begun.
    begun: u32,
    failed: bool,
}

/// All recorder threads.
pub(super) struct Workers(Vec<Sender<Command>>);

impl Workers {
    pub(super) fn start(threads: usize, places: &Arc<Places>) -> io::Result<Self> {
        let start = |number| {
            let (sender, commands) = mpsc::channel();
            let thread = Thread {
                places: Arc::clone(places),
                running: Vec::new(),
                clock: EngineClock::default(),
            };
            std::thread::Builder::new()
                .name(format!("recorder-{number}"))
                .spawn(move || thread.run(&commands))?;
            Ok(sender)
        };
        Ok(Self(
            (0..threads.max(1)).map(start).collect::<io::Result<_>>()?,
        ))
    }

    /// Tells the thread of recorder `id`; `false` if it has ended.
    pub(super) fn tell(&self, id: u64, command: Command) -> bool {
        let thread = usize::try_from(id).unwrap_or(0) % self.0.len();
        self.0[thread].send(command).is_ok()
    }
}

struct Thread {
    places: Arc<Places>,
    running: Vec<Running>,
    clock: EngineClock,
}

impl Thread {
    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            // Without recorders there is nothing to look after.
            if self.running.is_empty() {
                match commands.recv() {
                    Ok(command) => self.obey(command),
                    Err(_) => return,
                }
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.end(),
                }
            }
            let began = Instant::now();
            for running in &mut self.running {
                running.turn(&mut self.clock, &self.places);
            }
            std::thread::sleep(TURN.saturating_sub(began.elapsed()));
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Add(running) => self.running.push(*running),
            Command::Attach(id, sources) => {
                let now_us = self.clock.now_us();
                if let Some(running) = self.find(id) {
                    running.attach(sources, now_us);
                }
            }
            Command::Stop(id, done) => {
                let position = self.running.iter().position(|running| running.id == id);
                let stopped = position.map(|position| self.running.swap_remove(position));
                let closing = stopped.map(|running| running.stop(&mut self.clock, &self.places));
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

    fn find(&mut self, id: u64) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.id == id)
    }

    /// The program ends without having stopped the recorders.
    fn end(mut self) {
        for running in self.running.drain(..) {
            running.stop(&mut self.clock, &self.places);
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
            sources: Vec::new(),
            wished: None,
            reported: None,
            dropping: false,
            begun: 0,
            failed: false,
        }
    }

    fn attach(&mut self, sources: Vec<Box<dyn Source>>, now_us: u64) {
        let kinds: Vec<MediaKind> = sources.iter().map(|source| source.kind()).collect();
        let numbers = self.recording.attach(&kinds, now_us);
        self.sources = numbers.into_iter().zip(sources).collect();
        self.wished = None;
    }

    fn turn(&mut self, clock: &mut EngineClock, places: &Places) {
        if self.failed {
            return;
        }
        self.listen(clock);
        let now_us = clock.now_us();
        while let Some(output) = self.recording.poll(now_us) {
            self.put(output, places);
        }
        self.wish_for_keyframes(now_us);
        if self.reported.is_none_or(|at| at.elapsed() >= STATUS_EVERY) {
            self.reported = Some(Instant::now());
            self.report();
        }
    }

    /// Takes what the sources have.
    fn listen(&mut self, clock: &mut EngineClock) {
        for (track, source) in &mut self.sources {
            for _ in 0..ITEMS_A_TURN {
                match source.pop() {
                    Some(Item::Packet(packet, clock_rate_hz)) => {
                        clock.arrived(packet.arrival_us);
                        self.recording.push(*track, packet, clock_rate_hz);
                    }
                    Some(Item::Report(ntp, timestamp)) => {
                        self.recording.reported(*track, ntp, timestamp);
                    }
                    Some(Item::Captured(ntp, timestamp)) => {
                        self.recording.captured(*track, ntp, timestamp);
                    }
                    Some(Item::Restarted) => self.recording.restart(*track, clock.now_us()),
                    None => break,
                }
            }
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
        self.sources.clear();
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

    fn wish_for_keyframes(&mut self, now_us: u64) {
        if self.wished.is_some_and(|at| at.elapsed() < KEYFRAME_WISH) {
            return;
        }
        // What is held can be flushed only from a keyframe on: there must be one now and then.
        let stale = match &self.target {
            Target::Memory(shift) => shift.is_stale(now_us),
            Target::Files(_) => false,
        };
        for (track, source) in &mut self.sources {
            let video = source.kind() == MediaKind::Video;
            if video && (stale || self.recording.wants_keyframe(*track)) {
                source.want_keyframe();
                self.wished = Some(Instant::now());
            }
        }
    }

    fn flush(&mut self, path: &RecordingPath, places: &Places) -> Flushed {
        match &self.target {
            Target::Memory(shift) => shift.flush(self.id, path, places),
            Target::Files(_) => Ok(None),
        }
    }

    fn stop(mut self, clock: &mut EngineClock, places: &Places) -> Vec<Writer> {
        if !self.failed {
            self.listen(clock);
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
        let live = !self.sources.is_empty();
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
