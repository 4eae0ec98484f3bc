//! What viewers say they got, and whether that is enough for the time they watched.

use anyhow::{Result, ensure};
use serde::Deserialize;

/// The least pictures a second that count as watching; the sources give thirty, but they share
/// the machine with whatever else is tested.
const FRAMES_PER_SECOND_MIN: u64 = 10;

/// Opus packets a second are 50, in frames of 20 ms; decoders that give 10 ms make it 100.
const AUDIO_FRAMES_PER_SECOND_MIN: u64 = 20;

/// Root mean square of 16-bit samples above which it is not silence: -40 dB of full scale.
const LOUD_RMS: f64 = 300.0;

/// What a client that decodes saw and heard.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// Decoded pictures.
    pub video_frames: u64,
    /// Of these, the ones that differed from the one before by more than the codec's noise.
    pub changed_frames: u64,
    /// Width of the last picture in pixels.
    pub width: u64,
    /// Height of the last picture in pixels.
    pub height: u64,
    /// Decoded pieces of sound, of 10 or 20 ms.
    pub audio_frames: u64,
    /// Root mean square of its samples, 0 to 32767.
    pub audio_rms: f64,
}

impl Seen {
    /// Whether that is `seconds` of a moving picture of this size and of sound.
    ///
    /// # Errors
    /// If it is not, with all that was seen.
    pub fn check(&self, seconds: u32, width: u64, height: u64) -> Result<()> {
        self.check_picture(seconds, width, height)?;
        self.check_sound(seconds)
    }

    /// Whether that is `seconds` of a moving picture of this size.
    ///
    /// # Errors
    /// If it is not, with all that was seen.
    pub fn check_picture(&self, seconds: u32, width: u64, height: u64) -> Result<()> {
        let seconds = u64::from(seconds);
        ensure!(
            self.video_frames >= seconds * FRAMES_PER_SECOND_MIN
                && self.changed_frames >= seconds
                && (self.width, self.height) == (width, height),
            "not {seconds} s of a moving {width}x{height} picture: {self:?}"
        );
        Ok(())
    }

    /// Whether that is `seconds` of sound.
    ///
    /// # Errors
    /// If it is not, with all that was seen.
    pub fn check_sound(&self, seconds: u32) -> Result<()> {
        let frames = u64::from(seconds) * AUDIO_FRAMES_PER_SECOND_MIN;
        ensure!(
            self.audio_frames >= frames && self.audio_rms > LOUD_RMS,
            "not {seconds} s of sound: {self:?}"
        );
        Ok(())
    }
}

/// What a client got that does not decode.
#[derive(Debug, Clone, Deserialize)]
pub struct ReceivedRtp {
    /// Of the audio section.
    pub audio: StreamCounts,
    /// Of the video section.
    pub video: StreamCounts,
}

/// RTP packets of one media section.
#[derive(Debug, Clone, Deserialize)]
pub struct StreamCounts {
    /// Packets.
    pub packets: u64,
    /// Bytes, headers included.
    pub bytes: u64,
    /// Packets with the marker bit: of video, the ends of frames.
    pub frames: u64,
    /// Sequence numbers between the first and the last that never came.
    pub missing: u64,
    /// How many SSRCs there were.
    pub ssrcs: u64,
    /// The payload types there were.
    pub payload_types: Vec<u8>,
}

impl ReceivedRtp {
    /// Whether that is `seconds` of video and audio: one unbroken stream of one codec each.
    ///
    /// # Errors
    /// If it is not, with all that came.
    pub fn check(&self, seconds: u32) -> Result<()> {
        let seconds = u64::from(seconds);
        ensure!(
            self.video.frames >= seconds * FRAMES_PER_SECOND_MIN
                && self.audio.packets >= seconds * AUDIO_FRAMES_PER_SECOND_MIN,
            "not {seconds} s of packets: {self:?}"
        );
        for stream in [&self.audio, &self.video] {
            ensure!(
                stream.missing == 0 && stream.ssrcs == 1 && stream.payload_types.len() == 1,
                "not one unbroken stream: {self:?}"
            );
        }
        Ok(())
    }
}
