//! Players by the names of their streams: what the admin socket and the pages command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::media::{Media, MediaError};
use super::recordings::Recordings;
use super::{Player, PlayerEvent, PlayerOptions, PlayerState};
use crate::access::Access;
use crate::broadcast::{Broadcast, BroadcastError};
use crate::events::Events;
use crate::model::{CreateStreamError, ProducedStream};

/// Why a player was not made, or does not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlayerError {
    /// The files cannot be played.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// Viewers cannot be sent this.
    #[error("this server does not send {0} to viewers; H.264, VP8, VP9 and AV1 it does")]
    NotCarried(String),
    /// The stream was not made.
    #[error(transparent)]
    Stream(#[from] CreateStreamError),
    /// The name cannot be had.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    /// No threads.
    #[error("cannot start the threads of players: {0}; raise the limit of processes")]
    Threads(#[source] std::io::Error),
    /// Nothing plays under that name.
    #[error("no player plays into stream {0}")]
    Unknown(String),
    /// A parameter makes no sense.
    #[error("{0}")]
    Parameter(String),
}

/// A player in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlayerInfo {
    /// The stream it plays into.
    pub stream: String,
    /// What it does.
    pub state: PlayerState,
    /// The file it plays.
    pub path: String,
    /// Where in that file, in seconds.
    pub position_s: f64,
    /// How long that file plays, if it says.
    pub duration_s: Option<f64>,
    /// The file's place in the playlist.
    pub item: usize,
    /// All files, in order.
    pub playlist: Vec<String>,
    /// 1 is normal.
    pub rate: f64,
    /// Whether it begins again at the end.
    pub repeat: bool,
    /// What of the file is not played, and why.
    pub left_out: Vec<String>,
}

struct Entry {
    player: Player,
    produced: ProducedStream,
    repeat: bool,
}

struct Shared {
    broadcast: Broadcast,
    recordings: Recordings,
    players: Mutex<HashMap<String, Entry>>,
}

/// All players of a broadcast; clones share them.
#[derive(Clone)]
pub struct Players(Arc<Shared>);

impl Players {
    /// None yet, of files in `recordings`.
    #[must_use]
    pub fn new(broadcast: Broadcast, recordings: Recordings) -> Self {
        Self(Arc::new(Shared {
            broadcast,
            recordings,
            players: Mutex::default(),
        }))
    }

    /// Who may watch and operate by the doors; whoever calls this itself is not asked.
    #[must_use]
    pub fn access(&self) -> &Access {
        self.0.broadcast.access()
    }

    /// Where the files are.
    #[must_use]
    pub fn recordings(&self) -> &Recordings {
        &self.0.recordings
    }

    /// Makes a player of `paths`, one after the other, into a stream of this name. Call it inside
    /// the runtime, on a thread that may wait.
    ///
    /// # Errors
    /// [`PlayerError`].
    pub fn create(
        &self,
        stream: &str,
        paths: &[String],
        options: PlayerOptions,
    ) -> Result<PlayerInfo, PlayerError> {
        let media = Media::open(&self.0.recordings, paths)?;
        let broadcast = &self.0.broadcast;
        let (produced, player) = broadcast.server().create_player(media, options)?;
        broadcast.publish_stream(stream, &produced)?;
        self.watch_over(stream, &player, &produced);
        let entry = Entry {
            player,
            produced,
            repeat: options.repeat,
        };
        let info = info(stream, &entry);
        // The name was free, so what is under it still has ended.
        self.players().insert(stream.to_owned(), entry);
        Ok(info)
    }

    /// The player of a stream.
    ///
    /// # Errors
    /// [`PlayerError::Unknown`].
    pub fn get(&self, stream: &str) -> Result<Player, PlayerError> {
        let players = self.players();
        let entry = players.get(stream);
        let entry = entry.filter(|entry| is_there(&entry.player));
        let entry = entry.ok_or_else(|| PlayerError::Unknown(stream.to_owned()))?;
        Ok(entry.player.clone())
    }

    /// Everything about the player of a stream, after what was asked of it.
    ///
    /// # Errors
    /// [`PlayerError::Unknown`].
    pub fn info(&self, stream: &str) -> Result<PlayerInfo, PlayerError> {
        if let Ok(player) = self.get(stream) {
            player.settle();
        }
        let players = self.players();
        let entry = players.get(stream);
        let entry = entry.ok_or_else(|| PlayerError::Unknown(stream.to_owned()))?;
        Ok(info(stream, entry))
    }

    /// Whether the player of a stream begins again at the end.
    ///
    /// # Errors
    /// [`PlayerError::Unknown`].
    pub fn set_repeat(&self, stream: &str, repeat: bool) -> Result<(), PlayerError> {
        let mut players = self.players();
        let entry = players.get_mut(stream);
        let entry = entry.ok_or_else(|| PlayerError::Unknown(stream.to_owned()))?;
        entry.repeat = repeat;
        entry.player.set_repeat(repeat);
        Ok(())
    }

    /// Ends the player of a stream, and the stream. The name is free when this returns. It waits
    /// for the data plane.
    ///
    /// # Errors
    /// [`PlayerError::Unknown`].
    pub fn stop(&self, stream: &str) -> Result<(), PlayerError> {
        let entry = self.players().remove(stream);
        let entry = entry.filter(|entry| is_there(&entry.player));
        let entry = entry.ok_or_else(|| PlayerError::Unknown(stream.to_owned()))?;
        entry.player.stop();
        self.0.broadcast.withdraw(stream, &entry.produced);
        Ok(())
    }

    /// All players, by their streams' names.
    #[must_use]
    pub fn list(&self) -> Vec<PlayerInfo> {
        let players = self.players();
        let there = players.iter().filter(|(_, entry)| is_there(&entry.player));
        let mut all: Vec<_> = there.map(|(stream, entry)| info(stream, entry)).collect();
        all.sort_by(|a, b| a.stream.cmp(&b.stream));
        all
    }

    /// Tells what happens to a player, and forgets it when it has stopped.
    fn watch_over(&self, stream: &str, player: &Player, produced: &ProducedStream) {
        let mut happened = player.events();
        let mut told = Told {
            events: self.0.broadcast.events().clone(),
            stream: stream.to_owned(),
            paths: player
                .items()
                .iter()
                .map(|item| item.path.clone())
                .collect(),
            item: 0,
            position_us: 0,
        };
        let (players, produced) = (Arc::downgrade(&self.0), produced.clone());
        let broadcast = self.0.broadcast.clone();
        tokio::spawn(async move {
            loop {
                let event = match happened.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => break,
                };
                if let Some(players) = players.upgrade()
                    && let Some(entry) = lock(&players.players).get(&told.stream)
                    && is_there(&entry.player)
                {
                    let status = entry.player.status();
                    (told.item, told.position_us) = (status.item, status.position_us);
                }
                let paused = match event {
                    PlayerEvent::Playing => Some(false),
                    PlayerEvent::Paused | PlayerEvent::Ended => Some(true),
                    _ => None,
                };
                if let Some(paused) = paused {
                    let (broadcast, produced) = (broadcast.clone(), produced.clone());
                    let stream = told.stream.clone();
                    // Whoever changes the tables may be waiting for the data plane.
                    let tell = move || broadcast.set_paused(&stream, &produced, paused);
                    // It may be cut off, by the end of the program.
                    let _ = tokio::task::spawn_blocking(tell).await;
                }
                told.tell(&event);
                if matches!(event, PlayerEvent::Stopped { .. }) {
                    break;
                }
            }
            if let Some(players) = players.upgrade() {
                let mut players = lock(&players.players);
                // Another may have taken its place.
                players.retain(|name, entry| *name != told.stream || is_there(&entry.player));
            }
        });
    }

    fn players(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        lock(&self.0.players)
    }
}

/// Tells the log and the server's events of one player.
struct Told {
    events: Events,
    stream: String,
    paths: Vec<String>,
    /// Where it was last.
    item: usize,
    position_us: i64,
}

impl Told {
    fn tell(&self, event: &PlayerEvent) {
        let stream = &self.stream;
        let mut details = json!({
            "path": self.paths.get(self.item),
            "item": self.item,
            "position_s": self.position_us as f64 / 1e6,
        });
        let kind = match event {
            PlayerEvent::Playing => "player.playing",
            PlayerEvent::Paused => "player.paused",
            PlayerEvent::Position { .. } => "player.position",
            PlayerEvent::Ended => {
                tracing::info!(stream, "played to the end");
                "player.ended"
            }
            PlayerEvent::Stopped { error: None } => {
                tracing::info!(stream, "player stopped");
                "player.stopped"
            }
            PlayerEvent::Stopped { error: Some(error) } => {
                tracing::warn!(stream, error, "player stopped");
                details["why"] = error.as_str().into();
                "player.failed"
            }
        };
        self.events.emit(kind, Some(stream), details);
    }
}

fn lock(players: &Mutex<HashMap<String, Entry>>) -> MutexGuard<'_, HashMap<String, Entry>> {
    players.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_there(player: &Player) -> bool {
    player.status().state != PlayerState::Stopped
}

fn info(stream: &str, entry: &Entry) -> PlayerInfo {
    let status = entry.player.status();
    let items = entry.player.items();
    let item = &items[status.item.min(items.len() - 1)];
    let seconds = |us: i64| us as f64 / 1e6;
    PlayerInfo {
        stream: stream.to_owned(),
        state: status.state,
        path: item.path.clone(),
        position_s: seconds(status.position_us),
        duration_s: item.duration_us.map(seconds),
        item: status.item,
        playlist: items.iter().map(|item| item.path.clone()).collect(),
        rate: f64::from(status.rate) / 1000.0,
        repeat: entry.repeat,
        left_out: item.left_out.clone(),
    }
}
