//! The header of an outgoing packet, built once per layout and patched per viewer.
//!
//! The shard builds a [`HeaderTemplate`] for each packet and each group of viewers that negotiated
//! alike, copies it for every viewer and overwrites the few bytes that differ. It must never let
//! through an extension under an id the viewer gave to something else, nor one that is only
//! between us and the publisher.

use super::extension::{Extension, ExtensionMap, Extensions, PlayoutDelay};
use super::rtp::FIXED_HEADER_BYTES;

#[cfg(test)]
mod tests;

/// Longest header that [`HeaderTemplate::build`] can write: every element it may write, each at
/// its longest in two-byte form.
pub const MAX_TEMPLATE_BYTES: usize = {
    let mid = 2 + 255;
    let abs_send_time = 2 + 3;
    let transport_wide_cc = 2 + 2;
    let playout_delay = 2 + 3;
    let audio_level = 2 + 1;
    let video_orientation = 2 + 1;
    let abs_capture_time = 2 + 16;
    let dependency_descriptor = 2 + 255;
    let elements: usize = mid
        + abs_send_time
        + transport_wide_cc
        + playout_delay
        + audio_level
        + video_orientation
        + abs_capture_time
        + dependency_descriptor;
    FIXED_HEADER_BYTES + 4 + elements.next_multiple_of(4)
};

/// Why a header was not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The buffer cannot hold it.
    #[error(
        "RTP header of {needed} bytes does not fit a buffer of {len}; \
         {MAX_TEMPLATE_BYTES} bytes always suffice"
    )]
    BufferTooSmall {
        /// Bytes the header takes.
        needed: usize,
        /// Bytes there are.
        len: usize,
    },
}

/// What the sender decides about one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Payload type the viewers negotiated; only its low seven bits are used.
    pub payload_type: u8,
    /// The M bit.
    pub marker: bool,
    /// The P bit; the padding itself is the caller's.
    pub padding: bool,
    /// Send time to write if negotiated: 24 bits, 6.18 fixed-point seconds.
    pub abs_send_time: Option<u32>,
    /// Playout delay to write, if negotiated, in place of the publisher's.
    pub playout_delay: Option<PlayoutDelay>,
    /// NTP time of capture to write, if negotiated, where the publisher gives none: in the clock of
    /// the sender reports, so with an estimated capture clock offset of 0.
    pub abs_capture_time: Option<u64>,
}

/// What a group of viewers negotiated about headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target<'a> {
    /// Ids of the extensions.
    pub extensions: &'a ExtensionMap,
    /// Value of the mid extension; empty: none is written.
    pub mid: &'a [u8],
    /// Whether two-byte headers may be used (`a=extmap-allow-mixed`, or ids that need them).
    pub allow_two_byte: bool,
}

/// What is in a header that was built, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    /// Length of the header in bytes.
    pub len: usize,
    /// Where the two bytes of the transport-wide sequence number are, left zero.
    pub transport_cc_offset: Option<u16>,
    /// Where the three bytes of the absolute send time are.
    pub abs_send_time_offset: Option<u16>,
}

impl HeaderTemplate {
    /// Writes the header of an outgoing copy of `source` into `out`. Sequence number, timestamp
    /// and SSRC are left zero for [`patch`].
    ///
    /// Audio level, video orientation, playout delay, absolute capture time and dependency
    /// descriptor are taken from `source`, where `extensions` are, unless `fields` say otherwise;
    /// mid, absolute send time and transport-wide sequence number are ours; nothing else is written. An element that the form
    /// the target takes cannot express is left out.
    ///
    /// # Errors
    /// If `out` is too small; it may have been written to.
    pub fn build(
        out: &mut [u8],
        fields: &Fields,
        source: &[u8],
        extensions: &Extensions,
        target: &Target<'_>,
    ) -> Result<Self, HeaderError> {
        let send_time = fields.abs_send_time.map(u32::to_be_bytes);
        let playout_delay = fields.playout_delay.map(PlayoutDelay::to_bytes);
        let mut capture_time = [0; 16];
        if let Some(ntp) = fields.abs_capture_time {
            capture_time[..8].copy_from_slice(&ntp.to_be_bytes());
        }
        let ours = fields.abs_capture_time.map(|_| &capture_time[..]);
        let candidates = [
            (Extension::Mid, Some(target.mid)),
            (Extension::TransportWideCc, Some(&[0, 0][..])),
            (
                Extension::AbsSendTime,
                send_time.as_ref().map(|bytes| &bytes[1..]),
            ),
            (
                Extension::PlayoutDelay,
                match &playout_delay {
                    Some(ours) => Some(&ours[..]),
                    None => forwarded(source, extensions, Extension::PlayoutDelay),
                },
            ),
            with(source, extensions, Extension::AudioLevel),
            with(source, extensions, Extension::VideoOrientation),
            (
                Extension::AbsCaptureTime,
                forwarded(source, extensions, Extension::AbsCaptureTime).or(ours),
            ),
            with(source, extensions, Extension::DependencyDescriptor),
        ];
        let elements = candidates.iter().filter_map(|&(extension, data)| {
            let data = data?;
            if extension == Extension::Mid && data.is_empty() {
                return None;
            }
            Some((extension, target.extensions.id(extension)?, data))
        });
        // RFC 8285 4.1.2: both forms must not be mixed within one packet.
        let two_byte = target.allow_two_byte
            && elements
                .clone()
                .any(|(_, id, data)| !fits_one_byte(id, data.len()));
        let elements = elements.filter(|&(_, id, data)| {
            if two_byte {
                data.len() <= 255
            } else {
                fits_one_byte(id, data.len())
            }
        });
        write(out, fields, two_byte, elements)
    }
}

/// Writes what [`HeaderTemplate::build`] chose.
fn write<'a>(
    out: &mut [u8],
    fields: &Fields,
    two_byte: bool,
    elements: impl Iterator<Item = (Extension, u8, &'a [u8])> + Clone,
) -> Result<HeaderTemplate, HeaderError> {
    let head = if two_byte { 2 } else { 1 };
    let elements_len: usize = elements.clone().map(|(_, _, data)| head + data.len()).sum();
    let words = elements_len.div_ceil(4);
    let len = FIXED_HEADER_BYTES + if words == 0 { 0 } else { 4 + 4 * words };
    let available = out.len();
    let too_small = HeaderError::BufferTooSmall {
        needed: len,
        len: available,
    };
    let header = out.get_mut(..len).ok_or(too_small)?;
    header.fill(0);
    header[0] = 0x80 | u8::from(fields.padding) << 5 | u8::from(words != 0) << 4;
    header[1] = u8::from(fields.marker) << 7 | (fields.payload_type & 0x7f);
    let mut template = HeaderTemplate {
        len,
        transport_cc_offset: None,
        abs_send_time_offset: None,
    };
    if words == 0 {
        return Ok(template);
    }
    let profile: u16 = if two_byte { 0x1000 } else { 0xbede };
    header[12..14].copy_from_slice(&profile.to_be_bytes());
    // At most `MAX_TEMPLATE_BYTES`, so both this and every offset fit in 16 bits.
    header[14..16].copy_from_slice(&(words as u16).to_be_bytes());
    let mut at = FIXED_HEADER_BYTES + 4;
    for (extension, id, data) in elements {
        if two_byte {
            header[at] = id;
            header[at + 1] = data.len() as u8;
        } else {
            header[at] = id << 4 | (data.len() - 1) as u8;
        }
        at += head;
        match extension {
            Extension::TransportWideCc => template.transport_cc_offset = Some(at as u16),
            Extension::AbsSendTime => template.abs_send_time_offset = Some(at as u16),
            _ => {}
        }
        header[at..at + data.len()].copy_from_slice(data);
        at += data.len();
    }
    Ok(template)
}

/// RFC 8285 4.2: ids 1 to 14, 1 to 16 bytes.
fn fits_one_byte(id: u8, len: usize) -> bool {
    (1..=14).contains(&id) && (1..=16).contains(&len)
}

fn with<'a>(
    source: &'a [u8],
    extensions: &Extensions,
    extension: Extension,
) -> (Extension, Option<&'a [u8]>) {
    (extension, forwarded(source, extensions, extension))
}

/// The publisher's element, if it has a length its definition allows: a viewer is not handed what
/// it could not parse.
fn forwarded<'a>(
    source: &'a [u8],
    extensions: &Extensions,
    extension: Extension,
) -> Option<&'a [u8]> {
    let data = extensions.get(source, extension)?;
    let valid = match extension {
        Extension::AudioLevel | Extension::VideoOrientation => data.len() == 1,
        Extension::PlayoutDelay => data.len() == 3,
        // Timestamp, and optionally the estimated capture clock offset.
        Extension::AbsCaptureTime => matches!(data.len(), 8 | 16),
        // AV1 RTP specification A.8.1: the mandatory descriptor fields take three bytes.
        Extension::DependencyDescriptor => data.len() >= 3,
        _ => false,
    };
    valid.then_some(data)
}

/// Writes what differs between viewers into a copy of a built header. A buffer shorter than a
/// fixed header is left alone.
pub fn patch(out: &mut [u8], sequence_number: u16, timestamp: u32, ssrc: u32) {
    if let Some(fixed) = out.first_chunk_mut::<FIXED_HEADER_BYTES>() {
        fixed[2..4].copy_from_slice(&sequence_number.to_be_bytes());
        fixed[4..8].copy_from_slice(&timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&ssrc.to_be_bytes());
    }
}

/// Writes a viewer's transport-wide sequence number at a template's `transport_cc_offset`. An
/// offset outside the buffer changes nothing.
pub fn patch_transport_cc(out: &mut [u8], offset: u16, sequence_number: u16) {
    let start = usize::from(offset);
    if let Some(bytes) = out.get_mut(start..start + 2) {
        bytes.copy_from_slice(&sequence_number.to_be_bytes());
    }
}
