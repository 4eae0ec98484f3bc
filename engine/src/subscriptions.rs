//! The subscription table: which transport is on which shard, which renditions exist, and which
//! shards serve each to viewers. Every change yields the commands that bring the shards in line.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::command::{Command, IncomingTrackSpec, LayersOf, PayloadMap, RenditionSpec};
use crate::engine::EngineError;
use crate::ids::{IncomingTrackId, OutgoingTrackId, ProducerId, RenditionId, ShardId, TransportId};
use crate::limits::{MAX_LAYER_RENDITIONS, TRACKS_PER_COMMAND};
use crate::packet::codec::MediaKind;
use crate::packet::layer::Layers;
use crate::producer::{ProducedTrackSpec, is_video};

/// The first name of renditions of layers, which are named here; the control plane names the others,
/// from below.
const FIRST_OF_LAYERS: u64 = 1 << 63;

/// For so many calls of [`Subscriptions::tend`] a rendition is served on that a track has left: until it
/// has changed over.
const LINGERS: u8 = 3;

/// A command and the shard it is for.
pub(crate) type Step = (ShardId, Command);

#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    transports: HashMap<TransportId, TransportEntry>,
    producers: HashMap<ProducerId, ProducerEntry>,
    renditions: HashMap<RenditionId, RenditionEntry>,
    outgoing: HashMap<OutgoingTrackId, OutgoingEntry>,
    /// Renditions of layers there are.
    layers: HashMap<(RenditionId, Layers), RenditionId>,
    layers_named: u64,
    /// Tracks' places in renditions they have left or not taken yet, by shard, with how long they are
    /// kept.
    lingering: Vec<(RenditionId, ShardId, u8)>,
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
    /// Attached tracks by shard; of an encoding on its home they are not counted.
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
                alternative_of: None,
                layers_of: None,
                codecs: track.codecs.clone(),
                served: track.served.clone(),
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
        let alternative_of = spec.with_alternatives();
        for encoding in &spec.encodings {
            let spec = RenditionSpec {
                id: encoding.rendition,
                home,
                video: spec
                    .codecs
                    .first()
                    .is_some_and(|codec| codec.codec.kind() == MediaKind::Video),
                alternative_of,
                layers_of: None,
                codecs: spec.codecs.clone(),
                served: Arc::clone(&encoding.served),
            };
            self.renditions.insert(
                encoding.rendition,
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
        self.lingering.retain(|(other, ..)| *other != id);
        let mut steps = Vec::new();
        if let Some(entry) = self.renditions.remove(&id) {
            let home = entry.spec.home;
            let others = entry.viewers.into_keys().filter(|shard| *shard != home);
            steps.extend(others.map(|shard| (shard, Command::RemoveRendition(id))));
        }
        // The home ends what is made of it by itself.
        let of_it = self.layers.keys().filter(|(of, _)| *of == id);
        for key in of_it.copied().collect::<Vec<_>>() {
            if let Some(made) = self.layers.remove(&key) {
                steps.extend(self.remove_rendition(made));
            }
        }
        steps
    }

    /// The rendition of some layers of an encoding, begun if there is none; it ends some time after the
    /// last track has left it.
    pub(crate) fn derive(
        &mut self,
        of: RenditionId,
        layers: Layers,
    ) -> Result<(RenditionId, Vec<Step>), EngineError> {
        if layers.is_all() {
            self.rendition(of)?;
            return Ok((of, Vec::new()));
        }
        if let Some(made) = self.layers.get(&(of, layers)).copied() {
            return Ok((made, Vec::new()));
        }
        if self.layers.keys().filter(|(other, _)| *other == of).count() >= MAX_LAYER_RENDITIONS {
            return Err(EngineError::TooManyLayers(of));
        }
        let id = RenditionId(FIRST_OF_LAYERS + self.layers_named);
        self.layers_named += 1;
        let spec = RenditionSpec {
            id,
            layers_of: Some(LayersOf {
                rendition: of,
                layers,
            }),
            ..self.rendition(of)?.clone()
        };
        let home = spec.home;
        let command = Command::AddLayers(Box::new(spec.clone()));
        // Nobody has it yet, but somebody is about to.
        let viewers = HashMap::from([(home, 1)]);
        self.lingering.push((id, home, LINGERS));
        self.renditions.insert(id, RenditionEntry { spec, viewers });
        self.layers.insert((of, layers), id);
        Ok((id, vec![(home, command)]))
    }

    /// Viewers of a rendition may be shown one or another version of the track.
    pub(crate) fn set_alternatives(
        &mut self,
        id: RenditionId,
        track: IncomingTrackId,
    ) -> Result<Vec<Step>, EngineError> {
        let entry = self.renditions.get_mut(&id);
        let entry = entry.ok_or(EngineError::UnknownRendition(id))?;
        if entry.spec.alternative_of.replace(track).is_some() {
            return Ok(Vec::new());
        }
        let home = entry.spec.home;
        let others = entry.viewers.keys().filter(|shard| **shard != home);
        let shards = others.copied().chain([home]);
        let step = |shard| (shard, Command::SetAlternatives(id, track));
        Ok(shards.map(step).collect())
    }

    /// Ends, some time after tracks have left them, renditions that nobody else has.
    pub(crate) fn tend(&mut self) -> Vec<Step> {
        let (mut steps, mut over) = (Vec::new(), Vec::new());
        self.lingering.retain_mut(|(rendition, shard, left)| {
            *left -= 1;
            if *left == 0 {
                over.push((*rendition, *shard));
            }
            *left > 0
        });
        for (rendition, shard) in over {
            steps.extend(self.unserve(rendition, shard));
        }
        steps
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

    /// Shows a rendition on tracks, on whatever shards they are; those that are not there any more
    /// are passed over.
    pub(crate) fn attach(
        &mut self,
        tracks: &[OutgoingTrackId],
        rendition: RenditionId,
        payloads: &PayloadMap,
    ) -> Result<Vec<Step>, EngineError> {
        if !self.renditions.contains_key(&rendition) {
            return Err(EngineError::UnknownRendition(rendition));
        }
        let mut by_shard: BTreeMap<ShardId, Vec<OutgoingTrackId>> = BTreeMap::new();
        for track in tracks {
            if let Some(outgoing) = self.outgoing.get(track) {
                by_shard.entry(outgoing.shard).or_default().push(*track);
            }
        }
        let mut steps = Vec::new();
        for (shard, tracks) in by_shard {
            steps.extend(self.serve(rendition, shard, tracks.len()));
            for some in tracks.chunks(TRACKS_PER_COMMAND) {
                let command = Command::Attach(some.to_vec(), rendition, payloads.clone());
                steps.push((shard, command));
            }
            // The former renditions are let go after the change-over.
            for track in tracks {
                steps.extend(self.release_for(track, rendition));
                if let Some(outgoing) = self.outgoing.get_mut(&track) {
                    outgoing.attached = Some(rendition);
                }
            }
        }
        Ok(steps)
    }

    /// Counts viewers of a rendition on a shard: the first one begins it there.
    fn serve(&mut self, id: RenditionId, shard: ShardId, count: usize) -> Vec<Step> {
        let Some(entry) = self.renditions.get_mut(&id) else {
            return Vec::new();
        };
        let home = entry.spec.home;
        if home == shard && entry.spec.layers_of.is_none() {
            return Vec::new();
        }
        let viewers = entry.viewers.entry(shard).or_insert(0);
        let first = *viewers == 0;
        *viewers += count;
        if !first || home == shard {
            return Vec::new();
        }
        vec![
            (shard, Command::AddRendition(Box::new(entry.spec.clone()))),
            (home, Command::Export(id, shard)),
        ]
    }

    /// Fails if there is no such track.
    pub(crate) fn check_outgoing(&self, track: OutgoingTrackId) -> Result<(), EngineError> {
        let known = self.outgoing.contains_key(&track);
        known
            .then_some(())
            .ok_or(EngineError::UnknownOutgoingTrack(track))
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

    /// Ends what a track is attached to, when it is attached to another rendition. If that is another
    /// version of the same track, the viewer goes on with what it has until it can change over.
    fn release_for(&mut self, track: OutgoingTrackId, to: RenditionId) -> Vec<Step> {
        let Some(outgoing) = self.outgoing.get_mut(&track) else {
            return Vec::new();
        };
        let Some(from) = outgoing.attached else {
            return Vec::new();
        };
        let track_of = |id| self.renditions.get(&id)?.spec.alternative_of;
        if from == to || track_of(from).is_none() || track_of(from) != track_of(to) {
            return self.release(track);
        }
        self.lingering.push((from, outgoing.shard, LINGERS));
        Vec::new()
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
        self.unserve(rendition, shard)
    }

    /// One viewer less of a rendition on a shard.
    fn unserve(&mut self, rendition: RenditionId, shard: ShardId) -> Vec<Step> {
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
        let (home, made_of) = (entry.spec.home, entry.spec.layers_of);
        let mut steps = Vec::new();
        if shard != home {
            steps.push((home, Command::Unexport(rendition, shard)));
            steps.push((shard, Command::RemoveRendition(rendition)));
        }
        if entry.viewers.is_empty()
            && let Some(of) = made_of
        {
            self.renditions.remove(&rendition);
            self.layers.remove(&(of.rendition, of.layers));
            steps.push((home, Command::RemoveRendition(rendition)));
        }
        steps
    }
}
