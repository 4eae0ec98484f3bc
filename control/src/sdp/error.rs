//! Why an offer or a fragment was refused, in words for the person who wrote the client: the HTTP
//! handlers send the text as the body of the response. It never repeats more of the offer than a
//! short, escaped quotation.

use super::limits::MAX_QUOTE_BYTES;
use super::media::MediaKind;

/// How far an offer got, for the choice of the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The body is not what its content type says: 400.
    Malformed,
    /// The body is understood, but a session cannot be made of it: 422.
    Unprocessable,
    /// The offer is sound and nothing in it is a codec this server carries: 406.
    NotAcceptable,
}

/// An offer or fragment that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// The body is longer than [`super::limits::MAX_DESCRIPTION_BYTES`].
    #[error(
        "the session description is {len} bytes long and at most {limit} are accepted; \
         offer fewer codecs or candidates"
    )]
    TooLarge {
        /// Bytes received.
        len: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// A table of the description is longer than its bound in [`super::limits`].
    #[error("the session description has more than {limit} {what}; offer fewer of them")]
    TooMany {
        /// What there are too many of, in the plural.
        what: &'static str,
        /// How many are accepted.
        limit: usize,
    },
    /// The body does not follow the grammar of RFC 8866.
    #[error("the body is not a session description (RFC 8866): {reason}")]
    Syntax {
        /// What the parser met, with the line number where there is one.
        reason: String,
    },
    /// An attribute the session depends on has a value that cannot be used.
    #[error("a={attribute}:{value} cannot be used: {expected}")]
    InvalidAttribute {
        /// Name of the attribute.
        attribute: &'static str,
        /// Its value, shortened and escaped.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// Two m-sections carry the same identification.
    #[error("two m-sections have a=mid:{mid}; give each m-section a mid of its own (RFC 5888)")]
    DuplicateMid {
        /// The identification.
        mid: String,
    },
    /// The description has no m-section.
    #[error("the offer has no m-section; offer audio, video or both")]
    NoMedia,
    /// A publisher offers nothing to send.
    #[error(
        "no audio or video m-section of the offer sends; a publisher offers a=sendonly \
         (or a=sendrecv)"
    )]
    NothingSent,
    /// A viewer offers nothing to receive.
    #[error(
        "no audio or video m-section of the offer receives; a viewer offers a=recvonly \
         (or a=sendrecv)"
    )]
    NothingReceived,
    /// No offered codec is one that the server carries.
    #[error(
        "no codec in common: the offer has {offered}; this server carries Opus (48000/2), \
         VP8, VP9 (profiles 0 and 2), AV1, H264 (packetization modes 0 and 1) and H265"
    )]
    NoCommonCodec {
        /// Names of the offered codecs by kind of medium.
        offered: String,
    },
    /// Every m-section the client wants has a transport protocol other than DTLS-SRTP.
    #[error(
        "{media} uses {proto}, which is not accepted; offer UDP/TLS/RTP/SAVPF, media over \
         DTLS-SRTP (RFC 8829 5.1.2)"
    )]
    UnsupportedProtocol {
        /// The m-section.
        media: String,
        /// Its transport protocol.
        proto: String,
    },
    /// An m-section has no ICE credentials of its own and inherits none.
    #[error("{media} has no a=ice-ufrag and a=ice-pwd; the server needs both (RFC 8839)")]
    MissingIceCredentials {
        /// The m-section.
        media: String,
    },
    /// Both sides would wait for the other's connectivity checks.
    #[error(
        "the offer says a=ice-lite and so does this server, so nobody would send connectivity \
         checks; offer with a full ICE agent (RFC 8445)"
    )]
    RemoteIceLite,
    /// An m-section has no certificate fingerprint of its own and inherits none.
    #[error("{media} has no a=fingerprint; media is accepted over DTLS-SRTP only (RFC 8842)")]
    MissingFingerprint {
        /// The m-section.
        media: String,
    },
    /// Every fingerprint uses a hash that is too weak or unknown.
    #[error(
        "the certificate fingerprint uses {offered}, which is not accepted; \
         use sha-256, sha-384 or sha-512 (RFC 8122)"
    )]
    UnsupportedFingerprint {
        /// The hash functions offered.
        offered: String,
    },
    /// An m-section would need a second port for RTCP.
    #[error("{media} has no a=rtcp-mux; RTP and RTCP share one port here (RFC 8858)")]
    MissingRtcpMux {
        /// The m-section.
        media: String,
    },
    /// An m-section would need a transport of its own.
    #[error(
        "{media} is not in the same a=group:BUNDLE as the others; bundle all m-sections, \
         one transport is made for a session (RFC 9143, RFC 9725 4.4)"
    )]
    NotBundled {
        /// The m-section.
        media: String,
    },
}

impl SdpError {
    /// What kind of refusal this is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Syntax { .. }
            | Self::InvalidAttribute { .. }
            | Self::DuplicateMid { .. } => ErrorClass::Malformed,
            Self::NoCommonCodec { .. } => ErrorClass::NotAcceptable,
            _ => ErrorClass::Unprocessable,
        }
    }

    pub(crate) fn invalid(attribute: &'static str, value: &str, expected: &'static str) -> Self {
        Self::InvalidAttribute {
            attribute,
            value: quote(value),
            expected,
        }
    }
}

/// Names an m-section in an error: `m=video (mid 1)`.
pub(crate) fn describe_media(kind: MediaKind, index: usize, mid: Option<&str>) -> String {
    match mid {
        Some(mid) => format!("m={kind} (mid {})", quote(mid)),
        None => format!("m={kind} (number {} in the offer)", index + 1),
    }
}

/// A client's words, short enough and free of control characters.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        if quoted.len() >= MAX_QUOTE_BYTES {
            quoted.push_str("...");
            break;
        }
        if c.is_control() {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    quoted
}

/// Refuses the `limit + 1`st of something.
pub(crate) fn check_room(len: usize, limit: usize, what: &'static str) -> Result<(), SdpError> {
    if len < limit {
        Ok(())
    } else {
        Err(SdpError::TooMany { what, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_is_short_and_has_no_control_characters() {
        let quoted = quote(&"\u{7}é".repeat(10_000));
        assert!(quoted.len() < MAX_QUOTE_BYTES + 16);
        assert!(!quoted.chars().any(char::is_control));
    }
}
