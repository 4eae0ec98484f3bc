//! RTCP from peers: viewers' feedback about what we send, publishers' reports about what they
//! send.

use crate::counters::DropReason;
use crate::event::Event;
use crate::io::Tx;
use crate::packet::rtcp::{Compound, ReportBlock, RtcpPacket, SenderInfo};
use crate::route::clock::SenderClock;
use crate::shard::core::Core;
use crate::shard::links::Message;
use crate::shard::outgoing::Attachment;

impl Core {
    /// Opens an SRTCP packet and acts on all it says.
    pub(crate) fn rtcp<T: Tx>(&mut self, place: u32, bytes: &[u8], tx: &mut T) {
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        let Some(incoming) = &mut transport.incoming else {
            return self.count_for(place, DropReason::NoKeys);
        };
        let Ok(plain) = incoming.rtcp.open(bytes) else {
            return self.count_for(place, DropReason::SrtcpAuthentication);
        };
        transport.rtcp_received += 1;
        for packet in Compound::new(&plain) {
            match packet {
                Ok(packet) => self.rtcp_packet(place, &packet, tx),
                Err(_) => self.count_for(place, DropReason::RtcpMalformed),
            }
        }
    }

    fn rtcp_packet<T: Tx>(&mut self, place: u32, packet: &RtcpPacket<'_>, tx: &mut T) {
        match packet {
            RtcpPacket::SenderReport(report) => {
                self.sender_report(place, &report.info);
                report
                    .report_blocks()
                    .for_each(|block| self.report_block(place, &block));
            }
            RtcpPacket::ReceiverReport(report) => {
                report
                    .report_blocks()
                    .for_each(|block| self.report_block(place, &block));
            }
            RtcpPacket::Nack(nack) => {
                if let Some(track) = self.outgoing_by_ssrc(place, nack.media_ssrc) {
                    self.repair(track, nack.sequence_numbers(), tx);
                }
            }
            RtcpPacket::Pli(pli) => self.keyframe_request(place, pli.media_ssrc),
            RtcpPacket::Fir(fir) => {
                fir.entries()
                    .for_each(|entry| self.keyframe_request(place, entry.ssrc));
            }
            RtcpPacket::Remb(remb) => self.remb(place, remb.bitrate_bps),
            RtcpPacket::TransportCc(feedback) => self.transport_cc(place, feedback),
            RtcpPacket::Bye(bye) => bye.ssrcs().for_each(|ssrc| self.bye(place, ssrc)),
            _ => {}
        }
    }

    fn sender_report(&mut self, place: u32, info: &SenderInfo) {
        let now_us = self.now_us;
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        let stream = transport
            .streams
            .iter()
            .find(|s| s.ssrc == info.ssrc && !s.rtx);
        let Some(stream) = stream else { return };
        let source = &mut transport.tracks[stream.track].sources[stream.encoding];
        // A late report of an SSRC that was given up tells another clock.
        if source.ssrc != Some(info.ssrc) {
            return;
        }
        let clock = source.sender_report(info, now_us);
        let rendition = source.rendition;
        self.note_clock(rendition, clock);
    }

    /// Takes over the clock of a rendition's source, here and wherever the rendition is served.
    pub(crate) fn note_clock(&mut self, place: u32, clock: SenderClock) {
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        let id = rendition.spec.id;
        rendition.clock = Some(clock);
        for shard in &rendition.exports {
            if !self.links.tell_shard(*shard, Message::Clock(id, clock)) {
                self.drops.count(DropReason::ShardRingFull);
            }
        }
        if !rendition.taps.is_empty() {
            rendition
                .taps
                .iter_mut()
                .for_each(|tap| tap.tell_clock(clock));
            self.note_tapped(place);
        }
        for at in 0.. {
            let layered = self
                .renditions
                .get(place)
                .and_then(|one| one.layered.get(at));
            let Some(made) = layered.map(|layered| layered.place) else {
                break;
            };
            self.note_clock(made, clock);
        }
    }

    /// Place of the outgoing track that is sent under this SSRC.
    fn outgoing_by_ssrc(&self, place: u32, ssrc: u32) -> Option<u32> {
        let transport = self.transports.get(place)?;
        transport.outgoing.iter().copied().find(|track| {
            self.outgoing
                .get(*track)
                .is_some_and(|outgoing| outgoing.spec.ssrc == ssrc)
        })
    }

    fn report_block(&mut self, place: u32, block: &ReportBlock) {
        let Some(track) = self.outgoing_by_ssrc(place, block.ssrc) else {
            return;
        };
        let now_us = self.now_us;
        let Some(outgoing) = self.outgoing.get_mut(track) else {
            return;
        };
        outgoing.report.packets_lost = block.cumulative_lost.max(0).cast_unsigned().into();
        outgoing.report.jitter = block.jitter;
        if let Attachment::Attached { rendition, place } = outgoing.attachment
            && let Some(rendition) = self.renditions.get_mut(rendition)
        {
            rendition.viewers[place].fraction_lost = block.fraction_lost;
        }
        let rtt_us = outgoing.reported.and_then(|reported| {
            // RFC 3550 6.4.1: the middle 32 bits name the report that is answered. Its clock is a
            // publisher's and may have jumped since, so only the time passed is taken from ours.
            let answered = (reported.ntp >> 16) as u32 == block.last_sr;
            answered.then_some(block.round_trip_us(reported.at(now_us, 1).0))?
        });
        if let (Some(rtt_us), Some(transport)) = (rtt_us, self.transports.get_mut(place)) {
            transport.rtt_us = u64::from(rtt_us);
        }
    }

    fn keyframe_request(&mut self, place: u32, ssrc: u32) {
        let Some(track) = self.outgoing_by_ssrc(place, ssrc) else {
            return;
        };
        let Some(outgoing) = self.outgoing.get_mut(track) else {
            return;
        };
        outgoing.keyframe_requests += 1;
        if let Attachment::Attached { rendition, place } = outgoing.attachment
            && let Some(rendition) = self.renditions.get_mut(rendition)
        {
            rendition.keyframe_wanted(place);
        }
    }

    fn remb(&mut self, place: u32, bitrate_bps: u64) {
        let Some(transport) = self.transports.get(place) else {
            return;
        };
        for track in &transport.outgoing {
            if let Some(outgoing) = self.outgoing.get_mut(*track) {
                outgoing.report.remb_bps = bitrate_bps;
            }
        }
        self.note_remb(place, bitrate_bps);
    }

    fn bye(&mut self, place: u32, ssrc: u32) {
        let Some(transport) = self.transports.get(place) else {
            return;
        };
        let stream = transport.streams.iter().find(|s| s.ssrc == ssrc && !s.rtx);
        let Some(stream) = stream else { return };
        let source = &transport.tracks[stream.track].sources[stream.encoding];
        if source.ssrc == Some(ssrc) {
            let event = Event::Bye(transport.id, source.spec.rendition);
            // Nothing depends on it: a publisher that has gone falls silent.
            let _ = self.tell_for(place, event);
        }
    }
}
