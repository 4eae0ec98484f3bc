//! MPEG transport streams (ISO/IEC 13818-1) into units of pictures and sound.
//!
//! A [`Demuxer`] takes the bytes as they come, in RTP (RFC 2250) or bare, finds the first program and
//! gives what its streams hold: H.264 and H.265 as NAL units with lengths before them, AAC, Opus. It
//! knows no clock: times are the stream's own, in ticks of 90 kHz, without wrapping. Nothing that is
//! sent to it makes it hold more than [`MAX_PES_BYTES`] for each of [`MAX_TRACKS`] tracks.

mod elementary;
pub mod mux;
mod pes;
mod psi;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use elementary::Elementary;
use pes::PesAssembler;
use psi::{Sections, program_map, program_map_pid};

/// Length of a packet.
pub const PACKET_BYTES: usize = 188;

/// Ticks of its clock in a second.
pub const CLOCK_HZ: u32 = 90_000;

/// Streams of a program that are read; what a program has beyond is left out.
pub const MAX_TRACKS: usize = 8;

/// The largest PES packet: a keyframe of 4K video at a high bitrate.
pub const MAX_PES_BYTES: usize = 4 << 20;

const SYNC: u8 = 0x47;
const PAT_PID: u16 = 0;

/// What a stream of the program holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TsFormat {
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// AAC in ADTS.
    Adts,
    /// AAC in LOAS (LATM).
    Loas,
    /// Opus.
    Opus {
        /// Channels, 1 or 2.
        channels: u8,
    },
}

impl TsFormat {
    /// Whether it is pictures.
    #[must_use]
    pub const fn is_video(self) -> bool {
        matches!(self, Self::H264 | Self::H265)
    }
}

/// A stream of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TsTrack {
    /// Its packets' identifier.
    pub pid: u16,
    /// What it holds.
    pub format: TsFormat,
}

/// A picture, or a frame of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsUnit {
    /// Of which track.
    pub pid: u16,
    /// When it is shown, in ticks.
    pub pts: i64,
    /// When it is decoded, in ticks.
    pub dts: i64,
    /// Whether decoding can begin here.
    pub keyframe: bool,
    /// The coded bytes.
    pub data: Vec<u8>,
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TsEvent {
    /// The program's tracks, when they are known and when they change; with the stream types
    /// (ISO/IEC 13818-1 table 2-34) of those that are not read.
    Tracks(Vec<TsTrack>, Vec<u8>),
    /// The AudioSpecificConfig of the AAC that follows, at first and when it changes.
    AacConfig(u16, Vec<u8>),
    /// A unit.
    Unit(TsUnit),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Demuxer {
    /// A packet that is not complete.
    rest: Vec<u8>,
    continuity: HashMap<u16, u8>,
    pat: Sections,
    pmt_pid: Option<u16>,
    pmt: Sections,
    tracks: Vec<Track>,
    times: Times,
    lost: u64,
}

#[derive(Debug)]
struct Track {
    head: TsTrack,
    pes: PesAssembler,
    elementary: Elementary,
}

/// Times without wrapping, on one line for all tracks.
#[derive(Debug, Default, Clone, Copy)]
struct Times {
    /// The latest one, as it was sent and without wrapping.
    last: Option<(u64, i64)>,
}

impl Times {
    const BITS: u32 = 33;

    fn extend(&mut self, time: u64) -> i64 {
        let extended = match self.last {
            Some((last, extended)) => {
                // The sign of 33 bits, by way of the highest ones of 64.
                let shift = u64::BITS - Self::BITS;
                let apart = time.wrapping_sub(last) << shift;
                extended.saturating_add(apart.cast_signed() >> shift)
            }
            None => time.cast_signed(),
        };
        self.last = Some((time, extended));
        extended
    }
}

/// The fields of a packet that matter.
struct Packet<'a> {
    pid: u16,
    starts: bool,
    counter: u8,
    discontinuous: bool,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None`: damaged, encrypted, or without a payload.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[_, high, low, control], mut payload) = bytes.split_first_chunk()?;
        if high & 0x80 != 0 || control & 0xc0 != 0 || control & 0x10 == 0 {
            return None;
        }
        let mut discontinuous = false;
        if control & 0x20 != 0 {
            let (&length, after) = payload.split_first()?;
            let (adaptation, after) = after.split_at_checked(usize::from(length))?;
            discontinuous = adaptation.first().is_some_and(|flags| flags & 0x80 != 0);
            payload = after;
        }
        Some(Self {
            pid: u16::from(high & 0x1f) << 8 | u16::from(low),
            starts: high & 0x40 != 0,
            counter: control & 0x0f,
            discontinuous,
            payload,
        })
    }
}

impl Demuxer {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and adds what they complete to `events`.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<TsEvent>) {
        let mut held = std::mem::take(&mut self.rest);
        held.extend_from_slice(bytes);
        let mut rest = held.as_slice();
        loop {
            let Some(sync) = rest.iter().position(|&byte| byte == SYNC) else {
                return;
            };
            rest = &rest[sync..];
            let Some((packet, after)) = rest.split_at_checked(PACKET_BYTES) else {
                break;
            };
            // A byte that only looks like the beginning of a packet has none behind it.
            if after.first().is_some_and(|&next| next != SYNC) {
                rest = &rest[1..];
                continue;
            }
            if let Some(packet) = Packet::parse(packet) {
                self.packet(&packet, events);
            }
            rest = after;
        }
        self.rest = rest.to_vec();
    }

    /// Data is missing here: pictures go on with the next keyframe.
    pub fn gap(&mut self) {
        self.rest.clear();
        self.continuity.clear();
        for track in &mut self.tracks {
            track.pes.abandon();
            track.elementary.gap();
        }
    }

    /// What is complete though nothing has followed it: the stream ended or pauses.
    pub fn flush(&mut self, events: &mut Vec<TsEvent>) {
        for track in &mut self.tracks {
            if let Some(pes) = track.pes.take() {
                track.elementary.push(&pes, &mut self.times, events);
            }
        }
    }

    /// How often packets of a track were missing.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether pictures are left out until a keyframe comes.
    #[must_use]
    pub fn is_awaiting_keyframe(&self) -> bool {
        let waits = |track: &Track| track.elementary.is_awaiting_keyframe();
        self.tracks.iter().any(waits)
    }

    fn packet(&mut self, packet: &Packet<'_>, events: &mut Vec<TsEvent>) {
        let track = self.tracks.iter().position(|t| t.head.pid == packet.pid);
        let is_table = packet.pid == PAT_PID || Some(packet.pid) == self.pmt_pid;
        if !is_table && track.is_none() {
            return;
        }
        let before = self.continuity.insert(packet.pid, packet.counter);
        let is_repeated = before == Some(packet.counter) && !packet.discontinuous;
        if is_repeated {
            return;
        }
        let follows = |before: u8| (before + 1) & 0x0f == packet.counter;
        let is_gap = !before.is_none_or(follows) && !packet.discontinuous;
        if packet.pid == PAT_PID {
            self.association(packet, is_gap);
        } else if let Some(track) = track {
            if is_gap {
                self.lost += 1;
                self.tracks[track].pes.abandon();
                self.tracks[track].elementary.gap();
            }
            self.media(track, packet, events);
        } else {
            self.map(packet, is_gap, events);
        }
    }

    fn association(&mut self, packet: &Packet<'_>, is_gap: bool) {
        if is_gap {
            self.pat.abandon();
        }
        let mut chosen = None;
        self.pat.push(packet.payload, packet.starts, |section| {
            chosen = chosen.or(program_map_pid(section));
        });
        if chosen.is_some() && chosen != self.pmt_pid {
            self.pmt_pid = chosen;
            self.pmt = Sections::default();
        }
    }

    fn map(&mut self, packet: &Packet<'_>, is_gap: bool, events: &mut Vec<TsEvent>) {
        if is_gap {
            self.pmt.abandon();
        }
        let mut map = None;
        self.pmt.push(packet.payload, packet.starts, |section| {
            map = program_map(section).or(map.take());
        });
        let Some((heads, ignored)) = map else {
            return;
        };
        if self
            .tracks
            .iter()
            .map(|track| track.head)
            .eq(heads.iter().copied())
        {
            return;
        }
        self.flush(events);
        let mut before = std::mem::take(&mut self.tracks);
        for &head in &heads {
            let known = before.iter().position(|track| track.head == head);
            self.tracks.push(match known {
                Some(known) => before.swap_remove(known),
                None => Track {
                    head,
                    pes: PesAssembler::default(),
                    elementary: Elementary::new(head),
                },
            });
        }
        let kept = |pid: &u16| *pid == PAT_PID || heads.iter().any(|head| head.pid == *pid);
        self.continuity
            .retain(|pid, _| kept(pid) || Some(*pid) == self.pmt_pid);
        events.push(TsEvent::Tracks(heads, ignored));
    }

    fn media(&mut self, track: usize, packet: &Packet<'_>, events: &mut Vec<TsEvent>) {
        let track = &mut self.tracks[track];
        if packet.starts
            && let Some(pes) = track.pes.take()
        {
            track.elementary.push(&pes, &mut self.times, events);
        }
        if !track.pes.push(packet.payload, packet.starts) {
            track.elementary.gap();
        }
        if track.pes.is_complete()
            && let Some(pes) = track.pes.take()
        {
            track.elementary.push(&pes, &mut self.times, events);
        }
    }
}
