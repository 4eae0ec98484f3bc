//! Those who take media from the shards, or bring some, without a network peer: taps and producers.

use crate::command::Command;
use crate::engine::{Engine, EngineError};
use crate::ids::{ProducerId, RenditionId, ShardId};
use crate::producer::{self, Producer, ProducerSpec};
use crate::tap::{self, Counted, Tap, TapSpec};

impl Engine {
    /// Taps a rendition: its packets are handed over as they come in, as long as the tap lives or
    /// the rendition does.
    ///
    /// # Errors
    /// [`EngineError::UnknownRendition`], [`EngineError::TooManyTaps`].
    pub fn add_tap(&self, rendition: RenditionId, spec: TapSpec) -> Result<Tap, EngineError> {
        // Held to the end, so that the tap gets there before the end of the rendition.
        let table = self.table();
        let of = table.rendition(rendition)?;
        let home = self.0.shards.get(usize::from(of.home.0));
        let home = home.ok_or(EngineError::UnknownShard(of.home))?;
        let counted = Counted::one_of(&home.taps);
        let counted = counted.ok_or(EngineError::TooManyTaps(of.home))?;
        let (tap, feed) = tap::connect(of, &spec, counted);
        self.send(of.home, Command::AddTap(rendition, Box::new(feed)))?;
        Ok(tap)
    }

    /// Adds a source of renditions in this process, at home on a shard.
    ///
    /// # Errors
    /// [`EngineError::UnknownShard`].
    pub fn add_producer(
        &self,
        shard: ShardId,
        spec: ProducerSpec,
    ) -> Result<Producer, EngineError> {
        let home = self.0.shards.get(usize::from(shard.0));
        let home = home.ok_or(EngineError::UnknownShard(shard))?;
        let (id, tracks) = (spec.id, spec.tracks.clone());
        let (producer, feed) = producer::connect(self.clone(), home.entrance.clone(), spec);
        self.send(shard, Command::AddProducer(Box::new(feed)))?;
        self.table().add_producer(id, shard, &tracks);
        Ok(producer)
    }

    /// Ends a producer's renditions, as if a publisher had left. Dropping the [`Producer`] does it
    /// too.
    ///
    /// # Errors
    /// [`EngineError::UnknownProducer`].
    pub fn remove_producer(&self, id: ProducerId) -> Result<(), EngineError> {
        let mut table = self.table();
        let steps = table.remove_producer(id)?;
        self.send_all(steps)
    }
}
