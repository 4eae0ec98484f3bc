//! Sound from other formats into Opus, which is what WebRTC hears.
//!
//! A [`Transcoder`] decodes AAC, brings it to 48 kHz and encodes it, packet by packet. That takes
//! about a hundredth of a core for each stream: never call it on a shard or on the threads of the
//! control plane.

mod aac;
mod opus_encoder;
mod resample;

#[cfg(test)]
mod tests;

use aac::AacDecoder;
use opus_encoder::OpusEncoder;
use resample::Resampler;

/// Sample rate of Opus in WebRTC, in Hz.
pub const OPUS_RATE: u32 = 48_000;

/// Farther from where it should be than this, sound is taken for discontinuous: players' decoders
/// adapt to less.
const MAX_DRIFT_US: i64 = 60_000;

/// Why sound cannot be transcoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// The decoder does not know this kind of AAC.
    #[error(
        "the sound is AAC of a kind that is not decoded ({0}); AAC-LC in mono or stereo is \
         (ffmpeg: -c:a aac -ac 2)"
    )]
    Unsupported(String),
    /// No resampler for this rate.
    #[error("sound of {0} Hz cannot be brought to 48 kHz")]
    Rate(u32),
    /// The encoder failed.
    #[error("libopus failed: {0}")]
    Encoder(String),
}

/// AAC in, Opus packets of 20 ms out.
pub struct Transcoder {
    decoder: AacDecoder,
    resampler: Option<Resampler>,
    encoder: OpusEncoder,
    channels: usize,
    /// Decoded sound, interleaved.
    decoded: Vec<f32>,
    /// Sound at 48 kHz that does not fill a packet yet, interleaved.
    pending: Vec<f32>,
    /// When the first sample in `pending` is heard.
    pending_us: Option<i64>,
    /// Samples a channel that left since `base_us`, so that rounding does not add up.
    base_us: i64,
    since_base: i64,
}

impl Transcoder {
    /// Length of the packets it makes.
    pub const PACKET_US: i64 = 20_000;

    /// For sound with this AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1).
    ///
    /// # Errors
    /// [`AudioError`]: it cannot be decoded.
    pub fn new(config: &[u8]) -> Result<Self, AudioError> {
        let decoder = AacDecoder::new(config)?;
        let channels = decoder.channels();
        let resampler = match decoder.rate() {
            OPUS_RATE => None,
            rate => Some(Resampler::new(rate, channels)?),
        };
        Ok(Self {
            encoder: OpusEncoder::new(channels)?,
            decoder,
            resampler,
            channels,
            decoded: Vec::new(),
            pending: Vec::new(),
            pending_us: None,
            base_us: 0,
            since_base: 0,
        })
    }

    /// Takes the packet that is heard at `pts_us` and gives what is complete with the time it is
    /// heard at. A packet that cannot be decoded is silence.
    ///
    /// # Errors
    /// [`AudioError::Encoder`].
    pub fn push(
        &mut self,
        pts_us: i64,
        packet: &[u8],
        mut made: impl FnMut(i64, &[u8]),
    ) -> Result<(), AudioError> {
        self.decoder.decode(packet, &mut self.decoded);
        let (delay_us, before) = (self.delay_us(), self.pending.len() / self.channels);
        match &mut self.resampler {
            Some(resampler) => resampler.push(&self.decoded, &mut self.pending),
            None => self.pending.extend_from_slice(&self.decoded),
        }
        let heard_us = pts_us - delay_us - samples_us(before as i64);
        let drift_us = self.pending_us.map(|expected| (heard_us - expected).abs());
        if drift_us.is_none_or(|drift_us| drift_us > MAX_DRIFT_US) {
            self.base_us = heard_us;
            self.since_base = 0;
        }
        let samples = OpusEncoder::PACKET_SAMPLES;
        let mut used = 0;
        while let Some(pcm) = self.pending.get(used..used + samples * self.channels) {
            let opus = self.encoder.encode(pcm)?;
            made(self.base_us + samples_us(self.since_base), opus);
            self.since_base += samples as i64;
            used += pcm.len();
        }
        self.pending.drain(..used);
        self.pending_us = Some(self.base_us + samples_us(self.since_base));
        Ok(())
    }

    /// By how much what comes out of the resampler is behind what went in.
    fn delay_us(&self) -> i64 {
        self.resampler.as_ref().map_or(0, Resampler::delay_us)
    }
}

fn samples_us(samples: i64) -> i64 {
    samples * 1_000_000 / i64::from(OPUS_RATE)
}
