//! H.265 payloads (RFC 7798, without DONL fields): single NAL units, APs and FUs.

use super::Payloads;
use super::nal::{self, Packing};

const NAL_SPS: u8 = 33;
const NAL_ACCESS_UNIT_DELIMITER: u8 = 35;
const NAL_FILLER: u8 = 38;
const NAL_AGGREGATION: u8 = 48;
const NAL_FRAGMENTATION: u8 = 49;

fn kind(nal: &[u8]) -> u8 {
    nal[0] >> 1 & 0x3f
}

struct H265;

impl Packing for H265 {
    const HEADER_BYTES: usize = 2;

    fn aggregation_header(nals: &[&[u8]], header: &mut Vec<u8>) {
        // RFC 7798 4.4.2: the lowest layer and temporal id of all.
        let layer = |nal: &&[u8]| (nal[0] & 1) << 5 | nal[1] >> 3;
        let layer = nals.iter().map(layer).min().unwrap_or(0);
        let temporal = nals.iter().map(|nal| nal[1] & 7).min().unwrap_or(1);
        header.push(NAL_AGGREGATION << 1 | layer >> 5);
        header.push(layer << 3 | temporal);
    }

    fn fragment_header(nal: &[u8], first: bool, last: bool, header: &mut Vec<u8>) {
        header.push(NAL_FRAGMENTATION << 1 | nal[0] & 0x81);
        header.push(nal[1]);
        header.push(u8::from(first) << 7 | u8::from(last) << 6 | kind(nal));
    }
}

pub(super) fn packetize(
    nals: &[&[u8]],
    is_keyframe: bool,
    parameter_sets: &[Vec<u8>],
    payloads: &mut Payloads,
) {
    // A header takes two bytes; what is shorter is none.
    let whole = || nals.iter().copied().filter(|nal| nal.len() > 2);
    let has_sets = whole().any(|nal| kind(nal) == NAL_SPS);
    let sets = parameter_sets.iter().filter(|_| is_keyframe && !has_sets);
    let sets = sets.map(Vec::as_slice).filter(|set| set.len() > 2);
    let kept = whole().filter(|nal| !matches!(kind(nal), NAL_ACCESS_UNIT_DELIMITER | NAL_FILLER));
    let all: Vec<&[u8]> = sets.chain(kept).collect();
    nal::pack::<H265>(&all, payloads);
}
