//! Playing: what is live under a name, as FLV tags for those who play it over RTMP.
//!
//! A [`hub`] for each played name taps its publisher once and makes tags, for however many readers. A
//! [`Reader`] has a bounded queue; who does not keep up is let go, and nobody else notices.

mod hub;
mod sound;
mod tags;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::broadcast::{Broadcast, BroadcastError};

use hub::{Hub, NewReader};
pub(super) use tags::{Tag, TagKind};

/// Tags that wait for a reader: ten seconds of pictures and sound, or a keyframe and all since.
const MAX_QUEUED_TAGS: usize = 2048;

type Inbox = mpsc::UnboundedSender<NewReader>;

/// The hubs of a broadcast.
#[derive(Clone, Default)]
pub(super) struct Hubs(Arc<Mutex<HashMap<String, Inbox>>>);

/// What one client plays.
pub(super) struct Reader {
    tags: mpsc::Receiver<Tag>,
    is_slow: Arc<AtomicBool>,
}

/// What a reader is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wants {
    /// Opus as it is; else AAC, if this server can make it.
    pub(super) opus: bool,
    /// A keyframe every two seconds: who reads it behind another server begins with one.
    pub(super) keyframes: bool,
}

/// Why a reader is given nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReaderEnded {
    /// It did not keep up.
    Slow,
    /// The publisher left and did not return.
    Over,
}

/// The times of what one reader is given: they begin at 0.
#[derive(Debug, Default)]
pub(super) struct ReaderClock {
    began_ms: Option<i64>,
}

impl ReaderClock {
    /// The time of a tag; `None`: it is sound from before the beginning, as what is encoded may be.
    pub(super) fn timestamp(&mut self, tag: &Tag) -> Option<u32> {
        // A configuration may be from long before.
        let began_ms = match (self.began_ms, tag.is_configuration) {
            (None, true) => return Some(0),
            (began, _) => *self.began_ms.insert(began.unwrap_or(tag.ms)),
        };
        let passed_ms = tag.ms.saturating_sub(began_ms);
        let is_before = passed_ms < 0 && tag.kind == TagKind::Aac && !tag.is_configuration;
        // Modulo 2^32.
        (!is_before).then_some(passed_ms.max(0) as u32)
    }
}

impl Reader {
    /// The next tag.
    pub(super) async fn next(&mut self) -> Result<Tag, ReaderEnded> {
        let tag = self.tags.recv().await;
        tag.ok_or_else(|| match self.is_slow.load(Ordering::Relaxed) {
            true => ReaderEnded::Slow,
            false => ReaderEnded::Over,
        })
    }

    /// One that is there already.
    pub(super) fn ready(&mut self) -> Option<Tag> {
        self.tags.try_recv().ok()
    }
}

impl Hubs {
    /// Plays what is live under a name. Call it inside the runtime.
    pub(super) fn read(
        &self,
        broadcast: &Broadcast,
        name: &str,
        wants: Wants,
    ) -> Result<Reader, BroadcastError> {
        let mut follower = broadcast.follow(name)?;
        let live = follower.current();
        let live = live.ok_or_else(|| BroadcastError::NotLive(name.to_owned()))?;
        let (sender, tags) = mpsc::channel(MAX_QUEUED_TAGS);
        let is_slow = Arc::new(AtomicBool::new(false));
        let mut new = NewReader {
            tags: sender,
            is_slow: Arc::clone(&is_slow),
            wants,
        };
        let mut hubs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(name) {
            match hub.send(new) {
                Ok(()) => return Ok(Reader { tags, is_slow }),
                Err(back) => new = back.0,
            }
        }
        let (inbox, readers) = mpsc::unbounded_channel();
        // It cannot fail: the other end is there.
        let _ = inbox.send(new);
        hubs.insert(name.to_owned(), inbox);
        drop(hubs);
        let hub = Hub::new(name.to_owned(), follower, readers, self.clone());
        tokio::spawn(hub.run(live));
        Ok(Reader { tags, is_slow })
    }

    /// Takes a hub without readers out; `false`: one came meanwhile.
    fn end(&self, name: &str, readers: &mut mpsc::UnboundedReceiver<NewReader>) -> bool {
        let mut hubs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !readers.is_empty() {
            return false;
        }
        readers.close();
        hubs.remove(name);
        true
    }
}
