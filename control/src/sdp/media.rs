//! One m-section of an offer, read into types. [`super::Offer::parse`] calls it for every
//! m-section; it knows the session-level attributes that the section inherits and nothing of the
//! other sections.

use std::fmt;

use sdp_types::Media;

use super::error::{SdpError, check_room, describe_media, quote};
use super::extension::OfferedExtension;
use super::ice::{CandidateList, IceCandidate, IceCredentials};
use super::limits::{MAX_EXTENSIONS, MAX_MID_BYTES};
use super::payload::{FormatTable, OfferedCodec};
use super::security::{Fingerprint, FingerprintList, Setup};
use super::source::{EncodingSsrc, Msid, Rid, SimulcastTable, SourceTable, SsrcGroup, SsrcSource};

/// What an m-section is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// `m=audio`.
    Audio,
    /// `m=video`.
    Video,
    /// `m=application`: data channels.
    Application,
    /// Anything else.
    Other,
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Application => "application",
            Self::Other => "other",
        })
    }
}

/// Which way media flows, from the side of whoever describes it (RFC 3264 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// From the describing side.
    SendOnly,
    /// To the describing side.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// Reads the name of the attribute.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        }
    }

    /// The name of the attribute.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// Whether the describing side sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the describing side receives.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An m-section of an offer, with what it inherits from the session level.
#[derive(Debug, Clone)]
pub struct OfferedMedia {
    /// Its place among the m-sections, from 0.
    pub index: usize,
    /// What it is about.
    pub kind: MediaKind,
    /// The first field of the m-line, as written.
    pub media_type: String,
    /// The port; 0 with [`Self::bundle_only`] is no rejection.
    pub port: u16,
    /// `a=bundle-only` (RFC 9143 6).
    pub bundle_only: bool,
    /// The transport protocol, as written.
    pub proto: String,
    /// The format list, as written.
    pub fmt: String,
    /// `a=mid` (RFC 5888).
    pub mid: Option<String>,
    /// Which way media flows.
    pub direction: Direction,
    /// `a=rtcp-mux` or `a=rtcp-mux-only` (RFC 8858).
    pub rtcp_mux: bool,
    /// `a=rtcp-rsize` (RFC 5506).
    pub rtcp_rsize: bool,
    /// `a=extmap-allow-mixed` (RFC 8285 6).
    pub extmap_allow_mixed: bool,
    /// ICE credentials.
    pub ice: Option<IceCredentials>,
    /// `a=setup`.
    pub setup: Option<Setup>,
    /// Certificate fingerprints with an accepted hash, SHA-256 first.
    pub fingerprints: Vec<Fingerprint>,
    /// Codecs in the order of preference, without retransmission formats.
    pub codecs: Vec<OfferedCodec>,
    /// Known header extensions; identifiers are distinct.
    pub extensions: Vec<OfferedExtension>,
    /// Stream and track, from `a=msid` or else from the first source that says it.
    pub msid: Option<Msid>,
    /// Announced sources.
    pub ssrcs: Vec<SsrcSource>,
    /// Their groups.
    pub ssrc_groups: Vec<SsrcGroup>,
    /// The sources by encoding.
    pub encodings: Vec<EncodingSsrc>,
    /// Simulcast layers, in the order of `a=simulcast`; empty without simulcast.
    pub simulcast: Vec<Rid>,
    /// Candidates that can be reached.
    pub candidates: Vec<IceCandidate>,
    /// How many candidates were left out: TCP, RTCP's component, mDNS, duplicates beyond the bound.
    pub ignored_candidates: usize,
    /// `a=end-of-candidates` (RFC 8840 8.2).
    pub end_of_candidates: bool,

    /// Hash functions of the fingerprints that are not accepted.
    pub(crate) refused_hashes: Vec<String>,
}

/// Attributes of the session level that m-sections inherit.
#[derive(Debug, Default)]
pub(crate) struct SessionAttributes {
    pub(crate) ufrag: Option<String>,
    pub(crate) pwd: Option<String>,
    pub(crate) fingerprints: FingerprintList,
    pub(crate) setup: Option<Setup>,
    pub(crate) direction: Option<Direction>,
    pub(crate) extmap_allow_mixed: bool,
    pub(crate) end_of_candidates: bool,
}

impl OfferedMedia {
    /// Names the m-section in an error.
    pub(crate) fn describe(&self) -> String {
        describe_media(self.kind, self.index, self.mid.as_deref())
    }

    /// Whether the client itself rejects the m-section (RFC 3264 6, RFC 9143 6).
    pub(crate) fn is_disabled(&self) -> bool {
        self.port == 0 && !self.bundle_only
    }

    pub(crate) fn parse(
        index: usize,
        media: &Media,
        session: &SessionAttributes,
    ) -> Result<Self, SdpError> {
        let mut section = Section::new(media)?;
        for attribute in &media.attributes {
            let value = attribute.value.as_deref().unwrap_or_default().trim();
            section.read(&attribute.attribute, value)?;
        }
        section.finish(index, media, session)
    }
}

/// An m-section while its attributes are read.
#[derive(Debug)]
struct Section {
    formats: FormatTable,
    sources: SourceTable,
    simulcast: SimulcastTable,
    candidates: CandidateList,
    fingerprints: FingerprintList,
    extensions: Vec<OfferedExtension>,
    mid: Option<String>,
    msid: Option<Msid>,
    ufrag: Option<String>,
    pwd: Option<String>,
    setup: Option<Setup>,
    direction: Option<Direction>,
    bundle_only: bool,
    rtcp_mux: bool,
    rtcp_rsize: bool,
    extmap_allow_mixed: bool,
    end_of_candidates: bool,
}

impl Section {
    fn new(media: &Media) -> Result<Self, SdpError> {
        Ok(Self {
            formats: FormatTable::new(&media.fmt)?,
            sources: SourceTable::default(),
            simulcast: SimulcastTable::default(),
            candidates: CandidateList::default(),
            fingerprints: FingerprintList::default(),
            extensions: Vec::new(),
            mid: None,
            msid: None,
            ufrag: None,
            pwd: None,
            setup: None,
            direction: None,
            bundle_only: false,
            rtcp_mux: false,
            rtcp_rsize: false,
            extmap_allow_mixed: false,
            end_of_candidates: false,
        })
    }

    fn read(&mut self, name: &str, value: &str) -> Result<(), SdpError> {
        match name {
            "mid" => self.mid = Some(parse_mid(value)?),
            "msid" if self.msid.is_none() => self.msid = Msid::parse(value),
            "rtpmap" => self.formats.push_rtpmap(value),
            "fmtp" => self.formats.push_fmtp(value)?,
            "rtcp-fb" => self.formats.push_feedback(value),
            "extmap" => self.push_extension(value)?,
            "ssrc" => self.sources.push_source(value)?,
            "ssrc-group" => self.sources.push_group(value)?,
            "rid" => self.simulcast.push_rid(value)?,
            "simulcast" => self.simulcast.push_simulcast(value),
            "candidate" => self.candidates.push(value),
            "end-of-candidates" => self.end_of_candidates = true,
            "ice-ufrag" => self.ufrag = Some(value.to_owned()),
            "ice-pwd" => self.pwd = Some(value.to_owned()),
            "fingerprint" => self.fingerprints.push(value)?,
            "setup" => self.setup = Some(Setup::parse(value)?),
            "bundle-only" => self.bundle_only = true,
            "rtcp-mux" | "rtcp-mux-only" => self.rtcp_mux = true,
            "rtcp-rsize" => self.rtcp_rsize = true,
            "extmap-allow-mixed" => self.extmap_allow_mixed = true,
            other => self.direction = Direction::from_name(other).or(self.direction),
        }
        Ok(())
    }

    fn push_extension(&mut self, value: &str) -> Result<(), SdpError> {
        let Some(offered) = OfferedExtension::parse(value) else {
            return Ok(());
        };
        check_room(
            self.extensions.len(),
            MAX_EXTENSIONS,
            "header extensions in an m-section",
        )?;
        // RFC 8285 5: an identifier stands for one extension. The first line counts.
        let is_known = self
            .extensions
            .iter()
            .any(|known| known.id == offered.id || known.extension == offered.extension);
        if !is_known {
            self.extensions.push(offered);
        }
        Ok(())
    }

    fn finish(
        self,
        index: usize,
        media: &Media,
        session: &SessionAttributes,
    ) -> Result<OfferedMedia, SdpError> {
        let ufrag = self.ufrag.as_deref().or(session.ufrag.as_deref());
        let pwd = self.pwd.as_deref().or(session.pwd.as_deref());
        let ice = match (ufrag, pwd) {
            (Some(ufrag), Some(pwd)) => Some(IceCredentials::new(ufrag, pwd)?),
            _ => None,
        };
        let fingerprints = if self.fingerprints.is_empty() {
            session.fingerprints.clone()
        } else {
            self.fingerprints
        };
        let kind = match media.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            "application" => MediaKind::Application,
            _ => MediaKind::Other,
        };
        let msid = self.msid.or_else(|| {
            self.sources
                .sources
                .iter()
                .find_map(|source| source.msid.clone())
        });
        Ok(OfferedMedia {
            index,
            kind,
            media_type: media.media.clone(),
            port: media.port,
            bundle_only: self.bundle_only,
            proto: media.proto.clone(),
            fmt: media.fmt.clone(),
            mid: self.mid,
            direction: self
                .direction
                .or(session.direction)
                .unwrap_or(Direction::SendRecv),
            rtcp_mux: self.rtcp_mux,
            rtcp_rsize: self.rtcp_rsize,
            extmap_allow_mixed: self.extmap_allow_mixed || session.extmap_allow_mixed,
            ice,
            setup: self.setup.or(session.setup),
            fingerprints: fingerprints.usable,
            codecs: self.formats.into_codecs(),
            extensions: self.extensions,
            msid,
            encodings: self.sources.encodings(),
            ssrcs: self.sources.sources,
            ssrc_groups: self.sources.groups,
            simulcast: self.simulcast.layers().into_iter().cloned().collect(),
            candidates: self.candidates.usable,
            ignored_candidates: self.candidates.ignored,
            end_of_candidates: self.end_of_candidates || session.end_of_candidates,
            refused_hashes: fingerprints.refused,
        })
    }
}

/// Reads the value of `a=mid:`, a token (RFC 5888 4).
pub(crate) fn parse_mid(value: &str) -> Result<String, SdpError> {
    let is_token = value.bytes().all(|byte| byte.is_ascii_graphic());
    if value.is_empty() || value.len() > MAX_MID_BYTES || !is_token {
        return Err(SdpError::invalid(
            "mid",
            &quote(value),
            "it must be a token of 1 to 32 printable characters (RFC 5888 4)",
        ));
    }
    Ok(value.to_owned())
}
