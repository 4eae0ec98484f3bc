//! The table of `fanmill ctl rooms`, from the JSON of `room.list`.
//!
//! Fields that a newer server adds are ignored.

use serde::Deserialize;
use serde_json::Value;

use super::CtlError;
use super::list::{duration, or_dash};
use crate::cli::table::{Align, Table};

/// An element of `room.list`.
#[derive(Debug, Deserialize)]
struct Room {
    room: String,
    members: u64,
    viewers: u64,
    speaker: Option<String>,
    uptime_s: u64,
}

pub(super) fn rooms(answer: Value) -> Result<String, CtlError> {
    let rooms: Vec<Room> = serde_json::from_value(answer).map_err(|source| CtlError::Form {
        method: "room.list",
        source,
    })?;
    if rooms.is_empty() {
        return Ok("no rooms\n".to_owned());
    }
    let mut table = Table::new(&[
        ("ROOM", Align::Left),
        ("MEMBERS", Align::Right),
        ("VIEWERS", Align::Right),
        ("SPEAKER", Align::Left),
        ("UPTIME", Align::Right),
    ]);
    for room in rooms {
        table.row([
            room.room,
            room.members.to_string(),
            room.viewers.to_string(),
            or_dash(room.speaker),
            duration(room.uptime_s),
        ]);
    }
    Ok(table.render())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use serde_json::json;

    use super::*;

    #[test]
    fn rooms_are_rows_and_none_is_said_in_words() {
        let room = json!({
            "room": "kitchen", "members": 3, "viewers": 2, "speaker": null, "uptime_s": 61, "new": 1
        });
        let table = rooms(json!([room])).unwrap();
        let expected = "ROOM     MEMBERS  VIEWERS  SPEAKER  UPTIME\n\
                        kitchen        3        2  -         1m01s\n";
        assert_eq!(table, expected);
        assert_eq!(rooms(json!([])).unwrap(), "no rooms\n");
        assert!(matches!(rooms(json!({})), Err(CtlError::Form { .. })));
    }
}
