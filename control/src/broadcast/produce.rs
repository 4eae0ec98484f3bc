//! Publishing what this process produces, stopping whoever publishes, and following a name.

use tokio::sync::watch;

use super::publisher::Publisher;
use super::{
    Broadcast, BroadcastError, Follower, Role, check_name, check_publishing_name, in_background,
};
use crate::model::{CloseReason, ProducedStream};

impl Broadcast {
    /// Publishes a stream that this process produces, under the rule for all: one publisher a name,
    /// who is replaced if it is evidently dead. The name is free again when the stream is closed.
    /// Call it inside the runtime; it waits for the data plane.
    ///
    /// # Errors
    /// [`BroadcastError`]; the stream itself goes on.
    pub fn publish_stream(
        &self,
        name: &str,
        stream: &ProducedStream,
    ) -> Result<(), BroadcastError> {
        check_publishing_name(name)?;
        let mut tables = self.tables();
        tables.check_room(name, self.0.limits)?;
        let dead = tables.check_free(name, Role::Primary)?;
        if stream.is_ending() {
            return Err(BroadcastError::SourceEnded);
        }
        self.tell_playout_delay(&tables, name, stream.incoming())?;
        if let Some(dead) = dead {
            tables.replace(&dead);
        }
        tables.put(name, Role::Primary, Publisher::Produced(stream.clone()));
        drop(tables);
        let (source, id) = (stream.source(), stream.id().0);
        tracing::info!(stream = name, source, id, "published");
        self.watch_over_produced(name, stream);
        Ok(())
    }

    /// Notes that what this process produces shows one picture on purpose, or goes on, and tells those
    /// who watch it under this name.
    pub fn set_paused(&self, name: &str, stream: &ProducedStream, paused: bool) {
        stream.set_paused(paused);
        if let Some(entry) = self.tables().streams.get(name) {
            entry.tell_publisher();
        }
    }

    /// Whether a stream of this name could be published now.
    ///
    /// # Errors
    /// [`BroadcastError`]: why not.
    pub fn check_publishable(&self, name: &str) -> Result<(), BroadcastError> {
        check_publishing_name(name)?;
        let tables = self.tables();
        tables.check_room(name, self.0.limits)?;
        tables.check_free(name, Role::Primary).map(drop)
    }

    /// Ends whoever publishes a stream; its viewers stay. The name is free when this returns. It
    /// waits for the data plane.
    ///
    /// # Errors
    /// [`BroadcastError::UnknownStream`], [`BroadcastError::NotLive`].
    pub fn stop(&self, name: &str) -> Result<(), BroadcastError> {
        let mut tables = self.tables();
        let entry = tables.streams.get(name);
        let entry = entry.ok_or_else(|| BroadcastError::UnknownStream(name.to_owned()))?;
        let publishers = entry.publishers.all();
        if publishers.is_empty() {
            return Err(BroadcastError::NotLive(name.to_owned()));
        }
        for publisher in &publishers {
            tables.take_away(name, publisher);
        }
        drop(tables);
        for publisher in publishers {
            publisher.close_for(CloseReason::Requested);
        }
        Ok(())
    }

    /// Ends a produced stream that is published under this name, and nobody else. The name is free
    /// when this returns. It waits for the data plane.
    pub fn withdraw(&self, name: &str, stream: &ProducedStream) {
        let publisher = Publisher::Produced(stream.clone());
        self.tables().take_away(name, &publisher);
        stream.close();
    }

    /// Follows a name while publishers come and go, whether or not there is one now.
    ///
    /// # Errors
    /// [`BroadcastError::Name`].
    pub fn follow(&self, name: &str) -> Result<Follower, BroadcastError> {
        check_name(name)?;
        let mut tables = self.tables();
        let tables = &mut *tables;
        let entry = tables.streams.get(name);
        let now = entry.and_then(|stream| stream.publishers.on_air());
        Ok(tables.followed.follow(name, now))
    }

    /// Clears up after a produced stream whenever it ends.
    fn watch_over_produced(&self, name: &str, stream: &ProducedStream) {
        let (broadcast, stream, name) = (self.clone(), stream.clone(), name.to_owned());
        tokio::spawn(async move {
            let reason = stream.closed().await;
            let (source, id) = (stream.source(), stream.id().0);
            tracing::info!(stream = name, source, id, %reason, "stream ended");
            let publisher = Publisher::Produced(stream);
            // All viewers are detached, which may wait for the data plane.
            let leave = move || broadcast.tables().take_away(&name, &publisher);
            in_background(id, leave).await;
        });
    }

    /// Changes whenever a publisher came or left, of whatever stream: who watches all streams waits
    /// for it and looks at [`live_names`](Self::live_names).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.tables().followed.changes()
    }

    /// The streams that have a publisher now.
    pub fn live_names(&self) -> Vec<String> {
        let tables = self.tables();
        let live = tables
            .streams
            .iter()
            .filter(|(_, entry)| entry.publishers.on_air().is_some());
        live.map(|(name, _)| name.clone()).collect()
    }
}
