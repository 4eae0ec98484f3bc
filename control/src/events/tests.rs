#![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;

use super::*;

/// What is there now, as "kind stream".
fn read(reader: &mut EventReader) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(event) = reader.next().now_or_never() {
        let text = |name| event.get(name).and_then(Value::as_str).unwrap_or("-");
        all.push(format!("{} {}", text("event"), text("stream")));
    }
    all
}

fn filter(kinds: &[&str], stream: Option<&str>) -> Filter {
    Filter {
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        stream: stream.map(str::to_owned),
    }
}

#[test]
fn each_reader_is_told_what_it_asked_for() {
    let events = Events::new();
    events.emit("stream.published", Some("before"), json!({}));
    let mut all = events.subscribe(Filter::default());
    let mut players = events.subscribe(filter(&["player.*", "recorder.failed"], None));
    let mut cams = events.subscribe(filter(&[], Some("cam?")));
    events.emit("stream.published", Some("cam1"), json!({ "id": 5 }));
    events.emit("player.playing", Some("film"), json!({}));
    events.emit("recorder.failed", None, json!({}));
    assert_eq!(
        read(&mut all),
        [
            "stream.published cam1",
            "player.playing film",
            "recorder.failed -"
        ]
    );
    assert_eq!(
        read(&mut players),
        ["player.playing film", "recorder.failed -"]
    );
    assert_eq!(read(&mut cams), ["stream.published cam1"]);
}

#[test]
fn details_say_what_happened_and_cannot_replace_its_name() {
    let events = Events::new();
    let mut reader = events.subscribe(Filter::default());
    let details = json!({ "recorder": 7, "event": "another", "why": "disk full" });
    events.emit("recorder.failed", Some("cam"), details);
    let event = reader.next().now_or_never().unwrap();
    assert_eq!(event["event"], "recorder.failed");
    assert_eq!(event["recorder"], 7);
    assert_eq!(event["why"], "disk full");
}

#[test]
fn a_slow_reader_is_told_at_which_place_it_missed_how_many() {
    let events = Events::new();
    let mut slow = events.subscribe(Filter::default());
    let number = |n: usize| events.emit("test", None, json!({ "n": n }));
    (0..MAX_QUEUED + 5).for_each(number);
    for n in 0..3 {
        assert_eq!(slow.next().now_or_never().unwrap()["n"], n);
    }
    number(1000);
    number(1001);
    // Full again.
    number(1002);
    let rest: Vec<_> = std::iter::from_fn(|| slow.next().now_or_never()).collect();
    let count = |event: &Arc<Event>| event.get("missed").and_then(Value::as_u64);
    assert_eq!(rest[MAX_QUEUED - 4]["n"], MAX_QUEUED - 1);
    assert_eq!(count(&rest[MAX_QUEUED - 3]), Some(5));
    assert_eq!(rest[MAX_QUEUED - 3]["event"], MISSED);
    assert_eq!(rest[MAX_QUEUED - 2]["n"], 1000);
    assert_eq!(rest[MAX_QUEUED - 1]["n"], 1001);
    assert_eq!(count(&rest[MAX_QUEUED]), Some(1));
    assert_eq!(rest.len(), MAX_QUEUED + 1);
    number(1003);
    assert_eq!(slow.next().now_or_never().unwrap()["n"], 1003);
}

#[test]
fn who_reads_no_more_is_forgotten() {
    let events = Events::new();
    drop(events.subscribe(Filter::default()));
    events.emit("test", None, json!({}));
    assert_eq!(format!("{events:?}"), "Events(0 readers)");
}

#[test]
fn times_are_those_of_rfc_3339() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_007);
    assert_eq!(rfc3339(at), "2024-02-29T12:34:56.007Z");
}
