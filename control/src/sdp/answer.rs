//! Writes answers. [`answer_publisher`] and [`answer_viewer`] are what the WHIP and WHEP handlers
//! call: an offer goes in, the answer and the [`Negotiated`] description it was written from come
//! out.
//!
//! Transport attributes stand in every m-section rather than at the session level, because that is
//! where every client looks; candidates stand in the tagged m-section only (RFC 9143 7.3.1), and
//! `a=ice-lite` at the session level, the one place RFC 8839 gives it.

use std::net::{Ipv4Addr, SocketAddr};

use sdp_types::{Attribute, Connection, Media, Origin, Session, Time};

use super::codec::{CodecParameters, Redundancy};
use super::error::SdpError;
use super::ice::{IceCredentials, host_candidate_line};
use super::media::MediaKind;
use super::negotiate::{LocalTrack, Negotiated, NegotiatedMedia, RejectedMedia, TrackLimits};
use super::offer::Offer;

/// This server's side of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalParameters {
    /// Our ICE credentials.
    pub ice: IceCredentials,
    /// The SHA-256 fingerprint of our certificate: 32 pairs of hexadecimal digits with colons.
    pub fingerprint_sha256: String,
    /// Our host candidates (UDP), most preferred first. ffmpeg uses the first one only.
    pub candidates: Vec<SocketAddr>,
    /// `sess-id` of the origin line; unique, and below 2^63 (RFC 8829 5.2.1).
    pub session_id: u64,
    /// `sess-version` of the origin line; grows with every description of the session.
    pub session_version: u64,
    /// Canonical name of the sources we send.
    pub cname: String,
}

/// An answer and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The body of the 201 response.
    pub sdp: String,
    /// The same in types.
    pub negotiated: Negotiated,
}

/// Answers a publisher's offer.
///
/// # Errors
/// As [`Negotiated::publisher`].
pub fn answer_publisher(offer: &Offer, local: &LocalParameters) -> Result<Answer, SdpError> {
    let negotiated = Negotiated::publisher(offer)?;
    let sdp = negotiated.write_answer(local);
    Ok(Answer { sdp, negotiated })
}

/// Answers a viewer's offer. `assign` is called for each m-section that will carry a track
/// ([`NegotiatedMedia::track_index`]), in order, and names the track and its sources.
///
/// # Errors
/// As [`Negotiated::viewer`].
pub fn answer_viewer(
    offer: &Offer,
    local: &LocalParameters,
    limits: TrackLimits,
    mut assign: impl FnMut(&NegotiatedMedia) -> LocalTrack,
) -> Result<Answer, SdpError> {
    let mut negotiated = Negotiated::viewer(offer, limits)?;
    for media in negotiated
        .media
        .iter_mut()
        .filter(|media| media.is_active())
    {
        let mut track = assign(media);
        track.rtx_ssrc = track.rtx_ssrc.filter(|_| media.has_rtx());
        media.local = Some(track);
    }
    let sdp = negotiated.write_answer(local);
    Ok(Answer { sdp, negotiated })
}

impl Negotiated {
    /// Writes the answer. [`NegotiatedMedia::local`] must be set where we send.
    pub fn write_answer(&self, local: &LocalParameters) -> String {
        let origin =
            Origin::with_ip_addr(local.session_id, local.session_version, Ipv4Addr::LOCALHOST);
        let mut session = Session::new(origin, "-");
        session.times.push(Time::new(0, 0));
        let mut attributes = Attributes(&mut session.attributes);
        if !self.bundle.is_empty() {
            attributes.value("group", format!("BUNDLE {}", self.bundle.join(" ")));
        }
        attributes.flag("ice-lite");
        // RFC 8838 3: says that trickled candidates are taken. Ours are all in the answer.
        attributes.value("ice-options", "trickle ice2");
        if self.extmap_allow_mixed {
            attributes.flag("extmap-allow-mixed");
        }

        // RFC 3264 6: as many m-sections as the offer, in its order.
        let tagged = self.tagged_media().map(|media| media.index);
        let mut medias: Vec<(usize, Media)> = Vec::new();
        for media in &self.media {
            let section = self.accepted_section(media, local, tagged == Some(media.index));
            medias.push((media.index, section));
        }
        medias.extend(
            self.rejected
                .iter()
                .map(|media| (media.index, rejected_section(media))),
        );
        medias.sort_by_key(|(index, _)| *index);
        session.medias = medias.into_iter().map(|(_, media)| media).collect();

        let mut text = Vec::new();
        session
            .write(&mut text)
            .expect("writing to memory does not fail");
        String::from_utf8(text).expect("a description made of strings is UTF-8")
    }

    fn accepted_section(
        &self,
        media: &NegotiatedMedia,
        local: &LocalParameters,
        is_tagged: bool,
    ) -> Media {
        let media_type = if media.kind == MediaKind::Audio {
            "audio"
        } else {
            "video"
        };
        let payload_types: Vec<String> = media
            .codecs
            .iter()
            .flat_map(|codec| {
                let redundant = |preferred| {
                    let redundancy = codec.redundancy;
                    let redundancy = redundancy.filter(|r| r.is_preferred == preferred);
                    redundancy.map(|redundancy| redundancy.payload_type)
                };
                [
                    redundant(true),
                    Some(codec.payload_type),
                    codec.rtx_payload_type,
                    redundant(false),
                ]
            })
            .flatten()
            .map(|payload_type| payload_type.to_string())
            .collect();
        let mut section = section(media_type, 9, &media.proto, payload_types.join(" "));
        let mut attributes = Attributes(&mut section.attributes);
        attributes.value("rtcp", "9 IN IP4 0.0.0.0");
        attributes.transport(local, self.transport.setup.as_str(), is_tagged);
        if let Some(mid) = &media.mid {
            attributes.value("mid", mid);
        }
        for extension in &media.extensions {
            attributes.value("extmap", extension.line());
        }
        if media.extmap_allow_mixed && !self.extmap_allow_mixed {
            attributes.flag("extmap-allow-mixed");
        }
        attributes.flag(media.direction.as_str());
        if let Some(track) = &media.local {
            attributes.value("msid", format!("{} {}", track.stream_id, track.track_id));
        }
        attributes.flag("rtcp-mux");
        if media.rtcp_rsize {
            attributes.flag("rtcp-rsize");
        }
        for codec in &media.codecs {
            attributes.codec(codec);
        }
        attributes.simulcast(media);
        if let Some(track) = &media.local {
            attributes.sources(track, &local.cname);
        }
        section
    }
}

fn rejected_section(media: &RejectedMedia) -> Media {
    // RFC 3264 6: port 0; the formats of a rejected m-section mean nothing but must be there.
    let mut section = section(&media.media_type, 0, &media.proto, media.fmt.clone());
    let mut attributes = Attributes(&mut section.attributes);
    if let Some(mid) = &media.mid {
        attributes.value("mid", mid);
    }
    attributes.flag("inactive");
    section
}

fn section(media_type: &str, port: u16, proto: &str, fmt: String) -> Media {
    Media {
        media: media_type.to_owned(),
        port,
        num_ports: None,
        proto: proto.to_owned(),
        fmt,
        media_title: None,
        // RFC 8840 4.1.1: the address that says "see the candidates".
        connections: vec![Connection::from_ip_addr(Ipv4Addr::UNSPECIFIED)],
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}

/// The `a=` lines of a section, in the order they are added.
struct Attributes<'a>(&'a mut Vec<Attribute>);

impl Attributes<'_> {
    fn flag(&mut self, name: &str) {
        self.0.push(Attribute::new(name));
    }

    fn value(&mut self, name: &str, value: impl ToString) {
        self.0.push(Attribute::with_value(name, value));
    }

    fn transport(&mut self, local: &LocalParameters, setup: &str, is_tagged: bool) {
        if is_tagged {
            for (rank, &address) in local.candidates.iter().enumerate() {
                self.value("candidate", host_candidate_line(address, rank));
            }
            self.flag("end-of-candidates");
        }
        self.value("ice-ufrag", &local.ice.ufrag);
        self.value("ice-pwd", &local.ice.pwd);
        self.value(
            "fingerprint",
            format!("sha-256 {}", local.fingerprint_sha256),
        );
        self.value("setup", setup);
    }

    fn codec(&mut self, codec: &CodecParameters) {
        let payload_type = codec.payload_type;
        let channels = if codec.channels > 1 {
            format!("/{}", codec.channels)
        } else {
            "".into()
        };
        let clock_rate = codec.clock_rate;
        self.value(
            "rtpmap",
            format!("{payload_type} {}/{clock_rate}{channels}", codec.codec),
        );
        for feedback in codec.feedback.values() {
            self.value("rtcp-fb", format!("{payload_type} {feedback}"));
        }
        if let Some(fmtp) = &codec.fmtp {
            self.value("fmtp", format!("{payload_type} {fmtp}"));
        }
        if let Some(rtx) = codec.rtx_payload_type {
            self.value("rtpmap", format!("{rtx} rtx/{clock_rate}"));
            self.value("fmtp", format!("{rtx} apt={payload_type}"));
        }
        if let Some(Redundancy {
            payload_type: red, ..
        }) = codec.redundancy
        {
            self.value("rtpmap", format!("{red} red/{clock_rate}{channels}"));
            // RFC 2198 5: the formats of the blocks, which are all of this one.
            self.value("fmtp", format!("{red} {payload_type}/{payload_type}"));
        }
    }

    fn simulcast(&mut self, media: &NegotiatedMedia) {
        if media.rids.is_empty() {
            return;
        }
        for rid in &media.rids {
            let payload_types: Vec<String> =
                rid.payload_types.iter().map(ToString::to_string).collect();
            let restriction = match payload_types.is_empty() {
                true => String::new(),
                false => format!(" pt={}", payload_types.join(",")),
            };
            self.value("rid", format!("{} recv{restriction}", rid.id));
        }
        let layers: Vec<&str> = media.rids.iter().map(|rid| rid.id.as_str()).collect();
        self.value("simulcast", format!("recv {}", layers.join(";")));
    }

    fn sources(&mut self, track: &LocalTrack, cname: &str) {
        if let Some(rtx_ssrc) = track.rtx_ssrc {
            self.value("ssrc-group", format!("FID {} {rtx_ssrc}", track.ssrc));
        }
        for ssrc in [Some(track.ssrc), track.rtx_ssrc].into_iter().flatten() {
            self.value("ssrc", format!("{ssrc} cname:{cname}"));
        }
    }
}
