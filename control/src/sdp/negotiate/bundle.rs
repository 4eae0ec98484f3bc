//! BUNDLE (RFC 9143): which m-sections share the transport of the session, which of them speaks for
//! it, and what it says.

use super::super::error::SdpError;
use super::super::offer::Offer;
use super::super::security::Setup;
use super::{Candidate, RejectReason, RejectedMedia, RemoteTransport};

/// The m-sections that share the transport.
pub(super) struct Bundled<'a> {
    /// In the order of the offer; at least one.
    pub(super) candidates: Vec<Candidate<'a>>,
    /// The BUNDLE group of the answer; empty when the offer has none.
    pub(super) bundle: Vec<String>,
    /// The group as offered.
    offered_group: Option<&'a [String]>,
}

/// Keeps the m-sections that are bundled with the first one the client wants.
pub(super) fn select<'a>(
    offer: &'a Offer,
    candidates: Vec<Candidate<'a>>,
    rejected: &mut Vec<RejectedMedia>,
) -> Result<Bundled<'a>, SdpError> {
    let leader = candidates
        .iter()
        .find(|candidate| candidate.wanted)
        .map(|candidate| candidate.offered)
        .ok_or(SdpError::NoMedia)?;
    let offered_group = offer.bundle_group(leader);
    let tagged = offered_group.and_then(|group| offer.media_by_mid(group.first()?));
    let mut kept = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let offered = candidate.offered;
        let is_bundled = offered.index == leader.index
            || offered
                .mid
                .as_ref()
                .is_some_and(|mid| offered_group.is_some_and(|group| group.contains(mid)));
        // RFC 9143 7.1.3: a bundle-only m-section goes by what the tagged one says.
        let has_rtcp_mux = offered.rtcp_mux
            || (offered.bundle_only && tagged.is_some_and(|tagged| tagged.rtcp_mux));
        match (is_bundled, has_rtcp_mux, candidate.wanted) {
            (true, true, _) => kept.push(candidate),
            (false, _, true) => {
                return Err(SdpError::NotBundled {
                    media: offered.describe(),
                });
            }
            (_, false, true) => {
                return Err(SdpError::MissingRtcpMux {
                    media: offered.describe(),
                });
            }
            (false, _, false) => {
                rejected.push(RejectedMedia::new(offered, RejectReason::NotBundled));
            }
            (_, false, false) => {
                rejected.push(RejectedMedia::new(offered, RejectReason::NoRtcpMux));
            }
        }
    }
    let is_kept = |tag: &String| {
        kept.iter()
            .any(|candidate: &Candidate<'_>| candidate.media.mid.as_ref() == Some(tag))
    };
    let mut bundle: Vec<String> = Vec::new();
    for tag in offered_group.unwrap_or_default() {
        if is_kept(tag) && !bundle.contains(tag) {
            bundle.push(tag.clone());
        }
    }
    Ok(Bundled {
        candidates: kept,
        bundle,
        offered_group,
    })
}

/// Reads the transport from the m-section that speaks for the group.
pub(super) fn transport(offer: &Offer, bundled: &Bundled<'_>) -> Result<RemoteTransport, SdpError> {
    // RFC 9143 7.3.1: the first m-section of the group that is not rejected.
    let tag = bundled.bundle.first();
    let section = bundled
        .candidates
        .iter()
        .map(|candidate| candidate.offered)
        .find(|offered| tag.is_none() || offered.mid.as_ref() == tag)
        .ok_or(SdpError::NoMedia)?;
    // RFC 8829 5.2.1: bundle-only m-sections may leave all of it to the first one of the offer.
    let first = bundled
        .offered_group
        .and_then(|group| offer.media_by_mid(group.first()?))
        .unwrap_or(section);

    let ice = section
        .ice
        .clone()
        .or_else(|| first.ice.clone())
        .ok_or_else(|| SdpError::MissingIceCredentials {
            media: section.describe(),
        })?;
    let has_fingerprint = !section.fingerprints.is_empty() || !section.refused_hashes.is_empty();
    let identity = if has_fingerprint { section } else { first };
    if identity.fingerprints.is_empty() {
        if identity.refused_hashes.is_empty() {
            return Err(SdpError::MissingFingerprint {
                media: section.describe(),
            });
        }
        return Err(SdpError::UnsupportedFingerprint {
            offered: identity.refused_hashes.join(", "),
        });
    }
    // RFC 4145 4: an offer that says nothing is active.
    let setup = section
        .setup
        .or(first.setup)
        .unwrap_or(Setup::Active)
        .answer();
    let gathered = if section.candidates.is_empty() {
        first
    } else {
        section
    };
    Ok(RemoteTransport {
        ice,
        fingerprints: identity.fingerprints.clone(),
        setup,
        candidates: gathered.candidates.clone(),
        end_of_candidates: gathered.end_of_candidates,
    })
}
