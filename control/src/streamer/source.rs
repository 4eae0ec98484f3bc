//! The sender of one media section: whose packets are taken, in which order they are read, and where
//! they stand in time.
//!
//! A session feeds it datagrams and asks what is ready. It knows no socket. It is locked to the first
//! sender that sends what was described, so that nobody else can talk into a stream, and takes
//! another one after [`RELEARN_US`] of silence: a program that was restarted.

use std::net::{IpAddr, SocketAddr};

use fanmill_engine::packet::rtcp::{Compound, RtcpPacket};
use fanmill_engine::packet::rtcp_write::RtcpWriter;
use fanmill_engine::packet::rtp::{RtpHeader, SequenceExtender, padding_len};

use super::format::RtpFormat;
use super::reader::{Read, Reader};
use super::reception::Reception;
use super::security::Guard;
use crate::media::clock::{StreamClock, TrackClock};
use crate::media::reorder::{Ordered, Packet, Reorder};

/// After so long without a packet another sender may take the place.
pub(super) const RELEARN_US: u64 = 1_000_000;

/// A packet so far ahead of the last, or so far behind it, is of a sender that began anew, if the
/// next one follows it (RFC 3550 A.1).
const MAX_AHEAD: u64 = 3_000;
const MAX_BEHIND: u64 = 1_000;

/// How often a sender is told what of it came.
const REPORT_US: u64 = 1_000_000;

/// How often it is asked for a keyframe at most.
const KEYFRAME_US: u64 = 500_000;

const MAX_RTCP_BYTES: usize = 256;

/// Whose packets are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Remote {
    /// The first one that comes.
    #[default]
    Learnt,
    /// Those from this address, of any port.
    Host(IpAddr),
    /// Those from this address and port.
    Fixed(SocketAddr),
}

impl Remote {
    fn admits(self, from: SocketAddr) -> bool {
        match self {
            Self::Learnt => true,
            Self::Host(host) => from.ip() == host,
            Self::Fixed(address) => from == address,
        }
    }
}

/// Why datagrams were not used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dropped {
    /// From somebody else than the sender it is locked to.
    pub foreign: u64,
    /// No RTP, or cut.
    pub malformed: u64,
    /// Of a payload type that was not described.
    pub unknown_payload_type: u64,
    /// Not sealed with the key that was given, or repeated.
    pub unauthenticated: u64,
    /// Too late to be read.
    pub late: u64,
}

#[derive(Debug, Clone, Copy)]
struct Locked {
    from: SocketAddr,
    ssrc: u32,
    last_us: u64,
    /// Where its RTCP comes from.
    rtcp: Option<SocketAddr>,
}

/// See the module.
pub(crate) struct Source {
    formats: Vec<(u8, RtpFormat)>,
    remote: Remote,
    guard: Option<Guard>,
    wait_us: u64,
    locked: Option<Locked>,
    numbers: SequenceExtender,
    /// The number after that of a packet that did not fit.
    suspect: Option<u16>,
    reorder: Reorder<u8>,
    reader: Option<(u8, Reader)>,
    clock: Option<TrackClock>,
    early_report: Option<(u32, u64, u32)>,
    reception: Reception,
    /// Our name in what it is told.
    own_ssrc: u32,
    reported_us: u64,
    asked_us: u64,
    wants_keyframe: bool,
    pub(crate) packets: u64,
    pub(crate) lost: u64,
    pub(super) dropped: Dropped,
}

impl Source {
    pub(crate) fn new(
        formats: Vec<(u8, RtpFormat)>,
        remote: Remote,
        guard: Option<Guard>,
        wait_us: u64,
        own_ssrc: u32,
    ) -> Self {
        Self {
            formats,
            remote,
            guard,
            wait_us,
            locked: None,
            numbers: SequenceExtender::new(),
            suspect: None,
            reorder: Reorder::new(wait_us),
            reader: None,
            clock: None,
            early_report: None,
            reception: Reception::default(),
            own_ssrc,
            reported_us: 0,
            asked_us: 0,
            wants_keyframe: false,
            packets: 0,
            lost: 0,
            dropped: Dropped::default(),
        }
    }

    /// The sender, if there is one, and its SSRC.
    pub(crate) fn sender(&self) -> Option<(SocketAddr, u32)> {
        self.locked.map(|locked| (locked.from, locked.ssrc))
    }

    /// Whether its packets come.
    pub(crate) fn is_alive(&self, now_us: u64) -> bool {
        self.locked
            .is_some_and(|locked| now_us.saturating_sub(locked.last_us) <= RELEARN_US)
    }

    pub(super) fn jitter_us(&self) -> u64 {
        self.reception.jitter_us()
    }

    /// The encoding name of what comes, or would.
    pub(crate) fn codec(&self) -> &'static str {
        let now = self.reader.as_ref().map(|&(payload_type, _)| payload_type);
        let of = |&&(payload_type, _): &&(u8, RtpFormat)| Some(payload_type) == now;
        let format = self.formats.iter().find(of).or(self.formats.first());
        format.map_or("", |(_, format)| format.name())
    }

    pub(super) fn malformed_payloads(&self) -> u64 {
        self.reader
            .as_ref()
            .map_or(0, |(_, reader)| reader.malformed())
    }

    /// Takes an RTP packet; what an earlier sender left is added to `out`.
    pub(crate) fn rtp(
        &mut self,
        from: SocketAddr,
        packet: &[u8],
        now_us: u64,
        out: &mut Vec<Read>,
    ) {
        let Ok(header) = RtpHeader::parse(packet) else {
            self.dropped.malformed += 1;
            return;
        };
        let Some(rate) = self.clock_rate(header.payload_type) else {
            self.dropped.unknown_payload_type += 1;
            return;
        };
        let is_same = self
            .locked
            .is_some_and(|locked| (locked.from, locked.ssrc) == (from, header.ssrc));
        if !self.remote.admits(from) || (!is_same && self.is_alive(now_us)) {
            self.dropped.foreign += 1;
            return;
        }
        let opened = self
            .guard
            .as_mut()
            .map(|guard| guard.open_rtp(&header, packet, !is_same));
        let plain = match &opened {
            None => packet,
            Some(Ok(plain)) => plain,
            Some(Err(_)) => {
                self.dropped.unauthenticated += 1;
                return;
            }
        };
        let Some(payload) = payload(&header, plain) else {
            self.dropped.malformed += 1;
            return;
        };
        if !is_same {
            self.begin(from, header.ssrc, rate, out);
        } else if !self.is_alive(now_us) {
            // It paused: where its timestamps go on says nothing.
            self.clock = None;
        }
        let Some(index) = self.index(header.sequence_number, out) else {
            return;
        };
        if let Some(locked) = &mut self.locked {
            locked.last_us = now_us;
        }
        self.packets += 1;
        self.reception.packet(index, header.timestamp, now_us);
        let clock = self.clock.get_or_insert_with(|| TrackClock::new(rate));
        clock.arrived(header.timestamp, now_us);
        self.reorder.push(Packet {
            index,
            timestamp: header.timestamp,
            marker: header.marker,
            codec: header.payload_type,
            payload: payload.to_vec(),
            arrival_us: now_us,
        });
    }

    fn clock_rate(&self, payload_type: u8) -> Option<u32> {
        let of = |&&(known, _): &&(u8, RtpFormat)| known == payload_type;
        let format = self.formats.iter().find(of);
        format.map(|(_, format)| format.clock_rate_hz())
    }

    /// Another sender begins.
    fn begin(&mut self, from: SocketAddr, ssrc: u32, rate_hz: u32, out: &mut Vec<Read>) {
        self.restart(out);
        self.reception = Reception::new(rate_hz);
        self.numbers = SequenceExtender::new();
        self.locked = Some(Locked {
            from,
            ssrc,
            last_us: 0,
            rtcp: None,
        });
        tracing::info!(%from, ssrc, codec = self.codec(), "a sender of RTP was found");
    }

    /// What comes from now on has nothing to do with what came.
    fn restart(&mut self, out: &mut Vec<Read>) {
        for ordered in self.reorder.drain() {
            self.read(ordered, out);
        }
        self.dropped.late += self.reorder.late();
        self.reorder = Reorder::new(self.wait_us);
        self.reader = None;
        self.clock = None;
        self.suspect = None;
    }

    /// The packet's number without wrapping; `None` for one that does not fit.
    fn index(&mut self, number: u16, out: &mut Vec<Read>) -> Option<u64> {
        let index = self.numbers.peek(number);
        let highest = self.numbers.highest().unwrap_or(index);
        if index <= highest + MAX_AHEAD && index + MAX_BEHIND >= highest {
            self.suspect = None;
            return Some(self.numbers.extend(number));
        }
        if self.suspect.replace(number.wrapping_add(1)) != Some(number) {
            return None;
        }
        self.restart(out);
        self.reception = Reception::new(self.reception_rate());
        Some(self.numbers.restart(number))
    }

    fn reception_rate(&self) -> u32 {
        self.formats
            .first()
            .map_or(90_000, |(_, format)| format.clock_rate_hz())
    }

    /// Takes an RTCP packet.
    pub(crate) fn rtcp(
        &mut self,
        from: SocketAddr,
        packet: &[u8],
        stream: &mut StreamClock,
        now_us: u64,
    ) {
        let is_of_sender = |locked: Locked| locked.from.ip() == from.ip();
        if !self
            .remote
            .admits(SocketAddr::new(from.ip(), self.fixed_port(from)))
            || self.locked.is_some_and(|locked| !is_of_sender(locked))
        {
            self.dropped.foreign += 1;
            return;
        }
        let opened = self.guard.as_mut().map(|guard| guard.open_rtcp(packet));
        let plain = match &opened {
            None => packet,
            Some(Ok(plain)) => plain,
            Some(Err(_)) => {
                self.dropped.unauthenticated += 1;
                return;
            }
        };
        for one in Compound::new(plain).map_while(Result::ok) {
            match one {
                RtcpPacket::SenderReport(report) => {
                    let info = report.info;
                    match &mut self.locked {
                        Some(locked) if locked.ssrc == info.ssrc => locked.rtcp = Some(from),
                        _ => {}
                    }
                    let report = (info.ssrc, info.ntp_timestamp, info.rtp_timestamp);
                    self.early_report = Some(report);
                    self.reception.sender_report(info.ntp_timestamp, now_us);
                    self.report(stream);
                }
                RtcpPacket::Bye(bye) => {
                    let ssrc = self.locked.map(|locked| locked.ssrc);
                    // Whoever comes next need not wait.
                    if let (Some(locked), true) =
                        (&mut self.locked, bye.ssrcs().any(|left| Some(left) == ssrc))
                    {
                        locked.last_us = 0;
                    }
                }
                _ => {}
            }
        }
    }

    /// RTCP comes from another port than the one that is fixed.
    fn fixed_port(&self, from: SocketAddr) -> u16 {
        match self.remote {
            Remote::Fixed(address) => address.port(),
            _ => from.port(),
        }
    }

    /// Sets the clock by a sender report, once there is a packet to set.
    fn report(&mut self, stream: &mut StreamClock) {
        let Some((ssrc, ntp, timestamp)) = self.early_report else {
            return;
        };
        let is_own = self.locked.is_some_and(|locked| locked.ssrc == ssrc);
        if let (Some(clock), true) = (&mut self.clock, is_own) {
            // A report without a time (RFC 3550 6.4.1) sets nothing.
            if ntp != 0 {
                clock.reported(stream, ntp, timestamp);
            }
            self.early_report = None;
        }
    }

    /// What is ready.
    pub(crate) fn poll(&mut self, stream: &mut StreamClock, now_us: u64, out: &mut Vec<Read>) {
        self.report(stream);
        while let Some(ordered) = self.reorder.pop(now_us) {
            self.read(ordered, out);
        }
        if let Some((_, reader)) = &self.reader {
            self.wants_keyframe |= reader.is_awaiting_keyframe();
        }
    }

    fn read(&mut self, ordered: Ordered<u8>, out: &mut Vec<Read>) {
        let packet = match ordered {
            Ordered::Packet(packet) => packet,
            Ordered::Gap(missing) => {
                self.lost += missing;
                out.push(Read::Lost(missing));
                if let Some((_, reader)) = &mut self.reader {
                    reader.gap();
                }
                return;
            }
        };
        let payload_type = packet.codec;
        let known = self.reader.take().filter(|(of, _)| *of == payload_type);
        let (_, reader) = match known {
            Some(known) => self.reader.insert(known),
            None => {
                let of = |&&(known, _): &&(u8, RtpFormat)| known == payload_type;
                let Some((_, format)) = self.formats.iter().find(of) else {
                    return;
                };
                if *format != RtpFormat::TransportStream {
                    let is_video = matches!(format, RtpFormat::Video { .. });
                    out.push(Read::Lanes(vec![(0, is_video)]));
                }
                self.reader.insert((payload_type, Reader::new(format, out)))
            }
        };
        let rate = self
            .formats
            .first()
            .map_or(90_000, |(_, format)| format.clock_rate_hz());
        let clock = self.clock.get_or_insert_with(|| {
            // It was taken away after a pause, while this packet waited.
            let mut clock = TrackClock::new(rate);
            clock.arrived(packet.timestamp, packet.arrival_us);
            clock
        });
        reader.push(packet, clock, out);
    }

    /// A viewer waits for a keyframe.
    pub(crate) fn want_keyframe(&mut self) {
        self.wants_keyframe = true;
    }

    /// What the sender is to be told now, and where to: to where its RTCP comes from, or else the
    /// port after that of its RTP.
    pub(crate) fn feedback(&mut self, now_us: u64, muxed: bool) -> Option<(Vec<u8>, SocketAddr)> {
        let locked = self.locked.filter(|_| self.is_alive(now_us))?;
        let asks = self.wants_keyframe && now_us.saturating_sub(self.asked_us) >= KEYFRAME_US;
        if !asks && now_us.saturating_sub(self.reported_us) < REPORT_US {
            return None;
        }
        self.reported_us = now_us;
        let block = self.reception.report(locked.ssrc, now_us);
        let mut buffer = [0; MAX_RTCP_BYTES];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.receiver_report(self.own_ssrc, &[block]).ok()?;
        writer.sdes_cname(self.own_ssrc, b"fanmill").ok()?;
        if asks {
            self.asked_us = now_us;
            self.wants_keyframe = false;
            writer.pli(self.own_ssrc, locked.ssrc).ok()?;
        }
        let plain = writer.as_bytes();
        let packet = match &mut self.guard {
            None => plain.to_vec(),
            Some(guard) => guard.seal_rtcp(plain).ok()?,
        };
        let to = locked.rtcp.unwrap_or_else(|| {
            let port = locked.from.port();
            let next = if muxed { port } else { port.saturating_add(1) };
            SocketAddr::new(locked.from.ip(), next)
        });
        Some((packet, to))
    }
}

/// A packet's payload without padding.
fn payload<'a>(header: &RtpHeader, plain: &'a [u8]) -> Option<&'a [u8]> {
    let payload = plain.get(header.header_len..)?;
    let padding = match header.padding {
        true => padding_len(payload).ok()?,
        false => 0,
    };
    payload.get(..payload.len() - padding)
}
