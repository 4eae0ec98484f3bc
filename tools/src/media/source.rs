//! When the publisher sends what: video frames at a rate, an Opus packet every 20 ms.
//!
//! Sans-IO: it is asked what is due and told to make a keyframe. Frame sizes vary about the mean
//! as an encoder's do, and a keyframe's excess is saved on the frames after it.

use super::packetize::{Noise, Payload, VideoPacketizer, opus};
use crate::client::sdp::VideoCodec;

const AUDIO_INTERVAL_NS: u64 = 20_000_000;
const AUDIO_CLOCK_HZ: u64 = 48_000;
const VIDEO_CLOCK_HZ: u64 = 90_000;
/// Payload of an Opus packet at about 32 kbit/s.
const AUDIO_BYTES: usize = 80;
/// How many ordinary frames a keyframe weighs.
const KEYFRAME_WEIGHT: usize = 5;

/// What a stream is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The video codec.
    pub codec: VideoCodec,
    /// Bit rate of the video, RTP payload, in bits per second.
    pub bitrate_bps: u64,
    /// Frames per second.
    pub fps: u32,
    /// Whether there is audio.
    pub audio: bool,
    /// Time between keyframes that nobody asked for, in nanoseconds; none if zero.
    pub keyframe_interval_ns: u64,
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it is video; else audio.
    pub video: bool,
    /// Whether it is a keyframe.
    pub keyframe: bool,
    /// RTP timestamp, from zero.
    pub timestamp: u32,
    /// Its packets.
    pub payloads: Vec<Payload>,
}

/// The media of one publisher.
pub struct Source {
    shape: Shape,
    video: VideoPacketizer,
    noise: Noise,
    started_ns: u64,
    video_frames: u64,
    audio_frames: u64,
    keyframe_wanted: bool,
    last_keyframe_ns: u64,
    /// Bytes sent above the mean, to be saved.
    debt_bytes: usize,
    random: u64,
}

impl Source {
    /// A source that starts at `now_ns` with a keyframe.
    #[must_use]
    pub fn new(shape: Shape, seed: u64, now_ns: u64) -> Self {
        Self {
            shape,
            video: VideoPacketizer::new(shape.codec, seed),
            noise: Noise::new(seed ^ 0x5555),
            started_ns: now_ns,
            video_frames: 0,
            audio_frames: 0,
            keyframe_wanted: true,
            last_keyframe_ns: now_ns,
            debt_bytes: 0,
            random: seed | 1,
        }
    }

    /// Makes the next video frame a keyframe.
    pub fn request_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    /// When [`poll`](Self::poll) has something next.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        self.next_video_ns()
            .min(self.next_audio_ns().unwrap_or(u64::MAX))
    }

    fn next_video_ns(&self) -> u64 {
        let fps = u64::from(self.shape.fps.max(1));
        self.started_ns + self.video_frames * 1_000_000_000 / fps
    }

    fn next_audio_ns(&self) -> Option<u64> {
        let due = self.started_ns + self.audio_frames * AUDIO_INTERVAL_NS;
        self.shape.audio.then_some(due)
    }

    /// The frame that is due, if one is.
    pub fn poll(&mut self, now_ns: u64) -> Option<Frame> {
        if self.next_audio_ns().is_some_and(|due| due <= now_ns) {
            let timestamp = self.audio_frames * AUDIO_INTERVAL_NS * AUDIO_CLOCK_HZ / 1_000_000_000;
            self.audio_frames += 1;
            let bytes = AUDIO_BYTES + (self.next_random() % 9) as usize;
            return Some(Frame {
                video: false,
                keyframe: false,
                timestamp: timestamp as u32,
                payloads: vec![opus(&mut self.noise, bytes)],
            });
        }
        if self.next_video_ns() > now_ns {
            return None;
        }
        let timestamp = self.video_frames * VIDEO_CLOCK_HZ / u64::from(self.shape.fps.max(1));
        self.video_frames += 1;
        let interval = self.shape.keyframe_interval_ns;
        let periodic = interval > 0 && now_ns >= self.last_keyframe_ns + interval;
        let keyframe = std::mem::take(&mut self.keyframe_wanted) || periodic;
        if keyframe {
            self.last_keyframe_ns = now_ns;
        }
        let bytes = self.frame_bytes(keyframe);
        Some(Frame {
            video: true,
            keyframe,
            timestamp: timestamp as u32,
            payloads: self.video.frame(keyframe, bytes),
        })
    }

    fn frame_bytes(&mut self, keyframe: bool) -> usize {
        let mean = (self.shape.bitrate_bps / 8 / u64::from(self.shape.fps.max(1))) as usize;
        if keyframe {
            self.debt_bytes += (KEYFRAME_WEIGHT - 1) * mean;
            return KEYFRAME_WEIGHT * mean;
        }
        // 85 to 115 per cent.
        let varied = mean * (85 + (self.next_random() % 31) as usize) / 100;
        let saved = (varied / 4).min(self.debt_bytes);
        self.debt_bytes -= saved;
        varied - saved
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        codec: VideoCodec::Vp8,
        bitrate_bps: 2_500_000,
        fps: 30,
        audio: true,
        keyframe_interval_ns: 0,
    };

    fn run(source: &mut Source, seconds: u64) -> Vec<Frame> {
        let end = source.started_ns + seconds * 1_000_000_000;
        let mut frames = Vec::new();
        while source.deadline_ns() < end {
            let now_ns = source.deadline_ns();
            frames.extend(source.poll(now_ns));
        }
        frames
    }

    #[test]
    fn the_bit_rate_is_the_one_asked_for() {
        let frames = run(&mut Source::new(SHAPE, 3, 1000), 20);
        let video = frames.iter().filter(|frame| frame.video);
        let packets = video.flat_map(|frame| &frame.payloads);
        let bytes: usize = packets.map(|payload| payload.bytes.len()).sum();
        let bitrate = bytes as f64 * 8.0 / 20.0;
        assert!((2_400_000.0..2_600_000.0).contains(&bitrate), "{bitrate}");
    }

    #[test]
    fn frames_come_at_their_rate_and_only_the_first_is_a_keyframe() {
        let frames = run(&mut Source::new(SHAPE, 3, 1000), 2);
        let video: Vec<_> = frames.iter().filter(|frame| frame.video).collect();
        assert_eq!(video.len(), 60);
        assert_eq!(frames.len() - video.len(), 100);
        assert!(video[0].keyframe && video[1..].iter().all(|frame| !frame.keyframe));
        assert_eq!(video[30].timestamp, 90_000);
    }

    #[test]
    fn a_requested_keyframe_comes_with_the_next_frame() {
        let mut source = Source::new(SHAPE, 3, 0);
        run(&mut source, 1);
        source.request_keyframe();
        let frames = run(&mut source, 2);
        let keyframes = frames.iter().filter(|frame| frame.keyframe).count();
        assert_eq!(keyframes, 1);
    }

    #[test]
    fn keyframes_come_by_themselves_at_an_interval() {
        let shape = Shape {
            keyframe_interval_ns: 1_000_000_000,
            ..SHAPE
        };
        let frames = run(&mut Source::new(shape, 3, 0), 5);
        assert_eq!(frames.iter().filter(|frame| frame.keyframe).count(), 5);
    }
}
