//! One track on its way out: the publisher's packets in order, with sequence numbers and timestamps
//! that go on whatever the publisher does, made into RTP once for all readers.
//!
//! A [`Feed`](super::Feed) owns it. It knows no socket and no clock: it is told when packets arrived.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use fanmill_engine::packet::codec::{Codec, MediaKind, is_keyframe_start};
use fanmill_engine::packet::rtcp::SenderInfo;
use fanmill_engine::packet::rtcp_write::RtcpWriter;

use super::parameter_sets::ParameterSets;
use crate::media::clock::{StreamClock, TrackClock};
use crate::media::reorder::{Ordered, Packet, Reorder};
use crate::rtsp::limits::{MAX_CACHED_PACKETS, REORDER_WAIT_US};

/// Of the dynamic payload types (RFC 3551 6) the first; each track has the next.
const FIRST_PAYLOAD_TYPE: u8 = 96;

/// A gap longer than this is none: readers would take the numbers after it for older ones.
const LONGEST_GAP: u64 = 10_000;

/// Pictures from before a reader came are this far apart: it shows the latest at once, and is not
/// behind for ever.
const SQUEEZED_US: u64 = 1_000;

/// A packet for readers.
#[derive(Debug, Clone)]
pub struct Out {
    /// Place of its track.
    pub track: usize,
    /// RTCP, not RTP.
    pub is_rtcp: bool,
    /// The packet.
    pub bytes: Bytes,
}

/// The packets are no longer what was described: readers must ask anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OtherCodec;

/// The latest packet.
#[derive(Debug, Clone, Copy)]
struct Last {
    timestamp: u32,
    arrival_us: u64,
    /// Its place on the stream's timeline.
    time_us: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Track {
    place: usize,
    kind: MediaKind,
    format: Option<Format>,
    parameter_sets: ParameterSets,
    reorder: Reorder,
    ssrc: u32,
    sequence_number: u16,
    /// Ours minus the publisher's timestamp, once a packet of the present source came.
    shift: Option<u32>,
    first_timestamp: u32,
    clock: Option<TrackClock>,
    early_report: Option<(u64, u32)>,
    last: Option<Last>,
    packets: u32,
    octets: u32,
    cache: Cache,
}

/// What its packets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format {
    codec: Codec,
    clock_rate: u32,
}

/// What is sent of a track first.
#[derive(Debug, Clone)]
pub struct Start {
    /// Place of the track.
    pub track: usize,
    /// Its synchronization source.
    pub ssrc: u32,
    /// The first packet's sequence number.
    pub sequence_number: u16,
    /// The timestamp of the moment with which all tracks begin.
    pub timestamp: u32,
}

impl Track {
    pub(super) fn new(place: usize, kind: MediaKind, random: u64) -> Self {
        Self {
            place,
            kind,
            format: None,
            parameter_sets: ParameterSets::default(),
            reorder: Reorder::new(REORDER_WAIT_US),
            ssrc: (random >> 32) as u32,
            sequence_number: random as u16 >> 1,
            shift: None,
            first_timestamp: (random >> 16) as u32,
            clock: None,
            early_report: None,
            last: None,
            packets: 0,
            octets: 0,
            cache: Cache::default(),
        }
    }

    pub(super) fn kind(&self) -> MediaKind {
        self.kind
    }

    /// Whether all is known that a description says of it.
    pub(super) fn is_described(&self) -> bool {
        self.format
            .is_some_and(|format| self.parameter_sets.are_complete(format.codec))
    }

    /// Whether readers who come now see nothing before the next keyframe.
    pub(super) fn lacks_keyframe(&self) -> bool {
        self.kind == MediaKind::Video && self.cache.packets.is_empty()
    }

    /// Its lines of the description, if packets came.
    pub(super) fn media_description(&self) -> Option<String> {
        use std::fmt::Write;
        let Format { codec, clock_rate } = self.format?;
        let (media, channels) = match (codec.kind(), codec) {
            (MediaKind::Video, _) => ("video", ""),
            (MediaKind::Audio, Codec::Opus) => ("audio", "/2"),
            (MediaKind::Audio, _) => ("audio", ""),
        };
        let payload_type = self.payload_type();
        let mut text = format!(
            "m={media} 0 RTP/AVP {payload_type}\r\n\
             a=rtpmap:{payload_type} {}/{clock_rate}{channels}\r\n",
            codec.name()
        );
        if let Some(parameters) = self.parameter_sets.format_parameters(codec) {
            // Writing to a string does not fail.
            let _ = write!(text, "a=fmtp:{payload_type} {parameters}\r\n");
        }
        let _ = write!(text, "a=control:trackID={}\r\n", self.place);
        Some(text)
    }

    fn payload_type(&self) -> u8 {
        FIRST_PAYLOAD_TYPE + self.place as u8 % 32
    }

    /// Takes a packet as it arrives.
    pub(super) fn push(&mut self, stream: &mut StreamClock, mut packet: Packet, clock_rate: u32) {
        let shift = *self.shift.get_or_insert_with(|| {
            let begins = match self.last {
                // What was not sent in the meantime takes its time nevertheless.
                Some(last) => {
                    let passed_us = packet.arrival_us.saturating_sub(last.arrival_us);
                    let passed = ticks(passed_us, clock_rate).max(1);
                    last.timestamp.wrapping_add(passed)
                }
                None => self.first_timestamp,
            };
            begins.wrapping_sub(packet.timestamp)
        });
        packet.timestamp = packet.timestamp.wrapping_add(shift);
        let clock = self
            .clock
            .get_or_insert_with(|| TrackClock::new(clock_rate));
        clock.arrived(packet.timestamp, packet.arrival_us);
        if let Some((ntp, timestamp)) = self.early_report.take() {
            clock.reported(stream, ntp, timestamp.wrapping_add(shift));
        }
        if !packet.payload.is_empty() {
            let format = Format {
                codec: packet.codec,
                clock_rate,
            };
            self.format.get_or_insert(format);
        }
        self.reorder.push(packet);
    }

    /// Takes the publisher's report of its clock.
    pub(super) fn reported(&mut self, stream: &mut StreamClock, ntp: u64, timestamp: u32) {
        match (&mut self.clock, self.shift) {
            (Some(clock), Some(shift)) => {
                clock.reported(stream, ntp, timestamp.wrapping_add(shift));
            }
            _ => self.early_report = Some((ntp, timestamp)),
        }
    }

    /// When a packet that came before was captured.
    pub(super) fn captured(&mut self, stream: &mut StreamClock, ntp: u64, timestamp: u32) {
        if let (Some(clock), Some(shift)) = (&mut self.clock, self.shift) {
            clock.captured(stream, ntp, timestamp.wrapping_add(shift));
        }
    }

    /// The source begins anew: what it sent is complete.
    pub(super) fn restart(&mut self, out: &mut Vec<Out>) -> Result<(), OtherCodec> {
        let rest = self.reorder.drain();
        let done = rest.into_iter().try_for_each(|one| self.send(one, out));
        self.reorder = Reorder::new(REORDER_WAIT_US);
        self.shift = None;
        self.clock = None;
        self.early_report = None;
        done
    }

    /// What can be sent at `now_us`.
    pub(super) fn poll(&mut self, now_us: u64, out: &mut Vec<Out>) -> Result<(), OtherCodec> {
        while let Some(next) = self.reorder.pop(now_us) {
            self.send(next, out)?;
        }
        Ok(())
    }

    fn send(&mut self, next: Ordered, out: &mut Vec<Out>) -> Result<(), OtherCodec> {
        let packet = match next {
            Ordered::Gap(missing) => {
                // Readers shall see that something is missing.
                let missing = missing.min(LONGEST_GAP) as u16;
                self.sequence_number = self.sequence_number.wrapping_add(missing);
                return Ok(());
            }
            // Padding that a publisher probes the network with.
            Ordered::Packet(packet) if packet.payload.is_empty() => return Ok(()),
            Ordered::Packet(packet) => packet,
        };
        if self
            .format
            .is_some_and(|format| format.codec != packet.codec)
        {
            return Err(OtherCodec);
        }
        self.parameter_sets.look(packet.codec, &packet.payload);
        self.note_last(&packet);
        let bytes = self.rtp(&packet);
        if self.kind == MediaKind::Video {
            let begins = is_keyframe_start(packet.codec, &packet.payload);
            self.cache.push(packet.timestamp, begins, &bytes);
        }
        out.push(Out {
            track: self.place,
            is_rtcp: false,
            bytes,
        });
        Ok(())
    }

    fn note_last(&mut self, packet: &Packet) {
        if self
            .last
            .is_some_and(|last| last.timestamp == packet.timestamp)
        {
            return;
        }
        let time_us = match &mut self.clock {
            Some(clock) => clock.time_us(packet.timestamp),
            None => packet.arrival_us.cast_signed(),
        };
        self.last = Some(Last {
            timestamp: packet.timestamp,
            arrival_us: packet.arrival_us,
            time_us,
        });
    }

    fn rtp(&mut self, packet: &Packet) -> Bytes {
        let mut bytes = BytesMut::with_capacity(12 + packet.payload.len());
        bytes.put_u8(0x80);
        bytes.put_u8(self.payload_type() | u8::from(packet.marker) << 7);
        bytes.put_u16(self.sequence_number);
        bytes.put_u32(packet.timestamp);
        bytes.put_u32(self.ssrc);
        bytes.put_slice(&packet.payload);
        self.sequence_number = self.sequence_number.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
        bytes.freeze()
    }

    /// A sender report; `wall_us` is the wall clock at the timeline's zero.
    pub(super) fn report(&self, wall_us: i64, cname: &str) -> Option<Out> {
        let last = self.last?;
        let info = SenderInfo {
            ssrc: self.ssrc,
            ntp_timestamp: ntp(wall_us.saturating_add(last.time_us)),
            rtp_timestamp: last.timestamp,
            packet_count: self.packets,
            octet_count: self.octets,
        };
        let mut buffer = [0; 128];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.sender_report(&info, &[]).ok()?;
        writer.sdes_cname(self.ssrc, cname.as_bytes()).ok()?;
        Some(Out {
            track: self.place,
            is_rtcp: true,
            bytes: Bytes::copy_from_slice(writer.as_bytes()),
        })
    }

    /// Says that nothing follows.
    pub(super) fn goodbye(&self) -> Option<Out> {
        self.last?;
        let mut buffer = [0; 64];
        let mut writer = RtcpWriter::new(&mut buffer);
        // RFC 3550 6.1: a compound begins with a report.
        writer.receiver_report(self.ssrc, &[]).ok()?;
        writer.bye(&[self.ssrc]).ok()?;
        Some(Out {
            track: self.place,
            is_rtcp: true,
            bytes: Bytes::copy_from_slice(writer.as_bytes()),
        })
    }

    /// When the first picture of what is kept is, if anything is.
    pub(super) fn burst_begins_us(&self) -> Option<i64> {
        let (last, format) = (self.last?, self.format?);
        let pictures = self.cache.timestamps();
        let latest = *pictures.last()?;
        let squeezed = squeeze(&pictures, *pictures.first()?, format.clock_rate);
        let before = latest.wrapping_sub(squeezed);
        let after_last = latest.wrapping_sub(last.timestamp).cast_signed();
        let ticks = i64::from(after_last) - i64::from(before);
        Some(last.time_us + ticks * 1_000_000 / i64::from(format.clock_rate.max(1)))
    }

    /// What a reader who comes now is sent first: the latest keyframe and all since, close together.
    pub(super) fn burst(&self, out: &mut Vec<Out>) {
        let Some(format) = self.format else {
            return;
        };
        let pictures = self.cache.timestamps();
        for cached in &self.cache.packets {
            let mut bytes = BytesMut::from(&cached.bytes[..]);
            let timestamp = squeeze(&pictures, cached.timestamp, format.clock_rate);
            bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
            out.push(Out {
                track: self.place,
                is_rtcp: false,
                bytes: bytes.freeze(),
            });
        }
    }

    /// Where a reader begins that comes at `moment_us` of the timeline.
    pub(super) fn start(&self, moment_us: i64) -> Option<Start> {
        let (last, format) = (self.last?, self.format?);
        let after_us = moment_us.saturating_sub(last.time_us);
        let after = after_us.saturating_mul(i64::from(format.clock_rate)) / 1_000_000;
        let cached = self.cache.packets.front();
        let first = cached.map(|cached| u16::from_be_bytes([cached.bytes[2], cached.bytes[3]]));
        Some(Start {
            track: self.place,
            ssrc: self.ssrc,
            sequence_number: first.unwrap_or(self.sequence_number),
            timestamp: last.timestamp.wrapping_add(after as u32),
        })
    }

    /// The place of its latest packet on the timeline.
    pub(super) fn now_us(&self) -> Option<i64> {
        self.last.map(|last| last.time_us)
    }
}

/// A picture's timestamp after all from the keyframe on were moved together, up to the latest:
/// `pictures` are their timestamps in the order of showing.
fn squeeze(pictures: &[u32], timestamp: u32, clock_rate: u32) -> u32 {
    let (Some(&first), Some(&latest)) = (pictures.first(), pictures.last()) else {
        return timestamp;
    };
    let after = |picture: u32| picture.wrapping_sub(first).cast_signed();
    let place = pictures.binary_search_by_key(&after(timestamp), |&picture| after(picture));
    let before = pictures.len() - 1 - place.unwrap_or(0);
    let apart = ticks(SQUEEZED_US, clock_rate);
    let squeezed = latest.wrapping_sub(apart.wrapping_mul(before as u32));
    // Pictures that are closer anyway stay where they are.
    let by = timestamp.wrapping_sub(squeezed).cast_signed();
    if by > 0 { timestamp } else { squeezed }
}

fn ticks(us: u64, clock_rate: u32) -> u32 {
    (u128::from(us) * u128::from(clock_rate) / 1_000_000) as u32
}

/// NTP time (RFC 3550 4) of microseconds since 1970.
fn ntp(unix_us: i64) -> u64 {
    const FROM_1900_TO_1970_S: u64 = 2_208_988_800;
    let unix_us = u64::try_from(unix_us).unwrap_or(0);
    let fraction = ((unix_us % 1_000_000) << 32) / 1_000_000;
    (unix_us / 1_000_000 + FROM_1900_TO_1970_S) << 32 | fraction
}

/// The latest keyframe and all since.
#[derive(Debug, Default)]
struct Cache {
    packets: VecDeque<Cached>,
    /// Timestamp of the keyframe.
    keyframe: Option<u32>,
}

#[derive(Debug)]
struct Cached {
    timestamp: u32,
    bytes: Bytes,
}

impl Cache {
    fn push(&mut self, timestamp: u32, begins: bool, bytes: &Bytes) {
        if begins && self.keyframe != Some(timestamp) {
            self.packets.clear();
            self.keyframe = Some(timestamp);
        }
        if self.packets.len() >= MAX_CACHED_PACKETS {
            self.packets.clear();
            self.keyframe = None;
        }
        if self.keyframe.is_some() {
            self.packets.push_back(Cached {
                timestamp,
                bytes: bytes.clone(),
            });
        }
    }

    /// The timestamps of its pictures, in the order of showing.
    fn timestamps(&self) -> Vec<u32> {
        let Some(first) = self.packets.front().map(|cached| cached.timestamp) else {
            return Vec::new();
        };
        let mut all: Vec<u32> = self.packets.iter().map(|cached| cached.timestamp).collect();
        all.sort_by_key(|timestamp| timestamp.wrapping_sub(first).cast_signed());
        all.dedup();
        all
    }
}
