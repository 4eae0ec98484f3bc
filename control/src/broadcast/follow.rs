//! Following a name while its publishers come and go: for consumers in this process, which tap the
//! tracks of whoever publishes, such as a recorder.

use std::collections::HashMap;

use tokio::sync::watch;

use crate::broadcast::publisher::Publisher;
use crate::model::IncomingStream;

/// What is live under a name.
#[derive(Debug, Clone)]
pub struct Live {
    /// What publishes it: `whip`, `player` and so on.
    pub source: &'static str,
    /// The publisher's name: another one each time one comes.
    pub id: u64,
    /// What it shares, to be tapped.
    pub incoming: IncomingStream,
}

/// Knows who publishes one stream, now and later. Dropping it ends it.
#[derive(Debug)]
pub struct Follower(watch::Receiver<Option<Live>>);

impl Follower {
    /// What is live now.
    pub fn current(&mut self) -> Option<Live> {
        self.0.borrow_and_update().clone()
    }

    /// Waits until another publisher came (`Some`) or the last one left (`None`) since the last
    /// call, or the last [`current`](Self::current). What happened in between is not told: who
    /// came and left is missed, and of two who came only the second is seen, by its id. Nothing is
    /// lost when the future is dropped.
    pub async fn changed(&mut self) -> Option<Live> {
        if self.0.changed().await.is_err() {
            // The broadcast has gone, and nobody will ever publish here again.
            std::future::pending::<()>().await;
        }
        self.current()
    }
}

/// The names that are followed, and those of all that are live.
#[derive(Debug, Default)]
pub(super) struct Followed {
    names: HashMap<String, watch::Sender<Option<Live>>>,
    /// Counts publishers that came or left.
    changes: watch::Sender<u64>,
}

impl Followed {
    pub(super) fn follow(&mut self, name: &str, now: Option<&Publisher>) -> Follower {
        // Those whose followers have gone.
        self.names
            .retain(|_, followed| followed.receiver_count() > 0);
        let followed = self.names.entry(name.to_owned());
        let followed = followed.or_insert_with(|| watch::Sender::new(now.map(live)));
        Follower(followed.subscribe())
    }

    /// Tells that another publisher is shown under this name, or none any more.
    pub(super) fn tell(&self, name: &str, now: Option<&Publisher>) {
        if let Some(followed) = self.names.get(name) {
            followed.send_replace(now.map(live));
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn live(publisher: &Publisher) -> Live {
    Live {
        source: publisher.source(),
        id: publisher.id(),
        incoming: publisher.incoming().clone(),
    }
}
