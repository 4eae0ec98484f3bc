//! RTP payloads into access units: whole pictures, and packets of sound, as files hold them.
//!
//! A track of a recorder pushes packets in order and tells of gaps; it gets units that a decoder can
//! decode one after the other. After a loss video is left out until the next keyframe, since all in
//! between refers to what is missing. A payload is never trusted: what does not parse is a loss.

mod av1;
mod h264;
mod h265;
mod latm;
mod mpeg4;
mod nal;
mod vp8;
mod vp9;

use fanmill_engine::packet::codec::{Codec, MediaKind, is_keyframe_start};

use super::reorder::Packet;

pub(crate) use av1::{leb128, sequence_header};
pub(crate) use nal::nals;

pub use latm::{LatmConfig, LatmDepacketizer};
pub use mpeg4::{Mpeg4Depacketizer, Mpeg4Layout};

/// The largest unit: a keyframe of 4K video at a high bitrate has some megabytes.
pub const MAX_UNIT_BYTES: usize = 16 << 20;

/// A picture, or the sound of one packet.
///
/// H.264 and H.265 come as NAL units with four bytes of length each and their parameter sets in band
/// at every keyframe; AV1 as a temporal unit of OBUs with sizes and without temporal delimiters
/// (AV1-ISOBMFF 2.4); VP8, VP9, Opus and G.711 as their decoders take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// What it is coded in.
    pub codec: Codec,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Whether decoding can begin here. Sound always can.
    pub keyframe: bool,
    /// The coded bytes.
    pub data: Vec<u8>,
    /// When its last packet arrived.
    pub arrival_us: u64,
}

/// What stopped a payload from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payload does not hold what it announces")]
pub struct Malformed;

/// Collects the payloads of one picture.
#[derive(Debug)]
enum Picture {
    H264(h264::Picture),
    H265(h265::Picture),
    Vp8(vp8::Picture),
    Vp9(vp9::Picture),
    Av1(av1::Picture),
}

/// What a picture came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Coded {
    /// Whether decoding can begin here.
    pub keyframe: bool,
    /// The coded bytes, as in [`Unit::data`].
    pub data: Vec<u8>,
}

/// Pictures of NAL units that came otherwise than in RTP.
#[derive(Debug)]
pub struct NalPictures(Picture);

impl NalPictures {
    /// Of H.264, or of H.265.
    #[must_use]
    pub fn new(is_h265: bool) -> Self {
        Self(match is_h265 {
            true => Picture::H265(h265::Picture::default()),
            false => Picture::H264(h264::Picture::default()),
        })
    }

    /// The picture that these units are, if there is one. A keyframe without parameter sets is given
    /// the latest.
    ///
    /// # Errors
    /// A unit is none, or a keyframe's parameter sets have not come yet.
    pub fn picture<'a>(
        &mut self,
        nals: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<Coded>, Malformed> {
        self.0.abandon();
        for nal in nals {
            self.0.add_nal(nal)?;
        }
        self.0.finish()
    }
}

/// Makes units of one track's packets.
#[derive(Debug)]
pub struct Depacketizer {
    picture: Option<Picture>,
    /// Of the picture that is being collected.
    timestamp: Option<u32>,
    /// The last packet ended a picture.
    at_boundary: bool,
    /// Something is missing: nothing can be decoded before a keyframe.
    awaiting_keyframe: bool,
    /// A gap of which it is not known yet whether it matters.
    gap: bool,
    lost: u64,
}

impl Default for Depacketizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Depacketizer {
    /// At the beginning; video begins with a keyframe.
    #[must_use]
    pub fn new() -> Self {
        Self {
            picture: None,
            timestamp: None,
            at_boundary: true,
            awaiting_keyframe: true,
            gap: false,
            lost: 0,
        }
    }

    /// Takes the next packet in order; returns the units that are complete now, at most two.
    pub fn push(&mut self, packet: &Packet) -> impl Iterator<Item = Unit> + use<> {
        let units = match packet.codec.kind() {
            MediaKind::Audio => [sound(packet), None],
            MediaKind::Video => self.push_video(packet),
        };
        units.into_iter().flatten()
    }

    /// Gives the parameter sets that were told otherwise than in the packets, for keyframes that
    /// come without. Only H.264 and H.265 have any.
    pub fn set_parameter_sets(&mut self, codec: Codec, sets: &[Vec<u8>]) {
        let mut picture = Picture::of(codec);
        for set in sets {
            picture.keep_set(set);
        }
        self.picture = Some(picture);
    }

    /// Packets are missing here.
    pub fn gap(&mut self) {
        self.gap = true;
    }

    /// Leaves video out until the next keyframe.
    pub fn await_keyframe(&mut self) {
        if !self.awaiting_keyframe {
            self.lost += 1;
        }
        self.awaiting_keyframe = true;
        self.abandon();
    }

    /// Whether video is left out until a keyframe comes.
    #[must_use]
    pub fn is_awaiting_keyframe(&self) -> bool {
        self.awaiting_keyframe
    }

    /// How often video could not be decoded on, because of a loss or a malformed payload.
    #[must_use]
    pub fn interruptions(&self) -> u64 {
        self.lost
    }

    fn push_video(&mut self, packet: &Packet) -> [Option<Unit>; 2] {
        let fits = self.picture.as_ref().is_none_or(|p| p.is_of(packet.codec));
        if !fits {
            self.picture = None;
            self.await_keyframe();
        }
        let mut units = [None, None];
        // A publisher that sets no marker: the next timestamp ends a picture.
        if !self.at_boundary && self.timestamp != Some(packet.timestamp) && !self.gap {
            units[0] = self.finish(packet.arrival_us);
        }
        if std::mem::take(&mut self.gap) && !self.is_harmless(packet) {
            self.await_keyframe();
        }
        if self.awaiting_keyframe {
            let same_picture = !self.at_boundary && self.timestamp == Some(packet.timestamp);
            if !same_picture && precedes_picture(packet.codec, &packet.payload) {
                self.timestamp = Some(packet.timestamp);
                self.at_boundary = true;
                return units;
            }
            if same_picture || !is_keyframe_start(packet.codec, &packet.payload) {
                // The rest of a picture whose beginning is missing must not pass for its beginning.
                self.timestamp = Some(packet.timestamp);
                self.at_boundary = packet.marker;
                return units;
            }
            self.awaiting_keyframe = false;
            self.abandon();
        }
        self.timestamp = Some(packet.timestamp);
        self.at_boundary = packet.marker;
        let picture = self
            .picture
            .get_or_insert_with(|| Picture::of(packet.codec));
        if picture.push(&packet.payload).is_err() || picture.len() > MAX_UNIT_BYTES {
            self.await_keyframe();
        } else if packet.marker {
            units[1] = self.finish(packet.arrival_us);
        }
        units
    }

    /// Whether nothing but padding can have been lost before this packet.
    fn is_harmless(&self, packet: &Packet) -> bool {
        match &self.picture {
            Some(Picture::Vp8(picture)) => self.at_boundary && picture.is_next(&packet.payload),
            Some(Picture::Vp9(picture)) => self.at_boundary && picture.is_next(&packet.payload),
            _ => false,
        }
    }

    fn finish(&mut self, arrival_us: u64) -> Option<Unit> {
        self.at_boundary = true;
        let timestamp = self.timestamp?;
        let picture = self.picture.as_mut()?;
        let codec = picture.codec();
        match picture.finish() {
            Ok(Some(Coded { keyframe, data })) => Some(Unit {
                codec,
                timestamp,
                keyframe,
                data,
                arrival_us,
            }),
            Ok(None) => None,
            Err(Malformed) => {
                self.await_keyframe();
                None
            }
        }
    }

    fn abandon(&mut self) {
        if let Some(picture) = &mut self.picture {
            picture.abandon();
        }
    }
}

/// Whether a payload is a delimiter, or what is said about a picture before its parameter sets: a
/// keyframe may yet follow with the same timestamp.
fn precedes_picture(codec: Codec, payload: &[u8]) -> bool {
    let header = payload.first().copied().unwrap_or(0);
    match codec {
        Codec::H264 => h264::precedes_picture(header),
        Codec::H265 => h265::precedes_picture(header),
        _ => false,
    }
}

/// A unit of sound is a packet.
fn sound(packet: &Packet) -> Option<Unit> {
    (!packet.payload.is_empty()).then(|| Unit {
        codec: packet.codec,
        timestamp: packet.timestamp,
        keyframe: true,
        data: packet.payload.clone(),
        arrival_us: packet.arrival_us,
    })
}

impl Picture {
    /// Sound has none, and is not asked for one.
    fn of(codec: Codec) -> Self {
        match codec {
            Codec::H264 => Self::H264(h264::Picture::default()),
            Codec::H265 => Self::H265(h265::Picture::default()),
            Codec::Vp9 => Self::Vp9(vp9::Picture::default()),
            Codec::Av1 => Self::Av1(av1::Picture::default()),
            _ => Self::Vp8(vp8::Picture::default()),
        }
    }

    fn codec(&self) -> Codec {
        match self {
            Self::H264(_) => Codec::H264,
            Self::H265(_) => Codec::H265,
            Self::Vp8(_) => Codec::Vp8,
            Self::Vp9(_) => Codec::Vp9,
            Self::Av1(_) => Codec::Av1,
        }
    }

    fn is_of(&self, codec: Codec) -> bool {
        self.codec() == codec
    }

    fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        match self {
            Self::H264(picture) => picture.push(payload),
            Self::H265(picture) => picture.push(payload),
            Self::Vp8(picture) => picture.push(payload),
            Self::Vp9(picture) => picture.push(payload),
            Self::Av1(picture) => picture.push(payload),
        }
    }

    /// Adds a whole NAL unit.
    fn add_nal(&mut self, nal: &[u8]) -> Result<(), Malformed> {
        match self {
            Self::H264(picture) => picture.add(nal),
            Self::H265(picture) => picture.add(nal),
            Self::Vp8(_) | Self::Vp9(_) | Self::Av1(_) => Err(Malformed),
        }
    }

    fn keep_set(&mut self, set: &[u8]) {
        match self {
            Self::H264(picture) => picture.keep_set(set),
            Self::H265(picture) => picture.keep_set(set),
            Self::Vp8(_) | Self::Vp9(_) | Self::Av1(_) => {}
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::H264(picture) => picture.nals.len(),
            Self::H265(picture) => picture.nals.len(),
            Self::Vp8(picture) => picture.len(),
            Self::Vp9(picture) => picture.len(),
            Self::Av1(picture) => picture.len(),
        }
    }

    /// The picture, if there is anything to decode.
    fn finish(&mut self) -> Result<Option<Coded>, Malformed> {
        match self {
            Self::H264(picture) => picture.finish(),
            Self::H265(picture) => picture.finish(),
            Self::Vp8(picture) => Ok(picture.finish()),
            Self::Vp9(picture) => Ok(picture.finish()),
            Self::Av1(picture) => picture.finish(),
        }
    }

    fn abandon(&mut self) {
        match self {
            Self::H264(picture) => picture.nals.clear(),
            Self::H265(picture) => picture.nals.clear(),
            Self::Vp8(picture) => picture.abandon(),
            Self::Vp9(picture) => picture.abandon(),
            Self::Av1(picture) => picture.abandon(),
        }
    }
}

#[cfg(test)]
mod tests;
