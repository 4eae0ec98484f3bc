//! Ten minutes of a sender whose clocks differ from ours and among each other, through the whole way
//! in: what a viewer hears and sees belongs together.

use bytes::Bytes;

use super::*;
use crate::ingest::testing::{self, Ear, PCMA_PERIOD, clicking_pcma, h264, source};
use crate::ingest::{TrackFormat, Unit};

/// The sender's clock of day is fast by 100 ppm, its samples by 200, the timestamps of its pictures are
/// right.
const NTP_RATE: f64 = 1.0 + 1e-4;
const SOUND_RATE_HZ: f64 = 8_000.0 * (1.0 + 2e-4);
const VIDEO_RATE_HZ: f64 = 90_000.0;

const MINUTES: f64 = 10.0;

/// How long packets are on their way, some longer than others.
#[derive(Clone, Copy)]
struct Ways {
    sound_us: u64,
    video_us: u64,
}

struct Sender {
    sound: Bench,
    video: Bench,
    clock: StreamClock,
    viewer: testing::Source,
}

impl Sender {
    fn new() -> Self {
        let sets = vec![vec![0x67, 0x42, 0xe0, 0x1f], vec![0x68, 0xce]];
        let format = RtpFormat::Video {
            codec: Codec::H264,
            parameter_sets: sets,
        };
        let video = Bench::new(format, H264, Remote::Learnt, None);
        Self {
            sound: Bench::sound(Remote::Learnt),
            video,
            clock: StreamClock::default(),
            viewer: source(&[h264(), TrackFormat::Pcma]),
        }
    }

    fn of(&mut self, track: usize) -> &mut Bench {
        match track {
            0 => &mut self.video,
            _ => &mut self.sound,
        }
    }

    fn packet(&mut self, track: usize, packet: &[u8], arrival_us: u64) {
        let clock = &mut self.clock;
        let bench = match track {
            0 => &mut self.video,
            _ => &mut self.sound,
        };
        bench
            .source
            .rtp(address(1), packet, arrival_us, &mut bench.out);
        bench.source.poll(clock, arrival_us, &mut bench.out);
        for read in bench.out.drain(..) {
            let Read::Unit(0, unit) = read else { continue };
            let unit = Unit {
                track,
                pts_us: unit.pts_us,
                dts_us: unit.dts_us,
                is_keyframe: unit.keyframe,
                data: Bytes::from(unit.data),
            };
            self.viewer.take(&unit, arrival_us.cast_signed());
        }
    }

    /// Tells which moment a timestamp is, by the sender's clock of day.
    fn report(&mut self, track: usize, now_s: f64, rate_hz: f64, arrival_us: u64) {
        let info = SenderInfo {
            ssrc: 1,
            ntp_timestamp: ((3.9e9 + now_s * NTP_RATE) * 2_f64.powi(32)) as u64,
            rtp_timestamp: (now_s * rate_hz) as u32,
            ..SenderInfo::default()
        };
        let mut buffer = [0; 64];
        let mut report = RtcpWriter::new(&mut buffer);
        let written = report.sender_report(&info, &[]);
        written.unwrap_or_else(|error| panic!("{error}"));
        let mut clock = self.clock;
        let source = &mut self.of(track).source;
        source.rtcp(address(2), report.as_bytes(), &mut clock, arrival_us);
        self.clock = clock;
    }
}

/// By how much sound is late against the picture at its worst, in microseconds, from `settled_s` on.
fn apart_us(ways: Ways, has_reports: bool, settled_s: f64) -> f64 {
    let mut sender = Sender::new();
    sender.viewer.receiver.hears(Ear::new());
    let jitter_us = |index: usize| (index * 7 % 11 * 1_000) as u64;
    let (mut frames, mut heard, mut worst_us, mut reports) = (0, 0, 0.0_f64, 0);
    let (mut frame_s, mut clicked_s) = (0.0, 0.0);
    for packet in 0..(MINUTES * 60.0 * 50.0) as usize {
        let now_s = (packet * 160) as f64 / SOUND_RATE_HZ;
        let sent_us = 10_000_000 + (now_s * 1e6) as u64;
        while frames as f64 / 25.0 <= now_s {
            frame_s = frames as f64 / 25.0;
            let timestamp = (frame_s * VIDEO_RATE_HZ) as u32;
            let picture = rtp(H264, frames as u16, timestamp, 1, &[0x65, 0x88, 1]);
            let sent_us = 10_000_000 + (frame_s * 1e6) as u64;
            sender.packet(0, &picture, sent_us + ways.video_us + jitter_us(frames));
            frames += 1;
        }
        if has_reports && now_s >= f64::from(reports) * 5.0 + 0.5 {
            reports += 1;
            sender.report(0, now_s, VIDEO_RATE_HZ, sent_us + ways.video_us);
            sender.report(1, now_s, SOUND_RATE_HZ, sent_us + ways.sound_us);
        }
        if packet % PCMA_PERIOD == 0 {
            clicked_s = now_s;
        }
        let sound = rtp(
            PCMA,
            packet as u16,
            (packet * 160) as u32,
            1,
            &clicking_pcma(packet),
        );
        sender.packet(1, &sound, sent_us + ways.sound_us + jitter_us(packet));
        let receiver = &sender.viewer.receiver;
        let clicks = receiver.clicks();
        if clicks.len() > heard {
            heard = clicks.len();
            let video_s = receiver.captured_s(0, receiver.last(0), VIDEO_RATE_HZ);
            let audio_s = receiver.captured_s(1, clicks[heard - 1], 48_000.0);
            let apart_us = (audio_s - video_s - (clicked_s - frame_s)) * 1e6;
            if now_s > settled_s && apart_us.abs() > worst_us.abs() {
                worst_us = apart_us;
            }
        }
    }
    assert_eq!(sender.viewer.warnings(), Vec::<String>::new());
    assert!(heard >= 598, "{heard} clicks");
    worst_us
}

#[test]
fn by_sender_reports_sound_and_picture_are_in_sync_after_ten_minutes_of_drift() {
    let ways = Ways {
        sound_us: 20_000,
        video_us: 120_000,
    };
    let worst_us = apart_us(ways, true, 15.0);
    println!("{worst_us} us apart at worst");
    assert!(worst_us.abs() < 40_000.0, "{worst_us} us");
}

#[test]
fn by_times_of_arrival_sound_and_picture_are_in_sync_after_ten_minutes_of_drift() {
    let ways = Ways {
        sound_us: 30_000,
        video_us: 30_000,
    };
    let worst_us = apart_us(ways, false, 0.0);
    println!("{worst_us} us apart at worst");
    assert!(worst_us.abs() < 40_000.0, "{worst_us} us");
}
