//! From a datagram to a routed packet: sort by protocol, open, find out which track it belongs
//! to, pass on.

use std::net::SocketAddr;

use crate::command::IncomingCodec;
use crate::counters::DropReason;
use crate::event::Event;
use crate::io::{Datagram, Tx};
use crate::limits::{MAX_SSRCS_PER_TRANSPORT, SLOT_BYTES};
use crate::packet::Kind;
use crate::packet::extension::{Extension, Extensions};
use crate::packet::layers_allocation;
use crate::packet::red;
use crate::packet::rtp::{RtpHeader, padding_len};
use crate::pool::{PacketMut, Slot};
use crate::route::source::{Activity, Received};
use crate::shard::core::Core;
use crate::shard::transport::{IncomingTrack, ReceiveStream, Transport};
use crate::srtp::{ReplayWindow, SrtpError};

/// How long an SSRC must have been silent to give its place to another.
const SSRC_IDLE_US: u64 = 10_000_000;

impl Core {
    /// Handles one received datagram or train.
    pub(crate) fn receive<T: Tx>(&mut self, mut datagram: Datagram<'_>, tx: &mut T) {
        let (source, received_us) = (datagram.source, datagram.received_us);
        self.unpublished = true;
        for segment in datagram.segments_mut() {
            self.tally.datagrams_received += 1;
            self.receive_one(source, received_us, segment, tx);
        }
    }

    fn receive_one<T: Tx>(
        &mut self,
        source: SocketAddr,
        received_us: u64,
        bytes: &mut [u8],
        tx: &mut T,
    ) {
        let kind = Kind::of(bytes);
        if bytes.len() > SLOT_BYTES {
            return self.count(DropReason::TooLong);
        }
        if kind == Kind::Stun {
            return self.stun(source, bytes, tx);
        }
        if !matches!(kind, Kind::Dtls | Kind::Rtp | Kind::Rtcp) {
            return self.count(DropReason::NotForUs);
        }
        let Some(place) = self.by_address.get(&source).copied() else {
            return self.count(DropReason::UnknownAddress);
        };
        match kind {
            Kind::Dtls => self.dtls(place, bytes),
            Kind::Rtcp => self.rtcp(place, bytes, tx),
            _ => {
                if let Err(reason) = self.rtp(place, received_us, bytes, tx) {
                    self.count_for(place, reason);
                }
            }
        }
    }

    fn dtls(&mut self, place: u32, bytes: &[u8]) {
        let now_us = self.now_us;
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        let id = transport.id;
        if !transport.dtls.take(now_us) {
            return self.count_for(place, DropReason::RateLimited);
        }
        match self.copy(bytes) {
            Some(slot) => self.tell_or_drop(Event::Dtls(id, slot.share())),
            None => self.count(DropReason::PoolExhausted),
        }
    }

    /// Bytes for the control plane.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Option<PacketMut> {
        let mut slot = self.links.pool.take()?;
        slot.buffer_mut()[..bytes.len()].copy_from_slice(bytes);
        slot.set_len(bytes.len());
        Some(slot)
    }

    fn rtp<T: Tx>(
        &mut self,
        place: u32,
        received_us: u64,
        bytes: &[u8],
        tx: &mut T,
    ) -> Result<(), DropReason> {
        let now_us = self.now_us;
        let header = RtpHeader::parse(bytes).map_err(|_| DropReason::RtpMalformed)?;
        let mut slot = self.links.pool.take().ok_or(DropReason::PoolExhausted)?;
        let transport = self
            .transports
            .get_mut(place)
            .ok_or(DropReason::UnknownAddress)?;
        let stream = transport.open(&header, bytes, &mut slot, now_us)?;
        transport.packets_received += 1;
        transport.bytes_received += bytes.len() as u64;
        let (track, encoding) = (stream.track, stream.encoding);
        let activity = transport.admit(&header, stream, &mut slot, received_us)?;
        let source = &transport.tracks[track].sources[encoding];
        let rendition = source.spec.rendition;
        let rendition_place = source.rendition;
        self.tally.packets_routed += 1;
        let packet = slot.share();
        let codec = activity.and_then(|activity| match activity {
            Activity::Active(position) => {
                let rendition = self.renditions.get(rendition_place)?;
                rendition.codec(position).map(|codec| codec.codec)
            }
            Activity::Inactive => None,
        });
        if let Some(codec) = codec
            && !self.tell_for(place, Event::RenditionActive(rendition, codec))
            && let Some(source) = self.source_mut(&rendition)
        {
            source.tell_activity_again();
        }
        self.route_layered(rendition_place, packet, received_us, tx);
        Ok(())
    }
}

/// Which of the peer's streams an opened packet belongs to.
#[derive(Debug, Clone, Copy)]
struct Opened {
    track: usize,
    encoding: usize,
    rtx: bool,
}

impl Transport {
    /// Authenticates and decrypts a packet into a slot, and finds its stream.
    fn open(
        &mut self,
        header: &RtpHeader,
        bytes: &[u8],
        slot: &mut Slot,
        now_us: u64,
    ) -> Result<Opened, DropReason> {
        let incoming = self.incoming.as_ref().ok_or(DropReason::NoKeys)?;
        let known = self
            .streams
            .iter_mut()
            .find(|stream| stream.ssrc == header.ssrc);
        let unknown = known.is_none();
        if unknown && !self.unknown_ssrcs.take(now_us) {
            return Err(DropReason::UnknownSsrc);
        }
        let mut fresh = ReplayWindow::new();
        let replay = match known {
            Some(stream) => &mut stream.replay,
            None => &mut fresh,
        };
        let index = replay.estimate(header.sequence_number);
        replay.check(index).map_err(refusal)?;
        let len = incoming
            .opener
            .open(index, header.header_len, bytes, slot.buffer_mut())
            .map_err(refusal)?;
        slot.set_len(len);
        replay.accept(index);
        if unknown {
            self.bind(header, slot.bytes(), fresh, now_us)?;
        }
        let stream = self
            .streams
            .iter_mut()
            .find(|stream| stream.ssrc == header.ssrc);
        let stream = stream.ok_or(DropReason::UnknownSsrc)?;
        stream.last_packet_us = now_us;
        let opened = Opened {
            track: stream.track,
            encoding: stream.encoding,
            rtx: stream.rtx,
        };
        if !opened.rtx {
            let source = &mut self.tracks[opened.track].sources[opened.encoding];
            source.resume(header.ssrc, header.sequence_number, now_us)?;
            self.media_ssrc = header.ssrc;
        }
        Ok(opened)
    }

    /// Finds the track of an SSRC that was not received before.
    fn bind(
        &mut self,
        header: &RtpHeader,
        packet: &[u8],
        replay: ReplayWindow,
        now_us: u64,
    ) -> Result<(), DropReason> {
        let (track, encoding, rtx) = self
            .identify(header, packet)
            .ok_or(DropReason::UnknownSsrc)?;
        if self.streams.len() >= MAX_SSRCS_PER_TRANSPORT {
            let idle = self
                .streams
                .iter()
                .position(|stream| now_us > stream.last_packet_us + SSRC_IDLE_US)
                .ok_or(DropReason::UnknownSsrc)?;
            self.streams.swap_remove(idle);
        }
        if !rtx {
            let source = &mut self.tracks[track].sources[encoding];
            source.rebind(header.ssrc, header.sequence_number);
        }
        self.streams.push(ReceiveStream {
            ssrc: header.ssrc,
            replay,
            track,
            encoding,
            rtx,
            last_packet_us: now_us,
        });
        Ok(())
    }

    /// By declared SSRC, then by what the packet says of itself (RFC 9143 9.2, RFC 8852), then by
    /// a payload type that only one track has.
    fn identify(&self, header: &RtpHeader, packet: &[u8]) -> Option<(usize, usize, bool)> {
        let mut by_payload = None;
        let mut candidates = 0;
        for (position, track) in self.tracks.iter().enumerate() {
            if let Some((encoding, rtx)) = track.declared(header.ssrc) {
                return Some((position, encoding, rtx));
            }
            let Some(rtx) = track.is_rtx(header.payload_type) else {
                continue;
            };
            let extensions = Extensions::parse(packet, header, &track.spec.extensions);
            let mid = extensions.get(packet, Extension::Mid);
            if mid.is_some_and(|mid| mid != track.spec.mid.as_bytes()) {
                continue;
            }
            let found = track
                .encoding_of(packet, &extensions, rtx)
                .map(|place| (position, place, rtx));
            if mid.is_some() {
                return found;
            }
            candidates += 1;
            by_payload = found;
        }
        by_payload.filter(|_| candidates == 1)
    }

    /// Fills in what routing needs to know and lets the source judge the packet.
    fn admit(
        &mut self,
        header: &RtpHeader,
        stream: Opened,
        slot: &mut Slot,
        received_us: u64,
    ) -> Result<Option<Activity>, DropReason> {
        let track = &mut self.tracks[stream.track];
        let extensions = Extensions::parse(slot.bytes(), header, &track.spec.extensions);
        let transport_cc = extensions.transport_wide_cc(slot.bytes());
        if let (Some(recorder), Some(number)) = (&mut self.twcc, transport_cc) {
            recorder.record(number, received_us);
        }
        // Only with keyframes and changes, of tracks with several encodings.
        if let Some(told) = extensions.get(slot.bytes(), Extension::VideoLayersAllocation)
            && let Some(targets_bps) = layers_allocation::targets_bps(told)
        {
            track.targets_bps = targets_bps;
        }
        let mut payload = header.header_len..slot.bytes().len();
        if header.padding {
            let padding = padding_len(&slot.bytes()[payload.clone()]);
            payload.end -= padding.map_err(|_| DropReason::RtpMalformed)?;
        }
        let mut sequence_number = header.sequence_number;
        if stream.rtx {
            // RFC 4588 4: the original sequence number, then the original payload.
            let original = slot.bytes()[payload.clone()].first_chunk::<2>();
            // A retransmission of nothing is a bandwidth probe.
            sequence_number = u16::from_be_bytes(*original.ok_or(DropReason::Padding)?);
            payload.start += 2;
        }
        let position = track
            .codec_position(header.payload_type, stream.rtx)
            .ok_or(DropReason::UnknownPayloadType)?;
        let codec = track.spec.codecs[position];
        slot.info.redundancy_len = 0;
        if codec.red_payload_type == Some(header.payload_type) && !stream.rtx {
            let redundant = red::parse(&slot.bytes()[payload.clone()], codec.payload_type);
            let redundant = redundant.ok_or(DropReason::RtpMalformed)?;
            payload.start += redundant.primary_start;
            slot.info.redundancy_len = redundant.primary_start as u16;
        }
        slot.info.timestamp = header.timestamp;
        slot.info.marker = header.marker;
        slot.info.payload_start = payload.start as u16;
        slot.info.payload_len = payload.len() as u16;
        slot.info.extensions = extensions;
        let received = Received {
            sequence_number,
            codec: position as u8,
            restored: stream.rtx,
            received_us,
        };
        track.sources[stream.encoding].admit(slot, &codec, received)
    }
}

impl IncomingTrack {
    fn declared(&self, ssrc: u32) -> Option<(usize, bool)> {
        self.sources.iter().enumerate().find_map(|(place, source)| {
            let rtx = source.spec.rtx_ssrc == Some(ssrc);
            (rtx || source.spec.ssrc == Some(ssrc)).then_some((place, rtx))
        })
    }

    /// Whether a payload type is one of the track's for retransmission (`true`) or media.
    fn is_rtx(&self, payload_type: u8) -> Option<bool> {
        self.spec.codecs.iter().find_map(|codec| {
            let rtx = codec.rtx_payload_type == Some(payload_type);
            (rtx || codec.bears(payload_type)).then_some(rtx)
        })
    }

    /// The encoding a packet says it belongs to; the only one if there is just one.
    fn encoding_of(&self, packet: &[u8], extensions: &Extensions, rtx: bool) -> Option<usize> {
        // RFC 8852 3: a retransmission may have a stream id of its own beside the one it repairs.
        let repaired = extensions.get(packet, Extension::RepairedRid);
        let rid = extensions.get(packet, Extension::Rid);
        let rid = if rtx { repaired.or(rid) } else { rid };
        match rid {
            Some(rid) => self.sources.iter().position(|source| {
                source
                    .spec
                    .rid
                    .as_ref()
                    .is_some_and(|known| known.as_bytes() == rid)
            }),
            None => (self.sources.len() == 1).then_some(0),
        }
    }

    fn codec_position(&self, payload_type: u8, rtx: bool) -> Option<usize> {
        self.spec.codecs.iter().position(|codec| match rtx {
            true => codec.rtx_payload_type == Some(payload_type),
            false => codec.bears(payload_type),
        })
    }
}

impl IncomingCodec {
    /// Whether this is the payload type of its media, plain or redundant.
    fn bears(&self, payload_type: u8) -> bool {
        self.payload_type == payload_type || self.red_payload_type == Some(payload_type)
    }
}

fn refusal(error: SrtpError) -> DropReason {
    match error {
        SrtpError::Replayed => DropReason::SrtpReplayed,
        SrtpError::TooOld => DropReason::SrtpTooOld,
        SrtpError::TooShort { .. } => DropReason::RtpMalformed,
        _ => DropReason::SrtpAuthentication,
    }
}
