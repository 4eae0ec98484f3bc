//! The methods about recorders.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Caller, Methods, Reason, RpcError};
use crate::recorder::{RecorderError, RecorderSpec, StreamRecorders};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    stream: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    hold_s: Option<u64>,
    #[serde(default)]
    progressive: bool,
    #[serde(default)]
    rid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecorderName {
    recorder: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flush {
    recorder: u64,
    #[serde(default)]
    path: Option<String>,
}

/// Adds `recorder.*`.
pub fn add_recorder_methods(methods: &mut Methods, recorders: &StreamRecorders) {
    let of = recorders.clone();
    methods.add(
        "recorder.create",
        "Records a stream at once, or as soon as it is live, to a file; with hold_s it keeps the last \
         seconds in memory for recorder.flush.",
        move |_: Caller, create: Create| {
            let of = of.clone();
            async move {
                let spec = RecorderSpec {
                    stream: create.stream,
                    path: create.path,
                    hold: create.hold_s.map(Duration::from_secs),
                    progressive: create.progressive,
                    rid: create.rid,
                    by_rule: false,
                };
                of.create(&spec).map_err(refused)
            }
        },
    );
    let of = recorders.clone();
    methods.add(
        "recorder.stop",
        "Ends a recorder, when its file is complete.",
        move |_: Caller, RecorderName { recorder }: RecorderName| {
            let of = of.clone();
            async move { of.stop(recorder).await.map_err(refused) }
        },
    );
    let of = recorders.clone();
    methods.add(
        "recorder.flush",
        "Writes what a recorder holds to a file; it goes on holding.",
        move |_: Caller, Flush { recorder, path }: Flush| {
            let of = of.clone();
            async move {
                let path = path.as_deref();
                let flushed = of.recorders().flush(recorder, path).await;
                let (path, duration) = flushed.map_err(refused)?;
                let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                Ok(json!({ "recorder": recorder, "path": path, "duration_ms": duration_ms }))
            }
        },
    );
    let of = recorders.clone();
    methods.add(
        "recorder.list",
        "Every recorder: what it records, where to, and what it lost.",
        move |_: Caller, Nothing {}| {
            let of = of.clone();
            async move { Ok(of.recorders().list()) }
        },
    );
}

fn refused(error: RecorderError) -> RpcError {
    let reason = match error {
        RecorderError::Unknown(_) => Reason::NotFound,
        RecorderError::Path(_) => {
            return RpcError::invalid_params("path", error.to_string());
        }
        RecorderError::Hold => return RpcError::invalid_params("hold_s", error.to_string()),
        RecorderError::Stream(_) => {
            return RpcError::invalid_params("stream", error.to_string());
        }
        _ => Reason::Conflict,
    };
    RpcError::new(reason, error.to_string())
}
