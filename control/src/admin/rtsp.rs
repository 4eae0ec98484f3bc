//! The methods about RTSP.

use serde::Deserialize;

use super::{Caller, Methods};
use crate::rtsp::Rtsp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Adds `rtsp.*`.
pub fn add_rtsp_methods(methods: &mut Methods, rtsp: &Rtsp) {
    let of = rtsp.clone();
    methods.add(
        "rtsp.list",
        "Who reads and publishes by RTSP: stream, transport, packets, loss.",
        move |_: Caller, Nothing {}| {
            let info = of.info();
            async move { Ok(info) }
        },
    );
}
