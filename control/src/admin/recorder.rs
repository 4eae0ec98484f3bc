//! The methods about recorders.

use serde::Deserialize;

use super::{Caller, Methods, Reason, RpcError};
use crate::recorder::{RecorderError, StreamRecorders, requests};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Adds `recorder.*`.
pub fn add_recorder_methods(methods: &mut Methods, recorders: &StreamRecorders) {
    let of = recorders.clone();
    methods.add(
        "recorder.create",
        "Records a stream at once, or as soon as it is live, to a file; with hold_s it keeps the last \
         seconds in memory for recorder.flush.",
        move |_: Caller, create: requests::Create| {
            let of = of.clone();
            async move { create.run(&of).map_err(refused) }
        },
    );
    let of = recorders.clone();
    methods.add(
        "recorder.stop",
        "Ends a recorder, when its file is complete.",
        move |_: Caller, stop: requests::Stop| {
            let of = of.clone();
            async move { stop.run(&of).await.map_err(refused) }
        },
    );
    let of = recorders.clone();
    methods.add(
        "recorder.flush",
        "Writes what a recorder holds to a file; it goes on holding.",
        move |_: Caller, flush: requests::Flush| {
            let of = of.clone();
            async move { flush.run(&of).await.map_err(refused) }
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
