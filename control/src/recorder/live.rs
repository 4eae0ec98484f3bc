//! Recorders of named streams: they follow a name while its publishers come and go, and rules create
//! them by themselves.
//!
//! The admin socket and the program use it; it connects [`Recorders`] with [`Broadcast`] and touches no
//! media.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::rule::Rule;
use super::worker::lock;
use super::{RecorderError, RecorderInfo, RecorderSpec, Recorders};
use crate::access::Access;
use crate::broadcast::{Broadcast, Follower, Live};
use crate::taps::tap_sources;

/// A recorder made by a rule ends when its stream has had no publisher for this long.
const LINGER: Duration = Duration::from_secs(30);

struct Shared {
    broadcast: Broadcast,
    recorders: Recorders,
    following: Mutex<HashMap<u64, AbortHandle>>,
    /// Streams that a rule records now.
    ruled: Mutex<HashMap<String, u64>>,
}

/// The recorders of a [`Broadcast`]; clones share them.
#[derive(Clone)]
pub struct StreamRecorders(Arc<Shared>);

impl StreamRecorders {
    /// Records streams of `broadcast`; every stream that a rule matches, from when it is live. Call it
    /// inside the runtime.
    #[must_use]
    pub fn new(broadcast: Broadcast, recorders: Recorders, rules: Vec<Rule>) -> Self {
        let all = Self(Arc::new(Shared {
            broadcast,
            recorders,
            following: Mutex::default(),
            ruled: Mutex::default(),
        }));
        if !rules.is_empty() {
            tokio::spawn(all.clone().apply(rules));
        }
        all
    }

    /// Who may operate by the doors; whoever calls this itself is not asked.
    #[must_use]
    pub fn access(&self) -> &Access {
        self.0.broadcast.access()
    }

    /// The recorders, whatever they record.
    #[must_use]
    pub fn recorders(&self) -> &Recorders {
        &self.0.recorders
    }

    /// Creates a recorder of a stream, which need not be live yet. Call it inside the runtime.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub fn create(&self, spec: &RecorderSpec) -> Result<RecorderInfo, RecorderError> {
        let follower = self.0.broadcast.follow(&spec.stream);
        let follower = follower.map_err(|error| RecorderError::Stream(error.to_string()))?;
        let id = self.0.recorders.create(spec)?;
        let follow = follow(self.0.recorders.clone(), id, follower, spec.rid.clone());
        let task = tokio::spawn(follow).abort_handle();
        lock(&self.0.following).insert(id, task);
        self.0.recorders.get(id)
    }

    /// Ends a recorder; returns when its files are complete.
    ///
    /// # Errors
    /// [`RecorderError::Unknown`].
    pub async fn stop(&self, id: u64) -> Result<RecorderInfo, RecorderError> {
        if let Some(task) = lock(&self.0.following).remove(&id) {
            task.abort();
        }
        self.0.recorders.stop(id).await
    }

    /// Creates recorders for streams that are live and match a rule, and ends them.
    async fn apply(self, rules: Vec<Rule>) {
        let mut changes = self.0.broadcast.changes();
        loop {
            for name in self.0.broadcast.live_names() {
                let rule = rules.iter().find(|rule| rule.matches(&name));
                let ruled = lock(&self.0.ruled).contains_key(&name);
                if let (Some(rule), false) = (rule, ruled) {
                    self.begin(&name, rule);
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn begin(&self, stream: &str, rule: &Rule) {
        let spec = RecorderSpec {
            stream: stream.to_owned(),
            path: Some(rule.template().to_owned()),
            by_rule: true,
            ..RecorderSpec::default()
        };
        match self.create(&spec) {
            Ok(info) => {
                lock(&self.0.ruled).insert(stream.to_owned(), info.id);
                tokio::spawn(self.clone().end_when_gone(stream.to_owned(), info.id));
            }
            Err(error) => tracing::error!(stream, %error, "cannot record a stream by its rule"),
        }
    }

    /// Ends a recorder made by a rule once its stream is gone for good.
    async fn end_when_gone(self, stream: String, id: u64) {
        if let Ok(mut follower) = self.0.broadcast.follow(&stream) {
            let mut live = follower.current().is_some();
            loop {
                let changed = follower.changed();
                live = match live {
                    true => changed.await.is_some(),
                    false => match tokio::time::timeout(LINGER, changed).await {
                        Ok(now) => now.is_some(),
                        Err(_) => break,
                    },
                };
            }
        }
        lock(&self.0.ruled).remove(&stream);
        // Somebody may have stopped it.
        if let Err(error) = self.stop(id).await {
            tracing::debug!(stream, %error, "a recorder had ended");
        }
    }
}

/// Gives a recorder the tracks of whoever publishes its stream.
async fn follow(recorders: Recorders, id: u64, mut follower: Follower, rid: Option<String>) {
    let mut live = follower.current();
    loop {
        // Making taps may wait for the data plane.
        let (of, rid) = (live.take(), rid.clone());
        let sources = tokio::task::spawn_blocking(move || sources(of.as_ref(), rid.as_deref()));
        match sources.await {
            Ok(Ok(sources)) => recorders.attach(id, sources),
            Ok(Err(error)) => tracing::error!(recorder = id, %error, "cannot tap a stream"),
            Err(_) => return,
        }
        live = follower.changed().await;
    }
}

fn sources(live: Option<&Live>, rid: Option<&str>) -> std::io::Result<Vec<Box<dyn super::Source>>> {
    live.map_or(Ok(Vec::new()), |live| tap_sources(&live.incoming, rid))
}
