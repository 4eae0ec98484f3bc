//! The demultiplexer against streams made here, whole, damaged and hostile.

use proptest::prelude::*;

use super::elementary::annex_b;
use super::psi::checksum;
use super::*;
use crate::media::depacketize::nals;

const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;

/// Makes packets.
#[derive(Default)]
struct Muxer {
    counters: HashMap<u16, u8>,
    bytes: Vec<u8>,
}

impl Muxer {
    fn payload(&mut self, pid: u16, payload: &[u8]) {
        let mut rest = payload;
        let mut starts = 0x40;
        while !rest.is_empty() {
            let counter = self.counters.entry(pid).or_insert(15);
            *counter = (*counter + 1) & 15;
            let room = PACKET_BYTES - 4;
            let stuffing = room.saturating_sub(rest.len());
            let control = if stuffing > 0 { 0x30 } else { 0x10 };
            let pid = pid.to_be_bytes();
            self.bytes
                .extend_from_slice(&[SYNC, starts | pid[0], pid[1], control | *counter]);
            if stuffing > 0 {
                self.bytes.push((stuffing - 1) as u8);
                if stuffing > 1 {
                    self.bytes.push(0);
                    self.bytes.resize(self.bytes.len() + stuffing - 2, 0xff);
                }
            }
            let (now, after) = rest.split_at(rest.len().min(room - stuffing));
            self.bytes.extend_from_slice(now);
            rest = after;
            starts = 0;
        }
    }

    fn section(&mut self, pid: u16, table: u8, body: &[u8]) {
        let length = body.len() + 9;
        let mut section = vec![0, table, 0xb0 | (length >> 8) as u8, length as u8];
        section.extend_from_slice(&[0, 1, 0xc1, 0, 0]);
        section.extend_from_slice(body);
        let checksum = checksum(&section[1..]);
        section.extend_from_slice(&checksum.to_be_bytes());
        self.payload(pid, &section);
    }

    fn tables(&mut self, audio_type: u8, descriptors: &[u8]) {
        let pmt = (0xe000 | PMT_PID).to_be_bytes();
        self.section(0, 0, &[0, 1, pmt[0], pmt[1]]);
        let mut map = vec![0xe1, 0, 0xf0, 0];
        map.extend_from_slice(&[0x1b, 0xe1, 0x00, 0xf0, 0]);
        map.extend_from_slice(&[audio_type, 0xe1, 0x01, 0xf0, descriptors.len() as u8]);
        map.extend_from_slice(descriptors);
        // MPEG audio, which no browser plays.
        map.extend_from_slice(&[0x03, 0xe1, 0x02, 0xf0, 0]);
        self.section(PMT_PID, 2, &map);
    }

    fn pes(&mut self, pid: u16, pts: u64, payload: &[u8]) {
        let bounded = pid == AUDIO_PID;
        let length = if bounded { payload.len() + 8 } else { 0 } as u16;
        let mut pes = vec![0, 0, 1, 0xe0];
        pes.extend_from_slice(&length.to_be_bytes());
        pes.extend_from_slice(&[0x80, 0x80, 5]);
        pes.extend_from_slice(&[
            0x21 | (pts >> 29) as u8 & 0x0e,
            (pts >> 22) as u8,
            1 | (pts >> 14) as u8 & 0xfe,
            (pts >> 7) as u8,
            1 | (pts << 1) as u8,
        ]);
        pes.extend_from_slice(payload);
        self.payload(pid, &pes);
    }
}

fn keyframe() -> Vec<u8> {
    let mut stream = vec![0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x67, 0x42, 0, 0x1f];
    stream.extend_from_slice(&[0, 0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65, 0x88, 1, 2, 3]);
    stream
}

/// AAC-LC, 48 kHz, stereo.
fn adts(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() + 7;
    let mut frame = vec![0xff, 0xf1, 0x4c, 0x80 | (length >> 11) as u8];
    frame.extend_from_slice(&[(length >> 3) as u8, (length << 5) as u8 | 0x1f, 0xfc]);
    frame.extend_from_slice(bytes);
    frame
}

fn events(demuxer: &mut Demuxer, bytes: &[u8], at_once: usize) -> Vec<TsEvent> {
    let mut events = Vec::new();
    for part in bytes.chunks(at_once) {
        demuxer.push(part, &mut events);
    }
    demuxer.flush(&mut events);
    events
}

fn units(events: &[TsEvent], pid: u16) -> Vec<&TsUnit> {
    let all = events.iter().filter_map(|event| match event {
        TsEvent::Unit(unit) if unit.pid == pid => Some(unit),
        _ => None,
    });
    all.collect()
}

#[test]
fn pictures_and_sound_of_a_program_come_out() {
    let mut muxer = Muxer::default();
    muxer.tables(0x0f, &[]);
    muxer.pes(VIDEO_PID, 90_000, &keyframe());
    let frames = [adts(&[1; 300]), adts(&[2; 40])].concat();
    muxer.pes(AUDIO_PID, 91_000, &frames);
    muxer.pes(VIDEO_PID, 93_000, &[0, 0, 1, 0x41, 0x9a, 7, 0, 0]);
    let all = events(&mut Demuxer::new(), &muxer.bytes, 7 * PACKET_BYTES);
    let head = |pid, format| TsTrack { pid, format };
    let tracks = vec![
        head(VIDEO_PID, TsFormat::H264),
        head(AUDIO_PID, TsFormat::Adts),
    ];
    assert_eq!(all[0], TsEvent::Tracks(tracks, vec![3]));
    let video = units(&all, VIDEO_PID);
    assert_eq!((video[0].pts, video[0].keyframe), (90_000, true));
    let parts: Vec<&[u8]> = nals(&video[0].data).collect();
    let expected: [&[u8]; 3] = [
        &[0x67, 0x42, 0, 0x1f],
        &[0x68, 0xce],
        &[0x65, 0x88, 1, 2, 3],
    ];
    assert_eq!(parts, expected);
    assert_eq!(video[1].data, [0, 0, 0, 3, 0x41, 0x9a, 7]);
    let audio: Vec<_> = units(&all, AUDIO_PID)
        .iter()
        .map(|unit| (unit.pts, unit.data.len()))
        .collect();
    assert_eq!(audio, [(91_000, 300), (91_000 + 1920, 40)]);
    assert!(all.contains(&TsEvent::AacConfig(AUDIO_PID, vec![0x11, 0x90])));
}

#[test]
fn a_frame_of_sound_goes_on_in_the_next_packet() {
    let mut muxer = Muxer::default();
    muxer.tables(0x0f, &[]);
    let frames = [adts(&[1; 300]), adts(&[2; 40]), adts(&[3; 10])].concat();
    muxer.pes(AUDIO_PID, 10_000, &frames[..320]);
    muxer.pes(AUDIO_PID, 13_840, &frames[320..]);
    let all = events(&mut Demuxer::new(), &muxer.bytes, PACKET_BYTES);
    let times: Vec<i64> = units(&all, AUDIO_PID).iter().map(|unit| unit.pts).collect();
    assert_eq!(times, [10_000, 11_920, 13_840]);
}

#[test]
fn latm_and_opus_are_read() {
    let mut muxer = Muxer::default();
    muxer.tables(0x11, &[]);
    // The configuration of AAC-LC, 48 kHz, stereo, then a frame of four bytes.
    let mut bits = String::from("0") + "0" + "1" + "000000" + "0000" + "000";
    bits += "0001000110010000";
    bits += &("000".to_owned() + "11111111" + "0" + "0");
    bits += &("00000100".to_owned() + "00000001000000100000001100000100");
    while !bits.len().is_multiple_of(8) {
        bits.push('0');
    }
    let element: Vec<u8> = (0..bits.len() / 8)
        .map(|at| u8::from_str_radix(&bits[8 * at..][..8], 2).unwrap_or(0))
        .collect();
    let mut loas = vec![0x56, 0xe0, element.len() as u8];
    loas.extend_from_slice(&element);
    muxer.pes(AUDIO_PID, 5, &loas);
    let all = events(&mut Demuxer::new(), &muxer.bytes, PACKET_BYTES);
    assert!(all.contains(&TsEvent::AacConfig(AUDIO_PID, vec![0x11, 0x90])));
    assert_eq!(units(&all, AUDIO_PID)[0].data, [1, 2, 3, 4]);

    let mut muxer = Muxer::default();
    muxer.tables(0x06, b"\x05\x04Opus\x7f\x02\x80\x01");
    // Two packets of 20 ms, the second with a trim at its end.
    let packets = b"\x7f\xe0\x03\x78ab\x7f\xe8\x02\x00\x10\x78c";
    muxer.pes(AUDIO_PID, 1000, packets);
    let all = events(&mut Demuxer::new(), &muxer.bytes, PACKET_BYTES);
    let TsEvent::Tracks(tracks, _) = &all[0] else {
        panic!("{all:?}");
    };
    assert_eq!(tracks[1].format, TsFormat::Opus { channels: 1 });
    let audio: Vec<_> = units(&all, AUDIO_PID)
        .iter()
        .map(|unit| (unit.pts, unit.data.as_slice()))
        .collect();
    assert_eq!(audio, [(1000, &b"\x78ab"[..]), (2800, &b"\x78c"[..])]);
}

#[test]
fn times_go_on_where_33_bits_end() {
    let end = 1_u64 << 33;
    let mut muxer = Muxer::default();
    muxer.tables(0x0f, &[]);
    muxer.pes(VIDEO_PID, end - 3000, &keyframe());
    muxer.pes(AUDIO_PID, 100, &adts(&[1; 30]));
    muxer.pes(VIDEO_PID, 0, &keyframe());
    muxer.pes(AUDIO_PID, end - 1820, &adts(&[1; 30]));
    let all = events(&mut Demuxer::new(), &muxer.bytes, PACKET_BYTES);
    let pts = |pid| -> Vec<i64> { units(&all, pid).iter().map(|unit| unit.pts).collect() };
    // Counted from the first that was complete, that of the sound.
    assert_eq!(pts(VIDEO_PID), [-3000, 0]);
    assert_eq!(pts(AUDIO_PID), [100, -1820]);
}

#[test]
fn after_a_missing_packet_pictures_wait_for_a_keyframe() {
    let mut muxer = Muxer::default();
    muxer.tables(0x0f, &[]);
    muxer.pes(VIDEO_PID, 0, &keyframe());
    let lost = muxer.bytes.len();
    muxer.pes(VIDEO_PID, 3000, &[0, 0, 1, 0x41, 1]);
    muxer.bytes.truncate(lost);
    muxer.pes(VIDEO_PID, 6000, &[0, 0, 1, 0x41, 2]);
    let mut demuxer = Demuxer::new();
    let all = events(&mut demuxer, &muxer.bytes, PACKET_BYTES);
    assert_eq!(units(&all, VIDEO_PID).len(), 0, "the open picture was cut");
    assert!(demuxer.is_awaiting_keyframe());
    assert_eq!(demuxer.lost(), 1);
    let before = muxer.bytes.len();
    muxer.pes(VIDEO_PID, 9000, &keyframe());
    let all = events(&mut demuxer, &muxer.bytes[before..], PACKET_BYTES);
    assert_eq!(units(&all, VIDEO_PID).len(), 1);
}

#[test]
fn byte_streams_are_cut_at_start_codes_only() {
    let stream = [9, 9, 0, 0, 0, 1, 5, 0, 2, 0, 0, 0, 0, 1, 0, 0, 1, 7, 0, 0];
    let parts: Vec<&[u8]> = annex_b(&stream).collect();
    assert_eq!(parts, [&[5, 0, 2][..], &[7]]);
    assert_eq!(annex_b(&[1, 2, 3]).count(), 0);
}

proptest! {
    #[test]
    fn no_bytes_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        at_once in 1..400_usize,
    ) {
        events(&mut Demuxer::new(), &bytes, at_once);
    }

    /// A stream of which some bytes were changed and some packets lost is read to its end, and
    /// what comes out of it holds together.
    #[test]
    fn a_damaged_stream_does_not_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        lost in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        audio_type in prop::sample::select(vec![0x0f_u8, 0x11, 0x06]),
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..8),
    ) {
        let mut muxer = Muxer::default();
        for (index, payload) in payloads.iter().enumerate() {
            muxer.tables(audio_type, b"\x05\x04Opus");
            muxer.pes(VIDEO_PID, index as u64 * 3000, &keyframe());
            muxer.pes(AUDIO_PID, index as u64 * 1920, payload);
            muxer.pes(AUDIO_PID, index as u64 * 1920, &adts(payload));
        }
        let mut bytes = muxer.bytes;
        for index in lost {
            let at = index.index(bytes.len() / PACKET_BYTES) * PACKET_BYTES;
            bytes.drain(at..at + PACKET_BYTES);
            if bytes.is_empty() {
                return Ok(());
            }
        }
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        for event in events(&mut Demuxer::new(), &bytes, 7 * PACKET_BYTES) {
            if let TsEvent::Unit(unit) = event {
                prop_assert!(!unit.data.is_empty());
            }
        }
    }

    /// Sizes and cuts make no difference.
    #[test]
    fn sound_of_any_size_comes_out_whole(
        sizes in proptest::collection::vec(1..900_usize, 1..12),
        at_once in 1..600_usize,
    ) {
        let mut muxer = Muxer::default();
        muxer.tables(0x0f, &[]);
        for (index, &size) in sizes.iter().enumerate() {
            muxer.pes(AUDIO_PID, index as u64 * 1920, &adts(&vec![index as u8; size]));
        }
        let all = events(&mut Demuxer::new(), &muxer.bytes, at_once);
        let out: Vec<usize> = units(&all, AUDIO_PID).iter().map(|unit| unit.data.len()).collect();
        prop_assert_eq!(out, sizes);
    }
}
