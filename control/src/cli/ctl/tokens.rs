//! The table of `fanmill ctl tokens`, from the JSON of `access.list`.
//!
//! Fields that a newer server adds are ignored.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use super::CtlError;
use super::list::{duration, or_dash};
use crate::cli::table::{Align, Table};

/// An element of `access.list`.
#[derive(Debug, Deserialize)]
struct Token {
    id: u64,
    prefix: String,
    streams: String,
    publish: bool,
    watch: bool,
    operate: bool,
    origin: String,
    label: Option<String>,
    expires_at: Option<u64>,
    used: u64,
    sessions: u64,
}

pub(super) fn tokens(answer: Value) -> Result<String, CtlError> {
    let tokens: Vec<Token> = serde_json::from_value(answer).map_err(|source| CtlError::Form {
        method: "access.list",
        source,
    })?;
    if tokens.is_empty() {
        return Ok("no tokens\n".to_owned());
    }
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("TOKEN", Align::Left),
        ("STREAMS", Align::Left),
        ("RIGHTS", Align::Left),
        ("FROM", Align::Left),
        ("LABEL", Align::Left),
        ("EXPIRES IN", Align::Right),
        ("USED", Align::Right),
        ("SESSIONS", Align::Right),
    ]);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_s = now_s.map_or(0, |now| now.as_secs());
    for token in tokens {
        let left = token.expires_at.map(|at| match at.checked_sub(now_s) {
            None | Some(0) => "expired".to_owned(),
            Some(left_s) => duration(left_s),
        });
        table.row([
            token.id.to_string(),
            format!("{}...", token.prefix),
            token.streams.clone(),
            rights(&token),
            token.origin,
            or_dash(token.label),
            or_dash(left),
            token.used.to_string(),
            token.sessions.to_string(),
        ]);
    }
    Ok(table.render())
}

fn rights(token: &Token) -> String {
    let all = [
        ("publish", token.publish),
        ("watch", token.watch),
        ("operate", token.operate),
    ];
    let has: Vec<_> = all
        .iter()
        .filter(|(_, has)| *has)
        .map(|(n, _)| *n)
        .collect();
    has.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_tells_what_tokens_are_for() {
        let answer = json!([
            {"id": 1, "prefix": "abcd", "streams": "cam*", "publish": true, "watch": true,
             "operate": false, "origin": "configuration", "label": null, "expires_at": null,
             "expired": false, "age_s": 5, "used": 3, "sessions": 1},
            {"id": 2, "prefix": "q", "streams": "*", "publish": false, "watch": false,
             "operate": true, "origin": "admin", "label": "Ada", "expires_at": 1,
             "expired": true, "age_s": 5, "used": 0, "sessions": 0},
        ]);
        let text = tokens(answer).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[1].contains("cam*     publish, watch  configuration  -"),
            "{text}"
        );
        assert!(
            lines[2].contains("operate         admin          Ada       expired"),
            "{text}"
        );
        assert_eq!(tokens(json!([])).unwrap(), "no tokens\n");
    }
}
