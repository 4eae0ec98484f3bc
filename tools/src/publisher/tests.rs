#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fanmill_engine::packet::codec::{Codec, is_keyframe_start};
use fanmill_engine::packet::rtp::RtpHeader;
use fanmill_engine::srtp::{Opener, Profile};

use super::*;
use crate::client::sdp::VideoCodec;
use crate::client::testing::{Peer, session};
use crate::media::stamp::Check;

const PROFILE: Profile = Profile::AeadAes128Gcm;
const SSRCS: Ssrcs = Ssrcs {
    audio: Some(1),
    video: 2,
    rtx: 3,
};
const SHAPE: Shape = Shape {
    codec: VideoCodec::Vp8,
    bitrate_bps: 1_000_000,
    fps: 30,
    audio: true,
    keyframe_interval_ns: 0,
};

struct Pair {
    publisher: Publisher,
    peer: Peer,
    opener: Opener,
    rtcp: RtcpSession,
    counters: PublisherCounters,
}

struct Received {
    header: RtpHeader,
    payload: Vec<u8>,
}

impl Pair {
    fn new() -> Self {
        let (session, peer) = session(PROFILE);
        let source = Source::new(SHAPE, 1, 0);
        let keys = &peer.keys;
        Self {
            publisher: Publisher::new(session, SSRCS, source, 0, SHAPE).unwrap(),
            opener: Opener::new(PROFILE, &keys.remote).unwrap(),
            rtcp: RtcpSession::new(PROFILE, &keys.local, &keys.remote).unwrap(),
            counters: PublisherCounters::default(),
            peer,
        }
    }

    /// The RTP packets that have arrived.
    fn received(&mut self) -> Vec<Received> {
        let mut packets = Vec::new();
        let mut datagram = [0; 2000];
        self.peer.socket.set_nonblocking(true).unwrap();
        while let Ok(len) = self.peer.socket.recv(&mut datagram) {
            if Kind::of(&datagram[..len]) != Kind::Rtp {
                continue;
            }
            let header = RtpHeader::parse(&datagram[..len]).unwrap();
            let mut plain = vec![0; len];
            let index = u64::from(header.sequence_number);
            let opened = self
                .opener
                .open(index, header.header_len, &datagram[..len], &mut plain);
            plain.truncate(opened.unwrap());
            let payload = plain.split_off(header.header_len);
            packets.push(Received { header, payload });
        }
        packets
    }

    fn feedback(&mut self, write: impl FnOnce(&mut RtcpWriter<'_>)) {
        let mut out = [0; 200];
        let mut writer = RtcpWriter::new(&mut out);
        write(&mut writer);
        let sealed = self.rtcp.seal(writer.as_bytes()).unwrap();
        self.peer.socket.send(&sealed).unwrap();
        self.publisher.receive(&self.counters);
    }
}

#[test]
fn a_publisher_starts_with_a_keyframe_and_stamps_everything() {
    let mut pair = Pair::new();
    pair.publisher.send_due(0, &pair.counters);
    let packets = pair.received();
    let video: Vec<_> = packets.iter().filter(|p| p.header.ssrc == 2).collect();
    assert!(is_keyframe_start(Codec::Vp8, &video[0].payload));
    assert!(video.last().unwrap().header.marker);
    assert_eq!(packets.len() - video.len(), 1, "one Opus packet is due");
    for packet in &packets {
        assert!(matches!(stamp::check(&packet.payload), Check::Whole(_)));
    }
    let sent = pair.counters.packets.load(Ordering::Relaxed);
    assert_eq!(sent, packets.len() as u64);
}

#[test]
fn a_keyframe_request_is_answered_with_the_next_frame() {
    let mut pair = Pair::new();
    pair.publisher.send_due(0, &pair.counters);
    pair.feedback(|writer| writer.pli(9, SSRCS.video).unwrap());
    pair.publisher.send_due(34_000_000, &pair.counters);
    assert_eq!(pair.counters.keyframes.load(Ordering::Relaxed), 2);
    assert_eq!(pair.counters.keyframe_requests.load(Ordering::Relaxed), 1);
}

// RFC 4588 4.
#[test]
fn a_nack_is_answered_with_the_same_payload_behind_its_number() {
    let mut pair = Pair::new();
    pair.publisher.send_due(0, &pair.counters);
    let packets = pair.received();
    let video = packets.iter().find(|p| p.header.ssrc == 2).unwrap();
    let missing = video.header.sequence_number;
    pair.feedback(|writer| {
        let never_sent = missing.wrapping_sub(5);
        writer.nack(9, SSRCS.video, &[never_sent, missing]).unwrap();
    });
    let again = pair.received();
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].header.ssrc, again[0].header.payload_type),
        (3, 97)
    );
    assert_eq!(again[0].payload[..2], missing.to_be_bytes());
    assert_eq!(again[0].payload[2..], video.payload);
    assert_eq!(pair.counters.nacked.load(Ordering::Relaxed), 2);
}

#[test]
fn who_has_the_turn_is_as_loud_as_speech_and_others_are_not() {
    let mut pair = Pair::new();
    pair.publisher.turns = Some(1);
    pair.publisher.send_due(200_000_000, &pair.counters);
    let sound = pair.received();
    let sound: Vec<_> = sound
        .iter()
        .filter(|packet| packet.header.ssrc == 1)
        .collect();
    assert!(sound.len() > 5 && sound.iter().all(|packet| packet.header.extension.is_some()));
    let of = |publisher, now_ns| {
        (0..12)
            .map(|at| loudness(publisher, 3, at, now_ns))
            .min()
            .unwrap()
    };
    assert!(of(1, TURN_NS) < 40 && of(1, 0) >= 70 && of(0, 3 * TURN_NS) < 40);
}
