//! Carries out what the control plane commands. A command that names something which is no longer
//! there is counted and changes nothing: the two sides see the end of things at different times.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::command::{
    Command, IceCredentials, IncomingTrackSpec, OutgoingPayload, OutgoingTrackSpec, PayloadMap,
    RenditionSpec, SrtpKeys, TransportSpec,
};
use crate::counters::DropReason;
use crate::ids::{IncomingTrackId, OutgoingTrackId, RenditionId, ShardId, TransportId};
use crate::io::Tx;
use crate::limits::MAX_RTCP_BYTES;
use crate::packet::codec::MediaKind;
use crate::packet::extension::Extension;
use crate::packet::layers_allocation::MAX_STREAMS;
use crate::packet::rtcp_write::RtcpWriter;
use crate::packet::twcc::TwccRecorder;
use crate::route::demand::Demand;
use crate::route::plan::LayoutKey;
use crate::route::rendition::Rendition;
use crate::route::source::Source;
use crate::route::stamp::Stamps;
use crate::route::viewer::Viewer;
use crate::shard::Flow;
use crate::shard::core::{Core, SourcePlace};
use crate::shard::links::Message;
use crate::shard::outgoing::{Attachment, OutgoingTrack};
use crate::shard::peer::Peer;
use crate::shard::transport::{Credentials, Incoming, IncomingTrack, Transport};
use crate::srtp::{Opener, RtcpSession, Sealer};

impl Core {
    /// Carries out one command.
    pub(crate) fn apply<T: Tx>(&mut self, command: Command, tx: &mut T) -> Flow {
        let done = match command {
            Command::AddTransport(spec) => self.add_transport(*spec),
            Command::RestartIce(id, credentials) => self.restart_ice(id, &credentials),
            Command::SetKeys(id, keys) => self.set_keys(id, &keys),
            Command::RemoveTransport(id) => self.remove_transport(id, tx),
            Command::SendDatagram(id, datagram) => self.send_datagram(id, &datagram, tx),
            Command::SendTo(address, datagram) => send(address, &datagram, tx),
            Command::AddIncomingTrack(id, spec) => self.add_incoming_track(id, *spec),
            Command::RemoveIncomingTrack(id, track) => self.remove_incoming_track(id, track),
            Command::AddOutgoingTrack(id, spec) => self.add_outgoing_track(id, *spec),
            Command::RemoveOutgoingTrack(id) => self.remove_outgoing_track(id),
            Command::AddRendition(spec) => self.add_rendition(*spec),
            Command::AddLayers(spec) => self.add_layers(*spec),
            Command::SetAlternatives(id, track) => self.set_alternatives(id, track),
            Command::RemoveRendition(id) => self.remove_rendition(id),
            Command::Export(id, shard) => self.export(id, shard),
            Command::Unexport(id, shard) => self.unexport(id, shard),
            Command::Attach(tracks, rendition, payloads) => {
                let attached = tracks
                    .into_iter()
                    .map(|id| self.attach_or_change(id, rendition, &payloads));
                attached.fold(Some(()), Option::and)
            }
            Command::Detach(id) => self.show_nothing(id),
            Command::AddTap(id, feed) => self.add_tap(id, *feed),
            Command::AddProducer(feed) => self.add_producer(*feed),
            Command::RemoveProducer(id) => self.remove_producer(id, tx),
            Command::RequestKeyframe(id) => {
                self.source_mut(&id).map(|source| source.keyframes.want())
            }
            Command::SetPlayoutDelay(id, delay) => self
                .source_mut(&id)
                .map(|source| source.stamps.set_playout_delay(delay)),
            Command::Stop => return self.stop(tx),
        };
        if done.is_none() {
            self.count(DropReason::StaleCommand);
        }
        Flow::Continue
    }

    fn add_transport(&mut self, spec: TransportSpec) -> Option<()> {
        let ufrag = spec.ice.local_ufrag.clone();
        let place = self
            .transports
            .insert(spec.id, Transport::new(spec, self.now_us));
        if self.peers.len() <= place as usize {
            self.peers.resize_with(place as usize + 1, Peer::new);
        }
        self.peers[place as usize] = Peer::new();
        self.by_ufrag.insert(ufrag, place);
        Some(())
    }

    fn restart_ice(&mut self, id: TransportId, spec: &IceCredentials) -> Option<()> {
        let place = self.transports.place(&id)?;
        let transport = self.transports.get_mut(place)?;
        let current = std::mem::replace(&mut transport.ice.current, Credentials::from(spec));
        if let Some(older) = transport.ice.previous.replace(current) {
            self.by_ufrag.remove(&older.ufrag);
        }
        self.by_ufrag.insert(spec.local_ufrag.clone(), place);
        Some(())
    }

    fn set_keys(&mut self, id: TransportId, keys: &SrtpKeys) -> Option<()> {
        let place = self.transports.place(&id)?;
        let transport = self.transports.get_mut(place)?;
        // RFC 3711 9.1: these could be the same keys, and SRTCP would begin again at index 0.
        if transport.incoming.is_some() {
            self.count_for(place, DropReason::UnsafeCommand);
            return Some(());
        }
        let opener = Opener::new(keys.profile, &keys.remote).ok()?;
        let rtcp = RtcpSession::new(keys.profile, &keys.local, &keys.remote).ok()?;
        let sealer = Sealer::new(keys.profile, &keys.local).ok()?;
        transport.incoming = Some(Incoming { opener, rtcp });
        let was_ready = self.is_ready(place);
        self.peers[place as usize].sealer = Some(sealer);
        self.note_readiness(place, was_ready);
        Some(())
    }

    fn remove_transport<T: Tx>(&mut self, id: TransportId, tx: &mut T) -> Option<()> {
        let place = self.transports.place(&id)?;
        self.say_bye(place, tx);
        let tracks: Vec<_> = self
            .transports
            .get(place)?
            .tracks
            .iter()
            .map(|t| t.spec.id)
            .collect();
        for track in tracks {
            self.remove_incoming_track(id, track);
        }
        let outgoing = std::mem::take(&mut self.transports.get_mut(place)?.outgoing);
        for track in outgoing {
            if let Some(id) = self.outgoing.get(track).map(|outgoing| outgoing.spec.id) {
                self.remove_outgoing_track(id);
            }
        }
        let (_, transport) = self.transports.remove(&id)?;
        self.by_ufrag.remove(&transport.ice.current.ufrag);
        if let Some(previous) = &transport.ice.previous {
            self.by_ufrag.remove(&previous.ufrag);
        }
        for address in &transport.ice.proven {
            self.by_address.remove(address);
        }
        self.peers[place as usize] = Peer::new();
        self.estimates.end(place);
        Some(())
    }

    /// Tells a viewer that its streams end (RFC 3550 6.6).
    fn say_bye<T: Tx>(&mut self, place: u32, tx: &mut T) -> Option<()> {
        let transport = self.transports.get(place)?;
        let ssrcs = transport
            .outgoing
            .iter()
            .filter_map(|track| self.outgoing.get(*track));
        let ssrcs: Vec<u32> = ssrcs.map(|outgoing| outgoing.spec.ssrc).collect();
        let mut buffer = [0; MAX_RTCP_BYTES];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.receiver_report(transport.rtcp_ssrc, &[]).ok()?;
        for ssrcs in ssrcs.chunks(crate::packet::rtcp_write::MAX_COUNT) {
            writer.bye(ssrcs).ok()?;
        }
        let len = writer.len();
        if !ssrcs.is_empty() {
            self.send_rtcp(place, &buffer[..len], tx);
        }
        Some(())
    }

    fn send_datagram<T: Tx>(&mut self, id: TransportId, bytes: &[u8], tx: &mut T) -> Option<()> {
        let place = self.transports.place(&id)?;
        let ice = &self.transports.get(place)?.ice;
        let Some(address) = ice.selected.or(ice.proven.last().copied()) else {
            self.count_for(place, DropReason::NoAddress);
            return Some(());
        };
        send(address, bytes, tx)
    }

    fn add_incoming_track(&mut self, id: TransportId, spec: IncomingTrackSpec) -> Option<()> {
        let place = self.transports.place(&id)?;
        let home = self.links.id;
        let first = spec.codecs.first()?;
        let (video, clock_rate) = (first.codec.kind() == MediaKind::Video, first.clock_rate);
        let track = self.transports.get(place)?.tracks.len();
        let alternative_of = spec.with_alternatives();
        let mut sources = Vec::with_capacity(spec.encodings.len());
        for (encoding, encoding_spec) in spec.encodings.iter().enumerate() {
            let id = encoding_spec.rendition;
            let codecs = spec.codecs.clone();
            let rendition = RenditionSpec {
                id,
                home,
                video,
                alternative_of,
                layers_of: None,
                codecs,
                served: Arc::clone(&encoding_spec.served),
            };
            let rendition = self
                .renditions
                .insert(id, Rendition::new(rendition, &self.forwarding));
            self.sources.insert(
                id,
                SourcePlace::Transport {
                    transport: place,
                    track,
                    encoding,
                },
            );
            let stamps = Stamps::new(video);
            let source = Source::new(encoding_spec.clone(), rendition, clock_rate, stamps);
            sources.push(source);
        }
        let transport = self.transports.get_mut(place)?;
        if spec.feedback.transport_cc && transport.twcc.is_none() {
            transport.twcc = Some(Box::new(TwccRecorder::new()));
        }
        transport.tracks.push(IncomingTrack {
            spec,
            sources,
            demand: Demand::default(),
            targets_bps: [0; MAX_STREAMS],
        });
        if !self.publishers.contains(&place) {
            self.publishers.push(place);
        }
        Some(())
    }

    fn remove_incoming_track(&mut self, id: TransportId, track: IncomingTrackId) -> Option<()> {
        let place = self.transports.place(&id)?;
        let transport = self.transports.get_mut(place)?;
        let position = transport.tracks.iter().position(|t| t.spec.id == track)?;
        let removed = transport.tracks.remove(position);
        transport.streams.retain(|stream| stream.track != position);
        for stream in &mut transport.streams {
            stream.track -= usize::from(stream.track > position);
        }
        let last = transport.tracks.is_empty();
        for source in &removed.sources {
            self.remove_rendition(source.spec.rendition);
            self.sources.remove(&source.spec.rendition);
        }
        for source in self.sources.values_mut() {
            if let SourcePlace::Transport {
                transport, track, ..
            } = source
                && *transport == place
            {
                *track -= usize::from(*track > position);
            }
        }
        if last {
            self.publishers.retain(|publisher| *publisher != place);
        }
        Some(())
    }

    fn add_outgoing_track(&mut self, id: TransportId, spec: OutgoingTrackSpec) -> Option<()> {
        let peer = self.transports.place(&id)?;
        let transport = self.transports.get_mut(peer)?;
        // RFC 3711 9.1: two tracks, or two lives of one, would number packets of one SSRC alike.
        let rtx_ssrc = Some(spec.rtx_ssrc).filter(|ssrc| *ssrc != 0);
        let used = |ssrc: u32| transport.sent_ssrcs.contains(&ssrc);
        if used(spec.ssrc) || rtx_ssrc.is_some_and(used) || rtx_ssrc == Some(spec.ssrc) {
            self.count_for(peer, DropReason::UnsafeCommand);
            return Some(());
        }
        transport
            .sent_ssrcs
            .extend([spec.ssrc].into_iter().chain(rtx_ssrc));
        let random = self.random();
        let viewer = Viewer::new(0, peer, spec.ssrc, random as u16, (random >> 16) as u32);
        let track = OutgoingTrack::new(spec, viewer, (random >> 48) as u16);
        let place = self.outgoing.insert(track.spec.id, track);
        if let Some(outgoing) = self.outgoing.get_mut(place)
            && let Attachment::Detached(viewer) = &mut outgoing.attachment
        {
            viewer.outgoing = place;
        }
        self.transports.get_mut(peer)?.outgoing.push(place);
        Some(())
    }

    fn remove_outgoing_track(&mut self, id: OutgoingTrackId) -> Option<()> {
        self.detach(id);
        let (place, track) = self.outgoing.remove(&id)?;
        if let Attachment::Detached(viewer) = track.attachment
            && let Some(transport) = self.transports.get_mut(viewer.peer)
        {
            transport.outgoing.retain(|other| *other != place);
        }
        Some(())
    }

    fn export(&mut self, id: RenditionId, shard: ShardId) -> Option<()> {
        let rendition = self.renditions.get_mut(self.renditions.place(&id)?)?;
        if !rendition.exports.contains(&shard) {
            rendition.exports.push(shard);
        }
        let (clock, cached) = (rendition.clock, rendition.cached());
        // Its next report may be seconds away.
        if let Some(clock) = clock {
            self.tell_shard(shard, Message::Clock(id, clock));
        }
        if !cached.is_empty() {
            self.tell_shard(shard, Message::Cached(id, cached));
        }
        Some(())
    }

    fn unexport(&mut self, id: RenditionId, shard: ShardId) -> Option<()> {
        let rendition = self.renditions.get_mut(self.renditions.place(&id)?)?;
        rendition.exports.retain(|other| *other != shard);
        Some(())
    }

    fn add_rendition(&mut self, spec: RenditionSpec) -> Option<()> {
        if self.renditions.place(&spec.id).is_none() {
            self.renditions
                .insert(spec.id, Rendition::new(spec, &self.forwarding));
        }
        Some(())
    }

    pub(super) fn remove_rendition(&mut self, id: RenditionId) -> Option<()> {
        let place = self.renditions.place(&id)?;
        self.remove_layers(place);
        // What a tap records shall not lack its last frame.
        self.feed_taps(place);
        while let Some(viewer) = self.renditions.get(place)?.viewers.first() {
            let track = self
                .outgoing
                .get(viewer.outgoing)
                .map(|outgoing| outgoing.spec.id)?;
            self.detach(track)?;
        }
        let (_, mut removed) = self.renditions.remove(&id)?;
        removed.publish_served();
        self.forget_changes(place, std::mem::take(&mut removed.changing));
        self.pending.retain(|pending| *pending != place);
        self.tapped.retain(|tapped| *tapped != place);
        Some(())
    }

    pub(super) fn attach(
        &mut self,
        id: OutgoingTrackId,
        rendition: RenditionId,
        payloads: &PayloadMap,
    ) -> Option<()> {
        let mut payloads = payloads.clone();
        let rendition_place = self.renditions.place(&rendition)?;
        self.detach(id)?;
        let track = self.outgoing.place(&id)?;
        let outgoing = self.outgoing.get_mut(track)?;
        let rendition = self.renditions.get_mut(rendition_place)?;
        if outgoing.spec.rtx_ssrc == 0 {
            let payloads = payloads.iter_mut().flatten();
            payloads.for_each(|payload| payload.rtx_payload_type = None);
        }
        let mut extensions = outgoing.spec.extensions;
        // What is resent as it was, to the last byte, can bear no number that is new each time.
        let mut sent = payloads.iter().flatten();
        if sent.any(OutgoingPayload::resent_as_was) {
            extensions.remove(Extension::TransportWideCc);
        }
        let key = LayoutKey {
            extensions,
            mid: outgoing.spec.mid.clone(),
            allow_two_byte: outgoing.spec.allow_two_byte,
            payloads,
        };
        let empty = Attachment::Attached {
            rendition: rendition_place,
            place: 0,
        };
        let Attachment::Detached(viewer) = std::mem::replace(&mut outgoing.attachment, empty)
        else {
            return None;
        };
        let ready = self.peers.get(viewer.peer as usize);
        let ready = ready.is_some_and(|peer| peer.ready().is_some());
        let withhold = self.overload.is_shedding();
        let place = rendition.add_viewer(*viewer, key, ready, withhold);
        outgoing.attachment = Attachment::Attached {
            rendition: rendition_place,
            place,
        };
        self.note_attachment(track);
        Some(())
    }

    fn show_nothing(&mut self, id: OutgoingTrackId) -> Option<()> {
        self.outgoing
            .get_mut(self.outgoing.place(&id)?)?
            .changing_to = None;
        self.detach(id)
    }

    /// Detaches a track if it is attached; `None` only if there is no such track.
    fn detach(&mut self, id: OutgoingTrackId) -> Option<()> {
        let outgoing = self.outgoing.get_mut(self.outgoing.place(&id)?)?;
        let Attachment::Attached { rendition, place } = outgoing.attachment else {
            return Some(());
        };
        let rendition = self.renditions.get_mut(rendition)?;
        let viewer = rendition.remove_viewer(place);
        outgoing.attachment = Attachment::Detached(Box::new(viewer));
        // The last viewer took the place that became free.
        let moved = rendition.viewers.get(place).map(|viewer| viewer.outgoing);
        if let Some(moved) = moved.and_then(|moved| self.outgoing.get_mut(moved))
            && let Attachment::Attached {
                place: moved_place, ..
            } = &mut moved.attachment
        {
            *moved_place = place;
        }
        Some(())
    }

    fn stop<T: Tx>(&mut self, tx: &mut T) -> Flow {
        for place in 0..self.transports.end() {
            self.say_bye(place, tx);
        }
        self.publish();
        Flow::Stop
    }
}

fn send<T: Tx>(address: SocketAddr, bytes: &[u8], tx: &mut T) -> Option<()> {
    if bytes.is_empty() || bytes.len() > crate::limits::SLOT_BYTES {
        return None;
    }
    tx.reserve(bytes.len()).copy_from_slice(bytes);
    tx.commit(address, bytes.len(), None);
    Some(())
}
