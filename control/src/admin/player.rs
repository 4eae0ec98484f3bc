//! The methods about players and recordings.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Caller, Methods, Reason, RpcError};
use crate::player::{MediaError, PlayerError, Players, RecordingError, requests};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Adds `player.*` and `recording.files`.
pub fn add_player_methods(methods: &mut Methods, players: &Players) {
    let mut add = Adding { methods, players };
    add.method(
        "player.create",
        "Makes a stream that plays a recording, or several in a row (paths); it begins with \
         player.play. rate: 0.25 to 4, silent unless 1.",
        requests::Create::run,
    );
    add.method(
        "player.play",
        "Plays: from the beginning, from where it was paused, or again after the end.",
        requests::Stream::play,
    );
    add.method(
        "player.pause",
        "Goes on showing the present frame.",
        requests::Stream::pause,
    );
    add.method(
        "player.resume",
        "Goes on from where it was paused; the same as player.play.",
        requests::Stream::play,
    );
    add.method(
        "player.seek",
        "Shows the frame of a time (position_s) of the present file, or of another of the playlist \
         (item), and goes on from there if it was playing.",
        requests::Seek::run,
    );
    add.method(
        "player.set",
        "Changes the rate, or whether it begins again at the end.",
        requests::Set::run,
    );
    add.method(
        "player.stop",
        "Ends the player and its stream; viewers stay and wait for the next publisher.",
        |request: requests::Stream, players| {
            let stream = request.stream.clone();
            request.stop(players)?;
            Ok(json!({ "stream": stream }))
        },
    );
    add.method(
        "player.list",
        "Every player: state, file, position.",
        |Nothing {}, players| Ok(players.list()),
    );
    add.method(
        "recording.files",
        "The MP4 files that can be played, the latest first.",
        |Nothing {}, players| Ok(players.recordings().list()),
    );
}

struct Adding<'a> {
    methods: &'a mut Methods,
    players: &'a Players,
}

impl Adding<'_> {
    fn method<P, T>(
        &mut self,
        name: &'static str,
        description: &'static str,
        run: fn(P, &Players) -> Result<T, PlayerError>,
    ) where
        P: DeserializeOwned + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let players = self.players.clone();
        self.methods
            .add(name, description, move |_: Caller, params: P| {
                let players = players.clone();
                waiting(move || run(params, &players))
            });
    }
}

/// Runs what waits for a disk or for the data plane on a thread that may.
async fn waiting<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, PlayerError> + Send + 'static,
) -> Result<T, RpcError> {
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done.map_err(|error| refused(&error)),
        Err(_) => Err(RpcError::internal("a player's method panicked")),
    }
}

fn refused(error: &PlayerError) -> RpcError {
    let reason = match error {
        PlayerError::Unknown(_)
        | PlayerError::Media(MediaError::Recording(RecordingError::Missing(_))) => Reason::NotFound,
        _ => Reason::Conflict,
    };
    RpcError::new(reason, error.to_string())
}
