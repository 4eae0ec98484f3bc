//! What is counted. Each scenario prepares everything first and does the counted part inside
//! [`counted`], as often as it takes for the units to be many.

use std::hint::black_box;

use fanmill_benches::packets::{HEADER_BYTES, Master, OVERHEAD_BYTES, packet};
use fanmill_benches::{Frame, FramePattern, Studio};
use fanmill_engine::bandwidth::{Estimator, Send};
use fanmill_engine::packet::extension::{Extension, ExtensionMap, Extensions};
use fanmill_engine::packet::header::{
    Fields, HeaderTemplate, MAX_TEMPLATE_BYTES, Target, patch, patch_transport_cc,
};
use fanmill_engine::packet::rtcp::{Compound, RtcpPacket};
use fanmill_engine::packet::rtp::RtpHeader;
use fanmill_engine::packet::twcc::{MIN_FEEDBACK_BYTES, TwccRecorder};
use fanmill_engine::srtp::{MasterKey, Profile, Sealer};

const GCM: Profile = Profile::AeadAes128Gcm;
const SHA1: Profile = Profile::Aes128CmSha1_80;

const VIEWERS: usize = 100;
/// So many that each transport has its turn of the periodic work.
const BURSTS: usize = 100;
const PACKETS: usize = 10;
const ROUNDS: u64 = 1000;
const NACKS: usize = 100;
const SECONDS: u64 = 20;

/// One thing that is counted.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// How many units its count is divided by.
    pub(crate) units: u64,
    pub(crate) run: fn(),
}

const fn scenario(name: &'static str, units: u64, run: fn()) -> Scenario {
    Scenario { name, units, run }
}

/// All of them; the names are what the record knows them by.
pub(crate) const ALL: &[Scenario] = &[
    scenario("header: build", ROUNDS, || headers(true)),
    scenario("header: patch", ROUNDS, || headers(false)),
    scenario("seal: GCM", ROUNDS, || seal(GCM)),
    scenario("seal: SHA1_80", ROUNDS, || seal(SHA1)),
    scenario("turn: nothing to do", BURSTS as u64, || {
        bursts(0, GCM, vec![]);
    }),
    scenario("receive: packet opened and admitted", packets(1), || {
        bursts(0, GCM, video());
    }),
    scenario("burst: 10 packets, 1 viewer", BURSTS as u64, || {
        bursts(1, GCM, video());
    }),
    scenario("burst: 10 packets, 100 viewers", BURSTS as u64, || {
        bursts(VIEWERS, GCM, video());
    }),
    scenario(
        "burst: 10 packets, per packet and viewer",
        packets(VIEWERS),
        || bursts(VIEWERS, GCM, video()),
    ),
    scenario("burst: the same, SHA1_80", packets(VIEWERS), || {
        bursts(VIEWERS, SHA1, video());
    }),
    scenario(
        "burst: 1 packet, per viewer",
        (BURSTS * VIEWERS) as u64,
        || bursts(VIEWERS, GCM, vec![120]),
    ),
    scenario("STUN: check answered", VIEWERS as u64, checks),
    scenario("NACK: packet sent again", NACKS as u64, nacks),
    scenario("bandwidth: a viewer's second", SECONDS, estimates),
];

/// Packets delivered by all bursts.
const fn packets(viewers: usize) -> u64 {
    (BURSTS * PACKETS * viewers) as u64
}

/// Ten packets, of which some must be padded.
fn video() -> Frame {
    let frame = FramePattern::Uneven.frames().remove(0);
    assert_eq!(frame.len(), PACKETS, "what the units are reckoned with");
    frame
}

/// The part that callgrind counts: it looks for this function's name.
#[inline(never)]
fn counted(part: &mut dyn FnMut()) {
    part();
    // Not a tail call: that would leave this function before its part begins.
    black_box(());
}

fn headers(build: bool) {
    let source = packet(1, 1200);
    let parsed = RtpHeader::parse(&source).expect("a valid packet");
    let mut map = ExtensionMap::new();
    for (extension, id) in [
        (Extension::Mid, 1),
        (Extension::AbsSendTime, 2),
        (Extension::TransportWideCc, 3),
    ] {
        map.insert(extension, id).expect("the ids are free");
    }
    let extensions = Extensions::parse(&source, &parsed, &map);
    let fields = Fields {
        payload_type: 96,
        marker: true,
        abs_send_time: Some(1),
        ..Fields::default()
    };
    let target = Target {
        extensions: &map,
        mid: b"0",
        allow_two_byte: true,
    };
    let mut out = [0; MAX_TEMPLATE_BYTES];
    let build_one = |out: &mut [u8]| {
        HeaderTemplate::build(out, &fields, black_box(&source), &extensions, &target)
            .expect("the buffer is large enough")
    };
    let mut template = build_one(&mut out);
    counted(&mut || {
        for number in 0..ROUNDS as u16 {
            if build {
                template = build_one(black_box(&mut out));
            } else {
                let out = black_box(&mut out[..]);
                patch(out, number, black_box(90_000), black_box(5));
                let offset = template.transport_cc_offset.expect("it was negotiated");
                patch_transport_cc(out, offset, number);
            }
        }
    });
    black_box((out, template));
}

fn seal(profile: Profile) {
    let master = Master::new(profile, 1);
    let key = MasterKey::new(profile, &master.key, &master.salt).expect("the profile's lengths");
    let sealer = Sealer::new(profile, &key).expect("the same profile");
    let plain = packet(1, 1200);
    let (header, payload) = plain.split_at(HEADER_BYTES);
    let mut out = vec![0; plain.len() + OVERHEAD_BYTES];
    counted(&mut || {
        for _ in 0..ROUNDS {
            let sealed = sealer.seal(1, header, black_box(payload), &mut out);
            black_box(sealed).expect("the buffer is large enough");
        }
    });
}

fn bursts(viewers: usize, profile: Profile, frame: Frame) {
    let mut studio = Studio::new(viewers, profile);
    for _ in 0..BURSTS {
        studio.burst(&frame);
    }
    let (before, _) = studio.swallowed();
    for _ in 0..BURSTS {
        studio.send_frame(&frame);
        counted(&mut || studio.turn());
    }
    let (after, _) = studio.swallowed();
    let sent = (after - before) as usize;
    let expected = BURSTS * frame.len() * viewers;
    // Beside the packets each peer gets a report.
    let all = expected..=expected + 1 + viewers;
    assert!(all.contains(&sent), "{sent} sent, not {all:?}");
}

fn checks() {
    let mut studio = Studio::new(VIEWERS, GCM);
    studio.send_checks();
    let (before, _) = studio.swallowed();
    counted(&mut || studio.turn());
    let (after, _) = studio.swallowed();
    assert_eq!((after - before) as usize, VIEWERS, "all were answered");
}

fn nacks() {
    let mut studio = Studio::new(1, GCM);
    studio.send_nacks(NACKS);
    let (before, _) = studio.swallowed();
    counted(&mut || studio.turn());
    let (after, _) = studio.swallowed();
    assert_eq!((after - before) as usize, NACKS, "all were sent again");
}

/// What one estimated viewer costs besides its packets: 30 frames of ten packets and 50 packets of
/// sound noted, and 15 feedbacks taken in, each second.
fn estimates() {
    let mut recorder = TwccRecorder::new();
    let (mut number, mut sends, mut feedbacks) = (0u16, Vec::new(), Vec::new());
    for ms in 0..SECONDS * 1000 {
        if ms % 33 == 0 {
            let before = if ms % 99 == 0 { 1 } else { 2 };
            let send = Send {
                first: number.wrapping_add(before),
                count: PACKETS as u16,
                bytes: 12_000,
                before,
                before_bytes: u32::from(before) * 120,
            };
            for packet in 0..before + send.count {
                let arrival_us = ms * 1000 + u64::from(packet) * 2_400;
                recorder.record(number.wrapping_add(packet), arrival_us);
            }
            number = number.wrapping_add(before + send.count);
            sends.push((ms * 1000, send));
        }
        if ms % 66 == 65 {
            let mut buffer = vec![0; MIN_FEEDBACK_BYTES];
            let len = recorder.build(&mut buffer, 1, 2).expect("packets arrived");
            buffer.truncate(len);
            feedbacks.push((ms * 1000, buffer));
        }
    }
    let mut estimator = Estimator::new();
    let mut sends = sends.into_iter().peekable();
    counted(&mut || {
        for (at_us, feedback) in &feedbacks {
            while let Some((sent_us, send)) = sends.next_if(|(sent_us, _)| sent_us <= at_us) {
                estimator.sent(black_box(&send), sent_us);
            }
            for packet in Compound::new(black_box(feedback)).flatten() {
                if let RtcpPacket::TransportCc(feedback) = packet {
                    estimator.feedback(&feedback, *at_us);
                }
            }
        }
    });
    let estimate_bps = estimator.estimate_bps();
    // 1200 bytes in 2.4 ms.
    assert!(
        (3_000_000..4_200_000).contains(&estimate_bps),
        "{estimate_bps}"
    );
}
