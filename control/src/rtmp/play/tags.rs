//! Access units into FLV tags, with the configuration that decoders want before.

use bytes::Bytes;
use fanmill_engine::packet::codec::Codec;

use super::super::flv::{self, VideoCodec};
use crate::media::configuration;
use crate::media::depacketize::{Unit, nals, sequence_header};

/// What a tag holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum TagKind {
    Video(VideoCodec),
    Opus,
    Aac,
}

impl TagKind {
    /// Whether a configuration of the one takes the place of the other's.
    pub(super) const fn is_like(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Video(_), Self::Video(_)) | (Self::Opus, Self::Opus) | (Self::Aac, Self::Aac)
        )
    }
}

/// A message of pictures or sound for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Tag {
    pub(in super::super) kind: TagKind,
    /// A reader can begin here.
    pub(in super::super) is_keyframe: bool,
    pub(in super::super) is_configuration: bool,
    /// On the timeline of the hub.
    pub(in super::super) ms: i64,
    pub(in super::super) payload: Bytes,
}

/// Makes the tags of one publisher.
#[derive(Debug, Default)]
pub(super) struct Tagger {
    video: Option<Bytes>,
    has_opus: bool,
    has_aac: bool,
}

impl Tagger {
    /// The tags of a unit: its configuration, if that is new, and itself.
    pub(super) fn tags(&mut self, unit: &Unit, ms: i64) -> Vec<Tag> {
        if unit.codec == Codec::Opus {
            return self.opus(&unit.data, ms);
        }
        let Some(codec) = video_codec(unit.codec) else {
            return Vec::new();
        };
        let mut tags = Vec::new();
        if unit.keyframe
            && let Some(configuration) = configuration_of(codec, &unit.data)
        {
            let payload = flv::write_video_configuration(codec, &configuration);
            if self.video.as_ref() != Some(&payload) {
                self.video = Some(payload.clone());
                tags.push(Tag {
                    kind: TagKind::Video(codec),
                    is_keyframe: false,
                    is_configuration: true,
                    ms,
                    payload,
                });
            }
        }
        tags.push(Tag {
            kind: TagKind::Video(codec),
            is_keyframe: unit.keyframe,
            is_configuration: false,
            ms,
            payload: flv::write_video(codec, unit.keyframe, &unit.data),
        });
        tags
    }

    fn opus(&mut self, packet: &[u8], ms: i64) -> Vec<Tag> {
        let mut tags = Vec::new();
        if !std::mem::replace(&mut self.has_opus, true) {
            let configuration = flv::write_opus_configuration();
            tags.push(sound(TagKind::Opus, true, ms, configuration));
        }
        tags.push(sound(TagKind::Opus, false, ms, flv::write_opus(packet)));
        tags
    }

    /// The tags of a packet of AAC.
    pub(super) fn aac(&mut self, config: &[u8], packet: &[u8], ms: i64) -> Vec<Tag> {
        let mut tags = Vec::new();
        if !std::mem::replace(&mut self.has_aac, true) {
            let configuration = flv::write_aac_configuration(config);
            tags.push(sound(TagKind::Aac, true, ms, configuration));
        }
        tags.push(sound(TagKind::Aac, false, ms, flv::write_aac(packet)));
        tags
    }
}

fn sound(kind: TagKind, is_configuration: bool, ms: i64, payload: Bytes) -> Tag {
    Tag {
        kind,
        is_keyframe: false,
        is_configuration,
        ms,
        payload,
    }
}

pub(super) fn video_codec(codec: Codec) -> Option<VideoCodec> {
    Some(match codec {
        Codec::H264 => VideoCodec::H264,
        Codec::H265 => VideoCodec::H265,
        Codec::Av1 => VideoCodec::Av1,
        Codec::Vp9 => VideoCodec::Vp9,
        Codec::Vp8 => VideoCodec::Vp8,
        _ => return None,
    })
}

/// The configuration record that a keyframe's own headers make.
fn configuration_of(codec: VideoCodec, keyframe: &[u8]) -> Option<Vec<u8>> {
    match codec {
        VideoCodec::H264 => configuration::write_h264(nals(keyframe)),
        VideoCodec::H265 => configuration::write_h265(nals(keyframe)),
        VideoCodec::Av1 => sequence_header(keyframe).map(configuration::write_av1),
        VideoCodec::Vp9 => configuration::write_vp9(keyframe),
        // VP8 has none.
        VideoCodec::Vp8 => None,
    }
}
