//! A whole offer: the session level, the BUNDLE groups and the m-sections. The HTTP handlers parse
//! with it; the negotiation works on the result and never on text.

use sdp_types::Session;

use super::error::{SdpError, check_room, quote};
use super::limits::{MAX_DESCRIPTION_BYTES, MAX_GROUPS, MAX_MEDIA};
use super::media::{Direction, OfferedMedia, SessionAttributes};
use super::security::Setup;

/// An offer as the client sent it, read into types.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The client is an ICE lite agent (RFC 8445 2.5).
    pub ice_lite: bool,
    /// `trickle` is among the ICE options of the session or of an m-section (RFC 8840 4).
    pub trickle: bool,
    /// `a=extmap-allow-mixed` stands at the session level.
    pub extmap_allow_mixed: bool,
    /// The identification tags of each BUNDLE group, in order.
    pub bundle_groups: Vec<Vec<String>>,
    /// The m-sections, in order; at least one.
    pub media: Vec<OfferedMedia>,
}

impl Offer {
    /// Reads the body of a request with the content type `application/sdp`.
    ///
    /// # Errors
    /// [`SdpError::TooLarge`], [`SdpError::TooMany`], [`SdpError::Syntax`],
    /// [`SdpError::InvalidAttribute`], [`SdpError::DuplicateMid`] and [`SdpError::NoMedia`].
    pub fn parse(body: impl AsRef<[u8]>) -> Result<Self, SdpError> {
        let session = parse_session(body.as_ref())?;
        let mut offer = Self {
            ice_lite: session.has_attribute("ice-lite"),
            trickle: false,
            extmap_allow_mixed: session.has_attribute("extmap-allow-mixed"),
            bundle_groups: Vec::new(),
            media: Vec::with_capacity(session.medias.len()),
        };
        let inherited = offer.read_session_attributes(&session)?;
        for (index, media) in session.medias.iter().enumerate() {
            let mut options = media.get_attribute_values("ice-options").flatten();
            offer.trickle |= options.any(has_trickle);
            offer
                .media
                .push(OfferedMedia::parse(index, media, &inherited)?);
        }
        offer.check_mids()?;
        if offer.media.is_empty() {
            return Err(SdpError::NoMedia);
        }
        Ok(offer)
    }

    fn read_session_attributes(
        &mut self,
        session: &Session,
    ) -> Result<SessionAttributes, SdpError> {
        let mut inherited = SessionAttributes {
            extmap_allow_mixed: self.extmap_allow_mixed,
            end_of_candidates: session.has_attribute("end-of-candidates"),
            ..SessionAttributes::default()
        };
        for attribute in &session.attributes {
            let value = attribute.value.as_deref().unwrap_or_default().trim();
            match attribute.attribute.as_str() {
                "ice-ufrag" => inherited.ufrag = Some(value.to_owned()),
                "ice-pwd" => inherited.pwd = Some(value.to_owned()),
                "ice-options" => self.trickle |= has_trickle(value),
                "fingerprint" => inherited.fingerprints.push(value)?,
                "setup" => inherited.setup = Some(Setup::parse(value)?),
                "group" => self.push_group(value)?,
                other => {
                    inherited.direction = Direction::from_name(other).or(inherited.direction);
                }
            }
        }
        Ok(inherited)
    }

    fn push_group(&mut self, value: &str) -> Result<(), SdpError> {
        let mut tags = value.split_ascii_whitespace();
        if tags.next() != Some("BUNDLE") {
            return Ok(());
        }
        check_room(
            self.bundle_groups.len(),
            MAX_GROUPS,
            "groups (a=group:BUNDLE)",
        )?;
        let mut group = Vec::new();
        for tag in tags {
            check_room(
                group.len(),
                MAX_MEDIA,
                "m-sections in a group (a=group:BUNDLE)",
            )?;
            group.push(tag.to_owned());
        }
        self.bundle_groups.push(group);
        Ok(())
    }

    fn check_mids(&self) -> Result<(), SdpError> {
        for (index, media) in self.media.iter().enumerate() {
            let Some(mid) = &media.mid else { continue };
            if self.media[..index]
                .iter()
                .any(|other| other.mid.as_ref() == Some(mid))
            {
                return Err(SdpError::DuplicateMid { mid: quote(mid) });
            }
        }
        Ok(())
    }

    /// The m-section with this identification.
    pub fn media_by_mid(&self, mid: &str) -> Option<&OfferedMedia> {
        self.media
            .iter()
            .find(|media| media.mid.as_deref() == Some(mid))
    }

    /// The BUNDLE group that an m-section belongs to.
    pub(crate) fn bundle_group(&self, media: &OfferedMedia) -> Option<&[String]> {
        let mid = media.mid.as_ref()?;
        self.bundle_groups
            .iter()
            .find(|group| group.contains(mid))
            .map(Vec::as_slice)
    }
}

fn has_trickle(options: &str) -> bool {
    // RFC 8839 5.6 parts options with spaces; libdatachannel writes a comma.
    options.split([' ', ',']).any(|option| option == "trickle")
}

fn parse_session(body: &[u8]) -> Result<Session, SdpError> {
    check_size(body)?;
    Session::parse(body).map_err(|error| SdpError::Syntax {
        reason: quote(&error.to_string()),
    })
}

/// Refuses a body that is too long or has too many m-sections, before anything is allocated for it.
pub(crate) fn check_size(body: &[u8]) -> Result<(), SdpError> {
    if body.len() > MAX_DESCRIPTION_BYTES {
        return Err(SdpError::TooLarge {
            len: body.len(),
            limit: MAX_DESCRIPTION_BYTES,
        });
    }
    let media = body
        .split(|&byte| byte == b'\n')
        .filter(|line| line.starts_with(b"m="))
        .count();
    if media > MAX_MEDIA {
        return Err(SdpError::TooMany {
            what: "m-sections",
            limit: MAX_MEDIA,
        });
    }
    Ok(())
}
