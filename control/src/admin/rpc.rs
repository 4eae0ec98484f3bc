//! JSON-RPC 2.0 messages: what a line means, and how answers and errors are written.
//!
//! Pure functions over text and values; no socket and no method is known here. The section names
//! in comments are those of the JSON-RPC 2.0 specification.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A client may put this many requests into one batch: enough for any script, and it bounds how
/// much longer than its question an answer can be.
pub(super) const MAX_BATCH: usize = 100;

/// A method's name echoed in an error is cut to this many characters.
const MAX_ECHO_CHARS: usize = 64;

/// The error object of an answer (5.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// -32700 to -32600 as specified, or a [`Reason`].
    pub code: i64,
    /// One sentence: what is wrong and what to do.
    pub message: String,
    /// More for programs: `{"parameter": name}` with -32602, `{"nearest": method}` with -32601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// The server's own error codes, in the range that 5.1 reserves for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// -32000: the request was understood and failed.
    Failed,
    /// -32001: the line was longer than the server reads; its rest was discarded.
    LineTooLong,
    /// -32002: no room for another connection; try again when one has closed.
    TooManyConnections,
    /// -32003: this user may not use the socket.
    NotPermitted,
    /// -32004: the object named (stream, transport ...) does not exist.
    NotFound,
    /// -32005: the object is in a state that does not allow this.
    Conflict,
    /// -32006: the method took longer than the server waits and was abandoned.
    TimedOut,
    /// -32007: a configured limit (such as `max-streams`) is reached.
    LimitReached,
}

impl Reason {
    /// The number in the error object.
    #[must_use]
    pub fn code(self) -> i64 {
        match self {
            Self::Failed => -32_000,
            Self::LineTooLong => -32_001,
            Self::TooManyConnections => -32_002,
            Self::NotPermitted => -32_003,
            Self::NotFound => -32_004,
            Self::Conflict => -32_005,
            Self::TimedOut => -32_006,
            Self::LimitReached => -32_007,
        }
    }
}

impl RpcError {
    /// One of the server's own errors.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            message: message.into(),
            data: None,
        }
    }

    /// -32700: the line is not JSON.
    pub(super) fn parse(problem: impl std::fmt::Display) -> Self {
        let message = format!("not JSON ({problem}): send one JSON-RPC 2.0 message a line");
        Self {
            code: -32_700,
            message,
            data: None,
        }
    }

    /// -32600: JSON, but no request.
    pub(super) fn invalid_request(problem: &str) -> Self {
        Self {
            code: -32_600,
            message: format!("not a JSON-RPC 2.0 request: {problem}"),
            data: None,
        }
    }

    /// -32601: no such method.
    pub(super) fn method_not_found(method: &str, nearest: Option<&str>) -> Self {
        let method: String = method.chars().take(MAX_ECHO_CHARS).collect();
        let advice = match nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "`server.methods` lists what there is".to_owned(),
        };
        Self {
            code: -32_601,
            message: format!("no method `{method}`: {advice}"),
            data: nearest.map(|nearest| json!({ "nearest": nearest })),
        }
    }

    /// -32602: `parameter` is missing, unknown or of the wrong kind; empty if none is to blame
    /// alone.
    pub fn invalid_params(parameter: &str, problem: impl std::fmt::Display) -> Self {
        if parameter.is_empty() {
            let message = format!("invalid parameters: {problem}");
            return Self {
                code: -32_602,
                message,
                data: None,
            };
        }
        Self {
            code: -32_602,
            message: format!("invalid parameter `{parameter}`: {problem}"),
            data: Some(json!({ "parameter": parameter })),
        }
    }

    /// -32603: a defect of the server.
    pub(super) fn internal(problem: &str) -> Self {
        let message = format!("internal error: {problem}; the server's log has more");
        Self {
            code: -32_603,
            message,
            data: None,
        }
    }
}

/// A request: who asks what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// `None` for a notification, which is never answered (4.1).
    pub(super) id: Option<Value>,
    pub(super) method: String,
    /// An object or an array; empty object if absent.
    pub(super) params: Value,
}

/// What a line holds; an `Err` is answered with a null id.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    Single(Result<Request, RpcError>),
    Batch(Vec<Result<Request, RpcError>>),
}

/// Parses one line.
pub(super) fn parse(line: &str) -> Message {
    match serde_json::from_str(line) {
        Err(e) => Message::Single(Err(RpcError::parse(e))),
        Ok(Value::Array(items)) => batch(items),
        Ok(value) => Message::Single(request(value)),
    }
}

fn batch(items: Vec<Value>) -> Message {
    // 6: an empty array is answered by one error, not by an empty array.
    if items.is_empty() {
        return Message::Single(Err(RpcError::invalid_request("the batch is empty")));
    }
    if items.len() > MAX_BATCH {
        let problem = format!("a batch holds at most {MAX_BATCH} requests: send several");
        return Message::Single(Err(RpcError::invalid_request(&problem)));
    }
    Message::Batch(items.into_iter().map(request).collect())
}

fn request(value: Value) -> Result<Request, RpcError> {
    let invalid = |problem| Err(RpcError::invalid_request(problem));
    let Value::Object(mut fields) = value else {
        return invalid("it is not an object");
    };
    if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return invalid("`jsonrpc` must be \"2.0\"");
    }
    // 4: an id is a string, a number or null; absent makes a notification.
    let id = fields.remove("id");
    if !matches!(
        id,
        None | Some(Value::String(_) | Value::Number(_) | Value::Null)
    ) {
        return invalid("`id` must be a string, a number or null");
    }
    let Some(Value::String(method)) = fields.remove("method") else {
        return invalid("`method` must be a string");
    };
    // 4.2: parameters are structured, by name or by position.
    let params = match fields.remove("params") {
        None => Value::Object(Map::new()),
        Some(params @ (Value::Object(_) | Value::Array(_))) => params,
        Some(_) => return invalid("`params` must be an object or an array"),
    };
    Ok(Request { id, method, params })
}

/// An answer (5).
pub(super) fn response(id: Value, outcome: Result<Value, RpcError>) -> Value {
    match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": id }),
        Err(error) => json!({ "jsonrpc": "2.0", "error": error, "id": id }),
    }
}

/// An error that answers no request in particular.
pub(super) fn error_response(error: RpcError) -> Value {
    response(Value::Null, Err(error))
}

/// A notification from the server, as a line without its end.
pub(super) fn notification(method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_line_is_a_message_or_an_error(line in "\\PC{0,200}") {
            let _ = parse(&line);
        }

        #[test]
        fn a_request_survives_a_round_trip(
            id in prop_oneof![
                Just(None),
                Just(Some(Value::Null)),
                any::<i64>().prop_map(|n| Some(json!(n))),
                "\\PC{0,20}".prop_map(|s| Some(json!(s))),
            ],
            method in "\\PC{0,30}",
            keys in prop::collection::btree_map("[a-z_]{1,8}", any::<u32>(), 0..4),
        ) {
            let mut line = json!({ "jsonrpc": "2.0", "method": method, "params": keys });
            if let Some(id) = &id {
                line["id"] = id.clone();
            }
            let parsed = parse(&line.to_string());
            let request = Request { id, method, params: json!(keys) };
            prop_assert_eq!(parsed, Message::Single(Ok(request)));
        }
    }

    #[test]
    fn deep_nesting_is_a_parse_error_not_a_stack_overflow() {
        let Message::Single(Err(error)) = parse(&"[".repeat(60_000)) else {
            panic!("accepted")
        };
        assert_eq!(error.code, -32_700);
    }
}
