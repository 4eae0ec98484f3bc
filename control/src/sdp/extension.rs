//! RTP header extensions in session descriptions, `a=extmap` (RFC 8285). The m-section parser reads
//! them, the negotiation picks those that make sense for publisher or viewer.

use super::media::Direction;

/// A header extension that the engine reads, writes or forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeaderExtension {
    /// Identification of the m-section (RFC 9143 15).
    Mid,
    /// RTP stream id: the simulcast layer (RFC 8852 3.1).
    RtpStreamId,
    /// RTP stream id of the layer that a retransmission repairs (RFC 8852 3.2).
    RepairedRtpStreamId,
    /// Transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportWideCc,
    /// Absolute send time, the clock of REMB.
    AbsSendTime,
    /// Audio level of the client (RFC 6464).
    AudioLevel,
    /// Coordination of video orientation (3GPP TS 26.114).
    VideoOrientation,
    /// Bounds on the delay before playing.
    PlayoutDelay,
    /// Time of capture in the clock of the publisher.
    AbsCaptureTime,
    /// Dependency descriptor (AV1 RTP specification).
    DependencyDescriptor,
    /// Video layers allocation: what simulcast and SVC layers are sent.
    VideoLayersAllocation,
}

impl HeaderExtension {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Mid,
        Self::RtpStreamId,
        Self::RepairedRtpStreamId,
        Self::TransportWideCc,
        Self::AbsSendTime,
        Self::AudioLevel,
        Self::VideoOrientation,
        Self::PlayoutDelay,
        Self::AbsCaptureTime,
        Self::DependencyDescriptor,
        Self::VideoLayersAllocation,
    ];

    /// The URI that names it in `a=extmap`.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::RtpStreamId => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRtpStreamId => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::TransportWideCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Self::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Self::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/\
                 #dependency-descriptor-rtp-header-extension"
            }
            Self::VideoLayersAllocation => {
                "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00"
            }
        }
    }

    /// The extension with this URI. `None` for one the engine does not know.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|extension| extension.uri() == uri)
    }

    /// Whether it means anything to a viewer, who gets one layer of a stream.
    pub(crate) const fn is_for_viewers(self) -> bool {
        !matches!(
            self,
            Self::RtpStreamId | Self::RepairedRtpStreamId | Self::VideoLayersAllocation
        )
    }
}

/// An `a=extmap` line of the offer whose extension is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferedExtension {
    /// Local identifier in RTP packets: 1 to 14, or 16 to 255 in two-byte headers.
    pub id: u8,
    /// What it identifies.
    pub extension: HeaderExtension,
    /// Who uses it, from the side of the offerer.
    pub direction: Direction,
}

impl OfferedExtension {
    /// Reads the value of `a=extmap:`. `None` for an unknown extension, and for an identifier that
    /// no packet can carry.
    pub fn parse(value: &str) -> Option<Self> {
        // RFC 8285 7: extmap:<value>["/"<direction>] <URI> <extensionattributes>
        let mut fields = value.split_ascii_whitespace();
        let number = fields.next()?;
        let (number, direction) = match number.split_once('/') {
            Some((number, direction)) => (number, Direction::from_name(direction)?),
            None => (number, Direction::SendRecv),
        };
        let id: u8 = number.parse().ok()?;
        let extension = HeaderExtension::from_uri(fields.next()?)?;
        // RFC 8285 4.2: 0 is padding and 15 is reserved.
        (id != 0 && id != 15).then_some(Self {
            id,
            extension,
            direction,
        })
    }
}

/// A header extension that both sides use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionMapping {
    /// Local identifier in RTP packets.
    pub id: u8,
    /// What it identifies.
    pub extension: HeaderExtension,
    /// Who uses it, from our side.
    pub direction: Direction,
}

impl ExtensionMapping {
    /// The value of `a=extmap` in the answer.
    pub(crate) fn line(&self) -> String {
        match self.direction {
            // RFC 8285 5: no direction means that of the m-section.
            Direction::SendRecv => format!("{} {}", self.id, self.extension.uri()),
            direction => format!("{}/{direction} {}", self.id, self.extension.uri()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_direction_after_the_identifier_is_read() {
        let line = "6/recvonly http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
        let extension = OfferedExtension::parse(line).unwrap();
        assert_eq!(extension.id, 6);
        assert_eq!(extension.extension, HeaderExtension::PlayoutDelay);
        assert_eq!(extension.direction, Direction::RecvOnly);
    }

    #[test]
    fn identifiers_that_no_packet_carries_are_left_out() {
        for id in ["0", "15", "256", "4096", "-1", "x", ""] {
            let line = format!("{id} {}", HeaderExtension::Mid.uri());
            assert_eq!(OfferedExtension::parse(&line), None, "{id}");
        }
    }

    #[test]
    fn every_uri_is_found_again() {
        for extension in HeaderExtension::ALL {
            assert_eq!(HeaderExtension::from_uri(extension.uri()), Some(extension));
            assert!(!extension.uri().contains(char::is_whitespace));
        }
    }

    proptest! {
        #[test]
        fn no_extension_line_panics(line in "[0-9]{0,5}(/[a-z]*)? ?\\PC*") {
            let _ = OfferedExtension::parse(&line);
        }
    }
}
