//! What is played next: opens the files of a playlist in turn, reads, packetizes and transcodes.
//!
//! A [`Feed`] is moved to a reading thread with a [`Task`] and back with what came of it, so nobody
//! shares it. It may wait for the disk; it knows play time, never wall time.

use std::collections::VecDeque;

use super::demux::{Coding, Mp4, Reader, Sample};
use super::demux::{DemuxError, Kind};
use super::media::sound;
use crate::media::audio::{AudioError, Transcoder};
use crate::media::packetize::{Format, Packetizer, Payloads};

/// Units that cannot be packetized one after the other before the file counts as damaged.
const MAX_BAD_UNITS: u32 = 100;

/// One access unit, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) kind: Kind,
    /// Play time: goes on through repetitions and playlists; what is sought is at 0.
    pub(super) play_us: i64,
    /// The file in the playlist, and the time in that.
    pub(super) item: usize,
    pub(super) position_us: i64,
    pub(super) duration_us: i64,
    pub(super) payloads: Payloads,
}

/// Why a file of the playlist cannot be played on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
    #[error(transparent)]
    Demux(#[from] DemuxError),
    #[error(transparent)]
    Audio(#[from] AudioError),
    #[error("the file is damaged: {MAX_BAD_UNITS} frames one after the other cannot be read")]
    BadUnits,
}

/// What a reading thread is to do with a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    /// First go there: a file of the playlist, and a time in it.
    pub(super) seek: Option<(usize, i64)>,
    /// Read until this play time,
    pub(super) until_us: i64,
    /// or until so many bytes.
    pub(super) max_bytes: usize,
    /// After the last file begin with the first.
    pub(super) repeat: bool,
}

/// What came of a [`Task`].
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) units: Vec<Unit>,
    pub(super) end: Option<End>,
}

/// Why there is nothing more to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The playlist was played; play time at its end.
    Played(i64),
    /// The file cannot be played on.
    Failed(String),
}

/// A playlist and where in it we are.
pub(super) struct Feed {
    items: Vec<Mp4>,
    item: usize,
    reader: Option<Reader>,
    packetizers: [Option<Packetizer>; 2],
    transcoder: Option<Transcoder>,
    picture_id: u16,
    /// Play time at the beginning of the present file.
    offset_us: i64,
    /// What lies before this position of the present file is not heard, only seen on the way.
    from_us: i64,
    /// Latest end of a sample of the present file.
    end_us: i64,
    /// Whether anything was read since the playlist's beginning.
    has_played: bool,
    bad_units: u32,
    buffer: Vec<u8>,
    /// Transcoded sound that waits for its turn: one unit may make several packets.
    made: VecDeque<Unit>,
}

fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Video => 0,
        Kind::Audio => 1,
    }
}

impl Feed {
    /// At the beginning of `items`, which all can be played as one stream.
    pub(super) fn new(items: Vec<Mp4>, picture_id: u16) -> Self {
        Self {
            items,
            item: 0,
            reader: None,
            packetizers: [None, None],
            transcoder: None,
            picture_id,
            offset_us: 0,
            from_us: 0,
            end_us: 0,
            has_played: false,
            bad_units: 0,
            buffer: Vec::new(),
            made: VecDeque::new(),
        }
    }

    /// Carries out a task.
    pub(super) fn run(&mut self, task: &Task) -> Filled {
        let mut filled = Filled::default();
        if let Err(error) = self.fill(task, &mut filled) {
            filled.end = Some(End::Failed(error.to_string()));
        }
        filled
    }

    fn fill(&mut self, task: &Task, filled: &mut Filled) -> Result<(), FeedError> {
        if let Some((item, us)) = task.seek {
            self.open(item, us)?;
            self.offset_us = -us;
        } else if self.reader.is_none() {
            self.open(0, 0)?;
        }
        let mut bytes = 0;
        while bytes < task.max_bytes {
            if let Some(unit) = self.next_unit()? {
                bytes += unit.payloads.bytes();
                let play_us = unit.play_us;
                filled.units.push(unit);
                if play_us >= task.until_us {
                    break;
                }
            } else if !self.next_item(task.repeat)? {
                filled.end = Some(End::Played(self.offset_us + self.end_us));
                break;
            }
        }
        Ok(())
    }

    /// Begins a file of the playlist at `us`.
    fn open(&mut self, item: usize, us: i64) -> Result<(), FeedError> {
        self.item = item.min(self.items.len() - 1);
        let mp4 = &self.items[self.item];
        let mut reader = mp4.reader()?;
        if us > 0 {
            reader.seek(us)?;
        }
        self.transcoder = None;
        for track in mp4.tracks() {
            let format = match &track.coding {
                Coding::Direct { format, .. } => format.clone(),
                Coding::Aac { config } => {
                    self.transcoder = Some(sound(config)?);
                    Format::Opus
                }
            };
            match &mut self.packetizers[slot(track.kind)] {
                Some(packetizer) => packetizer.set_format(format),
                none => *none = Some(Packetizer::new(format, self.picture_id)),
            }
        }
        self.reader = Some(reader);
        self.from_us = us;
        self.end_us = us.max(0);
        self.bad_units = 0;
        self.made.clear();
        Ok(())
    }

    /// Goes on with the next file. `false`: there is none.
    fn next_item(&mut self, repeat: bool) -> Result<bool, FeedError> {
        let next = self.item + 1;
        let next = match next < self.items.len() {
            true => next,
            // What plays nothing is not repeated forever.
            false if repeat && self.has_played => {
                self.has_played = false;
                0
            }
            false => return Ok(false),
        };
        let offset_us = self.offset_us + self.end_us;
        self.open(next, 0)?;
        self.offset_us = offset_us;
        Ok(true)
    }

    /// The next unit of the present file.
    fn next_unit(&mut self) -> Result<Option<Unit>, FeedError> {
        loop {
            if let Some(made) = self.made.pop_front() {
                self.has_played = true;
                return Ok(Some(made));
            }
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            let Some(sample) = reader.next_sample()? else {
                return Ok(None);
            };
            if sample.size == 0 {
                continue;
            }
            reader.read(&sample, &mut self.buffer)?;
            let sample_end_us = sample.pts_us.saturating_add(sample.duration_us);
            self.end_us = self.end_us.max(sample_end_us);
            match self.items[self.item].tracks()[sample.track].kind {
                Kind::Video => self.video(&sample)?,
                Kind::Audio if self.transcoder.is_some() => self.transcode(&sample)?,
                Kind::Audio if sample_end_us <= self.from_us => {}
                Kind::Audio => {
                    let buffer = std::mem::take(&mut self.buffer);
                    self.push(
                        Kind::Audio,
                        sample.pts_us,
                        sample.duration_us,
                        true,
                        &buffer,
                    )?;
                    self.buffer = buffer;
                }
            }
        }
    }

    fn video(&mut self, sample: &Sample) -> Result<(), FeedError> {
        let buffer = std::mem::take(&mut self.buffer);
        let (pts_us, duration_us) = (sample.pts_us, sample.duration_us);
        let done = self.push(
            Kind::Video,
            pts_us,
            duration_us,
            sample.is_keyframe,
            &buffer,
        );
        self.buffer = buffer;
        done
    }

    fn transcode(&mut self, sample: &Sample) -> Result<(), FeedError> {
        let Some(mut transcoder) = self.transcoder.take() else {
            return Ok(());
        };
        let mut packets = Vec::new();
        transcoder.push(sample.pts_us, &self.buffer, |us, packet: &[u8]| {
            packets.push((us, packet.to_vec()));
        })?;
        self.transcoder = Some(transcoder);
        for (us, packet) in packets {
            if us >= self.from_us {
                self.push(Kind::Audio, us, Transcoder::PACKET_US, true, &packet)?;
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        kind: Kind,
        position_us: i64,
        duration_us: i64,
        is_keyframe: bool,
        unit: &[u8],
    ) -> Result<(), FeedError> {
        let Some(packetizer) = &mut self.packetizers[slot(kind)] else {
            return Ok(());
        };
        let mut payloads = Payloads::default();
        match packetizer.packetize(unit, is_keyframe, &mut payloads) {
            Ok(()) => self.bad_units = 0,
            Err(_) if self.bad_units < MAX_BAD_UNITS => {
                self.bad_units += 1;
                return Ok(());
            }
            Err(_) => return Err(FeedError::BadUnits),
        }
        self.made.push_back(Unit {
            kind,
            play_us: self.offset_us + position_us,
            item: self.item,
            position_us,
            duration_us,
            payloads,
        });
        Ok(())
    }
}
