//! The work of one ingest, without threads: units in, RTP packets and clock reports out.
//!
//! Tests run it in virtual time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fanmill_engine::producer::ProducedPacket;

use super::output::{Output, Sent};
use super::report::Report;
use super::timeline::{Place, Timeline};
use super::{IngestClosed, IngestError, TrackFormat, Unit};
use crate::clock::{NtpClock, random_u32};
use crate::media::audio::{AudioOptions, OPUS_RATE, Transcoder, opus_samples};
use crate::media::packetize::{Format, Packetizer, Payloads};
use crate::media::rtp::Headers;

/// Payload types towards the engine, which viewers do not see: this and the following.
pub(super) const FIRST_PAYLOAD_TYPE: u8 = 96;

/// Time between two clock reports.
const REPORT_EVERY_US: i64 = 1_000_000;

const VIDEO_RATE_HZ: u32 = 90_000;

/// Opus packets whose length cannot be read last as long as nearly all.
const USUAL_SAMPLES: u32 = 960;

/// Times of a source beyond this are nonsense, and arithmetic is safe below.
const MAX_TIME_US: i64 = i64::MAX >> 4;

pub(super) const B_FRAMES: &str = "the video has B-frames: it comes out of order and stutters in \
    many players. Switch them off in the encoder (ffmpeg: -bf 0, or -tune zerolatency; OBS: \
    \"Max B-frames\" 0, or Tune \"zerolatency\")";

pub(super) const HURRY: &str = "the source sends faster than it plays, as from a file: most of it \
    will be lost (ffmpeg: -re before -i)";

pub(super) const DAMAGED: &str = "units of the source are damaged; they are left out";

pub(super) const OVERLOADED: &str = "the server is too busy for the source: pictures are left out \
    up to the next keyframe";

/// What makes packets of a track.
struct Track {
    is_video: bool,
    packetizer: Packetizer,
    transcoder: Option<Transcoder>,
    headers: Headers,
    ssrc: u32,
    payload_type: u8,
    /// Nothing can be decoded before a keyframe.
    awaits_keyframe: bool,
    /// Times of showing go back and forth: viewers are sent those of decoding, which is when
    /// decoders that put pictures in order show them.
    has_b_frames: bool,
    latest_pts_us: i64,
}

/// See the module.
pub(super) struct Line<O> {
    output: O,
    tracks: Vec<Track>,
    timeline: Timeline,
    report: Arc<Report>,
    audio: AudioOptions,
    ntp: NtpClock,
    told_us: Option<i64>,
    payloads: Payloads,
}

impl<O: Output> Line<O> {
    pub(super) fn new(
        output: O,
        formats: &[TrackFormat],
        audio: AudioOptions,
        report: Arc<Report>,
    ) -> Result<Self, IngestError> {
        let mut tracks = Vec::with_capacity(formats.len());
        for (index, format) in formats.iter().enumerate() {
            let rate_hz = if format.is_video() {
                VIDEO_RATE_HZ
            } else {
                OPUS_RATE
            };
            tracks.push(Track {
                is_video: format.is_video(),
                packetizer: Packetizer::new(packed(format), random_u32() as u16),
                transcoder: transcoder(format, audio)?,
                headers: Headers::new(rate_hz, random_u32() as u16, random_u32()),
                ssrc: random_u32(),
                payload_type: FIRST_PAYLOAD_TYPE + index as u8,
                awaits_keyframe: format.is_video(),
                has_b_frames: false,
                latest_pts_us: i64::MIN,
            });
        }
        Ok(Self {
            output,
            timeline: Timeline::new(tracks.len()),
            tracks,
            report,
            audio,
            ntp: NtpClock::new(),
            told_us: None,
            payloads: Payloads::default(),
        })
    }

    /// Goes on with units of another format, of the same codec.
    pub(super) fn set_format(&mut self, track: usize, format: &TrackFormat) {
        let Some(of) = self.tracks.get_mut(track) else {
            return;
        };
        match transcoder(format, self.audio) {
            Ok(transcoder) => {
                of.transcoder = transcoder;
                of.packetizer.set_format(packed(format));
            }
            Err(error) => self.report.warn(&error.to_string()),
        }
    }

    /// Takes a unit that arrived at `now_us`.
    pub(super) fn take(&mut self, unit: &Unit, now_us: i64) -> Result<(), IngestClosed> {
        let (index, limits) = (unit.track, -MAX_TIME_US..=MAX_TIME_US);
        if index >= self.tracks.len() {
            return Ok(());
        }
        if unit.data.is_empty() || !limits.contains(&unit.pts_us) || !limits.contains(&unit.dts_us)
        {
            self.damaged(index);
            return Ok(());
        }
        let place = self.timeline.place(index, unit.pts_us, unit.dts_us, now_us);
        if place.leapt {
            self.report.leaps.fetch_add(1, Relaxed);
            self.tracks[index].latest_pts_us = i64::MIN;
            self.told_us = None;
        }
        if self.timeline.hurries(&place, now_us) {
            self.report.warn(HURRY);
        }
        let done = match self.tracks[index].is_video {
            true => self.video(unit, &place),
            false => self.audio(unit, &place),
        };
        self.tell_clock(place.dts_us, now_us);
        self.ask();
        done
    }

    fn video(&mut self, unit: &Unit, place: &Place) -> Result<(), IngestClosed> {
        let index = unit.track;
        let track = &mut self.tracks[index];
        if place.pts_us < track.latest_pts_us {
            self.report.tracks[index].b_frames.fetch_add(1, Relaxed);
            self.report.warn(B_FRAMES);
            track.has_b_frames = true;
        }
        track.latest_pts_us = track.latest_pts_us.max(place.pts_us);
        if unit.is_keyframe {
            track.awaits_keyframe = false;
        }
        if track.awaits_keyframe {
            self.report.tracks[index].dropped.fetch_add(1, Relaxed);
            return Ok(());
        }
        let payloads = &mut self.payloads;
        let packetized = track
            .packetizer
            .packetize(&unit.data, unit.is_keyframe, payloads);
        if packetized.is_err() {
            track.awaits_keyframe = true;
            self.damaged(index);
            return Ok(());
        }
        let shown_us = match track.has_b_frames {
            true => place.dts_us,
            false => place.pts_us,
        };
        let is_first = !track.headers.has_begun();
        let timestamp = track.headers.video_timestamp(shown_us);
        if is_first {
            self.told_us = None;
        }
        self.send(index, timestamp)
    }

    fn audio(&mut self, unit: &Unit, place: &Place) -> Result<(), IngestClosed> {
        let index = unit.track;
        let Some(mut transcoder) = self.tracks[index].transcoder.take() else {
            return self.opus(index, place.pts_us, &unit.data);
        };
        let mut done = Ok(());
        let transcoded = transcoder.push(place.pts_us, &unit.data, |us, packet| {
            if done.is_ok() {
                done = self.opus(index, us, packet);
            }
        });
        if let Err(error) = transcoded {
            self.report.warn(&error.to_string());
        }
        self.tracks[index].transcoder = Some(transcoder);
        done
    }

    fn opus(&mut self, index: usize, us: i64, packet: &[u8]) -> Result<(), IngestClosed> {
        let track = &mut self.tracks[index];
        let packetized = track.packetizer.packetize(packet, true, &mut self.payloads);
        if let Err(error) = packetized {
            self.report.warn(&error.to_string());
            self.damaged(index);
            return Ok(());
        }
        let samples = opus_samples(packet).unwrap_or(USUAL_SAMPLES);
        let duration_us = i64::from(samples) * 1_000_000 / i64::from(OPUS_RATE);
        let is_first = !track.headers.has_begun();
        let timestamp = track.headers.audio_timestamp(us, duration_us);
        if is_first {
            self.told_us = None;
        }
        self.send(index, timestamp)
    }

    /// Sends what was packetized.
    fn send(&mut self, index: usize, timestamp: u32) -> Result<(), IngestClosed> {
        let track = &mut self.tracks[index];
        let count = self.payloads.len();
        for (number, payload) in self.payloads.iter().enumerate() {
            let packet = ProducedPacket {
                ssrc: track.ssrc,
                payload_type: track.payload_type,
                sequence_number: track.headers.next_sequence_number(),
                timestamp,
                marker: track.is_video && number + 1 == count,
                payload,
            };
            match self.output.send(index, &packet) {
                Sent::Yes => {}
                Sent::Closed => return Err(IngestClosed),
                Sent::Dropped => {
                    track.awaits_keyframe = track.is_video;
                    self.report.tracks[index].dropped.fetch_add(1, Relaxed);
                    self.report.warn(OVERLOADED);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Tells viewers how all tracks relate, by one moment for all.
    fn tell_clock(&mut self, place_us: i64, now_us: i64) {
        let is_due = |told_us| now_us.saturating_sub(told_us) >= REPORT_EVERY_US;
        if !self.told_us.is_none_or(is_due) {
            return;
        }
        self.told_us = Some(now_us);
        let ntp = self.ntp.ntp(self.timeline.wall_us(place_us));
        for (index, track) in self.tracks.iter().enumerate() {
            if track.headers.has_begun() {
                let timestamp = track.headers.timestamp(place_us);
                self.output.set_clock(index, ntp, timestamp);
            }
        }
        self.report.set_drift(self.timeline.drift_ppm());
    }

    /// Passes on what viewers ask for.
    fn ask(&mut self) {
        for (index, track) in self.tracks.iter().enumerate() {
            if track.is_video && self.output.take_keyframe_request(index) {
                self.report.keyframe_wanted.store(true, Relaxed);
            }
        }
    }

    fn damaged(&self, index: usize) {
        self.report.tracks[index].dropped.fetch_add(1, Relaxed);
        self.report.warn(DAMAGED);
    }
}

/// What a track's units are when they are sent.
fn packed(format: &TrackFormat) -> Format {
    match format {
        TrackFormat::Video { format, .. } => format.clone(),
        _ => Format::Opus,
    }
}

fn transcoder(
    format: &TrackFormat,
    audio: AudioOptions,
) -> Result<Option<Transcoder>, IngestError> {
    let sound = format.sound();
    let transcoder = sound.map(|sound| Transcoder::new(&sound, audio));
    Ok(transcoder.transpose()?)
}
