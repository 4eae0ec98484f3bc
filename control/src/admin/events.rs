//! The methods by which a client is told what happens, as notifications on its connection.
//!
//! Each subscription is a task that waits for the client: of what happens meanwhile its
//! [`EventReader`] keeps a bounded number, and counts the rest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::connection::Notifier;
use super::{Caller, Methods, Reason, RpcError};
use crate::events::{EventReader, Events, Filter};

/// The method of the notifications.
pub(super) const EVENT: &str = "event";

/// Subscriptions of one connection.
const MAX_SUBSCRIPTIONS: usize = 8;

/// Patterns of one subscription, and bytes of each.
const MAX_KINDS: usize = 32;
const MAX_PATTERN_BYTES: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    stream: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    subscription: u64,
}

#[derive(Default)]
struct Table {
    latest: u64,
    subscriptions: HashMap<u64, Subscription>,
}

struct Subscription {
    connection: Notifier,
    end: CancellationToken,
}

#[derive(Clone, Default)]
struct Subscriptions(Arc<Mutex<Table>>);

/// Adds `events.subscribe` and `events.unsubscribe`.
pub fn add_event_methods(methods: &mut Methods, events: &Events) {
    let subscriptions = Subscriptions::default();
    let (of, table) = (events.clone(), subscriptions.clone());
    methods.add(
        "events.subscribe",
        "Tells what happens from now on, as notifications `event` on this connection; kinds such as \
         [\"recorder.*\", \"stream.ended\"] and a stream (with * and ?) narrow it.",
        move |caller: Caller, Subscribe { kinds, stream }: Subscribe| {
            let (of, table) = (of.clone(), table.clone());
            async move {
                let filter = filter(kinds, stream)?;
                let subscription = table.begin(caller.notifier, || of.subscribe(filter))?;
                Ok(json!({ "subscription": subscription }))
            }
        },
    );
    methods.add(
        "events.unsubscribe",
        "Ends a subscription that was made on this connection.",
        move |caller: Caller, Unsubscribe { subscription }: Unsubscribe| {
            let ended = subscriptions.end(subscription, &caller.notifier);
            async move {
                ended?;
                Ok(json!({ "subscription": subscription }))
            }
        },
    );
}

fn filter(kinds: Vec<String>, stream: Option<String>) -> Result<Filter, RpcError> {
    if kinds.len() > MAX_KINDS || kinds.iter().any(|kind| kind.len() > MAX_PATTERN_BYTES) {
        let bounds = format!("{MAX_KINDS} patterns of {MAX_PATTERN_BYTES} bytes are the most");
        return Err(RpcError::invalid_params("kinds", bounds));
    }
    if stream
        .as_ref()
        .is_some_and(|name| name.len() > MAX_PATTERN_BYTES)
    {
        let bound = format!("{MAX_PATTERN_BYTES} bytes are the most");
        return Err(RpcError::invalid_params("stream", bound));
    }
    Ok(Filter { kinds, stream })
}

impl Subscriptions {
    fn begin(
        &self,
        connection: Notifier,
        subscribe: impl FnOnce() -> EventReader,
    ) -> Result<u64, RpcError> {
        let mut table = self.table();
        let present = table.subscriptions.values();
        let same = present.filter(|one| one.connection.is_same(&connection));
        if same.count() >= MAX_SUBSCRIPTIONS {
            let message = format!(
                "this connection has {MAX_SUBSCRIPTIONS} subscriptions, which is the limit: end one"
            );
            return Err(RpcError::new(Reason::LimitReached, message));
        }
        table.latest += 1;
        let id = table.latest;
        let end = CancellationToken::new();
        let subscription = Subscription {
            connection: connection.clone(),
            end: end.clone(),
        };
        table.subscriptions.insert(id, subscription);
        drop(table);
        let (table, reader) = (self.clone(), subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = connection.gone() => {}
                () = tell(id, reader, &connection) => {}
            }
            table.table().subscriptions.remove(&id);
        });
        Ok(id)
    }

    fn end(&self, id: u64, connection: &Notifier) -> Result<(), RpcError> {
        let mut table = self.table();
        let subscription = table.subscriptions.get(&id);
        let own = subscription.is_some_and(|one| one.connection.is_same(connection));
        let subscription = own.then(|| table.subscriptions.remove(&id)).flatten();
        let subscription = subscription.ok_or_else(|| {
            let message = format!("this connection has no subscription {id}");
            RpcError::new(Reason::NotFound, message)
        })?;
        subscription.end.cancel();
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends events as fast as the client reads, until it is gone.
async fn tell(id: u64, mut reader: EventReader, connection: &Notifier) {
    loop {
        let event = reader.next().await;
        let mut params = Value::Object((*event).clone());
        params["subscription"] = id.into();
        if connection.notify_in_turn(EVENT, params).await.is_err() {
            return;
        }
    }
}
