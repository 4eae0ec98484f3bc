//! One viewer once it has joined, sans-IO: counts every packet, decrypts a sample, reports.
//!
//! A receiving thread feeds it datagrams and asks it now and then what it has to send. It reads
//! the RTP header of everything; what it does beyond that is chosen by [`Verify`], because the
//! generator's own CPU must not become what is measured.

use std::net::{SocketAddr, UdpSocket};

use fanmill_engine::packet::Kind;
use fanmill_engine::packet::codec::is_keyframe_start;
use fanmill_engine::packet::loss::{NackTracker, ReceptionStatistics};
use fanmill_engine::packet::rtcp::{Compound, RtcpPacket};
use fanmill_engine::packet::rtcp_write::RtcpWriter;
use fanmill_engine::packet::rtp::{RtpHeader, padding_len};
use fanmill_engine::srtp::{Opener, Profile, ReplayWindow, RtcpSession, SrtpError};
use webrtc_srtp::context::Context as Oracle;
use webrtc_srtp::protection_profile::ProtectionProfile;

use crate::client::ice::IceAgent;
use crate::client::join::Session;
use crate::client::sdp::{Answer, Format};
use crate::measure::totals::{Counts, Totals, record_us};
use crate::media::stamp::{self, Check};

/// SSRCs one viewer receives: audio, video, RTX, of each slot, and what a server may switch to.
const MAX_STREAMS: usize = 64;
/// Streams in one receiver report (RFC 3550 6.4.1).
const MAX_REPORTED: usize = 31;
/// Of the packets of a stream, one in so many is decrypted when sampling.
const SAMPLE: u64 = 16;
/// A packet this far ahead is always decrypted: it may begin another cycle of sequence numbers,
/// which the oracle, who sees the sample alone, could not tell.
const LEAP: u64 = 1 << 14;
/// One viewer in so many has an oracle.
const ORACLE_VIEWERS: u64 = 64;
/// Sequence numbers in one NACK.
const MAX_NACK: usize = 32;
const SILENT_NS: u64 = 1_500_000_000;
const KEYFRAME_REQUEST_NS: u64 = 1_000_000_000;
/// The SSRC of receivers that send nothing, as browsers have it.
const RECEIVER_SSRC: u32 = 1;
/// Largest RTP packet that is decrypted.
pub const MAX_PACKET_BYTES: usize = 2048;

/// Which packets are decrypted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// All until the first keyframe, then one in 16.
    Sample,
    /// Every one.
    All,
}

/// What a receiving thread lends its viewers.
pub struct Lent<'a> {
    /// What all viewers of the thread have seen.
    pub tally: &'a mut Totals,
    /// Room for one decrypted packet.
    pub scratch: &'a mut [u8; MAX_PACKET_BYTES],
    /// Which packets are decrypted.
    pub verify: Verify,
}

struct Stream {
    ssrc: u32,
    format: Format,
    window: ReplayWindow,
    first: u64,
    /// Different packets received.
    unique: u64,
    statistics: ReceptionStatistics,
    nack: Option<NackTracker>,
}

impl Stream {
    fn expected(&self) -> u64 {
        self.window
            .highest()
            .map_or(0, |highest| highest + 1 - self.first.min(highest))
    }
}

/// A joined viewer.
pub struct Viewer {
    /// Its number in the run.
    pub id: u64,
    socket: UdpSocket,
    remote: SocketAddr,
    ice: IceAgent,
    opener: Opener,
    rtcp: RtcpSession,
    oracle: Option<Box<Oracle>>,
    answer: Answer,
    streams: Vec<Stream>,
    posted_ns: u64,
    joined: bool,
    picture: bool,
    last_audio_ns: u64,
    last_video_ns: u64,
    last_keyframe_request_ns: u64,
    /// Something is missing that may have to be asked for.
    pub nack_pending: bool,
}

impl Viewer {
    /// Takes over a session.
    ///
    /// # Errors
    /// [`SrtpError`] when the keys do not fit their profile.
    pub fn new(id: u64, session: Session) -> Result<(Self, Vec<Vec<u8>>), SrtpError> {
        let material = session.keys.material()?;
        let profile = session.keys.profile();
        let oracle = id
            .is_multiple_of(ORACLE_VIEWERS)
            .then(|| oracle(profile, session.keys.remote_parts()))
            .flatten();
        let viewer = Self {
            id,
            socket: session.socket,
            remote: session.remote,
            ice: session.ice,
            opener: Opener::new(profile, &material.remote)?,
            rtcp: RtcpSession::new(profile, &material.local, &material.remote)?,
            oracle,
            answer: session.answer,
            streams: Vec::new(),
            posted_ns: session.posted_ns,
            joined: false,
            picture: false,
            last_audio_ns: 0,
            last_video_ns: 0,
            last_keyframe_request_ns: 0,
            nack_pending: false,
        };
        Ok((viewer, session.early))
    }

    /// Its socket, to wait for.
    #[must_use]
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// What only the viewer knows: adds it to `totals`.
    pub fn add_to(&self, totals: &mut Totals, now_ns: u64) {
        totals.viewers += 1;
        totals.joined += u64::from(self.joined);
        totals.silent += u64::from(self.joined && self.is_silent(now_ns));
        totals.expired += u64::from(self.ice.has_expired(now_ns / 1000));
        totals.counts = totals.counts.plus(self.expectations());
    }

    /// Whether sound or picture, of those it negotiated, has stopped.
    fn is_silent(&self, now_ns: u64) -> bool {
        let mut formats = self.answer.formats.iter();
        formats.any(|(_, format)| {
            let last_ns = match format {
                Format::Audio => self.last_audio_ns,
                Format::Video(_) => self.last_video_ns,
                Format::Rtx(_) => return false,
            };
            now_ns > last_ns + SILENT_NS
        })
    }

    /// What it expected and what of that it got, over its streams.
    #[must_use]
    pub fn expectations(&self) -> Counts {
        let media = self
            .streams
            .iter()
            .filter(|s| !matches!(s.format, Format::Rtx(_)));
        media.fold(Counts::default(), |sum, stream| Counts {
            expected: sum.expected + stream.expected(),
            packets: sum.packets + stream.unique,
            ..sum
        })
    }

    /// Handles one datagram.
    pub fn receive(&mut self, now_ns: u64, datagram: &[u8], lent: &mut Lent<'_>) {
        match Kind::of(datagram) {
            Kind::Rtp => {
                if self.rtp(now_ns, datagram, lent).is_none() {
                    lent.tally.counts.unknown += 1;
                }
            }
            Kind::Rtcp => self.control(now_ns, datagram),
            Kind::Stun => {
                if let Some(answer) = self.ice.handle(now_ns / 1000, self.remote, datagram) {
                    self.send(&answer);
                }
            }
            // An alert at the end, or a repeated flight.
            Kind::Dtls => {}
            _ => lent.tally.counts.unknown += 1,
        }
    }

    fn rtp(&mut self, now_ns: u64, datagram: &[u8], lent: &mut Lent<'_>) -> Option<()> {
        let header = RtpHeader::parse(datagram).ok()?;
        let place = self.stream(&header)?;
        let stream = &mut self.streams[place];
        let counts = &mut lent.tally.counts;
        let index = stream.window.estimate(header.sequence_number);
        match stream.window.check(index) {
            Ok(()) => {}
            Err(SrtpError::Replayed) => {
                counts.duplicates += 1;
                return Some(());
            }
            Err(_) => {
                counts.too_old += 1;
                return Some(());
            }
        }
        let retransmission = matches!(stream.format, Format::Rtx(_));
        let sampled = stream.unique.is_multiple_of(SAMPLE);
        let leap = stream
            .window
            .highest()
            .is_some_and(|highest| index > highest + LEAP);
        let all = !self.picture || lent.verify == Verify::All;
        let verified = retransmission || sampled || leap || all;
        if verified && !self.verify(now_ns, place, index, &header, datagram, lent) {
            return Some(());
        }
        let stream = &mut self.streams[place];
        if stream.window.highest().is_none() {
            stream.first = index;
        }
        let in_order = stream
            .window
            .highest()
            .is_none_or(|highest| index > highest);
        stream.window.accept(index);
        if retransmission {
            return Some(());
        }
        let counts = &mut lent.tally.counts;
        counts.reordered += u64::from(!in_order);
        counts.bytes += datagram.len() as u64;
        stream.unique += 1;
        match stream.format {
            Format::Audio => self.last_audio_ns = now_ns,
            _ => self.last_video_ns = now_ns,
        }
        let now_us = now_ns / 1000;
        stream
            .statistics
            .on_packet(header.sequence_number, header.timestamp, now_us);
        if let Some(nack) = &mut stream.nack {
            nack.on_packet(index, now_us);
            self.nack_pending |= nack.missing() > 0;
        }
        Some(())
    }

    /// The stream of a packet. An SSRC not seen before is known by its payload type.
    fn stream(&mut self, header: &RtpHeader) -> Option<usize> {
        if let Some(place) = self.streams.iter().position(|s| s.ssrc == header.ssrc) {
            return Some(place);
        }
        let format = self.answer.format(header.payload_type)?;
        if self.streams.len() >= MAX_STREAMS {
            return None;
        }
        let has_rtx = |video: u8| {
            let mut formats = self.answer.formats.iter();
            formats.any(|(_, format)| *format == Format::Rtx(video))
        };
        let nack = matches!(format, Format::Video(_)) && has_rtx(header.payload_type);
        let clock_rate_hz = if format == Format::Audio {
            48_000
        } else {
            90_000
        };
        self.streams.push(Stream {
            ssrc: header.ssrc,
            format,
            window: ReplayWindow::new(),
            first: 0,
            unique: 0,
            statistics: ReceptionStatistics::new(clock_rate_hz),
            nack: nack.then(NackTracker::new),
        });
        Some(self.streams.len() - 1)
    }

    /// Decrypts a packet and looks at its content. Whether it is authentic.
    fn verify(
        &mut self,
        now_ns: u64,
        place: usize,
        index: u64,
        header: &RtpHeader,
        datagram: &[u8],
        lent: &mut Lent<'_>,
    ) -> bool {
        let opened = self
            .opener
            .open(index, header.header_len, datagram, &mut lent.scratch[..]);
        let Ok(len) = opened else {
            lent.tally.counts.auth_failures += 1;
            return false;
        };
        let plain = &lent.scratch[..len];
        if let Some(oracle) = &mut self.oracle {
            let agrees = oracle
                .decrypt_rtp(datagram)
                .is_ok_and(|other| other == plain);
            let counts = &mut lent.tally.counts;
            counts.oracle_agreed += u64::from(agrees);
            counts.oracle_disagreed += u64::from(!agrees);
        }
        let payload = &plain[header.header_len..];
        let padding = match header.padding {
            true => padding_len(payload).unwrap_or(0),
            false => 0,
        };
        let payload = &payload[..payload.len() - padding];
        if payload.is_empty() {
            // Padding alone, as probes are.
            return true;
        }
        let format = self.streams[place].format;
        match stamp::check(payload) {
            Check::Whole(stamp) => {
                lent.tally.counts.verified += 1;
                let age_ns = now_ns.saturating_sub(stamp.sent_ns);
                record_us(&mut lent.tally.latency_us, age_ns / 1000);
            }
            Check::Corrupt => lent.tally.counts.corrupt += 1,
            Check::Absent => lent.tally.counts.unstamped += 1,
        }
        match format {
            Format::Rtx(media) => {
                let original = payload.first_chunk::<2>().copied();
                let counts = &mut lent.tally.counts;
                let source = self.streams[place].ssrc;
                if let Some(original) = original {
                    self.recover(now_ns, (source, media), original, counts);
                }
            }
            Format::Video(codec) if !self.picture => {
                self.picture = is_keyframe_start(codec.codec(), payload);
                if self.picture {
                    let us = now_ns.saturating_sub(self.posted_ns) / 1000;
                    record_us(&mut lent.tally.picture_us, us);
                }
            }
            _ => {}
        }
        if !self.joined {
            self.joined = true;
            let us = now_ns.saturating_sub(self.posted_ns) / 1000;
            record_us(&mut lent.tally.join_us, us);
        }
        true
    }

    // RFC 4588 4: the original sequence number precedes the payload.
    fn recover(
        &mut self,
        now_ns: u64,
        (source, media): (u32, u8),
        original: [u8; 2],
        counts: &mut Counts,
    ) {
        let sequence_number = u16::from_be_bytes(original);
        let format = self.answer.format(media);
        let mut repairs = self.answer.repairs.iter();
        let repaired = repairs.find(|(repair, _)| *repair == source);
        let stream = self.streams.iter_mut().find(|stream| match repaired {
            Some((_, media)) => stream.ssrc == *media,
            None => Some(stream.format) == format,
        });
        let Some(stream) = stream else {
            return;
        };
        let index = stream.window.estimate(sequence_number);
        match stream.window.check(index) {
            // Behind what was received, or it would not have been missed.
            Ok(())
                if stream
                    .window
                    .highest()
                    .is_some_and(|highest| index < highest) =>
            {
                stream.window.accept(index);
                stream.unique += 1;
                counts.recovered += 1;
                if let Some(nack) = &mut stream.nack {
                    nack.on_packet(index, now_ns / 1000);
                }
            }
            Ok(()) => {}
            Err(_) => counts.duplicates += 1,
        }
    }

    fn control(&mut self, now_ns: u64, datagram: &[u8]) {
        let Ok(plain) = self.rtcp.open(datagram) else {
            return;
        };
        for packet in Compound::new(&plain).flatten() {
            if let RtcpPacket::SenderReport(report) = packet {
                let ssrc = report.info.ssrc;
                if let Some(stream) = self.streams.iter_mut().find(|s| s.ssrc == ssrc) {
                    stream
                        .statistics
                        .on_sender_report(&report.info, now_ns / 1000);
                }
            }
        }
    }

    /// Once a second: receiver report, consent, and a keyframe request while there is no picture.
    pub fn report(&mut self, now_ns: u64) {
        let now_us = now_ns / 1000;
        if let Some(request) = self.ice.poll(now_us) {
            self.send(&request);
        }
        let mut blocks = Vec::with_capacity(self.streams.len());
        for stream in &mut self.streams {
            blocks.extend(stream.statistics.report_block(stream.ssrc, now_us));
        }
        let video = self
            .streams
            .iter()
            .find(|s| matches!(s.format, Format::Video(_)));
        blocks.truncate(MAX_REPORTED);
        let mut out = [0; 1024];
        let mut writer = RtcpWriter::new(&mut out);
        let mut written = writer.receiver_report(RECEIVER_SSRC, &blocks);
        if let Some(video) = video
            && !self.picture
            && now_ns > self.last_keyframe_request_ns + KEYFRAME_REQUEST_NS
        {
            self.last_keyframe_request_ns = now_ns;
            written = written.and_then(|()| writer.pli(RECEIVER_SSRC, video.ssrc));
        }
        if written.is_ok()
            && let Ok(sealed) = self.rtcp.seal(writer.as_bytes())
        {
            self.send(&sealed);
        }
    }

    /// Asks for what is missing, if it is time. Whether more may have to be asked for.
    pub fn request_missing(&mut self, now_ns: u64, counts: &mut Counts) -> bool {
        self.nack_pending = false;
        let mut sequence_numbers = [0; MAX_NACK];
        for place in 0..self.streams.len() {
            let stream = &mut self.streams[place];
            let Some(nack) = &mut stream.nack else {
                continue;
            };
            let missing = nack.poll(now_ns / 1000, &mut sequence_numbers);
            self.nack_pending |= nack.missing() > 0;
            if missing.is_empty() {
                continue;
            }
            counts.nacked += missing.len() as u64;
            let mut out = [0; 512];
            let mut writer = RtcpWriter::new(&mut out);
            // RFC 4585 3.1: feedback goes in a compound that starts with a report.
            let written = writer
                .receiver_report(RECEIVER_SSRC, &[])
                .and_then(|()| writer.nack(RECEIVER_SSRC, stream.ssrc, missing));
            if written.is_ok()
                && let Ok(sealed) = self.rtcp.seal(writer.as_bytes())
            {
                self.send(&sealed);
            }
        }
        self.nack_pending
    }

    fn send(&self, datagram: &[u8]) {
        // Lost here is lost on the way: everything that is sent is repeated.
        let _ = self.socket.send(datagram);
    }
}

/// An independent implementation to decrypt the same packets.
fn oracle(profile: Profile, (key, salt): (&[u8], &[u8])) -> Option<Box<Oracle>> {
    let profile = match profile {
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Oracle::new(key, salt, profile, None, None)
        .ok()
        .map(Box::new)
}

#[cfg(test)]
mod tests;
