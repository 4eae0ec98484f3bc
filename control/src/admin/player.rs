//! The methods about players and recordings.

use serde::Deserialize;
use serde_json::json;

use super::{Caller, Methods, Reason, RpcError};
use crate::player::{MediaError, PlayerError, Players, RecordingError, requests};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Adds `player.*` and `recording.files`.
pub fn add_player_methods(methods: &mut Methods, players: &Players) {
    let of = players.clone();
    methods.add(
        "player.create",
        "Makes a stream that plays a recording, or several in a row (paths); it begins with \
         player.play. rate: 0.25 to 4, silent unless 1.",
        move |_: Caller, request: requests::Create| {
            let of = of.clone();
            async move { waiting(move || request.run(&of)).await }
        },
    );
    let of = players.clone();
    methods.add(
        "player.play",
        "Plays: from the beginning, from where it was paused, or again after the end.",
        move |_: Caller, request: requests::Stream| answer(request.play(&of)),
    );
    let of = players.clone();
    methods.add(
        "player.pause",
        "Goes on showing the present frame.",
        move |_: Caller, request: requests::Stream| answer(request.pause(&of)),
    );
    let of = players.clone();
    methods.add(
        "player.resume",
        "Goes on from where it was paused; the same as player.play.",
        move |_: Caller, request: requests::Stream| answer(request.play(&of)),
    );
    let of = players.clone();
    methods.add(
        "player.seek",
        "Shows the frame of a time (position_s) of the present file, or of another of the playlist \
         (item), and goes on from there if it was playing.",
        move |_: Caller, request: requests::Seek| answer(request.run(&of)),
    );
    let of = players.clone();
    methods.add(
        "player.set",
        "Changes the rate, or whether it begins again at the end.",
        move |_: Caller, request: requests::Set| answer(request.run(&of)),
    );
    let of = players.clone();
    methods.add(
        "player.stop",
        "Ends the player and its stream; viewers stay and wait for the next publisher.",
        move |_: Caller, request: requests::Stream| {
            let of = of.clone();
            async move {
                let stream = request.stream.clone();
                waiting(move || request.stop(&of)).await?;
                Ok(json!({ "stream": stream }))
            }
        },
    );
    let of = players.clone();
    methods.add(
        "player.list",
        "Every player: state, file, position.",
        move |_: Caller, Nothing {}| std::future::ready(Ok(of.list())),
    );
    let of = players.clone();
    methods.add(
        "recording.files",
        "The MP4 files that can be played, the latest first.",
        move |_: Caller, Nothing {}| {
            let of = of.clone();
            async move { waiting(move || Ok(of.recordings().list())).await }
        },
    );
}

fn answer<T>(done: Result<T, PlayerError>) -> std::future::Ready<Result<T, RpcError>> {
    std::future::ready(done.map_err(|error| refused(&error)))
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
