//! The sound of a stream made AAC, for readers that hear nothing else.
//!
//! It stands between the recording and the remuxer of an output that is read so, on the output's thread:
//! once for all of its readers, and only while there are some. It must never change pictures, nor the
//! order of times in a track.

use std::num::NonZeroU32;

use fanmill_engine::packet::codec::Codec;

use super::{OutputError, OutputKind};
use crate::media::audio::{AudioError, HAS_AAC_ENCODER, OPUS_RATE, SoundFormat, Transcoder};
use crate::media::mux::Sample;
use crate::media::recording::{Fragment, Head};

/// Samples in a packet of AAC.
const PACKET_SAMPLES: u32 = 1024;

/// As what the sound of a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sound {
    /// As the publisher sends it.
    Source,
    /// AAC.
    Aac,
}

impl Sound {
    /// What readers get that ask for nothing: where players hear AAC only, that, if this server can
    /// make it.
    #[must_use]
    pub const fn usual(kind: OutputKind) -> Self {
        match kind {
            OutputKind::Ts | OutputKind::Hls if HAS_AAC_ENCODER => Self::Aac,
            _ => Self::Source,
        }
    }

    /// What a query asks for by `audio`.
    ///
    /// # Errors
    /// [`OutputError::Sound`]: for something else.
    pub fn asked(query: Option<&str>, kind: OutputKind) -> Result<Self, OutputError> {
        let mut parameters = query.unwrap_or_default().split('&');
        match parameters.find_map(|parameter| parameter.strip_prefix("audio=")) {
            None => Ok(Self::usual(kind)),
            Some("source") => Ok(Self::Source),
            Some("aac") => Ok(Self::Aac),
            Some(_) => Err(OutputError::Sound),
        }
    }

    /// What is behind the name of an HLS playlist, so that it says the same again.
    pub(super) const fn query(self) -> &'static str {
        match (self, Self::usual(OutputKind::Hls)) {
            (Self::Source, Self::Source) | (Self::Aac, Self::Aac) => "",
            (Self::Source, _) => "?audio=source",
            (Self::Aac, _) => "?audio=aac",
        }
    }

    /// What is behind the number of a folder of HLS: no file has two meanings.
    pub(super) const fn folder(self) -> &'static str {
        match self {
            Self::Source => "",
            Self::Aac => "a",
        }
    }

    /// Of whose folder that is the name.
    pub(super) fn of_folder(folder: &str) -> Self {
        match folder.ends_with(Self::Aac.folder()) {
            true => Self::Aac,
            false => Self::Source,
        }
    }
}

/// What sound of this codec is decoded as.
pub(crate) const fn format(codec: Codec) -> Option<SoundFormat> {
    match codec {
        Codec::Opus => Some(SoundFormat::Opus),
        Codec::Pcmu => Some(SoundFormat::Pcmu),
        Codec::Pcma => Some(SoundFormat::Pcma),
        Codec::G722 => Some(SoundFormat::G722),
        _ => None,
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct AacSound {
    /// By place in the present part; `None` is not changed.
    lines: Vec<Option<Line>>,
    /// Sound before this is of no picture.
    begins_us: Option<i64>,
}

/// One track of sound.
struct Line {
    transcoder: Transcoder,
    timescale: NonZeroU32,
    /// Complete but for its duration: the next one says when it ends.
    held: Option<Sample>,
}

impl AacSound {
    /// A part begins: its head as readers are told of it.
    pub(super) fn part(&mut self, mut head: Head) -> Head {
        self.lines.clear();
        self.begins_us = None;
        for track in &mut head.tracks {
            let format = format(track.description.codec);
            let line = format.and_then(|format| match line(&format, track.timescale) {
                Ok(line) => Some(line),
                Err(error) => {
                    tracing::warn!(%error, "sound is not made AAC");
                    None
                }
            });
            if let Some(config) = line.as_ref().and_then(|line| line.transcoder.aac_config()) {
                track.description = track.description.as_aac(config);
                track.timescale = NonZeroU32::new(OPUS_RATE).unwrap_or(NonZeroU32::MIN);
            }
            self.lines.push(line);
        }
        head
    }

    /// A fragment of it; `None`: it has come to nothing yet.
    pub(super) fn fragment(&mut self, mut fragment: Fragment) -> Option<Fragment> {
        let begins_us = *self.begins_us.get_or_insert(fragment.start_us);
        for (track, samples) in &mut fragment.runs {
            if let Some(Some(line)) = self.lines.get_mut(*track) {
                *samples = line.made(samples, begins_us);
            }
        }
        fragment.runs.retain(|(_, samples)| !samples.is_empty());
        let samples = fragment.runs.iter().flat_map(|(_, samples)| samples);
        fragment.bytes = samples.map(|sample| sample.data.len()).sum();
        (!fragment.runs.is_empty()).then_some(fragment)
    }
}

fn line(format: &SoundFormat, timescale: NonZeroU32) -> Result<Line, AudioError> {
    Ok(Line {
        transcoder: Transcoder::to_aac(format)?,
        timescale,
        held: None,
    })
}

impl Line {
    fn made(&mut self, samples: &[Sample], begins_us: i64) -> Vec<Sample> {
        let mut made = Vec::new();
        for sample in samples {
            let us = i128::from(sample.dts) * 1_000_000 / i128::from(self.timescale.get());
            let us = i64::try_from(us).unwrap_or(i64::MAX);
            let held = &mut self.held;
            let pushed = self.transcoder.push(us, &sample.data, |us, packet| {
                if us < begins_us {
                    return;
                }
                let mut dts = i128::from(us) * i128::from(OPUS_RATE) / 1_000_000;
                if let Some(mut before) = held.take() {
                    dts = dts.max(i128::from(before.dts) + 1);
                    let duration = dts - i128::from(before.dts);
                    before.duration = u32::try_from(duration).unwrap_or(PACKET_SAMPLES);
                    made.push(before);
                }
                *held = Some(Sample {
                    dts: i64::try_from(dts).unwrap_or(i64::MAX),
                    composition_offset: 0,
                    duration: PACKET_SAMPLES,
                    keyframe: true,
                    data: packet.to_vec(),
                });
            });
            if let Err(error) = pushed {
                tracing::debug!(%error, "a packet of sound is left out");
            }
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_from_the_query() {
        let asked = |query| Sound::asked(query, OutputKind::Mp4).ok();
        assert_eq!(asked(None), Some(Sound::Source));
        assert_eq!(asked(Some("_HLS_msn=1&audio=aac")), Some(Sound::Aac));
        assert_eq!(asked(Some("audio=source")), Some(Sound::Source));
        assert_eq!(asked(Some("audio=mp3")), None);
    }

    #[test]
    fn folders_tell_whose_they_are() {
        for sound in [Sound::Source, Sound::Aac] {
            let folder = format!("1700000000{}", sound.folder());
            assert_eq!(Sound::of_folder(&folder), sound);
        }
    }
}
