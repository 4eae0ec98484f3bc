//! What the tests of ingests, and of the doors before them, have in common: a receiver that looks at
//! the timestamps and listens to the sound, and sound that is worth listening to.

#![allow(clippy::unwrap_used)] // a failed unwrap is the failed test

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fanmill_engine::producer::ProducedPacket;

use super::line::Line;
use super::output::{Output, Sent};
use super::report::Report;
use super::{IngestSpec, TrackFormat, Unit};
use crate::events::Events;
use crate::media::audio::AudioOptions;
use crate::media::packetize::Format;
use crate::sdp::{CodecProfile, ProfileLevelId};

/// Louder is sound, of 1.
const LOUD: f32 = 0.1;

/// Samples of silence at 48 kHz after which sound begins anew.
const SILENCE: u32 = 9_600;

/// Packets from one click of [`clicking_aac`] to the next.
pub(crate) const AAC_PERIOD: usize = 43;

/// Packets of 20 ms from one click of [`clicking_pcma`] to the next.
pub(crate) const PCMA_PERIOD: usize = 50;

/// Notices when sound begins.
pub(crate) struct Ear {
    decoder: opus::Decoder,
    silence: u32,
    /// RTP timestamps of samples that are loud after silence.
    pub(crate) clicks: Vec<u32>,
}

impl Ear {
    pub(crate) fn new() -> Self {
        Self {
            decoder: opus::Decoder::new(48_000, opus::Channels::Mono).unwrap(),
            silence: SILENCE,
            clicks: Vec::new(),
        }
    }

    fn hear(&mut self, timestamp: u32, packet: &[u8]) {
        let mut pcm = [0.0; 5_760];
        let count = self.decoder.decode_float(packet, &mut pcm, false).unwrap();
        for (index, sample) in (0..).zip(&pcm[..count]) {
            if sample.abs() < LOUD {
                self.silence += 1;
            } else if std::mem::take(&mut self.silence) >= SILENCE {
                self.clicks.push(timestamp.wrapping_add(index));
            }
        }
    }
}

/// A packet of A-law of 20 ms: each [`PCMA_PERIOD`]th is a tone, from its first sample on.
pub(crate) fn clicking_pcma(packet: usize) -> Bytes {
    const SILENT: [u8; 160] = [0xd5; 160];
    if !packet.is_multiple_of(PCMA_PERIOD) {
        return Bytes::from_static(&SILENT);
    }
    // 400 Hz, as loud as it gets.
    let wave = (0..160).map(|sample| if sample / 10 % 2 == 0 { 0xaa } else { 0x2a });
    wave.collect::<Vec<u8>>().into()
}

/// Packets of AAC at 22.05 kHz, mono, to be repeated: a tone begins with the first sample of the first.
pub(crate) fn clicking_aac() -> Vec<Bytes> {
    let samples = AAC_PERIOD * 1024;
    let click = format!("aevalsrc=exprs='0.6*sin(2764*t)*lt(mod(n,{samples}),4096)':s=22050:d=6");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &click])
        .args(["-c:a", "aac", "-b:a", "48k", "-f", "adts", "pipe:1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut rest = &made.stdout[..];
    let mut packets = Vec::new();
    // ISO/IEC 14496-3 1.A.2.2: the length, header included, is in 13 bits from the 31st on.
    while let Some(header) = rest.get(..7) {
        let length = u32::from_be_bytes([0, header[3] & 3, header[4], header[5]]) >> 5;
        packets.push(Bytes::copy_from_slice(&rest[7..length as usize]));
        rest = &rest[length as usize..];
    }
    // The encoder is a packet behind.
    packets[1 + AAC_PERIOD..1 + 2 * AAC_PERIOD].to_vec()
}

#[derive(Default)]
pub(crate) struct Received {
    /// Track, RTP timestamp, marker, sequence number.
    pub(crate) packets: Vec<(usize, u32, bool, u16)>,
    /// Latest report of each track: seconds of NTP, and RTP timestamp.
    clocks: [Option<(f64, u32)>; 3],
    pub(crate) wants_keyframe: bool,
    /// Listens to the second track, if it is to.
    pub(crate) ear: Option<Ear>,
}

#[derive(Clone, Default)]
pub(crate) struct Receiver(pub(crate) Arc<Mutex<Received>>);

impl Output for Receiver {
    fn send(&mut self, track: usize, packet: &ProducedPacket<'_>) -> Sent {
        let (number, timestamp) = (packet.sequence_number, packet.timestamp);
        let mut received = self.0.lock().unwrap();
        received
            .packets
            .push((track, timestamp, packet.marker, number));
        if let (1, Some(ear)) = (track, &mut received.ear) {
            ear.hear(timestamp, packet.payload);
        }
        Sent::Yes
    }

    fn set_clock(&mut self, track: usize, ntp: u64, timestamp: u32) {
        let seconds = ntp as f64 / 2_f64.powi(32);
        self.0.lock().unwrap().clocks[track] = Some((seconds, timestamp));
    }

    fn take_keyframe_request(&mut self, _: usize) -> bool {
        std::mem::take(&mut self.0.lock().unwrap().wants_keyframe)
    }
}

impl Receiver {
    /// Has it listen to the second track.
    pub(crate) fn hears(&self, ear: Ear) {
        self.0.lock().unwrap().ear = Some(ear);
    }

    /// RTP timestamps of all that it heard begin.
    pub(crate) fn clicks(&self) -> Vec<u32> {
        let received = self.0.lock().unwrap();
        received
            .ear
            .as_ref()
            .map_or(Vec::new(), |ear| ear.clicks.clone())
    }

    /// When a receiver takes an RTP timestamp to have been captured, in seconds.
    pub(crate) fn captured_s(&self, track: usize, timestamp: u32, rate_hz: f64) -> f64 {
        let (seconds, at) = self.0.lock().unwrap().clocks[track].unwrap();
        seconds + f64::from(timestamp.wrapping_sub(at).cast_signed()) / rate_hz
    }

    /// The latest RTP timestamp of a track.
    pub(crate) fn last(&self, track: usize) -> u32 {
        let received = self.0.lock().unwrap();
        let mut packets = received.packets.iter().rev();
        packets.find(|packet| packet.0 == track).unwrap().1
    }

    pub(crate) fn timestamps(&self, track: usize) -> Vec<u32> {
        let received = self.0.lock().unwrap();
        let of = received.packets.iter().filter(|packet| packet.0 == track);
        of.map(|packet| packet.1).collect()
    }
}

/// An ingest, and what came of it.
pub(crate) struct Source {
    pub(super) line: Line<Receiver>,
    pub(crate) receiver: Receiver,
    pub(super) report: Arc<Report>,
}

/// Begins an ingest of such tracks.
pub(crate) fn source(formats: &[TrackFormat]) -> Source {
    let spec = IngestSpec {
        stream: "test".to_owned(),
        source: "rtmp",
        remote: "here".to_owned(),
    };
    let report = Arc::new(Report::new(&spec, formats.len(), 0, Events::new()));
    let receiver = Receiver::default();
    let audio = AudioOptions::default();
    let line = Line::new(receiver.clone(), formats, audio, Arc::clone(&report));
    Source {
        line: line.unwrap(),
        receiver,
        report,
    }
}

impl Source {
    /// Takes a unit that arrives now.
    pub(crate) fn take(&mut self, unit: &Unit, now_us: i64) {
        self.line.take(unit, now_us).unwrap();
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let spec = IngestSpec {
            stream: String::new(),
            source: "",
            remote: String::new(),
        };
        self.report.info(0, &spec, &[], 0, 0).warnings
    }
}

/// H.264 with some parameter sets.
pub(crate) fn h264() -> TrackFormat {
    TrackFormat::Video {
        format: Format::H264 {
            length_bytes: 4,
            parameter_sets: vec![vec![0x67, 1, 2, 3], vec![0x68, 1, 2]],
        },
        profile: CodecProfile::H264 {
            profile_level_id: ProfileLevelId::DEFAULT,
            packetization_mode: 1,
        },
    }
}
