//! The subscription table: which transport is on which shard, which renditions exist, and which
//! shards serve each to viewers. Every change yields the commands that bring the shards in line.

use std::collections::HashMap;

use crate::command::{Command, IncomingTrackSpec, PayloadMap, RenditionSpec};
use crate::engine::EngineError;
use crate::ids::{IncomingTrackId, OutgoingTrackId, ProducerId, RenditionId, ShardId, TransportId};
use crate::packet::codec::MediaKind;
use crate::producer::{ProducedTrackSpec, is_video};

/// A command and the shard it is for.
pub(crate) type Step = (ShardId, Command);

#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    transports: HashMap<TransportId, TransportEntry>,
    producers: HashMap<ProducerId, ProducerEntry>,
    renditions: HashMap<RenditionId, RenditionEntry>,
    outgoing: HashMap<OutgoingTrackId, OutgoingEntry>,
}

#[derive(Debug)]
struct TransportEntry {
    shard: ShardId,
    incoming: HashMap<IncomingTrackId, Vec<RenditionId>>,
    outgoing: Vec<OutgoingTrackId>,
}

#[derive(Debug)]
struct ProducerEntry {
    shard: ShardId,
    renditions: Vec<RenditionId>,
}

#[derive(Debug)]
struct RenditionEntry {
    spec: RenditionSpec,
    /// Attached tracks on shards other than its home.
    viewers: HashMap<ShardId, usize>,
}

#[derive(Debug)]
struct OutgoingEntry {
    transport: TransportId,
    shard: ShardId,
    attached: Option<RenditionId>,
}

impl Subscriptions {
    pub(crate) fn add_transport(&mut self, id: TransportId, shard: ShardId) {
        let entry = TransportEntry {
            shard,
            incoming: HashMap::new(),
            outgoing: Vec::new(),
        };
        self.transports.insert(id, entry);
    }

    pub(crate) fn shard_of(&self, id: TransportId) -> Result<ShardId, EngineError> {
        let entry = self
            .transports
            .get(&id)
            .ok_or(EngineError::UnknownTransport(id))?;
        Ok(entry.shard)
    }

    pub(crate) fn home_of(&self, id: RenditionId) -> Result<ShardId, EngineError> {
        Ok(self.rendition(id)?.home)
    }

    pub(crate) fn rendition(&self, id: RenditionId) -> Result<&RenditionSpec, EngineError> {
        let entry = self.renditions.get(&id);
        let entry = entry.ok_or(EngineError::UnknownRendition(id))?;
        Ok(&entry.spec)
    }

    pub(crate) fn add_producer(
        &mut self,
        id: ProducerId,
        shard: ShardId,
        tracks: &[ProducedTrackSpec],
    ) {
        for track in tracks {
            let spec = RenditionSpec {
                id: track.rendition,
                home: shard,
                video: is_video(&track.codecs),
                codecs: track.codecs.clone(),
            };
            let viewers = HashMap::new();
            self.renditions
                .insert(track.rendition, RenditionEntry { spec, viewers });
        }
        let renditions = tracks.iter().map(|track| track.rendition).collect();
        self.producers
            .insert(id, ProducerEntry { shard, renditions });
    }

    /// Removes a producer. The home shard clears up after it by itself; the steps before that are
    /// for the other shards.
    pub(crate) fn remove_producer(&mut self, id: ProducerId) -> Result<Vec<Step>, EngineError> {
        let entry = self.producers.remove(&id);
        let entry = entry.ok_or(EngineError::UnknownProducer(id))?;
        let renditions = entry.renditions.into_iter();
        let mut steps: Vec<Step> = renditions
            .flat_map(|rendition| self.remove_rendition(rendition))
            .collect();
        steps.push((entry.shard, Command::RemoveProducer(id)));
        Ok(steps)
    }

    /// Removes a transport. The home shard clears up after it by itself; the steps before that
    /// are for the other shards.
    pub(crate) fn remove_transport(&mut self, id: TransportId) -> Result<Vec<Step>, EngineError> {
        let entry = self
            .transports
            .get_mut(&id)
            .ok_or(EngineError::UnknownTransport(id))?;
        let shard = entry.shard;
        let outgoing = std::mem::take(&mut entry.outgoing);
        let renditions: Vec<_> = std::mem::take(&mut entry.incoming)
            .into_values()
            .flatten()
            .collect();
        let mut steps = Vec::new();
        for track in outgoing {
            steps.extend(self.release(track));
            self.outgoing.remove(&track);
        }
        for rendition in renditions {
            steps.extend(self.remove_rendition(rendition));
        }
        self.transports.remove(&id);
        steps.push((shard, Command::RemoveTransport(id)));
        Ok(steps)
    }

    pub(crate) fn add_incoming_track(
        &mut self,
        id: TransportId,
        spec: &IncomingTrackSpec,
    ) -> Result<(), EngineError> {
        let entry = self
            .transports
            .get_mut(&id)
            .ok_or(EngineError::UnknownTransport(id))?;
        let home = entry.shard;
        let renditions: Vec<_> = spec.encodings.iter().map(|e| e.rendition).collect();
        for rendition in &renditions {
            let spec = RenditionSpec {
                id: *rendition,
                home,
                video: spec
                    .codecs
                    .first()
                    .is_some_and(|codec| codec.codec.kind() == MediaKind::Video),
                codecs: spec.codecs.clone(),
            };
            self.renditions.insert(
                *rendition,
                RenditionEntry {
                    spec,
                    viewers: HashMap::new(),
                },
            );
        }
        entry.incoming.insert(spec.id, renditions);
        Ok(())
    }

    pub(crate) fn remove_incoming_track(
        &mut self,
        id: TransportId,
        track: IncomingTrackId,
    ) -> Result<Vec<Step>, EngineError> {
        let entry = self
            .transports
            .get_mut(&id)
            .ok_or(EngineError::UnknownTransport(id))?;
        let shard = entry.shard;
        let renditions = entry.incoming.remove(&track).unwrap_or_default();
        let mut steps: Vec<Step> = renditions
            .into_iter()
            .flat_map(|rendition| self.remove_rendition(rendition))
            .collect();
        steps.push((shard, Command::RemoveIncomingTrack(id, track)));
        Ok(steps)
    }

    fn remove_rendition(&mut self, id: RenditionId) -> Vec<Step> {
        for outgoing in self
            .outgoing
            .values_mut()
            .filter(|o| o.attached == Some(id))
        {
            outgoing.attached = None;
        }
        let entry = self.renditions.remove(&id);
        let shards = entry
            .into_iter()
            .flat_map(|entry| entry.viewers.into_keys());
        shards
            .map(|shard| (shard, Command::RemoveRendition(id)))
            .collect()
    }

    pub(crate) fn add_outgoing_track(
        &mut self,
        id: TransportId,
        track: OutgoingTrackId,
    ) -> Result<(), EngineError> {
        let entry = self
            .transports
            .get_mut(&id)
            .ok_or(EngineError::UnknownTransport(id))?;
        entry.outgoing.push(track);
        let outgoing = OutgoingEntry {
            transport: id,
            shard: entry.shard,
            attached: None,
        };
        self.outgoing.insert(track, outgoing);
        Ok(())
    }

    pub(crate) fn remove_outgoing_track(
        &mut self,
        track: OutgoingTrackId,
    ) -> Result<Vec<Step>, EngineError> {
        let mut steps = self.release(track);
        let unknown = EngineError::UnknownOutgoingTrack(track);
        let entry = self.outgoing.remove(&track).ok_or(unknown)?;
        if let Some(transport) = self.transports.get_mut(&entry.transport) {
            transport.outgoing.retain(|other| *other != track);
        }
        steps.insert(0, (entry.shard, Command::RemoveOutgoingTrack(track)));
        Ok(steps)
    }

    pub(crate) fn attach(
        &mut self,
        track: OutgoingTrackId,
        rendition: RenditionId,
        payloads: PayloadMap,
    ) -> Result<Vec<Step>, EngineError> {
        let outgoing = self.outgoing.get_mut(&track);
        let outgoing = outgoing.ok_or(EngineError::UnknownOutgoingTrack(track))?;
        let shard = outgoing.shard;
        let entry = self.renditions.get_mut(&rendition);
        let entry = entry.ok_or(EngineError::UnknownRendition(rendition))?;
        let mut steps = Vec::new();
        let home = entry.spec.home;
        if home != shard {
            let viewers = entry.viewers.entry(shard).or_insert(0);
            *viewers += 1;
            if *viewers == 1 {
                steps.push((shard, Command::AddRendition(Box::new(entry.spec.clone()))));
                steps.push((home, Command::Export(rendition, shard)));
            }
        }
        steps.push((shard, Command::Attach(track, rendition, payloads)));
        // The former rendition is let go after the change-over.
        let former = self.release(track);
        steps.extend(former);
        if let Some(outgoing) = self.outgoing.get_mut(&track) {
            outgoing.attached = Some(rendition);
        }
        Ok(steps)
    }

    pub(crate) fn detach(&mut self, track: OutgoingTrackId) -> Result<Vec<Step>, EngineError> {
        let outgoing = self.outgoing.get(&track);
        let shard = outgoing
            .ok_or(EngineError::UnknownOutgoingTrack(track))?
            .shard;
        let mut steps = vec![(shard, Command::Detach(track))];
        steps.extend(self.release(track));
        Ok(steps)
    }

    /// Ends what a track is attached to: the last viewer on a shard ends the rendition there.
    fn release(&mut self, track: OutgoingTrackId) -> Vec<Step> {
        let Some(outgoing) = self.outgoing.get_mut(&track) else {
            return Vec::new();
        };
        let shard = outgoing.shard;
        let Some(rendition) = outgoing.attached.take() else {
            return Vec::new();
        };
        let Some(entry) = self.renditions.get_mut(&rendition) else {
            return Vec::new();
        };
        let Some(viewers) = entry.viewers.get_mut(&shard) else {
            return Vec::new();
        };
        *viewers -= 1;
        if *viewers > 0 {
            return Vec::new();
        }
        entry.viewers.remove(&shard);
        vec![
            (entry.spec.home, Command::Unexport(rendition, shard)),
            (shard, Command::RemoveRendition(rendition)),
        ]
    }
}
