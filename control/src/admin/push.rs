//! The methods about pushes to other servers.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use super::{Caller, Methods, Reason, RpcError};
use crate::rtmp::{PushError, Pushes};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    stream: String,
    url: String,
    ca_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    push: u64,
}

/// Adds `push.*`.
pub fn add_push_methods(methods: &mut Methods, pushes: &Pushes) {
    let all = pushes.clone();
    methods.add(
        "push.create",
        "Publishes a stream, whenever it is live, on another server: url is rtmp://HOST/APP/KEY or \
         rtmps://HOST/APP/KEY; ca_file names certificates (PEM) to trust beside the system's. It \
         reconnects by itself.",
        move |_: Caller, create: Create| {
            let Create {
                stream,
                url,
                ca_file,
            } = create;
            let made = all.create(&stream, &url, ca_file.as_deref());
            let made = made.map_err(|error| match error {
                PushError::CaFile(_) => RpcError::invalid_params("ca_file", error.to_string()),
                PushError::Target(_) => RpcError::invalid_params("url", error.to_string()),
                PushError::Broadcast(_) => RpcError::invalid_params("stream", error.to_string()),
                error => RpcError::new(Reason::Conflict, error.to_string()),
            });
            async move { made }
        },
    );
    let all = pushes.clone();
    methods.add(
        "push.list",
        "Every push: its state, why it failed last, what it has sent.",
        move |_: Caller, Nothing {}| {
            let list = all.list();
            async move { Ok(list) }
        },
    );
    let all = pushes.clone();
    methods.add(
        "push.stop",
        "Ends a push.",
        move |_: Caller, Push { push }| {
            let there = all.stop(push);
            async move {
                match there {
                    true => Ok(json!({ "push": push })),
                    false => Err(RpcError::new(
                        Reason::NotFound,
                        format!("there is no push {push}; push.list names them"),
                    )),
                }
            }
        },
    );
}
