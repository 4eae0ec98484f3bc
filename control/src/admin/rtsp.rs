//! The methods about RTSP.

use serde::Deserialize;

use super::{Caller, Methods, Reason, RpcError};
use crate::rtsp::{PullError, PullSpec, PullTransport, Rtsp};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pull {
    url: String,
    stream: String,
    #[serde(default)]
    transport: PullTransport,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamName {
    stream: String,
}

/// Adds `rtsp.*`.
pub fn add_rtsp_methods(methods: &mut Methods, rtsp: &Rtsp) {
    let of = rtsp.clone();
    methods.add(
        "rtsp.list",
        "Who reads and publishes by RTSP, and what is pulled: state, transport, packets, loss, last \
         error.",
        move |_: Caller, Nothing {}| {
            let info = of.info();
            async move { Ok(info) }
        },
    );
    let of = rtsp.clone();
    methods.add(
        "rtsp.pull",
        "Makes a stream of what a camera or another server has at an rtsp URL, which may hold user and \
         password; connects again whenever it is interrupted. transport: auto, tcp or udp.",
        move |_: Caller, pull: Pull| {
            let started = of.pull(PullSpec {
                stream: pull.stream,
                url: pull.url,
                transport: pull.transport,
            });
            async move { started.map_err(|error| refused(&error)) }
        },
    );
    let of = rtsp.clone();
    methods.add(
        "rtsp.stop",
        "Ends a pull and its stream; viewers stay and wait for the next publisher.",
        move |_: Caller, StreamName { stream }| {
            let of = of.clone();
            async move { of.stop_pull(&stream).await.map_err(|error| refused(&error)) }
        },
    );
}

fn refused(error: &PullError) -> RpcError {
    match error {
        PullError::Form | PullError::Url => RpcError::invalid_params("url", error.to_string()),
        PullError::Stream(_) => RpcError::invalid_params("stream", error.to_string()),
        PullError::Unknown(_) => RpcError::new(Reason::NotFound, error.to_string()),
        _ => RpcError::new(Reason::Conflict, error.to_string()),
    }
}
