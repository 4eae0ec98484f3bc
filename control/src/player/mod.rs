//! Plays MP4 files as live streams: what [`Media`] holds goes, packet by packet when it is due, into
//! a [`Sink`].
//!
//! A [`Player`] is a handle. What it asks for is done by the threads of `service`: one paces all
//! players of the process (`pacer`), two read ahead (`feed`, on [`demux`]). Nothing here runs on
//! a shard or on the threads of the control plane but short commands. [`Players`] has names for
//! them, and `MediaServer::create_player` does without.

pub mod demux;
mod feed;
mod media;
mod pacer;
mod players;
mod recordings;
pub mod requests;
mod service;
mod sink;
mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timeline;

use std::io;
use std::sync::Arc;

use tokio::sync::broadcast;

pub use media::{Item, MAX_PLAYLIST, Media, MediaError, VideoCodec};
pub use pacer::{Outgoing, Sink, SinkClosed};
pub use players::{PlayerError, PlayerInfo, Players};
pub use recordings::{Recording, RecordingError, Recordings};
pub use status::{PlayerEvent, PlayerState, PlayerStatus};
pub use timeline::NORMAL_RATE;

use feed::Feed;
use pacer::{Command, NewPlayer, PlayerId};
use service::Service;
use status::Shared;

use crate::media::rtp::Headers;

/// Rates a player plays at, in thousandths.
pub const RATES: std::ops::RangeInclusive<u32> = 250..=4000;

/// How a player plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlayerOptions {
    /// After the last file begin again with the first.
    pub repeat: bool,
    /// Thousandths of normal speed, within [`RATES`]. At another than [`NORMAL_RATE`] nothing is
    /// heard.
    pub rate: u32,
}

impl Default for PlayerOptions {
    fn default() -> Self {
        Self {
            repeat: false,
            rate: NORMAL_RATE,
        }
    }
}

/// Random numbers that the headers of a player begin with (RFC 3550 5.1).
#[derive(Debug, Clone, Copy)]
pub struct Beginning {
    /// Sequence number and timestamp of video, and of sound.
    pub numbers: [(u16, u32); 2],
    /// Picture id of VP8 and VP9.
    pub picture_id: u16,
}

struct Inner {
    service: &'static Service,
    id: PlayerId,
    shared: Arc<Shared>,
    items: Vec<Item>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.service.send(Command::Stop(self.id));
    }
}

/// A running player; clones are the same, and with the last it stops.
#[derive(Clone)]
pub struct Player(Arc<Inner>);

impl Player {
    /// Makes a player of `media` into `sink`. It sends nothing until it is played.
    ///
    /// # Errors
    /// If the threads that play cannot be started.
    pub fn start(
        media: Media,
        sink: Box<dyn Sink>,
        options: PlayerOptions,
        beginning: Beginning,
    ) -> io::Result<Self> {
        let service = Service::get()?;
        let rate = options.rate.clamp(*RATES.start(), *RATES.end());
        let shared = Arc::new(Shared::new(rate));
        let [video, audio] = beginning.numbers;
        let items = media.items().to_vec();
        let id = service.add(NewPlayer {
            feed: Feed::new(media.files, beginning.picture_id),
            sink,
            shared: Arc::clone(&shared),
            headers: [
                Headers::new(90_000, video.0, video.1),
                Headers::new(48_000, audio.0, audio.1),
            ],
            repeat: options.repeat,
            rate,
        });
        Ok(Self(Arc::new(Inner {
            service,
            id,
            shared,
            items,
        })))
    }

    /// Plays: from the beginning, from where it was paused, or again from the beginning.
    pub fn play(&self) {
        self.0.service.send(Command::Play(self.0.id));
    }

    /// Goes on showing the present frame.
    pub fn pause(&self) {
        self.0.service.send(Command::Pause(self.0.id));
    }

    /// Goes to a time of a file of the playlist. Viewers see the very frame of that time; whether
    /// it then goes on is as before.
    pub fn seek(&self, item: usize, us: i64) {
        let item = item.min(self.0.items.len() - 1);
        let last_us = self.0.items[item].duration_us.unwrap_or(i64::MAX / 4);
        let us = us.clamp(0, last_us);
        let id = self.0.id;
        self.0.service.send(Command::Seek { id, item, us });
    }

    /// Changes the speed, in thousandths, within [`RATES`].
    pub fn set_rate(&self, rate: u32) {
        let rate = rate.clamp(*RATES.start(), *RATES.end());
        self.0.service.send(Command::SetRate(self.0.id, rate));
    }

    /// Whether it begins again after the last file.
    pub fn set_repeat(&self, repeat: bool) {
        self.0.service.send(Command::SetRepeat(self.0.id, repeat));
    }

    /// Ends it, and with it the stream.
    pub fn stop(&self) {
        self.0.service.send(Command::Stop(self.0.id));
    }

    /// What it does and where it is.
    #[must_use]
    pub fn status(&self) -> PlayerStatus {
        self.0.shared.status()
    }

    /// Waits until what was asked for before is done: a matter of microseconds. A seek is done when its
    /// frame is looked for.
    pub fn settle(&self) {
        self.0.service.settle();
    }

    /// What happens to it from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<PlayerEvent> {
        self.0.shared.subscribe()
    }

    /// Its playlist.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.0.items
    }
}
