//! Sound from other formats into Opus, which is what WebRTC hears, and into AAC, which is all that many
//! players and services hear.
//!
//! A [`Transcoder`] decodes what comes, brings it to 48 kHz and encodes it, packet by packet. That takes
//! about a hundredth of a core for each stream: never call it on a shard or on the threads of the
//! control plane. AAC is made only by a server that was built with the feature `fdk-aac`
//! ([`HAS_AAC_ENCODER`]).

mod aac;
#[cfg(feature = "fdk-aac")]
mod aac_encoder;
mod g711;
mod g722;
mod opus_decoder;
mod opus_encoder;
mod resample;

#[cfg(test)]
mod tests;

use aac::AacDecoder;
use g711::Law;
use g722::G722;
use opus_decoder::OpusDecoder;
use opus_encoder::OpusEncoder;
use resample::Resampler;

/// Sample rate of Opus in WebRTC, in Hz.
pub const OPUS_RATE: u32 = 48_000;

/// Farther from where it should be than this, sound is taken for discontinuous.
const MAX_DRIFT_US: i64 = 60_000;

/// Share of the passing time by which the times of sound follow those it comes with: fifty times what
/// crystals drift, and far below what is heard.
const SLEW: i64 = 200;

/// Whether this server can make AAC: it was built with the feature `fdk-aac`.
pub const HAS_AAC_ENCODER: bool = cfg!(feature = "fdk-aac");

/// What is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SoundFormat {
    /// Opus, as two channels.
    Opus,
    /// AAC.
    Aac {
        /// AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1).
        config: Vec<u8>,
    },
    /// G.711 mu-law, mono at 8 kHz.
    Pcmu,
    /// G.711 A-law, mono at 8 kHz.
    Pcma,
    /// G.722 at 64 kbit/s: mono at 16 kHz, though RTP counts it at 8 kHz (RFC 3551 4.5.2).
    G722,
}

impl SoundFormat {
    /// The name for people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Opus => "Opus",
            Self::Aac { .. } => "AAC",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
        }
    }

    /// Whether it can be decoded.
    ///
    /// # Errors
    /// [`AudioError`]: why not.
    pub fn check(&self) -> Result<(), AudioError> {
        let decoder = Decoder::new(self)?;
        match decoder.rate() {
            OPUS_RATE => Ok(()),
            rate => Resampler::new(rate, decoder.channels()).map(drop),
        }
    }
}

/// How sound is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioOptions {
    /// Bits per second of Opus in stereo; mono has half of it.
    pub opus_bitrate_bps: u32,
}

impl AudioOptions {
    /// What libopus takes.
    pub const BITRATES_BPS: std::ops::RangeInclusive<u32> = 12_000..=510_000;
}

impl Default for AudioOptions {
    fn default() -> Self {
        Self {
            opus_bitrate_bps: 96_000,
        }
    }
}

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
    /// The encoder or decoder failed.
    #[error("{0}")]
    Encoder(String),
    /// AAC was asked for, and this server cannot make it.
    #[error(
        "this server was built without an AAC encoder (cargo build --release --features fdk-aac)"
    )]
    NoAacEncoder,
}

enum Decoder {
    Opus(OpusDecoder),
    Aac(Box<AacDecoder>),
    G711(Law),
    G722(Box<G722>),
}

impl Decoder {
    fn new(format: &SoundFormat) -> Result<Self, AudioError> {
        Ok(match format {
            SoundFormat::Opus => Self::Opus(OpusDecoder::new()?),
            SoundFormat::Aac { config } => Self::Aac(Box::new(AacDecoder::new(config)?)),
            SoundFormat::Pcmu => Self::G711(Law::Mu),
            SoundFormat::Pcma => Self::G711(Law::A),
            SoundFormat::G722 => Self::G722(Box::new(G722::new())),
        })
    }

    fn rate(&self) -> u32 {
        match self {
            Self::Opus(_) => OPUS_RATE,
            Self::Aac(aac) => aac.rate(),
            Self::G711(_) => 8_000,
            Self::G722(_) => 16_000,
        }
    }

    fn channels(&self) -> usize {
        match self {
            Self::Opus(_) => OpusDecoder::CHANNELS,
            Self::Aac(aac) => aac.channels(),
            Self::G711(_) | Self::G722(_) => 1,
        }
    }

    fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) {
        match self {
            Self::Opus(opus) => opus.decode(packet, pcm),
            Self::Aac(aac) => aac.decode(packet, pcm),
            Self::G711(law) => g711::decode(*law, packet, pcm),
            Self::G722(g722) => g722.decode(packet, pcm),
        }
    }
}

/// What sound becomes.
enum Encoder {
    Opus(OpusEncoder),
    #[cfg(feature = "fdk-aac")]
    Aac(aac_encoder::AacEncoder),
}

impl Encoder {
    #[cfg(feature = "fdk-aac")]
    fn aac(channels: usize) -> Result<Self, AudioError> {
        aac_encoder::AacEncoder::new(channels).map(Self::Aac)
    }

    #[cfg(not(feature = "fdk-aac"))]
    fn aac(_: usize) -> Result<Self, AudioError> {
        Err(AudioError::NoAacEncoder)
    }

    /// Samples a channel that it takes at once.
    fn packet_samples(&self) -> usize {
        match self {
            Self::Opus(_) => OpusEncoder::PACKET_SAMPLES,
            #[cfg(feature = "fdk-aac")]
            Self::Aac(_) => aac_encoder::PACKET_SAMPLES,
        }
    }

    /// By how many samples a packet is heard before those it was made at.
    fn delay_samples(&self) -> usize {
        match self {
            // Browsers make it so, and no decoder accounts for it.
            Self::Opus(_) => 0,
            #[cfg(feature = "fdk-aac")]
            Self::Aac(aac) => aac.delay_samples(),
        }
    }

    /// Encodes so many samples; an empty packet is none yet.
    fn encode(&mut self, pcm: &[f32]) -> Result<&[u8], AudioError> {
        match self {
            Self::Opus(opus) => opus.encode(pcm),
            #[cfg(feature = "fdk-aac")]
            Self::Aac(aac) => aac.encode(pcm),
        }
    }
}

/// Another format in, Opus packets of 20 ms or AAC of 1024 samples out.
pub struct Transcoder {
    decoder: Decoder,
    resampler: Option<Resampler>,
    encoder: Encoder,
    channels: usize,
    /// Decoded sound, interleaved.
    decoded: Vec<f32>,
    /// Sound at 48 kHz that does not fill a packet yet, interleaved.
    pending: Vec<f32>,
    /// When the first sample of `pending` is heard; `None` before the first one came.
    pending_us: Option<i64>,
}

impl Transcoder {
    /// Length of the packets of Opus it makes.
    pub const PACKET_US: i64 = 20_000;

    /// For sound of this format, to become Opus.
    ///
    /// # Errors
    /// [`AudioError`]: it cannot be decoded.
    pub fn new(format: &SoundFormat, options: AudioOptions) -> Result<Self, AudioError> {
        let decoder = Decoder::new(format)?;
        let channels = decoder.channels();
        let bitrate_bps = options.opus_bitrate_bps * channels as u32 / 2;
        let encoder = Encoder::Opus(OpusEncoder::new(channels, bitrate_bps)?);
        Self::between(decoder, encoder)
    }

    /// For sound of this format, to become AAC-LC at 48 kHz.
    ///
    /// # Errors
    /// [`AudioError`]: it cannot be decoded, or this server cannot encode AAC.
    pub fn to_aac(format: &SoundFormat) -> Result<Self, AudioError> {
        let decoder = Decoder::new(format)?;
        let encoder = Encoder::aac(decoder.channels())?;
        Self::between(decoder, encoder)
    }

    /// The AudioSpecificConfig of the AAC it makes; `None`: it makes Opus.
    #[must_use]
    pub fn aac_config(&self) -> Option<&[u8]> {
        match &self.encoder {
            Encoder::Opus(_) => None,
            #[cfg(feature = "fdk-aac")]
            Encoder::Aac(aac) => Some(aac.config()),
        }
    }

    fn between(decoder: Decoder, encoder: Encoder) -> Result<Self, AudioError> {
        let channels = decoder.channels();
        let resampler = match decoder.rate() {
            OPUS_RATE => None,
            rate => Some(Resampler::new(rate, channels)?),
        };
        Ok(Self {
            encoder,
            decoder,
            resampler,
            channels,
            decoded: Vec::new(),
            pending: Vec::new(),
            pending_us: None,
        })
    }

    /// Takes the packet that is heard at `pts_us` and gives what is complete with the time it is
    /// heard at. These times are packet after packet, and follow what the source's samples drift
    /// against its times slowly; they leap only where sound is missing. A packet that cannot be
    /// decoded is silence.
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
        let heard_us = pts_us
            .saturating_sub(delay_us)
            .saturating_sub(samples_us(before as i64));
        let frames = (self.decoded.len() / self.channels) as i64;
        let passed_us = frames * 1_000_000 / i64::from(self.decoder.rate());
        let mut time_us = match self.pending_us {
            Some(expected_us) if heard_us.abs_diff(expected_us) <= MAX_DRIFT_US as u64 => {
                let most_us = passed_us / SLEW;
                expected_us + (heard_us - expected_us).clamp(-most_us, most_us)
            }
            _ => heard_us,
        };
        let mut used = 0;
        let samples = self.encoder.packet_samples();
        let ahead_us = samples_us(self.encoder.delay_samples() as i64);
        let values = samples * self.channels;
        while let Some(pcm) = self.pending.get(used..used + values) {
            let packet = self.encoder.encode(pcm)?;
            if !packet.is_empty() {
                made(time_us.saturating_sub(ahead_us), packet);
            }
            time_us = time_us.saturating_add(samples_us(samples as i64));
            used += values;
        }
        self.pending.drain(..used);
        self.pending_us = Some(time_us);
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

/// Length of an Opus packet in samples at 48 kHz, by what its first bytes say (RFC 6716 3.1).
#[must_use]
pub fn opus_samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..12 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..16 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    Some(frame * frames)
}
