//! H.264 payloads (RFC 6184, packetization mode 1): single NAL units, STAP-A and FU-A.

use super::Payloads;
use super::nal::{self, Packing};

const NAL_SPS: u8 = 7;
const NAL_ACCESS_UNIT_DELIMITER: u8 = 9;
const NAL_FILLER: u8 = 12;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;

struct H264;

impl Packing for H264 {
    const HEADER_BYTES: usize = 1;

    fn aggregation_header(nals: &[&[u8]], header: &mut Vec<u8>) {
        // RFC 6184 5.7: F is that of any, NRI the largest of all.
        let forbidden = nals.iter().fold(0, |bit, nal| bit | nal[0] & 0x80);
        let importance = nals.iter().map(|nal| nal[0] & 0x60).max().unwrap_or(0);
        header.push(forbidden | importance | NAL_STAP_A);
    }

    fn fragment_header(nal: &[u8], first: bool, last: bool, header: &mut Vec<u8>) {
        header.push(nal[0] & 0xe0 | NAL_FU_A);
        header.push(u8::from(first) << 7 | u8::from(last) << 6 | nal[0] & 0x1f);
    }
}

pub(super) fn packetize(
    nals: &[&[u8]],
    is_keyframe: bool,
    parameter_sets: &[Vec<u8>],
    payloads: &mut Payloads,
) {
    let kind = |nal: &[u8]| nal[0] & 0x1f;
    let has_sets = nals.iter().any(|nal| kind(nal) == NAL_SPS);
    let sets = parameter_sets
        .iter()
        .filter(|set| is_keyframe && !has_sets && !set.is_empty());
    // Delimiters and filler say nothing that RTP does not.
    let kept = nals
        .iter()
        .filter(|nal| !matches!(kind(nal), NAL_ACCESS_UNIT_DELIMITER | NAL_FILLER));
    let all: Vec<&[u8]> = sets.map(Vec::as_slice).chain(kept.copied()).collect();
    nal::pack::<H264>(&all, payloads);
}
