//! Where a recording's parts go: into files, or into memory for a later flush.
//!
//! A recorder's thread gives it each [`Output`](crate::media::recording::Output). It encodes and hands over to the disk threads; it must
//! never wait for them.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::disk::{AfterClose, Disk, FileState, Later, QueueFull, Writer};
use super::path::{Directory, PathError, RecordingPath, Template};
use crate::media::mux::{self, MuxError, Sample, TrackRun};
use crate::media::recording::{Fragment, Head};

/// Part numbers that are tried to find a name nobody has.
const MAX_PARTS: u32 = 100_000;

/// What every recorder uses.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) directory: Directory,
    pub(super) disk: Disk,
    pub(super) later: Later,
}

/// How the files of a recorder are named.
#[derive(Debug, Clone)]
pub(super) enum Naming {
    /// This one; further parts get a number.
    Path(RecordingPath),
    /// By a rule, whatever name is free.
    Template(Template),
}

/// Why a recorder cannot go on. All are fatal to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum SinkError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Mux(#[from] MuxError),
    #[error("no name is free for another part; choose a template with {{date}} and {{time}}")]
    NoName,
    #[error("{0}")]
    File(String),
}

/// A part on its way to the disk.
#[derive(Debug)]
struct Part {
    writer: Writer,
    head: Head,
    path: RecordingPath,
    created: Duration,
    fragments: u32,
    /// Where each track ends, in its ticks.
    ends: Vec<u64>,
}

/// The files of one recorder, one after the other.
#[derive(Debug)]
pub(super) struct FileSink {
    owner: u64,
    stream: String,
    naming: Naming,
    progressive: bool,
    began: SystemTime,
    parts: u32,
    part: Option<Part>,
    /// Parts that are closed and may not be complete on the disk yet.
    closing: Vec<Writer>,
    closed_bytes: u64,
    closed_us: i64,
}

impl FileSink {
    pub(super) fn new(owner: u64, stream: &str, naming: Naming, progressive: bool) -> Self {
        Self {
            owner,
            stream: stream.to_owned(),
            naming,
            progressive,
            began: SystemTime::now(),
            parts: 0,
            part: None,
            closing: Vec::new(),
            closed_bytes: 0,
            closed_us: 0,
        }
    }

    /// Begins a part: its file is made.
    pub(super) fn begin(&mut self, head: Head, places: &Places) -> Result<(), SinkError> {
        self.close(places);
        let path = self.next_path(places)?;
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let bytes = mux::head(&head.tracks, created)?;
        let (directory, at) = (places.directory.clone(), path.clone());
        let create = Box::new(move || directory.create(&at));
        let writer = places.disk.open(self.owner, create, bytes);
        tracing::info!(stream = self.stream, path = path.as_str(), "recording");
        self.part = Some(Part {
            writer,
            ends: vec![0; head.tracks.len()],
            head,
            path,
            created,
            fragments: 0,
        });
        Ok(())
    }

    /// Adds a fragment to the part.
    ///
    /// # Errors
    /// The inner one: the disk is behind, the fragment is dropped and nothing else. The outer one:
    /// the file has failed.
    pub(super) fn add(&mut self, fragment: &Fragment) -> Result<Result<(), QueueFull>, SinkError> {
        let Some(part) = &mut self.part else {
            return Ok(Ok(()));
        };
        if let FileState::Failed(why) = part.writer.state() {
            return Err(SinkError::File(why));
        }
        let bytes = part.encode(fragment)?;
        let written = part.writer.write(bytes);
        if written.is_ok() {
            part.note(fragment);
        }
        Ok(written)
    }

    /// Ends the part, if there is one.
    pub(super) fn close(&mut self, places: &Places) {
        let Some(part) = self.part.take() else {
            return;
        };
        self.closed_us += part.duration_us();
        self.closed_bytes += part.writer.bytes().0 + part.writer.bytes().1;
        let after = self.progressive.then(|| part.finish_later(places));
        let head = part.final_head();
        part.writer.close(head, after);
        self.closing.push(part.writer);
    }

    /// The writers whose files are to be complete when the recorder has stopped.
    pub(super) fn take_closing(&mut self) -> Vec<Writer> {
        std::mem::take(&mut self.closing)
    }

    /// Path of the present part.
    pub(super) fn path(&self) -> Option<&RecordingPath> {
        self.part.as_ref().map(|part| &part.path)
    }

    pub(super) fn parts(&self) -> u32 {
        self.parts
    }

    /// Bytes in files and bytes on the way there.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let (written, queued) = self
            .part
            .as_ref()
            .map_or((0, 0), |part| part.writer.bytes());
        (self.closed_bytes + written, queued)
    }

    /// What the parts last in all.
    pub(super) fn duration_us(&self) -> i64 {
        self.closed_us + self.part.as_ref().map_or(0, Part::duration_us)
    }

    fn next_path(&mut self, places: &Places) -> Result<RecordingPath, SinkError> {
        while self.parts < MAX_PARTS {
            self.parts += 1;
            let path = match &self.naming {
                // A file that is there already is refused when it is made.
                Naming::Path(path) if self.parts == 1 => return Ok(path.clone()),
                Naming::Path(path) => {
                    let stem = path.as_str().trim_end_matches(".mp4");
                    RecordingPath::parse(&format!("{stem}-{}", self.parts))?
                }
                Naming::Template(template) => {
                    template.path(&self.stream, self.began, self.parts)?
                }
            };
            if !places.directory.has(&path) {
                return Ok(path);
            }
        }
        Err(SinkError::NoName)
    }
}

impl Part {
    fn encode(&mut self, fragment: &Fragment) -> Result<Vec<u8>, MuxError> {
        self.fragments += 1;
        let runs: Vec<_> = fragment
            .runs
            .iter()
            .map(|(track, samples)| TrackRun {
                track: *track,
                base: self.head.base(*track),
                samples,
            })
            .collect();
        mux::fragment(self.fragments, &runs)
    }

    fn note(&mut self, fragment: &Fragment) {
        for (track, samples) in &fragment.runs {
            let base = self.head.base(*track);
            let end = |sample: &Sample| sample.dts + i64::from(sample.duration) - base;
            if let (Some(last), Some(at)) = (samples.last(), self.ends.get_mut(*track)) {
                *at = u64::try_from(end(last)).unwrap_or(0).max(*at);
            }
        }
    }

    fn duration_us(&self) -> i64 {
        let ends =
            self.head.tracks.iter().zip(&self.ends).map(|(track, end)| {
                u128::from(*end) * 1_000_000 / u128::from(track.timescale.get())
            });
        ends.max()
            .and_then(|us| i64::try_from(us).ok())
            .unwrap_or(0)
    }

    /// The head with the durations that are known now; `None` leaves the one that is there.
    fn final_head(&self) -> Option<Vec<u8>> {
        let mut tracks = self.head.tracks.clone();
        for (track, end) in tracks.iter_mut().zip(&self.ends) {
            track.duration = *end;
        }
        mux::head(&tracks, self.created).ok()
    }

    /// Makes it progressive once it is closed.
    fn finish_later(&self, places: &Places) -> AfterClose {
        let path = places.directory.path().join(self.path.as_str());
        let (later, name) = (places.later.clone(), self.path.clone());
        let state = self.writer.clone();
        Box::new(move || {
            later.run(Box::new(move || {
                if let Err(error) = super::finish::finish(&path) {
                    let path = name.as_str();
                    tracing::warn!(path, %error, "the recording stays fragmented: it cannot be finished");
                }
                state.complete();
            }));
        })
    }
}

/// The last seconds of a stream, in memory.
#[derive(Debug)]
pub(super) struct Shift {
    hold_us: i64,
    max_bytes: usize,
    head: Option<Head>,
    held: VecDeque<Fragment>,
    bytes: usize,
}

impl Shift {
    pub(super) fn new(hold: Duration, max_bytes: usize) -> Self {
        Self {
            hold_us: i64::try_from(hold.as_micros()).unwrap_or(i64::MAX),
            max_bytes,
            head: None,
            held: VecDeque::new(),
            bytes: 0,
        }
    }

    /// A part begins; what is held of the one before cannot go into one file with it.
    pub(super) fn begin(&mut self, head: Head) {
        self.head = Some(head);
        self.held.clear();
        self.bytes = 0;
    }

    pub(super) fn add(&mut self, fragment: Fragment) {
        let latest_us = fragment.end_us;
        self.bytes += fragment.bytes;
        self.held.push_back(fragment);
        while let Some(oldest) = self.held.front() {
            let needless = self.is_needless(latest_us);
            if !needless && self.bytes <= self.max_bytes {
                break;
            }
            self.bytes -= oldest.bytes;
            self.held.pop_front();
        }
    }

    /// Whether a later fragment to begin with reaches back far enough.
    fn is_needless(&self, latest_us: i64) -> bool {
        let wanted_us = latest_us.saturating_sub(self.hold_us);
        let begins = self.held.iter().skip(1).find(|fragment| fragment.keyframe);
        begins.is_some_and(|fragment| fragment.start_us <= wanted_us)
    }

    /// How long it reaches back, and its bytes.
    pub(super) fn holds(&self) -> (i64, usize) {
        let first = self.held.iter().find(|fragment| fragment.keyframe);
        let span = first.zip(self.held.back());
        (
            span.map_or(0, |(first, last)| last.end_us - first.start_us),
            self.bytes,
        )
    }

    /// Whether decoding could last begin so long ago that a flush would soon have to reach back
    /// further than is asked for.
    pub(super) fn is_stale(&self, now_us: u64) -> bool {
        const AT_LEAST_US: i64 = 2_000_000;
        let latest = self.held.iter().rev().find(|fragment| fragment.keyframe);
        let now_us = i64::try_from(now_us).unwrap_or(i64::MAX);
        let allowed_us = (self.hold_us / 4).max(AT_LEAST_US);
        latest.is_some_and(|fragment| now_us - fragment.start_us > allowed_us)
    }

    /// Writes what is held into a file of its own; `None` if nothing is.
    pub(super) fn flush(
        &self,
        owner: u64,
        path: &RecordingPath,
        places: &Places,
    ) -> Result<Option<(Writer, i64)>, SinkError> {
        let held = self.held.iter().skip_while(|fragment| !fragment.keyframe);
        let mut held = held.peekable();
        let (Some(head), Some(first)) = (&self.head, held.peek()) else {
            return Ok(None);
        };
        let head = Head {
            tracks: head.tracks.clone(),
            base_us: first.start_us,
        };
        let mut sink = FileSink::new(owner, "", Naming::Path(path.clone()), false);
        sink.begin(head, places)?;
        if let Some(part) = &mut sink.part {
            for fragment in held {
                let bytes = part.encode(fragment)?;
                // It is in memory already: the bound of the queue is for what would pile up.
                part.writer.write_anyway(bytes);
                part.note(fragment);
            }
        }
        let duration_us = sink.duration_us();
        sink.close(places);
        Ok(sink
            .take_closing()
            .pop()
            .map(|writer| (writer, duration_us)))
    }
}
