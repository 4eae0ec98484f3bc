//! The tables of `fanmill ctl recorders` and `fanmill ctl players`, from the JSON of `recorder.list`
//! and `player.list`.
//!
//! Fields that a newer server adds are ignored.

use serde::Deserialize;
use serde_json::Value;

use super::CtlError;
use super::list::{duration, or_dash};
use crate::cli::table::{Align, Table};

/// An element of `recorder.list`.
#[derive(Debug, Deserialize)]
struct Recorder {
    id: u64,
    stream: String,
    state: String,
    path: Option<String>,
    bytes: u64,
    duration_ms: u64,
    #[serde(default)]
    fragments_dropped: u64,
    error: Option<String>,
    #[serde(default)]
    by_rule: bool,
}

/// An element of `player.list`.
#[derive(Debug, Deserialize)]
struct Player {
    stream: String,
    state: String,
    path: String,
    position_s: f64,
    duration_s: Option<f64>,
    rate: f64,
    #[serde(default)]
    repeat: bool,
    #[serde(default)]
    playlist: Vec<String>,
    #[serde(default)]
    item: usize,
}

pub(super) fn recorders(answer: Value) -> Result<String, CtlError> {
    let recorders: Vec<Recorder> =
        serde_json::from_value(answer).map_err(|source| CtlError::Form {
            method: "recorder.list",
            source,
        })?;
    if recorders.is_empty() {
        return Ok("no recorders\n".to_owned());
    }
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("STREAM", Align::Left),
        ("STATE", Align::Left),
        ("FILE", Align::Left),
        ("LENGTH", Align::Right),
        ("SIZE", Align::Right),
        ("DROPPED", Align::Right),
        ("NOTE", Align::Left),
    ]);
    for recorder in recorders {
        let by_rule = recorder.by_rule.then(|| "by rule".to_owned());
        table.row([
            recorder.id.to_string(),
            recorder.stream,
            recorder.state,
            or_dash(recorder.path),
            duration(recorder.duration_ms / 1000),
            size(recorder.bytes),
            recorder.fragments_dropped.to_string(),
            or_dash(recorder.error.or(by_rule)),
        ]);
    }
    Ok(table.render())
}

pub(super) fn players(answer: Value) -> Result<String, CtlError> {
    let players: Vec<Player> = serde_json::from_value(answer).map_err(|source| CtlError::Form {
        method: "player.list",
        source,
    })?;
    if players.is_empty() {
        return Ok("no players\n".to_owned());
    }
    let mut table = Table::new(&[
        ("STREAM", Align::Left),
        ("STATE", Align::Left),
        ("FILE", Align::Left),
        ("ITEM", Align::Right),
        ("POSITION", Align::Right),
        ("LENGTH", Align::Right),
        ("RATE", Align::Right),
        ("REPEAT", Align::Left),
    ]);
    for player in players {
        // Saturates: no file plays that long.
        let seconds = |seconds: f64| duration(seconds as u64);
        table.row([
            player.stream,
            player.state,
            player.path,
            format!("{}/{}", player.item + 1, player.playlist.len().max(1)),
            seconds(player.position_s),
            or_dash(player.duration_s.map(seconds)),
            player.rate.to_string(),
            if player.repeat { "yes" } else { "no" }.to_owned(),
        ]);
    }
    Ok(table.render())
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;
    use serde_json::json;

    #[test]
    fn recorders_are_shown_with_what_went_wrong() {
        let list = json!([
            {"id": 1, "stream": "demo", "state": "recording", "path": "shows/demo.mp4", "parts": 1,
             "bytes": 12_345_678, "queued_bytes": 0, "duration_ms": 61_500, "fragments_dropped": 2,
             "error": null, "by_rule": true, "age_s": 62, "tracks": []},
            {"id": 12, "stream": "cam", "state": "failed", "path": null, "bytes": 0,
             "duration_ms": 0, "error": "No space left\u{1b}", "by_rule": false},
        ]);
        let expected = "\
ID  STREAM  STATE      FILE            LENGTH     SIZE  DROPPED  NOTE
 1  demo    recording  shows/demo.mp4   1m01s  12.3 MB        2  by rule
12  cam     failed     -                   0s      0 B        0  No space left\u{fffd}
";
        assert_eq!(recorders(list).unwrap(), expected);
        assert_eq!(recorders(json!([])).unwrap(), "no recorders\n");
        assert!(matches!(recorders(json!([1])), Err(CtlError::Form { .. })));
    }

    #[test]
    fn players_are_shown_with_where_they_are() {
        let list = json!([
            {"stream": "film", "state": "playing", "path": "b.mp4", "position_s": 62.04,
             "duration_s": 3600.0, "item": 1, "playlist": ["a.mp4", "b.mp4"], "rate": 1.0,
             "repeat": true, "left_out": []},
            {"stream": "x", "state": "ready", "path": "c.mp4", "position_s": 0.0,
             "duration_s": null, "item": 0, "playlist": ["c.mp4"], "rate": 0.5, "repeat": false},
        ]);
        let expected = "\
STREAM  STATE    FILE   ITEM  POSITION  LENGTH  RATE  REPEAT
film    playing  b.mp4   2/2     1m02s   1h00m     1  yes
x       ready    c.mp4   1/1        0s       -   0.5  no
";
        assert_eq!(players(list).unwrap(), expected);
        assert_eq!(players(json!([])).unwrap(), "no players\n");
        assert!(matches!(players(json!({})), Err(CtlError::Form { .. })));
    }
}
