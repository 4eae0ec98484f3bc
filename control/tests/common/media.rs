//! RTP and RTCP as bytes, written and read without the server's code.

use super::offer::{AUDIO_PT, AUDIO_SSRC, VIDEO_PT, VIDEO_SSRC};

/// An RTP packet read (RFC 3550 5.1): no extension is negotiated here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtp {
    pub payload_type: u8,
    pub sequence_number: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload: Vec<u8>,
}

impl Rtp {
    pub fn parse(bytes: &[u8]) -> Self {
        assert_eq!(bytes[0] >> 6, 2, "the version");
        let csrcs = usize::from(bytes[0] & 0x0F);
        let mut start = 12 + 4 * csrcs;
        if bytes[0] & 0x10 != 0 {
            let words = u16::from_be_bytes([bytes[start + 2], bytes[start + 3]]);
            start += 4 + 4 * usize::from(words);
        }
        let padding = if bytes[0] & 0x20 != 0 {
            usize::from(bytes[bytes.len() - 1])
        } else {
            0
        };
        Self {
            payload_type: bytes[1] & 0x7F,
            sequence_number: u16::from_be_bytes([bytes[2], bytes[3]]),
            timestamp: u32::from_be_bytes(bytes[4..8].try_into().unwrap()),
            ssrc: u32::from_be_bytes(bytes[8..12].try_into().unwrap()),
            payload: bytes[start..bytes.len() - padding].to_vec(),
        }
    }
}

/// An Opus packet, as far as a forwarder cares.
pub fn audio(sequence_number: u16) -> Vec<u8> {
    let timestamp = u32::from(sequence_number) * 960;
    let mut payload = vec![0xFC];
    payload.extend(sequence_number.to_be_bytes());
    rtp(
        AUDIO_PT,
        false,
        sequence_number,
        timestamp,
        AUDIO_SSRC,
        &payload,
    )
}

/// A VP8 keyframe of one packet (RFC 7741 4.2, RFC 6386 9.1), 320 by 180.
pub fn keyframe(sequence_number: u16) -> Vec<u8> {
    let timestamp = u32::from(sequence_number) * 3000;
    let mut payload = vec![
        0x10, 0x50, 0x01, 0x00, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xB4, 0x00,
    ];
    payload.extend(sequence_number.to_be_bytes());
    rtp(
        VIDEO_PT,
        true,
        sequence_number,
        timestamp,
        VIDEO_SSRC,
        &payload,
    )
}

fn rtp(pt: u8, marker: bool, number: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, pt | u8::from(marker) << 7];
    packet.extend(number.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

/// The SSRCs to which an RTCP compound says BYE (RFC 3550 6.6).
pub fn byes(mut compound: &[u8]) -> Vec<u32> {
    let mut ssrcs = Vec::new();
    while compound.len() >= 4 {
        let words = usize::from(u16::from_be_bytes([compound[2], compound[3]]));
        let (packet, rest) = compound.split_at(4 + 4 * words);
        if packet[1] == 203 {
            let count = usize::from(packet[0] & 0x1F);
            let named = packet[4..].chunks_exact(4).take(count);
            ssrcs.extend(named.map(|ssrc| u32::from_be_bytes(ssrc.try_into().unwrap())));
        }
        compound = rest;
    }
    ssrcs
}
