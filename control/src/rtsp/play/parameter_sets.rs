//! The parameter sets of H.264 and H.265, found in RTP payloads: a description tells them to readers
//! (`sprop-parameter-sets`, RFC 6184 8.1; `sprop-vps` and so on, RFC 7798 7.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fanmill_engine::packet::codec::Codec;

const H264_SPS: u8 = 7;
const H264_PPS: u8 = 8;
const H264_STAP_A: u8 = 24;

const H265_VPS: u8 = 32;
const H265_SPS: u8 = 33;
const H265_PPS: u8 = 34;
const H265_AP: u8 = 48;

/// A set beyond this is no set: real ones have tens of bytes.
const MAX_SET_BYTES: usize = 1024;

/// The latest sets of a track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ParameterSets {
    vps: Vec<u8>,
    sps: Vec<u8>,
    pps: Vec<u8>,
}

impl ParameterSets {
    /// Looks into a payload.
    pub(super) fn look(&mut self, codec: Codec, payload: &[u8]) {
        match codec {
            Codec::H264 => self.look_h264(payload),
            Codec::H265 => self.look_h265(payload),
            _ => {}
        }
    }

    fn look_h264(&mut self, payload: &[u8]) {
        match payload.first().map(|header| header & 0x1f) {
            Some(H264_STAP_A) => aggregated(&payload[1..], |nal| self.note_h264(nal)),
            Some(_) => self.note_h264(payload),
            None => {}
        }
    }

    fn look_h265(&mut self, payload: &[u8]) {
        match payload.first().map(|header| header >> 1 & 0x3f) {
            Some(H265_AP) => aggregated(payload.get(2..).unwrap_or_default(), |nal| {
                self.note_h265(nal);
            }),
            Some(_) => self.note_h265(payload),
            None => {}
        }
    }

    fn note_h264(&mut self, nal: &[u8]) {
        let to = match nal.first().map(|header| header & 0x1f) {
            Some(H264_SPS) if nal.len() >= 4 => &mut self.sps,
            Some(H264_PPS) => &mut self.pps,
            _ => return,
        };
        note(to, nal);
    }

    fn note_h265(&mut self, nal: &[u8]) {
        let to = match nal.first().map(|header| header >> 1 & 0x3f) {
            Some(H265_VPS) => &mut self.vps,
            Some(H265_SPS) => &mut self.sps,
            Some(H265_PPS) => &mut self.pps,
            _ => return,
        };
        note(to, nal);
    }

    /// Whether a decoder of this codec has all it needs; others need none.
    pub(super) fn are_complete(&self, codec: Codec) -> bool {
        let has = |set: &Vec<u8>| !set.is_empty();
        match codec {
            Codec::H264 => has(&self.sps) && has(&self.pps),
            Codec::H265 => has(&self.vps) && has(&self.sps) && has(&self.pps),
            _ => true,
        }
    }

    /// What `a=fmtp` says of the track.
    pub(super) fn format_parameters(&self, codec: Codec) -> Option<String> {
        let text = |set: &[u8]| STANDARD.encode(set);
        match (codec, self.are_complete(codec)) {
            (Codec::H264, true) => Some(format!(
                "packetization-mode=1;profile-level-id={:02x}{:02x}{:02x};\
                 sprop-parameter-sets={},{}",
                self.sps[1],
                self.sps[2],
                self.sps[3],
                text(&self.sps),
                text(&self.pps)
            )),
            (Codec::H264, false) => Some("packetization-mode=1".to_owned()),
            (Codec::H265, true) => Some(format!(
                "sprop-vps={};sprop-sps={};sprop-pps={}",
                text(&self.vps),
                text(&self.sps),
                text(&self.pps)
            )),
            (Codec::Opus, _) => Some("sprop-stereo=1".to_owned()),
            _ => None,
        }
    }
}

fn note(to: &mut Vec<u8>, nal: &[u8]) {
    if nal.len() <= MAX_SET_BYTES && to != nal {
        nal.clone_into(to);
    }
}

/// The units of an aggregation packet: each after two bytes of length.
fn aggregated(mut rest: &[u8], mut each: impl FnMut(&[u8])) {
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len));
        let Some((nal, after)) = after.split_at_checked(len) else {
            return;
        };
        each(nal);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_are_found_alone_and_aggregated() {
        let (sps, pps) = ([0x67, 0x42, 0xe0, 0x1f, 0xda], [0x68, 0xce, 0x3c, 0x80]);
        let mut alone = ParameterSets::default();
        alone.look(Codec::H264, &sps);
        assert!(!alone.are_complete(Codec::H264));
        alone.look(Codec::H264, &pps);
        let mut together = ParameterSets::default();
        let mut stap = vec![0x78, 0, 5];
        stap.extend(sps);
        stap.extend([0, 4]);
        stap.extend(pps);
        together.look(Codec::H264, &stap);
        assert_eq!(alone, together);
        assert_eq!(
            alone.format_parameters(Codec::H264).unwrap(),
            "packetization-mode=1;profile-level-id=42e01f;sprop-parameter-sets=Z0LgH9o=,aM48gA=="
        );
    }

    proptest! {
        #[test]
        fn any_payload_is_looked_into(
            payload in proptest::collection::vec(any::<u8>(), 0..60), h265: bool,
        ) {
            let codec = if h265 { Codec::H265 } else { Codec::H264 };
            let mut sets = ParameterSets::default();
            sets.look(codec, &payload);
            let _ = sets.format_parameters(codec);
        }
    }
}
