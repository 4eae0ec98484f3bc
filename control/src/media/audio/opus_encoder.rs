//! The Opus encoder, set for broadcasts.

use opus::{Application, Bitrate, Channels, Encoder};

use super::{AudioError, OPUS_RATE};

/// Of 0 to 10. Above, a stream costs up to three times as much and sounds the same at this bitrate.
const COMPLEXITY: i32 = 4;

pub(super) struct OpusEncoder {
    inner: Encoder,
    packet: Vec<u8>,
}

impl OpusEncoder {
    /// Samples a channel in a packet: 20 ms.
    pub(super) const PACKET_SAMPLES: usize = 960;

    pub(super) fn new(channels: usize, bitrate_bps: u32) -> Result<Self, AudioError> {
        let layout = match channels {
            1 => Channels::Mono,
            _ => Channels::Stereo,
        };
        let make = || {
            let mut encoder = Encoder::new(OPUS_RATE, layout, Application::Audio)?;
            encoder.set_bitrate(Bitrate::Bits(bitrate_bps.cast_signed()))?;
            encoder.set_complexity(COMPLEXITY)?;
            Ok(encoder)
        };
        let inner = make().map_err(|error: opus::Error| failed(&error))?;
        Ok(Self {
            inner,
            packet: vec![0; crate::media::packetize::MAX_PAYLOAD_BYTES],
        })
    }

    /// Encodes [`PACKET_SAMPLES`](Self::PACKET_SAMPLES) a channel, interleaved.
    pub(super) fn encode(&mut self, pcm: &[f32]) -> Result<&[u8], AudioError> {
        let len = self.inner.encode_float(pcm, &mut self.packet);
        let len = len.map_err(|error| failed(&error))?;
        Ok(&self.packet[..len])
    }
}

fn failed(error: &opus::Error) -> AudioError {
    AudioError::Encoder(format!("libopus failed: {error}"))
}
