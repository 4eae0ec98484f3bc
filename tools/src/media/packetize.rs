//! Frames cut into RTP payloads, with headers that servers recognise.
//!
//! The bytes of a frame are noise: nobody decodes them. What a server looks at is real: VP8
//! descriptors and key frame headers (RFC 7741), H.264 parameter sets in a STAP-A and slices in
//! FU-As (RFC 6184).

use super::stamp::STAMP_BYTES;
use crate::client::sdp::VideoCodec;

/// Largest RTP packet before sealing, as browsers have it.
pub const MAX_PACKET_BYTES: usize = 1200;
/// Room for an RTP header with the extensions this publisher writes: none.
const RTP_HEADER_BYTES: usize = 12;
const MAX_PAYLOAD_BYTES: usize = MAX_PACKET_BYTES - RTP_HEADER_BYTES;

/// One RTP payload whose last [`STAMP_BYTES`] are still to be stamped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Descriptor, body, and room for the stamp.
    pub bytes: Vec<u8>,
    /// Length of the body: what the stamp covers.
    pub body_len: u16,
    /// Whether it is the last of its frame.
    pub marker: bool,
}

/// Bytes that do not repeat within a packet, to fill frames with.
pub struct Noise {
    bytes: Vec<u8>,
    at: usize,
}

impl Noise {
    /// Noise made from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed | 1;
        let bytes = (0..1 << 16)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        Self { bytes, at: 0 }
    }

    fn append(&mut self, out: &mut Vec<u8>, len: usize) {
        let len = len.min(self.bytes.len());
        if self.at + len > self.bytes.len() {
            self.at = self.at % 251 + 1;
        }
        out.extend_from_slice(&self.bytes[self.at.min(self.bytes.len() - len)..][..len]);
        self.at += len;
    }
}

/// Cuts `len` into the fewest parts of at most `max`, which differ by one byte at most, the larger
/// ones last: as libwebrtc does.
fn split_about_equally(len: usize, max: usize) -> impl Iterator<Item = usize> {
    let parts = len.div_ceil(max).max(1);
    let (each, larger) = (len / parts, len % parts);
    (0..parts).map(move |part| each + usize::from(part >= parts - larger))
}

/// Cuts video frames of one stream.
pub struct VideoPacketizer {
    codec: VideoCodec,
    picture_id: u16,
    noise: Noise,
}

impl VideoPacketizer {
    /// A packetizer whose first frame is yet to come.
    #[must_use]
    pub fn new(codec: VideoCodec, seed: u64) -> Self {
        Self {
            codec,
            picture_id: seed as u16 & 0x7fff,
            noise: Noise::new(seed),
        }
    }

    /// The payloads of a frame of about `frame_bytes`, stamps included.
    pub fn frame(&mut self, keyframe: bool, frame_bytes: usize) -> Vec<Payload> {
        let mut payloads = match self.codec {
            VideoCodec::Vp8 => self.vp8(keyframe, frame_bytes),
            VideoCodec::H264 => self.h264(keyframe, frame_bytes),
        };
        if let Some(last) = payloads.last_mut() {
            last.marker = true;
        }
        payloads
    }

    fn vp8(&mut self, keyframe: bool, frame_bytes: usize) -> Vec<Payload> {
        const DESCRIPTOR_BYTES: usize = 4;
        let header = vp8_frame_header(keyframe);
        let max = MAX_PAYLOAD_BYTES - DESCRIPTOR_BYTES;
        let frame_bytes = frame_bytes.max(header.len() + STAMP_BYTES);
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        let [high, low] = self.picture_id.to_be_bytes();
        let sizes: Vec<_> = split_about_equally(frame_bytes, max).collect();
        let payload = |(place, size): (usize, usize)| {
            // RFC 7741 4.2: X, and S at the start of the partition; I; M and 15 bits of picture id.
            let start = if place == 0 { 0x90 } else { 0x80 };
            let prefix = [start, 0x80, 0x80 | high, low];
            let body: &[u8] = if place == 0 { &header } else { &[] };
            build(&mut self.noise, &prefix, body, size)
        };
        sizes.into_iter().enumerate().map(payload).collect()
    }

    fn h264(&mut self, keyframe: bool, frame_bytes: usize) -> Vec<Payload> {
        const FU_HEADER_BYTES: usize = 2;
        // nal_ref_idc 3 and type 5 (IDR slice), or 2 and type 1.
        let nal = if keyframe { 0x65 } else { 0x41 };
        let mut payloads = Vec::new();
        if keyframe {
            payloads.push(parameter_sets());
        }
        let frame_bytes = frame_bytes.max(STAMP_BYTES + 2);
        if frame_bytes < MAX_PAYLOAD_BYTES {
            payloads.push(build(&mut self.noise, &[nal], &[], frame_bytes));
            return payloads;
        }
        let sizes: Vec<_> =
            split_about_equally(frame_bytes, MAX_PAYLOAD_BYTES - FU_HEADER_BYTES).collect();
        let last = sizes.len() - 1;
        for (place, size) in sizes.into_iter().enumerate() {
            // RFC 6184 5.8: FU indicator of type 28; S, E and the type of the fragmented unit.
            let flags = u8::from(place == 0) << 7 | u8::from(place == last) << 6;
            let prefix = [nal & 0xe0 | 28, flags | nal & 0x1f];
            payloads.push(build(&mut self.noise, &prefix, &[], size));
        }
        payloads
    }
}

/// An Opus packet of `bytes`, stamp included.
pub fn opus(noise: &mut Noise, bytes: usize) -> Payload {
    // RFC 6716 3.1: CELT, fullband, 20 ms, mono, one frame.
    const TOC: u8 = 0xf8;
    let mut payload = build(noise, &[TOC], &[], bytes.max(STAMP_BYTES + 2));
    payload.marker = false;
    payload
}

/// `prefix`, then `size` bytes: `body`, noise, and room for the stamp.
fn build(noise: &mut Noise, prefix: &[u8], body: &[u8], size: usize) -> Payload {
    let body_len = size.saturating_sub(STAMP_BYTES).max(body.len());
    let mut bytes = Vec::with_capacity(prefix.len() + body_len + STAMP_BYTES);
    bytes.extend_from_slice(prefix);
    bytes.extend_from_slice(body);
    noise.append(&mut bytes, body_len - body.len());
    let body_len = bytes.len() - prefix.len();
    bytes.resize(bytes.len() + STAMP_BYTES, 0);
    Payload {
        bytes,
        body_len: body_len as u16,
        marker: false,
    }
}

/// RFC 6386 9.1: frame tag, and for a key frame start code and dimensions (1280x720).
fn vp8_frame_header(keyframe: bool) -> Vec<u8> {
    // show_frame, and a first partition of 1000 bytes; the lowest bit is inverted.
    let tag = u32::from(!keyframe) | 1 << 4 | 1000 << 5;
    let mut header = tag.to_le_bytes()[..3].to_vec();
    if keyframe {
        header.extend_from_slice(&[0x9d, 0x01, 0x2a]);
        header.extend_from_slice(&1280u16.to_le_bytes());
        header.extend_from_slice(&720u16.to_le_bytes());
    }
    header
}

/// A STAP-A (RFC 6184 5.7.1) of SPS, PPS and a user data SEI that ends in the stamp.
fn parameter_sets() -> Payload {
    // Constrained baseline, level 3.1, 1280x720.
    const SPS: [u8; 15] = [
        0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x8d, 0x40, 0x28, 0x02, 0xdd, 0x08, 0x00, 0x00, 0x03, 0x00,
    ];
    const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
    const UUID: [u8; 16] = *b"fanmill-bench-st";
    // SEI (type 6), user_data_unregistered (5), its size.
    let sei_len = 3 + UUID.len() + STAMP_BYTES;
    let mut bytes = vec![0x60 | 24];
    for nal in [&SPS[..], &PPS[..]] {
        bytes.extend_from_slice(&(nal.len() as u16).to_be_bytes());
        bytes.extend_from_slice(nal);
    }
    bytes.extend_from_slice(&(sei_len as u16).to_be_bytes());
    bytes.extend_from_slice(&[0x06, 5, (UUID.len() + STAMP_BYTES) as u8]);
    bytes.extend_from_slice(&UUID);
    bytes.resize(bytes.len() + STAMP_BYTES, 0);
    Payload {
        bytes,
        body_len: UUID.len() as u16,
        marker: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::stamp::{self, Check, Stamp};
    use fanmill_engine::packet::codec::{Resolution, is_keyframe_start, resolution};
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_cut_into_packets_that_differ_by_a_byte() {
        let sizes: Vec<_> = split_about_equally(10_003, 1000).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 10_003);
        assert_eq!(sizes.len(), 11);
        assert!(sizes.iter().all(|size| [909, 910].contains(size)));
        assert_eq!(split_about_equally(5, 1000).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn the_engine_recognises_keyframes_and_only_those() {
        for codec in [VideoCodec::Vp8, VideoCodec::H264] {
            let mut packetizer = VideoPacketizer::new(codec, 1);
            let keyframe = packetizer.frame(true, 40_000);
            assert!(is_keyframe_start(codec.codec(), &keyframe[0].bytes));
            for payload in &keyframe[1..] {
                let starts = is_keyframe_start(codec.codec(), &payload.bytes);
                assert!(!starts || codec == VideoCodec::H264);
            }
            for payload in packetizer.frame(false, 10_000) {
                assert!(!is_keyframe_start(codec.codec(), &payload.bytes));
            }
        }
    }

    #[test]
    fn a_vp8_keyframe_tells_its_size() {
        let keyframe = VideoPacketizer::new(VideoCodec::Vp8, 1).frame(true, 20_000);
        let size = Resolution {
            width: 1280,
            height: 720,
        };
        assert_eq!(resolution(Codec::Vp8, &keyframe[0].bytes), Some(size));
    }

    use fanmill_engine::packet::codec::Codec;

    proptest! {
        #[test]
        fn every_packet_fits_and_can_be_stamped(
            h264 in any::<bool>(),
            keyframe in any::<bool>(),
            frame_bytes in 0usize..100_000,
        ) {
            let codec = if h264 { VideoCodec::H264 } else { VideoCodec::Vp8 };
            let payloads = VideoPacketizer::new(codec, 9).frame(keyframe, frame_bytes);
            let markers = payloads.iter().filter(|payload| payload.marker).count();
            prop_assert_eq!(markers, 1);
            prop_assert!(payloads.last().is_some_and(|payload| payload.marker));
            let total: usize = payloads.iter().map(|payload| payload.bytes.len()).sum();
            prop_assert!(total >= frame_bytes);
            for mut payload in payloads {
                prop_assert!(payload.bytes.len() <= MAX_PAYLOAD_BYTES);
                let stamp = Stamp { publisher: 1, number: 2, sent_ns: 3 };
                stamp::write(&mut payload.bytes, payload.body_len, stamp);
                prop_assert_eq!(stamp::check(&payload.bytes), Check::Whole(stamp));
            }
        }

        #[test]
        fn an_opus_packet_has_the_size_asked_for(bytes in 0usize..1000) {
            let payload = opus(&mut Noise::new(1), bytes);
            prop_assert_eq!(payload.bytes.len(), bytes.max(STAMP_BYTES + 2) + 1);
        }
    }
}
