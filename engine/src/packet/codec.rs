//! The little the engine knows about codecs: where a viewer can begin, and how large the picture
//! is.
//!
//! Routing calls it on plaintext payloads, to find keyframes for the frame cache and for layer
//! switches. It reads payload descriptors and the first bytes of a bitstream and nothing more: it
//! must never need a second packet, and never change one.

mod av1;
mod bits;
mod h264;
mod h265;
mod vp8;
mod vp9;

pub use bits::BitReader;
pub use vp8::Vp8Descriptor;
pub use vp9::Vp9Descriptor;

#[cfg(test)]
mod tests;

/// Whether a codec carries sound or pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// A codec the engine routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Opus (RFC 7587).
    Opus,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// AV1 (RTP Payload Format For AV1).
    Av1,
    /// H.264 (RFC 6184).
    H264,
    /// H.265 (RFC 7798).
    H265,
    /// G.711 mu-law (RFC 3551).
    Pcmu,
    /// G.711 A-law (RFC 3551).
    Pcma,
    /// G.722 (RFC 3551).
    G722,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Opus,
        Self::Vp8,
        Self::Vp9,
        Self::Av1,
        Self::H264,
        Self::H265,
        Self::Pcmu,
        Self::Pcma,
        Self::G722,
    ];

    /// Its encoding name in `a=rtpmap`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::H264 => "H264",
            Self::H265 => "H265",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
        }
    }

    /// The codec with this encoding name, in any case (RFC 4855 3).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// Sound or pictures.
    #[must_use]
    pub const fn kind(self) -> MediaKind {
        match self {
            Self::Opus | Self::Pcmu | Self::Pcma | Self::G722 => MediaKind::Audio,
            Self::Vp8 | Self::Vp9 | Self::Av1 | Self::H264 | Self::H265 => MediaKind::Video,
        }
    }

    /// The clock rate of its timestamps, in Hz.
    #[must_use]
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            // RFC 3551 4.5.2: G.722 samples at 16 kHz but its clock counts 8 kHz.
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
            Self::Vp8 | Self::Vp9 | Self::Av1 | Self::H264 | Self::H265 => 90_000,
        }
    }
}

/// Width and height of a picture in pixels, as it is displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resolution {
    /// Width in pixels, never 0.
    pub width: u32,
    /// Height in pixels, never 0.
    pub height: u32,
}

impl Resolution {
    /// `None` if either is 0 or beyond what any codec here can code.
    pub(crate) fn new(width: u32, height: u32) -> Option<Self> {
        let valid = 1..=65_536;
        (valid.contains(&width) && valid.contains(&height)).then_some(Self { width, height })
    }
}

/// Whether a receiver that has seen nothing can begin with this packet, whose payload (without
/// padding) this is: the first packet of a keyframe, or its parameter sets.
///
/// Several packets of one frame, which have one timestamp, may say so when parameter sets come in
/// packets of their own: the first of them is the beginning. Audio can begin anywhere.
#[must_use]
pub fn is_keyframe_start(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Vp8 => vp8::is_keyframe_start(payload),
        Codec::Vp9 => vp9::is_keyframe_start(payload),
        Codec::Av1 => av1::is_keyframe_start(payload),
        Codec::H264 => h264::is_keyframe_start(payload),
        Codec::H265 => h265::is_keyframe_start(payload),
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722 => !payload.is_empty(),
    }
}

/// The size of the picture, if this payload says it: that of a packet that starts a keyframe. With
/// spatial layers it is that of the highest one the packet tells of.
#[must_use]
pub fn resolution(codec: Codec, payload: &[u8]) -> Option<Resolution> {
    match codec {
        Codec::Vp8 => vp8::resolution(payload),
        Codec::Vp9 => vp9::resolution(payload),
        Codec::Av1 => av1::resolution(payload),
        Codec::H264 => h264::resolution(payload),
        Codec::H265 => h265::resolution(payload),
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722 => None,
    }
}
