//! The AAC encoder (feature `fdk-aac`), set for broadcasts: AAC-LC, which every player knows.

use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, Encoder, EncoderParams, Transport};

use super::{AudioError, OPUS_RATE};

/// Samples a channel in a packet.
pub(super) const PACKET_SAMPLES: usize = 1024;

/// Bits a second of each channel: what services ask for, and nothing is heard of it.
const CHANNEL_BITRATE_BPS: u32 = 64_000;

/// The longest packet of a channel (ISO/IEC 14496-3 4.5.3.1: 6144 bits).
const MAX_CHANNEL_BYTES: usize = 768;

pub(super) struct AacEncoder {
    inner: Encoder,
    config: Vec<u8>,
    delay_samples: usize,
    input: Vec<i16>,
    packet: Vec<u8>,
}

impl AacEncoder {
    pub(super) fn new(channels: usize) -> Result<Self, AudioError> {
        let failed = |error: &dyn std::fmt::Display| {
            AudioError::Encoder(format!("the AAC encoder failed: {error}"))
        };
        let inner = Encoder::new(EncoderParams {
            bit_rate: BitRate::Cbr(CHANNEL_BITRATE_BPS * channels as u32),
            sample_rate: OPUS_RATE,
            transport: Transport::Raw,
            channels: match channels {
                1 => ChannelMode::Mono,
                _ => ChannelMode::Stereo,
            },
            audio_object_type: AudioObjectType::Mpeg4LowComplexity,
        });
        let inner = inner.map_err(|error| failed(&error))?;
        let info = inner.info().map_err(|error| failed(&error))?;
        let config = info.confBuf.get(..info.confSize as usize);
        Ok(Self {
            config: config.unwrap_or_default().to_vec(),
            delay_samples: info.nDelay as usize,
            inner,
            input: Vec::with_capacity(PACKET_SAMPLES * channels),
            packet: vec![0; MAX_CHANNEL_BYTES * channels],
        })
    }

    /// AudioSpecificConfig.
    pub(super) fn config(&self) -> &[u8] {
        &self.config
    }

    /// By how many samples what a packet holds is older than what was given for it.
    pub(super) fn delay_samples(&self) -> usize {
        self.delay_samples
    }

    /// Encodes [`PACKET_SAMPLES`] a channel, interleaved.
    pub(super) fn encode(&mut self, pcm: &[f32]) -> Result<&[u8], AudioError> {
        let sample = |&value: &f32| (value.clamp(-1.0, 1.0) * 32_767.0).round() as i16;
        self.input.clear();
        self.input.extend(pcm.iter().map(sample));
        let encoded = self.inner.encode(&self.input, &mut self.packet);
        let encoded = encoded
            .map_err(|error| AudioError::Encoder(format!("the AAC encoder failed: {error}")))?;
        Ok(&self.packet[..encoded.output_size])
    }
}
