//! Payloads of one payload type, in order, into units for an ingest.

use fanmill_engine::packet::codec::Codec;

use super::format::{RtpFormat, track_of_keyframe, video_track};
use crate::ingest::TrackFormat;
use crate::media::clock::TrackClock;
use crate::media::depacketize::{Depacketizer, LatmDepacketizer, Mpeg4Depacketizer};
use crate::media::reorder::Packet;
use crate::media::ts::{CLOCK_HZ, Demuxer, TsEvent, TsFormat, TsTrack};

/// Which of a source's tracks: the identifier of a transport stream's, and 0 of others'.
pub(crate) type Lane = u16;

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// All tracks there are, and whether each is pictures; those of before are no more.
    Lanes(Vec<(Lane, bool)>),
    /// What follows on a track is this.
    Format(Lane, TrackFormat),
    /// A picture, or a packet of sound.
    Unit(Lane, ReadUnit),
    /// So many packets did not come.
    Lost(u64),
}

/// See [`Read::Unit`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadUnit {
    pub(crate) pts_us: i64,
    pub(crate) dts_us: i64,
    pub(crate) keyframe: bool,
    pub(crate) data: Vec<u8>,
}

impl ReadUnit {
    fn at(time_us: i64, keyframe: bool, data: Vec<u8>) -> Self {
        Self {
            pts_us: time_us,
            dts_us: time_us,
            keyframe,
            data,
        }
    }
}

/// See the module.
pub(super) struct Reader {
    content: Content,
    told: Vec<(Lane, TrackFormat)>,
    malformed: u64,
}

enum Content {
    Video(Codec, Box<Depacketizer>),
    Sound,
    Mpeg4(Mpeg4Depacketizer),
    Latm(LatmDepacketizer, u32),
    TransportStream(Box<Demuxer>, Vec<TsTrack>),
}

impl Reader {
    pub(super) fn new(format: &RtpFormat, out: &mut Vec<Read>) -> Self {
        let content = match format {
            RtpFormat::Video {
                codec,
                parameter_sets,
            } => {
                let mut depacketizer = Depacketizer::new();
                depacketizer.set_parameter_sets(*codec, parameter_sets);
                Content::Video(*codec, Box::new(depacketizer))
            }
            RtpFormat::Mpeg4 { layout, .. } => Content::Mpeg4(Mpeg4Depacketizer::new(*layout)),
            RtpFormat::Latm {
                config,
                clock_rate_hz,
            } => {
                let latm = match config {
                    Some(config) => LatmDepacketizer::configured(config.clone()),
                    None => LatmDepacketizer::in_band(),
                };
                Content::Latm(latm, *clock_rate_hz)
            }
            RtpFormat::TransportStream => Content::TransportStream(Box::default(), Vec::new()),
            RtpFormat::Opus { .. } | RtpFormat::Pcmu | RtpFormat::Pcma | RtpFormat::G722 => {
                Content::Sound
            }
        };
        let mut reader = Self {
            content,
            told: Vec::new(),
            malformed: 0,
        };
        if let Some(format) = format.known_track() {
            reader.tell(0, format, out);
        }
        reader
    }

    /// Payloads that did not hold what they announced.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Whether pictures cannot go on before a keyframe comes.
    pub(super) fn is_awaiting_keyframe(&self) -> bool {
        match &self.content {
            Content::Video(_, depacketizer) => depacketizer.is_awaiting_keyframe(),
            Content::TransportStream(demuxer, _) => demuxer.is_awaiting_keyframe(),
            _ => false,
        }
    }

    /// Packets are missing here.
    pub(super) fn gap(&mut self) {
        match &mut self.content {
            Content::Video(_, depacketizer) => depacketizer.gap(),
            Content::Mpeg4(mpeg4) => mpeg4.gap(),
            Content::Latm(latm, _) => latm.gap(),
            // It counts for itself, and tells which of its tracks miss something.
            Content::TransportStream(..) | Content::Sound => {}
        }
    }

    /// Takes the next packet; `clock` places its timestamps.
    pub(super) fn push(&mut self, packet: Packet<u8>, clock: &mut TrackClock, out: &mut Vec<Read>) {
        if packet.payload.is_empty() {
            return;
        }
        let timestamp = packet.timestamp;
        match &mut self.content {
            Content::Sound => {
                let time_us = clock.time_us(timestamp);
                out.push(Read::Unit(0, ReadUnit::at(time_us, true, packet.payload)));
            }
            Content::Video(codec, depacketizer) => {
                let packet = Packet {
                    index: packet.index,
                    timestamp,
                    marker: packet.marker,
                    codec: *codec,
                    payload: packet.payload,
                    arrival_us: packet.arrival_us,
                };
                let units: Vec<_> = depacketizer.push(&packet).collect();
                for unit in units {
                    if unit.keyframe
                        && let Some(format) = track_of_keyframe(&unit)
                    {
                        self.tell(0, format, out);
                    }
                    let time_us = clock.time_us(unit.timestamp);
                    let unit = ReadUnit::at(time_us, unit.keyframe, unit.data);
                    out.push(Read::Unit(0, unit));
                }
            }
            Content::Mpeg4(mpeg4) => {
                let read = mpeg4.push(&packet.payload, timestamp, |timestamp, frame| {
                    let time_us = clock.time_us(timestamp);
                    out.push(Read::Unit(0, ReadUnit::at(time_us, true, frame.to_vec())));
                });
                self.malformed += u64::from(read.is_err());
            }
            Content::Latm(..) => self.latm(&packet, clock, out),
            Content::TransportStream(..) => self.transport_stream(&packet.payload, out),
        }
    }

    fn latm(&mut self, packet: &Packet<u8>, clock: &mut TrackClock, out: &mut Vec<Read>) {
        let Content::Latm(latm, clock_rate_hz) = &mut self.content else {
            return;
        };
        let moment = (packet.timestamp, packet.marker);
        let mut frames = Vec::new();
        let read = latm.push(&packet.payload, moment, |_, frame| {
            frames.push(frame.to_vec())
        });
        self.malformed += u64::from(read.is_err());
        let Some(config) = latm.config() else {
            return;
        };
        let ticks = config.audio.frame_ticks(*clock_rate_hz);
        let format = TrackFormat::Aac {
            config: config.config.clone(),
        };
        self.tell(0, format, out);
        let mut timestamp = packet.timestamp;
        for frame in frames {
            let unit = ReadUnit::at(clock.time_us(timestamp), true, frame);
            out.push(Read::Unit(0, unit));
            timestamp = timestamp.wrapping_add(ticks);
        }
    }

    fn transport_stream(&mut self, payload: &[u8], out: &mut Vec<Read>) {
        let Content::TransportStream(demuxer, tracks) = &mut self.content else {
            return;
        };
        let mut events = Vec::new();
        demuxer.push(payload, &mut events);
        // A program keeps one clock for all its tracks; an ingest needs no more.
        let us = |ticks: i64| {
            let us = i128::from(ticks) * 1_000_000 / i128::from(CLOCK_HZ);
            i64::try_from(us).unwrap_or(i64::MAX)
        };
        let mut formats = tracks.clone();
        for event in events {
            match event {
                TsEvent::Tracks(found, ignored) => {
                    if !ignored.is_empty() {
                        tracing::warn!(
                            stream_types = ?ignored,
                            "streams of an MPEG-TS are left out: H.264, AAC and Opus are read"
                        );
                    }
                    let lanes = found
                        .iter()
                        .map(|track| (track.pid, track.format.is_video()));
                    out.push(Read::Lanes(lanes.collect()));
                    self.told.clear();
                    for track in &found {
                        if let TsFormat::Opus { channels } = track.format {
                            self.told.push((track.pid, TrackFormat::Opus { channels }));
                            out.push(Read::Format(track.pid, TrackFormat::Opus { channels }));
                        }
                    }
                    formats = found;
                }
                TsEvent::AacConfig(pid, config) => {
                    self.tell(pid, TrackFormat::Aac { config }, out);
                }
                TsEvent::Unit(unit) => {
                    let format = formats.iter().find(|track| track.pid == unit.pid);
                    let codec = match format.map(|track| track.format) {
                        Some(TsFormat::H264) => Some(Codec::H264),
                        Some(TsFormat::H265) => Some(Codec::H265),
                        _ => None,
                    };
                    if unit.keyframe
                        && let Some(codec) = codec
                        && let Some(format) = video_track(codec, &unit.data)
                    {
                        self.tell(unit.pid, format, out);
                    }
                    let read = ReadUnit {
                        pts_us: us(unit.pts),
                        dts_us: us(unit.dts),
                        keyframe: unit.keyframe,
                        data: unit.data,
                    };
                    out.push(Read::Unit(unit.pid, read));
                }
            }
        }
        if let Content::TransportStream(_, tracks) = &mut self.content {
            *tracks = formats;
        }
    }

    /// Says what a track is, when it was not said yet.
    fn tell(&mut self, lane: Lane, format: TrackFormat, out: &mut Vec<Read>) {
        match self.told.iter_mut().find(|(told, _)| *told == lane) {
            Some((_, told)) if *told == format => return,
            Some((_, told)) => told.clone_from(&format),
            None => self.told.push((lane, format.clone())),
        }
        out.push(Read::Format(lane, format));
    }
}
