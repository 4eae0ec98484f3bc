//! What happens in the server, told to whoever asked: streams, recorders, players, and what else has
//! something to say.
//!
//! Any part of the server calls [`Events::emit`], which never waits; the admin socket reads. Each
//! reader has a queue of its own, of what it asked for only. When that is full it misses what comes,
//! and is told at that place how much: neither those who tell nor other readers notice.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value};
use time::UtcDateTime;
use tokio::sync::Notify;

use crate::config::pattern;

/// Events that a reader may be behind.
pub const MAX_QUEUED: usize = 256;

/// The kind of the event that says how many a reader missed.
pub const MISSED: &str = "events.missed";

/// Something that happened, as JSON has it: `event`, `time`, `stream`, and what else there is to say.
pub type Event = Map<String, Value>;

/// Which events a reader wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Kinds such as `recorder.failed` or `player.*`; all if there are none.
    pub kinds: Vec<String>,
    /// The streams, as a name with `*` and `?`; `None`: also what is about no stream.
    pub stream: Option<String>,
}

impl Filter {
    fn passes(&self, kind: &str, stream: Option<&str>) -> bool {
        let is_kind = |wanted: &String| pattern::fits(wanted, kind);
        let of_kind = self.kinds.is_empty() || self.kinds.iter().any(is_kind);
        let of_stream = self
            .stream
            .as_ref()
            .is_none_or(|wanted| stream.is_some_and(|stream| pattern::fits(wanted, stream)));
        of_kind && of_stream
    }
}

enum Item {
    Event(Arc<Event>),
    Missed(u64),
}

struct Queue {
    filter: Filter,
    items: Mutex<VecDeque<Item>>,
    rung: Notify,
}

impl Queue {
    fn push(&self, event: &Arc<Event>) {
        let mut items = lock(&self.items);
        let is_full = items.len() >= MAX_QUEUED;
        match items.back_mut() {
            Some(Item::Missed(count)) if is_full => *count += 1,
            _ if is_full => items.push_back(Item::Missed(1)),
            _ => items.push_back(Item::Event(Arc::clone(event))),
        }
        drop(items);
        self.rung.notify_one();
    }
}

/// Tells events to those who read them; clones are the same.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Weak<Queue>>>>);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({} readers)", lock(&self.0).len())
    }
}

impl Events {
    /// Nobody reads yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells that something happened. `kind` is what it happened to and what, such as
    /// `recorder.failed`; `details` is an object with whatever there is to say. Never waits.
    pub fn emit(&self, kind: &str, stream: Option<&str>, details: impl Serialize) {
        let mut queues = lock(&self.0);
        let mut event = None;
        queues.retain(|queue| {
            let Some(queue) = queue.upgrade() else {
                return false;
            };
            if queue.filter.passes(kind, stream) {
                let event = event.get_or_insert_with(|| Arc::new(event_of(kind, stream, &details)));
                queue.push(event);
            }
            true
        });
    }

    /// Reads what happens from now on.
    #[must_use]
    pub fn subscribe(&self, filter: Filter) -> EventReader {
        let queue = Arc::new(Queue {
            filter,
            items: Mutex::default(),
            rung: Notify::new(),
        });
        lock(&self.0).push(Arc::downgrade(&queue));
        EventReader(queue)
    }
}

/// Reads events. Dropping it ends it.
pub struct EventReader(Arc<Queue>);

impl EventReader {
    /// The next event, or that some were missed ([`MISSED`]). Nothing is lost when the future is
    /// dropped.
    pub async fn next(&mut self) -> Arc<Event> {
        loop {
            let item = lock(&self.0.items).pop_front();
            match item {
                Some(Item::Event(event)) => return event,
                Some(Item::Missed(count)) => {
                    let missed = serde_json::json!({ "missed": count });
                    return Arc::new(event_of(MISSED, None, &missed));
                }
                None => self.0.rung.notified().await,
            }
        }
    }
}

fn event_of(kind: &str, stream: Option<&str>, details: &impl Serialize) -> Event {
    let mut event = Event::new();
    if let Ok(Value::Object(details)) = serde_json::to_value(details) {
        event.extend(details);
    }
    event.insert("event".to_owned(), kind.into());
    event.insert("time".to_owned(), rfc3339(SystemTime::now()).into());
    if let Some(stream) = stream {
        event.insert("stream".to_owned(), stream.into());
    }
    event
}

/// A time in UTC, in milliseconds.
fn rfc3339(at: SystemTime) -> String {
    let at = UtcDateTime::from(at);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, millisecond) = at.time().as_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
