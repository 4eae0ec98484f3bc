//! The AAC decoder, behind what this server needs of it.

use symphonia_codec_aac::AacDecoder as Symphonia;
use symphonia_core::codecs::audio::well_known::CODEC_ID_AAC;
use symphonia_core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia_core::packet::Packet;
use symphonia_core::units::{Duration, Timestamp};

use super::AudioError;

/// Samples a channel in a packet.
const FRAME_SAMPLES: usize = 1024;

pub(super) struct AacDecoder {
    inner: Symphonia,
    rate: u32,
    channels: usize,
}

impl AacDecoder {
    pub(super) fn new(config: &[u8]) -> Result<Self, AudioError> {
        let plain = without_extension(config);
        let config = plain.as_ref().map_or(config, |plain| &plain[..]);
        let unsupported = |why: &str| AudioError::Unsupported(why.to_owned());
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(CODEC_ID_AAC)
            .with_extra_data(config.to_vec().into_boxed_slice());
        let inner = Symphonia::try_new(&parameters, &AudioDecoderOptions::default())
            .map_err(|error| AudioError::Unsupported(error.to_string()))?;
        let known = inner.codec_params();
        let rate = known.sample_rate.ok_or_else(|| unsupported("no rate"))?;
        let channels = known.channels.as_ref().map_or(0, |all| all.count());
        if !(1..=2).contains(&channels) {
            return Err(unsupported("neither mono nor stereo"));
        }
        Ok(Self {
            inner,
            rate,
            channels,
        })
    }

    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Replaces `pcm` by the samples of a packet, interleaved; by silence if it is damaged.
    pub(super) fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) {
        let packet = Packet::new(0, Timestamp::new(0), Duration::new(0), packet);
        match self.inner.decode(&packet) {
            Ok(buffer) => buffer.copy_to_vec_interleaved(pcm),
            Err(_) => pcm.clear(),
        }
        pcm.resize(FRAME_SAMPLES * self.channels, 0.0);
    }
}

/// The configuration of the AAC-LC inside of HE-AAC that is said to be such (ISO/IEC 14496-3 1.6.2.1,
/// object types 5 and 29): its lower half of the spectrum, which every decoder can do. `None`: it is
/// no such.
fn without_extension(config: &[u8]) -> Option<[u8; 2]> {
    let first = config.first_chunk::<3>()?;
    let bits = u32::from_be_bytes([0, first[0], first[1], first[2]]);
    let (kind, rate, channels) = (bits >> 19, bits >> 15 & 15, bits >> 11 & 15);
    let inside = bits >> 2 & 31;
    const EXPLICIT_RATE: u32 = 15;
    if !matches!(kind, 5 | 29) || inside != 2 || rate == EXPLICIT_RATE {
        return None;
    }
    let plain = 2 << 11 | rate << 7 | channels << 3;
    Some((plain as u16).to_be_bytes())
}
