//! The output threads: they take packets off the taps and give pieces to readers.
//!
//! Each carries many streams; a stream stays on one thread. They are neither shards nor tokio's threads,
//! and they never wait for a reader.

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::hls::{Packager, Shelf};
use super::reader::Feed;
use super::remux::{Begin, Piece, Remux};
use super::sound::AacSound;
use super::ts::Program;
use super::{OutputKind, Sound};
use crate::media::mux::MuxError;
use crate::media::recording::{Output, Recording, Settings};
use crate::taps::{EngineClock, Feeds, Source, Threads, Work};

/// The most a fragment holds: what it delays readers.
const FRAGMENT_US: u64 = 100_000;

/// How long a missing packet is waited for: some retransmissions.
const WAIT_US: u64 = 400_000;

/// What a thread is told.
pub(super) enum Command {
    Add(Box<Running>),
    /// The publisher's tracks; none: it left.
    Attach(u64, Vec<Box<dyn Source>>),
    /// Somebody reads.
    Read(u64, Feed),
    /// Somebody reads HLS, or nobody does any more.
    Hls(u64, bool),
    /// The stream is over: readers are told so.
    Finish(u64),
    /// Ends a stream's output.
    Remove(u64),
}

/// All output threads.
pub(super) type Workers = Threads<Command>;

/// Starts the output threads.
pub(super) fn start(threads: usize) -> io::Result<Workers> {
    Threads::start("output", threads, Thread::default)
}

/// What one thread has.
#[derive(Default)]
struct Thread(Vec<Running>);

impl Work for Thread {
    type Command = Command;

    fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    fn turn(&mut self, clock: &mut EngineClock) {
        for running in &mut self.0 {
            running.turn(clock);
        }
    }

    /// Readers see their connections end.
    fn end(self, _: &mut EngineClock) {}

    fn obey(&mut self, command: Command, clock: &mut EngineClock) {
        let (id, command) = match command {
            Command::Add(running) => return self.0.push(*running),
            Command::Remove(id) => return self.0.retain(|running| running.id != id),
            Command::Attach(id, _)
            | Command::Read(id, _)
            | Command::Hls(id, _)
            | Command::Finish(id) => (id, command),
        };
        let now_us = clock.now_us();
        let Some(running) = self.0.iter_mut().find(|running| running.id == id) else {
            return;
        };
        match command {
            Command::Attach(_, sources) => running.attach(sources, now_us),
            Command::Read(_, feed) => running.read(feed),
            Command::Hls(_, true) => running.begin_hls(),
            Command::Hls(_, false) => running.end_hls(),
            Command::Finish(_) => running.finish(),
            Command::Add(_) | Command::Remove(_) => {}
        }
    }
}

/// One stream's output at work.
pub(super) struct Running {
    id: u64,
    stream: String,
    recording: Recording,
    sound: Sound,
    aac: Option<AacSound>,
    remux: Remux,
    readers: Vec<Feed>,
    /// The tracks as a transport stream; `Err` says why not.
    program: Option<Result<Program, String>>,
    shelf: Arc<Shelf>,
    hls: Option<Packager>,
    feeds: Feeds,
    /// What to add to the recording's time for Unix time.
    wall_us: i64,
    failed: bool,
}

impl Running {
    pub(super) fn new(id: u64, stream: &str, sound: Sound, shelf: Arc<Shelf>) -> Self {
        Self {
            id,
            stream: stream.to_owned(),
            recording: Recording::new(Settings {
                fragment_us: FRAGMENT_US,
                wait_us: WAIT_US,
            }),
            sound,
            aac: (sound == Sound::Aac).then(AacSound::default),
            remux: Remux::default(),
            readers: Vec::new(),
            program: None,
            shelf,
            hls: None,
            feeds: Feeds::default(),
            wall_us: 0,
            failed: false,
        }
    }

    fn attach(&mut self, sources: Vec<Box<dyn Source>>, now_us: u64) {
        let arrives = !sources.is_empty();
        self.feeds.attach(&mut self.recording, sources, now_us);
        // The rest of the one before.
        self.put_all(now_us);
        if arrives {
            self.remux.arrive();
        }
    }

    fn turn(&mut self, clock: &mut EngineClock) {
        if self.failed {
            return;
        }
        self.feeds.listen(&mut self.recording, clock);
        let now_us = clock.now_us();
        self.put_all(now_us);
        self.wish_for_keyframes();
    }

    /// Gives out what is ready.
    fn put_all(&mut self, now_us: u64) {
        while let Some(output) = self.recording.poll(now_us) {
            if let Err(error) = self.put(output, now_us) {
                tracing::error!(stream = self.stream, %error, "a stream's output was ended");
                self.failed = true;
                self.feeds.clear();
                self.finish();
                return;
            }
        }
    }

    fn put(&mut self, output: Output, now_us: u64) -> Result<(), MuxError> {
        match output {
            Output::Part(head) => {
                let head = match &mut self.aac {
                    Some(aac) => aac.part(head),
                    None => head,
                };
                let begin = self.remux.begin(head)?;
                tracing::debug!(stream = self.stream, codecs = begin.codecs(), "tracks");
                // What they were told of the tracks holds no longer.
                let before = self.readers.len();
                self.readers.retain(|reader| !reader.has_begun());
                let program = Program::new(&begin);
                if let Err(why) = &program {
                    self.readers.retain_mut(|reader| {
                        let is_ts = reader.kind() == OutputKind::Ts;
                        if is_ts {
                            reader.refuse(why);
                        }
                        !is_ts
                    });
                }
                self.program = Some(program);
                let ended = before - self.readers.len();
                if ended > 0 {
                    let codecs = begin.codecs();
                    tracing::info!(
                        stream = self.stream,
                        codecs,
                        readers = ended,
                        "other tracks than before: its readers come to their end"
                    );
                }
                if let Some(hls) = &mut self.hls {
                    hls.begin_anew();
                }
                Ok(())
            }
            Output::Fragment(fragment) => {
                let fragment = match &mut self.aac {
                    Some(aac) => aac.fragment(fragment),
                    None => Some(fragment),
                };
                let Some(fragment) = fragment else {
                    return Ok(());
                };
                let now_us = i64::try_from(now_us).unwrap_or(i64::MAX);
                let piece = self.remux.add(fragment, now_us)?;
                self.wall_us = unix_us() - now_us;
                if let (Some(piece), Some(begin)) = (piece, self.remux.head()) {
                    if let Some(hls) = &mut self.hls {
                        hls.add(begin, &piece, self.wall_us)?;
                    }
                    let begins = piece.description.is_some() || !begin.has_pictures();
                    let program = self
                        .program
                        .as_mut()
                        .and_then(|program| program.as_mut().ok());
                    let has = |kind| self.readers.iter().any(|reader| reader.kind() == kind);
                    let packets = program.filter(|_| has(OutputKind::Ts));
                    let packets = packets.map(|program| program.packets(begin, &piece));
                    self.readers.retain_mut(|reader| match reader.kind() {
                        OutputKind::Ts => give_packets(reader, packets.as_ref(), begins),
                        _ => give(reader, begin, &piece, begins),
                    });
                }
                Ok(())
            }
        }
    }

    /// Somebody reads: it begins at once if there is a keyframe to begin with.
    fn read(&mut self, mut reader: Feed) {
        let caught_up = self.remux.catch_up().unwrap_or(None);
        let is_ts = reader.kind() == OutputKind::Ts;
        if let (true, Some(Err(why))) = (is_ts, &self.program) {
            return reader.refuse(why);
        }
        let stays = match (self.remux.head(), caught_up, &self.program) {
            (Some(begin), Some(piece), Some(Ok(program))) if is_ts => {
                let packets = program.catch_up(begin, &piece);
                give_packets(&mut reader, Some(&packets), true)
            }
            (Some(begin), Some(piece), _) if !is_ts => give(&mut reader, begin, &piece, true),
            _ => true,
        };
        if stays && !self.failed {
            self.readers.push(reader);
        }
    }

    /// Somebody reads HLS: it begins with what there is since the latest keyframe.
    fn begin_hls(&mut self) {
        if self.hls.is_some() || self.failed {
            return;
        }
        let wall_s = u64::try_from(unix_us() / 1_000_000).unwrap_or(0);
        let mut hls = Packager::new(Arc::clone(&self.shelf), wall_s, self.sound);
        if let (Ok(Some(piece)), Some(begin)) = (self.remux.catch_up(), self.remux.head())
            && let Err(error) = hls.add(begin, &piece, self.wall_us)
        {
            tracing::error!(stream = self.stream, %error, "a stream cannot be read as HLS");
            return;
        }
        self.hls = Some(hls);
    }

    fn end_hls(&mut self) {
        self.hls = None;
        self.shelf.clear();
    }

    /// Nothing follows: readers come to their end.
    fn finish(&mut self) {
        self.readers.clear();
        if let Some(mut hls) = self.hls.take() {
            hls.end();
        }
    }

    fn wish_for_keyframes(&mut self) {
        self.feeds.wish_for_keyframes(&self.recording, || {
            let waits = self.readers.iter().any(|reader| !reader.has_begun());
            let hls = self.hls.as_mut().is_some_and(Packager::wants_keyframe);
            let waits = waits || self.hls.as_ref().is_some_and(Packager::awaits_keyframe);
            hls || (waits && self.remux.lacks_keyframe())
        });
    }
}

/// Gives a reader a piece, if it can use it; `false`: it is there no longer.
fn give(reader: &mut Feed, begin: &Arc<Begin>, piece: &Arc<Piece>, begins: bool) -> bool {
    if !reader.has_begun() && !begins {
        return !reader.is_gone();
    }
    reader.give_fragment(begin, piece)
}

/// Gives a reader packets of the transport stream, if it can use them; `false`: it is there no longer.
fn give_packets(reader: &mut Feed, packets: Option<&Bytes>, begins: bool) -> bool {
    match packets {
        Some(packets) if reader.has_begun() || begins => {
            reader.begin();
            reader.give(packets)
        }
        _ => !reader.is_gone(),
    }
}

/// Microseconds of Unix time.
fn unix_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}
