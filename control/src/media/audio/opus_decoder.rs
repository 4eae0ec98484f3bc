//! The Opus decoder: whatever a publisher sends, as two channels at 48 kHz.

use opus::{Channels, Decoder};

use super::{AudioError, OPUS_RATE, opus_samples};

/// The longest packet there is: 120 ms (RFC 6716 3.4).
const MAX_SAMPLES: usize = 5_760;

/// What one that cannot be decoded is taken to last: the usual packet.
const USUAL_SAMPLES: u32 = 960;

pub(super) struct OpusDecoder(Decoder);

impl OpusDecoder {
    pub(super) const CHANNELS: usize = 2;

    pub(super) fn new() -> Result<Self, AudioError> {
        let failed = |error: opus::Error| AudioError::Encoder(format!("libopus failed: {error}"));
        Decoder::new(OPUS_RATE, Channels::Stereo)
            .map(Self)
            .map_err(failed)
    }

    /// Replaces `pcm` by the samples of a packet, interleaved; by silence if it is damaged.
    pub(super) fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) {
        pcm.clear();
        pcm.resize(MAX_SAMPLES * Self::CHANNELS, 0.0);
        let samples = match packet {
            // To libopus that is a lost packet, to last as long as there is room.
            [] => None,
            _ => self.0.decode_float(packet, pcm, false).ok(),
        };
        let samples = samples.unwrap_or_else(|| {
            pcm.fill(0.0);
            opus_samples(packet).unwrap_or(USUAL_SAMPLES) as usize
        });
        pcm.truncate(samples.min(MAX_SAMPLES) * Self::CHANNELS);
    }
}
