#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanmill_engine::srtp::Sealer;

use super::*;
use crate::client::sdp::VideoCodec;
use crate::client::testing::{Peer, session};
use crate::media::packetize::VideoPacketizer;
use crate::media::stamp::{STAMP_BYTES, Stamp};

const VIDEO: u32 = 100;
const RTX: u32 = 101;
const SENT_NS: u64 = 1_000_000_000;
const NOW_NS: u64 = SENT_NS + 3_000_000;

struct Pair {
    viewer: Viewer,
    peer: Peer,
    sealer: Sealer,
    tally: Totals,
    packetizer: VideoPacketizer,
    verify: Verify,
}

impl Pair {
    fn new(verify: Verify) -> Self {
        let (session, peer) = session(Profile::AeadAes128Gcm);
        let sealer = Sealer::new(Profile::AeadAes128Gcm, &peer.keys.local).unwrap();
        Self {
            viewer: Viewer::new(0, session).unwrap().0,
            peer,
            sealer,
            tally: Totals::default(),
            packetizer: VideoPacketizer::new(VideoCodec::Vp8, 1),
            verify,
        }
    }

    /// A stamped payload of one packet.
    fn payload(&mut self, keyframe: bool) -> Vec<u8> {
        let mut payload = self.packetizer.frame(keyframe, 600).remove(0);
        let stamp = Stamp {
            publisher: 0,
            number: 0,
            sent_ns: SENT_NS,
        };
        stamp::write(&mut payload.bytes, payload.body_len, stamp);
        payload.bytes
    }

    fn seal(&self, ssrc: u32, payload_type: u8, index: u64, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 12];
        header[..2].copy_from_slice(&[0x80, payload_type]);
        header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        header[8..].copy_from_slice(&ssrc.to_be_bytes());
        let mut out = vec![0; 2000];
        let len = self.sealer.seal(index, &header, payload, &mut out).unwrap();
        out.truncate(len);
        out
    }

    fn video(&mut self, index: u64, keyframe: bool) -> Vec<u8> {
        let payload = self.payload(keyframe);
        self.seal(VIDEO, 96, index, &payload)
    }

    fn deliver(&mut self, datagram: &[u8]) {
        let mut lent = Lent {
            tally: &mut self.tally,
            scratch: &mut [0; MAX_PACKET_BYTES],
            verify: self.verify,
        };
        self.viewer.receive(NOW_NS, datagram, &mut lent);
    }

    fn totals(&self) -> Totals {
        let mut totals = self.tally.clone();
        self.viewer.add_to(&mut totals, NOW_NS);
        totals
    }
}

#[test]
fn the_first_packet_that_verifies_makes_a_viewer_joined() {
    let mut pair = Pair::new(Verify::Sample);
    let mut forged = pair.video(10, true);
    *forged.last_mut().unwrap() ^= 1;
    pair.deliver(&forged);
    assert_eq!(pair.totals().joined, 0);
    assert_eq!(pair.totals().counts.auth_failures, 1);
    let packet = pair.video(10, true);
    pair.deliver(&packet);
    let totals = pair.totals();
    assert_eq!((totals.joined, totals.counts.packets), (1, 1));
    assert_eq!((totals.join_us.len(), totals.picture_us.len()), (1, 1));
    assert_eq!(totals.counts.oracle_agreed, 1);
    // Three milliseconds, to three digits.
    assert!((2990..3010).contains(&totals.latency_us.max()));
}

#[test]
fn gaps_duplicates_and_order_are_told_apart() {
    let mut pair = Pair::new(Verify::All);
    // 65534 to 65538: over the wrap of the sequence number. 65536 never comes.
    for index in [65_534, 65_535, 65_538, 65_537, 65_537] {
        let packet = pair.video(index, true);
        pair.deliver(&packet);
    }
    let counts = pair.totals().counts;
    assert_eq!((counts.expected, counts.packets, counts.lost()), (5, 4, 1));
    assert_eq!((counts.reordered, counts.duplicates), (1, 1));
    assert_eq!((counts.verified, counts.auth_failures), (4, 0));
}

#[test]
fn a_leap_over_the_wrap_is_decrypted_even_between_two_samples() {
    let mut pair = Pair::new(Verify::Sample);
    // A server that sends a late packet before its first takes its number for one far ahead, and
    // all that follow for the next cycle's.
    let leap = [1, 2, 65_535];
    for index in leap.into_iter().chain(65_539..65_600) {
        let packet = pair.video(index, true);
        pair.deliver(&packet);
    }
    let counts = pair.totals().counts;
    assert_eq!((counts.auth_failures, counts.oracle_disagreed), (0, 0));
    assert!(counts.oracle_agreed >= 4, "{counts:?}");
}

#[test]
fn a_missing_packet_is_asked_for_and_its_retransmission_counts() {
    let mut pair = Pair::new(Verify::Sample);
    let payload = pair.payload(false);
    for index in [1, 2, 4] {
        let packet = pair.video(index, true);
        pair.deliver(&packet);
    }
    assert!(pair.viewer.nack_pending);
    let later_ns = NOW_NS + 50_000_000;
    let mut counts = Counts::default();
    pair.viewer.request_missing(later_ns, &mut counts);
    assert_eq!(counts.nacked, 1);
    let keys = &pair.peer.keys;
    let mut rtcp = RtcpSession::new(Profile::AeadAes128Gcm, &keys.local, &keys.remote).unwrap();
    let mut datagram = [0; 1500];
    let len = pair.peer.socket.recv(&mut datagram).unwrap();
    let plain = rtcp.open(&datagram[..len]).unwrap();
    let asked: Vec<u16> = Compound::new(&plain)
        .filter_map(|packet| match packet {
            Ok(RtcpPacket::Nack(nack)) if nack.media_ssrc == VIDEO => Some(nack),
            _ => None,
        })
        .flat_map(|nack| nack.sequence_numbers().collect::<Vec<_>>())
        .collect();
    assert_eq!(asked, [3]);

    let retransmission = [&3u16.to_be_bytes()[..], &payload].concat();
    let packet = pair.seal(RTX, 97, 900, &retransmission);
    pair.deliver(&packet);
    let counts = pair.totals().counts;
    assert_eq!((counts.lost(), counts.recovered, counts.corrupt), (0, 1, 0));
    assert!(
        !pair
            .viewer
            .request_missing(later_ns, &mut Counts::default())
    );
}

#[test]
fn a_payload_that_a_server_changed_is_corrupt() {
    let mut pair = Pair::new(Verify::All);
    let mut payload = pair.payload(true);
    let middle = payload.len() - STAMP_BYTES - 10;
    payload[middle] ^= 1;
    let packet = pair.seal(VIDEO, 96, 1, &payload);
    pair.deliver(&packet);
    assert_eq!(pair.totals().counts.corrupt, 1);
    assert_eq!(pair.totals().counts.integrity_failures(), 1);
}

#[test]
fn padding_is_not_mistaken_for_the_payload() {
    let mut pair = Pair::new(Verify::All);
    let mut payload = pair.payload(true);
    payload.extend_from_slice(&[0, 0, 0, 4]);
    let mut header = [0x80 | 0x20, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    header[8..].copy_from_slice(&VIDEO.to_be_bytes());
    let mut out = vec![0; 2000];
    let len = pair.sealer.seal(1, &header, &payload, &mut out).unwrap();
    pair.deliver(&out[..len]);
    let counts = pair.totals().counts;
    assert_eq!(
        (counts.verified, counts.corrupt, counts.unstamped),
        (1, 0, 0)
    );
}

#[test]
fn a_sample_is_decrypted_once_there_is_a_picture() {
    let mut pair = Pair::new(Verify::Sample);
    for index in 0..161 {
        let packet = pair.video(index, index == 0);
        pair.deliver(&packet);
    }
    let counts = pair.totals().counts;
    assert_eq!(counts.packets, 161);
    assert_eq!(counts.verified, 11);
}

#[test]
fn datagrams_of_unknown_payload_types_are_counted() {
    let mut pair = Pair::new(Verify::All);
    let packet = pair.seal(5, 50, 1, &[0; 50]);
    pair.deliver(&packet);
    pair.deliver(&[0xff; 30]);
    assert_eq!(pair.totals().counts.unknown, 2);
    assert_eq!(pair.totals().counts.packets, 0);
}
