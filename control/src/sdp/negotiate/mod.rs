//! What both sides of a session will do: the offer's m-sections accepted or rejected, with the
//! codecs, header extensions and sources that remain, and the transport they share. The answer is
//! written from it, and the engine is set up from it, so the two cannot disagree.

mod bundle;
mod format;

use super::codec::CodecParameters;
use super::error::{SdpError, quote};
use super::extension::{ExtensionMapping, HeaderExtension};
use super::ice::{IceCandidate, IceCredentials};
use super::media::{Direction, MediaKind, OfferedMedia};
use super::offer::Offer;
use super::security::{Fingerprint, Setup};
use super::source::{EncodingSsrc, Msid, Rid, SsrcGroup, SsrcSource};

/// How many tracks of each kind a stream has for a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackLimits {
    /// Audio tracks; further audio m-sections are answered `inactive`.
    pub audio: usize,
    /// Video tracks; further video m-sections are answered `inactive`.
    pub video: usize,
}

/// What the client says of the one transport of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTransport {
    /// Its ICE credentials.
    pub ice: IceCredentials,
    /// Fingerprints of its certificate, SHA-256 first; at least one. The certificate must match one
    /// of those with the first one's hash function (RFC 8122 5).
    pub fingerprints: Vec<Fingerprint>,
    /// *Our* role in the DTLS handshake: active or passive.
    pub setup: Setup,
    /// Its candidates that can be reached.
    pub candidates: Vec<IceCandidate>,
    /// Whether those are all.
    pub end_of_candidates: bool,
}

/// A track that this server sends, with the names and sources it is described by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTrack {
    /// Identifier of the MediaStream; the same for tracks to be played together.
    pub stream_id: String,
    /// Identifier of the track.
    pub track_id: String,
    /// The source of the media.
    pub ssrc: u32,
    /// The source of the retransmissions; described when [`NegotiatedMedia::has_rtx`].
    pub rtx_ssrc: Option<u32>,
}

/// An accepted m-section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedMedia {
    /// Its place among the m-sections of offer and answer, from 0.
    pub index: usize,
    /// Audio or video.
    pub kind: MediaKind,
    /// Its transport protocol, as offered.
    pub proto: String,
    /// Its identification. `None` only for the single m-section of an offer without BUNDLE.
    pub mid: Option<String>,
    /// Which way media flows, from our side: `recvonly` for publishers, `sendonly` for viewers,
    /// `inactive` where there is nothing to carry.
    pub direction: Direction,
    /// Which track of its kind it carries, from 0; `None` when inactive.
    pub track_index: Option<usize>,
    /// The codecs both sides use, most preferred first; at least one.
    pub codecs: Vec<CodecParameters>,
    /// The header extensions both sides use.
    pub extensions: Vec<ExtensionMapping>,
    /// One- and two-byte header extensions may be mixed (RFC 8285 4.1.2).
    pub extmap_allow_mixed: bool,
    /// RTCP packets need not be compound (RFC 5506).
    pub rtcp_rsize: bool,
    /// Sources that the client announced.
    pub ssrcs: Vec<SsrcSource>,
    /// Their groups.
    pub ssrc_groups: Vec<SsrcGroup>,
    /// The same by encoding. Empty in most simulcast offers, which go by [`Self::rids`].
    pub encodings: Vec<EncodingSsrc>,
    /// Simulcast layers in the order offered; empty without simulcast.
    pub rids: Vec<Rid>,
    /// Stream and track of the client.
    pub msid: Option<Msid>,
    /// The track we send in it; for viewers only.
    pub local: Option<LocalTrack>,
}

impl NegotiatedMedia {
    /// The local identifier of a header extension.
    pub fn extension_id(&self, extension: HeaderExtension) -> Option<u8> {
        self.extensions
            .iter()
            .find(|known| known.extension == extension)
            .map(|known| known.id)
    }

    /// Whether any of its codecs has retransmissions.
    pub fn has_rtx(&self) -> bool {
        self.codecs
            .iter()
            .any(|codec| codec.rtx_payload_type.is_some())
    }

    /// Whether media flows in it.
    pub fn is_active(&self) -> bool {
        self.direction != Direction::Inactive
    }
}

/// Why an m-section is rejected while the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// The client offered it with port 0.
    Disabled,
    /// It is neither audio nor video.
    Kind,
    /// Its transport protocol is not RTP over DTLS-SRTP.
    Protocol,
    /// None of its codecs is carried.
    NoCommonCodec,
    /// It carries nothing and is not in the BUNDLE group.
    NotBundled,
    /// It carries nothing and lacks `a=rtcp-mux`.
    NoRtcpMux,
}

/// A rejected m-section, with what the answer repeats of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedMedia {
    /// Its place among the m-sections, from 0.
    pub index: usize,
    /// Why.
    pub reason: RejectReason,
    pub(crate) media_type: String,
    pub(crate) proto: String,
    pub(crate) fmt: String,
    pub(crate) mid: Option<String>,
}

impl RejectedMedia {
    fn new(offered: &OfferedMedia, reason: RejectReason) -> Self {
        Self {
            index: offered.index,
            reason,
            media_type: offered.media_type.clone(),
            proto: offered.proto.clone(),
            fmt: offered.fmt.clone(),
            mid: offered.mid.clone(),
        }
    }
}

/// A negotiated session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The client's side of the transport.
    pub transport: RemoteTransport,
    /// Identifications of the BUNDLE group in the answer; empty when the offer has no such group.
    pub bundle: Vec<String>,
    /// `a=extmap-allow-mixed` stands at the session level.
    pub extmap_allow_mixed: bool,
    /// Accepted m-sections by index.
    pub media: Vec<NegotiatedMedia>,
    /// Rejected m-sections by index.
    pub rejected: Vec<RejectedMedia>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The client sends.
    Publisher,
    /// The client receives.
    Viewer(TrackLimits),
}

impl Negotiated {
    /// Negotiates a publisher's offer: what it sends is received.
    ///
    /// # Errors
    /// [`SdpError::NothingSent`], [`SdpError::NoCommonCodec`] when no m-section is left, and the
    /// errors about ICE, fingerprints, `rtcp-mux` and BUNDLE.
    pub fn publisher(offer: &Offer) -> Result<Self, SdpError> {
        negotiate(offer, Role::Publisher)
    }

    /// Negotiates a viewer's offer: the i-th m-section of a kind that receives gets the i-th track
    /// of that kind. All codecs in common stay, because the publisher may change its own.
    ///
    /// # Errors
    /// [`SdpError::NothingReceived`], [`SdpError::NoCommonCodec`] when no m-section is left, and
    /// the errors about ICE, fingerprints, `rtcp-mux` and BUNDLE.
    pub fn viewer(offer: &Offer, limits: TrackLimits) -> Result<Self, SdpError> {
        negotiate(offer, Role::Viewer(limits))
    }

    /// The m-section whose transport attributes count for all (RFC 9143 7.3.1).
    pub fn tagged_media(&self) -> Option<&NegotiatedMedia> {
        match self.bundle.first() {
            Some(tag) => self
                .media
                .iter()
                .find(|media| media.mid.as_ref() == Some(tag)),
            None => self.media.first(),
        }
    }
}

/// An m-section that can be accepted, as far as it alone decides.
struct Candidate<'a> {
    offered: &'a OfferedMedia,
    media: NegotiatedMedia,
    /// The client wants to use it, so leaving it out is an error.
    wanted: bool,
}

fn negotiate(offer: &Offer, role: Role) -> Result<Negotiated, SdpError> {
    if offer.ice_lite {
        return Err(SdpError::RemoteIceLite);
    }
    let mut rejected = Vec::new();
    let mut candidates = Vec::new();
    let mut taken = TrackLimits { audio: 0, video: 0 };
    for offered in &offer.media {
        match examine(offered, role, &mut taken) {
            Ok(candidate) => candidates.push(candidate),
            Err(reason) => rejected.push(RejectedMedia::new(offered, reason)),
        }
    }
    if !candidates.iter().any(|candidate| candidate.wanted) {
        return Err(nothing_left(offer, role, &rejected));
    }
    let bundled = bundle::select(offer, candidates, &mut rejected)?;
    let transport = bundle::transport(offer, &bundled)?;
    let mut media: Vec<NegotiatedMedia> = bundled
        .candidates
        .into_iter()
        .map(|candidate| candidate.media)
        .collect();
    format::drop_conflicting_extensions(&mut media);
    rejected.sort_by_key(|rejected| rejected.index);
    Ok(Negotiated {
        transport,
        bundle: bundled.bundle,
        extmap_allow_mixed: offer.extmap_allow_mixed,
        media,
        rejected,
    })
}

fn examine<'a>(
    offered: &'a OfferedMedia,
    role: Role,
    taken: &mut TrackLimits,
) -> Result<Candidate<'a>, RejectReason> {
    if offered.is_disabled() {
        return Err(RejectReason::Disabled);
    }
    if !matches!(offered.kind, MediaKind::Audio | MediaKind::Video) {
        return Err(RejectReason::Kind);
    }
    if !is_dtls_srtp(&offered.proto) {
        return Err(RejectReason::Protocol);
    }
    let mut codecs = format::codecs(offered, role);
    if codecs.is_empty() {
        return Err(RejectReason::NoCommonCodec);
    }
    let wanted = is_wanted(offered, role);
    let track_index = if wanted {
        take_track(offered.kind, role, taken)
    } else {
        None
    };
    let direction = match (track_index, role) {
        (None, _) => Direction::Inactive,
        (Some(_), Role::Publisher) => Direction::RecvOnly,
        (Some(_), Role::Viewer(_)) => Direction::SendOnly,
    };
    let extensions = format::extensions(offered, role, &mut codecs);
    let rids = format::simulcast_layers(offered, role, &extensions, &codecs);
    let media = NegotiatedMedia {
        index: offered.index,
        kind: offered.kind,
        proto: offered.proto.clone(),
        mid: offered.mid.clone(),
        direction,
        track_index,
        codecs,
        extensions,
        extmap_allow_mixed: offered.extmap_allow_mixed,
        rtcp_rsize: offered.rtcp_rsize,
        ssrcs: offered.ssrcs.clone(),
        ssrc_groups: offered.ssrc_groups.clone(),
        encodings: offered.encodings.clone(),
        rids,
        msid: offered.msid.clone(),
        local: None,
    };
    Ok(Candidate {
        offered,
        media,
        wanted,
    })
}

// RFC 8829 5.1.2 lists the protocol fields that mean the same thing.
fn is_dtls_srtp(proto: &str) -> bool {
    matches!(
        proto,
        "UDP/TLS/RTP/SAVPF"
            | "UDP/TLS/RTP/SAVP"
            | "TCP/DTLS/RTP/SAVPF"
            | "TCP/DTLS/RTP/SAVP"
            | "RTP/SAVPF"
            | "RTP/SAVP"
    )
}

fn is_wanted(offered: &OfferedMedia, role: Role) -> bool {
    match role {
        Role::Publisher => offered.direction.sends(),
        Role::Viewer(_) => offered.direction.receives(),
    }
}

fn take_track(kind: MediaKind, role: Role, taken: &mut TrackLimits) -> Option<usize> {
    let unlimited = TrackLimits {
        audio: usize::MAX,
        video: usize::MAX,
    };
    let limits = if let Role::Viewer(limits) = role {
        limits
    } else {
        unlimited
    };
    let (count, limit) = match kind {
        MediaKind::Audio => (&mut taken.audio, limits.audio),
        _ => (&mut taken.video, limits.video),
    };
    if *count >= limit {
        return None;
    }
    *count += 1;
    Some(*count - 1)
}

/// Why no m-section is left that the client wants.
fn nothing_left(offer: &Offer, role: Role, rejected: &[RejectedMedia]) -> SdpError {
    let reason = |media: &OfferedMedia| {
        rejected
            .iter()
            .find(|other| other.index == media.index)
            .map(|other| other.reason)
    };
    let mut wanted = offer.media.iter().filter(|media| is_wanted(media, role));
    let uncommon: Vec<String> = wanted
        .clone()
        .filter(|media| reason(media) == Some(RejectReason::NoCommonCodec))
        .map(list_codecs)
        .collect();
    if !uncommon.is_empty() {
        return SdpError::NoCommonCodec {
            offered: quote(&uncommon.join("; ")),
        };
    }
    if let Some(media) = wanted.find(|media| reason(media) == Some(RejectReason::Protocol)) {
        let proto = quote(&media.proto);
        return SdpError::UnsupportedProtocol {
            media: media.describe(),
            proto,
        };
    }
    match role {
        Role::Publisher => SdpError::NothingSent,
        Role::Viewer(_) => SdpError::NothingReceived,
    }
}

fn list_codecs(media: &OfferedMedia) -> String {
    let mut names: Vec<&str> = media
        .codecs
        .iter()
        .map(|codec| codec.encoding_name.as_str())
        .collect();
    names.dedup();
    let names = if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    };
    format!("{names} for {}", media.kind)
}
