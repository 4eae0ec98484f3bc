//! The bounds on what one session description may hold. Real offers stay far below each of them
//! (the largest known one is 8 KB with 34 formats in an m-section); an offer beyond is refused
//! with [`super::SdpError::TooLarge`] or [`super::SdpError::TooMany`] before it costs anything.

/// Bytes of an offer or of an ICE fragment.
pub const MAX_DESCRIPTION_BYTES: usize = 64 * 1024;
/// m-sections of an offer or of an ICE fragment.
pub const MAX_MEDIA: usize = 32;
/// Formats (payload types) in one m-section: RTP has no more.
pub const MAX_FORMATS: usize = 128;
/// Header extensions in one m-section.
pub const MAX_EXTENSIONS: usize = 64;
/// Candidates kept of one m-section. The others are ignored, not refused: a client cannot help
/// having many interfaces, and this side never sends a check.
pub const MAX_CANDIDATES: usize = 64;
/// Synchronisation sources in one m-section.
pub const MAX_SSRCS: usize = 64;
/// `a=ssrc-group` lines in one m-section, and sources in one such group.
pub const MAX_SSRC_GROUPS: usize = 64;
/// `a=rid` lines in one m-section.
pub const MAX_RIDS: usize = 16;
/// Simulcast layers answered in one m-section: the first of those offered.
pub const MAX_SIMULCAST_LAYERS: usize = 8;
/// `a=fingerprint` lines that apply to one m-section.
pub const MAX_FINGERPRINTS: usize = 16;
/// `a=group` lines.
pub const MAX_GROUPS: usize = 16;
/// Parameters in one `a=fmtp` line.
pub const MAX_FMTP_PARAMETERS: usize = 64;
/// Bytes of a `mid`. It travels in a header extension of every packet.
pub const MAX_MID_BYTES: usize = 32;
/// Bytes of a `rid`. RFC 8852 3.3: it must fit a one-byte header extension.
pub const MAX_RID_BYTES: usize = 16;
/// Bytes of a stream or track identifier. RFC 8830 2: at most 64 characters.
pub const MAX_MSID_BYTES: usize = 64;
/// Bytes kept of a canonical name.
pub const MAX_CNAME_BYTES: usize = 255;

/// Bytes of a client's own words quoted in an error.
pub(crate) const MAX_QUOTE_BYTES: usize = 120;
