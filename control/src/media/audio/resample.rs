//! From any sample rate to that of Opus.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use super::{AudioError, OPUS_RATE};

/// Pieces of a second taken at once, about: each waits until it is full. The resampler rounds it to
/// what the rates allow.
const CHUNKS_A_SECOND: u32 = 100;

/// Rates that AAC has.
const RATES: std::ops::RangeInclusive<u32> = 7_350..=96_000;

pub(super) struct Resampler {
    inner: Fft<f32>,
    channels: usize,
    rate: u32,
    /// Sound that does not fill a chunk yet, interleaved.
    waiting: Vec<f32>,
    output: Vec<f32>,
}

impl Resampler {
    pub(super) fn new(rate: u32, channels: usize) -> Result<Self, AudioError> {
        if !RATES.contains(&rate) {
            return Err(AudioError::Rate(rate));
        }
        let to = OPUS_RATE as usize;
        let chunk = (rate / CHUNKS_A_SECOND) as usize;
        let inner = Fft::new(rate as usize, to, chunk, channels, FixedSync::Input)
            .map_err(|_| AudioError::Rate(rate))?;
        Ok(Self {
            output: vec![0.0; inner.output_frames_max() * channels],
            inner,
            channels,
            rate,
            waiting: Vec::new(),
        })
    }

    /// Takes interleaved sound and adds what is complete to `to`.
    pub(super) fn push(&mut self, sound: &[f32], to: &mut Vec<f32>) {
        self.waiting.extend_from_slice(sound);
        let mut used = 0;
        loop {
            let frames = self.inner.input_frames_next();
            let Some(chunk) = self.waiting.get(used..used + frames * self.channels) else {
                break;
            };
            let room = self.output.len() / self.channels;
            let input = InterleavedSlice::new(chunk, self.channels, frames)
                .expect("the slice has frames times channels values");
            let mut output = InterleavedSlice::new_mut(&mut self.output, self.channels, room)
                .expect("the buffer has room times channels values");
            let (_, made) = self
                .inner
                .process_into_buffer(&input, &mut output, None)
                .expect("both buffers are as long as the resampler asks");
            to.extend_from_slice(&self.output[..made * self.channels]);
            used += frames * self.channels;
        }
        self.waiting.drain(..used);
    }

    /// How much sound is inside: in the filter, and waiting for a chunk to be full.
    pub(super) fn delay_us(&self) -> i64 {
        let filter = self.inner.output_delay() as i64 * 1_000_000 / i64::from(OPUS_RATE);
        let waiting = (self.waiting.len() / self.channels) as i64;
        filter + waiting * 1_000_000 / i64::from(self.rate)
    }
}
