//! Codecs, format parameters, header extensions and simulcast layers of one m-section: what remains
//! of those offered.

use super::super::codec::{Codec, CodecParameters, CodecProfile};
use super::super::extension::{ExtensionMapping, HeaderExtension};
use super::super::media::{Direction, MediaKind, OfferedMedia};
use super::super::payload::OfferedCodec;
use super::super::source::Rid;
use super::{NegotiatedMedia, Role};

/// The codecs in common, in the offer's order.
pub(super) fn codecs(offered: &OfferedMedia, role: Role) -> Vec<CodecParameters> {
    let mut codecs = Vec::new();
    for offered_codec in &offered.codecs {
        let Some(mut codec) = CodecParameters::recognise(offered_codec) else {
            continue;
        };
        let is_audio = codec.codec == Codec::Opus;
        if is_audio != (offered.kind == MediaKind::Audio) {
            continue;
        }
        codec.fmtp = answer_fmtp(&codec, offered_codec, role);
        codecs.push(codec);
    }
    if role == Role::Publisher {
        prefer_fragmentation(&mut codecs);
    }
    codecs
}

/// Puts H.264 entries that allow fragmentation before those that do not, in the places that H.264
/// has. In single NAL unit mode a publisher must cut pictures into slices that fit a packet.
fn prefer_fragmentation(codecs: &mut [CodecParameters]) {
    let places: Vec<usize> = (0..codecs.len())
        .filter(|&i| codecs[i].codec == Codec::H264)
        .collect();
    let mut entries: Vec<CodecParameters> = places.iter().map(|&i| codecs[i].clone()).collect();
    entries.sort_by_key(|codec| {
        !matches!(
            codec.profile,
            CodecProfile::H264 {
                packetization_mode: 1,
                ..
            }
        )
    });
    for (place, entry) in places.into_iter().zip(entries) {
        codecs[place] = entry;
    }
}

/// What `a=fmtp` says in the answer. Parameters that describe the client's own stream (`sprop-*`)
/// or what its decoder stands are left out: they are not ours to repeat.
fn answer_fmtp(codec: &CodecParameters, offered: &OfferedCodec, role: Role) -> Option<String> {
    match codec.profile {
        CodecProfile::None if codec.codec == Codec::Opus => Some(opus_fmtp(offered, role)),
        CodecProfile::None => None,
        CodecProfile::Vp9 { profile_id } => offered
            .parameter("profile-id")
            .map(|_| format!("profile-id={profile_id}")),
        CodecProfile::Av1 { .. } => {
            let parameters = numbers(offered, &["level-idx", "profile", "tier"]);
            (!parameters.is_empty()).then(|| parameters.join(";"))
        }
        CodecProfile::H264 {
            profile_level_id,
            packetization_mode,
        } => {
            // RFC 6184 8.2.2: profile and mode are the offer's; the level may differ when both
            // sides allow it.
            let asymmetry = match offered.parameter("level-asymmetry-allowed") {
                Some("1") => "level-asymmetry-allowed=1;",
                _ => "",
            };
            Some(format!(
                "{asymmetry}packetization-mode={packetization_mode};\
                 profile-level-id={profile_level_id}"
            ))
        }
        CodecProfile::H265(_) => {
            // RFC 7798 7.2.2: used symmetrically, but for the level, which the offer allows too.
            let mut parameters = numbers(offered, &["level-id", "profile-id", "tier-flag"]);
            let tx_mode = offered.parameter("tx-mode");
            parameters.extend(tx_mode.map(|_| "tx-mode=SRST".to_owned()));
            (!parameters.is_empty()).then(|| parameters.join(";"))
        }
    }
}

fn opus_fmtp(offered: &OfferedCodec, role: Role) -> String {
    let mut parameters = numbers(
        offered,
        &[
            "minptime",
            "maxplaybackrate",
            "maxaveragebitrate",
            "stereo",
            "cbr",
            "useinbandfec",
            "usedtx",
        ],
    );
    let mut default = |name: &str, value: u32| {
        if offered.parameter(name).is_none() {
            parameters.push(format!("{name}={value}"));
        }
    };
    default("minptime", 10);
    default("useinbandfec", 1);
    if role == Role::Publisher {
        // RFC 7587 6.1: without it a publisher sends mono, whatever it captures.
        default("stereo", 1);
    }
    parameters.join(";")
}

// Repeats parameters whose value is a number, which is all these codecs have.
fn numbers(offered: &OfferedCodec, names: &[&str]) -> Vec<String> {
    names
        .iter()
        .filter_map(|name| {
            let value: u32 = offered.parameter(name)?.parse().ok()?;
            Some(format!("{name}={value}"))
        })
        .collect()
}

/// The header extensions in common. Also makes them agree with the feedback of `codecs`: transport
/// wide congestion control needs both the sequence number and the feedback message.
pub(super) fn extensions(
    offered: &OfferedMedia,
    role: Role,
    codecs: &mut [CodecParameters],
) -> Vec<ExtensionMapping> {
    let mut extensions: Vec<ExtensionMapping> = offered
        .extensions
        .iter()
        .filter_map(|extension| {
            let (is_used, is_known) = match role {
                Role::Publisher => (extension.direction.sends(), true),
                Role::Viewer(_) => (
                    extension.direction.receives(),
                    extension.extension.is_for_viewers(),
                ),
            };
            // RFC 8285 7: the answer turns the direction round.
            let direction = match extension.direction {
                Direction::SendOnly => Direction::RecvOnly,
                Direction::RecvOnly => Direction::SendOnly,
                other => other,
            };
            (is_used && is_known).then_some(ExtensionMapping {
                id: extension.id,
                extension: extension.extension,
                direction,
            })
        })
        .filter(|mapping| mapping.extension != HeaderExtension::Mid || offered.mid.is_some())
        .collect();

    let has_sequence_number = extensions
        .iter()
        .any(|known| known.extension == HeaderExtension::TransportWideCc);
    let has_feedback = codecs.iter().any(|codec| codec.feedback.transport_cc);
    if !has_sequence_number {
        codecs
            .iter_mut()
            .for_each(|codec| codec.feedback.transport_cc = false);
    }
    if !has_feedback {
        extensions.retain(|known| known.extension != HeaderExtension::TransportWideCc);
    }
    extensions
}

/// The simulcast layers to receive: those a publisher offers and can name in its packets.
pub(super) fn simulcast_layers(
    offered: &OfferedMedia,
    role: Role,
    extensions: &[ExtensionMapping],
    codecs: &[CodecParameters],
) -> Vec<Rid> {
    // RFC 8852 3.1: without the extension no packet says what layer it belongs to.
    let has_rid = extensions
        .iter()
        .any(|known| known.extension == HeaderExtension::RtpStreamId);
    if role != Role::Publisher || !has_rid {
        return Vec::new();
    }
    let is_accepted = |pt: &u8| codecs.iter().any(|codec| codec.payload_type == *pt);
    let mut layers = Vec::new();
    for rid in &offered.simulcast {
        let payload_types: Vec<u8> = rid
            .payload_types
            .iter()
            .copied()
            .filter(is_accepted)
            .collect();
        // RFC 8851 6.3: a layer restricted to formats that are gone is gone.
        if rid.payload_types.is_empty() || !payload_types.is_empty() {
            layers.push(Rid {
                id: rid.id.clone(),
                payload_types,
            });
        }
    }
    layers
}

/// Bundled m-sections share one space of extension identifiers (RFC 9143 9.2): an identifier that
/// an earlier m-section uses otherwise is given up in the later one.
pub(super) fn drop_conflicting_extensions(media: &mut [NegotiatedMedia]) {
    let mut used: Vec<(u8, HeaderExtension)> = Vec::new();
    for section in media {
        section.extensions.retain(
            |mapping| match used.iter().find(|(id, _)| *id == mapping.id) {
                Some((_, extension)) => *extension == mapping.extension,
                None => {
                    used.push((mapping.id, mapping.extension));
                    true
                }
            },
        );
        let has = |extension| section.extensions.iter().any(|m| m.extension == extension);
        let (has_twcc, has_rid) = (
            has(HeaderExtension::TransportWideCc),
            has(HeaderExtension::RtpStreamId),
        );
        if !has_twcc {
            section
                .codecs
                .iter_mut()
                .for_each(|codec| codec.feedback.transport_cc = false);
        }
        if !has_rid {
            section.rids.clear();
        }
    }
}
