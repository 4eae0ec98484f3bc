//! `fanmill ctl events`: prints what happens, a line each, until it is stopped or the server ends.

use serde_json::{Map, Value, json};

use super::CtlError;
use crate::admin::AdminClient;
use crate::cli::print_or_end;
use crate::cli::table::printable;

pub(super) fn run(
    client: &mut AdminClient,
    params: Option<Value>,
    as_json: bool,
) -> Result<(), CtlError> {
    client.call("events.subscribe", params)?;
    loop {
        let (method, params) = client.notification()?;
        let Value::Object(mut event) = params else {
            continue;
        };
        if method != "event" {
            continue;
        }
        // It is the only one.
        event.remove("subscription");
        let text = match as_json {
            true => format!("{}\n", Value::Object(event)),
            false => line(event),
        };
        if !print_or_end(&text)? {
            return Ok(());
        }
    }
}

/// `13:20:28.123  recorder.failed   demo  recorder=1 why="No space left on device"`
fn line(mut event: Map<String, Value>) -> String {
    let mut take = |name: &str| match event.remove(name) {
        Some(Value::String(text)) => text,
        _ => "-".to_owned(),
    };
    let (time, kind, stream) = (take("time"), take("event"), take("stream"));
    // Of a day everybody knows what day it is.
    let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time);
    let time = time.trim_end_matches('Z');
    let details = event.iter().filter(|(_, value)| !value.is_null());
    let details = details.map(|(name, value)| format!("{name}={}", shown(value)));
    let details: Vec<_> = details.collect();
    let text = format!("{time}  {kind:<18}  {stream}  {}", details.join(" "));
    format!("{}\n", printable(text.trim_end()))
}

/// As JSON, but words without quotes.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if is_word(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(number) if !number.fract().eq(&0.0) => format!("{number:.2}"),
            _ => number.to_string(),
        },
        other => json!(other).to_string(),
    }
}

fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "._~-/:".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_that_drives_no_terminal() {
        let event = json!({
            "event": "recorder.failed", "time": "2026-11-25T13:20:28.123Z", "stream": "demo",
            "recorder": 1, "path": "a/b.mp4", "why": "No space\u{1b}[2J", "position_s": 1.23456,
            "rid": null,
        });
        let Value::Object(event) = event else {
            panic!("an object")
        };
        assert_eq!(
            line(event),
            "13:20:28.123  recorder.failed     demo  path=a/b.mp4 position_s=1.23 recorder=1 \
             why=\"No space\\u001b[2J\"\n"
        );
        assert_eq!(line(Map::new()), "-  -                   -\n");
    }
}
