//! The shard's part in renditions of some layers: makes them of what comes in, at its home, and begins
//! and ends them.

use crate::command::RenditionSpec;
use crate::counters::DropReason;
use crate::ids::{IncomingTrackId, RenditionId};
use crate::io::Tx;
use crate::limits::MAX_LAYER_RENDITIONS;
use crate::packet::codec::Codec;
use crate::packet::layer::LayerMark;
use crate::pool::Packet;
use crate::route::derived::LayerRendition;
use crate::route::rendition::Rendition;
use crate::shard::core::Core;

impl Core {
    /// Routes a packet of a source, and what is made of it.
    pub(super) fn route_layered<T: Tx>(
        &mut self,
        place: u32,
        packet: Packet,
        since_us: u64,
        tx: &mut T,
    ) {
        let rendition = self.renditions.get(place);
        if rendition.is_none_or(|rendition| rendition.layered.is_empty()) {
            return self.route(place, packet, since_us, tx);
        }
        self.route(place, packet.clone(), since_us, tx);
        let mark = packet.info.layer;
        for at in 0.. {
            let Some((to, derived)) = self.derive(place, at, &packet, &mark) else {
                break;
            };
            if let Some(derived) = derived {
                self.route(to, derived, since_us, tx);
            }
        }
        if mark.teaches {
            self.derive_awaited(place, since_us, tx);
        }
    }

    /// What becomes of a packet in the rendition at this position of those made of another, and that
    /// rendition's place; `None` if there are not so many.
    fn derive(
        &mut self,
        place: u32,
        at: usize,
        packet: &Packet,
        mark: &LayerMark,
    ) -> Option<(u32, Option<Packet>)> {
        let rendition = self.renditions.get_mut(place)?;
        let codec = rendition.codec(packet.info.codec).map(|codec| codec.codec);
        let layered = rendition.layered.get_mut(at)?;
        let derived = layered.derive(packet, mark, codec, &self.links.pool);
        let to = layered.place;
        if derived.is_err() {
            self.drops.count(DropReason::PoolExhausted);
        }
        Some((to, derived.ok().flatten()))
    }

    /// What came before it could be understood may be understood now.
    fn derive_awaited<T: Tx>(&mut self, place: u32, since_us: u64, tx: &mut T) {
        for at in 0.. {
            let rendition = self.renditions.get_mut(place);
            let Some(rendition) = rendition.filter(|rendition| at < rendition.layered.len()) else {
                return;
            };
            let layered = &mut rendition.layered[at];
            if !std::mem::take(&mut layered.waits_to_learn) {
                continue;
            }
            let id = rendition.spec.id;
            let awaited = rendition.layered[at].awaited().into_iter();
            let came: Vec<_> = awaited
                .filter_map(|index| rendition.store.get(index).cloned())
                .collect();
            for packet in came {
                let mark = self.layer_of(id, place, &packet).unwrap_or_default();
                if let Some((to, Some(derived))) = self.derive(place, at, &packet, &mark) {
                    self.route(to, derived, since_us, tx);
                }
            }
        }
    }

    fn layer_of(&mut self, id: RenditionId, place: u32, packet: &Packet) -> Option<LayerMark> {
        let codec: Codec = self.renditions.get(place)?.codec(packet.info.codec)?.codec;
        Some(self.source_mut(&id)?.layer_of(codec, packet))
    }

    /// Begins a rendition of some layers, with what its encoding has cached.
    pub(super) fn add_layers(&mut self, spec: RenditionSpec) -> Option<()> {
        let of = spec.layers_of?;
        let from = self.renditions.place(&of.rendition)?;
        let source = *self.sources.get(&of.rendition)?;
        let (id, forwarding) = (spec.id, self.forwarding);
        let rendition = self.renditions.get(from)?;
        if rendition.layered.len() >= MAX_LAYER_RENDITIONS || self.renditions.place(&id).is_some() {
            return None;
        }
        let mut made = Rendition::new(spec, &forwarding);
        made.clock = rendition.clock;
        let place = self.renditions.insert(id, made);
        self.sources.insert(id, source);
        let rendition = self.renditions.get_mut(from)?;
        let mut layered = LayerRendition::new(place, of.layers);
        let first = rendition.store.cache_start().map(|first| first.info.index);
        let cached = first
            .into_iter()
            .flat_map(|first| rendition.store.from(first));
        let mut derived = Vec::new();
        for packet in cached {
            let codec = rendition.codec(packet.info.codec).map(|codec| codec.codec);
            let one = layered.derive(packet, &packet.info.layer, codec, &self.links.pool);
            derived.extend(one.ok().flatten());
        }
        rendition.layered.push(layered);
        let latest = rendition.store.highest().unwrap_or(0);
        let made = self.renditions.get_mut(place)?;
        made.sent_origin = latest;
        derived
            .into_iter()
            .for_each(|packet| made.store.insert(packet));
        Some(())
    }

    /// A rendition ends: with it all that are made of it, and its part in the one it is made of.
    pub(super) fn remove_layers(&mut self, place: u32) {
        let Some(rendition) = self.renditions.get_mut(place) else {
            return;
        };
        let layered = std::mem::take(&mut rendition.layered);
        let (id, of) = (rendition.spec.id, rendition.spec.layers_of);
        for one in layered {
            if let Some(made) = self.renditions.get(one.place).map(|made| made.spec.id) {
                let _ = self.remove_rendition(made);
            }
        }
        let Some(of) = of else { return };
        let from = self.renditions.place(&of.rendition);
        if let Some(from) = from.and_then(|from| self.renditions.get_mut(from)) {
            from.layered.retain(|one| one.place != place);
        }
        self.sources.remove(&id);
    }

    /// Viewers of a rendition can be shown another version of the track from now on.
    pub(super) fn set_alternatives(
        &mut self,
        id: RenditionId,
        track: IncomingTrackId,
    ) -> Option<()> {
        let rendition = self.renditions.get_mut(self.renditions.place(&id)?)?;
        if rendition.spec.alternative_of.replace(track).is_some() {
            return Some(());
        }
        let latest = rendition.store.highest();
        rendition.sent_origin = latest
            .and_then(|highest| rendition.store.get(highest))
            .map_or(0, |packet| packet.info.origin);
        let viewers: Vec<u32> = rendition.viewers.iter().map(|one| one.outgoing).collect();
        for track in viewers {
            self.note_attachment(track);
        }
        Some(())
    }
}
