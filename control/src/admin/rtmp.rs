//! The methods about RTMP connections.

use serde::Deserialize;
use serde_json::json;

use super::{Caller, Methods, Reason, RpcError};
use crate::rtmp::Rtmp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connection {
    connection: u64,
}

/// Adds `rtmp.*`.
pub fn add_rtmp_methods(methods: &mut Methods, rtmp: &Rtmp) {
    let server = rtmp.clone();
    methods.add(
        "rtmp.list",
        "Every RTMP connection, what it publishes; how those before ended, and how often.",
        move |_: Caller, Nothing {}| {
            let info = server.info();
            async move { Ok(info) }
        },
    );
    let server = rtmp.clone();
    methods.add(
        "rtmp.stop",
        "Ends an RTMP connection, and what it publishes.",
        move |_: Caller, Connection { connection }| {
            let there = server.stop(connection);
            async move {
                match there {
                    true => Ok(json!({ "connection": connection })),
                    false => Err(RpcError::new(
                        Reason::NotFound,
                        format!("there is no RTMP connection {connection}; it may have ended"),
                    )),
                }
            }
        },
    );
}
