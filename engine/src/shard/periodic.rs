//! What is done by the clock: feedback to publishers every tick, and once a second for each
//! transport its reports, its consent and its published counts.

use crate::counters::DropReason;
use crate::event::Event;
use crate::io::Tx;
use crate::limits::{
    CATCH_UP_INTERVAL_US, MAX_RTCP_BYTES, SWEEP_ROUNDS, TICK_US, TWCC_INTERVAL_US,
};
use crate::packet::rtcp::{FirEntry, SenderInfo};
use crate::packet::rtcp_write::RtcpWriter;
use crate::route::clock::SenderClock;
use crate::route::source::{Activity, Source};
use crate::route::viewer::Stage;
use crate::shard::core::Core;
use crate::shard::links::Message;
use crate::shard::outgoing::Attachment;
use crate::shard::peer::Peer;
use crate::shard::transport::Transport;

/// Sequence numbers in one NACK round of one source; what is left waits for the next tick.
const NACKS_PER_TICK: usize = 64;

const TWCC_ROUNDS: u64 = TWCC_INTERVAL_US / TICK_US;

impl Core {
    /// One round of periodic work.
    pub(crate) fn tick<T: Tx>(&mut self, tx: &mut T) {
        self.round += 1;
        self.tend_renditions();
        self.tend_producers(tx);
        self.bound_caches();
        for position in 0..self.publishers.len() {
            let place = self.publishers[position];
            self.listen(place);
            self.publisher_feedback(place, tx);
        }
        let mut place = (self.round % SWEEP_ROUNDS) as u32;
        while place < self.transports.end() {
            self.sweep(place, tx);
            place += SWEEP_ROUNDS as u32;
        }
        self.flush_events();
        self.publish();
    }

    /// Lets go of packets nobody asks for any more, and takes the viewers' wishes for keyframes to
    /// the sources, here or on another shard.
    fn tend_renditions(&mut self) {
        for place in 0..self.renditions.end() {
            let Some(rendition) = self.renditions.get_mut(place) else {
                continue;
            };
            rendition.expire_packets(self.now_us);
            if self.round % SWEEP_ROUNDS == u64::from(place) % SWEEP_ROUNDS {
                rendition.publish_served();
            }
            if !rendition.taps.is_empty() {
                self.tend_taps(place);
            }
            self.end_waits(place);
            let Some(rendition) = self.renditions.get_mut(place) else {
                continue;
            };
            if rendition.has_newcomers() && !self.newcomers.contains(&place) {
                if self.newcomers.is_empty() {
                    self.catch_up_due_us = self.now_us + CATCH_UP_INTERVAL_US;
                }
                self.newcomers.push(place);
            }
            if rendition.viewers.is_empty() && rendition.changing.is_empty() {
                rendition.keyframes.unwanted();
            }
            if !rendition.keyframes.due(self.now_us) {
                continue;
            }
            if rendition.waits_for_keyframe() {
                rendition.keyframes.want();
            }
            let (id, home) = (rendition.spec.id, rendition.spec.home);
            if home != self.links.id {
                self.tell_shard(home, Message::KeyframeRequest(id));
            } else if let Some(source) = self.source_mut(&id) {
                source.keyframes.want_once();
            }
        }
    }

    /// NACKs, keyframe requests and transport-wide feedback, as far as any is due.
    fn publisher_feedback<T: Tx>(&mut self, place: u32, tx: &mut T) {
        let now_us = self.now_us;
        let twcc = self.round.is_multiple_of(TWCC_ROUNDS);
        let asks_anew = self.tend_demand(place);
        let mut buffer = [0; MAX_RTCP_BYTES];
        let mut writer = RtcpWriter::new(&mut buffer);
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        let mut written = transport.write_feedback(&mut writer, now_us, twcc);
        written |= asks_anew && transport.write_remb(&mut writer);
        if written {
            let len = writer.len();
            self.send_rtcp(place, &buffer[..len], tx);
        }
    }

    /// Seals and sends an RTCP compound.
    pub(crate) fn send_rtcp<T: Tx>(&mut self, place: u32, plain: &[u8], tx: &mut T) {
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        let destination = self.peers.get(place as usize).and_then(Peer::ready);
        let (Some(incoming), Some((address, _))) = (&mut transport.incoming, destination) else {
            return;
        };
        match incoming.rtcp.seal(plain) {
            Ok(sealed) => {
                tx.reserve(sealed.len()).copy_from_slice(&sealed);
                tx.commit(address, sealed.len(), None);
            }
            Err(_) => self.count_for(place, DropReason::SealFailed),
        }
    }

    /// What each transport gets once a second.
    fn sweep<T: Tx>(&mut self, place: u32, tx: &mut T) {
        let now_us = self.now_us;
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        let id = transport.id;
        let consent_ends_us = transport.ice.last_check_us;
        let consent_ends_us = consent_ends_us.saturating_add(transport.consent_timeout_us);
        if now_us >= consent_ends_us && !transport.ice.expired {
            // RFC 7675 5.1: nothing more is sent to a peer whose consent has expired.
            self.set_destination(place, None);
            let told = self.tell(Event::ConsentExpired(id));
            if let Some(transport) = self.transports.get_mut(place) {
                transport.ice.expired = told;
            }
        }
        self.tell_address(place);
        self.sender_reports(place, tx);
        self.receiver_report(place, tx);
        self.tend_estimate(place, tx);
        let Some(transport) = self.transports.get(place) else {
            return;
        };
        if let Some(peer) = self.peers.get(place as usize) {
            transport.publish(peer.packets_sent, peer.bytes_sent);
        }
    }

    /// Reports to a viewer, and publishes its tracks' counts.
    fn sender_reports<T: Tx>(&mut self, place: u32, tx: &mut T) {
        let now_us = self.now_us;
        let mut buffer = [0; MAX_RTCP_BYTES];
        let mut writer = RtcpWriter::new(&mut buffer);
        let Some(transport) = self.transports.get(place) else {
            return;
        };
        // With more tracks than one packet has room for, each round begins with another one.
        let tracks = &transport.outgoing;
        let first = (self.round / SWEEP_ROUNDS) as usize % tracks.len().max(1);
        for track in tracks[first..].iter().chain(&tracks[..first]) {
            let Some(outgoing) = self.outgoing.get_mut(*track) else {
                continue;
            };
            let Attachment::Attached { rendition, place } = outgoing.attachment else {
                continue;
            };
            let Some(rendition) = self.renditions.get_mut(rendition) else {
                continue;
            };
            rendition.forget_squeeze(place, now_us);
            let viewer = &rendition.viewers[place];
            let clock_rate = rendition.current_clock_rate();
            outgoing.publish(viewer, clock_rate);
            // To one who catches up, the clock would tell that the picture is late, and its sound
            // would be delayed to match.
            if viewer.stage != Stage::Live || viewer.packets == 0 {
                continue;
            }
            let Some(clock) = rendition.sender_clock(now_us) else {
                continue;
            };
            let (ntp, rtp) = clock.at(now_us, clock_rate);
            let info = SenderInfo {
                ssrc: viewer.ssrc,
                ntp_timestamp: ntp,
                rtp_timestamp: viewer.map_timestamp(rtp),
                packet_count: viewer.packets as u32,
                octet_count: viewer.payload_bytes as u32,
            };
            if writer.sender_report(&info, &[]).is_err() {
                continue;
            }
            outgoing.reported = Some(SenderClock {
                ntp,
                rtp,
                at_us: now_us,
            });
            let _ = writer.sdes_cname(viewer.ssrc, transport.cname.as_bytes());
        }
        if !writer.is_empty() {
            let len = writer.len();
            self.send_rtcp(place, &buffer[..len], tx);
        }
    }

    /// Publishes how much is cached of what a publisher sends.
    fn publish_caches(&self, place: u32) {
        let tracks = self.transports.get(place).map(|t| &t.tracks);
        for source in tracks
            .into_iter()
            .flatten()
            .flat_map(|track| &track.sources)
        {
            if let Some(rendition) = self.renditions.get(source.rendition) {
                let cached = rendition.store.cached_packets();
                source.spec.counters.cached_packets.set(cached);
            }
        }
    }

    /// Reports to a publisher, and publishes its tracks' counts.
    fn receiver_report<T: Tx>(&mut self, place: u32, tx: &mut T) {
        let now_us = self.now_us;
        let mut buffer = [0; MAX_RTCP_BYTES];
        let mut writer = RtcpWriter::new(&mut buffer);
        let Some(transport) = self.transports.get_mut(place) else {
            return;
        };
        if transport.tracks.is_empty() {
            return;
        }
        transport.write_report(&mut writer, now_us);
        let silent: Vec<_> = transport
            .sources_mut()
            .filter_map(|source| {
                let silent = source.check_silence(now_us) == Some(Activity::Inactive);
                silent.then_some(source.spec.rendition)
            })
            .collect();
        self.publish_caches(place);
        for rendition in silent {
            if !self.tell(Event::RenditionInactive(rendition))
                && let Some(source) = self.source_mut(&rendition)
            {
                source.tell_silence_again();
            }
        }
        let len = writer.len();
        if len > 0 {
            self.send_rtcp(place, &buffer[..len], tx);
        }
    }
}

impl Transport {
    fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.tracks.iter_mut().flat_map(|track| &mut track.sources)
    }

    /// Writes the feedback that is due; says whether there is any. Each step writes whole packets
    /// or none, so what does not fit is left out and comes with the next tick.
    fn write_feedback(&mut self, writer: &mut RtcpWriter<'_>, now_us: u64, twcc: bool) -> bool {
        let reporter = self.rtcp_ssrc;
        // RFC 3550 6.1: a compound starts with a report.
        let _ = writer.receiver_report(reporter, &[]);
        let empty = writer.len();
        let rtt_us = self.rtt_us;
        for track in &mut self.tracks {
            let feedback = track.spec.feedback;
            for source in &mut track.sources {
                source.publish_levels();
                let Some(ssrc) = source.ssrc else { continue };
                if feedback.nack {
                    let mut missing = [0; NACKS_PER_TICK];
                    let missing = source.missing(now_us, rtt_us, &mut missing);
                    if !missing.is_empty() {
                        let _ = writer.nack(reporter, ssrc, missing);
                    }
                }
                if (feedback.pli || feedback.fir) && source.keyframes.due(now_us) {
                    source.count_keyframe_request();
                    if feedback.pli {
                        let _ = writer.pli(reporter, ssrc);
                    } else {
                        let entry = FirEntry {
                            ssrc,
                            sequence_number: source.fir_sequence,
                        };
                        source.fir_sequence = source.fir_sequence.wrapping_add(1);
                        let _ = writer.fir(reporter, &[entry]);
                    }
                }
            }
        }
        if let Some(recorder) = self.twcc.as_mut().filter(|_| twcc) {
            writer.transport_cc(recorder, reporter, self.media_ssrc);
        }
        writer.len() > empty
    }

    /// Writes the bitrate we ask for, if the publisher knows such packets; says whether.
    fn write_remb(&self, writer: &mut RtcpWriter<'_>) -> bool {
        let tracks = self.tracks.iter().filter(|track| track.spec.feedback.remb);
        let sources = tracks.flat_map(|track| &track.sources);
        let ssrcs: Vec<_> = sources.filter_map(|source| source.ssrc).collect();
        let wanted_bps = self.wanted_bps().unwrap_or(u64::MAX);
        let ask_bps = self.remb.bitrate_bps().min(wanted_bps);
        !ssrcs.is_empty() && writer.remb(self.rtcp_ssrc, ask_bps, &ssrcs).is_ok()
    }

    /// Writes report blocks for all that comes in, and the bitrate we ask for.
    fn write_report(&mut self, writer: &mut RtcpWriter<'_>, now_us: u64) {
        let reporter = self.rtcp_ssrc;
        let mut blocks = Vec::new();
        let (mut ceiling_bps, mut received_bps, mut lost) = (0, 0, 0);
        for track in &mut self.tracks {
            for source in &mut track.sources {
                source.publish(now_us);
                let Some(block) = source.report_block(now_us) else {
                    continue;
                };
                received_bps += source.spec.counters.bitrate_bps.get();
                lost = lost.max(block.fraction_lost);
                blocks.push(block);
                if track.spec.feedback.remb {
                    ceiling_bps = track.spec.max_bitrate_bps;
                }
            }
        }
        if blocks.is_empty() {
            return;
        }
        blocks.truncate(crate::packet::rtcp_write::MAX_COUNT);
        let _ = writer.receiver_report(reporter, &blocks);
        let _ = writer.sdes_cname(reporter, self.cname.as_bytes());
        if ceiling_bps > 0 {
            self.remb.update(lost, received_bps, ceiling_bps);
            self.write_remb(writer);
        }
    }
}
