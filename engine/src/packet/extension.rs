//! RTP header extensions (RFC 8285): which ones we know, under which ids a peer negotiated them,
//! and where they are in a packet.
//!
//! The control plane fills an [`ExtensionMap`] from SDP; the shard finds the elements of every
//! received packet once, as [`Extensions`], and keeps those positions beside the packet's slot.
//! Never writes: that is [`super::header`].

use super::rtp::RtpHeader;
use super::{read_u16, read_u24};

#[cfg(test)]
mod tests;

/// A header extension the engine understands. Any other is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Extension {
    /// Media identification (RFC 9143).
    Mid,
    /// RTP stream id of a simulcast encoding (RFC 8852).
    Rid,
    /// RTP stream id that a retransmission repairs (RFC 8852).
    RepairedRid,
    /// When the packet left its sender, 24 bits of 6.18 fixed-point seconds.
    AbsSendTime,
    /// Transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportWideCc,
    /// Client-to-mixer audio level (RFC 6464).
    AudioLevel,
    /// Coordination of video orientation (3GPP TS 26.114).
    VideoOrientation,
    /// Minimum and maximum playout delay.
    PlayoutDelay,
    /// When the frame was captured, by NTP.
    AbsCaptureTime,
    /// AV1 dependency descriptor.
    DependencyDescriptor,
    /// Video layers allocation.
    VideoLayersAllocation,
}

impl Extension {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 11] = [
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::AbsSendTime,
        Self::TransportWideCc,
        Self::AudioLevel,
        Self::VideoOrientation,
        Self::PlayoutDelay,
        Self::AbsCaptureTime,
        Self::DependencyDescriptor,
        Self::VideoLayersAllocation,
    ];

    /// The URI that names it in `a=extmap`.
    #[must_use]
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::TransportWideCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Self::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Self::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Self::VideoLayersAllocation => {
                "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00"
            }
        }
    }

    /// The extension an `a=extmap` URI names, if we know it.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|extension| extension.uri() == uri)
    }
}

/// Why an id cannot be given to an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionMapError {
    /// Id 0 means padding.
    #[error("extension id 0 is padding (RFC 8285); ids go from 1 to 255")]
    ReservedId,
    /// One id for two extensions.
    #[error("extension id {id} is already used for {used_by:?}; give each extension its own id")]
    DuplicateId {
        /// The id.
        id: u8,
        /// Who has it.
        used_by: Extension,
    },
}

/// Which id each extension has with one peer: both ways of an `a=extmap` negotiation.
///
/// Peers that negotiated alike compare equal and can share what is built from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExtensionMap {
    /// Indexed by extension; 0: not negotiated.
    ids: [u8; Extension::COUNT],
}

impl ExtensionMap {
    /// A map without extensions.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ids: [0; Extension::COUNT],
        }
    }

    /// Gives `extension` an id, 1 to 255, in place of any it had.
    ///
    /// # Errors
    /// If the id is 0 or belongs to another extension; the map is then unchanged.
    pub fn insert(&mut self, extension: Extension, id: u8) -> Result<(), ExtensionMapError> {
        if id == 0 {
            return Err(ExtensionMapError::ReservedId);
        }
        match self.extension(id) {
            Some(used_by) if used_by != extension => {
                Err(ExtensionMapError::DuplicateId { id, used_by })
            }
            _ => {
                self.ids[extension as usize] = id;
                Ok(())
            }
        }
    }

    /// Takes `extension` out.
    pub fn remove(&mut self, extension: Extension) {
        self.ids[extension as usize] = 0;
    }

    /// The id of `extension`, if it was negotiated.
    #[must_use]
    pub fn id(&self, extension: Extension) -> Option<u8> {
        Some(self.ids[extension as usize]).filter(|&id| id != 0)
    }

    /// The extension that has `id`.
    #[must_use]
    pub fn extension(&self, id: u8) -> Option<Extension> {
        if id == 0 {
            return None;
        }
        let index = self.ids.iter().position(|&used| used == id)?;
        Some(Extension::ALL[index])
    }

    /// The negotiated extensions with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Extension, u8)> + '_ {
        Extension::ALL
            .into_iter()
            .filter_map(|extension| Some((extension, self.id(extension)?)))
    }
}

/// One extension element of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// Local identifier.
    pub id: u8,
    /// Offset in bytes of `data` from the start of the packet.
    pub offset: u16,
    /// The element's value.
    pub data: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
}

/// Iterator over the elements of a packet's header extension.
///
/// Ends early at an element that overruns the extension; the elements before it stand.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    form: Form,
    rest: &'a [u8],
    offset: u16,
}

/// The extension elements of `packet`, whose parsed header is `header`. None if there is no
/// extension, or it has a form that RFC 8285 does not know.
#[must_use]
pub fn elements<'a>(packet: &'a [u8], header: &RtpHeader) -> Elements<'a> {
    let none = Elements {
        form: Form::OneByte,
        rest: &[],
        offset: 0,
    };
    let Some(block) = header.extension else {
        return none;
    };
    // RFC 8285 4.2, 4.3: 0xBEDE, or 0x100 and four application bits.
    let form = match block.profile {
        0xbede => Form::OneByte,
        profile if profile & 0xfff0 == 0x1000 => Form::TwoByte,
        _ => return none,
    };
    let start = usize::from(block.offset);
    let Some(rest) = packet.get(start..start + usize::from(block.len)) else {
        return none;
    };
    Elements {
        form,
        rest,
        offset: block.offset,
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        loop {
            let (&first, after) = self.rest.split_first()?;
            if first == 0 {
                // RFC 8285 4.1.2: a zero byte is padding, in both forms.
                self.advance(1);
                continue;
            }
            let element = match self.form {
                Form::OneByte => match first >> 4 {
                    // RFC 8285 4.2: id 0 with a length, and id 15, end the extension.
                    0 | 15 => None,
                    id => Some((id, 1, usize::from(first & 0x0f) + 1)),
                },
                Form::TwoByte => after.first().map(|&len| (first, 2, usize::from(len))),
            };
            let found = element
                .and_then(|(id, head, len)| Some((id, head, self.rest.get(head..head + len)?)));
            let Some((id, head, data)) = found else {
                self.rest = &[];
                return None;
            };
            self.advance(head);
            let offset = self.offset;
            self.advance(data.len());
            return Some(Element { id, offset, data });
        }
    }
}

impl Elements<'_> {
    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
        // The extension ends within 65535 bytes of the packet (`RtpHeader::parse`).
        self.offset = self.offset.wrapping_add(bytes as u16);
    }
}

/// Where an element's value is, in bytes from the start of the packet. Offset 0 is in the fixed
/// header and so stands for "absent".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    offset: u16,
    len: u16,
}

/// Where the known extensions of one packet are. Positions only, so it can be kept beside the
/// packet and outlive the borrow; every access checks them against the bytes it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    spans: [Span; Extension::COUNT],
}

impl Extensions {
    /// Finds the extensions of `packet` that `map` knows. If one occurs twice, the first counts.
    #[must_use]
    pub fn parse(packet: &[u8], header: &RtpHeader, map: &ExtensionMap) -> Self {
        let mut found = Self::default();
        for element in elements(packet, header) {
            if let Some(extension) = map.extension(element.id) {
                let span = &mut found.spans[extension as usize];
                if span.offset == 0 {
                    *span = Span {
                        offset: element.offset,
                        len: element.data.len() as u16,
                    };
                }
            }
        }
        found
    }

    /// The value of `extension` in `packet`, the packet these positions were found in.
    #[must_use]
    pub fn get<'a>(&self, packet: &'a [u8], extension: Extension) -> Option<&'a [u8]> {
        let Span { offset, len } = self.spans[extension as usize];
        let start = usize::from(offset);
        if start == 0 {
            return None;
        }
        packet.get(start..start + usize::from(len))
    }

    /// When it was captured, by the sender's NTP clock in units of 2^-32 s: the absolute capture time,
    /// and how far the sender's clock is ahead of the one it was read from, where that is said.
    #[must_use]
    pub fn capture_ntp(&self, packet: &[u8]) -> Option<u64> {
        let (ntp, ahead) = match self
            .get(packet, Extension::AbsCaptureTime)?
            .as_chunks::<8>()
        {
            ([ntp], []) => (ntp, &[0; 8]),
            ([ntp, ahead], []) => (ntp, ahead),
            _ => return None,
        };
        Some(u64::from_be_bytes(*ntp).wrapping_add(u64::from_be_bytes(*ahead)))
    }

    /// Length in bytes of the value of `extension`; 0 without one.
    #[must_use]
    pub fn value_len(&self, extension: Extension) -> usize {
        usize::from(self.spans[extension as usize].len)
    }

    /// Forgets `extension`, as if the packet had none.
    pub fn remove(&mut self, extension: Extension) {
        self.spans[extension as usize] = Span::default();
    }

    /// The transport-wide sequence number.
    #[must_use]
    pub fn transport_wide_cc(&self, packet: &[u8]) -> Option<u16> {
        read_u16(self.get(packet, Extension::TransportWideCc)?, 0)
    }

    /// The absolute send time: 24 bits, 6.18 fixed-point seconds.
    #[must_use]
    pub fn abs_send_time(&self, packet: &[u8]) -> Option<u32> {
        read_u24(self.get(packet, Extension::AbsSendTime)?, 0)
    }

    /// Voice activity and audio level in -dBov (0 loudest, 127 silence).
    #[must_use]
    pub fn audio_level(&self, packet: &[u8]) -> Option<(bool, u8)> {
        // RFC 6464 3: V bit, then seven bits of level.
        let level = *self.get(packet, Extension::AudioLevel)?.first()?;
        Some((level & 0x80 != 0, level & 0x7f))
    }

    /// The playout delay limits.
    #[must_use]
    pub fn playout_delay(&self, packet: &[u8]) -> Option<PlayoutDelay> {
        let bits = read_u24(self.get(packet, Extension::PlayoutDelay)?, 0)?;
        Some(PlayoutDelay {
            min_ms: (bits >> 12) as u16 * PlayoutDelay::UNIT_MS,
            max_ms: (bits & 0xfff) as u16 * PlayoutDelay::UNIT_MS,
        })
    }
}

/// Limits a sender puts on the receiver's jitter buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlayoutDelay {
    /// Least delay in milliseconds.
    pub min_ms: u16,
    /// Most delay in milliseconds.
    pub max_ms: u16,
}

impl PlayoutDelay {
    const UNIT_MS: u16 = 10;

    /// The extension's value: two 12-bit numbers of 10 ms, each at most 40.95 s.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 3] {
        let field = |ms: u16| u32::from((ms / Self::UNIT_MS).min(0xfff));
        let [_, bytes @ ..] = (field(self.min_ms) << 12 | field(self.max_ms)).to_be_bytes();
        bytes
    }
}

/// The abs-send-time value (24 bits, 6.18 fixed-point seconds) of a clock in microseconds.
#[must_use]
pub fn abs_send_time(now_us: u64) -> u32 {
    // The value wraps every 64 s: reduce first, so that the shift cannot overflow.
    (((now_us % 64_000_000) << 18) / 1_000_000) as u32
}
